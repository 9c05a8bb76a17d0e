"""The video encoder in every precision against transformers' X-CLIP on the same weights.

    python -m benchmarks.encoder [--variant NAME] [--rounds N] [--open-clip [NAME …]]

One clip at a time, all contestants in turn in one process. transformers runs eager and compiled
(`torch.compile`), in fp32 and in bf16 by autocast, with the attention it chooses by itself. Another
peer is what clip-as-service does: CLIP of the same size as ONNX, one vector a frame, averaged.
Below them networks of open_clip (CLIP B/16, PE-Core-B) as bundles of ours, against open_clip's own
code for the same frames and weights, eager and compiled.

The machine's matrix peak is measured in the same run: the best of several square products with
torch, ONNX Runtime and OpenVINO. Each contestant's share of it is the arithmetic of the network
(multiply-accumulates × 2) over its time. int8 has no share: torch multiplies no int8 to measure a
peak with.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.lib.arithmetic import multiply_accumulates
from benchmarks.lib.bundles import WITHOUT_ITS_PARTS, bundle_of, frame_averaging_bundle
from benchmarks.lib.matrix_peak import matrix_peak
from benchmarks.lib.networks import random_network
from benchmarks.lib.open_clip_networks import NETWORKS, flops_of, folder_of, open_clip_bundle
from benchmarks.lib.pretrained import pretrained
from benchmarks.lib.timing import as_row, publish, take_turns
from benchmarks.lib.torch_modes import torch_modes
from export.bundle import Bundle
from export.bundle.manifest import PrecisionName
from export.clips import generated_clips
from export.parity import cosine
from export.runtime import RuntimeUnavailableError, available_cpus, open_build
from model.command_line import Parser
from model.network.config import VARIANTS
from model.network.pixels import NormalisePixels
from model.network.xclip import XClip

PRECISIONS: tuple[PrecisionName, ...] = ("fp32", "bf16", "int8")
BASE, AVERAGING = "transformers eager fp32", "CLIP as ONNX, frames averaged, fp32"
Contestant = Callable[[], Any]
Peaks = dict[str, float]
Rows = list[dict[str, Any]]


def main() -> int:
    """Measure and publish."""
    parser = Parser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--variant", default="xclip-base-patch32")
    parser.add_argument("--rounds", type=int, default=15, help="alternated runs (15)")
    parser.add_argument(
        "--open-clip",
        nargs="*",
        choices=tuple(NETWORKS),
        default=tuple(NETWORKS),
        metavar="NAME",
        help=f"networks of open_clip to measure as well ({', '.join(NETWORKS)})",
    )
    options = parser.parse_args()
    torch.set_num_threads(available_cpus())
    peaks = {"fp32": matrix_peak(torch.float32), "bf16": matrix_peak(torch.bfloat16)}
    rows, missing = _xclip(options.variant, options.rounds, peaks)
    for name in options.open_clip:
        more, not_run = _open_clip(name, options.rounds, peaks)
        rows, missing = [*rows, *more], missing | not_run
    publish(
        "encoder",
        f"python -m benchmarks.encoder --variant {options.variant} --rounds {options.rounds}",
        rows,
        variant=options.variant,
        gmacs=multiply_accumulates(VARIANTS[options.variant]) / 1e9,
        matrix_peak_gflops={name: round(peak / 1e9) for name, peak in peaks.items()},
        not_run=missing or "none",
    )
    return 0


def _xclip(variant: str, rounds: int, peaks: Peaks) -> tuple[Rows, dict[str, str]]:
    bundle, net = bundle_of(variant, PRECISIONS), random_network(variant)
    frames = generated_clips(net.inputs).frames[:1]
    theirs, missing = _transformers(variant, net, frames)
    work = 2 * multiply_accumulates(net.config)
    less = 2 * multiply_accumulates(net.config.model_copy(update=WITHOUT_ITS_PARTS))
    with ExitStack() as opened:
        averaging = open_build(*_only_build(frame_averaging_bundle(variant)))
        opened.callback(averaging.close)
        contestants = {
            **theirs,
            AVERAGING: lambda: averaging.encode_video(frames),
            "our torch fp32": _torch(net, frames),
        }
        ours = _ours(bundle, frames, opened)
        rows = _rows(contestants, ours, rounds, peaks, lambda n: less if n == AVERAGING else work)
    return rows, missing


def _open_clip(name: str, rounds: int, peaks: Peaks) -> tuple[Rows, dict[str, str]]:
    """Measure a network of open_clip as its own code runs it, and as a bundle of ours."""
    import open_clip

    bundle = open_clip_bundle(name)
    spec = bundle.manifest.inputs
    frames = generated_clips(spec).frames[:1]
    visual = open_clip.create_model(f"local-dir:{folder_of(name)}").eval().visual
    pixels = NormalisePixels(spec)(torch.from_numpy(frames)).flatten(0, 1)
    theirs, missing = torch_modes(
        f"{name}, open_clip", lambda: visual(pixels).mean(dim=0, keepdim=True)
    )
    flops = flops_of(visual, pixels)
    with ExitStack() as opened:
        ours = _ours(bundle, frames, opened, f"{name}, ")
        return _rows(theirs, ours, rounds, peaks, lambda _: flops), missing


def _rows(
    others: Mapping[str, Contestant],
    ours: Mapping[str, Contestant],
    rounds: int,
    peaks: Peaks,
    flops: Callable[[str], float],
) -> Rows:
    """Let all take turns; the first of the others is what each is compared with."""
    base = next(iter(others))
    expected = others[base]().numpy()
    answers = {name: run()["video"] for name, run in ours.items()}
    timings = take_turns({**others, **ours}, rounds)
    rows = []
    for name, timing in timings.items():
        kind = name.split()[-1]
        rate = flops(name) / (timing.median_ms / 1e3)
        share = rate / peaks[kind] if kind in peaks else None
        near = cosine(answers[name], expected) if name in answers else None
        of_eager = timing.median_ms / timings[base].median_ms
        rows.append(as_row(name, timing, of_eager=of_eager, of_peak=share, cosine=near))
    return rows


def _ours(
    bundle: Bundle, frames: np.ndarray, opened: ExitStack, before: str = ""
) -> dict[str, Contestant]:
    contestants: dict[str, Contestant] = {}
    for build in bundle.manifest.precisions:
        for name in build.runtimes or ("onnxruntime-cpu", "openvino"):
            try:
                runtime = open_build(bundle, build, name)
            except RuntimeUnavailableError as error:
                print(f"not run: {name} {build.precision}: {error}")
                continue
            opened.callback(runtime.close)
            title = f"{before}{name} {build.precision}"
            contestants[title] = partial(runtime.encode_video, frames)
    return contestants


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
