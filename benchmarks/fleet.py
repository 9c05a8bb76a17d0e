"""The fleet for a million and a billion clips a day, calculated from costs that were measured.

    python -m benchmarks.fleet [--clips 1e6 1e9] [--peak 2] [--load 0.7] [--new-labels 0.1] …

Nothing is measured here: what decoding, encoding, label vectors, scoring and Redis take is read
from the reports in `docs/benchmarks/`, and every assumption is an option. The sum of the costs says
how many clips two cores would answer a second; the server was measured on those two
(`serving.json`, 16 clients), and the ratio of the two is what the parts lose to each other when
they run together. The fleet is enlarged by it. A card's rate is arithmetic, since none was
measured: put in your own.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.lib.timing import RESULTS, publish
from model.command_line import Parser, share

PRECISIONS = {"fp32": "openvino fp32", "bf16": "openvino bf16", "int8": "openvino int8"}
LABELS, CORES, CLIENTS = 10, 2, 16  # of the measured questions, machine and load
DAY_S = 86_400
SOURCES = ("decode_pool", "encoder", "stages", "profile_request", "serving", "shared_cache")


@dataclass(frozen=True)
class RedisCosts:
    """What a Redis takes that servers share.

    Attributes:
        put_clip: Seconds of one core, ours and Redis' together, to store the features of a clip.
        get_clip: To read them.
        put_labels: To store the vectors of ten labels.
        clip_bytes: Memory of a clip, with its key and Redis' bookkeeping.
        label_bytes: Of a label.
    """

    put_clip: float
    get_clip: float
    put_labels: float
    clip_bytes: float
    label_bytes: float


@dataclass(frozen=True)
class Costs:
    """Seconds of one core for each part of a question about ten labels, in one precision.

    Attributes:
        decode: A clip of ten seconds, 340x256, in a confined worker.
        encode: The video encoder.
        text: Label vectors, where the labels are new.
        score: The score head.
        request: Upload, form, answer.
        measured: Clips a second that the server answered on two cores, labels known, without Redis.
        redis: What sharing takes.
    """

    decode: float
    encode: float
    text: float
    score: float
    request: float
    measured: float
    redis: RedisCosts

    def of_a_clip(self, new_labels: float = 0, *, on_card: bool = False) -> float:
        """Return the core seconds of a clip; with a card it decodes and answers alone."""
        host = self.decode + self.request
        return host if on_card else host + self.encode + self.score + new_labels * self.text

    @property
    def expected(self) -> float:
        """Clips a second of two cores, were nothing lost between the parts."""
        return CORES / self.of_a_clip()

    @property
    def share_reached(self) -> float:
        """How much of that the server reached."""
        return self.measured / self.expected


def read_costs(folder: Path, precision: str) -> Costs:
    """Read the reports of a folder."""
    reports = {name: json.loads((folder / f"{name}.json").read_text()) for name in SOURCES}

    def row(report: str, **wanted: object) -> dict[str, Any]:
        rows: list[dict[str, Any]] = reports[report]["rows"]
        return next(r for r in rows if wanted.items() <= r.items())

    def core_s(report: str, cores: int, **wanted: object) -> float:
        return float(row(report, **wanted)["median_ms"]) / 1e3 * cores

    request = row("profile_request", request=f"{precision}, new clip, labels seen")
    load = row(
        "serving", server="xclip-serve", precision=precision, labels="known", clients=CLIENTS
    )

    def redis_s(what: str) -> float:
        return float(row("shared_cache", what=what)["core ms"]) / 1e3

    put_clip, put_labels = "put a clip", f"put {LABELS} labels"
    return Costs(
        decode=core_s("decode_pool", 1, what="pool"),
        encode=core_s("encoder", CORES, what=PRECISIONS[precision]),
        text=core_s("stages", CORES, stage=f"text, {LABELS} labels", what="openvino fp32"),
        score=core_s("stages", CORES, stage=f"score, {LABELS} labels", what="openvino fp32"),
        request=float(request["upload, form, answer"]) / 1e3,
        measured=float(load["clips/s"]),
        redis=RedisCosts(
            put_clip=redis_s(put_clip),
            get_clip=redis_s("get a clip"),
            put_labels=redis_s(put_labels),
            clip_bytes=float(row("shared_cache", what=put_clip)["bytes a record"]),
            label_bytes=float(row("shared_cache", what=put_labels)["bytes a record"]),
        ),
    )


def fleet(clips: float, where: str, costs: Costs, given: argparse.Namespace) -> dict[str, Any]:
    """Return what so many clips a day take: processors alone, or cards fed by processors."""
    peak = clips / DAY_S * given.peak
    fresh = 1 - given.known
    on_card = where == "card"
    each = costs.of_a_clip(given.new_labels, on_card=on_card) * fresh + given.known * (
        costs.request + costs.score
    )
    redis = costs.redis
    each += given.new_labels * fresh * redis.put_labels
    if given.clip_ttl_s:
        each += fresh * redis.put_clip + given.known * redis.get_clip
    cores = peak * each / costs.share_reached / given.load
    cards = math.ceil(peak * fresh / given.card_clips_per_s / given.load) if on_card else 0
    clip_gb = peak * fresh * given.clip_ttl_s * redis.clip_bytes / 1e9
    label_gb = given.distinct_labels * redis.label_bytes / 1e9
    redis_gb = (clip_gb + label_gb) * given.redis_room
    price = cores * given.core_hour + cards * given.card_hour + redis_gb * given.redis_gb_hour
    return {
        "clips a day": f"{clips:.0e}".replace("e+0", "e"),
        "on": where,
        "clips/s at the peak": peak,
        "core ms a clip": each / costs.share_reached * 1e3,
        "cores": math.ceil(cores),
        "cards": cards,
        "Redis GB": redis_gb,
        "price an hour": price,
        "price a million clips": price * 24 / clips * 1e6,
    }


def parser() -> argparse.ArgumentParser:
    """Return the parser: every assumption with its default."""
    p = Parser(prog="python -m benchmarks.fleet", description=__doc__.splitlines()[0])
    add = p.add_argument
    add("--clips", type=positive, nargs="+", default=[1e6, 1e9], help="a day (1e6 1e9)")
    add("--peak", type=positive, default=2.0, help="busiest hour over the mean of the day (2)")
    add("--load", type=positive, default=0.7, help="of the fleet that the peak may take (0.7)")
    add("--known", type=share, default=0.0, help="share of clips that were asked about before (0)")
    add("--new-labels", type=share, default=0.1, help="share of questions with new labels (0.1)")
    add("--distinct-labels", type=float, default=1e5, help="held in Redis (1e5)")
    add("--clip-ttl-s", type=float, default=3600.0,
        help="XCLIP_REDIS_CLIP_TTL_S; 0 keeps clips out of Redis (3600)")  # fmt: skip
    add("--redis-room", type=positive, default=1.5,
        help="memory of Redis over what its records take: a quarter is free (1.5)")  # fmt: skip
    add("--card-clips-per-s", type=positive, default=6900.0,
        help="of a card, B/32: arithmetic, half of 989 TFLOP/s (6900)")  # fmt: skip
    add("--core-hour", type=float, default=0.04, help="price (0.04)")
    add("--card-hour", type=float, default=2.5, help="price (2.5)")
    add("--redis-gb-hour", type=float, default=0.01, help="price (0.01)")
    return p


def positive(text: str) -> float:
    """Read an option that is a number above 0."""
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError
    return value


def main(arguments: Sequence[str]) -> int:
    """Calculate, print and write."""
    given = parser().parse_args(arguments)
    costs = {precision: read_costs(RESULTS, precision) for precision in PRECISIONS}
    places = [*costs.items(), ("card", costs["fp32"])]
    rows = [fleet(clips, where, cost, given) for clips in given.clips for where, cost in places]
    publish(
        "fleet",
        " ".join(["python -m benchmarks.fleet", *arguments]),
        rows,
        variant="xclip-base-patch32",
        assumptions=vars(given),
        costs_from={name: _origin(name) for name in SOURCES},
        two_cores=[
            {
                "precision": precision,
                "expected clips/s": cost.expected,
                "measured clips/s": cost.measured,
                "share reached": cost.share_reached,
            }
            for precision, cost in costs.items()
        ],
    )
    return 0


def _origin(name: str) -> str:
    report = json.loads((RESULTS / f"{name}.json").read_text())
    return f"{report['command']}, {report['date']}, {report['machine']['processor']}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
