"""The check of the GPU, rehearsed on the processor: all but the few lines that need a GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu_check.__main__ import main
from benchmarks.lib import bundles

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--device", "cpu", "--variants", "tiny", "--precisions", "fp32", "--batches", "1", "2",
         "--rounds", "2", "--clients", "2", "--seconds", "0", "--training-batch", "2",
         "--training-seconds", "1"]  # fmt: skip
# All that a machine may lack beside torch, numpy and pydantic.
ABSENT = (
    "transformers", "onnx", "onnxscript", "onnxruntime", "tensorrt", "openvino", "nncf", "av",
    "ftfy", "tokenizers", "safetensors", "PIL", "torchvision", "rich", "fastapi", "uvicorn",
    "httpx", "psutil", "cv2", "decord", "regex",
)  # fmt: skip
WITHOUT = """
import sys
from importlib.machinery import PathFinder
class Installed:
    def find_spec(self, name, path=None, target=None):
        absent = name.split(".")[0] in {absent!r}
        return None if absent else PathFinder.find_spec(name, path, target)
sys.meta_path[:] = [Installed() if finder is PathFinder else finder for finder in sys.meta_path]
import torch
torch.compile = lambda function, **_: function
from benchmarks.gpu_check.__main__ import main
sys.exit(main({arguments!r}))
"""


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Compiling takes minutes and is torch's own; bundles go to a folder of the test."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(bundles, "FOLDER", tmp_path / "build")
    return tmp_path / "report"


def rows_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    parts = json.loads((folder / "gpu.json").read_text())["parts"]
    return {name: part["rows"] for name, part in parts.items()}


def outcomes(rows: list[dict[str, Any]]) -> dict[str, str]:
    return {f"{row.get('what', '')} {row['precision']}".strip(): row["outcome"] for row in rows}


@pytest.mark.timeout(1800)  # a minute of work; a machine may have others to do
def test_the_whole_check_on_the_processor(
    uncompiled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, "--output", str(uncompiled)]) == 0
    printed = capsys.readouterr().out
    parts = rows_of(uncompiled)
    here = {"onnxruntime-cpu fp32": "ran", "openvino fp32": "ran"}
    assert outcomes(parts["parity"]) == {"our torch fp32": "ran", **here}
    assert all(row["top1_agreement"] == 1 and row["choices"] >= 480 for row in parts["parity"])
    torch_rows = [f"{who} {mode} fp32" for who in ("transformers", "our torch")
                  for mode in ("eager", "compiled")]  # fmt: skip
    assert outcomes(parts["speed"]) == dict.fromkeys(torch_rows, "ran") | here
    assert [row["batch"] for row in parts["speed"]] == [1, 2] * 6
    assert all(row["of_peak"] > 0 and row["cosine"] > 0.999 for row in parts["speed"])
    assert [row["what"] for row in parts["service"]] == ["onnxruntime-cpu"]
    assert parts["service"][0]["answers"] >= 2
    (trained,) = parts["training"]
    assert trained["ratio"] == pytest.approx(
        trained["ours clips/s"] / trained["transformers clips/s"]
    )
    assert "0 failed" in printed
    assert "rehearsal on the processor" in (uncompiled / "gpu.md").read_text()
    assert str(uncompiled.parent) not in (uncompiled / "gpu.json").read_text()


def run_without(absent: tuple[str, ...], arguments: list[str]) -> subprocess.CompletedProcess[str]:
    code = WITHOUT.format(absent=set(absent), arguments=arguments)
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def test_where_only_torch_is_installed_its_rows_are_there(tmp_path: Path) -> None:
    run = run_without(ABSENT, [*SMALL, "--output", str(tmp_path)])
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
    parts = rows_of(tmp_path)
    assert {row["outcome"] for row in parts["peaks"]} == {"ran"}
    for name in ("parity", "speed"):
        ran = {row["what"].split()[0] for row in parts[name] if row["outcome"] == "ran"}
        assert ran == {"our"}
        others = [row for row in parts[name] if not row["what"].startswith("our torch")]
        assert {row["outcome"] for row in others} == {"not run"}
        assert all("No module named" in row["why"] for row in others)
    for name in ("service", "training"):
        assert {row["outcome"] for row in parts[name]} == {"not run"}
    assert "no real clips: No module named 'av'" in run.stdout
    assert "Not run:" in run.stdout


def test_without_our_own_network_there_is_still_the_peak(tmp_path: Path) -> None:
    run = run_without((*ABSENT, "pydantic"), [*SMALL, "--output", str(tmp_path)])
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
    parts = rows_of(tmp_path)
    ran = {name for name, rows in parts.items() for row in rows if row["outcome"] == "ran"}
    assert ran == {"peaks"}
    assert all("pydantic" in row["why"] for row in parts["parity"])


def test_without_a_gpu_there_is_one_line_and_a_status_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([]) == 3
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("error: no NVIDIA GPU to check: torch")
    assert "--device cpu" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--variants", "huge"], "no variant huge; there are: xclip-base-patch32"),
        (["--timed", "huge"], "no variant huge"),
        (["--clips", "nowhere.mp4"], "there is no file nowhere.mp4"),
        (["--parts", "all"], "invalid choice: 'all'"),
    ],
)
def test_a_mistake_on_the_command_line_is_told_at_once(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
