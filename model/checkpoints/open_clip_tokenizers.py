"""The tokenizers of open_clip's networks as ours: CLIP's byte pairs, or the network's own file."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers

from model.checkpoints.errors import CheckpointError
from model.inputs import Tokenizer, TokenizerSpec
from model.inputs.spec import CleanRule

FOLDER = "local-dir:"


def tokenizer_of(model_name: str, text: Mapping[str, Any]) -> tuple[Tokenizer, int]:
    """Return our tokenizer for open_clip's, and the id that its texts are filled up with.

    Args:
        model_name: As open_clip knows the network: a name, `hf-hub:ORG/NAME`, `local-dir:FOLDER`.
        text: Its `text_cfg`.

    Raises:
        CheckpointError: It needs what is not supported.
    """
    kwargs = dict(text.get("tokenizer_kwargs", {}))
    # What keeps texts of any length is without effect here: a text too long is refused.
    odd = {k: v for k, v in kwargs.items() if k not in ("clean", "reduction_mask") and v}
    if kwargs.get("reduction_mask") == "syntax":
        odd["reduction_mask"] = "syntax"
    if mode := text.get("tokenizer_mode"):
        odd["tokenizer_mode"] = mode
    if odd:
        raise CheckpointError(f"the tokenizer's settings {odd} are not supported")
    clean = kwargs.get("clean", "whitespace")
    if text.get("hf_tokenizer_name") and not _has_transformers():
        core, pad_id = _read_tokenizer(model_name, text["hf_tokenizer_name"])
        return _whole(core, clean), pad_id
    import open_clip

    theirs = open_clip.get_tokenizer(model_name)
    kind = type(theirs).__name__
    if kind == "SimpleTokenizer":
        spec = TokenizerSpec(pad="fixed", clean=kwargs.get("clean", "lower"))
        return Tokenizer.clip(spec), 0
    wrapped = theirs.tokenizer
    if getattr(wrapped, "backend_tokenizer", None) is None:
        raise CheckpointError("the tokenizer has no tokenizer.json: give one beside the weights")
    _check_padding(wrapped.padding_side)
    core = tokenizers.Tokenizer.from_str(wrapped.backend_tokenizer.to_str())
    return _whole(
        core, "canonicalize" if kind == "SigLipTokenizer" else clean
    ), wrapped.pad_token_id


def _whole(core: tokenizers.Tokenizer, clean: CleanRule) -> Tokenizer:
    return Tokenizer(core, TokenizerSpec(kind="tokenizer.json", pad="fixed", clean=clean))


def _check_padding(side: str) -> None:
    if side != "right":
        raise CheckpointError("the tokenizer pads on the left, which is not supported")


def _has_transformers() -> bool:
    return importlib.util.find_spec("transformers") is not None


def _read_tokenizer(model_name: str, name: str) -> tuple[tokenizers.Tokenizer, int]:
    """Read a tokenizer as transformers would, which is not installed: its file and padding token.

    It lies beside the weights of a folder, else where `name` says on the hub.
    """
    from huggingface_hub import hf_hub_download

    def file(what: str) -> Path:
        if model_name.startswith(FOLDER):
            return Path(model_name.removeprefix(FOLDER)) / what
        return Path(hf_hub_download(name, what))

    described = json.loads(file("tokenizer_config.json").read_text(encoding="utf-8"))
    _check_padding(described.get("padding_side", "right"))
    core = tokenizers.Tokenizer.from_file(str(file("tokenizer.json")))
    token = described.get("pad_token")
    pad_id = core.token_to_id(token["content"] if isinstance(token, dict) else str(token))
    if pad_id is None:
        raise CheckpointError("tokenizer_config.json names no pad_token that tokenizer.json has")
    return core, pad_id
