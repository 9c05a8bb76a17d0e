"""Checkpoints in every layout: nothing lost, misfits named, nothing executed."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model import convert
from model.checkpoint import (
    CheckpointError,
    load_checkpoint,
    read_checkpoint,
    resample_frames,
    save_checkpoint,
)
from model.config import VARIANTS
from model.inputs import InputSpec, Tokenizer
from model.publish import to_huggingface, to_official
from model.sources import variant_of
from model.weights import config_from_weights, from_native, to_native
from model.xclip import XClip, assemble, build_xclip
from tests.model.conftest import SMALL, random_inputs, randomise


def same_weights(one: XClip, other: XClip) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def huggingface_folder(net: XClip, folder: Path, **preprocessor: Any) -> Path:
    state, config = to_huggingface(net)
    folder.mkdir(exist_ok=True)
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    if preprocessor:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


def test_native_round_trip_keeps_everything(small_net: XClip, tmp_path: Path) -> None:
    folder = save_checkpoint(
        small_net, tmp_path / "c", tokenizer=Tokenizer.truncated(86), name="n", trained=False
    )
    read = read_checkpoint(folder)
    assert same_weights(read.net, small_net)
    assert (read.net.config, read.net.inputs) == (small_net.config, small_net.inputs)
    assert (read.name, read.trained, read.net.training) == ("n", False, False)
    assert read.tokenizer is not None
    assert read.tokenizer.vocab_size == Tokenizer.truncated(86).vocab_size
    assert all(p.requires_grad for p in read.net.parameters())


def test_official_round_trip_reads_the_config_off_the_shapes(
    small_net: XClip, tmp_path: Path
) -> None:
    torch.save(to_official(small_net), tmp_path / "k400.pth")
    read = read_checkpoint(tmp_path / "k400.pth")
    assert same_weights(read.net, small_net)
    assert read.net.config == small_net.config
    assert read.net.inputs.resize_short_side == int(256 / 224 * 48)
    assert read.name == "k400"


def test_huggingface_round_trip(small_net: XClip, tmp_path: Path) -> None:
    read = read_checkpoint(huggingface_folder(small_net, tmp_path / "hf"))
    assert same_weights(read.net, small_net)
    assert read.net.config == small_net.config
    assert read.net.inputs.resize_rule == "bilinear-antialias"
    assert read.notes == ()


@pytest.mark.parametrize("name", ["xclip-base-patch32", "xclip-large-patch14-16-frames"])
@pytest.mark.parametrize("layout", ["official", "huggingface"])
def test_every_tensor_of_published_sizes_has_a_name_there_and_back(name: str, layout: Any) -> None:
    with torch.device("meta"):
        net = assemble(VARIANTS[name])
        native, unknown = to_native(from_native(net.state_dict(), layout), layout)
    assert unknown == []
    assert {k: v.shape for k, v in native.items()} == {
        k: v.shape for k, v in net.state_dict().items()
    }
    assert config_from_weights(native) == VARIANTS[name]
    assert variant_of(VARIANTS[name]) is not None


def test_old_bin_files_shards_and_position_ids_load(small_net: XClip, tmp_path: Path) -> None:
    folder = huggingface_folder(small_net, tmp_path / "hf")
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    old = state | {"text_model.embeddings.position_ids": torch.arange(16).unsqueeze(0)}
    torch.save(old, folder / "pytorch_model.bin")
    assert same_weights(load_checkpoint(folder), small_net)

    (folder / "pytorch_model.bin").unlink()
    names = sorted(state)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, keys in shards.items():
        save_file({k: state[k] for k in keys}, folder / file)
    index = {"weight_map": {k: file for file, keys in shards.items() for k in keys}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert same_weights(load_checkpoint(folder), small_net)


def test_preprocessor_sizes_are_put_right(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"image_size": 336, "patch_size": 112, "vision_layers": 1})
    net = build_xclip(config, seed=0)
    published = {"size": 336, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.5, 0.5, 0.5]}
    read = read_checkpoint(huggingface_folder(net, tmp_path / "hf", **published))
    assert (read.net.inputs.image_size, read.net.inputs.resize_short_side) == (336, 336)
    assert read.net.inputs.std == (127.5, 127.5, 127.5)


class Bomb:
    """Creates a file when it is unpickled by something that executes pickles."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.system, (f"touch {self.path}",))


def test_other_members_of_an_official_file_are_never_executed(
    small_net: XClip, tmp_path: Path
) -> None:
    canary = tmp_path / "executed"
    content = {**to_official(small_net), "config": Bomb(canary), "max_accuracy": 80.4}
    torch.save(content, tmp_path / "c.pth")
    assert same_weights(load_checkpoint(tmp_path / "c.pth"), small_net)
    assert not canary.exists()
    torch.save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert same_weights(load_checkpoint(tmp_path / "old.pth"), small_net)
    assert not canary.exists()
    pickle.loads(pickle.dumps(Bomb(canary)))
    assert canary.exists(), "the bomb must work, or this test shows nothing"


def test_missing_extra_and_misshapen_tensors_are_named(small_net: XClip, tmp_path: Path) -> None:
    state = to_official(small_net)["model"]
    state["visual.ln_post.weight"] = torch.zeros(7)
    del state["mit.resblocks.0.ln_1.bias"]
    torch.save({"model": state}, tmp_path / "bad.pth")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "bad.pth")
    assert "missing mit.blocks.0.ln_1.bias (128,)" in str(caught.value)
    assert "visual.ln_post.weight is (7,), should be (192,)" in str(caught.value)

    torch.save({"model": state | {"visual.head.weight": torch.zeros(1)}}, tmp_path / "bad.pth")
    with pytest.raises(CheckpointError, match=r"no X-CLIP has: visual\.head\.weight"):
        load_checkpoint(tmp_path / "bad.pth")


def test_a_lost_part_of_a_packed_matrix_is_named(small_net: XClip, tmp_path: Path) -> None:
    folder = huggingface_folder(small_net, tmp_path / "hf")
    state = load_file(folder / "model.safetensors")
    del state["mit.encoder.layers.0.self_attn.k_proj.weight"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"mit\.encoder\.layers\.0\.self_attn\.k_proj"):
        load_checkpoint(folder)


def test_clip_starts_fine_tuning_with_published_first_values(
    small_net: XClip, tmp_path: Path
) -> None:
    clip = {
        k: v.half()
        for k, v in to_official(small_net)["model"].items()
        if "message" not in k and not k.startswith(("mit.", "prompts_"))
    }
    clip |= {"input_resolution": torch.tensor(48), "context_length": torch.tensor(16)}
    torch.save(clip, tmp_path / "ViT.pt")
    read = read_checkpoint(tmp_path / "ViT.pt")
    assert not read.trained
    assert "fine-tune" in read.notes[0]
    assert read.net.config.mit_layers == 1
    expected = small_net.visual.conv1.weight.half().float()
    assert torch.equal(read.net.visual.conv1.weight, expected)
    assert read.net.prompt is not None
    assert torch.all(read.net.prompt.alpha == 0.1)


@pytest.mark.parametrize(
    ("model_name", "tag", "quick"),
    [
        ("ViT-B-32", "openai", True),
        ("ViT-B-32", "laion400m_e32", True),
        ("ViT-B-16", "laion400m_e32", False),
        ("ViT-B-32", "laion2b_s34b_b79k", False),
        ("ViT-B-16", "metaclip_400m", True),
        ("ViT-B-16", "dfn2b", True),
        ("ViT-L-14", "datacomp_xl_s13b_b90k", False),
    ],
)
def test_each_open_clip_tag_gets_the_activation_it_was_trained_with(
    model_name: str, tag: str, quick: bool
) -> None:
    from model.sources import _uses_quick_gelu

    assert _uses_quick_gelu(model_name, tag) is quick


def test_open_clip_weights_of_a_file_load(tmp_path: Path) -> None:
    import open_clip

    source = open_clip.create_model("ViT-B-32-quickgelu")
    torch.save(source.state_dict(), tmp_path / "w.pt")
    read = read_checkpoint(f"open_clip:ViT-B-32-quickgelu/{tmp_path / 'w.pt'}")
    assert read.net.config == VARIANTS["xclip-base-patch32"]
    ids = Tokenizer.clip().encode(["a photo of a dog", "juggling"])
    with torch.no_grad():
        padded = torch.nn.functional.pad(torch.from_numpy(ids), (0, 77 - ids.shape[1]))
        torch.testing.assert_close(
            read.net.encode_text(torch.from_numpy(ids)),
            source.eval().encode_text(padded),
            atol=1e-5,
            rtol=1e-4,
        )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "is no checkpoint"),
        ("open_clip:ViT-B-32", "name a model and a tag"),
        ("open_clip:No-Such/openai", "name a model and a tag"),
    ],
)
def test_what_is_no_checkpoint_says_what_to_give(source: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(source)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04broken"])
def test_files_that_are_no_checkpoints(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load_checkpoint(tmp_path / "x.pth")


def test_hub_without_a_connection_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="neither a folder here nor can it be had"):
        load_checkpoint("microsoft/xclip-no-such-model")


def test_saving_is_whole_or_not_at_all(
    small_net: XClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_checkpoint(small_net, tmp_path / "c")
    with pytest.raises(CheckpointError, match="exists"):
        save_checkpoint(small_net, folder)

    def full_disk(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("model.checkpoint.save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(small_net, folder, overwrite=True)
    assert same_weights(load_checkpoint(folder), small_net)
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_an_unknown_key_in_the_native_config_is_named(small_net: XClip, tmp_path: Path) -> None:
    folder = save_checkpoint(small_net, tmp_path / "c")
    config = json.loads((folder / "config.json").read_text())
    config["architecture"]["depth"] = 3
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"architecture\.depth"):
        load_checkpoint(folder)


def test_other_frame_counts_resample_the_time_table(small_net: XClip) -> None:
    longer = resample_frames(small_net, 8)
    frames, ids = random_inputs(longer.config)
    with torch.no_grad():
        assert longer(frames, ids).shape == (3, 5)
    assert longer.inputs.num_frames == 8
    assert resample_frames(small_net, 4) is small_net
    table, long_table = small_net.mit.positional_embedding, longer.mit.positional_embedding
    between = 0.75 * table[:, 0] + 0.25 * table[:, 1]
    torch.testing.assert_close(long_table[:, [0]][:, 0], table[:, 0])
    torch.testing.assert_close(long_table[:, 1], between)


def test_convert_command(
    small_net: XClip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(to_official(small_net), tmp_path / "c.pth")
    arguments = [str(tmp_path / "c.pth"), "--output", str(tmp_path / "out")]
    assert convert.main(arguments) == 0
    assert "4 of 48×48" in capsys.readouterr().out
    assert same_weights(load_checkpoint(tmp_path / "out"), small_net)
    assert convert.main(arguments) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert convert.main([*arguments, "--overwrite"]) == 0
    assert convert.main(["nowhere", "--output", str(tmp_path / "x")]) == 1
    assert "is no checkpoint" in capsys.readouterr().err


def test_default_input_spec_is_the_published_one() -> None:
    net = build_xclip(VARIANTS["tiny"], seed=0)
    randomise(net)
    assert net.inputs == InputSpec.official(4, 64).model_copy(update={"context_length": 32})
