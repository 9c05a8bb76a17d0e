"""Names and forms of the weights outside our modules: one table for each layout, read both ways.

Layouts: `official`, the released `.pth` files and our own checkpoints (OpenAI CLIP and open_clip
share its CLIP part), and `huggingface`, transformers' `XCLIPModel`. Loading is strict: every tensor
is wanted, or on the list of those left aside, and each misfit is named as the file names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

from model.checkpoints.errors import CheckpointError

State = dict[str, Tensor]
Shape = tuple[int, ...]
Layout = Literal["official", "huggingface"]

# Left aside on purpose: scalars and causal masks of OpenAI's archives, position indices of old
# hub files.
IGNORED = re.compile(
    r"input_resolution|context_length|vocab_size|(.*\.)?attn_mask"
    r"|(text|vision)_model\.embeddings\.position_ids"
)


@dataclass(frozen=True)
class Rule:
    """One tensor of ours and where it lies in the layout.

    `{i}` stands for a layer number, `{p}` for weight or bias. Several foreign names are the equal
    parts of one packed matrix, in order; `transpose` is for matrices stored the other way round.
    """

    native: str
    foreign: tuple[str, ...]
    transpose: bool = False

    def shape_there(self, shape: Shape) -> Shape:
        """Return the shape of each foreign tensor, given that of ours."""
        if self.transpose:
            return shape[::-1]
        return (shape[0] // len(self.foreign), *shape[1:]) if len(self.foreign) > 1 else shape

    def read(self, parts: list[Tensor]) -> Tensor:
        """Make our tensor from its foreign ones."""
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        return whole.T.contiguous() if self.transpose else whole

    def write(self, whole: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Make the foreign tensors from ours; parts are copies, as files refuse shared memory."""
        whole = whole.detach()
        if self.transpose:
            yield self.foreign[0], whole.T.clone(memory_format=torch.contiguous_format)
        elif len(self.foreign) == 1:
            yield self.foreign[0], whole.contiguous()
        else:
            for name, part in zip(self.foreign, whole.chunk(len(self.foreign)), strict=True):
                yield name, part.clone()


def _same(*pairs: tuple[str, str]) -> list[Rule]:
    return [Rule(native, (foreign,)) for native, foreign in pairs]


_MESSAGE = ("message_fc.{p}", "message_ln.{p}", "message_attn.out_proj.{p}")


def _official_block(native: str, foreign: str) -> list[Rule]:
    names = ["ln_1.{p}", "attn.in_proj_{p}", "attn.out_proj.{p}", "ln_2.{p}"]
    names += ["mlp.c_fc.{p}", "mlp.c_proj.{p}", *_MESSAGE, "message_attn.in_proj_{p}"]
    return _same(*((f"{native}.{{i}}.{n}", f"{foreign}.{{i}}.{n}") for n in names))


def _huggingface_block(native: str, foreign: str) -> list[Rule]:
    renamed = {
        "ln_1.{p}": "layer_norm1.{p}",
        "attn.out_proj.{p}": "self_attn.out_proj.{p}",
        "ln_2.{p}": "layer_norm2.{p}",
        "mlp.c_fc.{p}": "mlp.fc1.{p}",
        "mlp.c_proj.{p}": "mlp.fc2.{p}",
        **{name: name for name in _MESSAGE},
    }
    rules = _same(*((f"{native}.{{i}}.{n}", f"{foreign}.{{i}}.{h}") for n, h in renamed.items()))
    for ours, theirs in (("attn", "self_attn"), ("message_attn", "message_attn")):
        parts = tuple(f"{foreign}.{{i}}.{theirs}.{part}_proj.{{p}}" for part in "qkv")
        rules.append(Rule(f"{native}.{{i}}.{ours}.in_proj_{{p}}", parts))
    return rules


def _prompt_layers() -> list[Rule]:
    native, foreign = "prompt.layers.{i}", "prompts_generator.decoder.{i}"
    kept = ["norm1.{p}", "norm3.{p}", "cross_attn.proj.{p}"]
    kept += [f"cross_attn.{part}_proj.{{p}}" for part in "qkv"]
    return _same(
        ("prompt.alpha", "prompts_generator.alpha"),
        ("logit_scale", "logit_scale"),
        (f"{native}.fc.{{p}}", f"{foreign}.mlp.0.{{p}}"),
        (f"{native}.proj.{{p}}", f"{foreign}.mlp.3.{{p}}"),
        *((f"{native}.{name}", f"{foreign}.{name}") for name in kept),
    )


RULES: dict[Layout, list[Rule]] = {
    "official": [
        *_same(
            ("text.token_embedding.weight", "token_embedding.weight"),
            ("text.positional_embedding", "positional_embedding"),
            ("text.ln_final.{p}", "ln_final.{p}"),
            ("text.projection", "text_projection"),
            ("visual.class_embedding", "visual.class_embedding"),
            ("visual.positional_embedding", "visual.positional_embedding"),
            ("visual.conv1.weight", "visual.conv1.weight"),
            ("visual.ln_pre.{p}", "visual.ln_pre.{p}"),
            ("visual.ln_post.{p}", "visual.ln_post.{p}"),
            ("visual.proj", "visual.proj"),
            ("mit.positional_embedding", "mit.positional_embedding"),
            ("patch_context.ln.{p}", "prompts_visual_ln.{p}"),
            ("patch_context.proj", "prompts_visual_proj"),
            ("prompt.norm.{p}", "prompts_generator.norm.{p}"),
        ),
        *_official_block("text.blocks", "transformer.resblocks"),
        *_official_block("visual.blocks", "visual.transformer.resblocks"),
        *_official_block("mit.blocks", "mit.resblocks"),
        *_prompt_layers(),
    ],
    "huggingface": [
        *_same(
            ("text.token_embedding.weight", "text_model.embeddings.token_embedding.weight"),
            ("text.positional_embedding", "text_model.embeddings.position_embedding.weight"),
            ("text.ln_final.{p}", "text_model.final_layer_norm.{p}"),
            ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
            ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
            ("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight"),
            ("visual.ln_pre.{p}", "vision_model.pre_layernorm.{p}"),
            ("visual.ln_post.{p}", "vision_model.post_layernorm.{p}"),
            ("mit.positional_embedding", "mit.position_embedding"),
            ("patch_context.ln.{p}", "prompts_visual_layernorm.{p}"),
            ("patch_context.proj", "prompts_visual_projection"),  # a raw parameter: not transposed
            ("prompt.norm.{p}", "prompts_generator.layernorm.{p}"),
        ),
        Rule("text.projection", ("text_projection.weight",), transpose=True),
        Rule("visual.proj", ("visual_projection.weight",), transpose=True),
        *_huggingface_block("text.blocks", "text_model.encoder.layers"),
        *_huggingface_block("visual.blocks", "vision_model.encoder.layers"),
        *_huggingface_block("mit.blocks", "mit.encoder.layers"),
        *_prompt_layers(),
    ],
}


def rule_for(native: str, layout: Layout) -> Rule:
    """Return the rule of one of our tensors, with layer number and part filled in."""
    for pattern, rule in _patterns(layout):
        if match := pattern.fullmatch(native):
            foreign = tuple(_fill(name, match.groupdict()) for name in rule.foreign)
            return Rule(native, foreign, rule.transpose)
    raise KeyError(f"no {layout} name for {native}")


@cache
def _patterns(layout: Layout) -> list[tuple[re.Pattern[str], Rule]]:
    def pattern(template: str) -> re.Pattern[str]:
        escaped = re.escape(template).replace(r"\{i\}", r"(?P<i>\d+)")
        return re.compile(escaped.replace(r"\{p\}", "(?P<p>weight|bias)"))

    return [(pattern(rule.native), rule) for rule in RULES[layout]]


def _fill(template: str, values: Mapping[str, str]) -> str:
    for key, value in values.items():
        template = template.replace(f"{{{key}}}", value)
    return template


def to_layout(native: Mapping[str, Tensor], layout: Layout) -> State:
    """Write our tensors under the names and in the form of the layout."""
    return dict(pair for name, t in native.items() for pair in rule_for(name, layout).write(t))


def from_layout(
    foreign: Mapping[str, Any],
    shapes: Mapping[str, Shape],
    layout: Layout,
    where: str,
    called: Callable[[str], str] = str,
) -> State:
    """Read the tensors of a file as ours, in fp32; `shapes` are those that the network wants.

    `called` gives what the file calls a tensor, where that is not its name in the layout. Raises
    CheckpointError naming, as the file does, each tensor that is missing, of another shape or type,
    or not wanted.
    """
    rules = [rule_for(name, layout) for name in shapes]
    expected = {f: r.shape_there(shapes[r.native]) for r in rules for f in r.foreign}
    problems = [
        p for name, shape in expected.items() if (p := _misfit(foreign, name, shape, called))
    ]
    problems += [
        f"unexpected {called(name)}{_shape_of(tensor)}"
        for name, tensor in foreign.items()
        if name not in expected and not IGNORED.fullmatch(name)
    ]
    if problems:
        raise CheckpointError.misfit(where, problems)
    return {r.native: r.read([foreign[f].to(torch.float32) for f in r.foreign]) for r in rules}


def _misfit(
    foreign: Mapping[str, Any], name: str, shape: Shape, called: Callable[[str], str]
) -> str | None:
    if name not in foreign:
        return f"missing {called(name)} {shape}"
    tensor = foreign[name]
    if not isinstance(tensor, Tensor):
        return f"{called(name)} is a {type(tensor).__name__}, should be a tensor {shape}"
    if not tensor.is_floating_point():
        kind = str(tensor.dtype).removeprefix("torch.")
        return f"{called(name)} is {kind}, should be floating point"
    if tuple(tensor.shape) != shape:
        return f"{called(name)} is {tuple(tensor.shape)}, should be {shape}"
    return None


def _shape_of(value: Any) -> str:
    return f" {tuple(value.shape)}" if isinstance(value, Tensor) else f" ({type(value).__name__})"
