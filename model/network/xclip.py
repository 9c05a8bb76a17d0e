"""X-CLIP (Ni et al., "Expanding Language-Image Pretrained Models for General Video Recognition").

B clips, T frames, P patches, K labels, L tokens, E joint width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from model.inputs import InputSpec
from model.network.cct import VideoEncoder
from model.network.config import ModelConfig
from model.network.mit import FrameMean, MultiframeIntegration
from model.network.prompt import PatchContext, VideoSpecificPrompt
from model.network.text import TextEncoder
from model.network.video_text import VideoTextNetwork, cosine_logits


class XClip(VideoTextNetwork):
    """The parts, connected. `forward` keeps no state: callers cache label vectors.

    Without prompts `context` is empty, (B,0,E), and labels stay as they are.
    """

    def __init__(
        self,
        config: ModelConfig,
        inputs: InputSpec,
        *,
        visual: VideoEncoder,
        text: TextEncoder,
        mit: MultiframeIntegration | FrameMean,
        patch_context: PatchContext | None,
        prompt: VideoSpecificPrompt | None,
    ) -> None:
        super().__init__()
        self.config, self.inputs = config, inputs
        self.visual, self.text, self.mit = visual, text, mit
        self.patch_context, self.prompt = patch_context, prompt
        self.logit_scale = nn.Parameter(torch.empty(()))
        self.embed_dim, self.variant = config.embed_dim, config.variant
        self.context_patches = config.num_patches if config.prompt_layers else 0

    def encode_video(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Encode clips.

        Args:
            frames: float (B,T,3,H,W), RGB, mean and deviation taken out as `inputs` says; T, H
                and W are those of the configuration.

        Returns:
            Clip vectors (B,E), not normalised, and patch context (B,P,E), the mean over frames;
            P is 0 for a network without prompts.

        Raises:
            ValueError: The frames have another shape, or are not floating point.
        """
        features, patches = self.visual(frames)
        video = self.mit(features)
        if self.patch_context is None:
            return video, video.new_empty(video.shape[0], 0, video.shape[1])
        return video, self.patch_context(patches)

    def encode_text(self, token_ids: Tensor) -> Tensor:
        """Encode texts.

        Args:
            token_ids: integer (K,L), each row with its end token, padded behind it; L from 1 to
                the context length, and no longer than the longest text needs.

        Returns:
            Label vectors (K,E), not normalised, before the video-specific prompts.

        Raises:
            ValueError: The ids have another shape, or are not integers.
        """
        limit = self.config.context_length
        if token_ids.ndim != 2 or not 0 < token_ids.shape[1] <= limit or _is_float(token_ids):
            raise ValueError(
                f"token_ids must be integers (K, L) with L from 1 to {limit}, not "
                f"{_describe(token_ids)}"
            )
        vectors: Tensor = self.text(token_ids)
        return vectors

    def prompted(self, context: Tensor, text: Tensor) -> Tensor:
        """Map context (B,P,E) and labels (B,K,E) to what each clip makes of each label."""
        if self.prompt is None:
            return text
        prompts: Tensor = self.prompt(text, context)
        return prompts

    def score(self, video: Tensor, context: Tensor, text: Tensor) -> Tensor:
        """Score labels for clips; each label by itself, whatever stands beside it.

        Args:
            video: Clip vectors (B,E).
            context: Patch context (B,P,E).
            text: Label vectors (K,E), the same for all clips, or (B,K,E).

        Returns:
            Logits (B,K) in fp32 at least: the cosine of clip and prompted label, from -1 to 1,
            times the network's scale.

        Raises:
            ValueError: The shapes do not belong together.
        """
        self._check_features(video, context, text)
        if text.ndim == 2:
            text = text.expand(video.shape[0], -1, -1)
        return cosine_logits(video, self.prompted(context, text), self.logit_scale)

    def _check_features(self, video: Tensor, context: Tensor, text: Tensor) -> None:
        """Refuse shapes that do not belong together, before broadcasting makes them fit."""
        dim = self.config.embed_dim
        fits = (
            (video.ndim, context.ndim) == (2, 3)
            and text.ndim in (2, 3)
            and video.shape[1] == context.shape[2] == text.shape[-1] == dim
            and video.shape[0] == context.shape[0]
            and (text.ndim == 2 or text.shape[0] == video.shape[0])
        )
        if not fits:
            raise ValueError(
                f"score takes video (B, {dim}), context (B, P, {dim}) and text (K, {dim}) or "
                f"(B, K, {dim}), not {tuple(video.shape)}, {tuple(context.shape)} and "
                f"{tuple(text.shape)}"
            )

    def forward(self, frames: Tensor, token_ids: Tensor) -> Tensor:
        """Score texts for clips: frames as `encode_video` takes them, token ids as `encode_text`.

        Returns logits (B,K), as `score` does.
        """
        video, context = self.encode_video(frames)
        return self.score(video, context, self.encode_text(token_ids))


def _is_float(x: Tensor) -> bool:
    return x.dtype.is_floating_point or x.dtype.is_complex


def _describe(x: Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}"


def assemble(config: ModelConfig, inputs: InputSpec | None = None) -> XClip:
    """Make the network with whatever the memory held: weights must follow."""
    inputs = inputs or InputSpec.official(config.num_frames, config.image_size).model_copy(
        update={"context_length": config.context_length}
    )
    if (inputs.num_frames, inputs.image_size) != (config.num_frames, config.image_size):
        raise ValueError(
            f"the input spec gives {inputs.num_frames} frames of {inputs.image_size} pixels, the "
            f"network takes {config.num_frames} of {config.image_size}"
        )
    prompts = config.prompt_layers > 0
    with _Unfilled():
        return XClip(
            config,
            inputs,
            visual=VideoEncoder(config),
            text=TextEncoder(config),
            mit=MultiframeIntegration(config) if config.mit_layers else FrameMean(),
            patch_context=PatchContext(config) if prompts else None,
            prompt=VideoSpecificPrompt(config) if prompts else None,
        )


class _Unfilled(TorchFunctionMode):
    """Spares torch's layers their first random fill, which is never used.

    It takes seconds, and on the meta device brings in all of torch's decompositions besides.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in (Tensor.fill_, Tensor.zero_):
            return args[0]
        if getattr(func, "__module__", None) == nn.init.__name__:
            return kwargs["tensor"]
        return func(*args, **(kwargs or {}))
