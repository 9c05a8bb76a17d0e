"""Networks with every parameter randomised, as ours and as transformers' port."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import model.torchvision_schemas  # noqa: F401  (before the tests import transformers)
from benchmarks.lib.layouts import to_huggingface
from model.network.config import ModelConfig
from model.network.initialise import build_xclip
from model.network.xclip import XClip

SMALL = ModelConfig(
    image_size=48,
    patch_size=16,
    num_frames=4,
    vision_width=192,
    vision_layers=3,
    embed_dim=128,
    text_width=128,
    text_layers=2,
    vocab_size=600,
    context_length=16,
    mit_layers=2,
    prompt_layers=2,
)


def randomise(net: torch.nn.Module, seed: int = 0) -> None:
    """Fresh networks have zero biases and unit norms, which hide errors: fill everything."""
    generator = torch.Generator().manual_seed(seed)
    norms = {
        id(m.weight)
        for m in net.modules()
        if isinstance(m, torch.nn.LayerNorm) and m.weight is not None
    }
    with torch.no_grad():
        for name, p in net.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if name == "logit_scale":
                p.fill_(4.6)
            elif p.ndim >= 2:
                p.copy_(0.7 * noise / p.shape[-1] ** 0.5)
            else:
                p.copy_(0.2 * noise + (1.0 if id(p) in norms else 0.0))


def random_inputs(config: ModelConfig, clips: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames (B,T,3,H,W) and five label rows of different lengths, zero-padded."""
    generator = torch.Generator().manual_seed(1)
    size = config.image_size
    frames = torch.randn(clips, config.num_frames, 3, size, size, generator=generator)
    length = min(12, config.context_length)
    ids = torch.zeros(5, length, dtype=torch.int64)
    for row, end in enumerate((3, 5, 2, length - 1, 7)):
        ids[row, :end] = torch.randint(1, config.vocab_size - 2, (end,), generator=generator)
        ids[row, 0] = config.vocab_size - 2
        ids[row, end] = config.vocab_size - 1
    return frames, ids


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Whether two networks have the same tensors, bit for bit."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def huggingface_folder(net: XClip, folder: Path, **preprocessor: Any) -> Path:
    """A folder as transformers saves it."""
    state, config = to_huggingface(net)
    folder.mkdir(exist_ok=True)
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    if preprocessor:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


def edit_json(file: Path, **changes: Any) -> None:
    """Change keys of a JSON file; a key may be nested, as in `text_config__hidden_act`."""
    content = json.loads(file.read_text())
    for path, value in changes.items():
        *parents, key = path.split("__")
        target = content
        for parent in parents:
            target = target[parent]
        target[key] = value
    file.write_text(json.dumps(content))


@pytest.fixture(scope="session")
def small_net() -> XClip:
    """The small configuration of the parity tests, randomised, in eval mode."""
    net = build_xclip(SMALL, seed=0).eval()
    randomise(net)
    return net


@pytest.fixture(autouse=True)
def few_threads() -> Any:
    """Two suites may run side by side on two cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
