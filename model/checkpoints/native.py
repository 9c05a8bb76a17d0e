"""The native checkpoint: a folder with `config.json`, `model.safetensors` with official names, and
`tokenizer.json` where the text encoder does not use CLIP's own vocabulary."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from safetensors.torch import save_file

from model.checkpoints.errors import CheckpointError
from model.checkpoints.huggingface import JSON_BYTES, read_safetensors
from model.checkpoints.loaded import LoadedNetwork
from model.checkpoints.weights import Layout, from_layout, to_layout
from model.files import check_regular, read_bounded, sync
from model.inputs import InputSpec, Tokenizer, check_templates
from model.network.config import ModelConfig
from model.network.xclip import XClip, assemble

CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FILE = "config.json", "model.safetensors", "tokenizer.json"


class CheckpointConfig(BaseModel):
    """What `config.json` of a native checkpoint says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: str
    source: str
    trained: bool
    architecture: ModelConfig
    inputs: InputSpec
    templates: Annotated[tuple[str, ...], AfterValidator(check_templates)] = ()


@dataclass(frozen=True)
class Checkpoint(LoadedNetwork):
    """An X-CLIP together with where it comes from and the tokenizer of its text encoder."""

    net: XClip


def network_of(
    config: ModelConfig,
    inputs: InputSpec | None,
    tensors: Mapping[str, Any],
    layout: Layout,
    where: str,
) -> XClip:
    """Make a network of these tensors, in fp32 and eval mode; nothing is random before.

    Raises CheckpointError naming each tensor that is missing, not wanted, or of another shape.
    """
    with torch.device("meta"):
        net = assemble(config, inputs)
    shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    net.load_state_dict(from_layout(tensors, shapes, layout, where), assign=True)
    return net.eval()


def is_native(folder: Path) -> bool:
    """Tell whether the folder is a native checkpoint (Hugging Face ones have a `model_type`)."""
    try:
        content = json.loads(read_bounded(folder / CONFIG_FILE, JSON_BYTES))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "architecture" in content


def read_native(folder: Path) -> Checkpoint:
    """Read a native checkpoint; CheckpointError says what is wrong with it."""
    file = folder / CONFIG_FILE
    try:
        config = CheckpointConfig.model_validate_json(read_bounded(file, JSON_BYTES))
    except ValidationError as error:
        issue = error.errors()[0]
        at = ".".join(map(str, issue["loc"]))
        raise CheckpointError(f"{file}: {at + ': ' if at else ''}{issue['msg']}") from None
    weights = folder / WEIGHTS_FILE
    tensors = read_safetensors(weights)
    try:
        net = network_of(config.architecture, config.inputs, tensors, "official", str(weights))
    except CheckpointError:
        raise
    except ValueError as error:  # the two halves of the config contradict each other
        raise CheckpointError(f"{file}: {error}") from None
    return Checkpoint(
        net,
        config.name,
        config.source,
        config.trained,
        read_tokenizer(folder),
        templates=config.templates,
    )


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """Read the folder's own tokenizer, None where it has none; CheckpointError: it is broken."""
    file = folder / TOKENIZER_FILE
    if not file.exists():
        return None
    try:
        check_regular(file)
        return Tokenizer.from_file(file)
    except Exception as error:  # the library raises nothing more precise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{file} is no tokenizer: {reason}") from None


def save_checkpoint(
    net: XClip,
    folder: str | os.PathLike[str],
    *,
    tokenizer: Tokenizer | None = None,
    name: str = "xclip",
    source: str = "",
    trained: bool = True,
    templates: Sequence[str] = (),
    overwrite: bool = False,
) -> Path:
    """Write a native checkpoint; the folder appears whole or not at all.

    Args:
        net: The network; its weights are written as they are.
        folder: The folder to make.
        tokenizer: For networks that do not use CLIP's own.
        name: What the network is called.
        source: Where it comes from, for people.
        trained: False for a start of training, of which bundles warn.
        templates: The prompts it was trained with, each with one `{}`; none: bare labels.
        overwrite: Replace a checkpoint that is there.

    Returns:
        The folder.

    Raises:
        CheckpointError: The folder is there and `overwrite` is not set, or is no checkpoint.
        OSError: The folder cannot be written.
    """
    target = Path(folder)
    check_target(target, overwrite=overwrite)
    config = CheckpointConfig(
        name=name,
        source=source,
        trained=trained,
        architecture=net.config,
        inputs=net.inputs,
        templates=tuple(templates),
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        (draft / CONFIG_FILE).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
        tensors = {n: t.cpu() for n, t in to_layout(net.state_dict(), "official").items()}
        save_file(tensors, draft / WEIGHTS_FILE)
        if tokenizer is not None:
            tokenizer.save(draft / TOKENIZER_FILE)
        draft.chmod(0o755)
        _replace(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def check_target(target: Path, *, overwrite: bool) -> None:
    """Refuse a place where a checkpoint must not be written."""
    nearest = next((path for path in (target, *target.parents) if path.exists()), target)
    if target.is_symlink() or (nearest.exists() and not nearest.is_dir()):
        raise CheckpointError(f"{nearest} is no folder: choose another place for the checkpoint")
    entries = {entry.name for entry in target.iterdir()} if target.exists() else set()
    if entries and not overwrite:
        raise CheckpointError(f"{target} exists and is not empty: choose another, or overwrite it")
    if entries and not is_native(target) and entries - {CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FILE}:
        raise CheckpointError(f"{target} holds something else than a checkpoint: choose another")


def _replace(draft: Path, target: Path) -> None:
    """Move the finished folder into place; an old one goes away only after the new one is whole."""
    for path in (*draft.iterdir(), draft):
        sync(path)
    if target.exists():
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-old-", dir=target.parent) as old:
            target.rename(Path(old) / "old")
            draft.rename(target)
    else:
        draft.rename(target)
    sync(target.parent)
