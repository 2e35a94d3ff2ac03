"""Rollouts of a random model."""

import jax
import numpy as np

from sar_jax.rollout import sampler
from sar_jax.rollout import texts as texts_lib


def draw(
    loaded,
    rows,
    samples=3,
    limit=24,
    greedy=False,
    key=0,
    count=None,
    width=40,
    stop=None,
    params=None,
    limits=None,
    **settings,
):
    """Prompts and samples for the questions numbered `rows`; question r is the same whatever stands
    beside it. count: questions in all, of which those beyond `rows` are padding; width: of the
    prompts; limits: an answer's own; settings: of `make_sample`."""
    prompts = [
        np.random.default_rng(r).integers(0, loaded.cfg.vocab_size, 5 + 7 * r % 30).tolist()
        for r in rows
    ]
    tokens, lengths = texts_lib.pad_prompts(prompts, width, count or len(rows))
    numbers = np.zeros(count or len(rows), np.int32)
    numbers[: len(rows)] = rows
    function = sampler.make_sample(
        loaded.graphdef, stop or loaded.stop, samples, limit, greedy, **settings
    )
    return prompts, function(
        params or loaded.params, tokens, lengths, numbers, jax.random.key(key), limits
    )
