"""Our server under load against transformers behind FastAPI and behind LitServe.

    python -m benchmarks.serving [--seconds 6] [--clients 1 4 16 64]

Each server is a process on a port, one after the other, with the same B/32 network; clients ask
without a pause, each waiting for its answer. A request is a clip of ten seconds and ten labels over
HTTP. Every request brings another file (the same frames, other bytes), so that our server never
knows a clip again; it does know the ten labels again, except where the table says "new", and the
peers encode them each time, as the model's `forward` does. Files decode with decord in the peers.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import httpx
import numpy as np
import torch

from benchmarks.lib.bundles import bundle_of, missing_from
from benchmarks.lib.clip import WHAT, another_file, new_labels, ten_second_clip
from benchmarks.lib.load import Ask, Served, under_load
from benchmarks.lib.pretrained import pretrained
from benchmarks.lib.server_process import (
    ServerDied,
    ServerProcess,
    ask,
    our_server,
    peer_server,
)
from benchmarks.lib.timing import publish, take_turns
from export.bundle import Bundle
from export.bundle.manifest import PrecisionName
from export.runtime import RuntimeUnavailableError, available_cpus, open_runtime
from model.command_line import Parser

VARIANT, LABELS, NEW_AT = "xclip-base-patch32", 10, 16
PRECISIONS: tuple[PrecisionName, ...] = ("fp32", "bf16", "int8")
PEERS, PEER_PRECISIONS = ("fastapi", "litserve"), ("fp32", "bf16")
OURS = "xclip-serve"
Labels = Literal["known", "new"]


@dataclass(frozen=True)
class Contestant:
    """A server to start."""

    server: str
    precision: str
    start: Callable[[], AbstractContextManager[ServerProcess]]


def main(arguments: Sequence[str]) -> int:
    """Measure and publish."""
    parser = Parser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--seconds", type=float, default=6, help="of load at each level (6)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64], help="at once")
    options = parser.parse_args(arguments)
    torch.set_num_threads(available_cpus())
    bundle = bundle_of(VARIANT, PRECISIONS)
    limits, missing = encoder_limits(bundle)
    most = str(max(64, *options.clients))
    flags = ("--max-uploads-per-client", most, "--max-uploads", most, "--max-in-flight", most)
    folder = pretrained(VARIANT)
    contestants = [
        Contestant(OURS, p, partial(our_server, bundle.path, p, *flags)) for p in limits
    ] + [
        Contestant(kind, p, partial(peer_server, kind, folder, p))
        for kind in PEERS
        for p in PEER_PRECISIONS
    ]
    clip = ten_second_clip()
    rows: list[dict[str, Any]] = []
    for contestant in contestants:
        try:
            rows += measure(contestant, clip, options.clients, options.seconds)
        except (ServerDied, httpx.HTTPError) as error:
            missing[f"{contestant.server} {contestant.precision}"] = str(error)[:200]
    publish(
        "serving",
        f"python -m benchmarks.serving --seconds {options.seconds:g}",
        rows,
        variant=VARIANT,
        clip=f"{WHAT}, {len(clip) / 1e6:.2f} MB, every request another file",
        our_settings=" ".join(flags),
        encoder_limit_clips_per_s=limits,
        of_best_peer=ratios(rows),
        not_run=missing or "none",
    )
    return 0


def encoder_limits(bundle: Bundle) -> tuple[dict[str, float], dict[str, str]]:
    """Measure the encoder alone, in clips a second; say why a precision is left out."""
    spec = bundle.manifest.inputs
    frames = np.zeros((1, spec.num_frames, spec.image_size, spec.image_size, 3), np.uint8)
    limits: dict[str, float] = {}
    absent = missing_from(bundle, PRECISIONS)
    missing = {f"{OURS} {precision}": why for precision, why in absent.items()}
    for precision in PRECISIONS:
        if precision in absent:
            continue
        try:
            runtime = open_runtime(bundle, "auto", precision)
        except RuntimeUnavailableError as error:
            missing[f"{OURS} {precision}"] = str(error)
            continue
        taken = take_turns({precision: partial(runtime.encode_video, frames)}, 7)
        limits[precision] = round(1e3 / taken[precision].median_ms, 2)
        runtime.close()
    return limits, missing


def measure(
    contestant: Contestant, clip: bytes, clients: Sequence[int], seconds: float
) -> list[dict[str, Any]]:
    """Measure one server; return its table lines."""
    rows = []
    same = new_labels(LABELS)

    def with_known(client: httpx.Client) -> None:
        ask(client, another_file(clip), same)

    def with_new(client: httpx.Client) -> None:
        ask(client, another_file(clip), new_labels(LABELS))

    with contestant.start() as server:
        under_load(server.url, with_known, clients=2, seconds=0)  # warm
        for count in clients:
            rows.append(_loaded(contestant, server, with_known, "known", count, seconds))
            if contestant.server == OURS and count == NEW_AT:
                rows.append(_loaded(contestant, server, with_new, "new", count, seconds))
    return rows


def _loaded(
    contestant: Contestant,
    server: ServerProcess,
    question: Ask,
    labels: Labels,
    clients: int,
    seconds: float,
) -> dict[str, Any]:
    """Measure one table line, with the processor time that a clip takes of everybody."""
    before, own = server.processor_s(), time.process_time()
    served = under_load(server.url, question, clients, seconds)
    spent = {who: s - before[who] for who, s in server.processor_s().items()}
    spent["clients"] = time.process_time() - own
    per_clip = {f"{who}_cpu_ms": 1e3 * s / max(1, served.answers) for who, s in spent.items()}
    return _row(contestant, labels, clients, served) | per_clip


def _row(contestant: Contestant, labels: Labels, clients: int, served: Served) -> dict[str, Any]:
    return {
        "server": contestant.server,
        "precision": contestant.precision,
        "labels": labels,
        "clients": clients,
        "clips/s": served.clips_per_s,
        "p50_ms": served.p50_ms,
        "p99_ms": served.p99_ms,
        "worst_ms": served.worst_ms,
        "answers": served.answers,
        "errors": served.errors,
        "first_error": served.first_error,
    }


def ratios(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return our clips a second over the best peer's at each level, precision by precision.

    int8, which torch has not, stands against the best peer of any precision.
    """
    return list(_ratios(rows))


def _ratios(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        if row["server"] != OURS:
            continue
        rivals = [
            peer["clips/s"]
            for peer in rows
            if peer["server"] != OURS
            and peer["clients"] == row["clients"]
            and row["precision"] in (peer["precision"], "int8")
        ]
        if rivals and max(rivals):
            keys = ("precision", "labels", "clients")
            yield {key: row[key] for key in keys} | {"times": row["clips/s"] / max(rivals)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
