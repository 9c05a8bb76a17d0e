"""How far our preprocessing is from the published one, in pixels and in logits, on real clips.

    python -m benchmarks.resize_parity CLIP… [--checkpoint SOURCE] [--variant NAME]

The published path is written out here: every frame as the decoder gives it, OpenCV's bilinear
resize to 256, centre crop 224. Compared with it: our own decoding with the same spec, then what
other rules would give (pixels as displayed, antialiased resize, the Hugging Face processor's
sizes). Without a checkpoint the network has random weights of the variant.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch

from benchmarks.lib.networks import random_network
from benchmarks.lib.timing import publish
from model import load_checkpoint
from model.command_line import Parser
from model.inputs import InputSpec, Tokenizer, decode_clip, sample_indices
from model.network.pixels import NormalisePixels
from model.network.xclip import XClip

LABELS = (
    "arm wrestling", "flipping a pancake", "applying eye make-up", "juggling balls", "archery",
    "playing the harp", "riding a horse", "washing dishes", "tai chi", "news anchoring",
)  # fmt: skip
GOAL_LOGITS = 0.1


def published_frames(path: Path, spec: InputSpec) -> np.ndarray:
    """Decode uint8 (1, T, H, W, 3) by the published rule, nothing of ours but the indices."""
    with av.open(str(path)) as container:
        pictures = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    return np.stack(
        [
            _resize_and_crop(pictures[i], spec)
            for i in sample_indices(len(pictures), spec.num_frames)[0]
        ]
    )[None]


def _resize_and_crop(picture: np.ndarray, spec: InputSpec) -> np.ndarray:
    height, width = picture.shape[:2]
    scale = spec.resize_short_side / min(height, width)
    size = int(width * scale + 0.5), int(height * scale + 0.5)
    resized = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    side = spec.image_size
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return resized[top : top + side, left : left + side]


def specs_of(spec: InputSpec) -> dict[str, InputSpec]:
    """Return the rules to compare, by what they are called in the table."""
    stored = spec.model_copy(update={"pixel_aspect": "stored"})
    soft = stored.model_copy(update={"resize_rule": "bilinear-antialias"})
    return {
        "ours, pixels as stored": stored,
        "ours, pixels as displayed": spec.model_copy(update={"pixel_aspect": "displayed"}),
        "antialiased": soft,
        "antialiased, short side to the crop": soft.model_copy(
            update={"resize_short_side": spec.image_size}
        ),
    }


def logits_of(net: XClip, frames: np.ndarray, token_ids: torch.Tensor) -> np.ndarray:
    """Return logits of one clip against the labels."""
    with torch.inference_mode():
        scores: np.ndarray = net(
            NormalisePixels(net.inputs)(torch.from_numpy(frames)), token_ids
        ).numpy()
    return scores


def compare(net: XClip, path: Path, token_ids: torch.Tensor) -> list[dict[str, Any]]:
    """Compare the rules on one clip; return the table lines."""
    published = published_frames(path, net.inputs)
    expected = logits_of(net, published, token_ids)
    rows = []
    for name, spec in specs_of(net.inputs).items():
        with path.open("rb") as source:
            frames = decode_clip(source, spec).frames
        pixels = np.abs(frames.astype(int) - published)
        logits = np.abs(logits_of(net, frames, token_ids) - expected)
        rows.append(
            {
                "clip": path.stem,
                "rule": name,
                "max pixel": int(pixels.max()),
                "mean pixel": float(pixels.mean()),
                "max logit": float(logits.max()),
                "mean logit": float(logits.mean()),
                "logit range": float(np.ptp(expected)),
            }
        )
    return rows


def main(arguments: list[str]) -> int:
    """Measure; the exit status says whether our own rule keeps the goal."""
    parser = Parser(
        prog="python -m benchmarks.resize_parity", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("clips", nargs="*", type=Path, help="video files")
    parser.add_argument("--checkpoint", help="anything load_checkpoint takes")
    parser.add_argument("--variant", default="xclip-base-patch32", help="with random weights")
    options = parser.parse_args(arguments)
    if not options.clips:
        print("no clips given: nothing to compare")
        return 0
    net = load_checkpoint(options.checkpoint) if options.checkpoint else None
    net = net or random_network(options.variant)
    token_ids = torch.from_numpy(Tokenizer.clip().encode(LABELS))
    rows = [row for clip in options.clips for row in compare(net, clip, token_ids)]
    publish(
        "resize_parity",
        "python -m benchmarks.resize_parity " + " ".join(arguments),
        rows,
        network=options.checkpoint or f"{options.variant}, random weights",
        goal=f"ours, pixels as stored: at most {GOAL_LOGITS} logits from the published path",
    )
    ours = [row["max logit"] for row in rows if row["rule"] == "ours, pixels as stored"]
    return 0 if max(ours) <= GOAL_LOGITS else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
