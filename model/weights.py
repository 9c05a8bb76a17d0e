"""Names and layouts of published weights, as one table for each layout, read in both directions.

Layouts: the official `.pth` (facts of the released code; OpenAI CLIP and open_clip share its CLIP
part) and the Hugging Face `XCLIPModel`. Native names are those of our modules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from model.config import Activation, ModelConfig

State = dict[str, Tensor]
Layout = Literal["official", "huggingface"]


@dataclass(frozen=True)
class Rule:
    """One native tensor and where it lies elsewhere.

    `{i}` stands for a layer number, `{p}` for weight or bias. Several foreign names are the parts
    of one packed matrix, in order; `transpose` is for projections stored the other way round.
    """

    native: str
    foreign: tuple[str, ...]
    transpose: bool = False


def _same(*pairs: tuple[str, str]) -> list[Rule]:
    return [Rule(native, (foreign,)) for native, foreign in pairs]


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
    kept += [f"cross_attn.{part}_proj.weight" for part in "qkv"]
    return _same(
        ("prompt.alpha", "prompts_generator.alpha"),
        ("logit_scale", "logit_scale"),
        (f"{native}.fc.{{p}}", f"{foreign}.mlp.0.{{p}}"),
        (f"{native}.proj.{{p}}", f"{foreign}.mlp.3.{{p}}"),
        *((f"{native}.{name}", f"{foreign}.{name}") for name in kept),
    )


_MESSAGE = ("message_fc.{p}", "message_ln.{p}", "message_attn.out_proj.{p}")

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

# Left aside on purpose: scalars of OpenAI's archives, position indices of old hub files.
IGNORED = re.compile(
    r"(input_resolution|context_length|vocab_size|attn_mask"
    r"|(text|vision)_model\.embeddings\.position_ids)"
)


def _pattern(template: str) -> re.Pattern[str]:
    escaped = re.escape(template).replace(r"\{i\}", r"(?P<i>\d+)")
    return re.compile(escaped.replace(r"\{p\}", "(?P<p>weight|bias)"))


def _fill(template: str, match: re.Match[str]) -> str:
    filled = template
    for name, value in match.groupdict().items():
        filled = filled.replace(f"{{{name}}}", value)
    return filled


def to_native(foreign: Mapping[str, Tensor], layout: Layout) -> tuple[State, list[str]]:
    """Foreign tensors under native names, and the foreign names that no rule knows."""
    patterns = [(_pattern(n), rule) for rule in RULES[layout] for n in rule.foreign]
    native: State = {}
    unknown: list[str] = []
    for key, tensor in foreign.items():
        found = next(((m, r) for p, r in patterns if (m := p.fullmatch(key))), None)
        if found is None:
            if not IGNORED.fullmatch(key):
                unknown.append(key)
            continue
        match, rule = found
        name = _fill(rule.native, match)
        if name in native:
            continue  # a further part of a packed matrix that is complete already
        parts = [_fill(part, match) for part in rule.foreign]
        lacking = [part for part in parts if part not in foreign]
        if lacking:
            unknown.append(f"{key} (without {', '.join(lacking)})")
            continue
        whole = tensor if len(parts) == 1 else torch.cat([foreign[part] for part in parts])
        native[name] = whole.T.contiguous() if rule.transpose else whole
    return native, unknown


def from_native(native: Mapping[str, Tensor], layout: Layout) -> State:
    """Native tensors under the names and in the form of another layout."""
    patterns = [(_pattern(rule.native), rule) for rule in RULES[layout]]
    foreign: State = {}
    for key, tensor in native.items():
        match, rule = next((m, r) for p, r in patterns if (m := p.fullmatch(key)))
        whole = tensor.T.contiguous() if rule.transpose else tensor
        parts = whole.chunk(len(rule.foreign)) if len(rule.foreign) > 1 else (whole,)
        for name, part in zip(rule.foreign, parts, strict=True):
            foreign[_fill(name, match)] = part.contiguous()
    return foreign


def _depth(keys: Iterable[str], prefix: str) -> int:
    numbers = [int(k[len(prefix) + 1 :].split(".")[0]) for k in keys if k.startswith(prefix + ".")]
    return max(numbers, default=-1) + 1


def config_from_weights(
    native: Mapping[str, Tensor], activation: Activation = "quick_gelu"
) -> ModelConfig:
    """Read the architecture off native tensors; KeyError names a tensor that it cannot do without.

    The activation leaves no trace in weights; every published X-CLIP uses QuickGELU.
    """
    width, _, patch, _ = native["visual.conv1.weight"].shape
    patches = native["visual.positional_embedding"].shape[0] - 1
    context, text_width = native["text.positional_embedding"].shape
    times = native.get("mit.positional_embedding")
    return ModelConfig(
        image_size=round(patches**0.5) * patch,
        patch_size=patch,
        num_frames=ModelConfig().num_frames if times is None else times.shape[1],
        vision_width=width,
        vision_layers=_depth(native, "visual.blocks"),
        embed_dim=native["visual.proj"].shape[1],
        text_width=text_width,
        text_layers=_depth(native, "text.blocks"),
        vocab_size=native["text.token_embedding.weight"].shape[0],
        context_length=context,
        mit_layers=_depth(native, "mit.blocks"),
        prompt_layers=_depth(native, "prompt.layers"),
        cross_frame_messages="visual.blocks.0.message_fc.weight" in native,
        activation=activation,
    )
