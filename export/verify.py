"""A bundle's precisions, each run and measured against torch before the bundle is called made."""

from __future__ import annotations

from pathlib import Path

from export.bundle import Bundle, BundleError, Parity, PrecisionBuild
from export.bundle.manifest import RuntimeName
from export.clips import load_clips
from export.errors import ExportError
from export.parity import compare
from export.progress import Steps
from export.reference import Reference, torch_answers
from export.runtime import RuntimeUnavailableError, open_build
from model.xclip import XClip


def verify_builds(
    bundle: Bundle, expected: Reference, steps: Steps, *, force: bool = False
) -> tuple[PrecisionBuild, ...]:
    """The bundle's builds with their measured parity; fails above a limit unless forced."""
    builds = []
    for build in bundle.manifest.precisions:
        measured = verify_build(bundle, build, expected, steps)
        if not measured:
            raise ExportError(
                f"{build.precision} cannot be measured: none of {', '.join(build.runtimes)} works "
                "here; install it, or leave the precision out"
            )
        for parity in measured:
            if not parity.passed and not force:
                raise ExportError(refusal(parity))
        forced = [p.model_copy(update={"forced": not p.passed}) for p in measured]
        builds.append(build.model_copy(update={"parity": tuple(forced)}))
    return tuple(builds)


def verify_build(
    bundle: Bundle, build: PrecisionBuild, expected: Reference, steps: Steps
) -> list[Parity]:
    """One build on each of its CPU runtimes that works here."""
    measured = []
    for name in _runtimes(bundle, build):
        try:
            runtime = open_build(bundle, build, name)
        except RuntimeUnavailableError:
            continue
        with steps.step(f"Comparing {name} {build.precision} with torch"):
            spec = bundle.manifest.inputs
            measured.append(compare(runtime, name, build.precision, expected, spec))
            runtime.close()
    return measured


def verify_bundle(
    bundle: Bundle, net: XClip, clips: tuple[Path, ...], steps: Steps
) -> list[Parity]:
    """Every build of a finished bundle on every CPU runtime that works here."""
    samples = load_clips(clips, bundle.manifest.inputs)
    if net.inputs != bundle.manifest.inputs:
        raise BundleError(
            f"{bundle.path} was made from another checkpoint: it takes {bundle.manifest.inputs}, "
            f"the checkpoint {net.inputs}"
        )
    with steps.step(f"Asking torch about {len(samples.names)} {samples.source} clips"):
        expected = torch_answers(net, bundle.tokenizer(), samples)
    builds = bundle.manifest.precisions
    return [p for build in builds for p in verify_build(bundle, build, expected, steps)]


def refusal(parity: Parity) -> str:
    """Why a build is not made, in one line."""
    worst = min(parity.min_cosine, key=lambda name: parity.min_cosine[name])
    return (
        f"{parity.runtime} {parity.precision} is too far from torch: logits differ by "
        f"{parity.max_logit_error:.2g} (limit {parity.logit_limit:g}), smallest cosine "
        f"{parity.min_cosine[worst]:.6f} in {worst} (limit {parity.cosine_limit:g})"
        f"{'' if parity.same_order else ', labels change their order'}; "
        "leave the precision out, or accept it with --force"
    )


def _runtimes(bundle: Bundle, build: PrecisionBuild) -> tuple[RuntimeName, ...]:
    """Where a build is measured: where it was made for, or wherever it may run."""
    if build.runtimes:
        return build.runtimes
    engines = {engine.precision for engine in bundle.manifest.engines}
    everywhere: tuple[RuntimeName, ...] = ("onnxruntime-cpu", "openvino", "onnxruntime-cuda")
    return (*everywhere, "tensorrt") if build.precision in engines else everywhere
