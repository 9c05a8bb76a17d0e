"""Our network against transformers' port, every parameter randomised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import XCLIPConfig, XCLIPModel

from benchmarks.lib.layouts import to_huggingface
from model.checkpoint import load_checkpoint
from model.network.config import VARIANTS, ModelConfig
from model.network.initialise import build_xclip
from model.network.xclip import XClip
from tests.model.conftest import SMALL, random_inputs, randomise


def port_of(net: XClip, **changes: Any) -> XCLIPModel:
    """transformers' model with the same weights."""
    state, config = to_huggingface(net)
    for key, value in changes.items():
        target = config["vision_config"] if key.startswith("mit") else config
        target[key] = value
    port = XCLIPModel(XCLIPConfig.from_dict(config)).eval()
    port.set_attn_implementation("eager")
    missing, extra = port.load_state_dict(state, strict=False)
    assert not extra
    assert all(name.endswith("position_ids") for name in missing)
    return port


def run_port(port: Any, frames: torch.Tensor, ids: torch.Tensor) -> Any:
    context = port.config.text_config.max_position_embeddings
    padded = torch.nn.functional.pad(ids, (0, context - ids.shape[1]))
    with torch.no_grad():
        return port(input_ids=padded, pixel_values=frames)


def differences(net: XClip, port: XCLIPModel, clips: int) -> dict[str, float]:
    frames, ids = random_inputs(net.config, clips)
    dtype = next(net.parameters()).dtype
    theirs = run_port(port, frames.to(dtype), ids)
    with torch.no_grad():
        video, context = net.encode_video(frames.to(dtype))
        text = net.encode_text(ids)
        logits = net.score(video, context, text)
        prompted = net.prompted(context, text.expand(clips, -1, -1))
    unit = torch.nn.functional.normalize
    pairs = {
        "logits": (logits, theirs.logits_per_video),
        "video": (unit(video, dim=-1), theirs.video_embeds),
        "text": (unit(prompted, dim=-1), theirs.text_embeds),
    }
    return {k: float((a - b).abs().max()) for k, (a, b) in pairs.items()}


def test_small_config_equals_the_port(small_net: XClip) -> None:
    found = differences(small_net, port_of(small_net), 3)
    assert found["logits"] <= 5e-5
    assert max(found["video"], found["text"]) <= 1e-6


def test_real_size_base_equals_the_port() -> None:
    net = build_xclip(VARIANTS["xclip-base-patch32"], seed=0).eval()
    randomise(net)
    found = differences(net, port_of(net), 2)
    assert found["logits"] <= 5e-5
    assert max(found["video"], found["text"]) <= 1e-6


def test_double_precision_equals_the_port(small_net: XClip) -> None:
    port = port_of(small_net).double()
    net = build_xclip(SMALL, seed=0).eval()
    net.load_state_dict(small_net.state_dict())
    assert max(differences(net.double(), port, 3).values()) <= 1e-6


@pytest.mark.parametrize("fact", ["activation", "head count"])
def test_the_tolerance_sees_a_wrong_fact(small_net: XClip, fact: str) -> None:
    port = port_of(small_net)
    change = {"activation": "gelu"} if fact == "activation" else {"mit_heads": 1}
    wrong = build_xclip(SMALL.model_copy(update=change), seed=0).eval()
    wrong.load_state_dict(small_net.state_dict())
    assert differences(wrong, port, 3)["logits"] > 1e-2


def test_large_folder_with_eight_heads_runs_with_the_originals_twelve(tmp_path: Path) -> None:
    config = ModelConfig(
        image_size=28,
        patch_size=14,
        num_frames=4,
        vision_width=128,
        vision_layers=2,
        embed_dim=768,
        text_width=128,
        text_layers=1,
        vocab_size=600,
    )
    net = build_xclip(config, seed=0).eval()
    randomise(net)
    eight = port_of(net, mit_num_attention_heads=8, prompt_num_attention_heads=8)
    eight.config.save_pretrained(tmp_path)
    save_file(to_huggingface(net)[0], tmp_path / "model.safetensors")
    loaded = load_checkpoint(tmp_path)

    assert differences(loaded, port_of(net), 2)["logits"] <= 5e-5
    assert differences(loaded, eight, 2)["logits"] > 1e-2
    asked = build_xclip(config.model_copy(update={"mit_heads": 8, "prompt_heads": 8})).eval()
    asked.load_state_dict(loaded.state_dict())
    assert differences(asked, eight, 2)["logits"] <= 5e-5
