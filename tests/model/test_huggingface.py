"""Folders of transformers' model: files in every form, descriptions put right or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import XCLIPConfig, XCLIPModel

from model.checkpoint import CheckpointError, load_checkpoint, read_checkpoint
from model.inputs import Tokenizer
from model.network.config import ModelConfig
from model.network.initialise import build_xclip
from model.network.xclip import XClip
from tests.model.conftest import SMALL, edit_json, huggingface_folder, same_weights


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
@pytest.mark.parametrize("sharded", [False, True])
def test_weights_load_in_every_form(
    small_net: XClip, tmp_path: Path, kind: str, sharded: bool
) -> None:
    folder = huggingface_folder(small_net, tmp_path / "hf")
    state = load_file(folder / "model.safetensors")
    state["text_model.embeddings.position_ids"] = torch.arange(16).unsqueeze(0)  # old files
    (folder / "model.safetensors").unlink()
    whole = {"safetensors": "model.safetensors", "bin": "pytorch_model.bin"}[kind]
    names = sorted(state)
    parts = {f"{i}.{kind}": names[i::2] for i in (0, 1)} if sharded else {whole: names}
    for file, keys in parts.items():
        content = {k: state[k] for k in keys}
        if kind == "bin":
            torch.save(content, folder / file)
        else:
            save_file(content, folder / file)
    if sharded:
        places = {k: file for file, keys in parts.items() for k in keys}
        (folder / f"{whole}.index.json").write_text(json.dumps({"weight_map": places}))
    assert same_weights(load_checkpoint(folder), small_net)


def test_a_lost_shard_is_named(small_net: XClip, tmp_path: Path) -> None:
    folder = huggingface_folder(small_net, tmp_path / "hf")
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    index = {"weight_map": {"logit_scale": "a.safetensors", "mit": "../../b.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"hf/b\.safetensors cannot be read"):
        load_checkpoint(folder)


def test_what_transformers_saves_loads(tmp_path: Path) -> None:
    text = {"num_hidden_layers": 1, "vocab_size": 600, "max_position_embeddings": 16}
    vision = {"num_hidden_layers": 1, "image_size": 64}
    port = XCLIPModel(XCLIPConfig(text_config=text, vision_config=vision)).eval()
    port.save_pretrained(tmp_path)
    net = load_checkpoint(tmp_path)
    frames = torch.randn(2, 8, 3, 64, 64)
    ids = torch.tensor([[598, 4, 599, 0], [598, 7, 8, 599]])
    with torch.no_grad():
        theirs = port(input_ids=torch.nn.functional.pad(ids, (0, 12)), pixel_values=frames)
        torch.testing.assert_close(net(frames, ids), theirs.logits_per_video, atol=5e-5, rtol=0)


def test_heads_of_the_port_are_noted_and_left_aside(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"embed_dim": 768, "vision_layers": 1, "text_layers": 1})
    folder = huggingface_folder(build_xclip(config, seed=0), tmp_path / "hf")
    assert read_checkpoint(folder).notes == ()
    edit_json(
        folder / "config.json",
        vision_config__mit_num_attention_heads=8,
        prompt_num_attention_heads=8,
    )
    read = read_checkpoint(folder)
    assert len(read.notes) == 2
    assert all("8; runs with 12" in note for note in read.notes)
    blocks: Any = read.net.mit.blocks
    assert blocks[0].attn.heads == 12


def test_old_folders_describe_a_part_twice(small_net: XClip, tmp_path: Path) -> None:
    folder = huggingface_folder(small_net, tmp_path / "hf")
    text = json.loads((folder / "config.json").read_text())["text_config"]
    edit_json(folder / "config.json", text_config=None, text_config_dict=text)
    assert load_checkpoint(folder).config == small_net.config


def test_lost_layers_at_the_end_are_named(small_net: XClip, tmp_path: Path) -> None:
    folder = huggingface_folder(small_net, tmp_path / "hf")
    state = load_file(folder / "model.safetensors")
    kept = {k: v for k, v in state.items() if "vision_model.encoder.layers.2." not in k}
    save_file(kept, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"missing vision_model\.encoder\.layers\.2\."):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "clip"}, "is for 'clip', not for 'xclip'"),
        ({"model_type": "siglip2"}, "not for 'xclip'; take it from open_clip"),
        ({"text_config__hidden_act": "relu"}, "activations quick_gelu, relu are not supported"),
        ({"vision_config__layer_norm_eps": 1e-6}, "layer_norm_eps is 1e-06"),
        ({"vision_config__num_attention_heads": 4}, "num_attention_heads is 4"),
        ({"vision_config__image_size": 50}, "multiple of patch_size"),
        ({"text_config": 3}, "text_config is no JSON object"),
        ({"projection_dim": "wide"}, "embed_dim: Input should be a valid integer"),
    ],
)
def test_networks_that_are_no_xclip_are_refused(
    small_net: XClip, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = huggingface_folder(small_net, tmp_path / "hf")
    edit_json(folder / "config.json", **change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_incomplete_folders_say_what_they_lack(small_net: XClip, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint: it has no config\.json"):
        load_checkpoint(tmp_path)
    folder = huggingface_folder(small_net, tmp_path / "hf")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="holds no weights"):
        load_checkpoint(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json is no JSON"):
        load_checkpoint(folder)


def test_preprocessor_sizes_are_put_right(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"image_size": 336, "patch_size": 112, "vision_layers": 1})
    net = build_xclip(config, seed=0)
    published = {"size": 336, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.5, 0.5, 0.5]}
    folder = huggingface_folder(net, tmp_path / "hf", **published)
    inputs = load_checkpoint(folder).inputs
    assert (inputs.image_size, inputs.resize_short_side) == (336, 336)
    assert (inputs.context_length, inputs.std) == (16, (127.5, 127.5, 127.5))
    edit_json(folder / "preprocessor_config.json", size="large")
    with pytest.raises(CheckpointError, match="preprocessor size 'large' is not supported"):
        load_checkpoint(folder)


def test_only_another_vocabulary_brings_its_tokenizer(tmp_path: Path) -> None:
    own = Tokenizer.truncated(86)
    config = ModelConfig(**SMALL.model_dump() | {"vocab_size": own.vocab_size, "vision_layers": 1})
    folder = huggingface_folder(build_xclip(config, seed=0), tmp_path / "hf")
    own.save(folder / "tokenizer.json")
    read = read_checkpoint(folder)
    assert read.tokenizer is not None
    assert read.tokenizer.hash == own.hash
