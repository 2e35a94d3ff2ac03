"""`import sar_jax`: its names, what it loads, and a policy's methods beside the commands."""

import dataclasses
import html
import importlib
import inspect
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from absl import flags
from support.api import TINY
from support.commands import ROOT, modules_after, run_command
from support.training import shipped, write_lines

import sar_jax
from sar_jax.errors import UserError
from sar_jax.training.api import calls

# What others build on: a name or a parameter that goes, or changes its place, breaks their code.
SIGNATURES = {
    "load": ("path", "config=None", "step=None"),
    "train": ("config", "workdir=None", "on_step=None", "*extend=False"),
    "plan": (
        "config",
        "topology",
        "*prompt_tokens=150",
        "*answer_tokens=900",
        "*compilation_cache=None",
        "*progress=False",
    ),
    "Policy.generate": (
        "questions",
        "samples=1",
        "*temperature=None",
        "*max_answer_tokens=None",
        "*seed=None",
    ),
    "Policy.explain": ("pairs",),
    "Policy.evaluate": ("tasks", "samples=1", "output=None"),
    "Policy.export": ("path", "dtype=None"),
    "Run.load": ("step=None",),
}
FIELDS = {
    "Run": "workdir step metrics",
    "Generated": "question sample text token_ids logprobs length clipped",
    "Explained": "question answer ppl_conditional ppl_standalone self_aligned "
    "self_aligned_without_copies tokens token_values token_logps token_logps_standalone "
    "token_copied extra",
    "Evaluation": "tasks results",
    "TaskResult": "questions accuracy interval length length_correct length_unclipped clipped "
    "errors several answers",
}
QUESTION = "Tom has 3 coins and finds 4. Then Tom finds 2 more. How many coins has Tom?"


@pytest.fixture(scope="module")
def policy():
    return sar_jax.load(TINY, ROOT / "configs/tiny.py")


# Names


def test_the_names_are_these():
    assert {*sar_jax.__all__} == {
        "__version__",
        "Answer",
        "Family",
        "Plan",
        "Policy",
        "PretrainConfig",
        "TrainConfig",
    } | {
        "UserError",
        "load",
        "train",
        "plan",
        *FIELDS,
    }
    assert {*sar_jax.__all__} <= {*dir(sar_jax)}
    for name in sar_jax.__all__:
        assert getattr(sar_jax, name)
    with pytest.raises(AttributeError, match="'lod'"):
        sar_jax.lod  # noqa: B018


def _shown(parameter: inspect.Parameter) -> str:
    star = "*" if parameter.kind is parameter.KEYWORD_ONLY else ""
    default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
    return f"{star}{parameter.name}{default}"


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_calls_take_what_they_took(name):
    found = sar_jax
    for part in name.split("."):
        found = getattr(found, part)
    shown = tuple(map(_shown, inspect.signature(found).parameters.values()))
    assert shown == (("self",) if "." in name else ()) + SIGNATURES[name]


@pytest.mark.parametrize("name", FIELDS)
def test_the_records_have_the_fields_that_they_had(name):
    fields = [field.name for field in dataclasses.fields(getattr(sar_jax, name))]
    assert fields == FIELDS[name].split()


def test_the_import_loads_neither_jax_nor_numpy():
    loaded = modules_after("import sar_jax; dir(sar_jax), sar_jax.__version__")
    assert not {"jax", "numpy", "absl", "transformers", "rich"} & loaded
    assert "jax" not in modules_after("import sar_jax; sar_jax.TrainConfig(), sar_jax.UserError")


@pytest.mark.parametrize("name", ["train", "plan"])
@pytest.mark.parametrize("first", ["attribute", "import"])
def test_a_command_s_module_is_called_whichever_came_first(name, first, monkeypatch):
    module = f"sar_jax.{name}"
    importlib.import_module(module)
    monkeypatch.delitem(sys.modules, module)
    monkeypatch.delattr(sar_jax, name)
    if first == "import":
        importlib.import_module(module)
    found = getattr(sar_jax, name)
    importlib.import_module(module)
    assert found is getattr(sar_jax, name) is sys.modules[module]
    scope = {}
    exec(f"from sar_jax import {name} as found", scope)
    assert scope["found"] is found and found.__name__ == module and callable(found.main)
    assert list(inspect.signature(found).parameters) == list(
        inspect.signature(getattr(found, name)).parameters
    )
    with pytest.raises(UserError, match="no such file: nowhere.py"):
        found("nowhere.py", "x")


# Answers


def test_greedy_answers_are_those_that_an_evaluation_judges(policy):
    found = policy.evaluate("arithmetic:4").tasks["arithmetic"]
    answers = policy.generate([answer.question for answer in found.answers])
    assert [a.text for a in answers] == [a.answer for a in found.answers]
    assert [(a.length, a.clipped) for a in answers] == [
        (a.length, a.clipped) for a in found.answers
    ]
    assert not flags.FLAGS.is_parsed()


def test_logprobs_are_those_that_explain_scores(policy):
    answers = policy.generate(QUESTION, samples=6, seed=3, temperature=1.2)
    assert [a.sample for a in answers] == [*range(6)] and len({a.text for a in answers}) > 1
    checked = 0
    for answer, scored in zip(answers, policy.explain(answers), strict=True):
        assert len(answer.token_ids) == len(answer.logprobs) == answer.length
        if not answer.clipped and len(scored.tokens) == answer.length:  # the same ids again
            np.testing.assert_allclose(answer.logprobs, scored.token_logps, atol=1e-3)
            checked += 1
    assert checked


def test_what_is_drawn_follows_the_seed(policy):
    of = lambda **how: [a.token_ids for a in policy.generate([QUESTION], 3, **how)]
    assert of(seed=1) == of(seed=1) != of(seed=2)
    (greedy,) = policy.generate(QUESTION)
    assert of(temperature=0) == [greedy.token_ids] * 3
    (short,) = policy.generate(QUESTION, max_answer_tokens=5)
    assert short.token_ids == greedy.token_ids[:5] and short.clipped and short.length == 5
    (drawn,) = policy.generate(QUESTION, temperature=5.0)
    assert drawn.token_ids != greedy.token_ids


# Beside the commands


def test_explain_is_what_the_command_writes(tmp_path):
    rows = [
        {"id": "a", "question": QUESTION, "answer": "3 + 4 = 7. 7 + 2 = 9. The answer is 9."},
        {"question": "How many are 5 and 6?", "answer": "<b>It is 11.</b>"},
    ]
    given, written = write_lines(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    run_command(
        "sar_jax.explain", f"--model={TINY}", f"--input={given}", f"--output={written}", check=True
    )
    found = sar_jax.load(TINY).explain(rows)
    for ours, line in zip(found, written.read_text().splitlines(), strict=True):
        theirs = json.loads(line)
        assert ours.to_json().keys() == theirs.keys()
        for name, value in theirs.items():
            numbers = isinstance(value, float) or name.startswith("token_")
            expected = pytest.approx(value, rel=1e-3, abs=1e-4) if numbers else value
            assert ours.to_json()[name] == expected, name
    assert found[0].extra == {"id": "a"} and found[1].extra == {}
    pairs = [(row["question"], row["answer"]) for row in rows]
    assert [e.self_aligned for e in sar_jax.load(TINY).explain(pairs)] == pytest.approx(
        [e.self_aligned for e in found], abs=1e-6
    )


def test_a_notebook_sees_tokens_in_colour_and_text_as_text(policy):
    (shown,) = found = policy.explain(("1 <i>and</i> 2?", "<script>alert(1)</script> & 3"))
    page = found._repr_html_()
    assert page == shown._repr_html_() and page.count("<span ") == len(shown.tokens)
    assert {*re.findall(r"</?(\w+)", page)} == {"div", "span", "b"}
    text = html.unescape(re.sub(r"<[^>]*>", "", page))
    assert text.startswith("1 <i>and</i> 2?<script>alert(1)</script> & 3")
    assert f"R_SA {shown.self_aligned:+.3f}" in page
    white = dataclasses.replace(shown, token_values=[0.0] * len(shown.tokens))
    assert "#ffffff" in white._repr_html_() and white._repr_html_() != page


def test_evaluate_is_what_the_command_writes(policy, tmp_path):
    run_command(
        "sar_jax.evaluate",
        f"--model={TINY}",
        "--config=configs/tiny.py",
        "--tasks=arithmetic:6",
        "--samples=2",
        f"--output={tmp_path / 'command'}",
        check=True,
    )
    found = policy.evaluate(["arithmetic:6"], samples=2, output=tmp_path / "api")
    read = lambda name: json.loads((tmp_path / name / "results.json").read_text())
    assert read("command") == read("api") == json.loads(json.dumps(found.results.to_json()))
    (task,) = found.tasks.values()
    assert task.accuracy == np.mean([answer.correct for answer in task.answers])
    assert task.interval[0] <= task.accuracy <= task.interval[1] and len(task.answers) == 12
    assert task.length == pytest.approx(np.mean([answer.length for answer in task.answers]))
    assert "| arithmetic |" in found._repr_markdown_()


# What is wrong

WRONG = [
    ("sj.load('')", "path is ''"),
    ("sj.load('nowhere')", "nowhere: no such folder"),
    ("sj.load(TINY, step=3)", "step is 3, but"),
    ("sj.load(TINY, step=True)", "step is True: it must be a whole number"),
    ("sj.load(TINY, {})", "config is a dict: give a TrainConfig, or the path of a config file"),
    ("sj.load(TINY, sj.PretrainConfig())", "config is a PretrainConfig"),
    ("sj.load(TINY, 'nowhere.py')", "config: no such file: nowhere.py"),
    ("policy.generate([])", "questions is empty"),
    ("policy.generate(3)", "questions is a int: give a list"),
    ("policy.generate({'question': 'x'})", "questions is a dict: give a list"),
    ("policy.generate(['x', None])", "questions: number 2 is None, which is no text"),
    ("policy.generate(['x', 'word ' * 200])", "config.data.max_prompt_tokens is 80"),
    ("policy.generate('x', 0)", "samples is 0: it must be a whole number, at least 1"),
    ("policy.generate('x', temperature=-1)", "temperature is -1"),
    ("policy.generate('x', max_answer_tokens=97)", "config.rollout.max_answer_tokens is 96"),
    ("policy.explain('text')", "pairs is a str: give a list"),
    ("policy.explain([])", "pairs is empty"),
    ("policy.explain(['question', 'answer'])", "pair 1 is 'question'"),
    ("policy.explain([('q', 'a'), ('q', ' ')])", "pair 2: the answer is empty"),
    ("policy.explain([{'question': 'q'}])", "pair 1: the answer is empty"),
    ("policy.evaluate([])", "tasks is empty"),
    ("policy.evaluate('arithmetik')", "unknown data source 'arithmetik'"),
    ("policy.evaluate(['gsm8k', 'gsm8k:3'])", "tasks names gsm8k more than once"),
    ("policy.export('tests')", "tests is not an empty folder"),
    ("sj.train(3)", "config is a int"),
    ("sj.train('configs/tiny_pretrain.py')", "configs/tiny_pretrain.py: get_config() must return"),
    ("sj.train(sj.TrainConfig())", "config.data.train"),
    ("sj.train('configs/tiny.py', on_step=3)", "on_step is 3"),
    ("sj.train('configs/tiny.py', 'tests')", "tests is not empty, and what it holds is not a run"),
    ("sj.plan('configs/tiny.py', 8)", "topology is 8"),
    ("sj.plan('configs/tiny.py', 'v5e:3x3')", "topology is 'v5e:3x3'"),
]
CALLS = """
import json, sys
import sar_jax as sj
TINY, lines = sys.argv[1], json.loads(sys.argv[2])
policy, said = sj.load(TINY, "configs/tiny.py"), []
for line in lines:
    try:
        eval(line)
        said.append(["nothing", ""])
    except Exception as error:
        said.append([type(error).__name__, str(error)])
print("SAID" + json.dumps(said))
"""


@pytest.fixture(scope="module")
def said() -> dict[str, list[str]]:
    """What calls raise, in a process where annotations are not checked: as for a user."""
    lines = [line for line, _ in WRONG]
    done = subprocess.run(
        [sys.executable, "-c", CALLS, TINY, json.dumps(lines)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(lines, json.loads(done.stdout.rpartition("SAID")[2]), strict=True))


@pytest.mark.parametrize("line, expected", WRONG)
def test_a_wrong_call_is_one_line(line, expected, said):
    kind, text = said[line]
    assert kind == "UserError" and expected in text and "\n" not in text and "--" not in text, text


@calls.one_line
def _raising(error: BaseException):
    raise error


def test_errors_that_a_user_can_mend_are_one_line_and_keep_nothing_alive():
    full = OSError(28, "No space left on device", "/x/y")
    exhausted = RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1024 bytes.")
    for error, words in (
        (UserError("a\nb: choose another --workdir"), "^a b: choose another workdir$"),
        (full, "/x/y: No space left on device"),
        (MemoryError(), "memory is too small"),
        (exhausted, "memory"),
    ):
        with pytest.raises(UserError, match=words) as found:
            _raising(error)
        assert "\n" not in str(found.value) and found.value.__context__ is None
    for other in (ValueError("mine"), KeyboardInterrupt(), OSError("no number")):
        with pytest.raises(type(other)) as found:
            _raising(other)
        assert found.value is other


def test_a_config_that_is_given_is_not_changed():
    config = shipped("tiny")
    config.model.path = TINY
    before = json.dumps(dataclasses.asdict(config))
    policy = sar_jax.load(TINY, config)
    policy.config.steps = 7
    config.data.max_prompt_tokens = 81
    assert policy.config.data.max_prompt_tokens == 80 and policy.config.steps != 7
    config.data.max_prompt_tokens = 80
    assert json.dumps(dataclasses.asdict(config)) == before
