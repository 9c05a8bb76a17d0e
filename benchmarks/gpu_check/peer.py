"""transformers' X-CLIP with our weights, eager and compiled: what people run today."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.lib.layouts import to_huggingface
from model.network.pixels import NormalisePixels
from model.network.xclip import XClip

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def transformers_model(net: XClip) -> Any:
    """Make `XCLIPModel` with our weights, in eval mode."""
    import model.torchvision_schemas  # noqa: F401  (before transformers)

    # isort: split
    from transformers import XCLIPConfig, XCLIPModel

    state, config = to_huggingface(net)
    theirs = XCLIPModel(XCLIPConfig.from_dict(config)).eval()
    missing = theirs.load_state_dict(state, strict=False)
    if missing.unexpected_keys or any("position_ids" not in key for key in missing.missing_keys):
        raise ValueError(f"transformers' model does not take our weights: {missing}")
    return theirs


class TransformersEncoder:
    """Weights in the precision itself, which is faster than autocast; pixels normalised on the
    device, which is faster than the processor class.
    """

    def __init__(self, net: XClip, device: str, precision: str, *, compiled: bool = False) -> None:
        self._dtype = DTYPES[precision]
        self._device = torch.device(device)
        self._normalise = NormalisePixels(net.inputs).to(self._device)
        self._model = transformers_model(net).to(self._device, self._dtype)
        self._compiled = compiled
        self._encode = torch.compile(self._encoded, dynamic=False) if compiled else self._encoded

    @torch.inference_mode()
    def video(self, frames: np.ndarray) -> np.ndarray:
        """Encode frames uint8 (B,T,H,W,3) to vectors (B,D)."""
        there = torch.from_numpy(frames).to(self._device, non_blocking=True)
        vectors: np.ndarray = self._encode(there).float().cpu().numpy()
        return vectors

    def close(self) -> None:
        """Forget the weights, and what was compiled: torch compiles a function only so often."""
        del self._model, self._encode
        if self._compiled:
            torch.compiler.reset()

    def _encoded(self, frames: Tensor) -> Tensor:
        pixels = self._normalise(frames).to(self._dtype)
        output = self._model.get_video_features(pixel_values=pixels)
        # Its newer versions wrap what older ones return.
        vectors: Tensor = getattr(output, "pooler_output", output)
        return vectors
