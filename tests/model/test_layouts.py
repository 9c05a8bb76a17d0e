"""Official and Hugging Face layouts: there and back, and each misfit named as the file names it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.lib.layouts import to_huggingface, to_official
from model.checkpoint import CheckpointError, load_checkpoint, read_checkpoint
from model.checkpoints.architecture import config_from_state_dict, variant_of
from model.checkpoints.native import network_of
from model.checkpoints.weights import Layout, from_layout, to_layout
from model.network.config import VARIANTS
from model.network.initialise import build_xclip
from model.network.xclip import XClip, assemble
from tests.model.conftest import SMALL, huggingface_folder, same_weights


def test_official_round_trip_reads_the_config_off_the_shapes(
    small_net: XClip, tmp_path: Path
) -> None:
    torch.save(to_official(small_net), tmp_path / "k400.pth")
    read = read_checkpoint(tmp_path / "k400.pth")
    assert same_weights(read.net, small_net)
    assert read.net.config == small_net.config
    assert read.net.inputs.resize_short_side == int(256 / 224 * 48)
    assert read.name == "k400"


def test_names_of_distributed_training_and_bare_state_dicts_load(
    small_net: XClip, tmp_path: Path
) -> None:
    state = to_official(small_net)["model"]
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "a.pth")
    torch.save(state, tmp_path / "b.pth")
    assert same_weights(load_checkpoint(tmp_path / "a.pth"), small_net)
    assert same_weights(load_checkpoint(tmp_path / "b.pth"), small_net)


def test_huggingface_round_trip(small_net: XClip, tmp_path: Path) -> None:
    read = read_checkpoint(huggingface_folder(small_net, tmp_path / "hf"))
    assert same_weights(read.net, small_net)
    assert read.net.config == small_net.config
    assert read.net.inputs.resize_rule == "bilinear-antialias"
    assert read.notes == ()


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("layout", ["official", "huggingface"])
def test_every_tensor_of_published_sizes_goes_there_and_back(name: str, layout: Layout) -> None:
    with torch.device("meta"):
        net = assemble(VARIANTS[name])
        there = to_layout(net.state_dict(), layout)
        shapes = {k: tuple(v.shape) for k, v in net.state_dict().items()}
        back = from_layout(there, shapes, layout, "here")
    assert {k: tuple(v.shape) for k, v in back.items()} == shapes
    published = variant_of(VARIANTS[name])
    assert published is not None
    assert VARIANTS[published] == VARIANTS[name]
    if layout == "official":
        assert config_from_state_dict(there) == VARIANTS[name]


def missing(state: dict[str, Any], name: str) -> None:
    del state[name]


def misshapen(state: dict[str, Any], name: str) -> None:
    state[name] = torch.zeros([size + 1 for size in state[name].shape] or [1])


def nested(state: dict[str, Any], name: str) -> None:
    state[name] = state[name].unsqueeze(0)


def integer(state: dict[str, Any], name: str) -> None:
    state[name] = torch.zeros(state[name].shape, dtype=torch.int64)


def no_tensor(state: dict[str, Any], name: str) -> None:
    state[name] = [1.0]


@pytest.mark.parametrize("damage", [missing, misshapen, nested, integer, no_tensor])
@pytest.mark.parametrize("layout", ["official", "huggingface"])
def test_each_tensor_that_does_not_fit_is_named_alone(
    layout: Layout, damage: Callable[[dict[str, Any], str], None]
) -> None:
    config = SMALL.model_copy(update=dict.fromkeys(("vision_layers", "mit_layers"), 1))
    whole = to_layout(build_xclip(config, seed=0).state_dict(), layout)

    def read(state: dict[str, Any]) -> XClip:
        found = config_from_state_dict(state) if layout == "official" else config
        return network_of(found, None, state, layout, "the file")

    read(whole)
    for name in whole:
        state: dict[str, Any] = dict(whole)
        damage(state, name)
        with pytest.raises(CheckpointError) as caught:
            read(state)
        assert len(caught.value.problems) == 1, caught.value
        assert name in caught.value.problems[0].split()
        assert str(caught.value).endswith(caught.value.problems[0])


def test_all_misfits_are_named_at_once(small_net: XClip, tmp_path: Path) -> None:
    state = to_official(small_net)["model"]
    blocks = [name for name in state if ".ln_1." in name]
    for name in blocks:
        del state[name]
    torch.save({"model": state | {"visual.head": torch.zeros(2, 3), "step": 7}}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "x.pth")
    assert all(f"missing {name} (" in str(caught.value) for name in blocks)
    assert "unexpected visual.head (2, 3)" in caught.value.problems
    assert "unexpected step (int)" in caught.value.problems


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visual.positional_embedding": torch.zeros(9, 192)}, "no square of patches"),
        ({"visual.positional_embedding": torch.zeros(1, 192)}, "no square of patches"),
        ({"mit.positional_embedding": torch.zeros(4, 128)}, "should have 3 dimensions"),
        ({"text_projection": None, "visual.conv1.weight": None}, r"missing visual\.conv1\.weight"),
    ],
)
def test_shapes_that_tell_no_architecture(
    small_net: XClip, change: dict[str, Any], message: str
) -> None:
    state = to_official(small_net)["model"] | change
    with pytest.raises(CheckpointError, match=message):
        config_from_state_dict({k: v for k, v in state.items() if v is not None})


@pytest.mark.parametrize("publish", [to_official, to_huggingface])
def test_ablated_networks_have_no_published_form(publish: Callable[[XClip], Any]) -> None:
    with pytest.raises(ValueError, match="no prompt layers"):
        publish(build_xclip(SMALL.model_copy(update={"prompt_layers": 0}), seed=0))
