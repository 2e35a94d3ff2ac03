"""A device's memory is too small: XLA's message, which may be a thousand lines, as one.

Its forms, from libtpu 0.0.52 and jaxlib 0.10, and from users' public reports of TPUs and GPUs:

    Ran out of memory in memory space hbm. Used 21.95G of 15.48G hbm.              TPU, compiling
    Ran out of memory on HBM, the total ... (128.00G) exceeds available HBM (15.75G)
    Scoped allocation with size 36.25M and limit 32.00M exceeded scoped vmem limit
    Allocation (size=134217728) would exceed memory (size=67108864) ... space=vmem
    Attempting to allocate 4.39G. That was not possible. There are 2.30G free.     TPU, running
    Attempting to reserve 10.51G at the bottom of memory. ... There are 8.97G free
    Out of memory while trying to allocate 4770354232 bytes.                       GPU
    Failed to allocate request for 2.99GiB (3206250496B) on device ordinal 0       GPU, TPU
    Out of memory allocating 17592186044416 bytes.                                 CPU
"""

import re
from typing import Any, NamedTuple

import jax

from sar_jax.errors import UserError

_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_SIZE = r"([\d.]+) ?([KMGTP]?)i?(?:B|bytes)?"
_NEEDED = (
    re.compile(rf"Ran out of memory in memory space \w+\. Used {_SIZE} of {_SIZE}"),
    re.compile(rf"Ran out of memory on \w+,.*?\({_SIZE}\) exceeds available \w+ \({_SIZE}\)"),
    re.compile(rf"Scoped allocation with size {_SIZE} and limit {_SIZE}"),
    re.compile(rf"Allocation \(size={_SIZE}\) would exceed memory \(size={_SIZE}\)"),
    re.compile(rf"Attempting to (?:allocate|reserve) {_SIZE}.*?There are {_SIZE} free", re.S),
    re.compile(rf"Out of memory (?:while trying to allocate|allocating) {_SIZE}"),
    re.compile(rf"Failed to allocate request for {_SIZE}"),
)
# a memory of the chip that is not its main one
_SPACE = re.compile(
    r"Ran out of memory in memory space (?!hbm)(\w+)|exceeded scoped (vmem)|, space=(?!hbm)(\w+)"
)
_CONTIGUOUS = re.compile(rf"largest contiguous region of free memory is {_SIZE}")

_ROWS = ("packing.rows_per_microbatch", "packing.logprob_chunk")
_KEPT = ("model.keep_logits", "model.remat")
_CACHE = ("rollout.slots", "rollout.cache_dtype", "rollout.weights_dtype")
# Each stage's settings that lower what it needs, the most useful one first.
SETTINGS = {
    "start": ("mesh.fsdp", "optimizer.mu_dtype", "model.offload_reference", "lora.rank"),
    "decoding": _CACHE,
    "evaluation": ("evaluation.batch", *_CACHE),
    "score": (*_ROWS, "model.offload_reference"),
    "update": (*_ROWS, *_KEPT, "optimizer.mu_dtype", "lora.rank"),
}
# What to set; else it is a number, and a smaller one helps. Where it is so already, it is not said.
_HELP = {
    "mesh.fsdp": ("more devices in {}", lambda now: False),
    "optimizer.mu_dtype": ("{}=bfloat16", lambda now: now == "bfloat16"),
    "model.keep_logits": ("{}=false", lambda now: not now),
    "model.offload_reference": ("{}=true", bool),
    "model.remat": ("{}=block", lambda now: now in ("block", "offload")),
    "lora.rank": ("adapters ({})", bool),
    "rollout.cache_dtype": ("{}=int8", lambda now: now == "int8"),
    "rollout.weights_dtype": ("{}=int8", lambda now: now == "int8"),
}
_SMALLER = ("a smaller {}", lambda now: now == 1)
# The stage is where a module or a function of it called the device: the outermost that is here.
_STAGES = {
    "sar_jax.training.setup": "start",
    "sar_jax.training.assembly": "start",
    "sar_jax.model.hf": "start",
    "sar_jax.evaluation.judged": "evaluation",
    "sar_jax.training.step:evaluation": "evaluation",
    "sar_jax.training.step:_learn_policy": "update",
    "sar_jax.training.step:_learn_values": "update",
    "sar_jax.training.rollouts": "decoding",
    "sar_jax.training.handover": "decoding",
    "sar_jax.rollout.sampler": "decoding",
    "sar_jax.training.grids": "score",
    "sar_jax.training.score": "score",
}


class Figures(NamedTuple):
    """Bytes; None where the message does not say.

    needed   that were asked for
    there    that the device has, or has left
    space    "hbm", or another memory of the chip
    """

    needed: float | None
    there: float | None
    space: str


def program_bytes(compiled: jax.stages.Compiled) -> int:
    """That a compiled program takes on one device: arguments, results, temporaries and code."""
    found = compiled.memory_analysis()
    return (
        found.argument_size_in_bytes
        + found.output_size_in_bytes
        - found.alias_size_in_bytes
        + found.temp_size_in_bytes
        + found.generated_code_size_in_bytes
    )


def is_exhausted(error: BaseException) -> bool:
    """Is it a device's memory, and not, say, a quota?"""
    text = str(error)
    named = re.search(r"RESOURCE_EXHAUSTED|[Rr]esource exhausted", text)
    return bool(named and re.search(r"(?i)memory|allocat|reserve \d", text))


def check(error: BaseException, config: Any = None) -> None:
    """Raises `UserError` (`explain`) where an error says that a device's memory is too small."""
    if is_exhausted(error):
        raise UserError(explain(str(error), stage_of(error), config)) from error


def figures(message: str) -> Figures:
    """The figures of XLA's message."""
    kernel = _SPACE.search(message)
    needed, there = None, None
    for pattern in _NEEDED:
        found = pattern.search(message)
        if found:
            parts = found.groups()
            needed, *rest = (_bytes(*pair) for pair in zip(parts[::2], parts[1::2]))
            whole = _CONTIGUOUS.search(message)
            there = _bytes(*whole.groups()) if whole else rest[0] if rest else None
            break
    return Figures(needed, there, kernel[kernel.lastindex] if kernel else "hbm")


def stage_of(error: BaseException) -> str | None:
    """A key of `SETTINGS`: what the run was doing; None where that is nothing of it."""
    trace = error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        function = trace.tb_frame.f_code.co_name
        found = _STAGES.get(f"{module}:{function}", _STAGES.get(module))
        if found is not None:
            return found
        trace = trace.tb_next
    return None


def explain(message: str, stage: str | None = None, config: Any = None) -> str:
    """One line: what was needed, what is there, and which settings help.

    message   XLA's
    stage     a key of `SETTINGS`
    config    of the run, whose settings are named with their values; None: only their names
    """
    needed, there, space = figures(message)
    where = f" for the {stage}" if stage else ""
    if space != "hbm":
        return (
            f"the chip's {space} is too small{where}: a kernel needs {_size(needed)} of "
            f"{_size(there)}. config.model.attention=xla uses none of ours"
        )
    if needed is None:
        said = f": {message.strip().splitlines()[0][:200]}"
    else:
        beside = "" if there is None else f", {_size(there)} are there"
        said = f": {_size(needed)} are needed at once{beside}"
    settings = SETTINGS.get(stage or "", ("packing.rows_per_microbatch", "rollout.slots"))
    remedies = ", ".join(filter(None, (_remedy(path, config) for path in settings)))
    return (
        f"a device's memory is too small{where}{said}. What helps: {remedies}; "
        "`python -m sar_jax.plan --config=...` says beforehand what fits"
    )


def _remedy(path: str, config: Any) -> str | None:
    """What to do with a setting; None where that is done."""
    remedy, is_done = _HELP.get(path, _SMALLER)
    remedy = remedy.format(f"config.{path}")
    if config is None:
        return remedy
    section, name = path.split(".")
    value = getattr(getattr(config, section), name)
    return None if is_done(value) else f"{remedy} (now {value!r})"


def _bytes(number: str, unit: str) -> float:
    return float(number.rstrip(".")) * 1024 ** _UNITS[unit]


def _size(number: float | None) -> str:
    if number is None:
        return "an unknown part"
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} bytes" if unit == "bytes" else f"{number:.2f} {unit}"
        number /= 1024
    return f"{number:.2f} TiB"
