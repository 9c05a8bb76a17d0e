"""Part three: the whole service under load, over HTTP, as its users meet it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks.gpu_check.check import Check
from benchmarks.gpu_check.outcomes import NotRun, Row, attempted

LABELS = 10


def service(check: Check) -> Iterator[Row]:
    """Measure the timed variants in each precision at each number of clients."""
    for variant in check.options.timed:
        for precision in check.options.precisions:
            yield from _served(check, variant, precision)


def _served(check: Check, variant: str, precision: str) -> Iterator[Row]:
    what = {"variant": variant, "precision": precision}
    rows: list[Row] = []

    def run() -> Row:
        rows.extend(_under_load(check, variant, precision))
        return {}

    whole = attempted(what, run)
    yield from rows
    if whole["why"]:
        yield whole


def _under_load(check: Check, variant: str, precision: str) -> Iterator[Row]:
    import httpx

    from benchmarks.lib.clip import another_file, new_labels, ten_second_clip
    from benchmarks.lib.load import under_load
    from benchmarks.lib.server_process import ServerDied, ask, our_server

    _runs_here(check, variant, precision)
    clip, labels = ten_second_clip(), new_labels(LABELS)
    most = str(max(64, *check.options.clients))
    flags = ("--max-uploads-per-client", most, "--max-uploads", most, "--max-in-flight", most)

    def question(client: httpx.Client) -> None:
        ask(client, another_file(clip), labels)

    try:
        with our_server(check.bundles.path(variant), precision, *flags) as server:
            runtime = _runtime_of(httpx.get(f"{server.url}/model", timeout=60).json())
            if runtime not in check.device.runtimes:
                raise NotRun(f"auto takes {runtime} here, which is not of this device")
            under_load(server.url, question, clients=2, seconds=0)
            for clients in check.options.clients:
                what = {"variant": variant, "what": runtime, "precision": precision}
                measure = partial(
                    _level, server.url, question, clients, check.options.seconds, under_load
                )
                yield attempted({**what, "clients": clients}, measure)
    except ServerDied as error:
        missing = "ModuleNotFoundError" in str(error)
        raise NotRun(str(error)) if missing else error from error


def _runs_here(check: Check, variant: str, precision: str) -> None:
    """Raise NotRun where no runtime of the device opens the precision."""
    reasons = []
    for runtime in check.device.runtimes:
        try:
            check.bundles.open(variant, runtime, precision).close()
        except NotRun as error:
            reasons.append(f"{runtime}: {error}")
        else:
            return
    raise NotRun("; ".join(dict.fromkeys(reasons)))


def _runtime_of(model: dict[str, Any]) -> str:
    runtime: str = model["runtime"]
    return runtime


def _level(url: str, question: Any, clients: int, seconds: float, under_load: Any) -> Row:
    served = under_load(url, question, clients, seconds)
    if served.errors:
        raise ValueError(f"{served.errors} requests without an answer: {served.first_error}")
    return {
        "clips/s": served.clips_per_s,
        "p50_ms": served.p50_ms,
        "p99_ms": served.p99_ms,
        "answers": served.answers,
    }
