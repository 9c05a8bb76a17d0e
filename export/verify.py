"""Run each precision of a bundle and measure it against torch before the bundle is made."""

from __future__ import annotations

from pathlib import Path

from export.bundle import Bundle, BundleError, Parity, PrecisionBuild
from export.bundle.manifest import RuntimeName
from export.clips import load_clips
from export.errors import ExportError
from export.parity import compare
from export.reference import Reference, torch_answers
from export.runtime import DeviceMemoryError, RuntimeUnavailableError, open_build
from model.network.video_text import VideoTextNetwork
from model.progress import Steps


def verify_builds(
    bundle: Bundle, expected: Reference, steps: Steps, *, force: bool = False
) -> tuple[PrecisionBuild, ...]:
    """Measure every build of a bundle that is being made.

    Args:
        bundle: The bundle, complete but for its parity.
        expected: Torch's answers about the clips and labels to compare on.
        steps: Where progress is reported.
        force: Keep builds that are over a limit, marked `forced`.

    Returns:
        The builds with their measured parity. Of a precision that is built for several runtimes,
        what cannot be measured here is left out.

    Raises:
        ExportError: A build is over its limit, or a precision cannot be measured here at all.
    """
    builds = []
    for build in bundle.manifest.precisions:
        measured = verify_build(bundle, build, expected, steps)
        _check_engines(bundle, build, measured)
        for parity in measured:
            if not parity.passed and not force:
                raise ExportError(refusal(parity))
        forced = [p.model_copy(update={"forced": not p.passed}) for p in measured]
        builds.append(build.model_copy(update={"parity": tuple(forced)}))
    kept = tuple(build for build in builds if build.parity)
    for build in builds:
        if not any(other.precision == build.precision for other in kept):
            names = [n for b in builds if b.precision == build.precision for n in b.runtimes]
            raise ExportError(
                f"{build.precision} cannot be measured: none of {', '.join(names)} works here; "
                "install it, or leave the precision out"
            )
    return kept


def _check_engines(bundle: Bundle, build: PrecisionBuild, measured: list[Parity]) -> None:
    """Refuse engines that were not compared."""
    if "tensorrt" not in _runtimes(bundle, build):
        return
    if not any(parity.runtime == "tensorrt" for parity in measured):
        try:
            open_build(bundle, build, "tensorrt").close()
            why = "it gave no answer"
        except (RuntimeUnavailableError, DeviceMemoryError) as error:
            why = str(error)
        raise ExportError(f"the {build.precision} engine that was built does not run: {why}")


def verify_build(
    bundle: Bundle, build: PrecisionBuild, expected: Reference, steps: Steps
) -> list[Parity]:
    """Measure one build on each of its runtimes that works here.

    Where none does, fp16 is measured on the processor, which rounds weights and inputs of its
    operators alike but may keep more between them: the graph is compared, not the card.
    """
    names = _runtimes(bundle, build)
    measured = [p for name in names if (p := _measure(bundle, build, name, expected, steps))]
    if not measured and build.precision == "fp16":
        instead = _measure(bundle, build, "onnxruntime-cpu", expected, steps)
        measured = [instead] if instead else []
    return measured


def _measure(
    bundle: Bundle, build: PrecisionBuild, name: RuntimeName, expected: Reference, steps: Steps
) -> Parity | None:
    """Measure a build on one runtime; None where that does not work here."""
    try:
        runtime = open_build(bundle, build, name)
    except RuntimeUnavailableError:
        return None
    with steps.step(f"Comparing {name} {build.precision} with torch"):
        try:
            return compare(runtime, name, build.precision, expected, bundle.manifest.inputs)
        finally:
            runtime.close()


def verify_bundle(
    bundle: Bundle, net: VideoTextNetwork, clips: tuple[Path, ...], steps: Steps
) -> list[Parity]:
    """Measure every build of a finished bundle on every runtime that works here.

    Args:
        bundle: The finished bundle.
        net: The network that it was made from.
        clips: Video files to compare on; none compares on generated ones.
        steps: Where progress is reported.

    Returns:
        A parity for each build and runtime, passed or not.

    Raises:
        BundleError: The bundle was made from another checkpoint.
        ValueError: Names a clip that cannot be used.
    """
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
    """Say in one line why a build is not made."""
    worst = min(parity.min_cosine, key=lambda name: parity.min_cosine[name])
    return (
        f"{parity.runtime} {parity.precision} is too far from torch: logits differ by "
        f"{parity.max_logit_error:.2g} (limit {parity.logit_limit:g}), smallest cosine "
        f"{parity.min_cosine[worst]:.6f} in {worst} (limit {parity.cosine_limit:g})"
        f"{'' if parity.same_order else ', labels change their order'}; "
        "leave the precision out, or accept it with --force"
    )


def _runtimes(bundle: Bundle, build: PrecisionBuild) -> tuple[RuntimeName, ...]:
    """List where a build is measured: where it was made for, or wherever it may run."""
    if build.runtimes:
        return build.runtimes
    engines = {engine.precision for engine in bundle.manifest.engines}
    everywhere: tuple[RuntimeName, ...] = ("onnxruntime-cpu", "openvino", "onnxruntime-cuda")
    return (*everywhere, "tensorrt") if build.precision in engines else everywhere
