"""The packets that a frame rule needs, through FFmpeg's decoder and nothing else.

No file is read, nothing is converted or resized, no decoder is emptied between two stretches: what
this takes is what the pictures themselves cost.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av

from model.inputs import FrameRule, InputSpec
from model.inputs.limits import VideoLimits
from model.inputs.sampling import choose_frames, sample_segments
from model.inputs.video.container import open_video
from model.inputs.video.packets import list_packets
from model.inputs.video.planner import pictures_to_decode, runs, schedule


def decoder_alone(path: Path, spec: InputSpec, rule: FrameRule) -> Callable[[], int] | None:
    """Return a function that decodes the packets and counts pictures; None where packets tell no
    plan.
    """
    numbers = planned(path, spec, rule)
    if numbers is None:
        return None
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        name, extradata = stream.codec_context.name, stream.codec_context.extradata
        packets: list[Any] = [p for p in container.demux(stream) if p.size]
    coded = [packets[number] for number in sorted(numbers)]

    def decode() -> int:
        context: Any = av.CodecContext.create(name, "r")
        context.extradata, context.thread_count = extradata, 1
        return sum(len(context.decode(packet)) for packet in (*coded, None))

    return decode


def planned(path: Path, spec: InputSpec, rule: FrameRule) -> set[int] | None:
    """Return the numbers of the packets that one view of a clip needs."""
    limits = VideoLimits()
    with path.open("rb") as source, open_video(source, limits, probe=True) as video:
        packets = list_packets(video, limits)
    order = schedule(packets)
    if order is None:
        return None
    segments = sample_segments(
        len(order.order), spec.num_frames, spacing=spec.frame_rule, rule=rule
    )
    keyed = rule is FrameRule.KEYFRAMES
    costs = pictures_to_decode(packets, order.order) if keyed else None
    picks = choose_frames(segments, costs)
    stretches = runs(packets, (order.order[pick] for pick in picks))
    return {number for run in stretches for number in run.packets}
