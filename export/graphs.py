"""The three graphs, cut where results are reused.

A clip that was encoded once is scored against any labels; a label that was encoded once is scored
against any clip. B clips, T frames, P patches, K labels, L tokens, E joint dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.tracing import Traced
from model.network.pixels import NormalisePixels
from model.network.video_text import VideoTextNetwork

# Example sizes of the free axes: 2 or more, and no two alike, so that none is taken for another.
CLIPS, LABELS, TOKENS = 2, 3, 5


class VideoEncoder(nn.Module):
    """Pixels as they come from the decoder to clip features; normalisation is inside."""

    def __init__(self, net: VideoTextNetwork) -> None:
        super().__init__()
        self.net, self.normalise = net, NormalisePixels(net.inputs)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Encode frames uint8 (B,T,H,W,3) to video (B,E) and context (B,P,E)."""
        return self.net.encode_video(self.normalise(frames))


class TextEncoder(nn.Module):
    """Token ids to label vectors; costs what the longest label of the batch costs."""

    def __init__(self, net: VideoTextNetwork) -> None:
        super().__init__()
        self.net = net

    def forward(self, token_ids: Tensor) -> Tensor:
        """Map token ids int64 (K,L) to text (K,E)."""
        return self.net.encode_text(token_ids)


class ScoreHead(nn.Module):
    """Clip features and label vectors to logits.

    Of its work the text alone decides only norm and query of the first layer. To keep these with
    each label would spare E² of the 20 E² + 4 P·E multiplications of two layers, less than 5 % for
    any P (4.9 % for B/32), and double what is kept of a label: they are computed anew.
    """

    def __init__(self, net: VideoTextNetwork) -> None:
        super().__init__()
        self.net = net

    def forward(self, video: Tensor, context: Tensor, text: Tensor) -> Tensor:
        """Map video (B,E), context (B,P,E), text (B,K,E) to logits (B,K)."""
        return self.net.score(video, context, text)


def graphs_of(net: VideoTextNetwork) -> tuple[Traced, Traced, Traced]:
    """Return the three graphs of a network, ready to be traced."""
    spec = net.inputs
    size = spec.image_size
    # Without prompts there is no context; the graphs keep its name, so that one service fits all.
    patches, dim = net.context_patches, net.embed_dim
    frames = torch.zeros(CLIPS, spec.num_frames, size, size, 3, dtype=torch.uint8)
    text = torch.zeros(CLIPS, LABELS, dim)
    fixed = spec.tokenizer.pad == "fixed"
    length = spec.context_length if fixed else TOKENS
    return (
        Traced(
            "video_encoder",
            VideoEncoder(net),
            {"frames": frames},
            {"frames": {0: "B"}},
            {"video": ("B", dim), "context": ("B", patches, dim)},
        ),
        Traced(
            "text_encoder",
            TextEncoder(net),
            {"token_ids": torch.ones(LABELS, length, dtype=torch.int64)},
            {"token_ids": {0: "K"} if fixed else {0: "K", 1: "L"}},
            {"text": ("K", dim)},
        ),
        Traced(
            "score_head",
            ScoreHead(net),
            {
                "video": torch.zeros(CLIPS, dim),
                "context": torch.zeros(CLIPS, patches, dim),
                "text": text,
            },
            {"video": {0: "B"}, "context": {0: "B"}, "text": {0: "B", 1: "K"}},
            {"logits": ("B", "K")},
        ),
    )
