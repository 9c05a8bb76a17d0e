"""The video encoder in every precision against transformers' X-CLIP on the same weights.

    python -m benchmarks.encoder [--variant NAME] [--rounds N]

One clip at a time, all contestants in turn in one process. transformers runs eager and compiled
(`torch.compile`), in fp32 and in bf16 by autocast, with the attention it chooses by itself. Another
peer is what clip-as-service does: CLIP of the same size as ONNX, one vector a frame, averaged.

The machine's matrix peak is measured in the same run: the best of several square products with
torch, ONNX Runtime and OpenVINO. Each contestant's share of it is the arithmetic of the network
(multiply-accumulates × 2) over its time. int8 has no share: torch multiplies no int8 to measure a
peak with.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.lib.arithmetic import multiply_accumulates
from benchmarks.lib.bundles import WITHOUT_ITS_PARTS, bundle_of, frame_averaging_bundle
from benchmarks.lib.matrix_peak import matrix_peak
from benchmarks.lib.networks import random_network
from benchmarks.lib.pretrained import pretrained
from benchmarks.lib.timing import as_row, publish, take_turns
from benchmarks.lib.torch_modes import torch_modes
from export.bundle.manifest import PrecisionName
from export.clips import generated_clips
from export.parity import cosine
from export.runtime import RuntimeUnavailableError, available_cpus, open_build
from model.command_line import Parser
from model.network.pixels import NormalisePixels
from model.network.xclip import XClip

PRECISIONS: tuple[PrecisionName, ...] = ("fp32", "bf16", "int8")
BASE, AVERAGING = "transformers eager fp32", "CLIP as ONNX, frames averaged, fp32"
Contestant = Callable[[], Any]


def main() -> int:
    """Measure and publish."""
    parser = Parser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--variant", default="xclip-base-patch32")
    parser.add_argument("--rounds", type=int, default=15, help="alternated runs (15)")
    options = parser.parse_args()
    torch.set_num_threads(available_cpus())
    bundle = bundle_of(options.variant, PRECISIONS)
    net = random_network(options.variant)
    frames = generated_clips(net.inputs).frames[:1]
    ours, answers = _ours(bundle, frames)
    theirs, missing = _transformers(options.variant, net, frames)
    averaging = open_build(*_only_build(frame_averaging_bundle(options.variant)))
    contestants = {
        **theirs,
        AVERAGING: lambda: averaging.encode_video(frames),
        "our torch fp32": _torch(net, frames),
        **ours,
    }
    expected = theirs[BASE]().numpy()
    timings = take_turns(contestants, options.rounds)
    peaks = {"fp32": matrix_peak(torch.float32), "bf16": matrix_peak(torch.bfloat16)}
    work = 2 * multiply_accumulates(net.config)
    less = 2 * multiply_accumulates(net.config.model_copy(update=WITHOUT_ITS_PARTS))
    base = timings[BASE].median_ms
    rows = []
    for name, timing in timings.items():
        flops = (less if name == AVERAGING else work) / (timing.median_ms / 1e3)
        kind = name.split()[-1]
        share = flops / peaks[kind] if kind in peaks else None
        near = cosine(answers[name], expected) if name in answers else None
        rows.append(
            as_row(name, timing, of_eager=timing.median_ms / base, of_peak=share, cosine=near)
        )
    publish(
        "encoder",
        f"python -m benchmarks.encoder --variant {options.variant}",
        rows,
        variant=options.variant,
        gmacs=work / 2e9,
        matrix_peak_gflops={name: round(peak / 1e9) for name, peak in peaks.items()},
        not_run=missing or "none",
    )
    return 0


def _ours(bundle: Any, frames: np.ndarray) -> tuple[dict[str, Contestant], dict[str, np.ndarray]]:
    contestants: dict[str, Contestant] = {}
    answers = {}
    for build in bundle.manifest.precisions:
        for name in build.runtimes or ("onnxruntime-cpu", "openvino"):
            try:
                runtime = open_build(bundle, build, name)
            except RuntimeUnavailableError as error:
                print(f"not run: {name} {build.precision}: {error}")
                continue
            title = f"{name} {build.precision}"
            answers[title] = runtime.encode_video(frames)["video"]
            contestants[title] = partial(runtime.encode_video, frames)
    return contestants, answers


def _torch(net: XClip, frames: np.ndarray) -> Contestant:
    normalise, pixels = NormalisePixels(net.inputs), torch.from_numpy(frames)

    @torch.inference_mode()
    def run() -> Any:
        return net.encode_video(normalise(pixels))

    return run


def _transformers(
    variant: str, net: XClip, frames: np.ndarray
) -> tuple[dict[str, Contestant], dict[str, str]]:
    """Make transformers' model with our weights, on prepared pixels, in every mode of torch."""
    from transformers import XCLIPModel

    theirs = XCLIPModel.from_pretrained(pretrained(variant)).eval()
    pixels = NormalisePixels(net.inputs)(torch.from_numpy(frames))
    return torch_modes(
        "transformers", lambda: theirs.get_video_features(pixel_values=pixels).pooler_output
    )


def _only_build(bundle: Any) -> tuple[Any, Any, str]:
    return bundle, bundle.manifest.precisions[0], "onnxruntime-cpu"


if __name__ == "__main__":
    sys.exit(main())
