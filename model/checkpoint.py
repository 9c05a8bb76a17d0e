"""The native checkpoint: a folder with `config.json` and `model.safetensors`.

`load_checkpoint` takes that folder and every published form besides it (see `model.sources`).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.config import ModelConfig
from model.inputs import InputSpec, Tokenizer
from model.mit import MultiframeIntegration, resample_time_positions
from model.xclip import XClip, assemble

CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FILE = "config.json", "model.safetensors", "tokenizer.json"
NAMED_AT_MOST = 20


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or that holds something else than it should."""


class CheckpointConfig(BaseModel):
    """What `config.json` of a native checkpoint says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: str
    source: str
    trained: bool
    architecture: ModelConfig
    inputs: InputSpec


@dataclass(frozen=True)
class Checkpoint:
    """A network together with where it comes from and the tokenizer of its text encoder.

    `tokenizer` is None for CLIP's own. `notes` says what a person should know about the loading.
    """

    net: XClip
    name: str
    source: str
    trained: bool = True
    tokenizer: Tokenizer | None = None
    notes: tuple[str, ...] = ()


def apply_weights(net: XClip, weights: Mapping[str, Tensor], where: str) -> XClip:
    """Put the tensors in, strictly; CheckpointError names each missing, extra or misshapen one."""
    wanted = {name: tuple(p.shape) for name, p in net.state_dict().items()}
    problems = [f"missing {n} {s}" for n, s in wanted.items() if n not in weights]
    problems += [f"unexpected {n} {tuple(w.shape)}" for n, w in weights.items() if n not in wanted]
    problems += [
        f"{n} is {tuple(weights[n].shape)}, should be {shape}"
        for n, shape in wanted.items()
        if n in weights and tuple(weights[n].shape) != shape
    ]
    if problems:
        raise CheckpointError(f"{where} does not fit: {_shorten(problems)}")
    net.load_state_dict({n: w.to(torch.float32) for n, w in weights.items()}, assign=True)
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    return net


def _shorten(problems: list[str]) -> str:
    rest = len(problems) - NAMED_AT_MOST
    listed = "; ".join(problems[:NAMED_AT_MOST])
    return f"{listed}; and {rest} more" if rest > 0 else listed


def network_of(
    config: ModelConfig, inputs: InputSpec | None, weights: Mapping[str, Tensor], where: str
) -> XClip:
    """A network made of these tensors, without a first random fill, in eval mode."""
    with torch.device("meta"):
        net = assemble(config, inputs)
    return apply_weights(net, weights, where).eval()


def is_native(folder: Path) -> bool:
    """Whether the folder is a native checkpoint (a Hugging Face one names its `model_type`)."""
    try:
        content = json.loads((folder / CONFIG_FILE).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and "architecture" in content


def read_native(folder: Path) -> Checkpoint:
    """A native checkpoint, strictly."""
    try:
        config = CheckpointConfig.model_validate_json((folder / CONFIG_FILE).read_bytes())
        weights = load_file(folder / WEIGHTS_FILE)
    except ValidationError as error:
        raise CheckpointError(f"{folder / CONFIG_FILE}: {_first(error)}") from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder} cannot be read: {error}") from None
    net = network_of(config.architecture, config.inputs, weights, str(folder / WEIGHTS_FILE))
    file = folder / TOKENIZER_FILE
    tokenizer = Tokenizer.from_file(file) if file.exists() else None
    return Checkpoint(net, config.name, config.source, config.trained, tokenizer)


def _first(error: ValidationError) -> str:
    issue = error.errors()[0]
    return f"{'.'.join(map(str, issue['loc']))}: {issue['msg']}"


def save_checkpoint(
    net: XClip,
    folder: str | os.PathLike[str],
    *,
    tokenizer: Tokenizer | None = None,
    name: str = "xclip",
    source: str = "",
    trained: bool = True,
    overwrite: bool = False,
) -> Path:
    """Write a native checkpoint; the folder appears whole or not at all.

    `tokenizer` is for networks that do not use CLIP's own. An existing folder is refused unless
    `overwrite`.
    """
    target = Path(folder)
    if target.exists() and not overwrite and (not target.is_dir() or any(target.iterdir())):
        raise CheckpointError(f"{target} exists: choose another folder, or ask to overwrite it")
    target.parent.mkdir(parents=True, exist_ok=True)
    config = CheckpointConfig(
        name=name, source=source, trained=trained, architecture=net.config, inputs=net.inputs
    )
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        (draft / CONFIG_FILE).write_text(config.model_dump_json(indent=2) + "\n")
        save_file(
            {n: p.detach().contiguous().cpu() for n, p in net.state_dict().items()},
            draft / WEIGHTS_FILE,
        )
        if tokenizer is not None:
            tokenizer.save(draft / TOKENIZER_FILE)
        draft.chmod(0o755)
        _replace(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def _replace(draft: Path, target: Path) -> None:
    """Move the finished folder into place; an old one goes away only after the new one is whole."""
    for file in draft.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    if not target.exists():
        draft.rename(target)
        return
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-old-", dir=target.parent) as old:
        target.rename(Path(old) / "old")
        draft.rename(target)


def resample_frames(net: XClip, num_frames: int) -> XClip:
    """The same weights for another number of frames: the time table is resampled."""
    if num_frames == net.config.num_frames:
        return net
    weights = dict(net.state_dict())
    if isinstance(net.mit, MultiframeIntegration):
        table = weights["mit.positional_embedding"]
        weights["mit.positional_embedding"] = resample_time_positions(table, num_frames)
    config = net.config.model_copy(update={"num_frames": num_frames})
    inputs = net.inputs.model_copy(update={"num_frames": num_frames})
    return network_of(config, inputs, weights, "the resampled checkpoint").train(net.training)


def read_checkpoint(source: str | os.PathLike[str], *, seed: int = 0) -> Checkpoint:
    """Any supported source, with where it comes from; see `load_checkpoint`."""
    from model.sources import read_foreign

    folder = Path(source)
    if folder.is_dir() and is_native(folder):
        return read_native(folder)
    return read_foreign(str(source), seed=seed)


def load_checkpoint(source: str | os.PathLike[str]) -> XClip:
    """The X-CLIP of a native folder, official `.pth`, Hugging Face folder or hub id, in eval mode.

    Also a start for fine-tuning: an OpenAI CLIP archive (`.pt`) or `open_clip:MODEL/TAG`, whose
    parts that CLIP does not have get their published first values. CheckpointError says what is
    wrong with a source and names tensors that do not fit.
    """
    return read_checkpoint(source).net
