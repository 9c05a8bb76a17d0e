"""Our network in torch, eager and compiled, in fp32 or by autocast."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu_check.contestant import Answers
from model.evaluate.scorer import autocast, encode_texts
from model.network.pixels import NormalisePixels
from model.network.xclip import XClip

CLIPS_AT_ONCE = 4


class TorchNetwork:
    """A copy of the network on a device."""

    def __init__(self, net: XClip, device: str, precision: str, *, compiled: bool = False) -> None:
        self.device, self.precision = torch.device(device), precision
        self.net = copy.deepcopy(net).to(self.device)
        self._normalise = NormalisePixels(net.inputs).to(self.device)
        # Each batch size is compiled for itself: nothing is lost to free axes.
        self._compiled = compiled
        self._encode = torch.compile(self._encoded, dynamic=False) if compiled else self._encoded

    @torch.inference_mode()
    def video(self, frames: np.ndarray) -> np.ndarray:
        """Encode frames uint8 (B,T,H,W,3) to vectors (B,D); the context stays on the device."""
        vectors: np.ndarray = self._features(frames)[0].float().cpu().numpy()
        return vectors

    @torch.inference_mode()
    def answers(self, frames: np.ndarray, token_ids: np.ndarray) -> Answers:
        """Answer a few clips at a time."""
        text = encode_texts(self.net, torch.from_numpy(token_ids).to(self.device))
        videos, logits = [], []
        for first in range(0, len(frames), CLIPS_AT_ONCE):
            video, context = self._features(frames[first : first + CLIPS_AT_ONCE])
            with autocast(self.device, self.precision):
                logits.append(self.net.score(video, context, text).float().cpu().numpy())
            videos.append(video.float().cpu().numpy())
        return Answers(np.concatenate(videos), np.concatenate(logits))

    def close(self) -> None:
        """Forget the weights, and what was compiled: torch compiles a function only so often."""
        del self.net, self._encode
        if self._compiled:
            torch.compiler.reset()

    def _features(self, frames: np.ndarray) -> tuple[Tensor, Tensor]:
        there = torch.from_numpy(frames).to(self.device, non_blocking=True)
        encoded: tuple[Tensor, Tensor] = self._encode(there)
        return encoded

    def _encoded(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        with autocast(self.device, self.precision):
            return self.net.encode_video(self._normalise(frames))
