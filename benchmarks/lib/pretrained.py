"""A random network of ours as the folder that transformers loads: weights, config, processor."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import model.torchvision_schemas  # noqa: F401  (before transformers)
from benchmarks.lib.bundles import FOLDER
from benchmarks.lib.layouts import to_huggingface
from benchmarks.lib.networks import random_network
from model.inputs import InputSpec, Tokenizer
from model.network.xclip import XClip

RENAMED = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}


def pretrained(variant: str) -> Path:
    """Return the variant's folder, from `build/` where it is there already."""
    folder = FOLDER / f"{variant}-transformers"
    if not (folder / "processor_config.json").exists():
        save_pretrained(random_network(variant), Tokenizer.clip(), folder)
    return folder


def save_pretrained(net: XClip, tokenizer: Tokenizer, folder: Path) -> None:
    """Write what `from_pretrained` reads: the same weights, pixels and words as ours."""
    from transformers import XCLIPConfig, XCLIPModel

    state, config = to_huggingface(net)
    theirs = XCLIPModel(XCLIPConfig.from_dict(config))
    missing = theirs.load_state_dict(state, strict=False)
    if missing.unexpected_keys or any("position_ids" not in key for key in missing.missing_keys):
        raise SystemExit(f"transformers' model does not take our weights: {missing}")
    theirs.save_pretrained(folder)
    _processor(net.inputs, tokenizer).save_pretrained(folder)


def _processor(spec: InputSpec, tokenizer: Tokenizer) -> Any:
    from transformers import CLIPTokenizer, VideoMAEImageProcessor, XCLIPProcessor

    side = spec.image_size
    pixels = VideoMAEImageProcessor(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side},
        image_mean=[m / 255 for m in spec.mean], image_std=[s / 255 for s in spec.std],
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder) / "tokenizer.json")
        words = json.loads((Path(folder) / "tokenizer.json").read_text())["model"]
    vocabulary = {RENAMED.get(word, word): number for word, number in words["vocab"].items()}
    merges = [tuple(merge) for merge in words["merges"]]
    return XCLIPProcessor(pixels, CLIPTokenizer(vocab=vocabulary, merges=merges))  # type: ignore[arg-type]
