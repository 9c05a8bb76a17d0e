"""Plain CLIP as a start: OpenAI's tensors, open_clip's tags, the activation of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.lib.layouts import to_official
from model.checkpoint import CheckpointError, load_checkpoint, read_checkpoint, save_checkpoint
from model.checkpoints import clip_start
from model.network.config import Activation
from model.network.xclip import XClip
from tests.model.conftest import SMALL, random_inputs, randomise, same_weights
from tests.open_clip_folders import open_clip_folder


@pytest.fixture(scope="module")
def clip_state(small_net: XClip) -> dict[str, Tensor]:
    """The part of the small network that CLIP has."""
    return {
        name: tensor
        for name, tensor in to_official(small_net)["model"].items()
        if ".message_" not in name and not name.startswith(("mit.", "prompts_"))
    }


SCALARS = {"input_resolution": 48, "context_length": 16, "vocab_size": 600}


def test_tensors_of_openai_start_with_published_first_values(
    clip_state: dict[str, Tensor], tmp_path: Path
) -> None:
    """In fp16, with the scalars that only OpenAI's networks carry: their activation is known."""
    halves = {name: tensor.half() for name, tensor in clip_state.items()}
    torch.save({**halves, **{k: torch.tensor(v) for k, v in SCALARS.items()}}, tmp_path / "ViT.pt")
    read = read_checkpoint(tmp_path / "ViT.pt")
    net = read.net
    assert (read.name, read.trained, net.config.activation) == ("ViT", False, "quick_gelu")
    assert "train before use" in read.notes[0]
    assert (net.config.num_frames, net.config.mit_layers, net.config.prompt_layers) == (8, 1, 2)
    for name, tensor in to_official(net)["model"].items():
        if name in clip_state:
            assert torch.equal(tensor, halves[name].float()), name
    assert net.prompt is not None
    assert torch.all(net.prompt.alpha == 0.1)
    assert not save_and_read(read.net, tmp_path, trained=read.trained).trained

    assert load_checkpoint(tmp_path / "ViT.pt", num_frames=4).config.num_frames == 4
    assert same_weights(load_checkpoint(tmp_path / "ViT.pt"), net)
    assert not same_weights(read_checkpoint(tmp_path / "ViT.pt", seed=1).net, net)


def save_and_read(net: XClip, folder: Path, **description: Any) -> Any:
    return read_checkpoint(save_checkpoint(net, folder / "saved", **description))


def test_files_that_do_not_tell_their_activation_need_it(
    clip_state: dict[str, Tensor], tmp_path: Path
) -> None:
    save_file(clip_state, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="--activation quick_gelu or gelu"):
        load_checkpoint(tmp_path / "w.safetensors")
    for activation in ("quick_gelu", "gelu"):
        read = read_checkpoint(tmp_path / "w.safetensors", activation=activation)
        assert read.net.config.activation == activation


def test_misfits_of_clip_are_named(clip_state: dict[str, Tensor], tmp_path: Path) -> None:
    state = {**clip_state, "visual.head": torch.zeros(3)}
    del state["transformer.resblocks.1.mlp.c_fc.bias"]
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path / "w.pt", activation="gelu")
    assert set(caught.value.problems) == {
        "missing transformer.resblocks.1.mlp.c_fc.bias (512,)",
        "unexpected visual.head (3,)",
    }


def test_frame_averaged_clip_is_the_mean_of_its_frames(
    clip_state: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save(clip_state, tmp_path / "w.pt")
    read = read_checkpoint(
        tmp_path / "w.pt", activation="quick_gelu", frame_average=True, num_frames=4
    )
    assert read.trained
    assert read.net.inputs.mean[0] == pytest.approx(0.48145466 * 255)
    frames, ids = random_inputs(SMALL)
    with torch.no_grad():
        features, _ = read.net.visual(frames)
        text = torch.nn.functional.normalize(read.net.encode_text(ids), dim=-1)
        video = torch.nn.functional.normalize(features.mean(dim=1), dim=-1)
        expected = read.net.logit_scale.exp() * video @ text.T
        torch.testing.assert_close(read.net(frames, ids), expected, atol=5e-5, rtol=0)


# Which tags of open_clip were trained with QuickGELU is not told by the model's name.
@pytest.mark.parametrize(
    ("tag", "activation"),
    [
        ("ViT-B-32/openai", "quick_gelu"),
        ("ViT-B-16/openai", "quick_gelu"),
        ("ViT-L-14-336/openai", "quick_gelu"),
        ("ViT-B-32/laion400m_e32", "quick_gelu"),
        ("ViT-B-16/laion400m_e32", "gelu"),
        ("ViT-L-14/laion400m_e32", "gelu"),
        ("ViT-B-32/laion2b_s34b_b79k", "gelu"),
        ("ViT-L-14/datacomp_xl_s13b_b90k", "gelu"),
        ("ViT-B-16/metaclip_400m", "quick_gelu"),
        ("ViT-B-16-quickgelu/dfn2b", "quick_gelu"),
        ("ViT-L-14/dfn2b", "quick_gelu"),
        ("ViT-L-14/dfn2b_s39b", "gelu"),
    ],
)
def test_each_open_clip_tag_has_the_activation_it_was_trained_with(
    tag: str, activation: Activation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "w.bin")
    stub_download(monkeypatch, tmp_path / "w.bin")
    assert clip_start.open_clip_weights(tag)[1] == activation


def stub_download(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """The download itself needs the internet; everything around it runs."""
    monkeypatch.setattr("open_clip.pretrained.download_pretrained", lambda cfg: str(file))


@pytest.mark.parametrize(("quick", "tag"), [(True, "openai"), (False, "laion2b_s34b_b79k")])
def test_towers_compute_what_open_clip_computes(
    quick: bool, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    vision = CLIPVisionCfg(layers=2, width=128, patch_size=16, image_size=48)
    text = CLIPTextCfg(context_length=16, vocab_size=600, width=64, heads=1, layers=2)
    source = CLIP(64, vision, text, quick_gelu=quick).eval()
    randomise(source)
    torch.save(source.state_dict(), tmp_path / "w.bin")
    stub_download(monkeypatch, tmp_path / "w.bin")
    net = read_checkpoint(f"open_clip:ViT-B-32/{tag}", frame_average=True, num_frames=4).net
    frames, ids = random_inputs(SMALL)
    padded = torch.nn.functional.pad(ids, (0, 16 - ids.shape[1]))
    with torch.no_grad():
        features, _ = net.visual(frames)
        pairs = [
            (net.encode_text(ids), source.encode_text(padded)),
            (features.flatten(0, 1), source.encode_image(frames.flatten(0, 1))),
        ]
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def refuse(cfg: Any) -> str:
    raise OSError("Connection refused")


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        ("No-Such/openai", "open_clip knows no model 'No-Such'"),
        ("ViT-B-16", "no tag '' of ViT-B-16; it has: openai, laion400m_e31"),
        ("ViT-B-16/nothing", "no tag 'nothing' of ViT-B-16"),
        ("ViT-H-14/laion2b_s32b_b79k", "heads of width 80; an X-CLIP has 64"),
        ("ViT-B-16/openai", r"cannot be downloaded \(Connection refused\)"),
    ],
)
def test_tags_that_cannot_be_had_say_why(
    tag: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("open_clip.pretrained.download_pretrained", refuse)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(f"open_clip:{tag}")


def test_a_network_without_towers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"visual.trunk.weight": torch.ones(3)}, tmp_path / "w.bin")
    stub_download(monkeypatch, tmp_path / "w.bin")
    with pytest.raises(CheckpointError, match=r"missing visual\.conv1\.weight"):
        load_checkpoint("open_clip:ViT-B-16/openai")


def test_parts_are_added_and_left_out(small_net: XClip) -> None:
    """What stays has the same weights; what comes has first values that the seed decides."""
    bare, _ = clip_start.with_parts(small_net, clip_start.BARE, seed=0)
    assert not any(clip_start.ADDED.fullmatch(name) for name in bare.state_dict())
    assert same_weights(bare.text, small_net.text)
    back = {name: getattr(small_net.config, name) for name in clip_start.BARE}
    full, note = clip_start.with_parts(bare, back, seed=1)
    fresh = {name for name in full.state_dict() if clip_start.ADDED.fullmatch(name)}
    assert full.config == small_net.config
    assert note.startswith(f"{len(fresh)} tensors of added parts")
    again, _ = clip_start.with_parts(bare, back, seed=1)
    assert same_weights(full, again)
    other, _ = clip_start.with_parts(bare, back, seed=2)
    assert same_weights(full.text, other.text)
    assert not same_weights(full.mit, other.mit)


@torch.no_grad()
def test_a_folder_of_open_clip_is_a_start_where_its_towers_have_clips_shape(tmp_path: Path) -> None:
    import open_clip

    source = f"local-dir:{open_clip_folder('clip-64', tmp_path / 'net')}"
    read = read_checkpoint(source, num_frames=2)
    assert (read.name, read.trained, read.net.config.mit_layers) == ("net", False, 1)
    theirs = open_clip.create_model(source).eval()
    pixels = torch.randn(1, 2, 3, 32, 32)
    plain = read_checkpoint(source, num_frames=2, frame_average=True).net
    features, _ = plain.visual(pixels)
    torch.testing.assert_close(features[0], theirs.encode_image(pixels[0]), atol=1e-5, rtol=0)
    ids = open_clip.get_tokenizer(source)(["a dog", "two people riding"])
    torch.testing.assert_close(plain.encode_text(ids), theirs.encode_text(ids), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("siglip", "a text tower of its own"), ("clip", "heads of width 32")],
)
def test_towers_of_another_shape_are_refused_in_a_line(
    kind: str, reason: str, tmp_path: Path
) -> None:
    source = f"local-dir:{open_clip_folder(kind, tmp_path / 'net')}"
    with pytest.raises(CheckpointError, match=f"other towers.*{reason}.*export takes it"):
        load_checkpoint(source)
