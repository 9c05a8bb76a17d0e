"""Folders of transformers' `XCLIPModel`: their description of the network, weights and pixels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from model.checkpoints.errors import CheckpointError
from model.checkpoints.pickled import read_pickled
from model.command_line import one_line
from model.files import check_regular, read_bounded
from model.inputs import InputSpec
from model.network.config import HEAD_WIDTH, Activation, ModelConfig, heads

CONFIG_FILE, PREPROCESSOR_FILE = "config.json", "preprocessor_config.json"
LAYER_NORM_EPS = 1e-5
JSON_BYTES = 64 << 20  # of a description, or an index of shards, at most

# What transformers assumes where a folder says nothing.
DEFAULTS: dict[str, dict[str, Any]] = {
    "text": {
        "hidden_size": 512,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "vocab_size": 49408,
        "max_position_embeddings": 77,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": LAYER_NORM_EPS,
    },
    "vision": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 224,
        "patch_size": 32,
        "num_frames": 8,
        "mit_num_hidden_layers": 1,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": LAYER_NORM_EPS,
    },
    "joint": {
        "projection_dim": 512,
        "prompt_layers": 2,
        "prompt_alpha": 0.1,
        "prompt_hidden_act": "quick_gelu",
    },
}


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; CheckpointError where there is none."""
    try:
        content = json.loads(read_bounded(path, JSON_BYTES))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} does not hold a JSON object")
    return content


def model_type_of(folder: Path) -> str | None:
    """Return the kind of network that transformers would make of the folder; None: no such one."""
    file = folder / CONFIG_FILE
    kind = read_json(file).get("model_type") if file.is_file() else None
    return kind if isinstance(kind, str) else None


def architecture_of(folder: Path, model_type: str = "xclip") -> ModelConfig:
    """Return the network that `config.json` describes: an X-CLIP, or the towers of a `clip`.

    Head counts of the integration transformer and the prompts are left aside: published large
    folders name 8, the networks were trained with width / 64 (see `odd_heads`).
    """
    file = folder / CONFIG_FILE
    config = read_json(file)
    if config.get("model_type") != model_type:
        kind = str(config.get("model_type"))
        hint = "; take it from open_clip: docs/networks.md" if kind.startswith("siglip") else ""
        raise CheckpointError(f"{file} is for {kind!r}, not for {model_type!r}{hint}")
    text, vision = _part(config, "text"), _part(config, "vision")
    joint = DEFAULTS["joint"] | config
    is_clip = model_type == "clip"
    if is_clip:
        joint |= {"prompt_layers": 0, "prompt_hidden_act": text["hidden_act"]}
    _refuse_other_networks(text, vision, file)
    try:
        return ModelConfig(
            image_size=vision["image_size"],
            patch_size=vision["patch_size"],
            num_frames=vision["num_frames"],
            vision_width=vision["hidden_size"],
            vision_layers=vision["num_hidden_layers"],
            embed_dim=joint["projection_dim"],
            text_width=text["hidden_size"],
            text_layers=text["num_hidden_layers"],
            vocab_size=text["vocab_size"],
            context_length=text["max_position_embeddings"],
            mit_layers=0 if is_clip else vision["mit_num_hidden_layers"],
            cross_frame_messages=not is_clip,
            prompt_layers=joint["prompt_layers"],
            prompt_alpha=joint["prompt_alpha"],
            activation=_activation(text, vision, joint, file),
        )
    except ValidationError as error:
        issue = error.errors()[0]
        at = ".".join(map(str, issue["loc"]))
        raise CheckpointError(f"{file}: {at + ': ' if at else ''}{issue['msg']}") from None


def _part(config: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Read a nested description; old folders repeat it as `…_config_dict`, which then counts."""
    section = DEFAULTS[part]
    for key in (f"{part}_config", f"{part}_config_dict"):
        nested = config.get(key) or {}
        if not isinstance(nested, dict):
            raise CheckpointError(f"{CONFIG_FILE}: {key} is no JSON object")
        section = section | nested
    return section


def _refuse_other_networks(text: Mapping[str, Any], vision: Mapping[str, Any], file: Path) -> None:
    """Refuse what our network computes in one way only and the folder in another."""
    for name, part in (("text_config", text), ("vision_config", vision)):
        computed = {"layer_norm_eps": LAYER_NORM_EPS}
        if isinstance(part["hidden_size"], int):
            computed["num_attention_heads"] = heads(part["hidden_size"])
        for key, value in computed.items():
            if part[key] != value:
                raise CheckpointError(
                    f"{file}: {name}.{key} is {part[key]}, which no X-CLIP has; it is {value}"
                )


def _activation(
    text: Mapping[str, Any], vision: Mapping[str, Any], joint: Mapping[str, Any], file: Path
) -> Activation:
    parts = (text["hidden_act"], vision["hidden_act"], joint["prompt_hidden_act"])
    named = {str(part) for part in parts}
    if named == {"gelu"}:
        return "gelu"
    if named == {"quick_gelu"}:
        return "quick_gelu"
    raise CheckpointError(
        f"{file}: activations {', '.join(sorted(named))[:200]} are not supported; every part must "
        "use quick_gelu, or every part gelu"
    )


def odd_heads(folder: Path, config: ModelConfig) -> tuple[str, ...]:
    """Note head counts in `config.json` that are not those the network was trained with."""
    described = read_json(folder / CONFIG_FILE)
    right = heads(config.embed_dim)
    named = {
        "mit_num_attention_heads": _part(described, "vision").get("mit_num_attention_heads", 8),
        "prompt_num_attention_heads": described.get("prompt_num_attention_heads", 8),
    }
    return tuple(
        f"config.json says {key} {value}; runs with {right}, width / {HEAD_WIDTH}, as the original"
        for key, value in named.items()
        if value != right
    )


def inputs_of(
    folder: Path, config: ModelConfig, defaults: Mapping[str, Any] | None = None
) -> InputSpec:
    """Return what `preprocessor_config.json` does to pictures, its known mistakes put right.

    `defaults` are those of the processor's class, for what the file does not say.
    """
    file = folder / PREPROCESSOR_FILE
    described = dict(defaults or {}) | (read_json(file) if file.exists() else {})
    try:
        spec = InputSpec.from_huggingface(described, config.num_frames, config.image_size)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise CheckpointError(f"{file}: {one_line(error)}") from None
    return spec.model_copy(update={"context_length": config.context_length})


def tensors_of(folder: Path) -> dict[str, Any]:
    """Read the tensors of a folder: safetensors or `.bin`, whole or in shards with an index."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return _read(folder / name)
        index = folder / f"{name}.index.json"
        if index.is_file():
            shards = read_json(index).get("weight_map")
            if not isinstance(shards, dict) or not shards:
                raise CheckpointError(f"{index} names no files")
            # Names of files in this folder; an index cannot point elsewhere.
            files = sorted({folder / Path(str(file)).name for file in shards.values()})
            return {key: tensor for file in files for key, tensor in _read(file).items()}
    raise CheckpointError(f"{folder} holds no weights: model.safetensors or pytorch_model.bin")


def _read(file: Path) -> dict[str, Any]:
    if file.suffix != ".safetensors":
        return read_pickled(file)
    return read_safetensors(file)


def read_safetensors(file: Path) -> dict[str, Any]:
    """Map the tensors of a safetensors file into memory; CheckpointError where it is none."""
    try:
        check_regular(file)
        return dict(load_file(file))
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{file} cannot be read: {reason}") from None
