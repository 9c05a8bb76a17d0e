"""Networks of published size through the command, on real clips, in bounded memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from export.bundle import open_bundle
from model.network.config import VARIANTS, ModelConfig

ROOT = Path(__file__).resolve().parents[2]
MEMORY_BYTES = 24 * 2**30


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "variant",
    [
        "xclip-base-patch32",
        "xclip-base-patch16-32-frames",
        "xclip-large-patch14",
        "xclip-large-patch14-16-frames",
    ],
)
def test_a_published_size_exports_and_agrees_with_torch(
    variant: str,
    random_folder: Callable[[ModelConfig], Path],
    videos: dict[str, Path],
    tmp_path: Path,
) -> None:
    checkpoint, output = random_folder(VARIANTS[variant]), tmp_path / "bundle"
    command = [sys.executable, "-m", "export", str(checkpoint), "--output", str(output)]
    process = subprocess.Popen([*command, "--clips", *map(str, videos.values())], cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert usage.ru_maxrss * 1024 < MEMORY_BYTES
    manifest = open_bundle(output).manifest
    assert "video_encoder.onnx.data" in manifest.files
    for parity in manifest.precisions[0].parity:
        assert parity.max_logit_error <= 1e-3
        assert parity.same_order
        assert {(case.clips, case.labels) for case in parity.cases} == {
            (clips, labels) for clips in (1, 3) for labels in (1, 10, 400)
        }


@pytest.mark.long
def test_int8_calibrated_on_clips_runs_in_openvino(
    random_folder: Callable[[ModelConfig], Path], videos: dict[str, Path], tmp_path: Path
) -> None:
    checkpoint, output = random_folder(VARIANTS["xclip-base-patch32"]), tmp_path / "bundle"
    clips = [str(path) for path in videos.values()]
    command = [sys.executable, "-m", "export", str(checkpoint), "--output", str(output)]
    command += ["--precision", "int8", "bf16", "--calibrate", *clips, "--clips", *clips]
    subprocess.run(command, cwd=ROOT, check=True)
    first, second, _ = open_bundle(output).manifest.precisions
    assert (first.precision, first.runtimes) == ("int8", ("openvino",))
    assert (second.precision, second.runtimes) == ("int8", ("onnxruntime-cpu",))
    assert first.parity[0].passed
    assert second.parity[0].passed
