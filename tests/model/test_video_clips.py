"""Files of ViFi-CLIP, Open-VCLIP and FROSTER, written here in their published layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model.checkpoint import (
    CheckpointError,
    ClipShare,
    LoadedNetwork,
    load_checkpoint,
    read_network,
)
from model.checkpoints.clip_start import BARE
from model.checkpoints.weights import to_layout
from model.network.config import ModelConfig
from model.network.video_clip import NeighbourAttention, VideoClip
from model.network.xclip import XClip, assemble
from tests.model.conftest import SMALL, random_inputs, randomise
from tests.model.test_pickled import Bomb, Settings

State = dict[str, Tensor]
CONFIG = SMALL.model_copy(update={**BARE, "num_frames": 4, "vision_layers": 2})


def official(net: XClip) -> State:
    """The tensors by OpenAI's names."""
    return to_layout(net.state_dict(), "official")


def clip_state(seed: int, config: ModelConfig = CONFIG) -> State:
    """OpenAI's names, every tensor random."""
    net = assemble(config)
    randomise(net, seed)
    return official(net)


def vifi(state: State) -> dict[str, Any]:
    """As its training saves it: wrapped for several devices, with prompts of one list of labels."""
    renamed = {
        f"module.{_vifi_name(name)}": tensor
        for name, tensor in state.items()
        if name != "token_embedding.weight"
    }
    for name in ("complete_text_embeddings", "token_prefix", "token_suffix"):
        renamed[f"module.prompt_learner.{name}"] = torch.zeros(2, 3)
    return {
        "model": renamed,
        "optimizer": {"state": {}},
        "lr_scheduler": {"last_epoch": 3},
        "max_accuracy": 81.0,
        "epoch": 9,
        "config": Settings(epochs=30),
    }


def _vifi_name(name: str) -> str:
    if name.startswith("visual."):
        return name.replace("visual.", "image_encoder.", 1)
    return name if name == "logit_scale" else f"text_encoder.{name}"


def open_vclip(state: State) -> dict[str, Any]:
    return {
        "model_state": {f"model.{name}": tensor for name, tensor in state.items()},
        "epoch": 3,
        "cfg": "TRAIN: …",
    }


def froster(state: State) -> dict[str, Any]:
    content = open_vclip(state)
    content["model_state"] |= {
        "projector_v.0.weight": torch.zeros(2, 2),
        "projector_t.0.bias": torch.zeros(2),
        "raw_model.visual.proj": torch.zeros(2, 2),
    }
    return content


LAYOUTS = {"vifi": vifi, "open-vclip": open_vclip, "froster": froster}
# Of a tensor: what each layout calls it.
NAMES = {
    "vifi": ("image_encoder.ln_post.weight", "text_encoder.text_projection"),
    "open-vclip": ("model.visual.ln_post.weight", "model.text_projection"),
    "froster": ("model.visual.ln_post.weight", "model.text_projection"),
}


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    def write(content: Any, name: str = "file.pth") -> Path:
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return write


def read(file: Path, clip: ClipShare | None = None, frames: int | None = None) -> LoadedNetwork:
    return read_network(file, clip=clip, num_frames=frames)


def net_of(file: Path, clip: ClipShare | None = None, frames: int | None = None) -> VideoClip:
    net = read(file, clip, frames).net
    assert isinstance(net, VideoClip)
    return net


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_tensor_of_a_file_arrives(layout: str, save: Callable[..., Path]) -> None:
    state = clip_state(1)
    clip = ClipShare(str(save(clip_state(2), "clip.pt"))) if layout == "vifi" else None
    loaded = read(save(LAYOUTS[layout](state)), clip)
    assert isinstance(loaded.net, VideoClip)
    found = official(loaded.net.towers)
    expected = dict(state)
    if layout == "vifi":
        expected["token_embedding.weight"] = clip_state(2)["token_embedding.weight"]
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert loaded.licence in ("none stated by its authors", "non-commercial")
    assert loaded.licence in loaded.notes[0]
    frames = {"vifi": 32, "open-vclip": 8, "froster": 8}[layout]
    assert loaded.net.inputs.num_frames == frames
    assert loaded.net.inputs.mean[0] == pytest.approx(0.48145466 * 255)
    assert len(loaded.templates) == (1 if layout == "vifi" else 28)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_misfits_are_named_as_the_file_names_them(layout: str, save: Callable[..., Path]) -> None:
    content = LAYOUTS[layout](clip_state(1))
    tensors = content["model" if layout == "vifi" else "model_state"]
    first, second = NAMES[layout]
    start = "module." if layout == "vifi" else ""
    del tensors[start + first]
    tensors[start + second] = torch.zeros(3, 5)
    for name in ("head.weight", f"{first[: first.index('.') + 1]}odd.weight"):
        tensors[start + name] = torch.zeros(7)
    clip = ClipShare(str(save(clip_state(2), "clip.pt"))) if layout == "vifi" else None
    with pytest.raises(CheckpointError) as caught:
        read(save(content), clip)
    said = str(caught.value)
    assert f"missing {first} (192,)" in said
    assert f"{second} is (3, 5), should be (128, 128)" in said
    assert f"{first[: first.index('.') + 1]}odd.weight (7,)" in said
    assert "head.weight (7,)" in said
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize("added", ["message_fc.weight", "stadapt_down.weight"])
def test_variants_with_parts_of_their_own_are_refused_by_name(
    added: str, save: Callable[..., Path]
) -> None:
    content = open_vclip(clip_state(1))
    name = f"model.visual.transformer.resblocks.0.{added}"
    content["model_state"][name] = torch.zeros(4, 4)
    with pytest.raises(CheckpointError, match=f"unexpected {name}"):
        read(save(content))


def test_what_lies_beside_the_tensors_is_never_executed(
    save: Callable[..., Path], tmp_path: Path
) -> None:
    canary = tmp_path / "executed"
    clip = ClipShare(str(save(clip_state(2), "clip.pt")))
    read(save(vifi(clip_state(1)) | {"config": Bomb(canary)}), clip)
    assert not canary.exists()


def test_a_clip_of_no_known_size_is_asked_for(save: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match="name it with --clip"):
        read(save(vifi(clip_state(1))))
    wrong = clip_state(2) | {"token_embedding.weight": torch.zeros(600, 64)}
    with pytest.raises(
        CheckpointError, match=r"token_embedding.weight of .*clip.pt is \(600, 64\)"
    ):
        read(save(vifi(clip_state(1))), ClipShare(str(save(wrong, "clip.pt"))))


def test_it_is_no_start_for_training(save: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match="Open-VCLIP, no X-CLIP"):
        load_checkpoint(save(open_vclip(clip_state(1))))


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_weights_are_mixed_with_clips(share: float, save: Callable[..., Path]) -> None:
    tuned, clip = clip_state(1), clip_state(2)
    file = save(open_vclip(tuned))
    found = official(net_of(file, ClipShare(str(save(clip, "clip.pt")), share)).towers)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, share * clip[name] + (1 - share) * tuned[name])
    assert "--clip-share 0.5" in read(file).notes[1]
    with pytest.raises(CheckpointError, match="FROSTER is not mixed"):
        read(save(froster(tuned)), ClipShare(str(save(clip, "clip.pt")), share))


def neighbours_plainly(attn: NeighbourAttention, x: Tensor, frames: int) -> Tensor:
    """The published attention, a query at a time: x (B·T,S,D) to the same shape."""
    width = x.shape[-1]
    size = width // attn.heads
    projected = x @ attn.in_proj_weight.T + attn.in_proj_bias
    queries, keys, values = projected.split(width, dim=-1)
    out = torch.zeros_like(x)
    for row in range(x.shape[0]):
        t = row % frames
        for head in range(attn.heads):
            part = slice(head * size, (head + 1) * size)
            nothing = torch.zeros_like(keys[row, :, part])
            seen_keys, seen_values = [], []
            for other in (t + 1, t - 1, t):
                there = 0 <= other < frames
                seen_keys.append(keys[row + other - t, :, part] if there else nothing)
                seen_values.append(values[row + other - t, :, part] if there else nothing)
            k, v = torch.cat(seen_keys), torch.cat(seen_values)
            weights = (queries[row, :, part] @ k.T / size**0.5).softmax(dim=-1)
            out[row, :, part] = weights @ v
    return out @ attn.out_proj.weight.T + attn.out_proj.bias


@pytest.mark.parametrize("frames", [1, 2, 4])
@torch.no_grad()
def test_frames_attend_to_their_neighbours_as_published(
    frames: int, save: Callable[..., Path]
) -> None:
    net = net_of(save(open_vclip(clip_state(1))), frames=frames)
    visual: Any = net.towers.visual
    pixels, _ = random_inputs(CONFIG.model_copy(update={"num_frames": frames}), clips=2)
    x = visual.conv1(pixels.flatten(0, 1)).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1)
    x = visual.ln_pre(x + visual.positional_embedding)
    for block in visual.blocks:
        x = x + neighbours_plainly(block.attn, block.ln_1(x), frames)
        x = x + block.mlp(block.ln_2(x))
    features = (visual.ln_post(x[:, 0]) @ visual.proj).unflatten(0, (-1, frames))
    expected = F.normalize(features, dim=-1).mean(1)
    video, context = net.encode_video(pixels)
    torch.testing.assert_close(video, expected, atol=1e-5, rtol=1e-5)
    assert context.shape == (2, 0, CONFIG.embed_dim)


@torch.no_grad()
def test_the_mean_of_unit_frames_is_not_normalised_again(save: Callable[..., Path]) -> None:
    """A logit is the mean of the cosines of the frames, times the scale."""
    net = net_of(save(open_vclip(clip_state(1))), frames=4)
    pixels, ids = random_inputs(CONFIG)
    video, context = net.encode_video(pixels)
    text = net.encode_text(ids)
    torch.testing.assert_close(text.norm(dim=-1), torch.ones(len(ids)))
    features, _ = net.towers.visual(pixels)
    cosines = (F.normalize(features, dim=-1) @ text.T).mean(1)
    torch.testing.assert_close(net.score(video, context, text), net.logit_scale.exp() * cosines)


@torch.no_grad()
def test_vifi_averages_vectors_as_they_are(save: Callable[..., Path]) -> None:
    clip = ClipShare(str(save(clip_state(2), "clip.pt")))
    net = net_of(save(vifi(clip_state(1))), clip, 4)
    pixels, ids = random_inputs(CONFIG)
    features, _ = net.towers.visual(pixels)
    video, context = net.encode_video(pixels)
    torch.testing.assert_close(video, features.mean(1))
    text = net.encode_text(ids)
    expected = net.logit_scale.exp() * F.normalize(video, dim=-1) @ text.T
    torch.testing.assert_close(net.score(video, context, text), expected)


@torch.no_grad()
def test_a_folder_of_transformers_clip_is_its_frames_averaged(tmp_path: Path) -> None:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1}
    config = CLIPConfig(
        vision_config={**sizes, "image_size": 32, "patch_size": 16, "intermediate_size": 256},
        text_config={**sizes, "intermediate_size": 256, "eos_token_id": 49407},
        projection_dim=64,
    )
    theirs = CLIPModel(config).eval()
    randomise(theirs)
    theirs.save_pretrained(tmp_path / "clip")
    crop = {"height": 32, "width": 32}
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=crop).save_pretrained(
        tmp_path / "clip"
    )
    loaded = read_network(tmp_path / "clip", num_frames=2)
    spec = loaded.net.inputs
    assert (spec.resize_rule, spec.crop, spec.num_frames) == ("bicubic-antialias", "center", 2)
    assert spec.mean[0] == pytest.approx(0.48145466 * 255)
    pixels = torch.randn(3, 2, 3, 32, 32)
    ids = torch.zeros(2, 9, dtype=torch.int64)
    ids[:, 0] = 49406
    ids[0, 1:4] = torch.tensor([320, 1929, 49407])
    ids[1, 1:6] = torch.tensor([1237, 1047, 6765, 525, 49407])
    video, context = loaded.net.encode_video(pixels)
    image = theirs.vision_model(pixels.flatten(0, 1)).pooler_output
    image = theirs.visual_projection(image).unflatten(0, (3, 2)).mean(1)
    text = theirs.text_projection(theirs.text_model(ids).pooler_output)
    torch.testing.assert_close(video, image, atol=1e-5, rtol=1e-4)
    logits = F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    expected = theirs.logit_scale.exp() * logits
    found = loaded.net.score(video, context, loaded.net.encode_text(ids))
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
