"""One request over HTTP, from the client's side, against transformers in this process.

    python -m benchmarks.latency [--rounds N]

Contestants take turns: our server in each precision with ten labels never seen, the same with
labels seen before, and a clip it holds asked about by `video_id` with 400 labels seen before;
transformers decodes (decord), processes and runs the model without any HTTP. fp32 is there twice:
through ONNX Runtime, the default, and through OpenVINO. Every upload is another file with the same
frames. The goals stand in docs/benchmarks/cpu.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import httpx

from benchmarks.lib.bundles import bundle_of, missing_from
from benchmarks.lib.clip import WHAT, another_file, new_labels, ten_second_clip
from benchmarks.lib.pretrained import pretrained
from benchmarks.lib.server_process import ServerDied, ask, ask_again, our_server
from benchmarks.lib.timing import Timing, as_row, publish, take_turns
from benchmarks.lib.transformers import Pipeline
from export.bundle.manifest import PrecisionName
from export.runtime import available_cpus
from model.command_line import Parser

VARIANT, LABELS, MANY = "xclip-base-patch32", 10, 400
PRECISIONS: tuple[PrecisionName, ...] = ("fp32", "bf16", "int8")
FP32_OPENVINO = "fp32 openvino"
PEER_PRECISIONS = ("fp32", "bf16")
BASE = "transformers fp32, in process"
NEW, SEEN, HELD = (
    "10 labels never seen",
    "10 labels seen before",
    "video_id, 400 labels seen before",
)
TIMEOUT_S = 120


def main(arguments: Sequence[str]) -> int:
    """Measure and publish."""
    parser = Parser(prog="python -m benchmarks.latency", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="alternated runs (15)")
    rounds = parser.parse_args(arguments).rounds
    bundle, clip = bundle_of(VARIANT, PRECISIONS), ten_second_clip()
    missing = missing_from(bundle, PRECISIONS)
    contestants = transformers_here(clip)
    with ExitStack() as stack:
        for name, flags in our_servers(missing).items():
            try:
                server = stack.enter_context(our_server(bundle.path, *flags))
            except ServerDied as error:
                missing[name] = str(error)[:200]
                continue
            client = stack.enter_context(httpx.Client(base_url=server.url, timeout=TIMEOUT_S))
            contestants |= over_http(name, client, clip)
        timings = take_turns(contestants, rounds)
    publish(
        "latency",
        f"python -m benchmarks.latency --rounds {rounds}",
        rows_of(timings),
        variant=VARIANT,
        clip=f"{WHAT}, {len(clip) / 1e6:.2f} MB, every upload another file",
        not_run=missing or "none",
    )
    return 0


def our_servers(missing: Container[str]) -> dict[str, tuple[str, ...]]:
    """Return precision and further flags of each server, by what the table calls it."""
    chosen = {precision: (precision,) for precision in PRECISIONS if precision not in missing}
    return chosen | {FP32_OPENVINO: ("fp32", "--runtime", "openvino")}


def transformers_here(clip: bytes) -> dict[str, Callable[[], Any]]:
    """Do what a script does without a server, for labels that it has never seen."""
    folder = pretrained(VARIANT)
    pipelines = {p: Pipeline(folder, p, available_cpus()) for p in PEER_PRECISIONS}

    def ask(pipeline: Pipeline) -> Any:
        return pipeline(clip, new_labels(LABELS))

    return {
        f"transformers {p}, in process": partial(ask, pipeline) for p, pipeline in pipelines.items()
    }


def over_http(name: str, client: httpx.Client, clip: bytes) -> dict[str, Callable[[], Any]]:
    """Make the three questions to a server of ours; ask first what must be known."""
    few, many = new_labels(LABELS), new_labels(MANY)
    video_id = ask(client, another_file(clip), few)["video_id"]
    ask_again(client, video_id, many)
    return {
        f"{name}, {NEW}": lambda: ask(client, another_file(clip), new_labels(LABELS)),
        f"{name}, {SEEN}": lambda: ask(client, another_file(clip), few),
        f"{name}, {HELD}": lambda: ask_again(client, video_id, many),
    }


def rows_of(timings: dict[str, Timing]) -> list[dict[str, Any]]:
    """Return each with its share of transformers' time; held clips, of the first request's."""
    base, rows = timings[BASE].median_ms, []
    for name, timing in timings.items():
        server, _, question = name.partition(", ")
        first = timings.get(f"{server}, {NEW}")
        of_first = timing.median_ms / first.median_ms if first and question == HELD else None
        share = timing.median_ms / base
        rows.append(as_row(name, timing, of_transformers=share, of_first=of_first))
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
