"""Part two: the video encoder against its peers, batch by batch, and what the card could do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.gpu_check.check import Check
from benchmarks.gpu_check.contestant import Contestant, Encoder, smallest_cosine
from benchmarks.gpu_check.outcomes import OutsideLimits, Row, attempted, opened
from benchmarks.lib.arithmetic import multiply_accumulates
from benchmarks.lib.timing import timing_of

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
WARM_UP = 3
# A contestant whose vectors point elsewhere computes something else: its speed says nothing.
NEAREST = 0.98
COMPARED = 2


@dataclass(frozen=True)
class Task:
    """What is timed: frames in page-locked memory, the arithmetic of a clip, torch's vectors."""

    frames: np.ndarray
    flops: float
    expected: np.ndarray
    peaks: dict[str, float]


def matrix_peaks(check: Check) -> Iterator[Row]:
    """Measure the card's dense matrix peak in each precision."""
    for precision in check.options.precisions:
        if precision in DTYPES:
            measure = partial(_peak, check, DTYPES[precision])
            yield attempted({"what": "matrix peak", "precision": precision}, measure)


def _peak(check: Check, dtype: torch.dtype) -> Row:
    return {"tflops": check.device.matrix_peak(dtype) / 1e12}


def speed(check: Check, peaks: list[Row]) -> Iterator[Row]:
    """Measure every contestant at every batch size, variant by variant."""
    known = {row["precision"]: row["tflops"] * 1e12 for row in peaks if "tflops" in row}
    for variant in check.options.timed:
        what = {"variant": variant, "what": "our torch"}
        prepared, failure = opened(what, partial(_prepared, check, variant, known))
        if prepared is None:
            yield failure or what
            continue
        task, contestants = prepared
        for contestant in contestants:
            yield from _timed(check, variant, contestant, task)


def _prepared(check: Check, variant: str, peaks: dict[str, float]) -> tuple[Task, list[Contestant]]:
    return _task(check, variant, peaks), _contestants(check, variant)


def _task(check: Check, variant: str, peaks: dict[str, float]) -> Task:
    from benchmarks.gpu_check.clips import shown
    from benchmarks.gpu_check.torch_network import TorchNetwork

    net = check.network(variant)
    clips = shown(check.options.clips, net.inputs).frames
    most = max(check.options.batches)
    frames = check.device.page_locked(clips[np.arange(most) % len(clips)])
    expected = TorchNetwork(net, "cpu", "fp32").video(frames[:COMPARED])
    return Task(frames, 2 * multiply_accumulates(net.config), expected, peaks)


def _contestants(check: Check, variant: str) -> list[Contestant]:
    from benchmarks.gpu_check.peer import TransformersEncoder
    from benchmarks.gpu_check.torch_network import TorchNetwork

    net, device = check.network(variant), check.device
    makers: dict[str, Callable[..., Encoder]] = {}
    for name, kind in (("transformers", TransformersEncoder), ("our torch", TorchNetwork)):
        for mode in ("eager", "compiled"):
            makers[f"{name} {mode}"] = partial(kind, net, device.name, compiled=mode == "compiled")
    for runtime in device.runtimes:
        makers[runtime] = partial(check.bundles.open, variant, runtime)
    return [
        Contestant(what, precision, partial(make, precision=precision))
        for what, make in makers.items()
        for precision in check.options.precisions
        if precision in DTYPES or what in device.runtimes
    ]


def _timed(check: Check, variant: str, contestant: Contestant, task: Task) -> Iterator[Row]:
    """Measure each batch size; a single row where the contestant does not open."""
    what = {"variant": variant, "what": contestant.what, "precision": contestant.precision}
    before = check.device.used_mib()
    encoder, failure = opened(what, contestant.open)
    if encoder is None:
        yield failure or what
        return
    try:
        for batch in check.options.batches:
            measure = partial(_measured, check, encoder, contestant.precision, task, batch, before)
            yield attempted({**what, "batch": batch}, measure)
    finally:
        encoder.close()


def _measured(
    check: Check, encoder: Encoder, precision: str, task: Task, batch: int, before: float | None
) -> Row:
    device, frames = check.device, task.frames[:batch]
    vectors: list[Any] = []

    def run() -> None:
        vectors[:] = [encoder.video(frames)]

    def warm_up() -> None:
        for _ in range(WARM_UP):
            run()

    peak = device.peak_mib(warm_up)
    seconds = []
    for _ in range(check.options.rounds):
        device.synchronise()
        started = time.perf_counter()
        run()
        device.synchronise()
        seconds.append(time.perf_counter() - started)
    timing = timing_of(seconds)
    kernels = device.kernel_ms(run)
    work = batch * task.flops / task.peaks[precision] * 1e3 if precision in task.peaks else None
    figures: dict[str, Any] = {
        "median_ms": timing.median_ms,
        "worst_ms": timing.worst_ms,
        "clips/s": 1e3 * batch / timing.median_ms,
        "of_peak": work and work / timing.median_ms,
        "kernel_ms": kernels,
        "kernels_of_peak": work and kernels and work / kernels,
        "memory_mib": None if peak is None or before is None else peak - before,
        "cosine": smallest_cosine(vectors[0][:COMPARED], task.expected[:batch]),
    }
    if figures["cosine"] < NEAREST:
        raise OutsideLimits("its vectors are not those of torch", figures)
    return figures
