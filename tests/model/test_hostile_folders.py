"""Folders and files made to hang, to fill memory or to break the reader: one line each."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from model.checkpoint import CheckpointError, read_network
from model.network.xclip import XClip
from tests.model.conftest import edit_json, huggingface_folder

CONFIG, PREPROCESSOR, WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"


def refusal(source: Path | str) -> str:
    with pytest.raises(CheckpointError) as raised:
        read_network(str(source))
    assert "\n" not in raised.value.brief
    return str(raised.value)


@pytest.fixture
def folder(small_net: XClip, tmp_path: Path) -> Path:
    return huggingface_folder(small_net, tmp_path / "hf")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"text_config__num_hidden_layers": 100_000}, "text_layers"),
        ({"vision_config__num_hidden_layers": 1_000_000_000}, "vision_layers"),
        ({"vision_config__num_hidden_layers": 10**400}, "vision_layers"),
        ({"vision_config__mit_num_hidden_layers": 10**9}, "mit_layers"),
        ({"prompt_layers": 10**9}, "prompt_layers"),
        ({"projection_dim": 6_400_000_000}, "embed_dim"),
        ({"text_config__vocab_size": 10**12}, "vocab_size"),
        ({"text_config__max_position_embeddings": 10**9}, "context_length"),
        ({"vision_config__num_frames": 10**9}, "num_frames"),
        ({"vision_config__image_size": 16 << 30, "vision_config__patch_size": 1}, "image_size"),
        ({"text_config__hidden_act": ["gelu"]}, "activations"),
        ({"prompt_alpha": float("nan")}, "prompt_alpha"),
    ],
)  # fmt: skip
def test_a_network_that_no_memory_holds_is_refused(
    folder: Path, change: dict[str, Any], named: str
) -> None:
    edit_json(folder / CONFIG, **change)
    assert named in refusal(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"rescale_factor": 0},
        {"rescale_factor": "a"},
        {"image_mean": [10**400, 0, 0]},
        {"image_std": [float("nan")] * 3},
        {"image_mean": 3},
        {"size": {"shortest_edge": 10**9}},
        {"size": ["x" * 10_000]},
    ],
)
def test_pixels_that_no_clip_has_are_refused(folder: Path, change: dict[str, Any]) -> None:
    (folder / PREPROCESSOR).write_text(json.dumps(change))
    assert len(refusal(folder)) < 1000


@pytest.mark.parametrize("name", [CONFIG, PREPROCESSOR, "model.safetensors.index.json"])
@pytest.mark.parametrize("content", [b"[" * 1_000_000, b'{"a":' * 100_000, b"\xff\xfe\0", b"{}[]"])
def test_json_that_is_none_is_named(folder: Path, name: str, content: bytes) -> None:
    (folder / WEIGHTS).unlink()
    (folder / name).write_bytes(content)
    assert name in refusal(folder)


@pytest.mark.parametrize("name", [CONFIG, PREPROCESSOR, WEIGHTS, "tokenizer.json"])
@pytest.mark.parametrize("kind", ["pipe", "device", "without end"])
def test_what_is_no_file_is_refused_without_waiting(folder: Path, name: str, kind: str) -> None:
    (folder / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(folder / name)
    elif kind == "device":
        (folder / name).symlink_to("/dev/zero")
    else:
        with (folder / name).open("wb") as file:
            file.truncate(1 << 40)
    if name == "tokenizer.json":  # read only where the vocabulary is not CLIP's
        assert json.loads((folder / CONFIG).read_text())["text_config"]["vocab_size"] != 49408
    refusal(folder)


def test_shards_that_are_pipes_are_refused(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    for name in ("a.safetensors", "b.bin"):
        os.mkfifo(folder / name)
        index = "model.safetensors" if name.startswith("a") else "pytorch_model.bin"
        (folder / f"{index}.index.json").write_text(json.dumps({"weight_map": {"x": name}}))
        assert "not a regular file" in refusal(folder)
        (folder / f"{index}.index.json").unlink()


def compressed(source: Path, target: Path) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))


def grown(source: Path, target: Path) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            long = name.endswith("data.pkl")
            new.writestr(name, b"]" * (65 << 20) if long else old.read(name))


@pytest.mark.parametrize(
    ("change", "said"), [(compressed, "compressed"), (grown, "data.pkl is larger than 64 MiB")]
)
def test_archives_that_grow_when_read_are_refused(
    tmp_path: Path, change: Callable[[Path, Path], None], said: str
) -> None:
    torch.save({"model": {"x": torch.zeros(4)}}, tmp_path / "plain.pth")
    change(tmp_path / "plain.pth", tmp_path / "hostile.pth")
    assert said in refusal(tmp_path / "hostile.pth")


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("vision_cfg", "layers", 10**9),
        ("text_cfg", "layers", 10**5),
        ("text_cfg", "width", 64 * 10**8),
        ("text_cfg", "vocab_size", 10**12),
        ("vision_cfg", "image_size", [10**9, 10**9]),
        ("vision_cfg", "mlp_ratio", float("inf")),
    ],
)
def test_open_clip_folders_say_what_is_too_large(
    tmp_path: Path, part: str, key: str, value: object
) -> None:
    config: dict[str, Any] = {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "layers": 1},
    }
    config[part][key] = value
    described = {"model_cfg": config, "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(described))
    assert f"{key} is" in refusal(f"local-dir:{tmp_path}")


def test_open_clip_folders_hold_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "open_clip_config.json")
    assert "not a regular file" in refusal(f"local-dir:{tmp_path}")
    (tmp_path / "open_clip_config.json").unlink()
    (tmp_path / "open_clip_config.json").write_text("{}")
    os.mkfifo(tmp_path / "open_clip_model.safetensors")
    assert "not a regular file" in refusal(f"local-dir:{tmp_path}")
