"""Write our weights in the layouts of others, for peers and tests: the official `.pth` and
transformers' `XCLIPModel`.
"""

from __future__ import annotations

from typing import Any

from model.checkpoints.weights import State, to_layout
from model.network.config import ModelConfig, heads
from model.network.xclip import XClip


def to_official(net: XClip) -> dict[str, State]:
    """Make what an official `.pth` holds, `{"model": tensors}`. ValueError for an ablated one."""
    _refuse_ablated(net.config)
    return {"model": to_layout(net.state_dict(), "official")}


def to_huggingface(net: XClip) -> tuple[State, dict[str, Any]]:
    """Tensors and `config.json` content for transformers' `XCLIPModel`, with our head counts.

    ValueError for an ablated network, which transformers cannot describe.
    """
    c = net.config
    _refuse_ablated(c)
    text = {
        "hidden_size": c.text_width,
        "intermediate_size": 4 * c.text_width,
        "num_hidden_layers": c.text_layers,
        "num_attention_heads": heads(c.text_width),
        "vocab_size": c.vocab_size,
        "max_position_embeddings": c.context_length,
        "hidden_act": c.activation,
    }
    vision = {
        "hidden_size": c.vision_width,
        "intermediate_size": 4 * c.vision_width,
        "num_hidden_layers": c.vision_layers,
        "num_attention_heads": heads(c.vision_width),
        "image_size": c.image_size,
        "patch_size": c.patch_size,
        "num_frames": c.num_frames,
        "hidden_act": c.activation,
        "mit_hidden_size": c.embed_dim,
        "mit_intermediate_size": 4 * c.embed_dim,
        "mit_num_hidden_layers": c.mit_layers,
        "mit_num_attention_heads": heads(c.embed_dim),
    }
    config = {
        "model_type": "xclip",
        "architectures": ["XCLIPModel"],
        "projection_dim": c.embed_dim,
        "prompt_layers": c.prompt_layers,
        "prompt_alpha": c.prompt_alpha,
        "prompt_hidden_act": c.activation,
        "prompt_num_attention_heads": heads(c.embed_dim),
        "text_config": text,
        "vision_config": vision,
    }
    return to_layout(net.state_dict(), "huggingface"), config


def _refuse_ablated(config: ModelConfig) -> None:
    parts = {
        "integration layers": config.mit_layers,
        "prompt layers": config.prompt_layers,
        "cross-frame messages": config.cross_frame_messages,
    }
    absent = [part for part, there in parts.items() if not there]
    if absent:
        raise ValueError(f"only whole X-CLIPs have this form; this one has no {', '.join(absent)}")
