"""Checkpoints from the Hugging Face hub, through its own client and cache."""

from __future__ import annotations

import re
from pathlib import Path

from model.checkpoints.errors import CheckpointError

HUB_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
DESCRIPTIONS = ["*.json"]


def is_hub_id(source: str) -> bool:
    """Tell whether the source reads like OWNER/NAME or OWNER/NAME@REVISION."""
    return not source.startswith((".", "/")) and HUB_ID.fullmatch(source) is not None


def download(source: str) -> Path:
    """Fetch a hub checkpoint into its folder, from the cache where it is complete.

    Weights come as safetensors where the repository has them. CheckpointError where the hub cannot
    be reached or does not know the id.
    """
    from huggingface_hub import snapshot_download

    match = HUB_ID.fullmatch(source)
    if match is None:
        raise CheckpointError(f"{source} is no hub id; it should look like OWNER/NAME")
    name, revision = match["id"], match["revision"]

    def fetch(patterns: list[str]) -> Path:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))

    try:
        folder = fetch([*DESCRIPTIONS, "*.safetensors"])
        if not any(folder.glob("*.safetensors")):
            folder = fetch([*DESCRIPTIONS, "*.bin"])
    # The client raises its own, its HTTP library's and ValueError, in every version others.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{source} is no file or folder here, and the hub does not give it ({reason}): check "
            "the name and the connection, or download it and give the folder"
        ) from None
    return folder
