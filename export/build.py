"""Make a bundle: graphs, tokenizer, label lists, precisions, comparison with torch, manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from export.bundle import (
    Bundle,
    BundleManifest,
    EngineInfo,
    GraphInfo,
    LabelSet,
    PrecisionBuild,
    open_bundle,
)
from export.bundle.labels import write_label_set
from export.bundle.manifest import GraphName, PrecisionName
from export.bundle.writing import hash_files, new_bundle_folder, write_manifest
from export.clips import load_clips
from export.engines import build_engines, find_tensorrt
from export.errors import ExportError
from export.graphs import graphs_of
from export.half_precision import weights_file
from export.precision import make_builds, with_engines
from export.reference import Reference, torch_answers
from export.tracing import write_graph
from export.verify import verify_builds
from model.checkpoints.loaded import LoadedNetwork
from model.data.lists.labels import LabelList, read_labels
from model.evaluate.scorer import TorchScorer, label_vectors
from model.inputs import Tokenizer, check_templates, label_prompts
from model.network.frame_pooling import FramePooledClip
from model.network.video_text import VideoTextNetwork
from model.progress import Steps

TOKENIZER_FILE = "tokenizer.json"
UNTRAINED = "untrained weights: the ranking is arbitrary"
VERSIONED = ("xclip-serve", "torch", "onnx", "onnxscript", "onnxruntime", "openvino")


@dataclass(frozen=True)
class BundleOptions:
    """What goes into a bundle besides the network."""

    label_files: tuple[Path, ...] = ()
    precisions: tuple[PrecisionName, ...] = ("fp32",)
    clips: tuple[Path, ...] = ()
    calibration: tuple[Path, ...] = ()
    tensorrt: bool = False
    timing_cache: Path | None = None
    overwrite: bool = False
    force: bool = False
    templates: tuple[str, ...] | None = None  # instead of the checkpoint's own


def make_bundle(
    checkpoint: LoadedNetwork, output: Path, options: BundleOptions, steps: Steps
) -> Bundle:
    """Export, compare and only then let the bundle appear at `output`.

    Args:
        checkpoint: The network, its tokenizer and the templates it was trained with.
        output: Folder to make.
        options: What goes in besides: label lists, precisions, engines, other templates.
        steps: Where progress is shown.

    Returns:
        The bundle, opened. Its files are checked, and its logits were within the limits of
        `export.limits` from torch's on real clips.

    Raises:
        ExportError: A graph cannot be made, or is too far from torch.
        BundleError: `output` is taken.
        ValueError: A label file, a template or a clip is bad.
        OSError: The folder cannot be written.
    """
    net = checkpoint.net.eval().requires_grad_(requires_grad=False)
    tokenizer = checkpoint.tokenizer or Tokenizer.clip()
    # What the user named is read first: a mistake is told before the long work, not after it.
    _check_precisions(net, options.precisions)
    if options.tensorrt:
        find_tensorrt()
    templates = check_templates(
        checkpoint.templates if options.templates is None else options.templates
    )
    lists = {path.stem: read_labels(path) for path in options.label_files}
    clips = load_clips(options.clips, net.inputs)
    calibration = load_clips(options.calibration, net.inputs) if options.calibration else None
    with new_bundle_folder(output, overwrite=options.overwrite) as folder:
        graphs = _write_graphs(net, folder, steps)
        tokenizer.save(folder / TOKENIZER_FILE)
        with steps.step(f"Preparing {', '.join(options.precisions)}"):
            builds = make_builds(folder, graphs["video_encoder"], options.precisions, calibration)
        engines: tuple[EngineInfo, ...] = ()
        if options.tensorrt:
            length, cache = net.inputs.context_length, options.timing_cache
            engines = build_engines(folder, graphs, builds, length, steps, cache)
            builds = with_engines(builds, engines)
        labels = {}
        for name, known in lists.items():
            with steps.step(f"Encoding {len(known)} labels of {name}"):
                labels[name] = write_label_set(
                    folder, name, embed_labels(net, tokenizer, known, templates)
                )
        draft = BundleManifest(
            name=checkpoint.name,
            variant=net.variant,
            source=checkpoint.source,
            licence=checkpoint.licence,
            trained=checkpoint.trained,
            warnings=() if checkpoint.trained else (UNTRAINED,),
            logit_scale=float(net.logit_scale.exp()),
            logit_bias=net.logit_bias,
            inputs=net.inputs,
            templates=templates,
            graphs=graphs,
            precisions=builds,
            engines=engines,
            labels=labels,
            tokenizer=TOKENIZER_FILE,
            tokenizer_hash=tokenizer.hash,
            files=hash_files(folder),
            versions=_versions(),
        )
        write_manifest(folder, draft)
        with steps.step(f"Asking torch about {len(clips.names)} {clips.source} clips"):
            expected = torch_answers(net, tokenizer, clips)
        # Files were hashed a moment ago: no need to read them all again.
        written = open_bundle(folder, check_files=False)
        write_manifest(folder, _measured(written, expected, steps, force=options.force))
    return open_bundle(output)


def _check_precisions(net: VideoTextNetwork, precisions: tuple[PrecisionName, ...]) -> None:
    """Refuse half precision where its graph ends ONNX Runtime's process as it is opened."""
    half = [precision for precision in precisions if precision in ("fp16", "bf16")]
    if half and isinstance(net, FramePooledClip) and net.pooling == "tokens":
        raise ExportError(
            f"{' and '.join(half)} cannot be had with --pooling tokens: leave the precision out, "
            "or pool by the mean"
        )


def _write_graphs(net: VideoTextNetwork, folder: Path, steps: Steps) -> dict[GraphName, GraphInfo]:
    graphs: dict[GraphName, GraphInfo] = {}
    for traced in graphs_of(net):
        with steps.step(f"Tracing {traced.name}"):
            graphs[traced.name] = write_graph(traced, folder)
    return graphs


def embed_labels(
    net: VideoTextNetwork,
    tokenizer: Tokenizer,
    labels: LabelList,
    templates: tuple[str, ...] = (),
) -> LabelSet:
    """Encode a label list, before the prompt head, each label in the network's own prompts."""
    scorer = TorchScorer(net, tokenizer, templates=templates)
    prompts = tuple(label_prompts(labels.texts, templates))
    return LabelSet(labels.names, prompts, label_vectors(scorer, labels.texts).numpy(), templates)


def _measured(draft: Bundle, expected: Reference, steps: Steps, *, force: bool) -> BundleManifest:
    """Return the draft's manifest with measured parity in it, and a warning for what was forced.

    Files of what could not be measured here are taken away.
    """
    builds = verify_builds(draft, expected, steps, force=force)
    forced = [
        f"{parity.precision} on {parity.runtime} is further from torch than its limit"
        for build in builds
        for parity in build.parity
        if parity.forced
    ]
    files = dict(draft.manifest.files)
    for name in _files(draft.manifest.precisions, files) - _files(builds, files):
        draft.file(name).unlink()
        del files[name]
    warnings = (*draft.manifest.warnings, *forced)
    changed = {"precisions": builds, "warnings": warnings, "files": files}
    return draft.manifest.model_copy(update=changed)


def _files(builds: tuple[PrecisionBuild, ...], files: Mapping[str, str]) -> set[str]:
    """Return what the builds run from beyond the fp32 graphs, with the weights beside."""
    graphs = {file for build in builds for file in build.graphs.values()}
    weights = {weights_file(file) for file in graphs}
    return (graphs | weights) & set(files)


def _versions() -> dict[str, str]:
    versions = {}
    for name in VERSIONED:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
