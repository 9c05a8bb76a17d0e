"""Decode a clip: the frames a network wants, and nothing else of the file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO, Literal

import av
import numpy as np

from model.inputs.clip import Clip, Pixels, VideoInfo
from model.inputs.errors import NotAVideo, RangeError, Undecodable, UnsupportedFormat
from model.inputs.limits import VideoLimits
from model.inputs.pixels import crop_frame
from model.inputs.sampling import sample_indices
from model.inputs.spec import InputSpec

DEMUXERS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,gif,ivf,h264,hevc,mpegvideo,m4v,mjpeg,mxf"


def decode_clip(
    source: BinaryIO,
    spec: InputSpec,
    *,
    views: int = 1,
    crops: int = 1,
    start: float | None = None,
    end: float | None = None,
    limits: VideoLimits | None = None,
    sampling: Literal["test", "train"] = "test",
    rng: np.random.Generator | None = None,
) -> Clip:
    """Sample, decode and crop a clip; raises a VideoError that names what is wrong."""
    limits = limits or VideoLimits()
    times = [f.time or 0.0 for f in _frames(source, limits)]
    wanted_range = [
        i
        for i, t in enumerate(times)
        if (start is None or t >= start) and (end is None or t <= end)
    ]
    if not times:
        raise Undecodable("no picture of this video could be decoded; send another file")
    if not wanted_range:
        raise RangeError("no frame lies between start and end; choose a part of the clip")
    if sampling == "train" and rng is None:
        raise ValueError("sampling='train' needs rng")
    picks = sample_indices(
        len(wanted_range), spec.num_frames, views=views, rng=rng if sampling == "train" else None
    )
    indices = np.array(wanted_range)[picks]
    pictures: dict[int, Pixels] = {}
    codec, fps, size = "", None, (0, 0)
    wanted = set(indices.ravel().tolist())
    for i, frame in enumerate(_frames(source, limits)):
        if i in wanted:
            image = frame.to_ndarray(format="rgb24")
            size = image.shape[:2]
            pictures[i] = crop_frame(image, spec, crops)
    frames = np.stack(
        [np.stack([pictures[i][c] for i in row]) for c in range(crops) for row in indices.tolist()]
    )
    info = VideoInfo(times[-1], fps, size[1], size[0], codec, len(wanted_range))
    return Clip(frames, info, tuple(times[i] for i in indices.ravel().tolist()))


def _frames(source: BinaryIO, limits: VideoLimits) -> Iterator[Any]:
    source.seek(0)
    options = {
        "protocol_whitelist": "",
        "format_whitelist": DEMUXERS,
        "max_pixels": str(limits.max_pixels),
        "max_streams": str(limits.max_streams),
    }
    try:
        container = av.open(source, mode="r", options=options, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise NotAVideo("this file is not a video that can be read; send mp4 or webm") from error
    with container:
        streams = [s for s in container.streams.video if not s.disposition & 0x400]
        if not streams:
            raise NotAVideo("this file has no video stream; send a video")
        context = streams[0].codec_context
        if context is None:
            raise UnsupportedFormat("the video codec is not supported; send H.264 or VP9")
        context.options = {"max_pixels": str(limits.max_pixels)}
        context.thread_count = 1
        for packet in container.demux(streams[0]):
            try:
                yield from packet.decode()
            except av.FFmpegError:
                continue
