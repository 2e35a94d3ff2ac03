"""What `--help` shows and docs/configuration.md lists: read from sources, which are not imported.

A field's text is the comment lines above it and the comment behind it; a section's text is the
docstring of its class. The type of a field that takes only some values lists them. An option's text
is that of its `flags.DEFINE_...`, a command's the docstring of its module.
"""

import ast
import contextlib
import json
import pathlib
import re
import textwrap
import tokenize
import types
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

CONFIG = pathlib.Path(__file__).parents[2] / "config.py"
# What an option takes, by the end of its flags.DEFINE_...; booleans take nothing.
_TAKES = {"string": "TEXT", "integer": "N", "float": "X", "list": "A,B", "enum": "CHOICE"}
_CONFIG_OPTION = (
    "A file of the configuration: Python whose get_config() returns it, or YAML or JSON that holds "
    "fields. What it leaves out has its default."
)
_END = "--helpfull adds the options of runs on several hosts and of the libraries."


class Sources:
    """The classes of a source and their fields; a field made by a call is a section."""

    def __init__(self, source: str):
        self.lines = source.splitlines()
        self.classes = {n.name: n for n in ast.parse(source).body if isinstance(n, ast.ClassDef)}
        tokens = tokenize.generate_tokens(iter(source.splitlines(keepends=True)).__next__)
        comments = [token for token in tokens if token.type == tokenize.COMMENT]
        self.notes = {token.start[0]: token.string.strip("# ") for token in comments}

    def doc(self, cls: str) -> str:
        """The docstring of a class, in one line."""
        return " ".join((ast.get_docstring(self.classes[cls]) or "").split())

    def of(self, cls: str) -> list[ast.AnnAssign]:
        """The fields that are no sections."""
        return [f for f in self._all(cls) if not isinstance(f.value, ast.Call)]

    def sections(self, cls: str) -> dict[str, str]:
        """The class of each section by its name."""
        made = [f for f in self._all(cls) if isinstance(f.value, ast.Call)]
        return {f.target.id: ast.unparse(f.annotation) for f in made}

    def _all(self, cls: str) -> list[ast.AnnAssign]:
        return [node for node in self.classes[cls].body if isinstance(node, ast.AnnAssign)]

    def meaning(self, field: ast.AnnAssign) -> str:
        """The comment lines above a field, then the one behind it."""
        first = field.lineno
        while self.lines[first - 2].strip().startswith("#"):
            first -= 1
        rows = [*range(first, field.lineno), field.end_lineno]
        return " ".join(self.notes[row] for row in rows if row in self.notes)

    def choices(self, field: ast.AnnAssign) -> list[str]:
        """The choices of a `Literal` or of `OrAuto`, as JSON; nothing for any other type."""
        if ast.unparse(field.annotation) == "OrAuto":
            return ["int", json.dumps("auto")]
        if not isinstance(field.annotation, ast.Subscript):
            return []
        found = ast.literal_eval(field.annotation.slice)
        return [json.dumps(choice) for choice in found]

    def default(self, field: ast.AnnAssign) -> str:
        """As it is written in the source; in one line."""
        value = field.value
        if value.lineno != value.end_lineno:
            return ast.unparse(value)
        line = self.lines[value.lineno - 1].encode()  # columns are counted in bytes
        return line[value.col_offset : value.end_col_offset].decode()


class Option(NamedTuple):
    """An option of a command. kind: string, integer, float, list, enum, bool."""

    name: str
    kind: str
    default: Any
    text: str


def summary(command: pathlib.Path) -> str:
    """The first sentence or line of a command's docstring."""
    doc = ast.get_docstring(ast.parse(command.read_text())) or ""
    return doc.partition("\n\n")[0].replace("\n", " ")


def options(tree: ast.Module) -> list[Option]:
    """The options that a module defines, in its order."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names, found = _Names(tree), []
    for call in sorted(calls, key=lambda call: call.lineno):
        if match := re.fullmatch(r"flags\.DEFINE_(\w+)", ast.unparse(call.func)):
            name, default, *_, text = [
                eval(ast.unparse(given), {"__builtins__": {}}, names) for given in call.args
            ]
            found.append(Option(name, match[1].replace("boolean", "bool"), default, text))
    return found


class _Names(dict):
    """What the text of an option may name: constants of its module, and of modules it imports."""

    def __init__(self, tree: ast.Module):
        super().__init__(_constants(tree))
        self.tree = tree

    def __missing__(self, name: str) -> types.SimpleNamespace:
        for node in self.tree.body:
            for alias in node.names if isinstance(node, ast.ImportFrom) else ():
                if (alias.asname or alias.name) == name:
                    file = f"{node.module}.{alias.name}".replace(".", "/") + ".py"
                    tree = ast.parse((CONFIG.parent.parent / file).read_text())
                    return types.SimpleNamespace(**_constants(tree))
        raise KeyError(name)


def _constants(tree: ast.Module) -> dict[str, Any]:
    """A module's names whose values are written out: `A = 1`, `A, B = 1, 2`."""
    found = {}
    for node in tree.body:
        if not isinstance(node, ast.Assign):
            continue
        target = node.targets[0]
        with contextlib.suppress(ValueError):  # what is computed
            value = ast.literal_eval(node.value)
            if isinstance(target, ast.Tuple):
                found |= {name.id: each for name, each in zip(target.elts, value)}
            elif isinstance(target, ast.Name):
                found[target.id] = value
    return found


def config_class(tree: ast.Module) -> str | None:
    """The name of the class in `cli.config_flag(CLASS)`; None for a command without --config."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "cli.config_flag":
            return ast.unparse(node.args[0]).split(".")[-1]
    return None


def command_help(command: pathlib.Path, width: int, words: Sequence[str] = ()) -> str:
    """What `--help` of a command shows.

    command   the module's file
    width     columns of the terminal; what a docstring indents stays as it is
    words     shows the options and fields alone whose names have one of these in them
    """
    tree, width = ast.parse(command.read_text()), max(width, 40)
    parts = [] if words else [_wrapped_doc(ast.get_docstring(tree) or "", width)]
    cls, shown = config_class(tree), []
    if cls and _is_asked("config", words):
        shown.append(_entry("--config=FILE", "", _CONFIG_OPTION, width))
    for option in options(tree):
        if _is_asked(option.name, words):
            shown.append(_option(option, width))
    parts += ["Options:\n" + "\n".join(shown)] if shown else []
    if cls:
        parts += _fields_help(cls, width, words)
    if not parts:
        return f"no option and no field has {' or '.join(map(repr, words))} in its name\n"
    return "\n\n".join([*parts, *([] if words else [textwrap.fill(_END, width)])]) + "\n"


def _fields_help(cls: str, width: int, words: Sequence[str]) -> Iterator[str]:
    """The sections with a field that is asked for."""
    sources = Sources(CONFIG.read_text())
    head = "Fields of the configuration, each with its type or choices and its default:"
    for section, owner in {"": cls, **sources.sections(cls)}.items():
        prefix = f"{section}." if section else ""
        entries = [
            _field(sources, field, f"{prefix}{field.target.id}", width)
            for field in sources.of(owner)
            if _is_asked(f"{prefix}{field.target.id}", words)
        ]
        if section and entries:
            entries.insert(0, textwrap.fill(f"{section}: {sources.doc(owner)}", width))
        if head and entries:
            yield textwrap.fill(head, width)
            head = ""
        if entries:
            yield "\n".join(entries)


def _field(sources: Sources, field: ast.AnnAssign, path: str, width: int) -> str:
    kind = " | ".join(sources.choices(field)) or ast.unparse(field.annotation)
    about = f"{kind}; default {sources.default(field)}"
    return _entry(f"--config.{path}", about, sources.meaning(field), width)


def _option(option: Option, width: int) -> str:
    name = f"--[no]{option.name}" if option.kind == "bool" else f"--{option.name}"
    takes = "" if option.kind == "bool" else f"={_TAKES[option.kind]}"
    default = option.default
    if isinstance(default, list):
        default = ",".join(default)  # as it is written
    about = "" if default in (None, "", False) else f"default {default}"
    return _entry(name + takes, about, option.text, width)


def _entry(name: str, about: str, text: str, width: int) -> str:
    """A name with what it takes, and under it what it means."""
    head = f"{name}  ({about})" if about else name
    how = {"break_long_words": False, "break_on_hyphens": False}
    first = textwrap.fill(head, width, initial_indent="  ", subsequent_indent=" " * 6, **how)
    rest = textwrap.fill(text, width, initial_indent=" " * 6, subsequent_indent=" " * 6, **how)
    return f"{first}\n{rest}"


def _is_asked(name: str, words: Sequence[str]) -> bool:
    return not words or any(word in name for word in words)


def _wrapped_doc(doc: str, width: int) -> str:
    """Paragraphs of text are wrapped; those with indented lines stay as they are."""
    found = []
    for paragraph in doc.split("\n\n"):
        is_text = not re.search(r"^ ", paragraph, re.MULTILINE)
        found.append(textwrap.fill(paragraph, width) if is_text else paragraph)
    return "\n\n".join(found)
