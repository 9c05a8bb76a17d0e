"""A network that was read, with what belongs to it."""

from __future__ import annotations

from dataclasses import dataclass

from model.inputs import Tokenizer
from model.network.video_text import VideoTextNetwork


@dataclass(frozen=True)
class LoadedNetwork:
    """A network together with where it comes from and the tokenizer of its text encoder.

    `tokenizer` is None for CLIP's own. `notes` says what a person should know about the loading.
    `templates` are the prompts that it was trained with, each with one `{}`; none: bare labels.
    `licence` is that of the weights as their owner states it, where that is known.
    """

    net: VideoTextNetwork
    name: str
    source: str
    trained: bool = True
    tokenizer: Tokenizer | None = None
    notes: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    licence: str | None = None
