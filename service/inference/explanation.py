"""What each frame adds to the best label, and whether the order of the frames does. T frames."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from export.runtime import Features
from service.contract.answer import Explanation, FrameChange, ReversedAnswer
from service.inference.open_set import softmax

Frames = NDArray[np.uint8]
Logits = NDArray[np.float32]


async def explain_frames(
    frames: Frames,
    times_s: Sequence[float],
    labels: Sequence[str],
    logits: Logits,
    encode: Callable[[Frames], Awaitable[Features]],
    score: Callable[[Features, slice], Awaitable[Logits]],
) -> Explanation:
    """Ask about the clip again without each of its frames, and backwards: T + 1 runs.

    Args:
        frames: Of one view, uint8 (1,T,H,W,3).
        times_s: When each of them is shown, T numbers.
        labels: K names.
        logits: Of the clip as it is, float32 (K,).
        encode: Runs the video encoder; others have their turn between two runs.
        score: Scores some of the labels against what that gave: float32 (1,K).
    """
    best = int(logits.argmax())
    only = slice(best, best + 1)
    changes = []
    for index, time_s in enumerate(times_s):
        without = (await score(await encode(without_frame(frames, index)), only))[0]
        changes.append(FrameChange(time_s=time_s, change=float(logits[best] - without[0])))
    backwards = await score(await encode(np.ascontiguousarray(frames[:, ::-1])), slice(None))
    shares = softmax(backwards.astype(np.float64))[0]
    first = int(shares.argmax())
    return Explanation(
        label=labels[best],
        logit=float(logits[best]),
        frames=tuple(changes),
        reversed=ReversedAnswer(
            label=labels[first],
            score=float(shares[first]),
            logit=float(backwards[0, first]),
            change=float(logits[best] - backwards[0, best]),
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
