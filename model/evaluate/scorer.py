"""What gives a clip its scores. N views of clips, T frames, H×W pixels, K labels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.network.xclip import XClip

if TYPE_CHECKING:
    from model.inputs import InputSpec, Tokenizer

TEXTS_AT_ONCE = 256
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Scorer(Protocol):
    """Anything that compares clips with texts: a network, or a bundle on some runtime."""

    name: str
    inputs: InputSpec

    def texts(self, texts: Sequence[str]) -> Any:
        """Prepare K texts once; what `logits` takes."""

    def logits(self, frames: NDArray[np.uint8], texts: Any) -> NDArray[np.float32]:
        """Frames uint8 (N,T,H,W,3) RGB to logits (N,K)."""


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Half precision where it is asked for."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[precision])


def normalised(frames: Tensor, spec: InputSpec) -> Tensor:
    """uint8 (B,T,H,W,3) RGB to float (B,T,3,H,W), as the network takes them."""
    statistics = torch.tensor([spec.mean, spec.std]).to(frames.device, non_blocking=True)
    return ((frames.float() - statistics[0]) / statistics[1]).permute(0, 1, 4, 2, 3)


@torch.no_grad()
def encode_texts(net: XClip, ids: Tensor) -> Tensor:
    """Label vectors (K,E) of token ids (K,L), a part at a time."""
    return torch.cat([net.encode_text(part) for part in ids.split(TEXTS_AT_ONCE)])


class TorchScorer:
    """A network as it is."""

    def __init__(
        self,
        net: XClip,
        tokenizer: Tokenizer,
        *,
        name: str = "torch",
        device: torch.device | None = None,
        precision: str = "fp32",
    ) -> None:
        self.net, self.tokenizer, self.name = net, tokenizer, name
        self.device = device or torch.device("cpu")
        self.precision = precision
        self.inputs = net.inputs

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Label vectors (K,E)."""
        spec = self.inputs
        ids = self.tokenizer.encode(texts, spec.context_length, spec.pad_id)
        return encode_texts(self.net, torch.from_numpy(ids).to(self.device))

    @torch.no_grad()
    def logits(self, frames: NDArray[np.uint8], texts: Tensor) -> NDArray[np.float32]:
        """Frames uint8 (N,T,H,W,3) to logits (N,K)."""
        pixels = normalised(torch.from_numpy(frames).to(self.device), self.inputs)
        with autocast(self.device, self.precision):
            video, context = self.net.encode_video(pixels)
            scores = self.net.score(video, context, texts)
        return scores.float().cpu().numpy()
