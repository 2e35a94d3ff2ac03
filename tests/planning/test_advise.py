"""`plan --advise`: better settings for a slice, and the best slices, by the TPU compiler.

Most of what is advised is what test_plan.py plans, and is compiled once."""

import json
import shlex

import pytest
from support.commands import ROOT, one_error, run_command

libtpu = pytest.mark.skipif(not pytest.importorskip("libtpu"), reason="needs pip install libtpu")
CONFIG = f"--config={ROOT}/tests/support/planned.py"
FEW = "--config.rollout.slots=16"  # for a step's 32 answers


def advised(tmp_path, *options):
    command = ["sar_jax.plan", CONFIG, "--answer_tokens=40", "--advise", *options]
    return run_command(*command, f"--json={tmp_path}/plan.json")


@pytest.fixture(scope="module")
def advice(tmp_path_factory):
    """For a slice: the settings, and both plans."""
    folder = tmp_path_factory.mktemp("advice")
    result = advised(folder, "--topology=v5e:2x2", FEW)
    assert result.returncode == 0, result.stderr[-2000:]
    said = result.stdout.split("\nwith ")[1].split("\n")[0].split()
    return said, json.loads((folder / "plan.json").read_text())["slices"]


@libtpu
def test_the_advice_for_a_slice_fits_and_is_faster(advice):
    said, (plain, better) = advice
    assert {"--config.rollout.slots=32", "--config.packing.narrowest=4"} <= set(said)
    assert better["slots"] == 8 * 4 > plain["slots"]  # an answer each
    assert better["peak"] < better["hbm"]
    assert better["step_seconds"] < plain["step_seconds"]


@libtpu
def test_a_config_with_its_own_advice_gets_no_other(advice, tmp_path):
    again = advised(tmp_path, "--topology=v5e:2x2", FEW, *advice[0])
    assert again.returncode == 0, again.stderr[-2000:]
    assert "no settings that change no value are known to be faster" in again.stdout


@libtpu
def test_the_best_slices_are_compiled_and_named_with_their_commands(tmp_path):
    options = ["--sweep=v5e:2x2,v6e-4", "--config.seed=3", "--capacity=flex-start"]
    result = advised(tmp_path, *options, FEW)
    assert result.returncode == 0, result.stderr[-2000:]
    by = {block.split(":")[0]: block for block in result.stdout.split("The best by ")[1:]}
    assert list(by) == ["chip-hours", "list price (flex-start)", "hours"]
    plans = {p["topology"]: p for p in json.loads((tmp_path / "plan.json").read_text())["slices"]}
    assert set(plans) == {"v5e:2x2", "v6e-4"}
    for heading, field in (("chip-hours", "chip_hours"), ("hours", "hours")):
        first, second = sorted(plans, key=lambda name: plans[name][field])
        assert by[heading].index(f"1. {first},") < by[heading].index(f"2. {second},")
    # of v5e no such price is known
    assert "v6e-4" in by["list price (flex-start)"] and "v5e" not in by["list price (flex-start)"]
    run = next(line for line in result.stdout.splitlines() if "tpu_vm.sh run" in line)
    words = shlex.split(run)
    assert CONFIG in words and "--config.seed=3" in words
    assert "export ACCELERATOR=v6e-4 CAPACITY=flex-start" in result.stdout
    assert "--config.rollout.precision=int8" in result.stdout.split("they change values:")[1]
    assert "list prices of 2026" in result.stdout


@pytest.mark.parametrize(
    "options, said",
    [
        (["--topology=v6e:2x4", "--deadline=3"], "--deadline is for --advise without --topology"),
        (["--capacity=gratis"], "of which no price is known; there are 1-year, 3-year, flex"),
        (["--prices=nowhere.json"], "nowhere.json: No such file"),
        (["--chips=v9"], "'v9' is no chip"),
        (["--max-chips=2"], "the smallest slice has more chips"),
        (["--sweep=v6e:2x4", "--chips=v6e"], "leave --chips and --max_chips out"),
        (["--sweep=v6e:2x4", "--topology=v6e:2x4"], "one slice, or several"),
    ],
)
def test_options_that_do_not_go_together_are_one_error(tmp_path, options, said):
    assert said in one_error(advised(tmp_path, *options))


@libtpu
def test_a_deadline_that_nothing_meets_is_one_error(tmp_path):
    options = ["--sweep=v5e:2x2", "--deadline=0.01", "--config.steps=10000000"]
    line = one_error(advised(tmp_path, *options))
    assert "no slice is done in --deadline=0.01 hours: the fastest takes" in line
