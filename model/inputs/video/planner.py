"""Which packets to decode for the sampled frames: pure arithmetic on a packet list.

A file is *regular* when its packets prove that each holds one picture and when each is shown:
then the shown pictures are known without decoding any, and only the stretches between an entry
(a clean key frame) and the last sampled picture after it need decoding, without the pictures that
nothing refers to. Anything else, one odd packet is enough, is decoded whole.

What this cannot see is damage inside the coded picture of a packet that is whole: where such a
picture is not among those decoded, it counts as shown although a full decode would have lost it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from model.inputs.sampling import Indices
from model.inputs.video.bitstream.role import ENTRY, HIDDEN, REFERENCE, Role
from model.inputs.video.packets import PacketList
from model.inputs.video.timeline import LONGEST_REORDER, reaches_back

NEVER = 2**63 - 1
LONGEST_STEP = 2.5  # film shown at a television rate: steps of two and of three fields


@dataclass(frozen=True)
class Schedule:
    """The pictures of a regular file in the order in which they are shown.

    `order[i]` is the packet number of the i-th shown picture, `pts[i]` its time in ticks.
    """

    order: tuple[int, ...]
    pts: tuple[int, ...]


@dataclass(frozen=True)
class Run:
    """A stretch to decode from a clean start: these packet numbers, ascending, of which `targets`
    are to be taken.
    """

    packets: tuple[int, ...]
    targets: frozenset[int]


def schedule(packets: PacketList) -> Schedule | None:
    """Return the shown pictures in order, or None where the packets alone do not tell."""
    if packets.interlaced or not len(packets) or None in packets.roles:
        return None
    if not _has(packets.roles[0], ENTRY) or not _order_is_safe(packets):
        return None
    if packets.guessed_times and packets.reorder_depth and _ascends(packets.pts):
        return None  # the decoder will show them in another order than these times
    shown = [i for i in range(len(packets)) if is_shown(packets, i)]
    times = [t for t in (packets.pts[i] for i in shown) if t is not None]
    if not shown or len(set(times)) != len(shown):
        return None
    if min(times) < (packets.pts[0] or 0):
        # Pictures that lead in the first key frame refer to ones that are not there.
        return None
    ranked = sorted(zip(times, shown, strict=True))
    pts, order = (np.array(column, dtype=np.int64) for column in zip(*ranked, strict=True))
    if reaches_back(order, pts) or (packets.even_times and _has_hole(pts)):
        return None
    return Schedule(tuple(i for _, i in ranked), tuple(t for t, _ in ranked))


def is_shown(packets: PacketList, number: int) -> bool:
    """Return whether this packet's picture is meant to be seen."""
    return not packets.discarded[number] and not _has(packets.roles[number], HIDDEN)


def runs(packets: PacketList, targets: Iterable[int]) -> list[Run]:
    """Return the stretches to decode for the `targets`, packet numbers of a regular file."""
    starts: dict[int, set[int]] = {}
    numbers = np.array(sorted(set(targets)), dtype=np.int64)
    for number, start in zip(numbers.tolist(), _starts_of(packets, numbers).tolist(), strict=True):
        starts.setdefault(start, set()).add(number)
    merged: list[tuple[int, set[int]]] = []
    for start in sorted(starts):
        # A picture shown before a key frame but stored behind it reaches into the next stretch.
        if merged and start <= max(merged[-1][1]):
            merged[-1][1].update(starts[start])
        else:
            merged.append((start, starts[start]))
    return [_run(packets, start, inside) for start, inside in merged]


def pictures_of(stretches: Iterable[Run]) -> int:
    """Return how many pictures a plan decodes."""
    return sum(len(run.packets) for run in stretches)


def pictures_to_decode(packets: PacketList, order: Sequence[int]) -> Indices:
    """Return how many pictures each shown one alone needs decoded, itself among them.

    Args:
        packets: A regular file.
        order: Packet numbers in the order in which the pictures are shown, as in `Schedule`.

    Returns:
        int64, one for each of `order`; 1 for a key frame, more for any other picture.
    """
    numbers = np.array(order, dtype=np.int64)
    starts = _starts_of(packets, numbers)
    roles = np.array(packets.roles, dtype=np.int64)
    references = np.concatenate([[0], np.cumsum((roles & REFERENCE) != 0)])
    before = references[numbers] - references[starts]
    return np.where(numbers == starts, 1, np.maximum(before, 1) + 1)


def _run(packets: PacketList, start: int, targets: set[int]) -> Run:
    needed = tuple(
        i
        for i in range(start, max(targets) + 1)
        if i in targets or _has(packets.roles[i], REFERENCE)
    )
    return Run(needed, frozenset(targets))


def _starts_of(packets: PacketList, numbers: Indices) -> Indices:
    """Return for each picture the last entry, in decoding order, that is not shown after it."""
    roles = np.array(packets.roles, dtype=np.int64)
    times = np.array([NEVER if t is None else t for t in packets.pts], dtype=np.int64)
    entries = np.flatnonzero(roles & ENTRY)
    last = np.searchsorted(entries, numbers, side="right") - 1
    while (late := (last > 0) & (times[entries[last]] > times[numbers])).any():
        last[late] -= 1  # a picture that leads in a key frame needs the group before it
    return np.asarray(entries[last])


def _order_is_safe(packets: PacketList) -> bool:
    """Tell whether the decoder's delay is deep enough to show pictures in the order of their times.

    The depth a picture needs is the number of pictures stored before it and shown after it.
    """
    shown = [t for t, r in zip(packets.pts, packets.roles, strict=True) if not _has(r, HIDDEN)]
    if None in shown:
        return False
    times = np.array(shown, dtype=np.int64)
    depth = np.zeros(len(times), dtype=np.int64)
    for distance in range(1, min(LONGEST_REORDER, len(times) - 1) + 1):
        depth[distance:] += times[:-distance] >= times[distance:]
    if depth.max(initial=0) > packets.reorder_depth:
        return False
    latest = np.maximum.accumulate(times)
    return bool((latest[:-LONGEST_REORDER] < times[LONGEST_REORDER:]).all())


def _has_hole(times: NDArray[np.int64]) -> bool:
    steps = np.diff(times)
    return len(steps) > 0 and bool(steps.max() > LONGEST_STEP * np.median(steps))


def _ascends(times: Sequence[int | None]) -> bool:
    return all(a is not None and b is not None and a < b for a, b in pairwise(times))


def _has(role: Role | None, flag: Role) -> bool:
    return role is not None and bool(role & flag)
