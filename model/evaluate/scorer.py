"""What gives a clip its scores. N views of clips, T frames, H×W pixels, K labels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.inputs.text.lengths import encode_by_length
from model.network.pixels import NormalisePixels
from model.network.video_text import VideoTextNetwork

if TYPE_CHECKING:
    from model.inputs import InputSpec, Tokenizer

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Scorer(Protocol):
    """Anything that compares clips with texts: a network, or a bundle on some runtime.

    `templates` are the prompts that a label is filled into; none: it is read as it is.
    """

    name: str
    inputs: InputSpec
    templates: tuple[str, ...]

    def texts(self, texts: Sequence[str]) -> Any:
        """Encode K texts once, to float32 (K,D): a tensor, or a numpy array."""

    def logits(self, frames: NDArray[np.uint8], texts: Any) -> NDArray[np.float32]:
        """Score frames uint8 (N,T,H,W,3) RGB against vectors (K,D): logits float32 (N,K)."""


def label_vectors(scorer: Scorer, labels: Sequence[str]) -> Any:
    """Encode K labels to vectors (K,D), each the mean of those of its prompts.

    Means of what the encoder gives, not of unit vectors: the prompt head reads their length.
    """
    # Needs the tokenizer, which is not there where only the network is measured.
    from model.inputs import label_prompts

    vectors = scorer.texts(label_prompts(labels, scorer.templates))
    return vectors.reshape(len(labels), -1, vectors.shape[1]).mean(1)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Compute in half precision where it is asked for."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[precision])


@torch.no_grad()
def encode_texts(net: VideoTextNetwork, ids: Tensor) -> Tensor:
    """Encode token ids int64 (K,L) to label vectors float32 (K,E) on the device of the ids."""

    def encode(part: NDArray[np.int64]) -> NDArray[np.float32]:
        return net.encode_text(torch.from_numpy(part).to(ids.device)).float().cpu().numpy()

    pad = net.inputs.tokenizer.pad
    return torch.from_numpy(encode_by_length(encode, ids.cpu().numpy(), pad)).to(ids.device)


class TorchScorer:
    """A network as it is."""

    def __init__(
        self,
        net: VideoTextNetwork,
        tokenizer: Tokenizer,
        *,
        name: str = "torch",
        device: torch.device | None = None,
        precision: str = "fp32",
        templates: Sequence[str] = (),
    ) -> None:
        self.net, self.tokenizer, self.name = net, tokenizer, name
        self.templates = tuple(templates)
        self.device = device or torch.device("cpu")
        self.precision = precision
        self.inputs = net.inputs
        self._normalise = NormalisePixels(net.inputs).to(self.device)

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Encode K texts to vectors (K,E)."""
        spec = self.inputs
        ids = self.tokenizer.encode(texts, spec.context_length, spec.pad_id)
        return encode_texts(self.net, torch.from_numpy(ids).to(self.device))

    @torch.no_grad()
    def logits(self, frames: NDArray[np.uint8], texts: Tensor) -> NDArray[np.float32]:
        """Score frames uint8 (N,T,H,W,3) against vectors (K,E): logits (N,K)."""
        pixels = self._normalise(torch.from_numpy(frames).to(self.device))
        with autocast(self.device, self.precision):
            video, context = self.net.encode_video(pixels)
            scores = self.net.score(video, context, texts)
        return scores.float().cpu().numpy()
