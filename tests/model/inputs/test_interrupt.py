"""Who reads a video is asked before each packet, and may have had enough."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

import model.inputs.video.indexed
from model.inputs import InputSpec, decode_clip
from model.inputs.video.window_reader import read_windows
from model.inputs.windows import Cut
from tests.model.inputs.test_window_reader import encode_at

SPEC = InputSpec(num_frames=4, image_size=16, resize_short_side=18)
FRAMES = 80


class Enough(Exception):
    pass


class Asked:
    """Counts how often it is called, and raises once that is more than `patience`."""

    def __init__(self, patience: float = float("inf")) -> None:
        self.calls, self._patience = 0, patience

    def __call__(self) -> None:
        self.calls += 1
        if self.calls > self._patience:
            raise Enough


def clip(video: io.BytesIO, **options: Any) -> None:
    decode_clip(video, SPEC, **options)


def windows(video: io.BytesIO, **options: Any) -> None:
    for _ in read_windows(video, SPEC, Cut(1, 1, 99), **options):
        pass


WAYS: dict[str, tuple[Callable[..., None], dict[str, Any]]] = {
    "planned": (clip, {}),
    "by two threads": (clip, {"threads": 2}),
    "whole": (clip, {"plan": "full"}),
    "in windows": (windows, {}),
}


@pytest.mark.parametrize("index_from", [10, 10_000], ids=["by index", "listed"])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("way", WAYS)
def test_reading_ends_at_any_packet(
    monkeypatch: pytest.MonkeyPatch, way: str, codec: str, index_from: int
) -> None:
    monkeypatch.setattr(model.inputs.video.indexed, "FEWEST_PACKETS", index_from)
    read, options = WAYS[way]
    video = encode_at(range(0, 40 * FRAMES, 40), "mp4", codec, g="20")
    patient = Asked()
    read(video, interrupt=patient, **options)
    assert patient.calls >= (4 if way == "planned" else FRAMES // 4)
    for patience in (0, 1, patient.calls // 2, patient.calls - 1):
        asked = Asked(patience)
        with pytest.raises(Enough):
            read(video, interrupt=asked, **options)
        assert patience < asked.calls <= patient.calls
    read(video, interrupt=Asked(patient.calls), **options)
