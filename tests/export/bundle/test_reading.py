"""Opening a bundle: whatever is wrong with it is found first, and named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
