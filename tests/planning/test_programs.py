"""The programs that the plan compiles are those that a run executes: the same HLO, function by
function."""

import contextlib
import re

import jax
import pytest
from etils import epath
from support.training import write_arithmetic

from sar_jax import config as config_lib
from sar_jax.planning import programs
from sar_jax.training.live import Screen
from sar_jax.training.lock import Lock
from sar_jax.training.setup import setup
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
# what a plain run calls, the others call too
ALL = [pytest.param(v, marks=pytest.mark.explore if v == "plain" else ()) for v in VARIANTS]
# What says where a line of Python is; and that an argument is whole on every device, which the plan
# says of scalars that a run brings from the host.
_LOCATION = re.compile(r" ?loc\((?:[^()]|\([^()]*\))*\)")
_WHOLE = re.compile(r" \{sdy\.sharding = #sdy\.sharding<@\w+, \[(\{\}(, \{\})*)?\]>\}")


def plain(text: str) -> str:
    """A module's text without what two traces of one function may differ in."""
    lines = (line for line in text.splitlines() if not line.startswith("#loc"))
    lines = (line for line in lines if "@empty_mesh = " not in line)
    return "\n".join(_WHOLE.sub("", _LOCATION.sub("", line)) for line in lines)


@contextlib.contextmanager
def written(folder):
    """Writes the module of everything that is compiled."""
    folder.mkdir()
    jax.config.update("jax_dump_ir_to", str(folder))
    jax.config.update("jax_dump_ir_modes", "stablehlo")
    try:
        yield
    finally:
        jax.config.update("jax_dump_ir_to", None)


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
        section, name = path.split(".")
        setattr(getattr(config, section), name, value)
    return config


@pytest.mark.parametrize("variant", ALL)
def test_what_is_planned_is_what_runs(hf_folder, tmp_path, variant):
    data = write_arithmetic(tmp_path / "rows.jsonl", "train", range(40))
    config = small_config(hf_folder, data, **VARIANTS[variant])
    jax.clear_caches()  # else what another test has traced is not written
    with written(tmp_path / "run"):
        workdir = epath.Path(tmp_path / "workdir")
        run, states, iterator, _ = setup(config, workdir, Lock(workdir))
        try:
            announced = run.assembly.programs(config)
            with jax.set_mesh(run.tools.mesh), Screen(0, 1, announced) as told:
                train_step(run, states, iterator, 1, told)
        finally:
            run.tools.verifier.close()
            run.checkpoints.close()
            run.metrics.close()
    assert set(told.compiled) == set(announced)  # "3 of 9" is true
    executed = {plain(file.read_text()) for file in (tmp_path / "run").iterdir()}
    stops = run.tools.prompter.stops
    described = programs.describe(config, run.assembly.base.cfg, run.tools.mesh, stops)
    missing = []
    for name, program in described.programs.items():
        with jax.sharding.use_abstract_mesh(program.mesh.abstract_mesh):
            if plain(program.lower().as_text()) not in executed:
                missing.append(name)
    assert not missing
    expected = {"prefill", "insert", "decode", "shrink", "score", "gradient", "apply"}
    assert expected <= set(described.programs)
