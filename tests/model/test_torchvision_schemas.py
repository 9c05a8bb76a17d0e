"""torchvision beside a torch that its binary does not fit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_what_needs_torchvision_imports_after_the_schemas() -> None:
    code = """
import model.torchvision_schemas
import torchvision.transforms.v2, open_clip, transformers.models.x_clip.modeling_x_clip
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_a_healthy_torchvision_is_left_alone() -> None:
    code = """
import torch
loaded = torch.library.Library("torchvision", "DEF")
loaded.define("nms(Tensor a, Tensor b, float c) -> Tensor")
torch.ops.load_library = lambda path: None
import model.torchvision_schemas as schemas
assert schemas.LIBRARY is None
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
