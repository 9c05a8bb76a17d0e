"""How much an X-CLIP computes, from its shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model.network.config import ModelConfig


def multiply_accumulates(c: ModelConfig) -> float:
    """Count those of one clip through the whole video encoder."""
    d, e, t, p = c.vision_width, c.embed_dim, c.num_frames, c.num_patches
    tokens = p + 1 + c.cross_frame_messages
    attention = t * (tokens * 4 * d * d + 2 * tokens * tokens * d)
    mlp = t * (p + 1) * 8 * d * d
    messages = c.cross_frame_messages * (t * 5 * d * d + 2 * t * t * d)
    blocks = c.vision_layers * (attention + mlp + messages)
    embed = t * p * 3 * c.patch_size**2 * d + t * d * e
    integration = c.mit_layers * (t * 12 * e * e + 2 * t * t * e)
    return blocks + embed + integration + p * d * e
