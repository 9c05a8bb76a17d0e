"""Building engines, on stand-ins for TensorRT and a card; none is listed that was not compared."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from export.build import BundleOptions, make_bundle
from export.bundle import Bundle
from export.engines import build_engines
from export.errors import ExportError
from model.checkpoint import Checkpoint
from model.progress import Steps
from tests.export.runtime.gpu_standins import ARCHITECTURE, TENSORRT_VERSION, EngineOnCard, install

HERE = (ARCHITECTURE, TENSORRT_VERSION)


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> Any:
    install(monkeypatch, runtime=False)
    return sys.modules["tensorrt"]


def quiet() -> Steps:
    return Steps(Console(quiet=True))


def built(bundle: Bundle, folder: Path, cache: Path | None = None) -> Any:
    """Engines of a finished bundle's graphs, in another folder."""
    for name in bundle.manifest.files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bundle.file(name).read_bytes())
    for old in folder.glob("engines/*"):
        old.unlink()
    (folder / "engines").rmdir()
    manifest = bundle.manifest
    return build_engines(folder, manifest.graphs, manifest.precisions, 48, quiet(), cache)


def test_a_bundle_lists_engines_for_every_graph_with_their_parity(engines_bundle: Bundle) -> None:
    manifest = engines_bundle.manifest
    assert [(e.graph, e.precision) for e in manifest.engines] == [
        ("text_encoder", "fp32"),
        ("score_head", "fp32"),
        ("video_encoder", "fp32"),
        ("video_encoder", "fp16"),
    ]
    assert {(e.gpu_architecture, e.tensorrt_version) for e in manifest.engines} == {HERE}
    assert all(e.file in manifest.files for e in manifest.engines)
    measured = {
        (parity.runtime, parity.precision)
        for build in manifest.precisions
        for parity in build.parity
        if parity.passed
    }
    assert {("tensorrt", "fp32"), ("tensorrt", "fp16")} <= measured


def test_the_builder_is_asked_for_profiles_and_the_graphs_own_types(
    tensorrt: Any, engines_bundle: Bundle, tmp_path: Path
) -> None:
    built(engines_bundle, tmp_path)
    asked = {Path(config.network.file).name: config for config in tensorrt.built}
    assert list(asked) == [
        "text_encoder.onnx",
        "score_head.onnx",
        "video_encoder.onnx",
        "video_encoder.fp16.onnx",
    ]
    for config in asked.values():
        assert config.network.flags == 1 << tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
        assert config.flags_cleared == ["tf32"]
        assert not config.flags_set
        assert config.pools == {"workspace": 4 << 30}
    clip = (4, 32, 32, 3)
    [profile] = asked["video_encoder.fp16.onnx"].profiles
    assert profile.shapes == {"frames": ((1, *clip), (8, *clip), (64, *clip))}
    [profile] = asked["text_encoder.onnx"].profiles
    assert profile.shapes == {"token_ids": ((1, 1), (64, 16), (256, 48))}
    [profile] = asked["score_head.onnx"].profiles
    assert profile.shapes["text"] == ((1, 1, 64), (8, 64, 64), (64, 1024, 64))


def test_timings_are_known_to_the_next_engine_and_the_next_export(
    tensorrt: Any, engines_bundle: Bundle, tmp_path: Path
) -> None:
    cache = tmp_path / "caches" / "timing"
    (tmp_path / "first").mkdir()
    built(engines_bundle, tmp_path / "first", cache)
    assert tensorrt.built[1].known == b"text_encoder.onnx;"
    (tmp_path / "second").mkdir()
    built(engines_bundle, tmp_path / "second", cache)
    assert tensorrt.built[4].known.count(b";") == 4
    cache.write_bytes(b"other card")
    (tmp_path / "third").mkdir()
    built(engines_bundle, tmp_path / "third", cache)
    assert tensorrt.built[8].known == b""
    assert cache.read_bytes().startswith(b"text_encoder.onnx;")


def test_progress_is_told(
    tensorrt: Any, engines_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(Steps, "note", lambda _, how_far: told.append(how_far))
    built(engines_bundle, tmp_path)
    assert told == ["Building, 1 of 2", "Building, 2 of 2"] * 4


def test_an_interrupt_ends_the_build(
    tensorrt: Any, engines_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Steps, "note", interrupt)
    with pytest.raises(KeyboardInterrupt):
        built(engines_bundle, tmp_path)
    assert len(tensorrt.built) == 1


def test_a_graph_that_tensorrt_cannot_build_fails_by_name(
    tensorrt: Any, engines_bundle: Bundle, tmp_path: Path
) -> None:
    tensorrt.fails = "score_head.onnx"
    with pytest.raises(ExportError, match=r"could not build an engine of score_head\.onnx"):
        built(engines_bundle, tmp_path)


@pytest.mark.usefixtures("traced_before")
def test_an_engine_that_computes_something_else_is_never_listed(
    tensorrt: Any,
    tiny_checkpoint: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = EngineOnCard.results
    monkeypatch.setattr(
        EngineOnCard, "results", lambda self, given: [1.01 * r + 0.01 for r in run(self, given)]
    )
    options = BundleOptions(tensorrt=True)
    with pytest.raises(ExportError, match="tensorrt fp32 is too far from torch"):
        make_bundle(tiny_checkpoint, tmp_path / "bundle", options, quiet())
    assert not (tmp_path / "bundle").exists()


@pytest.mark.usefixtures("traced_before")
def test_an_engine_that_does_not_run_is_never_listed(
    tensorrt: Any,
    tiny_checkpoint: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(EngineOnCard, "create_execution_context", lambda self: None)
    with pytest.raises(ExportError, match=r"engine that was built does not run: .*free memory"):
        make_bundle(tiny_checkpoint, tmp_path / "bundle", BundleOptions(tensorrt=True), quiet())
    assert not (tmp_path / "bundle").exists()
