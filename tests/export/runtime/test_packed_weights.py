"""Packed weights in a folder: the same answers, mapped from there, never of other weights."""

from __future__ import annotations

import logging
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from export.bundle import Bundle, BundleError
from export.runtime import Runtime, RuntimeOptions, open_runtime, packed_weights

GRAPHS = 3


def answer(runtime: Runtime, bundle: Bundle) -> np.ndarray:
    spec = bundle.manifest.inputs
    shape = (2, spec.num_frames, spec.image_size, spec.image_size, 3)
    frames = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    text = runtime.encode_text(np.array([[1, 5], [2, 5], [3, 5]]))
    return runtime.score(runtime.encode_video(frames), np.broadcast_to(text, (2, *text.shape)))


def opened(bundle: Bundle, folder: Path | None) -> Runtime:
    return open_runtime(bundle, "onnxruntime-cpu", options=RuntimeOptions(weight_cache=folder))


def mapped_from(folder: Path) -> list[str]:
    maps = Path("/proc/self/maps").read_text().splitlines()
    return [line for line in maps if line.partition("/")[2].startswith(str(folder)[1:])]


def test_answers_are_the_same_and_weights_come_from_the_folder(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    expected = answer(opened(tiny_bundle, None), tiny_bundle)
    folder = tmp_path / "packed"
    first = opened(tiny_bundle, folder)
    np.testing.assert_array_equal(answer(first, tiny_bundle), expected)
    assert mapped_from(folder)
    entries = {path: path.stat().st_ino for path in folder.iterdir()}
    assert len(entries) == GRAPHS
    # The second finds what the first has made.
    second = opened(tiny_bundle, folder)
    np.testing.assert_array_equal(answer(second, tiny_bundle), expected)
    assert {path: path.stat().st_ino for path in folder.iterdir()} == entries
    first.close()
    second.close()


def test_what_is_packed_goes_when_others_are_in_use(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answer(opened(tiny_bundle, None), tiny_bundle)
    monkeypatch.setattr(packed_weights, "KEPT", GRAPHS)
    left = tmp_path / "draft-of-one-that-was-killed"
    left.mkdir()
    os.utime(left, (0, 0))
    running = opened(tiny_bundle, tmp_path)
    assert not left.exists()
    before = set(tmp_path.iterdir())
    monkeypatch.setattr(packed_weights, "processor", lambda: ["another"])
    opened(tiny_bundle, tmp_path).close()
    after = set(tmp_path.iterdir())
    assert len(after) == GRAPHS
    assert not before & after
    # Who has them mapped goes on with them.
    np.testing.assert_array_equal(answer(running, tiny_bundle), expected)


def test_other_weights_have_another_entry(tiny_bundle: Bundle, tmp_path: Path) -> None:
    opened(tiny_bundle, tmp_path).close()
    other = tmp_path / "other"
    shutil.copytree(tiny_bundle.path, other)
    manifest = tiny_bundle.manifest
    name = manifest.graphs["score_head"].file
    files = manifest.files | {name: "0" * 64}  # as if the file had been exported again
    changed = Bundle(other, manifest.model_copy(update={"files": files}), "hash")
    opened(changed, tmp_path).close()
    assert len([path for path in tmp_path.iterdir() if path != other]) == GRAPHS + 1


def test_servers_that_start_together_share_one_entry(tmp_path: Path) -> None:
    together = Barrier(4)

    def pack(path: Path) -> None:
        path.write_bytes(b"packed")
        together.wait()  # none is done before all have begun

    def one(_: int) -> Path | None:
        packed = packed_weights.PackedWeights(tmp_path, {"graph.onnx": "0" * 64}, "1")
        return packed.packed(Path("graph.onnx"), pack)

    with ThreadPoolExecutor(4) as threads:
        found = set(threads.map(one, range(4)))
    (entry,) = tmp_path.iterdir()
    assert found == {entry / "graph.onnx"}
    assert (entry / "graph.onnx").read_bytes() == b"packed"


def test_dropping_at_the_same_time_takes_none_that_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_weights, "KEPT", GRAPHS)

    def pack(path: Path) -> None:
        for i in range(30):
            path.with_name(f"{path.name}.{i}").write_bytes(b"weights")

    def one(name: str) -> Path | None:
        packed = packed_weights.PackedWeights(tmp_path, {name: name.ljust(64, "0")}, "1")
        return packed.packed(Path(name), pack)

    with ThreadPoolExecutor(GRAPHS) as threads:
        for turn in range(40):
            found = list(threads.map(one, [f"{turn}-{graph}" for graph in range(GRAPHS)]))
            assert {path.parent for path in found if path} == set(tmp_path.iterdir())


@pytest.mark.parametrize("harm", ["cut", "empty", "no folder"])
def test_what_cannot_be_used_is_said_and_left(
    harm: str, tiny_bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = answer(opened(tiny_bundle, None), tiny_bundle)
    folder = tmp_path / "packed"
    if harm == "no folder":
        folder.write_text("a file")
    else:
        opened(tiny_bundle, folder).close()
        for file in folder.glob("*/*"):
            if harm == "empty":
                file.unlink()
            elif file.suffix == ".onnx":
                file.write_bytes(file.read_bytes()[:100])
    with caplog.at_level(logging.WARNING):
        runtime = opened(tiny_bundle, folder)
    np.testing.assert_array_equal(answer(runtime, tiny_bundle), expected)
    said = "are not kept packed" if harm == "no folder" else "cannot be used"
    assert sum(said in record.getMessage() for record in caplog.records) == GRAPHS
    if harm != "no folder":  # the next one makes them anew
        again = opened(tiny_bundle, folder)
        np.testing.assert_array_equal(answer(again, tiny_bundle), expected)
        assert len(list(folder.glob("*/*.onnx"))) == GRAPHS


def test_nothing_is_packed_of_files_that_are_not_checked(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    def changed() -> None:
        raise BundleError("not the file that was exported")

    expected = answer(opened(tiny_bundle, None), tiny_bundle)
    folder = tmp_path / "packed"
    asked = open_runtime(
        tiny_bundle, "onnxruntime-cpu", options=RuntimeOptions(weight_cache=folder, checked=changed)
    )
    assert list(folder.iterdir()) == []
    np.testing.assert_array_equal(answer(asked, tiny_bundle), expected)
    opened(tiny_bundle, folder).close()
    # What is there already was made of good files: nobody waits for the check.
    again = open_runtime(
        tiny_bundle, "onnxruntime-cpu", options=RuntimeOptions(weight_cache=folder, checked=changed)
    )
    assert mapped_from(folder)
    np.testing.assert_array_equal(answer(again, tiny_bundle), expected)
