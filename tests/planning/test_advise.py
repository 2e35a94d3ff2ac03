"""What `plan --advise` finds: faster settings that fit, by the TPU compiler on a small slice."""

import json

import pytest
from support.commands import ROOT, one_error, run_command

from sar_jax.model import remat
from sar_jax.planning import advise

libtpu = pytest.mark.skipif(not pytest.importorskip("libtpu"), reason="needs pip install libtpu")


def advised(tmp_path, *options):
    command = ["sar_jax.plan", f"--config={ROOT}/configs/tiny.py", "--answer_tokens=60"]
    return run_command(*command, f"--json={tmp_path}/plan.json", "--advise", *options)


@libtpu
def test_the_advice_fits_and_is_faster(tmp_path):
    result = advised(tmp_path, "--topology=v5e:2x2")
    assert result.returncode == 0, result.stderr[-2000:]
    plain, better = json.loads((tmp_path / "plan.json").read_text())["slices"]
    said = result.stdout.split("\nwith ")[1].split("\n")[0].split()
    assert said == [
        "--config.rollout.slots=auto",
        "--config.packing.narrowest=4",
        "--config.model.remat=dots",
    ]
    assert better["slots"] == 32 * 8 > plain["slots"]  # an answer each
    assert better["peak"] < better["hbm"] and better["filled"] > plain["filled"]
    assert better["step_seconds"] < plain["step_seconds"]
    flops = lambda plan: plan["times"]["gradient"]["flops"]
    assert flops(better) < flops(plain)


def test_several_slices_are_too_many(tmp_path):
    line = one_error(advised(tmp_path, "--sweep=v5e:2x2,v6e:2x2"))
    assert "--advise needs --topology" in line


def test_every_policy_that_may_be_advised_is_one():
    assert set(advise._CHOICES) < set(remat.POLICIES)
