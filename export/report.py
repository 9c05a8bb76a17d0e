"""Tables a person can read: what is in a bundle, and how far its runtimes are from torch."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from export.bundle import Bundle, BundleManifest, Parity
from export.bundle.manifest import GraphInfo, TensorInfo
from model.inputs import InputSpec


def print_bundle(bundle: Bundle, console: Console) -> None:
    """Print everything in the manifest, and the size of each file."""
    manifest = bundle.manifest
    console.print(_facts(bundle))
    console.print(_graphs(manifest))
    console.print(_precisions(manifest))
    if manifest.labels:
        console.print(_labels(manifest))
    console.print(_files(bundle))
    for build in manifest.precisions:
        for parity in build.parity:
            print_parity(parity, console)


def print_parity(parity: Parity, console: Console) -> None:
    """Print every case that was measured, and the verdict."""
    table = Table(title=f"Against torch: {parity.runtime}, {parity.precision}")
    for column in ("clips", "labels", "tokens", "max logit error", "inverted gap", "top-1"):
        table.add_column(column, justify="right")
    for case in parity.cases:
        table.add_row(
            str(case.clips),
            str(case.labels),
            str(case.token_length),
            f"{case.max_logit_error:.2e}",
            f"{case.inverted_gap:.2e}",
            f"{case.top1_agreement:.1%}",
        )
    console.print(table)
    cosines = ", ".join(f"{name} {value:.7f}" for name, value in parity.min_cosine.items())
    console.print(f"clips ({parity.clip_source}): {escape(', '.join(parity.clips))}")
    console.print(f"smallest cosine: {cosines} (limit {parity.cosine_limit})")
    console.print(f"{verdict(parity)}", highlight=False)


def verdict(parity: Parity) -> str:
    """Say in one line the worst error, the limit, and passed or not."""
    order = "same order" if parity.same_order else "another order"
    word = "passed" if parity.passed else "FAILED, forced" if parity.forced else "FAILED"
    return (
        f"{parity.runtime} {parity.precision}: max logit error {parity.max_logit_error:.2e} "
        f"(limit {parity.logit_limit:g}), {order}: {word}"
    )


def _facts(bundle: Bundle) -> Table:
    manifest = bundle.manifest
    spec = manifest.inputs
    table = Table(title=escape(str(bundle.path)), show_header=False)
    rows = {
        "name": manifest.name,
        "variant": manifest.variant,
        "source": manifest.source,
        "licence": manifest.licence or "not known",
        "trained": "yes" if manifest.trained else "no",
        "warnings": "; ".join(manifest.warnings) or "none",
        "format": str(manifest.format_version),
        "hash": f"sha256:{bundle.hash}",
        "prompts of labels": ", ".join(manifest.templates) or "the bare label",
        "frames": f"{spec.num_frames} of {spec.image_size}×{spec.image_size}, {spec.frame_rule}",
        "resize": resize_text(spec),
        "mean, std": f"{spec.mean}, {spec.std}",
        "context length": str(spec.context_length),
        "tokenizer": f"{spec.tokenizer.kind}, {spec.tokenizer.pad} padding, "
        f"clean-up {spec.tokenizer.clean}",
        "logit scale": f"{manifest.logit_scale:.4f}",
        "logit bias": f"{manifest.logit_bias:.4f}",
        "calibration": _calibration(manifest),
        "versions": ", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
    }
    for key, value in rows.items():
        table.add_row(key, escape(value))
    return table


def _calibration(manifest: BundleManifest) -> str:
    if manifest.calibration is None:
        return "none; `xclip-serve calibrate` makes one"
    calibration = manifest.calibration
    after = calibration.figures.after
    return (
        f"{calibration.clips} clips of {calibration.labels} labels; unknown by "
        f"{calibration.statistic}, AUROC {after.auroc.mean:.3f}, error {after.ece.mean:.3f}"
    )


def resize_text(spec: InputSpec) -> str:
    """Say how a picture comes to the network's size."""
    if spec.crop == "squash":
        return f"both sides to {spec.image_size}, {spec.resize_rule}"
    return f"short side to {spec.resize_short_side}, {spec.resize_rule}, crop {spec.crop}"


def _graphs(manifest: BundleManifest) -> Table:
    table = Table("graph", "inputs", "outputs", title="Graphs")
    for name, graph in manifest.graphs.items():
        table.add_row(name, *_signature(graph))
    return table


def _signature(graph: GraphInfo) -> tuple[str, str]:
    return "\n".join(map(_tensor, graph.inputs)), "\n".join(map(_tensor, graph.outputs))


def _tensor(tensor: TensorInfo) -> str:
    return escape(f"{tensor.name} {tensor.dtype} ({', '.join(map(str, tensor.shape))})")


def _precisions(manifest: BundleManifest) -> Table:
    table = Table("precision", "runtimes", "how", "against torch", title="Precisions")
    for build in manifest.precisions:
        figures = "\n".join(map(verdict, build.parity)) or "not measured"
        runtimes = ", ".join(build.runtimes) or "any"
        table.add_row(build.precision, runtimes, escape(build.method), figures)
    return table


def _labels(manifest: BundleManifest) -> Table:
    table = Table("label list", "labels", title="Stored label lists")
    for name, info in manifest.labels.items():
        table.add_row(escape(name), str(info.count))
    return table


def _files(bundle: Bundle) -> Table:
    table = Table("file", "MB", "SHA-256", title="Files")
    for name, digest in bundle.manifest.files.items():
        size = bundle.file(name).stat().st_size / 1e6
        table.add_row(escape(name), f"{size:.2f}", f"{digest[:16]}…")
    return table
