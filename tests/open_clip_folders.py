"""Small networks of open_clip of every kind, every weight random, in folders as it reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
from safetensors.torch import save_file
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

import model.torchvision_schemas  # noqa: F401  (before torchvision)
from benchmarks.lib.networks import randomise
from export.reference import verification_prompts

SIDE = 32
VISION = {"image_size": SIDE, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
HALVES = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
SIGLIP_TEXT = {
    **TEXT,
    "context_length": 64,
    "vocab_size": 600,
    "hf_tokenizer_name": "beside-the-weights",
    "tokenizer_kwargs": {"clean": "canonicalize"},
    "no_causal_mask": True,
    "proj_bias": True,
    "pool_type": "last",
}
COCA = {
    "custom_text": True,
    "vision_cfg": {
        **VISION,
        "attentional_pool": True,
        "attn_pooler_heads": 2,
        "attn_pooler_queries": 16,
        "output_tokens": True,
    },
    "text_cfg": {**TEXT, "context_length": 76, "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {**TEXT, "context_length": 76, "attn_pooler_heads": 2},
}
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "clip": ({"vision_cfg": VISION, "text_cfg": TEXT, "quick_gelu": True}, {}),
    "clip-64": (  # as CLIP itself: heads of width 64
        {
            "vision_cfg": {**VISION, "head_width": 64},
            "text_cfg": {**TEXT, "heads": 1},
            "quick_gelu": True,
        },
        {},
    ),
    "siglip": (
        {
            "custom_text": True,
            "init_logit_bias": -10,
            "vision_cfg": VISION,
            "text_cfg": SIGLIP_TEXT,
        },
        {**HALVES, "resize_mode": "squash"},
    ),
    "coca": (COCA, {}),
    "pe-core": (
        {
            "custom_text": True,
            "vision_cfg": {
                "image_size": 384,
                "timm_model_name": "vit_pe_core_tiny_patch16_384",
                "timm_pool": "map",
                "timm_proj": None,
            },
            "text_cfg": {**TEXT, "context_length": 32},
        },
        {**HALVES, "resize_mode": "squash", "interpolation": "bilinear"},
    ),
    "mobileclip2": (
        {
            "custom_text": True,
            "vision_cfg": {
                "timm_model_name": "fastvit_mci0",
                "timm_pool": "avg",
                "timm_proj": None,
                "image_size": 256,
            },
            "text_cfg": {**TEXT, "no_causal_mask": True},
        },
        {"mean": [0.0] * 3, "std": [1.0] * 3, "interpolation": "bilinear"},
    ),
}


def open_clip_folder(kind: str, folder: Path) -> Path:
    """Write a network of that kind as `local-dir:` reads it."""
    import open_clip

    config, preprocess = KINDS[kind]
    config = {"embed_dim": 64, **config}
    text = {"model_cfg": config, "preprocess_cfg": preprocess}
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps(text))
    if "hf_tokenizer_name" in config["text_cfg"]:
        write_unigram(folder, config["text_cfg"]["vocab_size"])
    net = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    randomise(net)
    save_file(net.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def write_unigram(folder: Path, size: int) -> None:
    """Train a SentencePiece-like vocabulary with bytes for what it has never seen."""
    core = tokenizers.Tokenizer(models.Unigram())
    core.normalizer = normalizers.NFKC()
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    alone = ["<pad>", "<eos>", "<unk>", *(f"<0x{b:02X}>" for b in range(256))]
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=alone, unk_token="<unk>", show_progress=False
    )
    core.train_from_iterator([p.lower() for p in verification_prompts()], trainer)
    core.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 1)]
    )
    core.save(str(folder / "tokenizer.json"))
    described = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "eos_token": "<eos>",
        "unk_token": "<unk>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
