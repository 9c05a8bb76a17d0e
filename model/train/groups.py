"""Parameters in the optimiser's groups, by the module that they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from model.network.cct import CrossFrameBlock
from model.network.xclip import XClip
from model.train.config import OptimConfig


@dataclass(frozen=True)
class Group:
    """Parameters that share a learning rate (as a factor of the base rate) and a weight decay."""

    name: str
    lr_factor: float
    weight_decay: float
    parameters: dict[str, nn.Parameter]


def freeze_vision(net: XClip) -> None:
    """Leave the vision tower as it is, the messages between frames included."""
    for parameter in net.visual.parameters():
        parameter.requires_grad_(False)


def freeze_text(net: XClip, trainable: bool) -> None:
    """Train the text tower and the scale of the logits together, or not at all."""
    for parameter in (*net.text.parameters(), net.logit_scale):
        parameter.requires_grad_(trainable)


def parameter_groups(net: XClip, config: OptimConfig) -> list[Group]:
    """Put every trainable parameter into exactly one group: CLIP's parts and new ones, each decayed
    and not.
    """
    new = set(_new_parts(net))
    trainable = {name: p for name, p in net.named_parameters() if p.requires_grad}
    bare = _undecayed(net)
    groups = []
    for part, factor in (("clip", 1.0), ("new", config.new_parts_factor)):
        for decayed in (True, False):
            members = {
                name: p
                for name, p in trainable.items()
                if (p in new) == (part == "new") and (name not in bare) == decayed
            }
            name = f"{part}, {'decayed' if decayed else 'not decayed'}"
            groups.append(Group(name, factor, config.weight_decay * decayed, members))
    _check(trainable, groups)
    return [group for group in groups if group.parameters]


def _new_parts(net: XClip) -> Iterator[nn.Parameter]:
    """Return what CLIP does not have: integration, prompts, messages between frames."""
    yield from net.mit.parameters()
    for part in (net.patch_context, net.prompt):
        if part is not None:
            yield from part.parameters()
    for block in net.visual.blocks:
        assert isinstance(block, CrossFrameBlock)
        if block.has_messages:
            for module in (block.message_fc, block.message_ln, block.message_attn):
                yield from module.parameters()


def _undecayed(net: XClip) -> set[str]:
    """Name vectors, biases and position tables. A scalar is none of them: published runs would
    decay the scale of the logits, were it trained.
    """
    return {
        name
        for name, p in net.named_parameters()
        if p.ndim == 1 or name.endswith((".bias", "positional_embedding"))
    }


def _check(trainable: dict[str, nn.Parameter], groups: list[Group]) -> None:
    placed = [name for group in groups for name in group.parameters]
    assert len(placed) == len(set(placed)), "a parameter is in two groups"
    assert set(placed) == set(trainable), "a parameter is in no group"
