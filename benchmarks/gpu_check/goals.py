"""What was promised about an H100, and what the rows say about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.gpu_check.options import TIMED
from benchmarks.gpu_check.outcomes import RAN, Row
from benchmarks.lib.goals import Goal

CARD = "H100"
BATCH = 32
HALF = ("fp16", "bf16")
LOGITS, AGREEMENT = 0.15, 0.995
TORCH = ("transformers", "our torch")


def goals(parts: Mapping[str, Sequence[Row]]) -> list[Goal]:
    """Check the goals of one provider in one precision; None where it was not run."""
    speeds = [r for r in parts.get("speed", ()) if r.get("variant") == TIMED]
    near = [r for r in parts.get("parity", ()) if r.get("variant") == TIMED]
    return list(_goals(speeds, near))


def _goals(speeds: list[Row], near: list[Row]) -> Iterator[Goal]:
    best = chosen(speeds, near)
    name = f"{best[0]} {best[1]}" if best else "a provider in fp16 or bf16"
    about = f"{TIMED}, {name}"
    large, one = (_row(speeds, best, batch) for batch in (BATCH, 1))
    answers = _row(near, best, None)
    peer = min(
        (
            r["median_ms"]
            for r in speeds
            if r["what"] == "transformers compiled" and _counts(r) and r["batch"] == BATCH
        ),
        default=None,
    )
    ratio = peer / large["median_ms"] if peer and large else None
    yield Goal(
        f"{about}, batch {BATCH}: share of the card's matrix peak",
        large.get("of_peak"), 0.5, at_least=True,
    )  # fmt: skip
    yield Goal(
        f"{about}, batch {BATCH}: times transformers' model compiled, in fp16 or bf16",
        ratio, 1.2, at_least=True,
    )  # fmt: skip
    yield Goal(f"{about}, batch 1: latency", one.get("median_ms"), 5.0, unit="ms")
    yield Goal(
        f"{about}: top-1 agreement with torch in fp32",
        answers.get("top1_agreement"), AGREEMENT, at_least=True,
    )  # fmt: skip
    yield Goal(f"{about}: largest difference of a logit", answers.get("logit_error"), LOGITS)


def chosen(speeds: Sequence[Row], near: Sequence[Row]) -> tuple[str, str] | None:
    """Choose the fastest provider at batch 32 among those whose answers are near enough; where
    none is, the fastest. The goals of speed and of answers are then about the same one.
    """
    timed = sorted(
        (r for r in speeds if _counts(r) and r["batch"] == BATCH and _is_provider(r)),
        key=lambda r: float(r["median_ms"]),
    )
    keys = [(str(r["what"]), str(r["precision"])) for r in timed]
    good = [key for key in keys if _as_near_as_promised(_row(near, key, None))]
    return next(iter([*good, *keys]), None)


def _as_near_as_promised(row: Row) -> bool:
    return bool(row) and row["logit_error"] <= LOGITS and row["top1_agreement"] >= AGREEMENT


def _counts(row: Row) -> bool:
    return row["outcome"] == RAN and row["precision"] in HALF and "median_ms" in row


def _is_provider(row: Row) -> bool:
    return not str(row["what"]).startswith(TORCH)


def _row(rows: Sequence[Row], key: tuple[str, str] | None, batch: int | None) -> Row:
    """Return the row of that contestant that has figures; empty where there is none."""
    for row in rows:
        same = (row.get("what"), row.get("precision")) == key and row.get("batch") == batch
        if same and ("median_ms" in row or "logit_error" in row):
            return row
    return {}
