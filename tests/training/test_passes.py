"""What mfu counts, by hand: every pass over every sequence of a step, token by token."""

import dataclasses

import jax
import numpy as np
import pytest
from support.configs import put
from support.runs import begun
from support.training import write_arithmetic

from sar_jax import config as config_lib
from sar_jax.model import parameters
from sar_jax.training import passes
from sar_jax.training import step as step_lib
from sar_jax.training.reporting.live import Screen
from sar_jax.training.rollouts import Lengths

SAMPLED = Lengths(np.array([5, 3]), np.array([2, 4, 6, 1]))  # two answers to each question
TRAINED = Lengths(np.array([3]), np.array([6, 1]))  # a group was left out
BARE = passes.Passes(samples=2, scores=1, standalone=None, learns=False, frozen=False, critic=False)


def layers(cfg, begin: int, end: int) -> float:
    """The tokens begin ... end - 1 of a sequence through all layers and the norm after them."""
    specs = parameters.param_specs(cfg)
    matrices = sum(np.prod(spec.shape) for spec in specs["layers"].values()) + cfg.embed_dim
    keys = [
        min(i + 1, cfg.kinds[k].window or i + 1) for i in range(begin, end) for k in cfg.layer_kinds
    ]
    return 2 * (end - begin) * matrices + 4 * cfg.num_heads * cfg.head_dim * sum(keys)


def logits(cfg, tokens: int) -> float:
    return 2 * tokens * cfg.vocab_size * cfg.embed_dim


def test_every_pass_is_counted_once(each_family):
    cfg = each_family.cfg
    count = lambda **changes: passes.model_flops(cfg, BARE._replace(**changes), SAMPLED, TRAINED)
    close = lambda found, expected: found == pytest.approx(expected, rel=1e-12)
    decoded = layers(cfg, 0, 5) + layers(cfg, 0, 3) + logits(cfg, 2 + 4 + 6 + 1)
    decoded += layers(cfg, 5, 7) + layers(cfg, 5, 9) + layers(cfg, 3, 9) + layers(cfg, 3, 4)
    bare = layers(cfg, 0, 9) + layers(cfg, 0, 4)
    whole = bare + logits(cfg, 6 + 1)
    first = decoded + whole  # sampled, and scored by the policy
    assert close(count(), first)
    assert close(count(scores=2), first + whole)
    alone = layers(cfg, 0, 10 + 6) + layers(cfg, 0, 10 + 1) + logits(cfg, 7)
    assert close(count(standalone=10), first + alone)
    assert close(count(learns=True), first + 3 * whole)
    assert close(count(learns=True, frozen=True), first + 2 * whole)
    # values to learn from, and an update of three passes
    assert close(count(critic=True), first + 4 * bare)


class Counted:
    """A function that counts its calls, and keeps what the last one was given and returned."""

    def __init__(self, function):
        self.function, self.calls = function, 0
        self.given = self.found = None

    def __call__(self, *given):
        self.calls += 1
        self.given, self.found = given, self.function(*given)
        return self.found


def config_of(folder, data, **overrides) -> config_lib.TrainConfig:
    """A step is one update of one micro-batch on eight devices."""
    config = config_lib.TrainConfig(steps=3)
    config.model.path, config.model.remat = str(folder), "none"
    config.data = config_lib.Data(train=str(data), max_prompt_tokens=150)
    config.prompt = config_lib.Prompt(system="", instruction="")
    config.rollout = config_lib.Rollout(questions=2, samples=4, slots=8, max_answer_tokens=4)
    config.loss.minibatch_questions = 2
    config.packing = config_lib.Packing(row_tokens=176, rows_per_microbatch=8, logprob_chunk=144)
    config.evaluation.every_steps = 2
    for path, value in overrides.items():
        put(config, path, value)
    return config


# Of two steps each: how often the policy or the reference scores, with the standalone pass; the
# sampler's logps are taken in the second step alone, and the critic learns alone in the first
CASES = {
    "critic": ({"advantage.estimator": "critic", "critic.warmup_steps": 1}, [3, 3], [0, 1]),
    "adapters": ({"lora.rank": 3, "rewards.self_aligned": 0.0}, [2, 2], [1, 1]),
    "sampled": ({"loss.old_logps": "sampled", "loss.kl": 0.0}, [2, 1], [1, 1]),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_counted_is_what_a_step_does(hf_folder, tmp_path, monkeypatch, case):
    overrides, scores, updates = CASES[case]
    data = write_arithmetic(tmp_path / "rows.jsonl", "train", range(40))
    config = config_of(hf_folder, data, **overrides)
    counted = Counted(passes.model_flops)
    monkeypatch.setattr(passes, "model_flops", counted)
    monkeypatch.setattr(step_lib.chips, "peak_flops", lambda devices: 1e12)  # no CPU has one
    with begun(config, tmp_path / "workdir") as (run, states, iterator, _):
        score, update = Counted(run.tools.score), Counted(run.assembly.update.accumulate)
        learner = dataclasses.replace(run.assembly.update, accumulate=update)
        assembly = dataclasses.replace(run.assembly, update=learner)
        run = run._replace(tools=run.tools._replace(score=score), assembly=assembly)
        with jax.set_mesh(run.tools.mesh), Screen(0, 1, run.assembly.programs(config)) as told:
            for step in (1, 2):
                before = score.calls, update.calls
                states, metrics, *_ = step_lib.train_step(run, states, iterator, step, told)
                made = counted.given[1]
                assert score.calls - before[0] == scores[step - 1]
                assert made.scores + (made.standalone is not None) == scores[step - 1]
                assert update.calls - before[1] == made.learns == updates[step - 1]
                assert (made.frozen, made.critic) == (case == "adapters", case == "critic")
                assert made.samples == 4
                spent = metrics["mfu"] * metrics["time/step"] * 1e12 * jax.device_count()
                assert spent == pytest.approx(counted.found)
