"""Where each millisecond of one request goes, as a picture: docs/benchmarks/profile.png.

    python -m benchmarks.profile_request [--rounds N]

Our server writes OpenTelemetry spans, one for a request and one within it for each stage; what lies
in the request beside the stages is upload, form and answer. Of several requests of a kind the one
of median length is drawn. Below: what the video encoder spends on each kind of operation, as ONNX
Runtime's own profiler has it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.lib.bundles import bundle_of, missing_from
from benchmarks.lib.clip import WHAT, another_file, new_labels, ten_second_clip
from benchmarks.lib.profile_picture import draw
from benchmarks.lib.server_process import ask, ask_again, our_server
from benchmarks.lib.timing import RESULTS, publish
from export.bundle import Bundle
from export.bundle.manifest import PrecisionName
from export.runtime import available_cpus
from model.command_line import Parser

VARIANT, LABELS = "xclip-base-patch32", 10
PRECISIONS: tuple[PrecisionName, ...] = ("fp32", "bf16", "int8")
STAGES = ("decode", "queue", "encode", "text", "score")
BESIDE = "upload, form, answer"
TIMEOUT_S = 120


@dataclass(frozen=True)
class Span:
    """A piece of a request, in milliseconds after the request began."""

    name: str
    start_ms: float
    end_ms: float


def main(arguments: Sequence[str]) -> int:
    """Measure, draw and publish."""
    parser = Parser(prog="python -m benchmarks.profile_request")
    parser.add_argument("--rounds", type=int, default=9, help="requests of each kind (9)")
    rounds = parser.parse_args(arguments).rounds
    bundle, clip = bundle_of(VARIANT, PRECISIONS), ten_second_clip()
    timelines: dict[str, list[Span]] = {}
    missing = missing_from(bundle, PRECISIONS)
    for precision in (p for p in PRECISIONS if p not in missing):
        timelines |= profiled(bundle, precision, clip, rounds)
    operations = operations_of(bundle)
    draw(timelines, operations, RESULTS / "profile.png")
    publish(
        "profile_request",
        f"python -m benchmarks.profile_request --rounds {rounds}",
        [{"request": name, **stages_of(spans)} for name, spans in timelines.items()],
        variant=VARIANT,
        clip=WHAT,
        not_run=missing or "none",
        encoder_fp32_ms_by_operation=operations,
    )
    return 0


def profiled(bundle: Bundle, precision: str, clip: bytes, rounds: int) -> dict[str, list[Span]]:
    """Profile requests of each kind to a server of that precision; return the median ones."""
    environment = {"OTEL_TRACES_EXPORTER": "console", "OTEL_BSP_SCHEDULE_DELAY": "100"}
    kinds: dict[str, Callable[[httpx.Client, str, list[str]], Any]] = {
        "new clip, new labels": lambda c, _, known: ask(c, another_file(clip), new_labels(LABELS)),
        "new clip, labels seen": lambda c, _, known: ask(c, another_file(clip), known),
        "video_id, new labels": lambda c, held, known: ask_again(c, held, new_labels(LABELS)),
        "video_id, labels seen": lambda c, held, known: ask_again(c, held, known),
    }
    known = new_labels(LABELS)
    with our_server(bundle.path, precision, environment=environment) as server:
        with httpx.Client(base_url=server.url, timeout=TIMEOUT_S) as client:
            warm = [ask(client, another_file(clip), known) for _ in range(2)]
            held = warm[0]["video_id"]
            for _ in range(rounds):
                for question in kinds.values():
                    question(client, held, known)
        server.stop()  # which sends the last spans
        requests = requests_in(server.log)[len(warm) :]
    return {
        f"{precision}, {kind}": _median(requests[i :: len(kinds)]) for i, kind in enumerate(kinds)
    }


def requests_in(log: str) -> list[list[Span]]:
    """Return the classify requests of a log, in order, each with its stages; first is itself."""
    spans = list(_objects(log))
    requests = sorted(
        (s for s in spans if s["name"] == "POST /classify"), key=lambda s: str(s["start_time"])
    )
    return [[_span(r, r), *(_span(s, r) for s in spans if _within(s, r))] for r in requests]


def _objects(log: str) -> Any:
    """Yield the JSON objects between a log's other lines."""
    decoder, at = json.JSONDecoder(), log.find("{")
    while at >= 0:
        try:
            entry, end = decoder.raw_decode(log, at)
        except json.JSONDecodeError:
            end = at + 1
        else:
            if "start_time" in entry:
                yield entry
        at = log.find("{", end)


def _within(span: dict[str, Any], request: dict[str, Any]) -> bool:
    return span["parent_id"] == request["context"]["span_id"]


def _span(span: dict[str, Any], request: dict[str, Any]) -> Span:
    began = datetime.fromisoformat(request["start_time"])
    start, end = (datetime.fromisoformat(span[name]) for name in ("start_time", "end_time"))
    return Span(
        span["name"], 1e3 * (start - began).total_seconds(), 1e3 * (end - began).total_seconds()
    )


def _median(requests: list[list[Span]]) -> list[Span]:
    return sorted(requests, key=lambda spans: spans[0].end_ms)[len(requests) // 2]


def stages_of(spans: list[Span]) -> dict[str, float]:
    """Return milliseconds by stage; what no stage covers stands beside them."""
    whole, *stages = spans
    taken = {name: sum(s.end_ms - s.start_ms for s in stages if s.name == name) for name in STAGES}
    covered, last = 0.0, 0.0
    for s in sorted(stages, key=lambda s: s.start_ms):
        covered += max(0.0, s.end_ms - max(last, s.start_ms))
        last = max(last, s.end_ms)
    return taken | {BESIDE: whole.end_ms - covered, "total": whole.end_ms}


def operations_of(bundle: Bundle, rounds: int = 5) -> dict[str, float]:
    """Measure the kinds of operation of the fp32 video encoder: ms a clip, largest first."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.enable_profiling = available_cpus(), True
    spec = bundle.manifest.inputs
    frames = np.zeros((1, spec.num_frames, spec.image_size, spec.image_size, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        file = bundle.path / bundle.manifest.graphs["video_encoder"].file
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        for _ in range(rounds + 1):
            session.run(None, {"frames": frames})
        events = json.loads(Path(session.end_profiling()).read_text())
    runs = [e["ts"] for e in events if e["name"] == "model_run"]
    warm = sorted(runs)[1]
    spent: Counter[str] = Counter()
    for event in events:
        if event["name"].endswith("_kernel_time") and event["ts"] >= warm:
            spent[event["args"]["op_name"]] += event["dur"] / 1e3 / rounds
    return dict(spent.most_common())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
