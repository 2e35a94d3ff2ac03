"""Rollouts of a random model, and what a step of it needs."""

import jax
import numpy as np

from sar_jax.rl import packing
from sar_jax.rollout import sampler
from sar_jax.rollout import texts as texts_lib
from sar_jax.text.answers.verifier import ErrorShare
from sar_jax.training import score
from sar_jax.training.rollouts import Tools


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
    prompts; limits: an answer's own; settings: of `Sample`."""
    prompts = [
        np.random.default_rng(r).integers(0, loaded.cfg.vocab_size, 5 + 7 * r % 30).tolist()
        for r in rows
    ]
    tokens, lengths = texts_lib.pad_prompts(prompts, width, count or len(rows))
    numbers = np.zeros(count or len(rows), np.int32)
    numbers[: len(rows)] = rows
    function = sampler.Sample(
        loaded.network, stop or loaded.stop, samples, limit, greedy, **settings
    )
    return prompts, function(
        params or loaded.params, tokens, lengths, numbers, jax.random.key(key), limits
    )


def scored(loaded, prompts, rollouts, params=None) -> list[np.ndarray]:
    """The scorer's logps of each answer's tokens."""
    ids = [t[:n].tolist() for t, n in zip(rollouts.tokens, rollouts.lengths)]
    asked = [prompt for prompt in prompts for _ in range(len(ids) // len(prompts))]
    packed, layout = packing.pack(asked, ids, 96, 1)
    scores = score.make_score(loaded.network, 32)(params or loaded.params, packed)
    return packing.from_grid(np.asarray(scores.logps), layout)


def make_tools(loaded, config, prompter, verifier) -> Tools:
    """What a step of a random model needs: its own weights score and decode."""
    rollout = config.rollout
    return Tools(
        config=config,
        prompter=prompter,
        sample=sampler.Sample(
            loaded.network, loaded.stop, rollout.samples, rollout.max_answer_tokens
        ),
        verifier=verifier,
        errors=ErrorShare(1, 1),
        mesh=loaded.mesh,
        score=score.make_score(loaded.network, config.packing.logprob_chunk),
        values=None,
        scoring_weights=lambda masters: masters,
        decoding_weights=lambda masters: masters,
        fetch_reference=lambda reference: reference,
    )
