"""The fastest runtime is taken where several give the same answer, and remembered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from export.bundle import Bundle
from export.runtime import FakeRuntime, Runtime, RuntimeOptions, open_runtime, selection
from export.runtime import fastest as module
from export.runtime.fastest import Choice, Choices, fastest

OPTIONS = RuntimeOptions(threads=1)


@pytest.fixture
def speeds(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds that each runtime is found to take; no test depends on this machine's."""
    given = {"onnxruntime-cpu fp32": 2.0, "openvino fp32": 1.0, "onnxruntime-cpu int8": 3.0}

    def measured(runtime: Runtime, spec: object) -> float:
        assert runtime.warm_up().shape == (1, 1)  # it is open
        return given[f"{runtime.name} {runtime.precision}"]

    monkeypatch.setattr(module, "seconds_per_clip", measured)
    return given


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is opened, in order."""
    names: list[str] = []
    real = selection.open_build

    def open_build(bundle: Bundle, build: object, name: str, **more: object) -> Runtime:
        runtime = real(bundle, build, name, **more)  # type: ignore[arg-type]
        names.append(f"{name} {runtime.precision}")
        return runtime

    monkeypatch.setattr(selection, "open_build", open_build)
    return names


def chosen(bundle: Bundle, precision: str | None = None, choices: Path | None = None) -> str:
    runtime = open_runtime(bundle, "auto", precision, replace(OPTIONS, choices=choices))
    runtime.close()
    return f"{runtime.name} {runtime.precision}"


def test_the_fastest_is_taken_and_its_rivals_figures_are_told(
    tiny_bundle: Bundle, speeds: dict[str, float]
) -> None:
    runtime = open_runtime(tiny_bundle, options=OPTIONS)
    assert runtime.selection[-3:] == (
        "onnxruntime-cpu: fp32 takes 2e+03 ms a clip",
        "openvino: fp32 takes 1e+03 ms a clip",
        "openvino: taken",
    )
    speeds["openvino fp32"] = 1.9  # hardly faster
    assert chosen(tiny_bundle) == "onnxruntime-cpu fp32"


def test_any_precision_may_be_the_fastest(tiny_bundle: Bundle, speeds: dict[str, float]) -> None:
    assert chosen(tiny_bundle, "auto") == "openvino fp32"
    speeds["onnxruntime-cpu int8"] = 0.5
    assert chosen(tiny_bundle, "auto") == "onnxruntime-cpu int8"
    assert chosen(tiny_bundle) == "openvino fp32"  # int8 was not asked for


def test_what_was_not_compared_with_torch_is_not_taken(
    tiny_bundle: Bundle, speeds: dict[str, float]
) -> None:
    builds = tuple(
        build.model_copy(
            update={"parity": tuple(p for p in build.parity if p.runtime != "openvino")}
        )
        for build in tiny_bundle.manifest.precisions
    )
    manifest = tiny_bundle.manifest.model_copy(update={"precisions": builds})
    runtime = open_runtime(replace(tiny_bundle, manifest=manifest), options=OPTIONS)
    assert runtime.name == "onnxruntime-cpu"
    assert "openvino: fp32 was not compared with torch on it" in runtime.selection


def test_what_does_not_run_is_not_taken(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(runtime: Runtime, spec: object) -> float:
        if runtime.name == "onnxruntime-cpu":
            raise RuntimeError("an instruction that this machine has not")
        return 1.0

    monkeypatch.setattr(module, "seconds_per_clip", measured)
    assert chosen(tiny_bundle) == "openvino fp32"


def test_it_is_measured_once(
    tiny_bundle: Bundle, speeds: dict[str, float], opened: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "new" / "folder"
    assert chosen(tiny_bundle, choices=folder) == "openvino fp32"
    assert opened == ["onnxruntime-cpu fp32", "openvino fp32"]
    speeds["openvino fp32"] = 9.0
    runtime = open_runtime(tiny_bundle, options=replace(OPTIONS, choices=folder))
    assert opened[2:] == ["openvino fp32"]
    assert "openvino: fp32 takes 1e+03 ms a clip" in runtime.selection
    # Another question, another bundle, other threads: another answer.
    assert chosen(tiny_bundle, "auto", folder) == "onnxruntime-cpu fp32"
    assert chosen(replace(tiny_bundle, hash="0" * 64), choices=folder) == "onnxruntime-cpu fp32"
    more = open_runtime(tiny_bundle, options=RuntimeOptions(threads=2, choices=folder))
    assert more.name == "onnxruntime-cpu"


@pytest.mark.parametrize(
    "content", ["", "{}", '{"name": "none", "precision": "fp32", "lines": []}']
)
def test_a_spoilt_memory_is_measured_again(
    tiny_bundle: Bundle, speeds: dict[str, float], tmp_path: Path, content: str
) -> None:
    chosen(tiny_bundle, choices=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_text(content)
    speeds["openvino fp32"] = 9.0
    assert chosen(tiny_bundle, choices=tmp_path) == "onnxruntime-cpu fp32"
    assert "onnxruntime-cpu" in file.read_text()


def test_a_folder_that_cannot_be_written_to_is_done_without(
    tiny_bundle: Bundle, speeds: dict[str, float], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert chosen(tiny_bundle, choices=tmp_path / "file" / "below") == "openvino fp32"
    Choices(tmp_path / "file", ("q",), None).keep(Choice("a", "fp32", ()))
    assert Choices(tmp_path / "file", ("q",), None).recall() is None


def test_one_alone_is_not_measured(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "seconds_per_clip", None)
    options = replace(OPTIONS, choices=tmp_path)
    assert open_runtime(tiny_bundle, "onnxruntime-cpu", options=options).name == "onnxruntime-cpu"
    assert not list(tmp_path.iterdir())


def test_no_more_than_two_are_open(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = tiny_bundle.manifest.inputs
    open_now: set[int] = set()

    class Counted(FakeRuntime):
        def close(self) -> None:
            open_now.discard(id(self))

    def contenders() -> Iterator[Runtime]:
        for _ in range(4):
            runtime = Counted(spec)
            open_now.add(id(runtime))
            assert len(open_now) <= 2
            yield runtime

    monkeypatch.setattr(module, "seconds_per_clip", lambda *_: 1.0)
    best, lines = fastest(contenders(), spec)
    assert open_now == {id(best)}
    assert len(lines) == 4
    assert fastest(iter(()), spec) == (None, [])
