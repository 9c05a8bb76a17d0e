"""What the check of the GPU makes of what it found."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, repeat
from threading import Semaphore
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch._C._autograd import DeviceType

from benchmarks.gpu_check.contestant import Answers
from benchmarks.gpu_check.device import Card, Processor, find_device
from benchmarks.gpu_check.goals import goals
from benchmarks.gpu_check.outcomes import NotRun, OutsideLimits, attempted
from benchmarks.gpu_check.parity import _within_limits, differences
from benchmarks.gpu_check.report import make_report, page, verdict

B16 = "xclip-base-patch16"


def raises(error: Exception) -> Callable[[], dict[str, Any]]:
    def run() -> dict[str, Any]:
        raise error

    return run


class OutOfMemoryError(RuntimeError):
    """As torch's is called."""


@pytest.mark.parametrize(
    ("error", "outcome", "why"),
    [
        (NotRun("engines are for sm_80\nand more"), "not run", "engines are for sm_80"),
        (ImportError("No module named 'x'"), "not run", "No module named 'x'"),
        (OutOfMemoryError("CUDA out of memory"), "not run", "OutOfMemoryError: CUDA out of memory"),
        (RuntimeError("CUDA says no"), "failed", "RuntimeError: CUDA says no"),
        (AssertionError(), "failed", "AssertionError: AssertionError"),
    ],
)
def test_only_what_cannot_be_had_is_not_run(error: Exception, outcome: str, why: str) -> None:
    row = attempted({"what": "a"}, raises(error))
    assert row == {"what": "a", "outcome": outcome, "why": why}


def test_what_is_outside_its_limits_has_failed_and_keeps_its_figures() -> None:
    row = attempted({"what": "a"}, raises(OutsideLimits("too far", {"cosine": 0.5})))
    assert (row["outcome"], row["cosine"], row["why"]) == ("failed", 0.5, "too far")


def test_differences_count_every_choice_between_ten() -> None:
    rng = np.random.default_rng(0)
    wanted = Answers(rng.normal(size=(3, 8)), rng.normal(size=(3, 40)))
    logits = wanted.logits.copy()
    best = logits[1, 10:20].argmax() + 10
    logits[1, best] -= 20
    found = differences(Answers(2 * wanted.video, logits), wanted)
    assert found["logit_error"] == pytest.approx(20)
    assert found["cosine"] == pytest.approx(1)
    assert (found["choices"], found["top1_agreement"]) == (12, pytest.approx(11 / 12))
    with pytest.raises(ValueError, match="no numbers"):
        differences(Answers(wanted.video, logits * np.nan), wanted)


def test_limits_are_those_of_the_export() -> None:
    figures = {"logit_error": 0.1, "cosine": 0.99995}
    assert _within_limits(figures, "fp16") == figures
    with pytest.raises(OutsideLimits, match=r"limit 0\.001"):
        _within_limits(figures, "fp32")
    with pytest.raises(OutsideLimits, match=r"smallest cosine 0\.990000"):
        _within_limits({"logit_error": 0.1, "cosine": 0.99}, "bf16")


def timed(what: str, precision: str, batch: int, ms: float, of_peak: float) -> dict[str, Any]:
    row = {"variant": B16, "what": what, "precision": precision, "batch": batch}
    return {**row, "median_ms": ms, "of_peak": of_peak, "outcome": "ran", "why": ""}


def near(what: str, precision: str, error: float, agreement: float) -> dict[str, Any]:
    row = {"variant": B16, "what": what, "precision": precision, "logit_error": error}
    return {**row, "top1_agreement": agreement, "outcome": "ran", "why": ""}


SPEED = [
    timed("transformers compiled", "fp16", 32, 36.0, 0.3),
    timed("transformers compiled", "fp32", 32, 9.0, 0.3),
    timed("our torch compiled", "bf16", 32, 10.0, 0.9),
    timed("tensorrt", "bf16", 32, 15.0, 0.7),
    timed("tensorrt", "fp16", 32, 18.0, 0.6),
    timed("tensorrt", "fp16", 1, 6.0, 0.1),
    timed("onnxruntime-cuda", "fp16", 32, 30.0, 0.4),
    {"variant": B16, "what": "x", "precision": "fp16", "outcome": "not run", "why": "absent"},
]
NEAR = [near("tensorrt", "bf16", 0.3, 0.98), near("tensorrt", "fp16", 0.02, 0.999)]


def test_all_goals_are_about_the_fastest_provider_that_is_near_enough() -> None:
    found = goals({"speed": SPEED, "parity": NEAR})
    assert all("tensorrt fp16" in goal.about for goal in found)
    assert [goal.measured for goal in found] == [0.6, 2.0, 6.0, 0.999, 0.02]
    assert [goal.holds for goal in found] == [True, True, False, True, True]
    unknown = goals({"speed": SPEED})
    assert all("tensorrt bf16" in goal.about for goal in unknown)
    assert [goal.holds for goal in unknown] == [True, True, None, None, None]
    assert {goal.holds for goal in goals({})} == {None}


def test_nothing_that_ran_is_no_pass() -> None:
    row = {"what": "a", "precision": "fp32", "why": ""}
    ran, failed, absent = ({**row, "outcome": o} for o in ("ran", "failed", "not run"))
    assert verdict({"speed": [ran, absent]})[0]
    assert not verdict({"speed": [absent]})[0]
    assert not verdict({"speed": [ran], "parity": [failed]})[0]
    assert not verdict({})[0]


def test_a_part_that_runs_alone_leaves_the_others_of_the_same_card() -> None:
    first = make_report({"speed": SPEED}, {"device": "a card"}, "first")
    second = make_report({"parity": NEAR}, {"device": "a card"}, "second", first)
    assert {name: part["command"] for name, part in second["parts"].items()} == {
        "parity": "second", "speed": "first",
    }  # fmt: skip
    assert [row["outcome"] for row in second["goals"]].count("holds") == 4
    other = make_report({"parity": NEAR}, {"device": "another"}, "second", first)
    assert list(other["parts"]) == ["parity"]
    peaks = [{"what": "matrix peak", "precision": "fp16", "tflops": 700.0, "outcome": "ran"}]
    assert "| matrix peak | fp16 | 700 |" in page(make_report({"peaks": peaks}, {}, "third"))
    text = page(second)
    assert "| tensorrt | fp16 | 32 | 18 | 0.6 |" in text
    assert f"- {B16} x fp16: absent" in text


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    """What torch says of a GPU, without one."""
    properties = SimpleNamespace(
        name="A Card", major=9, minor=0, total_memory=80 << 30, multi_processor_count=132
    )
    free = chain([70 << 30, 60 << 30], repeat(40 << 30))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (next(free), 80 << 30))
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    device = find_device("cuda")
    assert isinstance(device, Card)
    return device


def test_a_card_tells_its_name_and_the_most_memory_in_use(
    card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = card.about()
    assert (about["device"], about["compute_capability"], about["memory_gib"]) == (
        "A Card",
        "9.0",
        80,
    )
    before = card.used_mib()
    assert before == 10 * 1024
    looks = Semaphore(0)
    look = torch.cuda.mem_get_info

    def counted() -> tuple[int, int]:
        looks.release()
        return look()

    monkeypatch.setattr(torch.cuda, "mem_get_info", counted)
    peak = card.peak_mib(lambda: [looks.acquire() for _ in range(3)])
    assert peak == 40 * 1024


def test_a_card_counts_kernels_and_not_copies(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, host = DeviceType.CUDA, DeviceType.CPU

    def event(name: str, kind: Any, us: float) -> Any:
        span = SimpleNamespace(elapsed_us=lambda: us)
        return SimpleNamespace(name=name, device_type=kind, time_range=span)

    events = [
        event("gemm", gpu, 1500), event("Memcpy HtoD", gpu, 9000), event("aten::mm", host, 7000),
        event("softmax", gpu, 500), event("Memset (Device)", gpu, 10),
    ]  # fmt: skip
    seen: list[str] = []

    class Profile:
        def __init__(self, activities: Any) -> None:
            assert activities == [torch.profiler.ProfilerActivity.CUDA]

        def __enter__(self) -> Profile:
            return self

        def __exit__(self, *_: object) -> None: ...

        def events(self) -> Any:
            return events if seen else None

    monkeypatch.setattr(torch.profiler, "profile", Profile)
    assert card.kernel_ms(lambda: None) is None
    assert card.kernel_ms(lambda: seen.append("run")) == 2.0


def test_on_the_processor_there_is_no_device_memory() -> None:
    device = find_device("cpu")
    assert isinstance(device, Processor)
    ran: list[int] = []
    assert device.used_mib() is device.peak_mib(lambda: ran.append(1)) is device.kernel_ms(str)
    assert ran == [1]
