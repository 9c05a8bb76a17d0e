"""Networks of open_clip: pooling over time, and what is said of a source that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.checkpoint import CheckpointError, read_checkpoint, read_network
from model.checkpoints import open_clip_tokenizers
from model.network.video_text import VideoTextNetwork
from tests.open_clip_folders import SIDE, open_clip_folder


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return open_clip_folder("clip", tmp_path_factory.mktemp("clip") / "small")


@pytest.fixture(scope="module")
def coca(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"local-dir:{open_clip_folder('coca', tmp_path_factory.mktemp('coca') / 'small')}"


def clips(frames: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(frames)
    return torch.randn(2, frames, 3, SIDE, SIDE, generator=generator)


@torch.no_grad()
def vectors(net: VideoTextNetwork, frames: torch.Tensor) -> torch.Tensor:
    video, context = net.encode_video(frames)
    assert context.shape == (len(frames), 0, net.embed_dim)
    return video


def test_tokens_of_one_frame_are_what_encode_image_gives(coca: str) -> None:
    net: Any = read_network(coca, pooling="tokens", num_frames=1).net
    frames = clips(1)
    with torch.no_grad():
        expected = net.towers.encode_image(frames[:, 0], normalize=False)
    torch.testing.assert_close(vectors(net, frames), expected)


def test_tokens_of_eight_frames_are_not_their_mean_and_know_no_order(coca: str) -> None:
    tokens, mean = (read_network(coca, pooling=p).net for p in ("tokens", "mean"))
    frames = clips(8)
    first = vectors(tokens, frames)
    assert torch.cosine_similarity(first, vectors(mean, frames)).max() < 0.999
    shuffled = frames[:, torch.tensor([3, 1, 7, 0, 5, 2, 6, 4])]
    torch.testing.assert_close(vectors(tokens, shuffled), first, rtol=1e-4, atol=1e-5)


def test_a_clip_is_encoded_alike_alone_and_beside_others(coca: str) -> None:
    net = read_network(coca, pooling="tokens").net
    frames = clips(8)
    alone = torch.cat([vectors(net, clip) for clip in frames.split(1)])
    torch.testing.assert_close(vectors(net, frames), alone, rtol=1e-4, atol=1e-5)


def test_everything_is_read_off_the_configuration(
    clip_folder: Path, tmp_path: Path, coca: str
) -> None:
    clip = read_network(f"local-dir:{clip_folder}")
    assert clip.net.inputs.crop == "center-rounded"
    assert clip.net.inputs.resize_rule == "bicubic-antialias"
    assert clip.net.inputs.mean == pytest.approx((122.7709, 116.7460, 104.0937), abs=1e-3)
    assert clip.net.logit_bias == 0
    siglip = read_network(f"local-dir:{open_clip_folder('siglip', tmp_path / 'siglip')}")
    assert siglip.net.logit_bias == -10.5
    assert siglip.net.inputs.crop == "squash"
    assert siglip.net.inputs.mean == siglip.net.inputs.std == (127.5,) * 3
    assert siglip.net.inputs.tokenizer.model_dump() == {
        "kind": "tokenizer.json",
        "pad": "fixed",
        "clean": "canonicalize",
    }
    assert siglip.net.inputs.context_length == 64
    assert read_network(coca).net.inputs.context_length == 76


def changed(folder: Path, target: Path, preprocess: dict[str, Any]) -> str:
    config = json.loads((folder / "open_clip_config.json").read_text())
    target.mkdir()
    config["preprocess_cfg"] |= preprocess
    (target / "open_clip_config.json").write_text(json.dumps(config))
    (target / "open_clip_model.safetensors").symlink_to(folder / "open_clip_model.safetensors")
    return f"local-dir:{target}"


def test_what_is_not_supported_is_said_in_one_line(clip_folder: Path, tmp_path: Path) -> None:
    def refusal(source: str, **options: Any) -> str:
        with pytest.raises(CheckpointError) as raised:
            read_network(source, **options)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    source = f"local-dir:{clip_folder}"
    assert "attentional pooler" in refusal(source, pooling="tokens")
    letterbox = changed(clip_folder, tmp_path / "letterbox", {"resize_mode": "longest"})
    assert "resize_mode 'longest' is not supported" in refusal(letterbox)
    assert "No such file" in refusal("local-dir:/nowhere")
    assert "names no weights" in refusal("open_clip:ViT-B-32")
    assert "no model 'ViT-Z-99'" in refusal("open_clip:ViT-Z-99/openai")
    assert "leave --pooling out" in refusal("some.pth", pooling="tokens")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "open_clip_config.json").write_text((clip_folder / "open_clip_config.json").read_text())
    assert "weights" in refusal(f"local-dir:{bare}")


@pytest.mark.parametrize("mistake", ["missing", "extra", "misshapen"])
def test_a_tensor_that_does_not_fit_is_named(
    clip_folder: Path, tmp_path: Path, mistake: str
) -> None:
    source = changed(clip_folder, tmp_path / "odd", {})
    weights = tmp_path / "odd" / "open_clip_model.safetensors"
    tensors = load_file(weights)
    weights.unlink()
    if mistake == "missing":
        del tensors["visual.ln_post.bias"]
    else:
        name = "visual.ln_post.bias" if mistake == "misshapen" else "visual.ln_post.bias2"
        tensors[name] = torch.zeros(3)
    save_file(tensors, weights)
    with pytest.raises(CheckpointError, match=r"visual\.ln_post\.bias") as raised:
        read_network(source)
    assert "\n" not in str(raised.value)


def test_training_says_which_commands_take_such_a_source(clip_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="export"):
        read_checkpoint(f"local-dir:{clip_folder}")


def test_a_tokenizer_file_is_read_without_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"local-dir:{open_clip_folder('siglip', tmp_path / 'net')}"
    expected = read_network(source)
    monkeypatch.setattr(open_clip_tokenizers, "_has_transformers", lambda: False)
    found = read_network(source)
    assert found.net.inputs == expected.net.inputs
    assert found.tokenizer is not None
    assert expected.tokenizer is not None
    assert found.tokenizer.hash == expected.tokenizer.hash
    texts = ["Riding a Bike!", "juggling balls, two people", "schön 🙂"]
    assert (found.tokenizer.encode(texts, 64) == expected.tokenizer.encode(texts, 64)).all()
