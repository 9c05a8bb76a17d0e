"""The native checkpoint: nothing lost, whole or not at all, misfits named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.lib.layouts import to_official
from model.checkpoint import (
    CheckpointError,
    load_checkpoint,
    read_checkpoint,
    resample_frames,
    save_checkpoint,
)
from model.inputs import InputSpec, Tokenizer
from model.network.config import VARIANTS
from model.network.initialise import build_xclip
from model.network.mit import MultiframeIntegration
from model.network.xclip import XClip
from tests.model.conftest import SMALL, edit_json, random_inputs, randomise, same_weights

ABLATED = {"mit_layers": 0, "prompt_layers": 0, "cross_frame_messages": False}


def test_round_trip_keeps_everything(small_net: XClip, tmp_path: Path) -> None:
    own = Tokenizer.truncated(86)
    folder = save_checkpoint(small_net, tmp_path / "c", tokenizer=own, name="n", trained=False)
    read = read_checkpoint(folder)
    assert same_weights(read.net, small_net)
    assert (read.net.config, read.net.inputs) == (small_net.config, small_net.inputs)
    assert (read.name, read.trained, read.net.training) == ("n", False, False)
    assert read.tokenizer is not None
    assert read.tokenizer.hash == own.hash
    assert all(p.requires_grad and p.dtype == torch.float32 for p in read.net.parameters())


def test_the_file_holds_official_names(small_net: XClip, tmp_path: Path) -> None:
    folder = save_checkpoint(small_net, tmp_path / "c")
    assert load_file(folder / "model.safetensors").keys() == to_official(small_net)["model"].keys()


@pytest.mark.parametrize("part", [*ABLATED, "all"])
def test_ablated_networks_round_trip(part: str, tmp_path: Path) -> None:
    change = ABLATED if part == "all" else {part: ABLATED[part]}
    net = build_xclip(SMALL.model_copy(update=change), seed=0)
    read = load_checkpoint(save_checkpoint(net, tmp_path / "c"))
    assert same_weights(read, net)
    assert read.config == net.config


def test_half_precision_weights_load_as_fp32(small_net: XClip, tmp_path: Path) -> None:
    folder = save_checkpoint(small_net, tmp_path / "c")
    state = load_file(folder / "model.safetensors")
    save_file({k: v.half() for k, v in state.items()}, folder / "model.safetensors")
    read = load_checkpoint(folder)
    assert torch.equal(read.visual.proj, small_net.visual.proj.half().float())


def test_training_a_loaded_network_leaves_the_file_alone(tmp_path: Path) -> None:
    folder = save_checkpoint(build_xclip(VARIANTS["tiny"], seed=0), tmp_path / "c")
    before = (folder / "model.safetensors").read_bytes()
    with torch.no_grad():
        load_checkpoint(folder).visual.proj.add_(1.0)
    assert (folder / "model.safetensors").read_bytes() == before


def test_missing_extra_and_misshapen_tensors_are_named(small_net: XClip, tmp_path: Path) -> None:
    folder = save_checkpoint(small_net, tmp_path / "c")
    state = load_file(folder / "model.safetensors")
    state["visual.ln_post.weight"] = torch.zeros(7)
    state["visual.head"] = torch.zeros(1, 2)
    del state["mit.resblocks.0.ln_1.bias"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    assert set(caught.value.problems) == {
        "missing mit.resblocks.0.ln_1.bias (128,)",
        "unexpected visual.head (1, 2)",
        "visual.ln_post.weight is (7,), should be (192,)",
    }
    assert all(problem in str(caught.value) for problem in caught.value.problems)


def test_broken_files_are_named(small_net: XClip, tmp_path: Path) -> None:
    folder = save_checkpoint(small_net, tmp_path / "c", tokenizer=Tokenizer.truncated(86))
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is no tokenizer"):
        load_checkpoint(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        load_checkpoint(folder)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read: No such file"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture__depth": 3}, r"architecture\.depth: Extra inputs"),
        ({"architecture__embed_dim": 100}, "embed_dim must be a multiple of 64"),
        ({"format": 2}, "format: Input should be 1"),
        ({"inputs__num_frames": 5}, "5 frames of 48 pixels, the network takes 4"),
    ],
)
def test_a_wrong_config_is_named(
    small_net: XClip, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = save_checkpoint(small_net, tmp_path / "c")
    edit_json(folder / "config.json", **change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_saving_is_whole_or_not_at_all(
    small_net: XClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_checkpoint(small_net, tmp_path / "c")

    def full_disk(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("model.checkpoints.native.save_file", full_disk)
        with pytest.raises(OSError, match="No space"):
            save_checkpoint(small_net, folder, overwrite=True)
    assert same_weights(load_checkpoint(folder), small_net)
    assert [p.name for p in tmp_path.iterdir()] == ["c"]

    other = build_xclip(SMALL, seed=1)
    save_checkpoint(other, folder, overwrite=True)
    assert same_weights(load_checkpoint(folder), other)
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_nothing_but_a_checkpoint_is_replaced(small_net: XClip, tmp_path: Path) -> None:
    folder = save_checkpoint(small_net, tmp_path / "c")
    with pytest.raises(CheckpointError, match="not empty"):
        save_checkpoint(small_net, folder)
    photos = tmp_path / "photos"
    photos.mkdir()
    save_checkpoint(small_net, photos)  # an empty folder is fine
    (photos / "config.json").write_text("{}")
    (photos / "holiday.jpg").touch()
    with pytest.raises(CheckpointError, match="something else than a checkpoint"):
        save_checkpoint(small_net, photos, overwrite=True)
    assert (photos / "holiday.jpg").exists()
    with pytest.raises(CheckpointError, match="no folder"):
        save_checkpoint(small_net, photos / "holiday.jpg", overwrite=True)


def test_other_frame_counts_resample_the_time_table(small_net: XClip, tmp_path: Path) -> None:
    longer = resample_frames(small_net, 8)
    frames, ids = random_inputs(longer.config)
    with torch.no_grad():
        assert longer(frames, ids).shape == (3, 5)
    assert (longer.config.num_frames, longer.inputs.num_frames) == (8, 8)
    assert resample_frames(small_net, 4) is small_net
    assert isinstance(small_net.mit, MultiframeIntegration)
    assert isinstance(longer.mit, MultiframeIntegration)
    table, long_table = small_net.mit.positional_embedding, longer.mit.positional_embedding
    torch.testing.assert_close(long_table[:, 0], table[:, 0])
    torch.testing.assert_close(long_table[:, 1], 0.75 * table[:, 0] + 0.25 * table[:, 1])
    with pytest.raises(ValueError, match="1 or more"):
        resample_frames(small_net, 0)

    read = read_checkpoint(save_checkpoint(small_net, tmp_path / "c"), num_frames=8)
    assert same_weights(read.net, longer)
    assert read.notes == ("time table resampled from 4 to 8 frames: fine-tune before use",)


def test_default_input_spec_is_the_published_one() -> None:
    net = build_xclip(VARIANTS["tiny"], seed=0)
    randomise(net)
    assert net.inputs == InputSpec.official(4, 64).model_copy(update={"context_length": 32})
