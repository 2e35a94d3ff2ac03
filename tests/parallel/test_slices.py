"""Names of slices: every tool's spelling of the same chips, their machines, and what is none."""

import subprocess
import sys

import pytest
from support.commands import ROOT

from sar_jax.errors import UserError
from sar_jax.parallel import chips, slices

# As Google's pages on the versions and on machine types have them.
SAME = {
    ("v5e", "2x4", 8, 1): (
        "v5e:2x4", "v5e-8", "v5litepod-8", "V5LitePod-8", "ct5lp-hightpu-8t",
        "tpu-v5-lite-podslice:2x4", "tpu-v5-lite-podslice 2x4", "v5e-2x4", "v5lite:2x4",
    ),
    ("v5e", "4x4", 16, 4): ("v5e:4x4", "v5litepod-16", "ct5lp-hightpu-4t:4x4"),
    ("v6e", "1x1", 1, 1): ("v6e-1", "v6e:1x1", "ct6e-standard-1t"),
    ("v6e", "2x2", 4, 1): ("v6e-4", "tpu-v6e-slice:2x2", "trillium:2x2", "ct6e-standard-4t"),
    ("v6e", "2x4", 8, 2): ("ct6e-standard-4t:2x4",),
    ("v6e", "16x16", 256, 64): ("v6e-256",),
    ("v5p", "2x2x1", 4, 1): ("v5p-8", "tpu-v5p-slice:2x2x1", "ct5p-hightpu-4t"),
    ("v5p", "4x4x12", 192, 48): ("v5p:4x4x12", "tpu-v5p-slice/4x4x12"),
    ("v4", "2x2x4", 16, 4): ("v4-32", "v4:2x2x4", "tpu-v4-podslice:2x2x4"),
    ("tpu7x", "2x2x1", 4, 1): ("tpu7x-8", "tpu7x-2x2x1", "v7x-8", "tpu7x-standard-4t"),
    ("tpu7x", "4x4x4", 64, 16): ("tpu7x-128", "tpu7x:4x4x4", "ironwood:4x4x4"),
}  # fmt: skip


@pytest.mark.parametrize(
    "facts, name", [(facts, name) for facts, names in SAME.items() for name in names]
)
def test_every_spelling_is_the_same_chips(facts, name):
    found = slices.parse(name)
    assert (found.version, found.shape, found.chips, found.hosts) == facts


@pytest.mark.parametrize(
    "name, accelerator, machine, label",
    [
        ("v4:2x2x1", "v4-8", "ct4p-hightpu-4t", "tpu-v4-podslice"),
        ("v5e:2x4", "v5litepod-8", "ct5lp-hightpu-8t", "tpu-v5-lite-podslice"),
        ("v5p:2x2x2", "v5p-16", "ct5p-hightpu-4t", "tpu-v5p-slice"),
        ("v6e:4x4", "v6e-16", "ct6e-standard-4t", "tpu-v6e-slice"),
        ("tpu7x:2x2x2", "tpu7x-16", "tpu7x-standard-4t", "tpu7x"),
    ],
)
def test_every_tool_gets_its_own_form(name, accelerator, machine, label):
    found = slices.parse(name)
    assert (found.accelerator_type, found.machine, found.label) == (accelerator, machine, label)


@pytest.mark.parametrize("version", slices.VERSIONS)
def test_all_forms_of_a_listed_slice_lead_back_to_it(version):
    """Numbers are of one slice each, and machines have all the chips between them."""
    for shape in slices.VERSIONS[version].shapes:
        found = slices.parse(f"{version}:{shape}")
        forms = (found.name, found.accelerator_type, f"{found.label}:{shape}", f"{version}-{shape}")
        assert {slices.parse(form) for form in forms} == {found}
        assert found.hosts * found.chips_a_host == found.chips
        assert slices.parse(f"{found.machine}:{shape}") == found


@pytest.mark.parametrize(
    "name, words",
    [
        ("v5p-7", "TensorCores, two a chip"),
        ("v6e-12", "counts chips. There are v6e-1, v6e-4, v6e-8"),
        ("v6e:2x2x2", "shapes of two numbers, such as 2x4"),
        ("v5p:2x4", "shapes of three numbers"),
        ("v6e:1x3", "3 chips do not make up machines of 4"),
        ("ct6e-standard-8t:2x2", "machines of 8"),
        ("v6e", "v6e:2x4"),
        ("v6e:", "v6e:2x4"),
        ("v9-8", "v6e:2x4"),
        ("v6e-0", "v6e:2x4"),
        ("v6e-8 --spot", "v6e:2x4"),
        ("", "v6e:2x4"),
    ],
)
def test_what_is_no_slice_is_said_with_what_there_is(name, words):
    with pytest.raises(ValueError) as raised:
        slices.parse(name)
    assert words in str(raised.value)
    with pytest.raises(UserError, match="Known: v4:2x2x1"):
        chips.describe(name)


@pytest.mark.parametrize(
    "name, larger",
    [
        ("v6e:2x4", "v6e:4x4"),
        ("v6e-8", "v6e-16"),
        ("v5litepod-8", "v5litepod-16"),
        ("tpu-v5-lite-podslice:2x4", "tpu-v5-lite-podslice:4x4"),
        ("v5p-8", "v5p-16"),
        ("ct6e-standard-8t", "v6e:4x4"),
        ("v6e-256", None),
    ],
)
def test_advice_is_in_the_form_that_was_used(name, larger):
    assert chips.next_slice(name) == larger


def test_the_compiler_takes_every_form(tpu_compiler):
    found = [chips.describe(name) for name in ("v5e:2x2", "v5litepod-4", "ct5lp-hightpu-4t")]
    assert {(tpus.chips, tpus.device) for tpus in found} == {(4, chips.CHIPS["v5e"].of_device(1))}
    assert [tpus.name for tpus in found] == ["v5e:2x2", "v5litepod-4", "ct5lp-hightpu-4t"]


def run(*words: str) -> subprocess.CompletedProcess:
    """Without any package, from another folder."""
    script = ROOT / "sar_jax/parallel/slices.py"
    return subprocess.run(
        [sys.executable, "-I", "-S", script, *words], cwd="/", capture_output=True, text=True
    )


def test_scripts_ask_without_any_package():
    done = run("v5litepod-8")
    line = "v5e 2x4 8 1 8 v5litepod-8 ct5lp-hightpu-8t tpu-v5-lite-podslice tpu_vm,gke\n"
    assert (done.returncode, done.stdout) == (0, line)
    assert run("tpu-v6e-slice", "4x4").stdout.startswith("v6e 4x4 16 4 4 v6e-16 ")
    assert run("tpu7x-8").stdout.endswith(" gce,gke\n")
    wrong = run("v6e")
    assert (wrong.returncode, wrong.stdout) == (2, "") and wrong.stderr.count("\n") == 1
