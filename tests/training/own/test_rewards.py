"""Rewards of one's own: what they see, and one line for each that cannot be used."""

import numpy as np
import pytest

from sar_jax.config import TrainConfig
from sar_jax.errors import UserError
from sar_jax.rl.rewards import Signals
from sar_jax.structs import Rollouts
from sar_jax.text.answers.verifier import Outcome
from sar_jax.text.prompts import Question
from sar_jax.text.tasks.example import Example
from sar_jax.training.grids import Scored
from sar_jax.training.own import rewards as own_rewards
from sar_jax.training.rollouts import Verdicts

SOURCE = """
import time
import numpy as np
SEEN = []

def sees(answers, keep=1):
    SEEN.append(list(answers))
    return [keep * answer.length for answer in answers]

def grouped(group):
    SEEN.append(list(group))
    least = min(answer.length for answer in group)
    return np.array([answer.length - least for answer in group])

def hint(answers): return [answer.extra["level"] / 10 for answer in answers]
def bools(answers): return (answer.correct for answer in answers)
def few(answers): return [1.0]
def nan(answers): return [float("nan")] * len(answers)
def infinite(answers): return [1e400] * len(answers)
def nones(answers): return [None] * len(answers)
def texts(answers): return ["1"] * len(answers)
def nothing(answers): pass
def one(answers): return 1.0
def raises(answers): return 1 / 0
def exits(answers): raise SystemExit
def sleeps(answers): time.sleep(600)
def later(answers): return [1 // (4 - a.length) for a in answers]
def none_at_all(): return []
class Callable:
    def __call__(self, answers): return [1.0] * len(answers)
an_object = Callable()
class NoCall: pass
class Sized:
    def __init__(self, by): self.by = by
    def __call__(self, group): return [self.by * answer.length for answer in group]
async def waits(answers): return [1.0] * len(answers)
def column(answers): return np.ones((len(answers), 1))
def tensor(answers):
    import torch
    return torch.ones(len(answers), 1, dtype=torch.bfloat16, requires_grad=True)
def changes(answers):
    for answer in answers:
        answer.extra["level"] = 99
        answer.tokens.clear()
        answer.values[:] = 0
    return [0.0] * len(answers)
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.py").write_text(SOURCE)
    return tmp_path / "my.py"


def rows():
    return [
        Question(Example("1", "2 + 3?", "5", extra={"level": 3}), [1, 2]),
        Question(Example("2", "1 + 1?", "2", extra={"level": 7}), [1, 2, 3]),
    ]


def step():
    """Two questions, two answers each, of 1, 2, 3 and 4 tokens."""
    lengths = np.array([1, 2, 3, 4])
    tokens = np.arange(16).reshape(4, 4)
    logps = [-np.arange(1.0, n + 1) for n in lengths]
    alone = [x - 0.5 * (i + 1) for i, x in enumerate(logps)]
    blank, stopped = np.zeros((4, 4)), np.array([True, True, False, True])
    rollouts = Rollouts(tokens, lengths, blank, stopped, blank)
    verdicts = Verdicts([Outcome.RIGHT, Outcome.WRONG, Outcome.ERROR, Outcome.RIGHT], list("abcd"))
    scored = Scored(logps=logps, entropy=logps, alone=alone, ref_logps=(), values=())
    mean = lambda values: np.array([x.mean() for x in values]).reshape(2, 2)
    correct = np.array([[True, False], [False, True]])
    signals = Signals(correct, lengths.reshape(2, 2), mean(logps), mean(alone), 9)
    return rows(), rollouts, verdicts, scored, signals


def load(custom: str, seconds: float = 60.0):
    config = TrainConfig()
    config.rewards.custom, config.rewards.custom_timeout = custom, seconds
    return own_rewards.load(config)


def seen(reward):
    return reward.plugin.value.__globals__["SEEN"]


@pytest.mark.quick
def test_it_sees_every_answer_of_the_step(file):
    (reward,) = load("my.py:sees(keep=2)=0.5")
    found = own_rewards.values([reward], *step())
    assert found["sees"].tolist() == [[2, 4], [6, 8]]
    ((a, b, c, d),) = seen(reward)
    assert (a.question, a.truth, a.extra) == ("2 + 3?", "5", {"level": 3})
    assert (d.question, d.truth, d.extra) == ("1 + 1?", "2", {"level": 7})
    assert [x.text for x in (a, b, c, d)] == list("abcd")
    assert (c.tokens, c.length, c.finished) == ([8, 9, 10], 3, False) and d.finished
    assert [(x.correct, x.verdict) for x in (a, b, c, d)] == [
        (True, "right"), (False, "wrong"), (False, "error"), (True, "right"),
    ]  # fmt: skip
    assert (b.mean_logp, b.mean_logp_alone) == (-1.5, -2.5)
    np.testing.assert_allclose(c.values, [1.5, 1.5, 1.5])


def test_a_group_at_a_time(file):
    rewards = load("my.py:grouped=1")
    assert own_rewards.values(rewards, *step())["grouped"].tolist() == [[0, 1], [0, 1]]
    assert [[answer.text for answer in group] for group in seen(rewards[0])] == [
        ["a", "b"],
        ["c", "d"],
    ]


def test_columns_truth_values_generators_and_objects(file):
    rewards = load("my.py:hint=1, my.py:bools=1, my.py:an_object=1, my.py:few=0")
    found = own_rewards.values(rewards, *step())
    assert found["hint"].tolist() == [[0.3, 0.3], [0.7, 0.7]]
    assert found["bools"].tolist() == [[1, 0], [0, 1]]
    assert found["an_object"].tolist() == [[1, 1], [1, 1]]
    assert set(found) == {"hint", "bools", "an_object"}  # without a weight it is not called


def test_classes_arrays_and_tensors(file):
    rewards = load("my.py:Sized(by=3)=1, my.py:Callable=1, my.py:column=1, my.py:tensor=1")
    found = own_rewards.values(rewards, *step())
    assert found["Sized"].tolist() == [[3, 6], [9, 12]]
    assert all(found[name].tolist() == [[1, 1]] * 2 for name in ("Callable", "column", "tensor"))


def test_what_it_changes_stays_its_own(file):
    inputs = step()
    own_rewards.values(load("my.py:changes=1"), *inputs)
    assert [row.example.extra for row in inputs[0]] == [{"level": 3}, {"level": 7}]
    assert inputs[1].tokens.tolist() == np.arange(16).reshape(4, 4).tolist()
    assert inputs[3].alone[0].tolist() == [-1.5]


@pytest.mark.parametrize(
    "name, words",
    [
        ("few", "returned 1 numbers for 2 answers"),
        ("nan", "returned nan for the answer 'The answer is 5.'"),
        ("infinite", "returned inf for the answer"),
        ("nones", "returned [None, None]: it must return a list with one number for each answer"),
        ("texts", "returned ['1', '1']: it must return a list with one number for each answer"),
        ("nothing", "returned None: it must return a list"),
        ("one", "returned 1.0: it must return a list"),
        ("raises", "line 24: ZeroDivisionError: division by zero"),
        ("exits", "line 25: SystemExit"),
        ("sleeps", "it took over 0.5 seconds"),
        ("waits", "is async: name a plain function"),
    ],
)
def test_what_is_wrong_shows_on_made_up_answers(file, name, words):
    rewards = load(f"my.py:{name}=1", 0.5)
    with pytest.raises(UserError) as error:
        own_rewards.rehearse(rewards, rows())
    said = str(error.value)
    assert said.startswith(f"config.rewards.custom: my.py:{name}") and words in said
    assert "\n" not in said


def test_and_later_too(file):
    rewards = load("my.py:later=1")
    own_rewards.rehearse(load("my.py:sees=1"), rows())
    with pytest.raises(UserError, match="my.py:later: line 27: ZeroDivisionError"):
        own_rewards.values(rewards, *step())


@pytest.mark.parametrize(
    "custom, words",
    [
        ("my.py:sees", "'my.py:sees' has no weight: give each as FILE.py:NAME=WEIGHT"),
        ("my.py:sees=", "has no weight"),
        ("my.py:sees=a", "has no weight"),
        ("my.py:sees=nan", "has no weight"),
        ("my.py:sees=inf", "has no weight"),
        ("my.py:sees(keep=2)", "has no weight"),
        ("sees=1", "'sees' is not FILE.py:NAME"),
        ("my.py:sees=1,my.py:sees=2", "two of them are named 'sees'"),
        ("my.py:sees=1,other.py:sees=2", "two of them are named 'sees'"),
        ("my.py:length=1", "a reward that comes along is named 'length'"),
        ("my.py:none_at_all=1", "cannot be called with the answers and its parameters"),
        ("my.py:sees(kept=2)=1", "cannot be called with the answers and its parameters"),
        ("my.py:NoCall=1", "my.py:NoCall is a class without a method __call__"),
        ("my.py:Callable(size=1)=1", "TypeError: Callable() takes no arguments"),
        ("my.py:zees=1", "my.py has no 'zees': did you mean 'sees'?"),
    ],
)
def test_what_the_config_says_wrong_is_named(file, custom, words):
    with pytest.raises(UserError) as error:
        load(custom)
    assert words in str(error.value) and "config.rewards.custom" in str(error.value)


def test_weights_are_numbers_of_any_form():
    custom = "a.py:f(x='=')=1e-3, b.c:g = -2 ,d.py:h=.5"
    assert own_rewards.weights(custom) == {"f": 1e-3, "g": -2.0, "h": 0.5}
    assert own_rewards.weights("") == {}
