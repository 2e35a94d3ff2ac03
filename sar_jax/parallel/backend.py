"""JAX's backend is opened here: the devices that were asked for, or one line that says why not.

JAX falls back to the CPUs where a TPU cannot be used, with a warning at most. Nobody wants to wait
a day for the first step, so here that is an error, unless JAX_PLATFORMS asks for the CPUs.
"""

import contextlib
import importlib.util
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Iterator

import jax
from jax._src import hardware_utils, xla_bridge  # which devices are TPUs; why one was not opened

from sar_jax.errors import UserError

_GOOGLE = "0x1ae0"  # its vendor number on the PCI bus
# What libtpu says where there is no TPU, and nobody asked for one.
_NOISE = re.compile(
    rb"Failed to find host bounds|Logging before InitGoogle|common_lib\.cc"
    rb"|=== Source Location Trace|^learning/"
)
# Part of a message -> what it means, and the remedy; the first one that fits.
_REASONS = (
    (
        r"already in use by process with pid (\d+)",
        "process {0} holds the TPU, which only one can use: end that one, or wait for it",
    ),
    (
        r"[Dd]evice or resource busy|already in use",
        "another process holds the TPU, which only one can use: end that one, or wait for it "
        "(where there is none, remove /tmp/libtpu_lockfile)",
    ),
    (
        r"open\(?\S*(/dev/\w+).*(?:Operation not permitted|Permission denied)",
        "this user may not open {0}...: another process of root may hold it, or a container was "
        "started without its devices (docker run --privileged)",
    ),
    (
        r"CUDA_ERROR_OUT_OF_MEMORY",
        "another process holds the GPU's memory: end that one (nvidia-smi lists them)",
    ),
    (
        r"No visible GPU|no supported devices|CUDA_ERROR_NO_DEVICE|failed call to cuInit",
        "no GPU is visible: check `nvidia-smi` and CUDA_VISIBLE_DEVICES",
    ),
    (r"No jellyfish device|NOT_FOUND.*TPU", "this machine has no TPU"),
    (
        r"'tpu' is not in the list|No module named 'libtpu'|libtpu.so: cannot open",
        "libtpu is missing: pip install 'sar_jax[tpu]'",
    ),
    (
        r"'(?:cuda|gpu|rocm)' is not in the list",
        "JAX was installed without the support for it: pip install 'sar_jax[gpu]' (NVIDIA)",
    ),
)


def open_backend() -> None:
    """Opens it. Raises `UserError` where it is not what was asked for, or not what there is."""
    asked = os.environ.get("JAX_PLATFORMS", "")
    chips = tpu_chips()
    try:
        with contextlib.nullcontext() if asked or chips else without_noise():
            platform = jax.devices()[0].platform
    except (RuntimeError, AssertionError) as error:  # an assertion, where the plugin is missing
        raise UserError(unavailable(asked, str(error))) from None
    if platform == "cpu" and chips and "cpu" not in asked.split(","):
        raise UserError(_neglected(chips))


def tpu_chips(root: str = "/") -> int:
    """How many TPU chips this machine has, as the system says. root: of the file system."""
    found = 0
    for vendor in pathlib.Path(root).glob("sys/bus/pci/devices/*/vendor"):
        with contextlib.suppress(OSError):
            kind = (vendor.parent / "device").read_text().strip()
            is_google = vendor.read_text().strip() == _GOOGLE
            found += is_google and kind in hardware_utils._TPU_PCI_DEVICE_IDS
    # /dev/vfio/0 may be anything, /dev/accel/accel0 is of other makers
    return max(found, len(list(pathlib.Path(root).glob("dev/accel[0-9]*"))))


def unavailable(asked: str, message: str) -> str:
    """Why the devices that were asked for cannot be used, in one line.

    asked     JAX_PLATFORMS, "" where that is not set
    message   JAX's
    """
    what = f"JAX_PLATFORMS is {asked!r}, but " if asked else ""
    lines = [line for line in message.splitlines() if line.strip()] or ["no such device"]
    reason = _reason(message) or lines[0].removeprefix("RuntimeError: ")[:300]
    if not message and {"cuda", "gpu", "rocm"} & set(asked.split(",")):
        reason = _reason("'cuda' is not in the list")
    return f"{what}{reason}. JAX_PLATFORMS=cpu uses the CPUs"


def _reason(message: str) -> str | None:
    for pattern, reason in _REASONS:
        found = re.search(pattern, message)
        if found:
            return reason.format(*found.groups())
    return None


def _neglected(chips: int) -> str:
    """Why JAX did not take the TPU that is there."""
    if importlib.util.find_spec("libtpu") is None:
        reason = _reason("No module named 'libtpu'")
    else:
        message = xla_bridge._backend_errors.get("tpu", "JAX does not say why")
        reason = _reason(message) or message.splitlines()[0][:300]
    return (
        f"this machine has {chips} TPU chips, but JAX would use its CPUs: {reason}. "
        "JAX_PLATFORMS=cpu uses the CPUs"
    )


@contextlib.contextmanager
def without_noise() -> Iterator[None]:
    """What is written to stderr meanwhile comes at the end, without what libtpu says of no TPU."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            said = [line for line in file if not _NOISE.search(line)]
            with contextlib.suppress(OSError):
                os.write(2, b"".join(said))
