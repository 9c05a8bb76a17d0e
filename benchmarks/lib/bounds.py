"""What the measured machine allows at best, for the goals that arithmetic bounds.

Each figure takes the matrix peak of the same run, or the processor time of the same requests, and
everything else as costing nothing: a goal beyond it cannot be met there in that precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Reports = Mapping[str, Mapping[str, Any]]
EAGER, IN_PROCESS = "transformers eager fp32", "transformers fp32, in process"
NEW, HELD_LABELS, FULL_LOAD = "10 labels never seen", 400, 16


@dataclass(frozen=True)
class Bound:
    """The best figure that a goal could reach there, and what it consists of."""

    about: str
    best: float
    because: str


def bounds(reports: Reports) -> list[Bound]:
    """Return the bounds that the reports at hand tell."""
    return [
        *_encoder(reports),
        *_request(reports),
        *_held(reports),
        *_load(reports),
        *_decode(reports),
    ]


def _encoder(reports: Reports) -> Iterator[Bound]:
    eager = _row(reports, "encoder", EAGER)
    if eager:
        yield Bound(
            "video encoder, fp32: share of the time of transformers eager fp32",
            eager["of_peak"],
            "transformers runs at that share of the matrix peak itself",
        )


def _request(reports: Reports) -> Iterator[Bound]:
    theirs, peak = _row(reports, "latency", IN_PROCESS), _peak(reports)
    if theirs and peak:
        encode_ms = 2e3 * reports["encoder"]["gmacs"] / peak
        yield Bound(
            "POST /classify, fp32: share of transformers' time in process",
            encode_ms / theirs["median_ms"],
            f"the encoder's products at the peak, {encode_ms:.0f} ms; decode and text beside it",
        )


def _held(reports: Reports) -> Iterator[Bound]:
    rows, peak = reports.get("labels", {}).get("rows", []), _peak(reports)
    if len(rows) < 2 or not peak:
        return
    few, many = rows[0], rows[-1]
    slope = (many["gmacs"] - few["gmacs"]) / (many["labels"] - few["labels"])
    score_ms = 2e3 * (few["gmacs"] + slope * (HELD_LABELS - few["labels"])) / peak
    for precision in ("fp32", "bf16", "int8"):
        first = _row(reports, "latency", f"{precision}, {NEW}")
        if first:
            yield Bound(
                "the same clip by video_id, 400 other known labels: share of the first request, "
                + precision,
                score_ms / first["median_ms"],
                f"the score head's products at the fp32 peak, {score_ms:.1f} ms",
            )


def _load(reports: Reports) -> Iterator[Bound]:
    report = reports.get("serving", {})
    limits = report.get("encoder_limit_clips_per_s", {})
    for row in report.get("rows", []):
        case = (row["server"], row["labels"], row["clients"])
        if case != ("xclip-serve", "known", FULL_LOAD) or "clients_cpu_ms" not in row:
            continue
        parts = {who: row[f"{who}_cpu_ms"] for who in ("server", "workers", "clients")}
        most = 1e3 * report["machine"]["processors_used"] / sum(parts.values())
        yield Bound(
            f"clips a second, {row['precision']}, 16 clients: share of the encoder's own limit",
            most / limits[row["precision"]],
            "processor ms of a clip: "
            + ", ".join(f"{who} {spent:.0f}" for who, spent in parts.items()),
        )


def _decode(reports: Reports) -> Iterator[Bound]:
    alone = reports.get("decode", {}).get("keyframes_of_exact_decoder_alone")
    if alone:
        yield Bound(
            "decode of GOPs of a second, keyframes: share of exact",
            alone,
            "FFmpeg's decoder alone: a key frame takes as long as several other pictures",
        )


def _peak(reports: Reports) -> float | None:
    """Return the peak of fp32, in 10⁹ operations a second."""
    peaks: dict[str, float] = reports.get("encoder", {}).get("matrix_peak_gflops", {})
    return peaks.get("fp32")


def _row(reports: Reports, name: str, what: str) -> Mapping[str, Any] | None:
    rows: list[Mapping[str, Any]] = reports.get(name, {}).get("rows", [])
    return next((row for row in rows if row["what"] == what), None)
