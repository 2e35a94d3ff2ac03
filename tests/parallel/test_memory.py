"""XLA's message that a device's memory is too small, as one line with figures and remedies.

The messages are forms that users of TPUs and GPUs have reported in public, that the TPU's compiler
gives here, and that this machine's CPUs give.
"""

import importlib
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from support.commands import ROOT, one_error
from support.configs import good, leaves, put
from support.environment import CACHE, XLA_QUICK
from support.training import small

from sar_jax.config import TrainConfig
from sar_jax.errors import UserError
from sar_jax.parallel import chips, memory

GIB = 2**30
TABLE = """

Total hbm usage >= 65.05G:
    reserved          1.25G
    program          63.80G
    arguments            0B

  Largest program allocations in hbm:

  1. Size: 2.00G
     Shape: f32[32,4096,4096]{1,2,0:T(8,128)}
"""
BUFFERS = """
BufferAssignment OOM Debugging.
BufferAssignment stats:
             parameter allocation:  372.76MiB
                 total allocation:   14.44GiB
Peak buffers:
	Buffer 1:
		Size: 23.43GiB
"""
COMPILE = "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space "
NO_ROOM = "RESOURCE_EXHAUSTED: Error allocating device buffer: Attempting to allocate "
MESSAGES = [  # what is needed and there, in bytes
    (
        f"{COMPILE}hbm. Used 63.80G of 30.75G hbm. Exceeded hbm capacity by 33.05G.{TABLE}",
        63.8 * GIB,
        30.75 * GIB,
    ),
    (
        "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory "
        "required for HLO temporaries (21.90G) exceeds available HBM (15.75G). HLO module: jit_f.",
        21.9 * GIB,
        15.75 * GIB,
    ),
    (
        "RESOURCE_EXHAUSTED: E1001: CompileTimeScopedVmemOom: Scoped allocation with size 36.25M "
        "and limit 32.00M exceeded scoped vmem limit",
        36.25 * 2**20,
        32 * 2**20,
    ),
    (
        "RESOURCE_EXHAUSTED: Allocation (size=134217728) would exceed memory (size=67108864) :: "
        "#allocation25 [shape = 'u8[134217728]{0}', space=vmem, size = 0x8000000]",
        2**27,
        2**26,
    ),
    (
        "RESOURCE_EXHAUSTED: E0100: RuntimeBufferAllocationFailure:\nError allocating device "
        "buffer: Attempting to allocate 556.00M.\nThat was not possible. There are 289.98M free.; "
        "(0x1x0_HBM0)",
        556 * 2**20,
        289.98 * 2**20,
    ),
    (f"{COMPILE}vmem. Used 32.42M of 16.00M vmem.", 32.42 * 2**20, 16 * 2**20),
    (
        f"{NO_ROOM}4.39G. That was not possible. There are 2.30G free.; (0x0x0_HBM0)",
        4.39 * GIB,
        2.3 * GIB,
    ),
    (
        f"{NO_ROOM}129.50M. That was not possible. There are 78.17M free.; (0x0x0_HBM0)",
        129.5 * 2**20,
        78.17 * 2**20,
    ),
    (
        "RESOURCE_EXHAUSTED: Attempting to reserve 10.51G at the bottom of memory. That was not "
        "possible. There are 8.97G free, 0B reserved, and 8.97G reservable.",
        10.51 * GIB,
        8.97 * GIB,
    ),
    (
        "RESOURCE_EXHAUSTED: Attempting to allocate 31.06M. That was not possible. There are "
        "58.64M free. Due to fragmentation, the largest contiguous region of free memory is "
        "30.56M.; (0x0x0_HBM0)",
        31.06 * 2**20,
        30.56 * 2**20,
    ),
    (
        f"RESOURCE_EXHAUSTED: Out of memory while trying to allocate 4770354232 bytes.{BUFFERS}",
        4770354232,
        None,
    ),
    ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 20.00GiB.", 20 * GIB, None),
    (
        "RESOURCE_EXHAUSTED: Failed to allocate request for 2.99GiB (3206250496B) on device "
        "ordinal 0: while running replica 0",
        2.99 * GIB,
        None,
    ),
    ("RESOURCE_EXHAUSTED: Out of memory allocating 17592186044416 bytes.", 2**44, None),
    ("Resource exhausted: Failed to allocate request for 32.00MiB (33554432B)", 2**25, None),
    ("RESOURCE_EXHAUSTED: some new words about memory", None, None),
]


@pytest.mark.parametrize("message, needed, there", MESSAGES, ids=range(len(MESSAGES)))
def test_the_figures_of_every_form_are_found(message, needed, there):
    found = memory.figures(message)
    assert found.needed == pytest.approx(needed) and found.there == pytest.approx(there)
    assert memory.is_exhausted(RuntimeError(message))
    for stage in [None, *memory.SETTINGS]:
        for config in (None, good()):
            line = memory.explain(message, stage, config)
            assert "\n" not in line and len(line) < 700
            assert stage is None or stage in line
    assert "2.30 GiB are there" in memory.explain(f"{NO_ROOM}4.39G. There are 2.30G free.")
    assert "some new words" in memory.explain(MESSAGES[-1][0])


@pytest.mark.parametrize(
    "message",
    [
        "RESOURCE_EXHAUSTED: Received message larger than max (5000000 vs. 4194304)",
        "RESOURCE_EXHAUSTED: Error writing gs://bucket/x: HTTP response code: 429",
        "UNKNOWN: Gloo AllGather failed: out of memory",
        "INTERNAL: memory",
    ],
)
def test_what_is_no_lack_of_memory_is_left_alone(message):
    assert not memory.is_exhausted(RuntimeError(message))
    memory.check(RuntimeError(message))


@pytest.mark.parametrize("stage", memory.SETTINGS)
def test_settings_that_help_are_settings_and_come_with_their_values(stage):
    config = good()
    config.packing.rows_per_microbatch, config.rollout.slots = 24, 96
    line = memory.explain(MESSAGES[0][0], stage, config)
    named = re.findall(r"config\.(\w+\.\w+)", line)
    assert named and set(named) <= set(memory.SETTINGS[stage]) <= set(leaves(TrainConfig))
    if stage == "update":
        assert "a smaller config.packing.rows_per_microbatch (now 24)" in line
    if stage in ("decoding", "evaluation"):
        assert "a smaller config.rollout.slots (now 96)" in line


def test_what_is_done_already_is_no_advice():
    config = good()
    done = {
        "model.remat": "block",
        "optimizer.mu_dtype": "bfloat16",
        "packing.rows_per_microbatch": 1,
        "lora.rank": 8,
        "rollout.cache_dtype": "int8",
    }
    for path, value in done.items():
        put(config, path, value)
    for stage in memory.SETTINGS:
        line = memory.explain(MESSAGES[0][0], stage, config)
        assert not [path for path in done if path in line]


@pytest.mark.parametrize("message", [m for m, *_ in MESSAGES if "vmem" in m])
def test_a_kernel_s_memory_has_a_remedy_of_its_own(message):
    line = memory.explain(message, "score", good())
    assert memory.figures(message).space == "vmem"
    assert "vmem" in line and "config.model.attention=xla" in line and "slots" not in line


def test_the_tpu_s_compiler_says_it_in_a_form_that_is_known(tpu_compiler):
    device = chips.describe("v5e:2x2").devices[0]
    mesh = jax.sharding.Mesh([device], "x")
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    x = jax.ShapeDtypeStruct((2**17, 2**17), jnp.float32, sharding=place)  # 64 GiB
    with pytest.raises(jax.errors.JaxRuntimeError) as error:
        jax.jit(lambda x: jnp.sin(x) @ x).lower(x).compile()
    found = memory.figures(str(error.value))
    assert memory.is_exhausted(error.value)
    assert found.needed > 64 * GIB and 15 * GIB < found.there < 16 * GIB and found.space == "hbm"


def test_this_machine_says_it_in_a_form_that_is_known():
    with pytest.raises(jax.errors.JaxRuntimeError) as error:
        jnp.ones((2**22, 2**20)).block_until_ready()
    assert memory.figures(str(error.value)).needed == 2**44
    with pytest.raises(UserError, match="16.00 TiB are needed at once"):
        memory.check(error.value)


LACKS = """
import importlib, runpy, sys
module, function, message, *sys.argv[1:] = sys.argv[1:]
places = vars(importlib.import_module(module))
places["lacking"] = message
import jax
places["jax_errors"] = jax.errors
exec(f"def {function}(*_, **__):\\n    raise jax_errors.JaxRuntimeError(lacking)", places)
runpy.run_module("sar_jax.train", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    "module, function, stage",
    [
        ("grids", "fetch", "score"),
        ("step", "_learn_policy", "update"),
    ],
)
def test_the_stage_is_named_where_the_error_comes_up(tmp_path, module, function, stage):
    """In whole runs, of which one function says what a TPU would."""
    options = small("steps=1")
    place = f"sar_jax.training.{module}", function, MESSAGES[0][0]
    done = subprocess.run(
        [sys.executable, "-c", LACKS, *place, *options, f"--workdir={tmp_path / 'run'}"],
        cwd=ROOT,
        env=os.environ | CACHE | {"XLA_FLAGS": XLA_QUICK},
        capture_output=True,
        text=True,
    )
    error = one_error(done)
    assert f" for the {stage}: 63.80 GiB are needed at once, 30.75 GiB are there" in error


@pytest.mark.parametrize("place", memory._STAGES)
def test_the_stages_are_places_of_the_package(place):
    module, _, function = place.partition(":")
    found = importlib.import_module(module)
    assert memory._STAGES[place] in memory.SETTINGS
    if function:
        assert callable(getattr(found, function))
    scope = {"__name__": module}
    exec(f"def {function or 'any'}(): raise RuntimeError\ndef outer(f): f()", scope)
    with pytest.raises(RuntimeError) as error:
        scope["outer"](scope[function or "any"])
    assert memory.stage_of(error.value) == memory._STAGES[place]
    assert memory.stage_of(RuntimeError()) is None
