"""The frame of a segment that is cheapest to reach, from group structures drawn at random."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.inputs import FrameRule, InputSpec, decode_clip, sample_indices
from model.inputs.sampling import Segment, choose_frames, sample_segments
from model.inputs.video.bitstream.role import ENTRY, HIDDEN, PLAIN, REFERENCE
from model.inputs.video.packets import PacketList
from model.inputs.video.planner import pictures_of, pictures_to_decode, runs, schedule
from model.inputs.work import Work

KEY, P, B = ENTRY | REFERENCE, REFERENCE, PLAIN
KEYFRAMES = FrameRule.KEYFRAMES
SPEC = InputSpec(num_frames=8, image_size=48, resize_short_side=48)


@st.composite
def packet_lists(draw: st.DrawFn) -> PacketList:
    """Groups of a key frame and mini-groups of a reference after 0 to 3 pictures shown before it;
    groups may be open, references hidden.
    """
    packets = PacketList(reorder_depth=4)
    time = 0

    def add(pts: int, role: int) -> None:
        packets.pts.append(pts)
        packets.roles.append(role)
        packets.discarded.append(False)

    for group in range(draw(st.integers(1, 6))):
        leading = (
            draw(st.integers(0, 3)) if group else 0
        )  # shown before the key frame, stored after
        add(time + leading, KEY)
        for i in range(leading):
            add(time + i, B)
        time += leading + 1
        for between in draw(st.lists(st.integers(0, 3), max_size=12)):
            add(time + between, P | (HIDDEN if draw(st.booleans()) and not between else 0))
            for i in range(between):
                add(time + i, B)
            time += between + 1
    return packets


@given(packet_lists(), st.integers(1, 12), st.integers(1, 4))
def test_the_cheapest_frame_of_each_segment_is_taken(
    packets: PacketList, num_frames: int, views: int
) -> None:
    order = schedule(packets)
    assert order is not None
    frames = len(order.order)
    costs = pictures_to_decode(packets, order.order)
    alone = [pictures_of(runs(packets, [number])) for number in order.order]
    assert costs.tolist() == alone
    segments = sample_segments(frames, num_frames, views=views, rule=KEYFRAMES)
    picks = choose_frames(segments, costs)
    assert len(picks) == views * num_frames
    for segment, pick in zip(segments, picks, strict=True):
        inside = range(segment.first, segment.end)
        assert pick in inside
        best = min(inside, key=lambda n: (alone[n], abs(n - segment.aim), n))
        assert pick == best
        keys = [n for n in inside if order.order[n] in entries(packets)]
        if keys:
            assert pick == min(keys, key=lambda n: abs(n - segment.aim))


def entries(packets: PacketList) -> set[int]:
    return {i for i, role in enumerate(packets.roles) if role is not None and role & ENTRY}


@given(st.integers(1, 5000), st.integers(1, 64), st.integers(1, 8), st.booleans())
def test_segments_divide_the_clip_and_hold_what_the_exact_rule_takes(
    frames: int, num_frames: int, views: int, training: bool
) -> None:
    def rng() -> np.random.Generator | None:
        return np.random.default_rng(frames) if training else None

    exact = sample_indices(frames, num_frames, views=views, rng=rng())
    assert [s.aim for s in sample_segments(frames, num_frames, views=views, rng=rng())] == (
        exact.ravel().tolist()
    )
    segments = sample_segments(frames, num_frames, views=views, rng=rng(), rule=KEYFRAMES)
    if frames < num_frames:
        assert [(s.first, s.end) for s in segments] == [(n, n + 1) for n in exact.ravel().tolist()]
        return
    for view in range(views):
        row = segments[view * num_frames : (view + 1) * num_frames]
        assert row[0].first == 0
        assert row[-1].end == (frames // num_frames * num_frames if training else frames)
        assert all(a.end == b.first for a, b in pairwise(row))
        assert all(s.first <= s.aim < s.end for s in row)
        # Of further views, which look beside the middle, a place may fall on the edge of a part.
        reach = 0 if training or views == 1 else 1
        assert all(abs(s.aim - n) <= reach for s, n in zip(row, exact[view], strict=True))


def test_of_frames_as_cheap_the_nearest_to_the_middle_is_taken() -> None:
    costs = np.array([1, 9, 3, 3, 9, 3, 1, 1])
    assert choose_frames([Segment(1, 6, 4), Segment(0, 8, 3), Segment(6, 8, 7)], costs) == [3, 0, 7]
    assert choose_frames([Segment(1, 6, 4)], None) == [4]


def test_key_frames_alone_are_decoded(encode_video: Callable[..., io.BytesIO]) -> None:
    video = encode_video(
        "libx264", 240, options={"preset": "veryfast", "g": "30", "sc_threshold": "0"}
    )
    exact, keyed = (decode_clip(video, SPEC, frame_rule=rule) for rule in FrameRule)
    assert (exact.info.frame_rule, keyed.info.frame_rule) == ("exact", "keyframes")
    assert keyed.info.frame_times_s == tuple(map(float, range(8)))
    assert exact.work is not None
    assert keyed.work is not None
    assert keyed.work.pictures == 8 < exact.work.pictures
    assert (keyed.work.codec, keyed.work.depth, keyed.work.pixels) == ("h264", 8, 64 * 48)


def test_in_one_group_the_beginning_of_each_segment_is_taken(
    encode_video: Callable[..., io.BytesIO],
) -> None:
    options = {"preset": "veryfast", "g": "999", "bf": "0", "sc_threshold": "0"}
    clip = decode_clip(encode_video("libx264", 240, options=options), SPEC, frame_rule=KEYFRAMES)
    assert clip.info.frame_times_s == tuple(map(float, range(8)))


def test_where_all_is_decoded_no_frame_is_cheaper(encode_video: Callable[..., io.BytesIO]) -> None:
    video = encode_video("wmv2", 80, container="asf", options={"g": "10"})
    exact, keyed = (decode_clip(video, SPEC, frame_rule=rule) for rule in FrameRule)
    assert exact.info.frame_times_s == keyed.info.frame_times_s


@pytest.mark.parametrize("frames", [240, 1200])
@pytest.mark.parametrize("rule", FrameRule)
def test_a_rule_may_be_chosen_by_the_work_of_the_exact_one(
    encode_video: Callable[..., io.BytesIO], frames: int, rule: FrameRule
) -> None:
    options = {"preset": "ultrafast", "g": "30", "bf": "0", "sc_threshold": "0"}
    video = encode_video("libx264", frames, options=options)
    seen: list[Work] = []

    def choose(work: Work) -> FrameRule:
        seen.append(work)
        return rule

    chosen = decode_clip(video, SPEC, frame_rule=choose)
    fixed = decode_clip(video, SPEC, frame_rule=rule)
    assert chosen.info == fixed.info
    assert np.array_equal(chosen.frames, fixed.frames)
    exact = decode_clip(video, SPEC)
    assert seen == [exact.work]


def test_training_draws_among_the_key_frames_of_a_segment(
    encode_video: Callable[..., io.BytesIO],
) -> None:
    options = {"preset": "ultrafast", "g": "10", "bf": "0", "sc_threshold": "0"}
    video = encode_video("libx264", 240, options=options)

    def times(seed: int) -> tuple[float, ...]:
        request: dict[str, Any] = {"sampling": "train", "rng": np.random.default_rng(seed)}
        return decode_clip(video, SPEC, frame_rule=KEYFRAMES, **request).info.frame_times_s

    drawn = [times(seed) for seed in range(20)]
    assert times(0) == drawn[0]
    assert len(set(drawn)) > 10
    assert {round(time * 30) % 10 for clip in drawn for time in clip} == {0}
