"""Files that `--config` names: Python with `get_config()`, and YAML or JSON that hold fields.

    optimizer:               optimizer.lr: 1e-6              {"optimizer": {"lr": 1e-6}}
      lr: 1e-6

Fields that a YAML or JSON file leaves out have their defaults; so a workdir's config.json is such a
file. YAML is read as its version 1.2 says, where 1e-6 is a number and `on` is text; since each
field's type is known, text needs no quotes even where it looks like a number.
"""

import dataclasses
import functools
import inspect
import json
import math
import pathlib
import re
import sys
import traceback
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import yaml

from sar_jax import fields
from sar_jax.errors import UserError

_YAML, _JSON = (".yaml", ".yml"), (".json",)
_OTHERS = (".toml", ".ini", ".cfg", ".xml")  # forms that are not read

_STANDARD = "tag:yaml.org,2002:"
_NULL, _INT, _FLOAT, _STR = (_STANDARD + kind for kind in ("null", "int", "float", "str"))
_BOOL, _MAP, _SEQ, _MERGE = (_STANDARD + kind for kind in ("bool", "map", "seq", "merge"))
# What a plain scalar is, by the core schema of YAML 1.2 (section 10.3.2), and what it can begin
# with. Numbers are missing: a scalar is text until its field asks for one.
_CORE = {
    _BOOL: (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    _NULL: (r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    _MERGE: (r"<<", "<"),  # not in the schema; named, so that it is refused by name
}
# Where a field is a bool, these can mean nothing else.
_SWITCHES = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class _Loader(yaml.SafeLoader):
    """Composes nodes; plain scalars have the tags of `_CORE`."""

    yaml_implicit_resolvers: dict[str, Any] = {}


for _tag, (_pattern, _first) in _CORE.items():
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), list(_first))


class _Object(list):
    """The (name, value) pairs of a JSON object."""


class _At(Exception):
    """What is wrong in a file, and its line where it is known."""

    def __init__(self, said: str, line: int | None = None):
        super().__init__(said)
        self.line = line


def load_config(argument: str, cls: type) -> Any:
    """The config of a file, a `cls`.

    argument   the file: YAML or JSON by its suffix, otherwise Python; with a text for a Python
               file's get_config after a colon, "FILE:TEXT"
    cls        `TrainConfig` or `PretrainConfig`

    Raises `UserError` that names the file, the line where it is known, and the remedy.
    """
    path, colon, given = argument.partition(":")
    if colon and pathlib.Path(argument).is_file():
        path, colon = argument, ""  # its name has a colon
    _check_file(path)
    suffix = pathlib.Path(path).suffix.lower()
    if suffix in _OTHERS:
        raise UserError(f"--config: {path}: give a Python, YAML or JSON file (.py, .yaml, .json)")
    if suffix not in _YAML + _JSON:
        return _of_python(path, [given] if colon else [], cls)
    if colon:
        raise UserError(
            f"--config: {path}: {given!r} after the colon is for the get_config(text) of a Python "
            "file; a YAML or JSON file takes none"
        )
    return _of_data(path, suffix in _JSON, cls)


def _check_file(path: str) -> None:
    """Raises `UserError` where there is no such file."""
    file, what = pathlib.Path(path), ""
    if file.is_file():
        return
    if (file / "config.json").is_file():
        what = f"is a folder; give its file: {file / 'config.json'}"
    elif file.is_dir():
        what = "is a folder"
    elif file.exists():
        what = "is no file"
    raise UserError(f"--config: {path}: {what}" if what else f"--config: no such file: {path}")


# YAML and JSON


def _of_data(path: str, is_json: bool, cls: type) -> Any:
    config = cls()
    try:
        text = _text(path)
        for field, value, line in _given(_read(text, is_json)):
            try:
                _set(config, field, value)
            except UserError as error:
                raise _At(str(error), _json_line(text, field) if is_json else line) from None
    except _At as error:
        place = f"{path}, line {error.line}" if error.line else path
        raise UserError(f"--config: {place}: {error}") from None
    except RecursionError:
        raise UserError(f"--config: {path}: it is nested too deeply for a config") from None
    return config


def _text(path: str) -> str:
    try:
        content = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise _At(f"it cannot be read ({error.strerror})") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        wrong = f"the byte 0x{content[error.start]:02x} is not UTF-8: save the file as UTF-8"
        raise _At(wrong, line) from None


def _read(text: str, is_json: bool) -> Any:
    """What is in a file: an `_Object` or a mapping's node. Raises `_At` for anything else."""
    if not text.strip():
        raise _At("it is empty: write fields, such as `steps: 100`")
    found = _read_json(text) if is_json else _read_yaml(text)
    if found is None:
        raise _At("it holds no fields: write some, such as `steps: 100`")
    if not isinstance(found, (_Object, yaml.MappingNode)):
        line = None if is_json else found.start_mark.line + 1
        is_list = isinstance(found, (list, yaml.SequenceNode))
        shape = '{"steps": 100}' if is_json else "`steps: 100`"
        raise _At(f"it holds {'a list' if is_list else 'a value'}: write fields, as {shape}", line)
    return found


def _read_json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_Object)
    except json.JSONDecodeError as error:
        raise _At(f"not JSON: {error.msg} (column {error.colno})", error.lineno) from None
    except ValueError as error:  # a number of too many digits
        raise _At(f"not JSON: {error}") from None


def _read_yaml(text: str) -> yaml.Node | None:
    try:
        found = _Loader(text).get_single_node()
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise _At(f"the character {error.character:#x} may not be in YAML", line) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _At(f"not YAML: {_yaml_problem(error)}", mark and mark.line + 1) from None
    is_null = isinstance(found, yaml.ScalarNode) and found.tag == _NULL
    return None if is_null else found


def _yaml_problem(error: yaml.MarkedYAMLError) -> str:
    """The reader's words, with the remedy for what people write."""
    said = error.problem or error.context or "it cannot be read"
    if "'\\t'" in said:
        return "there is a tab: use spaces"
    if "single document" in (error.context or ""):
        return "a second document begins here: give one"
    if "mapping values" in said:
        return f"{said}: text with a colon and a space in it needs quotes"
    if "cannot start any token" in said or "alias" in said:
        return f"{said}: text that begins with a sign of YAML's needs quotes"
    return said


def _given(found: Any) -> Iterator[tuple[str, Any, int | None]]:
    """(path, value, line) of every field that is given; a section before what is in it."""
    lines: dict[str, int | None] = {}
    for path, value, line in _flat(found, ""):
        if path in lines:
            first = f", in line {lines[path]} too" if lines[path] else ""
            raise _At(f"config.{path} is given twice{first}: leave one", line)
        lines[path] = line
        yield path, value, line


def _flat(found: Any, prefix: str) -> Iterator[tuple[str, Any, int | None]]:
    for name, value, line in _pairs(found):
        yield prefix + name, value, line
        # only what `_set` has let pass comes here: a section, so an alias of its own ends too
        if isinstance(value, (_Object, yaml.MappingNode)):
            yield from _flat(value, f"{prefix}{name}.")


def _pairs(found: Any) -> Iterable[tuple[str, Any, int | None]]:
    if isinstance(found, _Object):
        yield from ((name, value, None) for name, value in found)
        return
    _check_tag(found)
    for key, value in found.value:
        line = key.start_mark.line + 1
        if key.tag == _MERGE:
            raise _At("a config merges nothing (<<): write the fields out", line)
        if not isinstance(key, yaml.ScalarNode):
            raise _At("a field's name must be text", line)
        yield key.value, value, line


def _check_tag(node: yaml.Node) -> None:
    if node.tag not in (_NULL, _BOOL, _INT, _FLOAT, _STR, _MAP, _SEQ):
        tag = node.tag.replace(_STANDARD, "!!")
        raise _At(
            f"the tag {tag} is not read: write text, a number, true or false",
            node.start_mark.line + 1,
        )


def _set(config: Any, path: str, value: Any) -> None:
    """Sets one field. A section is only looked at. Raises `UserError` for what cannot be."""
    if path.split(".")[0] == "config":
        raise UserError("a field is written without config: steps, optimizer.lr")
    kind = _kind(type(config), path)
    if isinstance(value, yaml.Node):
        _check_tag(value)
    is_null = value is None or isinstance(value, yaml.Node) and value.tag == _NULL
    if dataclasses.is_dataclass(kind):
        if is_null or isinstance(value, (_Object, yaml.MappingNode)):
            return  # a section without fields keeps its defaults
    fields.check_path(type(config), path)
    if is_null:
        hint = '; write "" for empty text' if kind is str else ""
        raise UserError(f"config.{path} has no value: leave it out for the default{hint}")
    is_quoted = isinstance(value, str) or getattr(value, "style", None) in ("'", '"')
    value = _plain(path, kind, value)
    if isinstance(value, float) and math.isnan(value):
        raise UserError(f"config.{path} is not a number (NaN): give one")
    *sections, name = path.split(".")
    try:
        setattr(functools.reduce(getattr, sections, config), name, value)
    except UserError as error:
        raise UserError(f"{error}{_hint(kind, value, is_quoted)}") from None


def _hint(kind: Any, value: Any, is_quoted: bool) -> str:
    """The remedy for a value of another type."""
    if isinstance(value, list) and kind is str:
        return "; docs/configuration.md says how it names several"
    return "; write it without quotes" if is_quoted and kind in (int, float, bool) else ""


def _kind(cls: type, path: str) -> Any:
    """The type of the field, None where there is no such field."""
    kind: Any = cls
    for name in path.split("."):
        if not dataclasses.is_dataclass(kind):
            return None
        kind = {field.name: field.type for field in dataclasses.fields(kind)}.get(name)
    return kind


def _plain(path: str, kind: Any, value: Any) -> Any:
    """A value as Python has it; a scalar of YAML as the field's type asks for."""
    if isinstance(value, (_Object, yaml.MappingNode)):
        return {}
    if isinstance(value, yaml.SequenceNode):
        return [child.value for child in value.value]
    if not isinstance(value, yaml.ScalarNode):
        return value
    text, is_quoted = value.value, value.style is not None
    if kind is str or typing.get_origin(kind) is typing.Literal:
        return text
    if kind is bool and not is_quoted:
        return _SWITCHES.get(text.lower(), text)
    if value.tag == _BOOL:
        return _SWITCHES.get(text.lower(), text)
    if value.tag == _STR and is_quoted or not text.isascii():
        return text
    return _number(path, kind, text)


def _number(path: str, kind: Any, text: str) -> Any:
    """A plain scalar as a number; as the text that it is where it is none."""
    if re.fullmatch(r"[-+]?0[0-9_]+", text):
        raise UserError(
            f"config.{path} is {text}, octal to some readers: write it without the leading zero"
        )
    try:
        if re.match(r"[-+]?0[xo]", text):
            return int(text, 0)
        text = re.sub(r"^([-+]?)\.(?=[a-zA-Z])", r"\1", text)  # .inf and .nan are Python's inf, nan
        return int(text) if re.fullmatch(r"[-+]?[0-9_]+", text) else float(text)
    except ValueError:
        return text


def _json_line(text: str, path: str) -> int | None:
    """The line of a field in JSON, where its name is there once."""
    names = [json.dumps(path), json.dumps(path.split(".")[-1])]  # with dots, or nested
    for name in map(re.escape, names):
        found = [match.start() for match in re.finditer(rf"{name}\s*:", text)]
        if len(found) == 1:
            return text[: found[0]].count("\n") + 1
    return None


# Python


def _of_python(path: str, words: list[str], cls: type) -> Any:
    """What `get_config(*words)` of a Python file returns."""
    module = types.ModuleType("config_file")
    module.__file__ = path
    sys.modules[module.__name__] = module  # where a dataclass looks for its own
    try:
        # compiled here and not imported: nothing stale is read, and nothing written
        exec(compile(pathlib.Path(path).read_bytes(), path, "exec"), vars(module))
        get_config = getattr(module, "get_config", None)
        if not callable(get_config):
            raise UserError(f"--config: {path}: it defines no function get_config()")
        _check_arguments(path, get_config, words)
        config = get_config(*words)
    except (Exception, SystemExit) as error:
        if isinstance(error, UserError) and str(error).startswith("--config: "):
            raise
        raise UserError(f"--config: {_place(error, path)}{_said(error)}") from None
    if not isinstance(config, cls):
        hint = "; does it end without `return`?" if config is None else ""
        raise UserError(
            f"--config: {path}: get_config() must return a {cls.__name__}, not "
            f"{'None' if config is None else 'a ' + type(config).__name__}{hint}"
        )
    return config


def _check_arguments(path: str, get_config: Callable[..., Any], words: list[str]) -> None:
    try:
        inspect.signature(get_config).bind(*words)
    except TypeError as error:
        hint = "takes no text" if words else "needs a text: give --config=FILE:TEXT"
        raise UserError(f"--config: {path}: get_config() {hint} ({error})") from None
    except ValueError:  # a callable without a signature
        return


def _place(error: BaseException, path: str) -> str:
    """The file, with the line of it in which an error arose."""
    if isinstance(error, SyntaxError) and error.filename == path and error.lineno:
        return f"{path}, line {error.lineno}: "
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == path
    ]
    return f"{path}, line {lines[-1]}: " if lines else f"{path}: "


def _said(error: BaseException) -> str:
    """An error's own words, in one line."""
    if isinstance(error, UserError):
        return str(error)
    said = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
