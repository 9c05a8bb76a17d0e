"""Parameter groups, held to the released builder's rule on official names."""

from __future__ import annotations

import pytest

from model.checkpoints.weights import rule_for
from model.network.config import ModelConfig
from model.network.initialise import build_xclip
from model.network.xclip import XClip
from model.train.config import OptimConfig
from model.train.groups import Group, freeze_text, freeze_vision, parameter_groups

SIZES = {
    "image_size": 48, "patch_size": 16, "num_frames": 4, "vision_width": 64, "vision_layers": 2,
    "embed_dim": 64, "text_width": 64, "text_layers": 1, "vocab_size": 300, "context_length": 16,
}  # fmt: skip


def network(text: bool = False, **changes: object) -> XClip:
    net = build_xclip(ModelConfig(**{**SIZES, **changes}), seed=0)
    freeze_text(net, text)
    return net


def official_names(net: XClip) -> dict[str, str]:
    """Our names to the names that the released code has for the same tensors."""
    return {name: rule_for(name, "official").foreign[0] for name, _ in net.named_parameters()}


def released_rule(name: str, dimensions: int) -> tuple[float, bool]:
    """Factor of the learning rate and whether there is decay, as the released builder has it."""
    new = any(part in name for part in ("prompts", "mit", "message_"))
    plain = dimensions == 1 or name.endswith(".bias") or "positional_embedding" in name
    return (10.0 if new else 1.0), not plain


def placed(groups: list[Group]) -> dict[str, tuple[float, bool]]:
    return {
        name: (group.lr_factor, group.weight_decay > 0)
        for group in groups
        for name in group.parameters
    }


@pytest.mark.parametrize("text", [False, True])
def test_every_trainable_parameter_is_where_the_released_rule_puts_it(text: bool) -> None:
    net = network(text)
    names = official_names(net)
    expected = {
        ours: released_rule(official, net.get_parameter(ours).ndim)
        for ours, official in names.items()
        if text or any(part in official for part in ("visual.", "mit", "prompts"))
    }
    assert placed(parameter_groups(net, OptimConfig())) == expected


def test_text_is_frozen_with_the_scale_of_the_logits() -> None:
    frozen = {name for name, p in network().named_parameters() if not p.requires_grad}
    assert frozen == {n for n in official_names(network()) if n.startswith("text.")} | {
        "logit_scale"
    }
    assert all(p.requires_grad for p in network(text=True).parameters())


def test_groups_are_disjoint_and_complete() -> None:
    net = network(text=True)
    members = [
        p for group in parameter_groups(net, OptimConfig()) for p in group.parameters.values()
    ]
    assert len(members) == len(set(members)) == len(list(net.parameters()))


def test_factors_and_decay_come_from_the_configuration() -> None:
    groups = parameter_groups(network(), OptimConfig(new_parts_factor=3, weight_decay=0.2))
    assert {(g.lr_factor, g.weight_decay) for g in groups} == {
        (1, 0.2), (1, 0), (3, 0.2), (3, 0),
    }  # fmt: skip


@pytest.mark.parametrize(
    "changes", [{"mit_layers": 0}, {"prompt_layers": 0}, {"cross_frame_messages": False}]
)
def test_networks_without_a_part_have_complete_groups_too(changes: dict[str, object]) -> None:
    net = network(text=True, **changes)
    assert (
        placed(parameter_groups(net, OptimConfig())).keys() == dict(net.named_parameters()).keys()
    )


def test_frozen_vision_leaves_what_comes_after_it() -> None:
    net = network()
    freeze_vision(net)
    left = placed(parameter_groups(net, OptimConfig()))
    assert left
    assert not any(name.startswith("visual.") for name in left)
    assert {"mit.positional_embedding", "prompt.alpha"} <= set(left)
