"""Functions of one's own, which a config names as FILE.py:NAME or PACKAGE.MODULE:NAME. No JAX.

    my.py:no_wait                          the function `no_wait` of a file, looked for from here
    my.py:no_wait(word='wait', most=3)     with parameters, as Python writes them
    my_package.rewards:no_wait             of a module that is installed, or is in this folder

Docs: docs/plugins.md. What a function is called with is said where it is used. Whatever it does
wrong is one `UserError` that names it: it is missing, raises, ends the process, or takes too long.
What it prints is shown with its name. A file's folder may hold what it imports.
"""

import ast
import contextlib
import difflib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import io
import pathlib
import re
import sys
import threading
import traceback
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sar_jax.errors import UserError

IMPORT_SECONDS = 300.0  # of a file's own imports, which may be large, on a busy machine
_LINES = 3  # of what a call prints that are shown
_SPEC = re.compile(r"(?P<place>[^:()]+):(?P<name>[A-Za-z_]\w*)(?P<params>\(.*\))?", re.DOTALL)
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_FORM = "FILE.py:NAME or PACKAGE.MODULE:NAME"


class Spec(NamedTuple):
    """What a config says of a function.

    text     as it is written, for messages
    place    the file or the module
    params   given to it by name
    """

    text: str
    place: str
    name: str
    params: Mapping[str, Any]

    @property
    def is_file(self) -> bool:
        return self.place.endswith(".py")


class Plugin(NamedTuple):
    """An object of one's own."""

    spec: Spec
    value: Any

    def call(self, arguments: tuple[Any, ...], seconds: float, where: str) -> Any:
        """value(*arguments, **params).

        seconds   that it may take
        where     the option that names it, for messages

        Raises `UserError` where it raises, ends the process or takes longer.
        """
        call = functools.partial(self.value, *arguments, **self.spec.params)
        found = limited(call, seconds, f"{where}: {self.spec.text}", self.file)
        if inspect.iscoroutine(found):
            found.close()
            raise UserError(
                f"{where}: {self.spec.text} is async: name a plain function, which may call "
                "asyncio.run"
            )
        return found

    @property
    def file(self) -> str:
        """Of the source, for lines in messages; empty where it is not known."""
        module = sys.modules.get(getattr(self.value, "__module__", None) or "")
        return str(getattr(module, "__file__", None) or "")


def looks_like(text: str) -> bool:
    """May a text be meant as a function of one's own, rather than as another name?"""
    match = _SPEC.fullmatch(text.strip())
    if match is None:
        return False
    return match["place"].endswith(".py") or _MODULE.fullmatch(match["place"]) is not None


def is_there(text: str) -> bool:
    """Does a text name a file, or a module that can be found?"""
    match = _SPEC.fullmatch(text.strip())
    return looks_like(text) and (
        match["place"].endswith(".py") or _file(Spec(text, match["place"], "", {})) is not None
    )


def parse(text: str, where: str) -> Spec:
    """Reads FILE.py:NAME(parameters).

    where   the option that it is from, for messages

    Raises `UserError` where it is none.
    """
    text = text.strip()
    match = _SPEC.fullmatch(text)
    if match is None or not looks_like(text):
        raise UserError(f"{where}: {text!r:.100} is not {_FORM}")
    params = _params(text, match["params"] or "()", where)
    return Spec(text, match["place"], match["name"], params)


def _params(text: str, written: str, where: str) -> dict[str, Any]:
    form = "write parameters as NAME=VALUE, where a value is a number, a text in quotes or a list"
    try:
        call = ast.parse(f"f{written}", mode="eval").body
        is_plain = isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
        if not is_plain or call.args or any(k.arg is None for k in call.keywords):
            raise ValueError("each has a name")
        names = [keyword.arg for keyword in call.keywords]
        if len(set(names)) < len(names):
            raise ValueError("a name comes twice")
        return {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else error
        raise UserError(f"{where}: {text!r:.100}: {form} ({reason})") from None


def split(text: str) -> list[str]:
    """The parts between commas; those within brackets and quotes belong to a part."""
    parts, depth, quote, start = [], 0, "", 0
    for i, char in enumerate(text):
        if quote:
            quote = "" if char == quote and text[i - 1] != "\\" else quote
        elif char in "'\"" and depth:
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == "," and not depth:
            parts.append(text[start:i])
            start = i + 1
    parts.append(text[start:])
    return [part.strip() for part in parts if part.strip()]


def load(spec: Spec, where: str, kind: str = "a function") -> Plugin:
    """Imports what a config names.

    where   the option that names it, for messages
    kind    what it has to be, for messages; anything but a function may also be no callable

    Raises `UserError` where there is no such file, module or name, and where its import fails.
    """
    module = _module(spec, where)
    if not hasattr(module, spec.name):
        names = [name for name in vars(module) if not name.startswith("_")]
        near = difflib.get_close_matches(spec.name, names, n=1)
        own = [n for n in names if getattr(vars(module)[n], "__module__", "") == module.__name__]
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(own) or 'none'}"
        raise UserError(f"{where}: {spec.place} has no {spec.name!r}: {hint}")
    value = getattr(module, spec.name)
    if kind == "a function" and not callable(value):
        shown = type(value).__name__
        raise UserError(f"{where}: {spec.text} must be {kind}, and is of the type {shown}")
    return Plugin(spec, value)


def made(plugin: Plugin, where: str, seconds: float) -> Plugin:
    """The same; of a class, an object that is made once, with the parameters, and then called.

    Raises `UserError` where it cannot be made, or called.
    """
    if not inspect.isclass(plugin.value):
        return plugin
    found = plugin.call((), seconds, where)
    if not callable(found):
        raise UserError(f"{where}: {plugin.spec.text} is a class without a method __call__")
    return Plugin(plugin.spec._replace(params={}), found)


def _module(spec: Spec, where: str) -> types.ModuleType:
    if spec.is_file:
        path = pathlib.Path(spec.place).expanduser()
        if not path.is_file():
            raise UserError(f"{where}: {_missing(path)}")
        load, file = functools.partial(_of_file, path.resolve()), str(path.resolve())
    else:
        _look_in(pathlib.Path.cwd())  # as `python -m` does, and a console command does not
        load, file = functools.partial(importlib.import_module, spec.place), ""
    return limited(load, IMPORT_SECONDS, f"{where}: {spec.place} cannot be imported", file)


def _missing(path: pathlib.Path) -> str:
    if path.exists():
        return f"{path} is no file"
    folder = path.parent
    beside = [p.name for p in folder.glob("*.py")] if folder.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=1)
    hint = f"did you mean {folder / near[0]}?" if near else f"looked for from {pathlib.Path.cwd()}"
    return f"no such file: {path} ({hint})"


def _look_in(folder: pathlib.Path) -> None:
    """Modules of the folder can be imported; last, so that they hide no others."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _of_file(path: pathlib.Path) -> types.ModuleType:
    """The module of a file, which is executed once for each of its contents."""
    content = path.read_bytes()
    digest = hashlib.sha256(f"{path}\n".encode() + content).hexdigest()[:12]
    name = f"own_{re.sub(r'[^a-zA-Z0-9_]', '_', path.stem)}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    _look_in(path.parent)
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # where a dataclass and pickle look for it
    try:
        # compiled here and not imported: nothing stale is read, and nothing written
        exec(compile(content, str(path), "exec"), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    return module


def source(spec: Spec) -> str:
    """A digest of a function's file and of the files beside it that they import.

    Nothing is imported for it. Empty where there is no file.
    """
    waiting, parts = [_file(spec)], dict[pathlib.Path, bytes]()
    while waiting:
        path = waiting.pop()
        if path is None or path in parts or not path.is_file():
            continue
        parts[path] = path.read_bytes()
        waiting += [path.parent / f"{name}.py" for name in _imported(parts[path])]
    digest = hashlib.sha256()
    for path in sorted(parts):
        digest.update(f"{path.name}\n".encode() + parts[path])
    return digest.hexdigest() if parts else ""


def _file(spec: Spec) -> pathlib.Path | None:
    if spec.is_file:
        return pathlib.Path(spec.place).expanduser().resolve()
    _look_in(pathlib.Path.cwd())
    try:
        found = importlib.util.find_spec(spec.place)
    except (ImportError, ValueError, AttributeError):
        return None
    return pathlib.Path(found.origin) if found and found.origin else None


def _imported(content: bytes) -> set[str]:
    """The first parts of the names that a file imports."""
    try:
        nodes = list(ast.walk(ast.parse(content)))
    except (SyntaxError, ValueError, RecursionError):
        return set()
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {name.split(".")[0] for name in names}


class _Call:
    """A call in a thread of its own, since nothing else can be left that does not end."""

    def __init__(self, function: Callable[[], Any]):
        self.function = function
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self.function()
        except BaseException as error:  # also what ends a process
            self.error = error


def limited(function: Callable[[], Any], seconds: float, what: str, file: str = "") -> Any:
    """function(), within a time, what it prints being shown afterwards.

    what   begins each message
    file   whose line is told where it raises

    Raises `UserError`.
    """
    call = _Call(function)
    thread = threading.Thread(target=call.run, name="own function", daemon=True)
    with _heard(thread) as said:
        thread.start()
        thread.join(seconds)
    name = what.partition(": ")[2] or what
    for line in shown(said.getvalue()):
        print(f"{name} prints: {line}", flush=True)
    if thread.is_alive():
        raise UserError(f"{what}: it took over {seconds:g} seconds")
    if call.error is not None:
        if isinstance(call.error, UserError):
            raise call.error
        raise UserError(f"{what}: {said_by(call.error, file)}") from None
    return call.result


def shown(text: str) -> list[str]:
    """The first lines of what was printed, and how many more there are."""
    lines = [line.rstrip()[:200] for line in text.splitlines() if line.strip()]
    more = [f"... and {len(lines) - _LINES} lines more"] if len(lines) > _LINES else []
    return lines[:_LINES] + more


class _Stdout(io.TextIOBase):
    """Keeps what some threads write, and passes on what the others do."""

    def __init__(self, behind: Any):
        self.behind = behind
        self.kept: dict[threading.Thread, io.StringIO] = {}

    def write(self, text: str) -> int:
        kept = self.kept.get(threading.current_thread())
        return (self.behind if kept is None else kept).write(text)

    def flush(self) -> None:
        self.behind.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.behind, name)


@contextlib.contextmanager
def _heard(thread: threading.Thread):
    """What the thread prints is kept meanwhile."""
    before = sys.stdout
    stdout = _Stdout(before)
    stdout.kept[thread] = kept = io.StringIO()
    sys.stdout = stdout
    try:
        yield kept
    finally:
        if sys.stdout is stdout:
            sys.stdout = before


def said_by(error: BaseException, file: str) -> str:
    """An error's own words in one line, after the line of the file where it arose."""
    if isinstance(error, SyntaxError) and error.lineno:
        where, words = f"line {error.lineno}: ", error.msg
    else:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
        where, words = f"line {lines[-1]}: " if lines else "", str(error)
    words = " ".join(words.split())[:300]
    kind = type(error).__name__
    return f"{where}{kind}: {words}" if words else f"{where}{kind}"
