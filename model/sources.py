"""Published checkpoints in every form they come in, as one `Checkpoint`."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from model.checkpoint import Checkpoint, CheckpointError, network_of
from model.config import VARIANTS, Activation, ModelConfig
from model.initialise import initialise
from model.inputs import InputSpec, Tokenizer
from model.unpickle import load_tensors, state_dict_of
from model.weights import Layout, State, config_from_weights, to_native
from model.xclip import assemble

OPEN_CLIP = "open_clip:"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
VIDEO_PARTS = re.compile(r".*\.message_(fc|ln|attn)\..*|(mit|patch_context|prompt)\..*")
ACTIVATIONS: dict[str, Activation] = {"quick_gelu": "quick_gelu", "gelu": "gelu"}


def read_foreign(source: str, *, seed: int = 0) -> Checkpoint:
    """A checkpoint that is not native; CheckpointError says what to do about it."""
    if source.startswith(OPEN_CLIP):
        return _read_open_clip(source.removeprefix(OPEN_CLIP), seed)
    path = Path(source)
    if path.is_dir():
        return _read_huggingface(path, path.name)
    if path.is_file():
        return _read_file(path, seed)
    if HUB_ID.fullmatch(source) and not source.startswith((".", "/")):
        return _read_huggingface(_download(source), source)
    raise CheckpointError(
        f"{source} is no checkpoint: give a native or Hugging Face folder, a .pth or .pt file, a "
        f"hub id such as microsoft/xclip-base-patch32, or {OPEN_CLIP}ViT-B-32-quickgelu/openai"
    )


# --- official .pth and OpenAI's archives ---------------------------------------------------------


def _read_file(path: Path, seed: int) -> Checkpoint:
    try:
        tensors = state_dict_of(_file_content(path))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {_reason(error)}") from None
    native = _renamed(tensors, "official", str(path))
    if "mit.positional_embedding" in native or not _is_clip(native):
        config = _config(native, "quick_gelu", str(path))
        net = network_of(config, None, native, str(path))
        return Checkpoint(net, path.stem, str(path))
    return _start(native, "quick_gelu", path.stem, str(path), seed)


def _file_content(path: Path) -> Mapping[str, Any]:
    """A `.pth` of tensors, or a TorchScript archive as OpenAI published CLIP."""
    try:
        archive = torch.jit.load(str(path), map_location="cpu")
    except RuntimeError:
        return load_tensors(path)
    return dict(archive.state_dict())


def _renamed(tensors: Mapping[str, Tensor], layout: Layout, where: str) -> State:
    native, unknown = to_native(tensors, layout)
    if unknown:
        named = ", ".join(unknown[:20])
        raise CheckpointError(f"{where} holds tensors that no X-CLIP has: {named}")
    return native


def _config(native: State, activation: Activation, where: str) -> ModelConfig:
    try:
        return config_from_weights(native, activation)
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{where} is no X-CLIP: {error} is missing or misshapen") from None


# --- CLIP as a start for fine-tuning -------------------------------------------------------------


def _is_clip(native: State) -> bool:
    """Whether only the parts that X-CLIP adds to CLIP are absent."""
    return not any(VIDEO_PARTS.fullmatch(name) for name in native)


def _start(native: State, activation: Activation, name: str, source: str, seed: int) -> Checkpoint:
    """CLIP's weights, and the published first values for what X-CLIP adds."""
    found = _config(native, activation, source)
    default = ModelConfig()
    config = found.model_copy(
        update={
            "mit_layers": default.mit_layers,
            "prompt_layers": default.prompt_layers,
            "cross_frame_messages": True,
        }
    )
    fresh = assemble(config)
    initialise(fresh, config, torch.Generator().manual_seed(seed))
    added = {n: p for n, p in fresh.state_dict().items() if VIDEO_PARTS.fullmatch(n)}
    net = network_of(config, None, {**native, **added}, source)
    notes = (
        f"{len(added)} tensors that CLIP does not have start from their published first values: "
        "fine-tune before use",
    )
    return Checkpoint(net, name, source, trained=False, notes=notes)


def _read_open_clip(tag: str, seed: int) -> Checkpoint:
    import model.torchvision_schemas  # noqa: F401, I001  (before torchvision)
    import open_clip

    name, _, pretrained = tag.partition("/")
    config = open_clip.get_model_config(name)
    if config is None or not pretrained:
        raise CheckpointError(
            f"{OPEN_CLIP}{tag}: name a model and a tag of open_clip, such as "
            f"{OPEN_CLIP}ViT-B-16/openai"
        )
    try:
        network = open_clip.create_model(
            name, pretrained=pretrained, force_quick_gelu=_uses_quick_gelu(name, pretrained)
        )
    except (RuntimeError, OSError, ValueError) as error:
        raise CheckpointError(f"{OPEN_CLIP}{tag} cannot be loaded: {_reason(error)}") from None
    native = _renamed(network.state_dict(), "official", f"{OPEN_CLIP}{tag}")
    activation: Activation = "quick_gelu" if _uses_quick_gelu(name, pretrained) else "gelu"
    return _start(native, activation, name, f"{OPEN_CLIP}{tag}", seed)


def _uses_quick_gelu(name: str, pretrained: str) -> bool:
    """The activation a tag was trained with; it is not recorded in the weights."""
    import open_clip

    config = open_clip.get_model_config(name) or {}
    if Path(pretrained).exists():
        return bool(config.get("quick_gelu", False))
    tag = open_clip.get_pretrained_cfg(name, pretrained) or {}
    return bool(tag.get("quick_gelu", config.get("quick_gelu", False)))


# --- Hugging Face --------------------------------------------------------------------------------


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    patterns = ["*.json", "*.safetensors"]
    try:
        folder = Path(snapshot_download(hub_id, allow_patterns=patterns))
        if not list(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(hub_id, allow_patterns=[*patterns, "*.bin"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise CheckpointError(
            f"{hub_id} is neither a folder here nor can it be had from the hub ({_reason(error)}): "
            "check the name and the connection, or give a folder"
        ) from None
    return folder


def _read_huggingface(folder: Path, name: str) -> Checkpoint:
    config = _json(folder / "config.json")
    if config.get("model_type") != "xclip":
        raise CheckpointError(
            f"{folder / 'config.json'} is for model_type {config.get('model_type')!r}, not 'xclip'"
        )
    activation = _activation(config, folder)
    native = _renamed(_huggingface_tensors(folder), "huggingface", str(folder))
    architecture = _config(native, activation, str(folder))
    preprocessor = folder / "preprocessor_config.json"
    try:
        inputs = InputSpec.from_huggingface(
            _json(preprocessor) if preprocessor.exists() else {},
            architecture.num_frames,
            architecture.image_size,
        ).model_copy(update={"context_length": architecture.context_length})
    except ValueError as error:
        raise CheckpointError(f"{preprocessor}: {error}") from None
    net = network_of(architecture, inputs, native, str(folder))
    file = folder / "tokenizer.json"
    clip = ModelConfig().vocab_size
    tokenizer = (
        Tokenizer.from_file(file) if architecture.vocab_size != clip and file.exists() else None
    )
    return Checkpoint(
        net, name, str(name), notes=_head_notes(config, architecture), tokenizer=tokenizer
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} does not hold a JSON object")
    return content


def _activation(config: Mapping[str, Any], folder: Path) -> Activation:
    named = {
        config.get(part, {}).get("hidden_act", "quick_gelu")
        for part in ("text_config", "vision_config")
    } | {config.get("prompt_hidden_act", "quick_gelu")}
    if len(named) > 1 or not named <= set(ACTIVATIONS):
        raise CheckpointError(
            f"{folder / 'config.json'}: activations {sorted(named)} are not supported; all parts "
            f"must use one of {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[named.pop()]


def _huggingface_tensors(folder: Path) -> State:
    index = folder / "model.safetensors.index.json"
    files = sorted(set(_json(index)["weight_map"].values())) if index.exists() else []
    if not files and (folder / "model.safetensors").exists():
        files = ["model.safetensors"]
    try:
        if files:
            return {k: v for f in files for k, v in load_file(folder / Path(f).name).items()}
        return state_dict_of(load_tensors(folder / "pytorch_model.bin"))
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"the weights in {folder} cannot be read: {error}") from None


def _head_notes(config: Mapping[str, Any], architecture: ModelConfig) -> tuple[str, ...]:
    """Published large folders name 8 heads where the original network has 12."""
    right = architecture.embed_dim // 64
    named = {
        "mit_num_attention_heads": config.get("vision_config", {}).get(
            "mit_num_attention_heads", right
        ),
        "prompt_num_attention_heads": config.get("prompt_num_attention_heads", right),
    }
    return tuple(
        f"{key} {value} in config.json is not the original's: running with {right} heads"
        for key, value in named.items()
        if value != right
    )


def _reason(error: Exception) -> str:
    """The first line of what a library says; some say nothing, some pages."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def variant_of(config: ModelConfig) -> str | None:
    """The first published variant with this architecture."""
    plain = config.model_copy(update={"drop_path": 0.0, "prompt_alpha": ModelConfig().prompt_alpha})
    return next((name for name, variant in VARIANTS.items() if variant == plain), None)
