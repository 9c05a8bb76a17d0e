"""A network of images and texts on clips: frames are encoded one by one and pooled over time.

B clips, T frames, P patches, K labels, L tokens, E joint width.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from model.inputs import InputSpec
from model.network.video_text import VideoTextNetwork, cosine_logits

Pooling = Literal["mean", "tokens"]


class FramePooledClip(VideoTextNetwork):
    """An image and a text tower as their library computes them, and a pooling over time.

    `mean` averages the vectors of the frames as the tower gives them, not normalised (the baseline
    of the X-CLIP paper, PE-Core). `tokens` lays the patch tokens of all frames end to end before
    the tower's own attentional pooler reads them (VideoCoCa, Yan et al. 2022); it adds no weights.
    Neither sees the order of the frames.
    """

    def __init__(
        self,
        towers: Any,
        inputs: InputSpec,
        *,
        embed_dim: int,
        variant: str,
        pooling: Pooling = "mean",
    ) -> None:
        super().__init__()
        # A module with open_clip's methods: encode_image, encode_text, and `visual`.
        self.towers = towers
        if pooling == "tokens" and getattr(self.towers.visual, "attn_pool", None) is None:
            raise ValueError(
                "pooling over tokens needs an attentional pooler, as CoCa has; this image tower "
                "has none: use the mean"
            )
        self.inputs, self.pooling = inputs, pooling
        self.embed_dim, self.variant, self.context_patches = embed_dim, variant, 0
        self.logit_scale = nn.Parameter(self.towers.logit_scale.detach().reshape(()).clone())
        bias = self.towers.logit_bias
        self.logit_bias = 0.0 if bias is None else bias.detach().item()

    def encode_video(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Encode float frames (B,T,3,H,W), normalised, to video (B,E) and an empty (B,0,E)."""
        images = frames.flatten(0, 1)
        pool = self._tokens_of_clips if self.pooling == "tokens" else self._mean_of_frames
        video = pool(images, frames.shape[1])
        return video, video.new_empty(video.shape[0], 0, self.embed_dim)

    def _mean_of_frames(self, images: Tensor, frames: int) -> Tensor:
        vectors = self.towers.encode_image(images, normalize=False)
        return vectors.unflatten(0, (-1, frames)).mean(1)

    def _tokens_of_clips(self, images: Tensor, frames: int) -> Tensor:
        visual = self.towers.visual
        tokens = visual.transformer(visual._embeds(images))
        pooled, _ = visual._pool(tokens.unflatten(0, (-1, frames)).flatten(1, 2))
        return pooled @ visual.proj

    def encode_text(self, token_ids: Tensor) -> Tensor:
        """Encode token ids (K,L), L the context length, to unit vectors (K,E).

        Unit vectors, so that the mean over several templates is the published one.
        """
        return self.towers.encode_text(token_ids, normalize=True)

    def score(self, video: Tensor, context: Tensor, text: Tensor) -> Tensor:
        """Score vectors (K,E) or (B,K,E) for clips: scaled cosines and the bias, (B,K)."""
        if text.ndim == 2:
            text = text.expand(video.shape[0], -1, -1)
        return cosine_logits(video, text, self.logit_scale) + self.logit_bias
