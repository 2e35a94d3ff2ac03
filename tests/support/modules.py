"""The programs that a run executes, as text, to compare with those that a plan describes."""

import contextlib
import pathlib
import re
from collections.abc import Iterator, Mapping

import jax

# What says where a line of Python is; and that an argument is whole on every device, which the plan
# says of scalars that a run brings from the host.
_LOCATION = re.compile(r" ?loc\((?:[^()]|\([^()]*\))*\)")
_WHOLE = re.compile(r" \{sdy\.sharding = #sdy\.sharding<@\w+, \[(\{\}(, \{\})*)?\]>\}")


@contextlib.contextmanager
def written(folder: pathlib.Path) -> Iterator[None]:
    """Writes the module of everything that is compiled."""
    jax.clear_caches()  # else what another test has traced is not written
    folder.mkdir()
    jax.config.update("jax_dump_ir_to", str(folder))
    jax.config.update("jax_dump_ir_modes", "stablehlo")
    try:
        yield
    finally:
        jax.config.update("jax_dump_ir_to", None)


def others(lowered: Mapping[str, jax.stages.Lowered], folder: pathlib.Path) -> list[str]:
    """The names of those that are none of the modules in a folder."""
    executed = {_plain(file.read_text()) for file in folder.iterdir()}
    return [name for name, program in lowered.items() if _plain(program.as_text()) not in executed]


def _plain(text: str) -> str:
    """A module's text without what two traces of one function may differ in."""
    lines = (line for line in text.splitlines() if not line.startswith("#loc"))
    lines = (line for line in lines if "@empty_mesh = " not in line)
    return "\n".join(_WHOLE.sub("", _LOCATION.sub("", line)) for line in lines)
