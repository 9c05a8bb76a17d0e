"""The clips that went most wrong, as a contact sheet: their frames, with the time of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.data.lists.cliplist import ClipList
from model.evaluate.scores import Scores
from model.inputs import InputSpec, VideoError, decode_clip
from model.inputs.clip import Pixels

SHOWN = 8
COLUMNS = 8  # frames of a clip


@dataclass(frozen=True)
class WrongClip:
    """A clip that was taken for another label, with the scores of both, from 0 to 1."""

    path: str
    label: str
    taken_for: str
    score: float
    label_score: float


def worst_clips(
    scores: Scores, clips: ClipList, labels: Sequence[str], most: int = SHOWN
) -> list[WrongClip]:
    """List the clips that were wrong, those whose own label had the lowest score first."""
    own = scores.scores[np.arange(len(scores.truth)), scores.truth]
    predicted = scores.predicted
    order = [
        int(row) for row in np.argsort(own, kind="stable") if predicted[row] != scores.truth[row]
    ]
    return [
        WrongClip(
            clips.samples[int(scores.indices[row])].name,
            labels[int(scores.truth[row])],
            labels[int(predicted[row])],
            float(scores.scores[row, predicted[row]]),
            float(own[row]),
        )
        for row in order[:most]
    ]


def contact_sheet(plt: Any, wrong: Sequence[WrongClip], clips: ClipList, spec: InputSpec) -> Any:
    """Draw a row of frames for each clip, with their seconds below; None where there is none."""
    if not wrong:
        return None
    columns = min(spec.num_frames, COLUMNS)
    figure, panels = plt.subplots(
        len(wrong), columns, figsize=(1.5 * columns, 1.9 * len(wrong)), squeeze=False
    )
    for row, clip in zip(panels, wrong, strict=True):
        frames, times = _frames(clip, clips, spec, columns)
        for panel, frame, time in zip(row, frames, times, strict=False):
            panel.imshow(frame)
            panel.set_xlabel(f"{time:.2f} s", fontsize=7)
        for panel in row:
            panel.set(xticks=[], yticks=[])
            panel.set_frame_on(False)
        row[0].set_title(
            f"{clip.path}: {clip.label} ({clip.label_score:.0%}), taken for {clip.taken_for} "
            f"({clip.score:.0%})",
            loc="left",
            fontsize=8,
        )
    figure.subplots_adjust(hspace=0.5, wspace=0.05)
    return figure


def _frames(
    wrong: WrongClip, clips: ClipList, spec: InputSpec, columns: int
) -> tuple[list[Pixels], list[float]]:
    """Decode some of the frames that the network saw; none where that fails by now."""
    try:
        with clips.files.open(wrong.path) as stream:
            clip = decode_clip(stream, spec)
    except (VideoError, OSError):
        return [], []
    step = math.ceil(spec.num_frames / columns)
    return list(clip.frames[0][::step]), list(clip.info.frame_times_s[::step])
