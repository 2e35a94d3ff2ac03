"""Who decodes in which slot, as a story that is followed by hand; no device is involved."""

import numpy as np
import pytest

from sar_jax.rollout.seats import Seats


def seated(sizes=(12, 4), columns=(64, 128), devices=1, answers=12) -> Seats:
    """All slots of the largest size, of which the first `answers` have one, at position 10."""
    seats = Seats(sizes, columns, devices)
    for slot in range(answers):
        seats.sit(slot, 100 + slot, 10)
    return seats


def keep(seats: Seats, *slots: int) -> None:
    """One more token in every slot; all answers end but those in `slots`."""
    count, live = np.ones(seats.size, int), np.zeros(seats.size, bool)
    live[list(slots)] = True
    seats.advance(count, live)


def test_an_answer_that_ended_leaves_its_slot_and_the_others_go_on():
    seats = seated(answers=3)
    assert seats.live() == [0, 1, 2] and seats.free() == list(range(3, 12))
    keep(seats, 0, 2)
    assert seats.live() == [0, 2] and seats.occupant[0] == 100 and seats.occupant[1] is None
    assert seats.count[[0, 2]].tolist() == [1, 1] and seats.position[[0, 2]].tolist() == [11, 11]
    seats.sit(1, 7, 4)
    assert seats.occupant[1] == 7 and (seats.count[1], seats.position[1]) == (0, 4)


def test_free_slots_take_no_tokens():
    seats = seated(answers=2)
    seats.advance(np.full(12, 5), np.ones(12, bool))
    assert seats.count.tolist() == [5, 5] + [0] * 10
    assert seats.live() == [0, 1]


@pytest.mark.parametrize(
    "answers, longest, expected",
    [
        (12, 10, (12, 64)),  # all slots, the fewest columns
        (5, 10, (12, 64)),
        (12, 65, (12, 128)),  # a long question needs more of them
        (4, 10, (4, 128)),  # the smaller size is compiled for the last number of columns
        (99, 10, (12, 64)),
    ],
)
def test_a_call_begins_with_the_fewest_slots_and_columns_that_fit(answers, longest, expected):
    assert Seats((12, 4), (64, 128), 1).fitting(answers, longest) == expected


def test_the_host_looks_when_something_can_be_done():
    """With answers that wait, when a slot (one of 32) is free; without, at the next smaller size,
    and at the end when there is none."""
    seats = seated()
    assert seats.until(waiting=True) == 11
    assert seats.until(waiting=False) == 4
    keep(seats, 1, 5, 7, 10)
    assert seats.until(waiting=False) == 0
    assert seated(sizes=(64,), answers=64).until(waiting=True) == 62


def test_the_last_answers_move_to_fewer_slots_in_their_order():
    seats = seated()
    keep(seats, 1, 5, 7, 10, 11)
    assert seats.shrink() is None  # five do not fit four slots
    keep(seats, 1, 5, 7, 10)
    seats.position[:] = np.arange(12)
    assert seats.shrink() == [1, 5, 7, 10]
    assert seats.occupant == [101, 105, 107, 110] and seats.columns == 128
    assert seats.position.tolist() == [1, 5, 7, 10]
    assert seats.shrink() is None


def test_no_slot_leaves_its_device():
    """Two devices with six slots each: three live ones of the first do not fit its two."""
    seats = seated(devices=2)
    keep(seats, 0, 1, 2, 11)
    assert seats.shrink() is None
    keep(seats, 0, 2, 11)
    kept = seats.shrink()
    assert kept[:2] == [0, 2] and kept[2] == 11 and 6 <= kept[3] < 11
    assert seats.occupant == [100, 102, 111, None]


def test_columns_grow_when_a_live_slot_has_used_all():
    seats = seated(answers=2)
    assert seats.room() == 54 and not seats.grow()
    seats.position[:2] = 64, 3
    assert seats.room() == 0 and seats.grow()
    assert seats.columns == 128 and seats.room() == 64
    keep(seats, 1)  # what has ended needs no room
    assert seats.room() == 124


def test_a_free_slot_needs_no_room():
    seats = seated(answers=1)
    seats.position[5] = 64
    assert seats.room() == 54 and not seats.grow()
