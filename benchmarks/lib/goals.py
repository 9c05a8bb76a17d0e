"""What was promised about speed on the CPU, and what the JSON files say about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

Report = Mapping[str, Any]
Reports = Mapping[str, Report]


@dataclass(frozen=True)
class Goal:
    """A promise, the figure that was measured and its bound; None where nothing was measured."""

    about: str
    measured: float | None
    bound: float
    at_least: bool = False
    unit: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether it does; None where nobody knows."""
        if self.measured is None:
            return None
        if self.at_least:
            return self.measured >= self.bound
        return self.measured <= self.bound


def goals(reports: Reports) -> list[Goal]:
    """Return every goal, in the order of the page; a missing report leaves its figures open."""
    listed: list[Goal] = []
    for part in (_encoder, _latency, _decode, _labels, _serving, _batch, _start, _text):
        listed += part(reports)
    return listed


def _encoder(reports: Reports) -> Iterator[Goal]:
    rows = _rows(reports, "encoder")
    for precision, bound in (("fp32", 0.72), ("bf16", 0.30), ("int8", 0.20)):
        ours = [row for row in rows if row["what"] in _runtimes(precision)]
        about = f"video encoder, {precision}: share of the time of transformers eager fp32"
        yield Goal(about, _least(row["of_eager"] for row in ours), bound)
    for precision in ("fp32", "bf16"):
        shares = [row["of_peak"] for row in rows if row["what"] in _runtimes(precision)]
        about = f"video encoder, {precision}: share of the measured matrix peak"
        yield Goal(about, _most(shares), 0.90, at_least=True)


def _runtimes(precision: str) -> tuple[str, ...]:
    return tuple(f"{name} {precision}" for name in ("onnxruntime-cpu", "openvino"))


def _latency(reports: Reports) -> Iterator[Goal]:
    rows = _rows(reports, "latency")
    for labels, exact, fastest in (("never seen", 0.40, 0.20), ("seen before", 0.35, 0.15)):
        end = f", 10 labels {labels}"
        about = f"POST /classify, 10 labels {labels}: share of transformers' time in process"
        shares = {r["what"]: r["of_transformers"] for r in rows if r["what"].endswith(end)}
        in_fp32 = (share for what, share in shares.items() if what.startswith("fp32"))
        yield Goal(f"{about}, fp32", _least(in_fp32), exact)
        yield Goal(f"{about}, fastest precision", _least(shares.values()), fastest)
    for precision in ("fp32", "bf16", "int8"):
        held = [
            row["of_first"]
            for row in rows
            if row["what"].startswith(precision) and row["of_first"] is not None
        ]
        about = "the same clip by video_id, 400 other known labels: share of the first request"
        yield Goal(f"{about}, {precision}", _least(held), 0.05)


def _decode(reports: Reports) -> Iterator[Goal]:
    report = reports.get("decode", {})
    for about, name, most in (
        ("8 frames, every clip: share of the best peer's time", "exact_of_best_peer", 1.0),
        ("4K, keyframes: share of the best peer's exact time", "keyframes_of_best_peer_4k", 0.3),
        ("GOPs of a second, keyframes: share of exact", "keyframes_of_exact", 0.2),
        ("ten minutes: share of a full decode", "ten_minutes_of_full_decode", 0.1),
    ):
        yield Goal(f"decode of {about}", report.get(name), most)


def _labels(reports: Reports) -> Iterator[Goal]:
    rows = sorted(_rows(reports, "labels"), key=lambda row: row["labels"])
    for name, what in (("again_ms", "whole request"), ("score_ms", "score head")):
        grows = None
        if rows:
            time, work = (rows[-1][key] / rows[0][key] for key in (name, "gmacs"))
            grows = time / work
        about = f"labels, fewest to most, {what}: growth of time over growth of arithmetic"
        yield Goal(about, grows, 1.0)
    growth = _most(row["memory growth MB"] for row in rows)
    yield Goal("labels, fewest to most: memory growth", growth, 200, unit="MB")


def _serving(reports: Reports) -> Iterator[Goal]:
    times = reports.get("serving", {}).get("of_best_peer", [])
    for precision in dict.fromkeys(row["precision"] for row in times):
        same = [r for r in times if r["precision"] == precision and r["labels"] == "known"]
        least = _least(row["times"] for row in same)
        peer = "any precision" if precision == "int8" else precision
        about = f"clips a second, {precision}: times the best peer of {peer}, the worst level"
        yield Goal(about, least, 3.0, at_least=True)
    rows = [
        r
        for r in _rows(reports, "serving")
        if r["server"] == "xclip-serve" and "known" in r["labels"]
    ]
    limits = reports.get("serving", {}).get("encoder_limit_clips_per_s", {})
    for precision in dict.fromkeys(row["precision"] for row in rows):
        mine = sorted((r for r in rows if r["precision"] == precision), key=lambda r: r["clients"])
        flat = _least(after["clips/s"] / before["clips/s"] for before, after in pairwise(mine))
        about = f"clips a second, {precision}: the worst step to more clients (flat or rising)"
        yield Goal(about, flat, 0.95, at_least=True)
        at_16 = _most(r["clips/s"] for r in mine if r["clients"] == 16)
        share = at_16 / limits[precision] if at_16 and limits.get(precision) else None
        about = f"clips a second, {precision}, 16 clients: share of the encoder's own limit"
        yield Goal(about, share, 0.90, at_least=True)
    errors = sum(row["errors"] for row in rows) if rows else None
    yield Goal("our server under load: requests without an answer", errors, 0)


def _batch(reports: Reports) -> Iterator[Goal]:
    of_server = reports.get("batch", {}).get("of_server")
    about = "clips a second of `xclip-serve batch`: share of the server's with 16 clients"
    yield Goal(about, of_server, 0.95, at_least=True)


def _start(reports: Reports) -> Iterator[Goal]:
    for row in _rows(reports, "start"):
        if row["what"].startswith("our"):
            about = f"start, {row['what']}: share of the peer's time to its first answer"
            yield Goal(about, row["of_peer"], 1 / 3)


def _text(reports: Reports) -> Iterator[Goal]:
    for row in _rows(reports, "text_length")[::2]:
        about = f"ten short labels, {row['what']}: times faster than padded to 77 tokens"
        yield Goal(about, row["times_faster"], 5.0, at_least=True)


def _rows(reports: Reports, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = reports.get(name, {}).get("rows", [])
    return rows


def _least(values: Any) -> float | None:
    return _chosen(min, values)


def _most(values: Any) -> float | None:
    return _chosen(max, values)


def _chosen(choose: Callable[[list[float]], float], values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return choose(known) if known else None
