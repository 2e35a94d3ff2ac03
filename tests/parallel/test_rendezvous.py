"""The processes of a run meet at a port: who is missing is named, and strangers hold nobody up."""

import contextlib
import json
import socket
import threading
import time

import pytest
from support.commands import PATIENCE, free_port, wait_for

from sar_jax.errors import UserError
from sar_jax.parallel import rendezvous, signing

TAKEN = "cannot listen on port"


def meet(count, who, timeout=float(PATIENCE), counts=None):
    """What each process of `who` got: None or the error. counts: what single ones take for the
    number of processes."""
    got = _meet(f"127.0.0.1:{free_port()}", count, who, timeout, counts or {})
    taken = any(error and TAKEN in error for error in got.values())
    return meet(count, who, timeout, counts) if taken else got


def _meet(address, count, who, timeout, counts):
    got = {}

    def call(place, own):
        try:
            got[place] = rendezvous.meet(address, counts.get(place, count), own, timeout)
        except UserError as error:
            got[place] = str(error)

    # a list of pairs, where two have the same number
    named = [entry if isinstance(entry, tuple) else (entry, entry) for entry in who]
    threads = [threading.Thread(target=call, args=entry) for entry in named]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    return got


@pytest.fixture
def token(monkeypatch):
    monkeypatch.setenv(signing.TOKEN, "a secret of ours: ü, \udcff")


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 2, 0]])
def test_all_meet_in_any_order(order):
    assert meet(4, order) == dict.fromkeys(range(4))


def test_all_meet_with_the_same_token(token):
    assert meet(3, [1, 0, 2]) == dict.fromkeys(range(3))


def test_one_process_meets_nobody():
    assert meet(1, [0]) == {0: None}


def test_whoever_does_not_come_is_named_by_all_who_did():
    got = meet(4, [0, 2], timeout=4)
    assert set(got) == {0, 2} and all(
        "process 1, 3 of 4 did not reach" in error for error in got.values()
    )


def test_without_the_first_process_it_is_the_one_that_is_named():
    got = meet(2, [1], timeout=2)
    assert "process 0 of 2 did not reach" in got[1]


def test_two_with_the_same_number_are_told_so_and_the_first_one_stays():
    got = meet(3, [0, ("one", 1), ("another", 1), 2])
    assert got["one"] is None and got[0] is None and got[2] is None
    assert "another process with --process=1 is here already" in got["another"]


def test_another_number_of_processes_is_named():
    got = meet(3, [0, 1, (2, 2)], timeout=4, counts={2: 4})
    assert "its --processes is 4, that of process 0 is 3" in got[2]
    assert all("process 2 of 3 did not reach" in got[p] for p in (0, 1))
    assert "its --processes is 4" in got[0]


class Stranger:
    """A connection to a meeting; `hello` is process 0's greeting."""

    def __init__(self, place):
        self.socket = socket.socket()
        wait_for(lambda: self.socket.connect_ex(place) == 0)
        self.socket.settimeout(PATIENCE)
        self.file = self.socket.makefile("rwb")
        self.hello = json.loads(self.file.readline())

    def say(self, data: bytes) -> None:
        self.file.write(data)
        self.file.flush()

    def introduce(self, process, processes=2, token=None, monkeypatch=None):
        code = "none"
        if token is not None:
            monkeypatch.setenv(signing.TOKEN, token)
            code = signing.sign(self.hello["nonce"], process, processes)
        fields = {"process": process, "processes": processes, "nonce": "n", "code": code}
        self.say(json.dumps(fields).encode() + b"\n")

    def answer(self) -> bytes:
        return self.file.readline()


@pytest.fixture
def meeting():
    """A meeting of process 0 of two, for four seconds; gives its place, and what it ended with."""
    place, got = ("127.0.0.1", free_port()), []

    def first():
        try:
            got.append(rendezvous.meet("{}:{}".format(*place), 2, 0, 4))
        except UserError as error:
            got.append(str(error))

    thread = threading.Thread(target=first)
    thread.start()
    yield place, got, thread
    thread.join()


SAID = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"\n",
    b"\xff\xfe\n",
    b"[1]\n",
    b"[" * 50_000 + b"\n",  # deeper than the stack
    b"1" * 10_000 + b"\n",
    b"x" * 10**6,  # a line without end
    b'{"process": 1}\n',
    b"",  # silent
]


def test_a_stranger_at_the_port_is_not_taken_for_a_process(meeting, caplog):
    place, got, thread = meeting
    strangers = [Stranger(place) for _ in SAID]
    for stranger, said in zip(strangers, SAID):
        with contextlib.suppress(ConnectionError):  # sent away before it had said everything
            stranger.say(said)
    thread.join()
    assert "process 1 of 2 did not reach" in got[0]
    assert not caplog.records  # no traceback of what a stranger said


def test_only_numbers_of_the_run_are_taken(meeting, monkeypatch):
    place, got, thread = meeting
    for process in (0, 2, -1, 10**30, True, 1.0, "1", None, [1]):
        Stranger(place).introduce(process, token="", monkeypatch=monkeypatch)
    thread.join()
    assert "process 1 of 2 did not reach" in got[0]


def test_strangers_do_not_hold_up_the_others():
    """Two hundred of them are connected, and silent or slow, while the processes meet."""
    address = f"127.0.0.1:{free_port()}"
    place = "127.0.0.1", int(address.rpartition(":")[2])
    got, strangers = {}, []

    def call(own):
        got[own] = rendezvous.meet(address, 3, own, float(PATIENCE))

    threads = {own: threading.Thread(target=call, args=(own,)) for own in range(3)}
    threads[0].start()
    for number in range(200):
        strangers.append(Stranger(place))
        if number % 2:
            strangers[-1].say(b'{"proc')
    for own in (1, 2):
        threads[own].start()
    for thread in threads.values():
        thread.join()
    assert got == dict.fromkeys(range(3))


def test_without_the_token_a_caller_is_turned_away_and_both_say_why(token, meeting):
    place, got, thread = meeting
    stranger = Stranger(place)
    stranger.introduce(1)
    assert b"its token is not process 0's" in stranger.answer()
    thread.join()
    assert "process 1 of 2 did not reach" in got[0] and signing.TOKEN in got[0]


def test_what_one_caller_said_is_of_no_use_to_another(token, meeting):
    """Who heard a process say its code cannot say it again: process 0 asks something else."""
    place, got, thread = meeting
    first, second = Stranger(place), Stranger(place)
    assert first.hello["nonce"] != second.hello["nonce"]
    code = signing.sign(first.hello["nonce"], 1, 2)
    fields = {"process": 1, "processes": 2, "nonce": "n", "code": code}
    second.say(json.dumps(fields).encode() + b"\n")
    assert b"its token is not process 0's" in second.answer()
    thread.join()


@pytest.mark.parametrize("answer", ['{"missing": []}', '{"missing": [], "code": "x"}', "[]", "{"])
def test_who_sits_at_the_port_and_does_not_know_the_token_is_not_process_0(token, answer):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def impostor():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b'{"nonce": "0"}\n' + answer.encode() + b"\n")
                    connection.recv(2**12)

        thread = threading.Thread(target=impostor, daemon=True)
        thread.start()
        with pytest.raises(UserError, match="process 0 of 2 did not reach"):
            rendezvous.meet(f"127.0.0.1:{server.getsockname()[1]}", 2, 1, 2)
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_process_that_ends_while_it_waits_has_not_come(monkeypatch):
    address = f"127.0.0.1:{free_port()}"
    place, got = ("127.0.0.1", int(address.rpartition(":")[2])), {}

    def call(own):
        try:
            got[own] = rendezvous.meet(address, 3, own, 6)
        except UserError as error:
            got[own] = str(error)

    threads = [threading.Thread(target=call, args=(own,)) for own in (0, 1)]
    threads[0].start()
    gone = Stranger(place)
    gone.introduce(2, processes=3, token="", monkeypatch=monkeypatch)
    time.sleep(0.5)
    gone.file.close()
    gone.socket.close()
    time.sleep(0.5)
    threads[1].start()
    for thread in threads:
        thread.join()
    assert all("process 2 of 3 did not reach" in got[own] for own in (0, 1))


def test_a_port_in_use_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(UserError, match=TAKEN):
            rendezvous.meet(f"127.0.0.1:{taken.getsockname()[1]}", 2, 0, 1)
