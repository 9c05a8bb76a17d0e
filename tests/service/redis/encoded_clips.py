"""Encoded clips of a small network, drawn."""

from __future__ import annotations

import numpy as np

from model.inputs import VideoInfo
from model.inputs.clip import VideoWarning
from service.cache.clips import EncodedClip
from service.cache.redis.records import ClipForm

FORM = ClipForm({"video": (6,), "context": (2, 3)}, frames_per_view=4)


def encoded(form: ClipForm = FORM, views: int = 2, seed: int = 0) -> EncodedClip:
    draw = np.random.default_rng(seed)
    features = {
        name: draw.standard_normal((views, *shape), np.float32) * np.float32(1e-30)
        for name, shape in form.features.items()
    }
    times = tuple(0.1 * i + 1 / 3 for i in range(views * form.frames_per_view))
    info = VideoInfo(
        duration_s=10.0,
        fps=None,
        width=64,
        height=48,
        codec="h264",
        frames=250,
        frame_times_s=times,
        warnings=(VideoWarning.HDR,),
    )
    return EncodedClip(features, info)


def same(clip: EncodedClip | None, other: EncodedClip) -> bool:
    return (
        clip is not None
        and clip.info == other.info
        and clip.features.keys() == other.features.keys()
        and all(
            array.shape == other.features[name].shape
            and array.tobytes() == other.features[name].tobytes()
            for name, array in clip.features.items()
        )
    )
