"""Rooms lie apart, begin at cache lines, and a kept one serves again."""

import threading

import numpy as np
import pytest
import torch

from laws import normal
from rankscope import rooms
from rankscope.compiled import compiled
from rankscope.rooms import add_up, kept_room, rooms_in, with_kept_room
from rankscope.vectors import LINE


@compiled
def number(like, parts, sizes, places):
    """Rooms of these sizes, each filled with a number of its own that is there in the end; where they are."""
    kept = kept_room(like)
    first, second, third = (
        rooms_in(kept, parts, sizes[0]),
        rooms_in(kept, parts, sizes[1]),
        rooms_in(kept, parts, sizes[2]),
    )
    for k, room in enumerate((first, second, third)):
        for part in range(parts):
            room[part] = k * parts + part
    for k, room in enumerate((first, second, third)):
        for part in range(parts):
            places[k, part] = room[part].ctypes.data
            if room.shape[1] < sizes[k] or not (room[part] == k * parts + part).all():
                places[k, part] = 0
    return kept.taken[0]


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch):
    monkeypatch.setattr(rooms, "_free", {dtype: [] for dtype in rooms._free})
    monkeypatch.setattr(rooms, "_bytes", dict.fromkeys(rooms._free, 0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("parts", [1, 3])
def test_rooms_lie_apart_in_what_is_kept_and_outside_of_it(dtype, parts):
    for sizes in ((1, 70, 16), (0, 5, 33), (1, 900, 1), (900, 1, 1), (1, 70, 16)):
        places = np.zeros((3, parts), np.int64)
        with_kept_room(dtype, number, parts, sizes, places)
        assert (places > 0).all()
        assert not (places % LINE).any()


def test_what_a_pass_needs_is_there_the_next_time():
    places = [np.zeros((3, 2), np.int64) for _ in range(3)]
    for each in places:
        with_kept_room(torch.float32, number, 2, (100, 200, 300), each)
    np.testing.assert_array_equal(places[1], places[2])
    (room,) = rooms._free[torch.float32]
    assert len(room) == 2 * (112 + 208 + 304)
    with_kept_room(torch.float32, number, 1, (1, 1, 1), np.zeros((3, 1), np.int64))
    assert rooms._free[torch.float32][0] is room


def test_a_room_is_in_memory_wherever_tensors_are_made():
    with torch.device("meta"):
        with_kept_room(torch.float32, number, 1, (1, 1, 1), np.zeros((3, 1), np.int64))
    assert len(rooms._free[torch.float32][0]) == 48


def test_no_more_than_the_most_is_kept(monkeypatch):
    monkeypatch.setattr(rooms, "MOST", 4096)
    places = np.zeros((3, 1), np.int64)

    def kept():
        return [sum(map(len, rooms._free[dtype])) for dtype in (torch.float32, torch.float64)]

    # Three rooms in cache lines of 16 single and of 8 double numbers.
    for sizes, double in (((1, 1, 1), 24), ((400, 1, 1), 416), ((900, 1, 1), 512), ((1, 1, 1), 512)):
        with_kept_room(torch.float64, number, 1, sizes, places)
        assert (places > 0).all()
        assert kept() == [0, double]
    with_kept_room(torch.float32, number, 1, (900, 1, 1), places)
    assert (places > 0).all()
    assert kept() == [0, 512]


def test_what_others_work_in_counts(monkeypatch):
    monkeypatch.setattr(rooms, "MOST", 4096)
    with_kept_room(torch.float32, lambda room: 1000)

    def work(room):
        with_kept_room(torch.float32, lambda room: 1000)
        return 1000

    with_kept_room(torch.float32, work)
    assert sorted(map(len, rooms._free[torch.float32])) == [24, 1000]


@pytest.mark.parametrize(("first", "last", "largest"), [(1000, 2000, 1000), (2000, 1000, 1024)])
def test_the_largest_room_is_taken_first(first, last, largest, monkeypatch):
    monkeypatch.setattr(rooms, "MOST", 4096)
    seen = []

    def work(room):
        with_kept_room(torch.float32, lambda room: first)
        return last  # It finds too little left.

    with_kept_room(torch.float32, work)
    with_kept_room(torch.float32, lambda room: seen.append(len(room)) or 1000)
    assert seen == [largest]


def test_a_room_is_given_back_by_work_that_fails():
    with_kept_room(torch.float32, lambda room: 1000)
    with pytest.raises(ZeroDivisionError):
        with_kept_room(torch.float32, lambda room: 1 // 0)
    assert [len(room) for room in rooms._free[torch.float32]] == [1000]


def test_who_works_at_the_same_time_has_another_room():
    seen, both = [], threading.Barrier(2)

    def work(room):
        seen.append(room.ctypes.data)
        both.wait(10)
        return 1000

    for _ in range(3):
        seen.clear()
        threads = [threading.Thread(target=with_kept_room, args=(torch.float32, work)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(set(seen)) == 2
    assert len(rooms._free[torch.float32]) == 2


@compiled
def added(parts, width, whole):
    add_up(parts, width, whole)


@pytest.mark.parametrize("parts", [1, 4])
def test_parts_are_added_up_row_by_row(parts):
    each, whole = normal(parts, 5, 8), np.full((5, 6), np.nan)
    added(each.reshape(parts, 40), 8, whole)
    np.testing.assert_allclose(whole, each.sum(0)[:, :6], rtol=1e-14)
