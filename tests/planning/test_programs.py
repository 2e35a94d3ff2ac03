"""The programs that the plan compiles are those that a run executes: the same HLO, function by
function."""

import jax
import pytest
from support.configs import put
from support.modules import others, written
from support.runs import begun
from support.training import write_arithmetic

from sar_jax import config as config_lib
from sar_jax.planning import programs
from sar_jax.training.reporting.live import Screen
from sar_jax.training.step import train_step

VARIANTS = {
    "plain": {},
    "critic and eight bits": {
        "advantage.estimator": "critic",
        "rollout.weights_dtype": "int8",
        "rollout.cache_dtype": "int8",
        "loss.importance_cap": 2.0,
    },
    "adapters in float32": {"lora.rank": 3, "model.dtype": "float32"},
}
# of those with a critic test_live_memory.py sees the same, and what a plain run calls both call too
_APART = ("plain", "critic and eight bits")
ALL = [pytest.param(v, marks=pytest.mark.explore if v in _APART else ()) for v in VARIANTS]


def small_config(folder, data, **overrides) -> config_lib.TrainConfig:
    """Two rows of four devices; a step of two updates; two sizes of the decoder."""
    config = config_lib.TrainConfig(steps=3)
    config.model.path = str(folder)
    config.data = config_lib.Data(train=str(data), max_prompt_tokens=150)
    config.prompt = config_lib.Prompt(system="", instruction="")
    config.rollout = config_lib.Rollout(questions=4, samples=2, slots=16, max_answer_tokens=4)
    config.loss.minibatch_questions = 2
    config.packing = config_lib.Packing(row_tokens=176, rows_per_microbatch=8, logprob_chunk=144)
    config.mesh.data = 2
    for path, value in overrides.items():
        put(config, path, value)
    return config


@pytest.mark.parametrize("variant", ALL)
def test_what_is_planned_is_what_runs(hf_folder, tmp_path, variant):
    data = write_arithmetic(tmp_path / "rows.jsonl", "train", range(40))
    config = small_config(hf_folder, data, **VARIANTS[variant])
    with written(tmp_path / "run"):
        with begun(config, tmp_path / "workdir") as (run, states, iterator, _):
            announced = run.assembly.programs(config)
            with jax.set_mesh(run.tools.mesh), Screen(0, 1, announced) as told:
                train_step(run, states, iterator, 1, told)
    assert set(told.compiled) == set(announced)  # "3 of 9" is true
    stops = run.tools.prompter.stops
    described = programs.describe(config, run.assembly.base.cfg, run.tools.mesh, stops)
    lowered = {}
    for name, program in described.programs.items():
        with jax.sharding.use_abstract_mesh(program.mesh.abstract_mesh):
            lowered[name] = program.lower()
    assert not others(lowered, tmp_path / "run")
    expected = {"prefill", "insert", "decode", "shrink", "score", "gradient", "apply"}
    assert expected <= set(described.programs)
