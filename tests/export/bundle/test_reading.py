"""Opening a bundle: whatever is wrong with it is found first, and named."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest
from safetensors.numpy import save

from export.bundle import Bundle, BundleError, open_bundle
from export.bundle.manifest import MANIFEST_FILE


@pytest.fixture
def copy(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle.path, tmp_path / "copy"))


def change_manifest(folder: Path, **fields: Any) -> None:
    file = folder / MANIFEST_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.mark.parametrize(
    "name",
    [
        "video_encoder.onnx",
        "video_encoder.int8.onnx",
        "text_encoder.onnx",
        "score_head.onnx",
        "tokenizer.json",
        "labels/three.safetensors",
        "labels/three.json",
    ],
)
def test_a_changed_byte_in_any_file_is_named(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(BundleError, match=rf"{name} is not the file that was exported"):
        open_bundle(copy)


@pytest.mark.parametrize(
    ("name", "precision", "read"),
    [
        ("video_encoder.onnx", "fp32", True),
        ("video_encoder.onnx", "int8", False),
        ("video_encoder.onnx.data", "int8", False),
        ("video_encoder.int8.onnx", "int8", True),
        ("video_encoder.int8.onnx", "fp32", False),
        ("text_encoder.onnx", "int8", True),
        ("tokenizer.json", "fp32", True),
        ("labels/three.json", "int8", True),
    ],
)
def test_a_precision_needs_the_files_that_it_reads(
    copy: Path, name: str, precision: str, read: bool
) -> None:
    files = open_bundle(copy).manifest.files
    change_manifest(copy, files=files | {name: "0" * 64})
    bundle = open_bundle(copy, check_files=False)
    if not read:
        bundle.check_files(precision)
        return
    with pytest.raises(BundleError, match=f"{name} is not the file"):
        bundle.check_files(precision)


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / "score_head.onnx").unlink()
    with pytest.raises(BundleError, match=r"score_head\.onnx is missing; copy the bundle again"):
        open_bundle(copy)


@pytest.mark.parametrize("version", [0, 2, None, "1"])
def test_another_format_version_is_refused(copy: Path, version: Any) -> None:
    change_manifest(copy, format_version=version)
    with pytest.raises(BundleError, match="export the checkpoint again"):
        open_bundle(copy)


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"', "null"])
def test_a_manifest_that_is_none(copy: Path, text: str) -> None:
    (copy / MANIFEST_FILE).write_text(text)
    with pytest.raises(BundleError, match=MANIFEST_FILE):
        open_bundle(copy)


def test_an_unknown_field_is_named(copy: Path) -> None:
    change_manifest(copy, surprise=1)
    with pytest.raises(BundleError, match="surprise"):
        open_bundle(copy)


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a/../../b", "", "a\\b"])
def test_a_path_that_leaves_the_bundle_is_refused(copy: Path, path: str) -> None:
    change_manifest(copy, tokenizer=path)
    with pytest.raises(BundleError, match="does not lie inside the bundle"):
        open_bundle(copy)


def test_a_file_without_a_hash_is_refused(copy: Path) -> None:
    files = json.loads((copy / MANIFEST_FILE).read_text())["files"]
    del files["text_encoder.onnx"]
    change_manifest(copy, files=files)
    with pytest.raises(BundleError, match=r"no hash for text_encoder\.onnx"):
        open_bundle(copy)


def test_what_is_no_bundle_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="python -m export"):
        open_bundle(tmp_path)
    with pytest.raises(BundleError, match="is no folder"):
        open_bundle(tmp_path / "none")


def test_hashes_may_be_skipped_by_who_checked_them(copy: Path) -> None:
    (copy / "score_head.onnx").write_bytes(b"changed")
    assert open_bundle(copy, check_files=False).manifest.name == "tiny"


def test_hash_names_the_content_not_the_place(tiny_bundle: Bundle, copy: Path) -> None:
    assert open_bundle(copy).hash == tiny_bundle.hash
    change_manifest(copy, name="other")
    assert open_bundle(copy).hash != tiny_bundle.hash


@pytest.mark.parametrize(
    ("name", "changes"),
    [("text_encoder.onnx", True), ("tokenizer.json", True), ("video_encoder.onnx", False)],
)
def test_text_hash_follows_what_makes_label_vectors(
    tiny_bundle: Bundle, copy: Path, name: str, changes: bool
) -> None:
    files = tiny_bundle.manifest.files | {name: "0" * 64}
    change_manifest(copy, files=files)
    other = open_bundle(copy, check_files=False)
    assert (other.text_hash != tiny_bundle.text_hash) == changes


def test_text_hash_covers_weights_beside_the_graph(tiny_bundle: Bundle, copy: Path) -> None:
    change_manifest(copy, files=tiny_bundle.manifest.files | {"text_encoder.onnx.data": "0" * 64})
    assert open_bundle(copy, check_files=False).text_hash != tiny_bundle.text_hash


def test_label_set_holds_labels_prompts_and_vectors(tiny_bundle: Bundle) -> None:
    labels = tiny_bundle.label_set("three")
    assert labels.labels == ("swim", "ride a bike", "kick ball") == labels.prompts
    assert labels.vectors.shape == (3, tiny_bundle.manifest.text_dim)
    assert labels.vectors.dtype == np.float32
    with pytest.raises(KeyError):
        tiny_bundle.label_set("four")


def test_a_label_list_that_holds_something_else_is_named(copy: Path) -> None:
    (copy / "labels" / "three.json").write_text('{"labels": ["swim"], "prompts": ["swim"]}')
    with pytest.raises(BundleError, match=r"labels/three\.json"):
        open_bundle(copy, check_files=False).label_set("three")


def rewrite(folder: Path, name: str, content: bytes) -> None:
    """Put another file in place of one of the bundle, as an exporter of such a file would."""
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_bytes(content)
    files = json.loads((folder / MANIFEST_FILE).read_text())["files"]
    change_manifest(folder, files=files | {name: hashlib.sha256(content).hexdigest()})


def refusal(folder: Path) -> str:
    with pytest.raises(BundleError) as caught:
        open_bundle(folder)
    message = str(caught.value)
    assert message.isprintable(), "one line that a terminal can show"
    return message


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v[:, :-1],
        lambda v: v[:-1],
        lambda v: v.astype(np.float64),
        lambda v: v.astype(np.float16),
        lambda v: np.where(np.arange(v.shape[1]) == 1, np.float32("nan"), v),
        lambda v: np.where(np.arange(v.shape[1]) == 1, np.float32("inf"), v),
        lambda v: v[0],
    ],
)
def test_label_vectors_that_the_network_cannot_take_are_refused(
    copy: Path, change: Callable[[Any], Any]
) -> None:
    vectors = open_bundle(copy).label_set("three").vectors
    rewrite(
        copy, "labels/three.safetensors", save({"vectors": np.ascontiguousarray(change(vectors))})
    )
    assert "labels/three.safetensors hold no label list (vectors" in refusal(copy)


@pytest.mark.parametrize(
    "text",
    [
        {"labels": [1, 2, 3], "prompts": ["a", "b", "c"]},
        {"labels": ["a", "b", "c"], "prompts": ["a", None, "c"]},
        {"labels": ["a", "", "c"], "prompts": ["a", "b", "c"]},
        {"labels": "abc", "prompts": "abc"},
        {"labels": ["a", "b"], "prompts": ["a", "b"]},
        {"labels": ["a", "b", "c"]},
        ["a", "b", "c"],
    ],
)
def test_labels_that_are_no_texts_are_refused(copy: Path, text: Any) -> None:
    rewrite(copy, "labels/three.json", json.dumps(text).encode())
    assert "labels/three.json" in refusal(copy)


@pytest.mark.parametrize("scale", [0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_no_cosine_survives_is_refused(copy: Path, scale: float) -> None:
    change_manifest(copy, logit_scale=scale)
    assert "logit_scale" in refusal(copy)


@pytest.mark.parametrize("field", ["name", "variant", "source"])
@pytest.mark.parametrize("character", ["\x1b", "\n", "\x00", "\x85", "\u2028"])
def test_names_that_change_a_terminal_are_refused(copy: Path, field: str, character: str) -> None:
    change_manifest(copy, **{field: f"a{character}[2Jb"})
    assert "control characters" in refusal(copy)


def test_a_link_out_of_the_bundle_is_refused_and_one_within_is_not(
    copy: Path, tmp_path: Path
) -> None:
    graph = copy / "score_head.onnx"
    graph.rename(copy / "elsewhere.bin")
    graph.symlink_to("elsewhere.bin")
    assert open_bundle(copy).manifest.name == "tiny"
    (copy / "elsewhere.bin").rename(tmp_path / "outside")
    graph.unlink()
    graph.symlink_to(tmp_path / "outside")
    assert "score_head.onnx is a link out of the bundle" in refusal(copy)


def test_a_bundle_may_be_reached_through_a_link(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(copy)
    assert open_bundle(tmp_path / "current").manifest.name == "tiny"


@pytest.mark.parametrize("name", [MANIFEST_FILE, "score_head.onnx", "labels/three.json"])
def test_a_pipe_is_refused_without_waiting_for_a_writer(copy: Path, name: str) -> None:
    (copy / name).unlink()
    os.mkfifo(copy / name)
    assert "not a regular file" in refusal(copy)


@pytest.mark.parametrize("part", ["form", "weights"])
def test_no_part_of_the_check_leaves_a_pipe_to_the_runtime(
    copy: Path, part: Literal["form", "weights"]
) -> None:
    """The runtime loads weights while they are still being hashed."""
    name = "weights.onnx.data"
    os.mkfifo(copy / name)
    files = json.loads((copy / MANIFEST_FILE).read_text())["files"]
    change_manifest(copy, files=files | {name: "0" * 64})
    with pytest.raises(BundleError, match="not a regular file"):
        open_bundle(copy, check_files=False).check_files("fp32", part)


def test_a_device_that_never_ends_is_refused(copy: Path) -> None:
    (copy / MANIFEST_FILE).unlink()
    (copy / MANIFEST_FILE).symlink_to("/dev/zero")
    assert "not a regular file" in refusal(copy)


@pytest.mark.parametrize("name", ["score_head.onnx", "labels/three.json", "tokenizer.json"])
def test_a_file_without_end_is_refused_before_it_is_read(copy: Path, name: str) -> None:
    with (copy / name).open("ab") as file:
        file.truncate(1 << 40)
    assert f"{name} is larger than" in refusal(copy)


def test_a_manifest_without_end_is_refused(copy: Path) -> None:
    with (copy / MANIFEST_FILE).open("ab") as manifest:
        manifest.truncate(1 << 40)  # no more than its first pages take room
    assert "larger than 16 MiB" in refusal(copy)


def test_a_manifest_nested_without_end_is_refused(copy: Path) -> None:
    (copy / MANIFEST_FILE).write_text("[" * 1_000_000)
    assert MANIFEST_FILE in refusal(copy)


def test_weights_that_are_not_listed_are_refused(copy: Path) -> None:
    """Nobody would notice that they have changed."""
    graph = onnx.load(copy / "score_head.onnx")
    onnx.save(
        graph, copy / "score_head.onnx", save_as_external_data=True, location="w.bin",
        size_threshold=0,
    )  # fmt: skip
    rewrite(copy, "score_head.onnx", (copy / "score_head.onnx").read_bytes())
    assert "w.bin is read by score_head.onnx and has no hash" in refusal(copy)
    rewrite(copy, "w.bin", (copy / "w.bin").read_bytes())
    assert open_bundle(copy).manifest.name == "tiny"


def test_a_file_that_no_graph_reads_may_lie_in_a_bundle(copy: Path) -> None:
    (copy / "README.md").write_text("what this is")
    assert open_bundle(copy).manifest.name == "tiny"
