"""Which bundles the check of the GPU makes, and whose fault it is where one cannot be made."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import export.engines
import export.runtime
from benchmarks.gpu_check import runtimes
from benchmarks.gpu_check.outcomes import NotRun
from benchmarks.gpu_check.runtimes import Bundles
from export.bundle import PrecisionBuild
from export.errors import ExportError
from export.runtime import RuntimeUnavailableError


class Exporter:
    """Stands for the export: keeps count, and refuses what it is told to refuse."""

    def __init__(self, *, refused: tuple[str, ...] = (), engines_of: tuple[str, ...] = ()) -> None:
        self.refused, self.engines_of = refused, engines_of
        self.calls: list[tuple[str, tuple[str, ...], bool]] = []

    def __call__(
        self, variant: str, folder: str, precisions: tuple[str, ...], *, engines: bool = False
    ) -> Any:
        self.calls.append((variant, precisions, engines))
        if bad := set(precisions) & set(self.refused):
            raise ExportError(f"{bad.pop()} cannot be made")
        if engines and variant not in self.engines_of:
            raise ExportError(f"the engine of {variant} does not run")
        builds = [PrecisionBuild(precision=p, method="") for p in precisions]
        return SimpleNamespace(path=variant, manifest=SimpleNamespace(precisions=builds))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was opened; one runtime does not work."""
    names: list[str] = []

    def open_build(bundle: Any, build: PrecisionBuild, runtime: str) -> Any:
        if runtime == "onnxruntime-tensorrt":
            raise RuntimeUnavailableError("its library is too old")
        names.append(f"{bundle.path} {runtime} {build.precision}")
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr(export.runtime, "open_build", open_build)
    monkeypatch.setattr(export.engines, "find_tensorrt", lambda: None)
    return names


def bundles(monkeypatch: pytest.MonkeyPatch, exporter: Exporter) -> Bundles:
    monkeypatch.setattr(runtimes, "_export", exporter)
    return Bundles(("fp32", "fp16"), engines=True)


def test_each_is_made_once_after_the_small_one(
    monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    exporter = Exporter(engines_of=("tiny", "large"))
    made = bundles(monkeypatch, exporter)
    for runtime in ("onnxruntime-cuda", "tensorrt"):
        made.open("large", runtime, "fp16").close()
    assert exporter.calls == [("tiny", ("fp32", "fp16"), True), ("large", ("fp32", "fp16"), True)]
    assert opened[:2] == ["tiny onnxruntime-cuda fp16", "large onnxruntime-cuda fp16"]


def test_what_does_not_open_the_small_one_is_not_tried_with_the_large(
    monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    exporter = Exporter(engines_of=("tiny",))
    made = bundles(monkeypatch, exporter)
    with pytest.raises(NotRun, match="its library is too old"):
        made.open("large", "onnxruntime-tensorrt", "fp16")
    assert [call[0] for call in exporter.calls] == ["tiny"]


def test_a_precision_that_cannot_be_made_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    exporter = Exporter(refused=("fp16",), engines_of=("tiny", "large"))
    made = bundles(monkeypatch, exporter)
    with pytest.raises(NotRun, match="fp16 cannot be made"):
        made.open("large", "onnxruntime-cuda", "fp16")
    made.open("large", "onnxruntime-cuda", "fp32")
    assert exporter.calls[-1] == ("large", ("fp32",), True)


def test_engines_that_go_wrong_are_their_own_failure(
    monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    exporter = Exporter(engines_of=("tiny",))
    made = bundles(monkeypatch, exporter)
    for _ in range(2):
        with pytest.raises(ExportError, match="the engine of large does not run"):
            made.open("large", "tensorrt", "fp32")
    made.open("large", "onnxruntime-cuda", "fp32")
    assert [(c[0], c[2]) for c in exporter.calls] == [
        ("tiny", True), ("large", True), ("large", False),
    ]  # fmt: skip


def test_without_tensorrt_its_own_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    def absent() -> None:
        raise ExportError("no engines can be built here: TensorRT is not installed")

    monkeypatch.setattr(export.engines, "find_tensorrt", absent)
    exporter = Exporter()
    made = bundles(monkeypatch, exporter)
    with pytest.raises(NotRun, match="TensorRT is not installed"):
        made.open("large", "tensorrt", "fp32")
    assert all(not engines for *_, engines in exporter.calls)


def test_a_bundle_that_cannot_be_made_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    exporter = Exporter(refused=("fp32", "fp16"))
    made = bundles(monkeypatch, exporter)
    for _ in range(2):
        with pytest.raises(NotRun, match="fp32: fp32 cannot be made; fp16: fp16 cannot be made"):
            made.of("large")
    assert len(exporter.calls) == 2 + 2
