"""The devices that were asked for, or one line that says why not. There is no TPU or GPU here: the
messages are what libtpu, CUDA and JAX said on machines of users, in public reports."""

import os
import pathlib
import subprocess
import sys

import pytest
from support.commands import ROOT, one_error, run_command
from support.training import small

from sar_jax.parallel import backend


@pytest.mark.parametrize(
    "asked, message, said",
    [
        (
            "",
            "ABORTED: The TPU is already in use by process with pid 2718466. Not attempting to "
            "load libtpu.so in this process.",
            "process 2718466 holds the TPU",
        ),
        (
            "tpu",
            "Unable to initialize backend 'tpu': FAILED_PRECONDITION: TPU initialization failed: "
            "open(/dev/vfio/0): Device or resource busy: Device or resource busy; Couldn't open "
            "iommu group /dev/vfio/0 (set JAX_PLATFORMS='' to automatically choose a backend)",
            "another process holds the TPU",
        ),
        (
            "tpu",
            "INTERNAL: libtpu.so already in use by another process probably owned by another user.",
            "another process holds the TPU",
        ),
        (
            "tpu",
            "Unable to initialize backend 'tpu': UNKNOWN: TPU initialization failed: "
            "open(/dev/accel2): Operation not permitted: Operation not permitted; Couldn't open "
            "device: /dev/accel2",
            "may not open /dev/accel2",
        ),
        (
            "tpu",
            "Unable to initialize backend 'tpu': NOT_FOUND: TPU initialization failed: No "
            "jellyfish device found. (set JAX_PLATFORMS='' to ...)",
            "JAX_PLATFORMS is 'tpu', but this machine has no TPU",
        ),
        (
            "cuda",
            "Unable to initialize backend 'cuda': FAILED_PRECONDITION: No visible GPU devices.",
            "JAX_PLATFORMS is 'cuda', but no GPU is visible",
        ),
        (
            "cuda",
            "INTERNAL: failed call to cuDevicePrimaryCtxRetain: CUDA_ERROR_OUT_OF_MEMORY: out of "
            "memory; total memory reported: 34089730048",
            "another process holds the GPU's memory",
        ),
        (
            "cuda",
            "Unable to initialize backend 'cuda': INTERNAL: no supported devices found for "
            "platform CUDA",
            "no GPU is visible",
        ),
        ("cuda", "", "pip install 'sar_jax[gpu]'"),
        ("tpu", "a new message\nof two lines", "but a new message. JAX_PLATFORMS=cpu"),
        ("", "", "no such device"),
    ],
)
def test_every_known_reason_has_its_remedy(asked, message, said):
    line = backend.unavailable(asked, message)
    assert said in line and "\n" not in line and line.endswith("JAX_PLATFORMS=cpu uses the CPUs")


@pytest.mark.parametrize("command, asked", [("train", "tpu"), ("pretrain", "cuda")])
def test_a_device_that_is_not_there_is_one_error(tmp_path, asked, command):
    options = small("steps=1") if command == "train" else ["--config=configs/tiny_pretrain.py"]
    where = "workdir" if command == "train" else "output"
    done = run_command(
        f"sar_jax.{command}",
        *options,
        f"--{where}={tmp_path / 'run'}",
        real=True,
        JAX_PLATFORMS=asked,
    )
    assert f"JAX_PLATFORMS is '{asked}', but " in one_error(done)
    assert not (tmp_path / "run").exists()


def machine(root: pathlib.Path, devices: dict[str, tuple[str, str]], files: tuple[str, ...] = ()):
    """A file system that shows these devices on the PCI bus, and these files."""
    for name, (vendor, device) in devices.items():
        folder = root / "sys/bus/pci/devices" / name
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(vendor + "\n")
        (folder / "device").write_text(device + "\n")
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return str(root)


def test_chips_are_counted_and_other_devices_are_none(tmp_path):
    google, v6e, v5e, network = "0x1ae0", "0x006f", "0x0063", "0x0042"
    intel = ("0x8086", "0x006f")
    assert backend.tpu_chips(machine(tmp_path / "none", {})) == 0
    two = {"0000:00:04.0": (google, v6e), "0000:00:05.0": (google, v5e)}
    others = {"0000:00:06.0": (google, network), "0000:00:07.0": intel}
    files = ("dev/vfio/0", "dev/vfio/vfio", "dev/accel/accel0")
    assert backend.tpu_chips(machine(tmp_path / "two", two | others, files)) == 2
    assert backend.tpu_chips(machine(tmp_path / "other", others, files)) == 0
    old = ("dev/accel0", "dev/accel1", "dev/accel2", "dev/accel3")
    assert backend.tpu_chips(machine(tmp_path / "old", {}, old)) == 4


# JAX's backend on a machine that shows four chips
OPEN = """
import importlib.util, sys
from sar_jax.errors import UserError
from sar_jax.parallel import backend
backend.tpu_chips = lambda: 4
if len(sys.argv) > 1:
    real = importlib.util.find_spec
    importlib.util.find_spec = lambda name: None if name == "libtpu" else real(name)
try:
    backend.open_backend()
    print("opened")
except UserError as error:
    print(error)
"""


def opened(*arguments: str, script: str = OPEN, **environment: str) -> tuple[str, str]:
    """What it prints, and stderr."""
    env = {k: v for k, v in os.environ.items() if k not in ("JAX_PLATFORMS", "XLA_FLAGS")}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=env | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip(), done.stderr


def test_a_machine_with_a_tpu_never_trains_on_its_cpus_unsaid():
    said, _ = opened()
    assert said.startswith("this machine has 4 TPU chips, but JAX would use its CPUs: ")
    said, _ = opened("without libtpu")
    assert "libtpu is missing: pip install 'sar_jax[tpu]'. JAX_PLATFORMS=cpu uses the CPUs" in said
    assert opened(JAX_PLATFORMS="cpu")[0] == "opened"


def test_without_a_tpu_libtpu_is_silent_and_the_rest_is_not():
    pytest.importorskip("libtpu")
    script = """
import logging, os, sys
import jax
from sar_jax.parallel import backend
real = jax.devices
def devices():
    os.write(2, b"E0000 cuda says something of its own\\n")
    print("and so does Python", file=sys.stderr)
    return real()
jax.devices = devices
backend.open_backend()
print("opened")
print("later", file=sys.stderr)
"""
    said, stderr = opened(script=script)
    assert said == "opened"
    assert stderr.splitlines() == [
        "E0000 cuda says something of its own",
        "and so does Python",
        "later",
    ]
