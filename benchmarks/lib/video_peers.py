"""How others fetch the eight frames of a clip: PyAV used plainly, decord, OpenCV and torchcodec.

Each is called as its documentation does, with the frame numbers of the published test rule.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any, Literal

from benchmarks.lib.reader_process import FRAMES, Fetch
from model.inputs import InputSpec, decode_clip, sample_indices

SPEC = InputSpec.official(FRAMES)


def test_frames(frames: int) -> list[int]:
    """Return the frame numbers of the published test rule."""
    numbers: list[int] = sample_indices(frames, FRAMES)[0].tolist()
    return numbers


def pyav(path: Path, threads: int) -> Fetch:
    """Decode with PyAV as its examples do: every frame, and those that are wanted to RGB."""
    import av

    def fetch() -> list[Any]:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type, stream.thread_count = "AUTO", threads
            numbers = set(test_frames(stream.frames or frames_of(path)))
            taken = []
            for number, frame in enumerate(container.decode(stream)):
                if number in numbers:
                    taken.append(frame.to_ndarray(format="rgb24"))
                if len(taken) == FRAMES:
                    return taken
            return taken

    return fetch


@cache
def frames_of(path: Path) -> int:
    """Count the frames of a file that does not say how many it has."""
    with path.open("rb") as source:
        return decode_clip(source, SPEC).info.frames


def decord(path: Path, threads: int) -> Fetch:
    """Decode with decord's VideoReader; decord2 is imported by the same name."""
    import decord as library

    def fetch() -> Any:
        reader = library.VideoReader(str(path), num_threads=threads)
        return reader.get_batch(test_frames(len(reader))).asnumpy()

    return fetch


def opencv(path: Path, threads: int, seeking: bool) -> Fetch:
    """Decode with OpenCV's VideoCapture, jumping to each frame or grabbing all up to the last."""
    import cv2

    options = [cv2.CAP_PROP_N_THREADS, threads]

    def fetch() -> list[Any]:
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, options)
        numbers = test_frames(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        if seeking:
            return [_seek(capture, n) for n in numbers]
        return [
            capture.retrieve()[1] for n in range(numbers[-1] + 1) if capture.grab() and n in numbers
        ]

    def _seek(capture: Any, number: int) -> Any:
        capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        return capture.read()[1]

    return fetch


def torchcodec(path: Path, threads: int, mode: Literal["exact", "approximate"]) -> Fetch:
    """Decode with torchcodec; `approximate` trusts the header, `exact` scans the file."""
    from torchcodec.decoders import VideoDecoder  # type: ignore[attr-defined]

    def fetch() -> Any:
        decoder = VideoDecoder(str(path), seek_mode=mode, num_ffmpeg_threads=threads)
        return decoder.get_frames_at(test_frames(len(decoder))).data

    return fetch


# Both are imported by one name; who has both installed puts decord2 first.
DECORD = "decord2" if any(Distribution.discover(name="decord2")) else "decord"
PEERS: dict[str, Callable[[Path, int], Fetch]] = {
    "PyAV": pyav,
    DECORD: decord,
    "OpenCV, grabbing": lambda path, threads: opencv(path, threads, seeking=False),
    "OpenCV, seeking": lambda path, threads: opencv(path, threads, seeking=True),
    "torchcodec, approximate": lambda path, threads: torchcodec(path, threads, "approximate"),
    "torchcodec, exact": lambda path, threads: torchcodec(path, threads, "exact"),
}
# Where a clip is large these are no contest, and take the time of all others together.
DECODE_EVERYTHING = ("PyAV", "OpenCV, grabbing")
