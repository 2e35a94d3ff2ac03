"""Whatever an answer holds, it gets one outcome, its neighbours get theirs, and the workers live
on."""

import multiprocessing
import os
import pathlib
import random
import re
import resource
import signal
import subprocess
import sys
import threading
import time

import pytest
from support.commands import PATIENCE, ROOT, wait_for

from sar_jax.errors import UserError
from sar_jax.text.answers import worker
from sar_jax.text.answers.verifier import ErrorShare, Item, Outcome, Verifier

SECONDS = 4  # for a comparison: some tests wait for them to pass, all others need a hundredth
RIGHT, WRONG, ERROR = Outcome.RIGHT, Outcome.WRONG, Outcome.ERROR
GOOD = [
    Item(r"\boxed{2\sqrt{3}}", r"\sqrt{12}"),
    Item(r"\boxed{\sqrt{3}}", r"\sqrt{12}"),
    Item("#### 1,234", "1234"),
    Item("I see 5", "4"),
    Item("It is (C).", "C", "choice"),
    Item("E", "D", "choice", 5),
    Item("False", "B", "boolean"),
    Item("10-3", "-3", "last_number"),
    Item(r"\boxed{[0,1)}", "[0, 1)"),
    Item(r"\boxed{x^2}", "2"),
]
EXPECTED = [RIGHT, WRONG, RIGHT, WRONG, RIGHT, WRONG, RIGHT, RIGHT, RIGHT, WRONG]


def deed(letter: str) -> Item:
    """An answer at which `hostile` does what stands under this letter."""
    return Item(rf"\boxed{{{letter}^1}}", "x+1")


@pytest.fixture(scope="module")
def verifier():
    with Verifier(workers=2, timeout=SECONDS, equal="support.hostile:equal") as pool:
        yield pool


def test_outcomes_come_in_the_order_of_the_items(verifier):
    order = list(range(len(GOOD))) * 5
    random.Random(0).shuffle(order)
    assert verifier.check([GOOD[i] for i in order]) == [EXPECTED[i] for i in order]
    assert verifier.check([]) == []


@pytest.mark.parametrize(
    "letter, reason",
    [
        ("h", f"took over {SECONDS} seconds"),
        ("q", "its process died (exit status 3)"),
        ("m", "MemoryError"),
        ("f", "ArithmeticError"),
        ("s", f"its process died (exit status {-signal.SIGSEGV})"),
    ],
)
def test_a_hostile_answer_is_an_error_for_itself_alone(verifier, letter, reason):
    handle = verifier.submit([*GOOD, deed(letter), *GOOD])
    assert handle.result() == [*EXPECTED, ERROR, *EXPECTED]
    assert handle.reasons == {len(GOOD): reason}
    assert verifier.check(GOOD) == EXPECTED


def test_every_worker_survives_more_hostile_answers_than_there_are_workers(verifier):
    handle = verifier.submit([deed(letter) for letter in "qfmsq"] + GOOD)
    assert handle.result() == [ERROR] * 5 + EXPECTED
    assert sorted(handle.reasons) == list(range(5))


def test_an_exception_while_judging_is_an_error_for_itself_alone(verifier):
    handle = verifier.submit([GOOD[0], Item("A", "Z", "choice"), GOOD[1]])
    assert handle.result() == [RIGHT, ERROR, WRONG]
    assert "not one of the 4 choices" in handle.reasons[1]


def test_submit_returns_before_the_outcome_is_there(tmp_path, monkeypatch):
    monkeypatch.setenv("HOSTILE_FILE", str(tmp_path / "go"))
    with Verifier(workers=1, timeout=PATIENCE, equal="support.hostile:equal") as pool:
        first, second = pool.submit([deed("w")]), pool.submit([GOOD[0]])
        (tmp_path / "go").touch()  # had submit waited, the answer would have timed out
        assert second.result() == [RIGHT] and first.result() == [RIGHT]


def test_a_handle_gives_its_result_twice_and_to_several_threads(verifier):
    handle, found = verifier.submit(GOOD), []
    threads = [threading.Thread(target=lambda: found.append(handle.result())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [EXPECTED] * 4 == [handle.result()] * 4


def test_workers_know_no_jax(verifier):
    """Though this process does, and whatever its main module is."""
    assert "jax" in sys.modules
    assert verifier.check([deed("j"), deed("j")]) == [RIGHT, RIGHT]


def test_a_worker_that_died_idle_is_replaced_without_an_error(verifier):
    for thread in verifier._threads:
        assert thread.is_alive()
    killed = children(os.getpid())
    for child in killed:
        os.kill(child, signal.SIGKILL)
    wait_for(lambda: not any(map(is_running, killed)))
    assert verifier.check(GOOD * 4) == EXPECTED * 4


def test_an_interrupt_is_the_trainers_alone(verifier):
    assert verifier.check(GOOD * 4) == EXPECTED * 4
    before = children(os.getpid())
    for child in before:
        os.kill(child, signal.SIGINT)
    time.sleep(0.2)
    assert before and children(os.getpid()) == before


def test_a_worker_is_replaced_when_it_has_compared_enough(monkeypatch):
    monkeypatch.setattr("sar_jax.text.answers.verifier._COMPARISONS", 3)
    with Verifier(workers=1, timeout=PATIENCE, equal="support.hostile:equal") as pool:
        assert pool.check([GOOD[0]]) == [RIGHT]
        before = children(os.getpid())
        assert pool.check([GOOD[0]]) == [RIGHT]
        assert children(os.getpid()) == before  # twice is not too often
        assert pool.check([GOOD[0]] * 3) == [RIGHT] * 3
        assert len(children(os.getpid()) - before) == 1


def test_a_worker_that_ran_out_of_memory_is_replaced():
    with Verifier(workers=1, timeout=PATIENCE, equal="support.hostile:equal") as pool:
        assert pool.check([GOOD[0]]) == [RIGHT]
        before = children(os.getpid())
        assert pool.check([deed("m"), GOOD[0]]) == [ERROR, RIGHT]
        assert len(children(os.getpid()) - before) == 1


def test_a_closed_verifier_has_no_processes_and_says_so():
    before = children(os.getpid())
    pool = Verifier(workers=2, timeout=1, equal="support.hostile:equal")
    handle = pool.submit([deed("h"), deed("h"), *[GOOD[0]] * 5])
    pool.close()
    assert children(os.getpid()) <= before
    with pytest.raises(RuntimeError, match="closed"):
        handle.result()
    with pytest.raises(RuntimeError, match="closed"):
        pool.check(GOOD)


def test_workers_end_with_the_trainer_even_while_they_hang():
    code = (
        "import sys, time; from sar_jax.text.answers.verifier import Item, Verifier\n"
        "v = Verifier(2, 0.5, 'support.hostile:equal')\n"
        "v.check([Item('\\\\boxed{p^1}', 'x+1')] * 20)\n"
        "v.submit([Item('\\\\boxed{h^1}', 'x+1')]); print('up', flush=True); time.sleep(60)"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    trainer = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE
    )
    assert trainer.stdout.readline() == b"up\n"
    workers = children(trainer.pid)
    trainer.kill()
    trainer.wait()
    trainer.stdout.close()
    assert len(workers) == 2
    wait_for(lambda: not any(map(is_running, workers)))


@pytest.mark.parametrize("equal", ["no_such_module:equal", "support.hostile:without_its_libraries"])
def test_workers_that_cannot_start_are_one_clear_error(equal, capfd):
    with Verifier(workers=1, timeout=1, equal=equal) as pool:
        assert pool.check([GOOD[2]]) == [RIGHT]  # needs no worker
        for _ in range(2):
            with pytest.raises(UserError, match="worker did not start.*math_verify"):
                pool.check(GOOD)
    assert "no_such_" in capfd.readouterr().err


@pytest.mark.parametrize("workers, timeout", [(0, 1), (1, 0), (1, -1)])
def test_a_pool_without_workers_or_time_is_refused(workers, timeout):
    with pytest.raises(ValueError, match="workers"):
        Verifier(workers, timeout)


def test_an_unknown_kind_is_refused_by_name(verifier):
    with pytest.raises(ValueError, match="'maths'.*last_number"):
        verifier.submit([Item("5", "5", "maths")])


PIECES = [
    r"\boxed{",
    "{",
    "}",
    r"\frac{",
    "answer is ",
    "####",
    "$",
    r"\(",
    r"\text{",
    "^",
    "_",
    "1,234",
    "/",
    "-",
    "\n",
    r"\sqrt",
    "(",
    ")",
    "[",
    r"\begin{pmatrix}",
    "&",
    r"\\",
    "%",
    " A ",
    "true",
    "\0",
    "\ud800",
    "٣",
    "e",
    "=",
]


def answers_of_a_broken_model(count: int) -> list[Item]:
    """Random bytes, unclosed braces, deep nesting, huge numbers, and towers of powers, of which one
    is left to kill."""
    draw = random.Random(0)
    makers = [
        lambda: draw.randbytes(draw.randrange(300)).decode("latin-1"),
        lambda: draw.randbytes(draw.randrange(300)).decode("utf-8", "surrogateescape"),
        lambda: "".join(draw.choices(PIECES, k=draw.randrange(60))),
        lambda: r"\boxed{" + "".join(draw.choices(PIECES[1:], k=10)) + "}",
        lambda: (
            draw.choice([r"\boxed{", "{", "(", r"\frac{1}{", r"\sqrt{", r"\boxed{\sqrt{"])
            * draw.randrange(1, 2000)
        ),
        lambda: (
            r"\boxed{"
            + nested(draw.choice([r"\sqrt{", "{", r"\frac{1}{"]), "}", draw.randrange(1, 99))
            + "}"
        ),
        lambda: (
            r"\boxed{"
            + nested(draw.choice("([|"), draw.choice(")]|"), draw.randrange(1, 240))
            + "}"
        ),
    ]
    truths = ["5", "1,234", r"\frac{1}{2}", "x+1", r"\sqrt{2}", "true", r"\boxed{3}", ""]
    weights = [90, 20, 20, 1, 1, 1, 10, 1]
    # The kinds of small weight often reach computer algebra, which takes a hundred times as long.
    # of 20 numbers and 3 towers
    kinds = draw.choices(makers, [20, 20, 6, 1, 20, 0.2, 0.2], k=count - 23)
    items = [Item(make(), draw.choices(truths, weights)[0]) for make in kinds]
    items += [
        Item(f"{before}{draw.choice('123456789') * 100_000}{after}", truth)
        for before, after in (
            ("", ""),
            (r"\boxed{", "}"),
            ("#### 1/", ""),
            (r"\boxed{\frac{", "}{3}}"),
            ("", ".5e9"),
        )
        for truth in ("5", r"\sqrt{2}", "7" * 100_000, "choice_1")
    ]
    items += [Item(text, "5") for text in ("9**9**9**9", r"\boxed{9**9**9**9}", TOWER)]
    draw.shuffle(items)
    return items


def nested(before: str, after: str, depth: int) -> str:
    return before * depth + "2" + after * depth


TOWER = r"\boxed{9^{9^{9^{9}}}}"


def test_nothing_that_a_broken_model_writes_stops_the_pool(verifier):
    items = answers_of_a_broken_model(2_000)
    assert len(items) == 2_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    handle = verifier.submit(items)
    outcomes = handle.result()
    assert len(outcomes) == len(items) and set(outcomes) <= set(Outcome)
    assert outcomes.count(ERROR) == len(handle.reasons) <= 20, handle.reasons
    assert outcomes.count(RIGHT) < 100  # a text of few characters may be right by chance
    (tower,) = (i for i, item in enumerate(items) if item.text == TOWER)
    assert outcomes[tower] == ERROR
    # which one is a matter of speed
    assert handle.reasons[tower] in (f"took over {SECONDS} seconds", "MemoryError")
    # kB, of the trainer's process
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
    assert verifier.check(GOOD) == EXPECTED
    # a worker that was replaced sets its limit as it starts, before it reads anything
    wait_for(lambda: are_limited(children(os.getpid())))


def are_limited(pids: set[int]) -> bool:
    """Are there any, and has each the workers' limit of memory?"""
    try:
        limits = [(pathlib.Path("/proc") / str(pid) / "limits").read_text() for pid in pids]
    except OSError:  # one is gone
        return False
    said = rf"^Max address space +{2**30} "
    return bool(limits) and all(re.search(said, text, re.MULTILINE) for text in limits)


def test_the_run_stops_when_too_many_answers_cannot_be_verified(verifier):
    share = ErrorShare(limit=0.25, window=8)
    bad = Item("The answer is A.", "Z", "choice")
    share.add(verifier.submit([bad] * 3))  # 100 %, but of fewer than 8
    share.add(verifier.submit(GOOD[2:8]))  # 2 of the last 8 are errors
    assert share.share == 0.25
    share.add(verifier.submit([*GOOD[2:4], bad]))
    assert share.share == 0.125
    with pytest.raises(UserError) as raised:
        share.add(
            verifier.submit(
                [deed("f"), bad, Item("B", "Y", "choice"), Item("last", "Y", "choice"), deed("q")]
            )
        )
    message = str(raised.value)
    assert message.startswith(
        "75.0% of the last 8 answers could not be verified, "
        "more than the limit of 25.0%; for example"
    )
    assert (
        "(2 times) ValueError: the true answer 'Z'" in message
        and "answer ending in 'last', truth 'Y'" in message
    )
    assert message.count("'Y'") == 2 and message.count(" times) ") == 3 and "\n" not in message


def test_few_errors_never_stop_a_run(verifier):
    share = ErrorShare(limit=0.5, window=4)
    for _ in range(5):
        share.add(
            verifier.submit([Item("A", "Z", "choice"), GOOD[2], GOOD[3], Item("A", "Z", "choice")])
        )
    assert share.share == 0.5
    assert ErrorShare(0.1, 10).share == 0


def test_a_worker_answers_with_a_verdict_or_the_name_of_an_exception():
    ours, theirs = multiprocessing.Pipe()
    replies = []

    def ask():
        for pair in (("1", "1"), ("1", "2"), ("1", "zero")):
            replies.append(ours.recv())
            ours.send((False, pair))
        replies.append(ours.recv())
        ours.close()

    asking = threading.Thread(target=ask)
    asking.start()
    before = signal.getsignal(signal.SIGALRM)
    with theirs:
        worker.work(theirs, PATIENCE, lambda given, truth: int(given) == int(truth))
    signal.signal(signal.SIGALRM, before)
    asking.join()
    assert replies == [worker.READY, True, False, "ValueError"]
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def children(pid: int) -> set[int]:
    """The worker processes that a process started and that run."""
    found = set()
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if (
                entry.name.isdigit()
                and b"sar_jax.text.answers.worker" in (entry / "cmdline").read_bytes()
            ):
                parent = (entry / "stat").read_text().rpartition(")")[2].split()
                found |= {int(entry.name)} if int(parent[1]) == pid and parent[0] != "Z" else set()
        except OSError:  # it is gone
            pass
    return found


def is_running(pid: int) -> bool:
    try:
        return (pathlib.Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[
            0
        ] != "Z"
    except OSError:
        return False
