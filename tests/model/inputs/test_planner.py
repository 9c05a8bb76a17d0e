"""What to decode, from packet lists written by hand: no video needed."""

from __future__ import annotations

import pytest

from model.inputs.video.bitstream.role import ENTRY, HIDDEN, PLAIN, REFERENCE, Role
from model.inputs.video.packets import PacketList
from model.inputs.video.planner import runs, schedule

KEY, P, B = ENTRY | REFERENCE, REFERENCE, PLAIN


def listed(pts: list[int | None], roles: list[Role | None], **more: object) -> PacketList:
    packets = PacketList(pts=pts, roles=roles, discarded=[False] * len(pts), reorder_depth=2)
    for name, value in more.items():
        setattr(packets, name, value)
    return packets


def two_groups() -> PacketList:
    #                   I0 P3 B1 B2 I4 P7 B5 B6
    return listed([0, 3, 1, 2, 4, 7, 5, 6], [KEY, P, B, B, KEY, P, B, B])


def open_group() -> PacketList:
    # The second I is shown as 5; B3 and B4, stored behind it, are shown before it.
    return listed([0, 2, 1, 5, 3, 4, 8, 6, 7], [KEY, P, B, KEY, B, B, P, B, B])


def test_pictures_are_listed_in_the_order_shown() -> None:
    order = schedule(two_groups())
    assert order is not None
    assert order.order == (0, 2, 3, 1, 4, 6, 7, 5)
    assert order.pts == tuple(range(8))


def test_only_references_and_the_wanted_are_decoded() -> None:
    (run,) = runs(two_groups(), [3])
    assert run.packets == (0, 1, 3)
    assert run.targets == {3}


def test_groups_without_a_wanted_picture_are_left_out() -> None:
    (run,) = runs(two_groups(), [6])
    assert run.packets == (4, 5, 6)


def test_each_group_is_decoded_once() -> None:
    first, second = runs(two_groups(), [6, 1, 2, 4, 1])
    assert first.packets == (0, 1, 2)
    assert second.packets == (4, 5, 6)


def test_picture_before_its_key_frame_needs_the_group_before() -> None:
    (run,) = runs(open_group(), [4])
    assert run.packets == (0, 1, 3, 4)


def test_groups_that_reach_into_each_other_become_one_run() -> None:
    (run,) = runs(open_group(), [4, 6])
    assert run.packets == (0, 1, 3, 4, 6)
    (later,) = runs(open_group(), [6])
    assert later.packets == (3, 6)


def test_hidden_pictures_are_decoded_but_not_counted() -> None:
    packets = listed([0, 1, 1, 2], [KEY, P | HIDDEN, P, P], reorder_depth=0)
    order = schedule(packets)
    assert order is not None
    assert order.order == (0, 2, 3)
    (run,) = runs(packets, [3])
    assert run.packets == (0, 1, 2, 3)


def test_discarded_pictures_are_not_counted() -> None:
    packets = two_groups()
    packets.discarded[:4] = [True] * 4
    order = schedule(packets)
    assert order is not None
    assert order.order == (4, 6, 7, 5)


@pytest.mark.parametrize(
    "packets",
    [
        listed([], []),
        listed([0, 1, 2], [KEY, None, P]),
        listed([0, 1, 2], [P, KEY, P]),
        listed([0, None, 2], [KEY, P, P]),
        listed([0, 1, 1], [KEY, P, P]),
        listed([3, 4, 2, 5], [KEY, P, B, P]),
        listed([0, 4, 3, 2, 1], [KEY, P, P, P, B]),
        listed([0, 1, 2], [KEY, P, P], interlaced=True),
        listed([0, 1, 2], [KEY, P, P], guessed_times=True),
        listed([0, 1, 2, 3, 9, 10], [KEY, P, P, P, P, P], even_times=True),
        listed([*range(100, 130), 50], [KEY, *[P] * 30]),
        listed([*range(30), 300, *range(31, 40)], [KEY, *[P] * 39]),
    ],
    ids=[
        "empty",
        "odd packet",
        "starts without a key frame",
        "time missing",
        "same time twice",
        "pictures before the first key frame",
        "deeper reordering than the decoder's delay",
        "interlaced",
        "times are guesses",
        "hole in a broadcast",
        "times fall back far",
        "one time far away near the end",
    ],
)
def test_files_that_do_not_tell_are_decoded_whole(packets: PacketList) -> None:
    assert schedule(packets) is None
