"""Functions that a config names: what names one, and one line for each that cannot be used."""

import sys
import threading

import pytest

from sar_jax.errors import UserError
from sar_jax.text import plugins

WHERE = "config.some.field"
SOURCE = """
import time
import helper_of_mine

CONSTANT = 3

def double(x, by=2):
    return by * x + helper_of_mine.NOTHING

def fails(x):
    raise ValueError("of two\\nlines")

def leaves(x):
    raise SystemExit(3)

def sleeps(x):
    time.sleep(600)

def prints(x):
    for i in range(10):
        print("line", i)
    return x
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "helper_of_mine.py").write_text("NOTHING = 0\n")
    (tmp_path / "my.py").write_text(SOURCE)
    yield tmp_path / "my.py"
    sys.modules.pop("helper_of_mine", None)


def load(text: str) -> plugins.Plugin:
    return plugins.load(plugins.parse(text, WHERE), WHERE)


def error_of(function, *given) -> str:
    with pytest.raises(UserError) as error:
        function(*given)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.quick
@pytest.mark.parametrize(
    "text, place, name, params",
    [
        ("my.py:f", "my.py", "f", {}),
        (" a/b c/my.py:f ", "a/b c/my.py", "f", {}),
        ("~/my.py:f()", "~/my.py", "f", {}),
        ("pkg.module:f", "pkg.module", "f", {}),
        ("my.py:f(a=1, b='x, (y)', c=[1, 2.5], d={'e': None})", "my.py", "f",
         {"a": 1, "b": "x, (y)", "c": [1, 2.5], "d": {"e": None}}),
        ("my.py:f(x=-1e-3)", "my.py", "f", {"x": -1e-3}),
    ],
)  # fmt: skip
def test_what_names_a_function(text, place, name, params):
    assert plugins.looks_like(text)
    found = plugins.parse(text, WHERE)
    assert (found.place, found.name, found.params) == (place, name, params)


@pytest.mark.parametrize(
    "text",
    ["", "my.py", "my.py:", ":f", "my.py:2f", "gsm8k:100", "gs://b/f.jsonl", "a-b:f"],
)
def test_what_names_none(text):
    assert not plugins.looks_like(text)
    assert error_of(plugins.parse, text, WHERE).startswith(WHERE)


@pytest.mark.parametrize("params", ["(1)", "(a)", "(a=b)", "(a=1, a=2)", "(**x)", "(a=1)(b=2)"])
def test_parameters_are_named_literals(params):
    assert "write parameters as NAME=VALUE" in error_of(plugins.parse, f"my.py:f{params}", WHERE)


@pytest.mark.parametrize(
    "text, parts",
    [
        ("", []),
        (" , ", []),
        ("a, b,c", ["a", "b", "c"]),
        ("m.py:f(x='a,b')=1, g", ["m.py:f(x='a,b')=1", "g"]),
        ("m.py:f(x=[1,2],y=(3,)),n", ["m.py:f(x=[1,2],y=(3,))", "n"]),
        ("m.py:f(x='it\\'s, so')=1,b", ["m.py:f(x='it\\'s, so')=1", "b"]),
        ("it's,b", ["it's", "b"]),
    ],
)
def test_a_list_is_split_at_its_own_commas(text, parts):
    assert plugins.split(text) == parts


def test_it_is_called_with_its_parameters_and_may_import_its_neighbours(file):
    assert load("my.py:double").call((4,), 60, WHERE) == 8
    assert load("my.py:double(by=3)").call((4,), 60, WHERE) == 12
    assert load(f"{file}:double").call((4,), 60, WHERE) == 8


def test_two_functions_of_a_file_share_what_it_has_loaded(file):
    one, other = load("my.py:double"), load(f"{file}:prints")
    assert one.value.__globals__ is other.value.__globals__


def test_a_module_of_this_folder_is_found(file):
    (file.parent / "in_this_folder.py").write_text("def f():\n    return 1\n")
    assert load("in_this_folder:f").call((), 60, WHERE) == 1
    del sys.modules["in_this_folder"]


def test_a_changed_file_is_read_again(file):
    before = load("my.py:double")
    file.write_text(SOURCE.replace("by * x", "by * x + 1"))
    assert load("my.py:double").call((4,), 60, WHERE) == 9
    assert before.call((4,), 60, WHERE) == 8


@pytest.mark.parametrize(
    "name, words",
    [
        ("fails", f"{WHERE}: my.py:fails: line 11: ValueError: of two lines"),
        ("leaves", f"{WHERE}: my.py:leaves: line 14: SystemExit: 3"),
        ("double(of=1)", "TypeError: double() got an unexpected keyword argument 'of'"),
    ],
)
def test_what_it_raises_is_one_line(file, name, words):
    assert words in error_of(load(f"my.py:{name}").call, (1,), 60, WHERE)


def test_what_takes_too_long_is_left(file):
    said = error_of(load("my.py:sleeps").call, (1,), 0.2, WHERE)
    assert said == f"{WHERE}: my.py:sleeps: it took over 0.2 seconds"


def test_what_it_prints_is_shown_with_its_name_and_cut(file, capsys):
    assert load("my.py:prints").call((5,), 60, WHERE) == 5
    own = [f"my.py:prints prints: line {i}" for i in range(3)]
    assert capsys.readouterr().out.splitlines() == [
        *own,
        "my.py:prints prints: ... and 7 lines more",
    ]


def test_what_others_print_meanwhile_is_not_its(file, capsys):
    (file.parent / "waits.py").write_text(
        "import threading\nbegun, go = threading.Event(), threading.Event()\n"
        "def f():\n    begun.set()\n    go.wait(60)\n    print('mine')\n"
    )
    plugin = load("waits.py:f")
    module = sys.modules[plugin.value.__module__]

    def other():
        module.begun.wait(60)
        print("theirs", flush=True)
        module.go.set()

    thread = threading.Thread(target=other)
    thread.start()
    plugin.call((), 60, WHERE)
    thread.join()
    assert capsys.readouterr().out.splitlines() == ["theirs", "waits.py:f prints: mine"]


@pytest.mark.parametrize(
    "text, words",
    [
        ("mine.py:f", "no such file: mine.py (did you mean my.py?)"),
        ("nowhere/x.py:f", "no such file: nowhere/x.py (looked for from "),
        ("my.py:dubble", "my.py has no 'dubble': did you mean 'double'?"),
        ("my.py:zzz", "my.py has no 'zzz': it has double, fails"),
        ("my.py:CONSTANT", "my.py:CONSTANT must be a function, and is of the type int"),
        ("no_such_package:f", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("broken.py:f", "broken.py cannot be imported: line 2: SyntaxError"),
        ("raises.py:f", "raises.py cannot be imported: line 1: ZeroDivisionError"),
        ("exits.py:f", "exits.py cannot be imported: line 1: SystemExit: 1"),
        ("folder.py:f", "folder.py is no file"),
    ],
)
def test_what_cannot_be_loaded_is_named(file, text, words):
    (file.parent / "broken.py").write_text("x = 1\ndef f(:\n")
    (file.parent / "raises.py").write_text("1 / 0\n")
    (file.parent / "exits.py").write_text("raise SystemExit(1)\n")
    (file.parent / "folder.py").mkdir()
    said = error_of(load, text)
    assert said.startswith(f"{WHERE}: ") and words in said


def test_the_source_is_that_of_the_file_and_of_what_it_imports_beside_it(file):
    spec = plugins.parse("my.py:double", WHERE)
    before = plugins.source(spec)
    (file.parent / "another.py").write_text("x = 1\n")  # nobody imports it
    assert plugins.source(spec) == before != ""
    (file.parent / "helper_of_mine.py").write_text("NOTHING = 0  # changed\n")
    other = plugins.source(spec)
    assert other != before
    file.write_text(SOURCE + "\n")
    assert plugins.source(spec) not in (before, other)
    assert plugins.source(plugins.parse("nowhere.py:f", WHERE)) == ""
    assert plugins.source(plugins.parse("no_such_package.x:f", WHERE)) == ""
