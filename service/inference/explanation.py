"""What each frame adds to the best label, and whether the order of the frames does. T frames."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from export.runtime import Features
from service.contract.answer import Explanation, FrameChange, Prediction, ReversedAnswer

Frames = NDArray[np.uint8]
Logits = NDArray[np.float32]


async def explain_frames(
    frames: Frames,
    times_s: Sequence[float],
    best: Prediction,
    encode: Callable[[Frames], Awaitable[Features]],
    score: Callable[[Features, slice], Awaitable[Logits]],
    rank: Callable[[Logits], Awaitable[Prediction]],
) -> Explanation:
    """Ask about the clip again without each of its frames, and backwards: T + 1 runs.

    Args:
        frames: Of one view, uint8 (1,T,H,W,3).
        times_s: When each of them is shown, T numbers.
        best: What the clip as it is was answered with first; its index is that of its logit.
        encode: Runs the video encoder; others have their turn between two runs.
        score: Scores some of the labels against what that gave: float32 (1,K).
        rank: Gives the first of the answer to such logits.
    """
    only = slice(best.index, best.index + 1)
    changes = []
    for index, time_s in enumerate(times_s):
        without = (await score(await encode(without_frame(frames, index)), only))[0]
        changes.append(FrameChange(time_s=time_s, change=best.logit - float(without[0])))
    backwards = await score(await encode(np.ascontiguousarray(frames[:, ::-1])), slice(None))
    first = await rank(backwards)
    return Explanation(
        label=best.label,
        logit=best.logit,
        frames=tuple(changes),
        reversed=ReversedAnswer(
            label=first.label,
            score=first.score,
            logit=first.logit,
            change=best.logit - float(backwards[0, best.index]),
        ),
    )


def without_frame(frames: Frames, index: int) -> Frames:
    """Return the clip with a frame replaced by the one before it; the first by the second.

    A network takes T frames, neither more nor fewer: what is left out has to be filled.
    """
    left = frames.copy()
    neighbour = index - 1 if index else min(1, frames.shape[1] - 1)
    left[:, index] = frames[:, neighbour]
    return left
