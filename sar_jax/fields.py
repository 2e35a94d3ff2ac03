"""Classes whose fields hold values of their types alone: the base of every class in `config`.

    config.optimizer.lrr = 1        config.optimizer has no field 'lrr': did you mean 'lr'?
    config.steps = "10"             config.steps is '10': it must be a whole number
    TrainConfig(stepz=3)            config has no field 'stepz': did you mean 'steps'?

A constructor, `dataclasses.replace` and a flag set fields too. What a value must be beyond its
type is said by `checks`, once the whole config is known.
"""

import contextlib
import dataclasses
import difflib
import numbers
import os
import re
import typing
from typing import Any, ClassVar

from sar_jax.errors import UserError

_LONGEST = 60  # characters of a value that an error shows


class _OrAuto(type):
    def __instancecheck__(cls, value: Any) -> bool:
        return value == "auto" or isinstance(value, int)


class OrAuto(metaclass=_OrAuto):
    """The type of a field that is a whole number or the word "auto"."""


class Fields:
    """Base of a dataclass whose attributes are its fields, each of its type.

    A field's type is bool, int, float, str, a `Literal` of texts, `OrAuto`, or another such
    class. Taken as the same value: a whole number for a float, numbers of numpy and
    JAX, and a path for text.

    former   what values of earlier versions are now, by field
    """

    former: ClassVar[dict[str, dict[str, str]]] = {}

    def __new__(cls, *args: Any, **fields: Any) -> Any:
        for name in fields:
            _known(cls, name)
        return super().__new__(cls)

    def __setattr__(self, name: str, value: Any) -> None:
        """Raises `UserError` for a field that there is not, and for a value of another type."""
        kind = _known(type(self), name)
        if name in self.former:
            value = self.former[name].get(str(value).lower(), value)
        super().__setattr__(name, _converted(f"{place(type(self))}.{name}", kind, value))

    def __delattr__(self, name: str) -> None:
        raise UserError(f"{place(type(self))}.{name} cannot be deleted: every field has a value")


def place(cls: type) -> str:
    """Where a class's fields are: "config", or "config.self_aligned" of the class SelfAligned."""
    if cls.__name__.endswith("Config"):
        return "config"
    return "config." + re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


def check_path(cls: type, path: str) -> None:
    """Raises `UserError` where `path`, such as "optimizer.lr", is no field of `cls`.

    A section as a whole is none: only its fields have values that can be given as text.
    """
    *sections, name = path.split(".")
    for i, section in enumerate(sections):
        owner, cls = cls, _known(cls, section)
        if not dataclasses.is_dataclass(cls):
            rest = ".".join(sections[i + 1 :] + [name])
            raise UserError(f"{place(owner)}.{section} is no section: it has no field {rest!r}")
    kind = _known(cls, name)
    if dataclasses.is_dataclass(kind):
        first = dataclasses.fields(kind)[0].name
        raise UserError(
            f"{place(kind)} is a section: give its fields one by one, such as {place(kind)}.{first}"
        )


def _known(cls: type, name: str) -> Any:
    """The type of a field. Raises `UserError` with the nearest name where there is none."""
    kinds = {field.name: field.type for field in dataclasses.fields(cls)}
    if name in kinds:
        return kinds[name]
    below = [
        f"{section}.{field.name}"
        for section, kind in kinds.items()
        if dataclasses.is_dataclass(kind)
        for field in dataclasses.fields(kind)
        if field.name == name
    ]
    found = below or difflib.get_close_matches(name, kinds, n=1)
    if found:
        hint = f"did you mean {' or '.join(map(repr, found))}?"
    else:
        hint = f"it has {', '.join(kinds)}"
    raise UserError(f"{place(cls)} has no field {name!r}: {hint}")


def _converted(path: str, kind: Any, value: Any) -> Any:
    """The value as its field's type. Raises `UserError` where it is of another."""
    given = value
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()  # a number of numpy or JAX
    if dataclasses.is_dataclass(kind):
        if isinstance(value, kind):
            return value
        raise _wrong(path, given, f"a sar_jax.config.{kind.__name__}")
    if kind is OrAuto:
        if value == "auto":
            return value
        if isinstance(value, str):
            raise _wrong(path, given, "a whole number or auto")
        kind = int
    if kind is bool:
        if isinstance(value, bool):
            return value
        raise _wrong(path, given, "True or False")
    if kind is int:
        if isinstance(value, numbers.Integral) and not isinstance(value, bool):
            if -(2**63) <= value < 2**63:
                return int(value)
            raise _wrong(path, given, "a whole number of 64 bits")
        raise _wrong(path, given, "a whole number")
    if kind is float:
        if isinstance(value, numbers.Real) and not isinstance(value, bool):
            return _float(path, value)
        raise _wrong(path, given, "a number")
    if kind is str or typing.get_origin(kind) is typing.Literal:
        return _text(path, value)
    raise TypeError(f"{path}: no field can be a {kind!r}")


def _float(path: str, value: numbers.Real) -> float:
    try:
        return float(value)
    except OverflowError:
        raise _wrong(path, value, "within the range of a float") from None


def _text(path: str, value: Any) -> str:
    """Text that can be written and printed."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise _wrong(path, value, "text")
    value = str.__str__(value)  # of a subclass, such as numpy's
    try:
        value.encode()
    except UnicodeEncodeError as error:
        shown = value[error.start : error.end].encode("unicode_escape").decode()
        raise UserError(
            f"{path} holds {shown}, which is no character (half a surrogate pair): it must be text"
        ) from None
    return value


def _wrong(path: str, value: Any, words: str) -> UserError:
    name = type(value).__name__
    shown = f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
    if not dataclasses.is_dataclass(value) and not isinstance(value, (dict, type)):
        # a value's own error: an int of too many digits, a faulty __repr__
        with contextlib.suppress(Exception):
            shown = " ".join(repr(value).split())
    if len(shown) > _LONGEST:
        shown = shown[:_LONGEST] + "..."
    return UserError(f"{path} is {shown}: it must be {words}")


def from_dict(cls: type, fields: dict[str, Any]) -> Any:
    """The inverse of `dataclasses.asdict` for such classes.

    cls      `TrainConfig`, `PretrainConfig`, or a section's class
    fields   by name; what is missing has its default

    Raises `UserError` that names the fields which `cls` does not have, or a value of another type.
    """
    if not isinstance(fields, dict):
        raise UserError(f"expected a JSON object of config fields, not {fields!r:.60}")
    known = {f.name: f.type for f in dataclasses.fields(cls)}
    unknown = set(fields) - set(known)
    if unknown:
        raise UserError(f"unknown config field(s): {', '.join(sorted(unknown))}")
    made = lambda kind, value: from_dict(kind, value) if isinstance(value, dict) else value
    return cls(**{name: made(known[name], value) for name, value in fields.items()})
