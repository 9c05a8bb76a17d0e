"""Making a bundle: graphs, tokenizer, label lists, precisions, comparison with torch, manifest."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from export.bundle import Bundle, BundleManifest, LabelSet, open_bundle
from export.bundle.labels import write_label_set
from export.bundle.manifest import PrecisionName
from export.bundle.writing import hash_files, new_bundle_folder, write_manifest
from export.clips import load_clips
from export.graphs import graphs_of
from export.label_file import read_label_file
from export.precision import EXACT, make_builds
from export.progress import Steps
from export.reference import PROMPTS_AT_ONCE, torch_answers
from export.tracing import write_graph
from export.verify import verify_builds
from model.inputs import Tokenizer
from model.xclip import XClip

TOKENIZER_FILE = "tokenizer.json"
UNTRAINED = "untrained weights: the ranking is arbitrary"
VERSIONED = ("xclip-serve", "torch", "onnx", "onnxscript", "onnxruntime", "openvino")


@dataclass(frozen=True)
class BundleOptions:
    """What goes into a bundle besides the network."""

    label_files: tuple[Path, ...] = ()
    precisions: tuple[PrecisionName, ...] = ("fp32",)
    clips: tuple[Path, ...] = ()
    overwrite: bool = False
    force: bool = False


@dataclass(frozen=True)
class Network:
    """A loaded checkpoint and what it says about itself."""

    net: XClip
    tokenizer: Tokenizer
    name: str
    variant: str
    source: str
    trained: bool


def make_bundle(network: Network, output: Path, options: BundleOptions, steps: Steps) -> Bundle:
    """Export, compare and only then let the bundle appear at `output`.

    Raises `ExportError` where a graph cannot be made or is too far from torch, `BundleError` where
    `output` is taken, `ValueError` for a bad label file or clip.
    """
    net = network.net.eval().requires_grad_(requires_grad=False)
    lists = {path.stem: read_label_file(path) for path in options.label_files}
    with new_bundle_folder(output, overwrite=options.overwrite) as folder:
        graphs = {}
        for traced in graphs_of(net):
            with steps.step(f"Tracing {traced.name}"):
                graphs[traced.name] = write_graph(traced, folder)
        network.tokenizer.save(folder / TOKENIZER_FILE)
        labels = {}
        for name, names in lists.items():
            with steps.step(f"Encoding {len(names)} labels of {name}"):
                labels[name] = write_label_set(folder, name, embed_labels(network, names))
        draft = BundleManifest(
            name=network.name,
            variant=network.variant,
            source=network.source,
            trained=network.trained,
            warnings=() if network.trained else (UNTRAINED,),
            logit_scale=float(net.logit_scale.exp()),
            inputs=net.inputs,
            graphs=graphs,
            precisions=(EXACT,),
            labels=labels,
            tokenizer=TOKENIZER_FILE,
            tokenizer_hash=network.tokenizer.hash,
            files=hash_files(folder),
            versions=_versions(),
        )
        with steps.step(f"Preparing {', '.join(options.precisions)}"):
            builds = make_builds(folder, draft, options.precisions)
        draft = draft.model_copy(update={"precisions": builds, "files": hash_files(folder)})
        write_manifest(folder, _measured(network, folder, draft, options, steps))
    return open_bundle(output)


def embed_labels(network: Network, labels: tuple[str, ...]) -> LabelSet:
    """Vectors of a label list, before the prompt head; the prompt of X-CLIP is the bare name."""
    spec = network.net.inputs
    ids = torch.from_numpy(network.tokenizer.encode(labels, spec.context_length, spec.pad_id))
    with torch.inference_mode():
        vectors = torch.cat([network.net.encode_text(part) for part in ids.split(PROMPTS_AT_ONCE)])
    return LabelSet(labels, labels, vectors.numpy())


def _measured(
    network: Network, folder: Path, draft: BundleManifest, options: BundleOptions, steps: Steps
) -> BundleManifest:
    """The draft with measured parity in it, and a warning for what was forced."""
    write_manifest(folder, draft)
    clips = load_clips(options.clips, draft.inputs)
    with steps.step(f"Asking torch about {len(clips.names)} {clips.source} clips"):
        expected = torch_answers(network.net, network.tokenizer, clips)
    builds = verify_builds(open_bundle(folder), expected, steps, force=options.force)
    forced = [
        f"{parity.precision} on {parity.runtime} is further from torch than its limit"
        for build in builds
        for parity in build.parity
        if parity.forced
    ]
    return draft.model_copy(update={"precisions": builds, "warnings": (*draft.warnings, *forced)})


def _versions() -> dict[str, str]:
    found = {}
    for name in VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
