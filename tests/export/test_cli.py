"""The three commands: what they make, and one line for every mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from export.bundle import Bundle, open_bundle
from export.cli import main
from model.checkpoint import Checkpoint, save_checkpoint

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network as a native checkpoint."""
    path = tmp_path_factory.mktemp("checkpoints") / "tiny"
    save_checkpoint(
        tiny_checkpoint.net,
        path,
        tokenizer=tiny_checkpoint.tokenizer,
        name="tiny",
        source="made by a test",
        trained=False,
    )
    return path


def failure(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> str:
    """The one line that a failing command says last; anything before it is progress."""
    try:
        status = main([str(a) for a in argv])
    except SystemExit as end:
        status = int(end.code or 0)
    lines = capsys.readouterr().err.strip().splitlines()
    assert status != 0
    assert [line.startswith("export: ") for line in lines].count(True) == 1
    assert lines[-1].startswith("export: ")
    return lines[-1]


def test_a_bundle_on_given_clips_with_labels(
    folder: Path,
    label_file: Path,
    tiny_bundle: Bundle,
    videos: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "bundle"
    arguments = [str(folder), "--output", str(output), "--labels", str(label_file), "--clips"]
    assert main([*arguments, *(str(path) for path in videos.values())]) == 0
    printed = capsys.readouterr().out
    assert "clips (given): apply_eye_makeup.avi, arm_wrestling.mp4" in printed
    bundle = open_bundle(output)
    assert f"sha256:{bundle.hash}" in printed
    manifest = bundle.manifest
    assert (manifest.name, manifest.source, manifest.trained) == ("tiny", "made by a test", False)
    assert manifest.warnings == ("untrained weights: the ranking is arbitrary",)
    assert manifest.labels["three"].count == 3
    assert manifest.logit_scale == pytest.approx(99.484, abs=1e-3)
    measured = {parity.runtime: parity for parity in manifest.precisions[0].parity}
    for parity in measured.values():
        assert parity.passed
        assert parity.clip_source == "given"
        assert parity.max_logit_error <= 1e-3
    assert "onnxruntime-cpu" in measured
    # The same checkpoint always gives the same files.
    for name in ("video_encoder.onnx", "text_encoder.onnx", "score_head.onnx", "tokenizer.json"):
        assert manifest.files[name] == tiny_bundle.manifest.files[name]


def test_verify_passes_on_its_own_checkpoint_and_fails_on_another(
    folder: Path,
    tiny_bundle: Bundle,
    tiny_checkpoint: Checkpoint,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["verify", str(tiny_bundle.path), str(folder)]) == 0
    assert "same order: passed" in capsys.readouterr().out
    state = {name: value.clone() for name, value in tiny_checkpoint.net.state_dict().items()}
    try:
        with_other_weights = tiny_checkpoint.net
        for name, parameter in with_other_weights.named_parameters():
            if "mit" in name:
                parameter.data.mul_(1.05)
        save_checkpoint(with_other_weights, tmp_path / "other", tokenizer=tiny_checkpoint.tokenizer)
    finally:
        tiny_checkpoint.net.load_state_dict(state)
    assert main(["verify", str(tiny_bundle.path), str(tmp_path / "other")]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_inspect_shows_what_is_inside(
    tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["inspect", str(tiny_bundle.path)]) == 0
    printed = capsys.readouterr().out
    for fact in (tiny_bundle.hash, "video_encoder.onnx", "int8", "(B, 4, 32, 32, 3)", "three"):
        assert fact in printed


def test_mistakes_are_one_line_each(
    folder: Path, tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--output", str(tmp_path / "new")]
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    assert "--output" in failure(capsys, folder)
    assert "fp64" in failure(capsys, folder, *out, "--precision", "fp64")
    assert "--overwrite" in failure(capsys, folder, "--output", tiny_bundle.path)
    assert "none.csv" in failure(capsys, folder, *out, "--labels", "none.csv")
    assert "none.mp4" in failure(capsys, folder, *out, "--clips", "none.mp4")
    assert "text.mp4" in failure(capsys, folder, *out, "--clips", text)
    assert "checkpoint" in failure(capsys, tmp_path, *out)
    assert "bundle.json" in failure(capsys, "inspect", tmp_path)
    assert "BUNDLE" in failure(capsys, "inspect")
    assert "tensorrt" in failure(capsys, folder, *out, "--tensorrt").lower()
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("traced_before")
def test_what_is_too_far_is_refused_or_forced_and_recorded(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from export import limits

    strict = limits.Allowed(logit_error=1e-6, cosine=0.999999)
    monkeypatch.setitem(limits.LIMITS, "int8", strict)
    output = tmp_path / "bundle"
    command: list[str | Path] = [folder, "--output", output, "--precision", "int8", "fp32"]
    message = failure(capsys, *command)
    assert "int8 is too far from torch" in message
    assert "--force" in message
    assert not output.exists()
    assert main([*map(str, command), "--force"]) == 0
    manifest = open_bundle(output).manifest
    assert manifest.default_precision == "int8"
    assert manifest.precisions[0].parity[0].forced
    assert not manifest.precisions[0].parity[0].passed
    assert any("further from torch than its limit" in warning for warning in manifest.warnings)


@pytest.mark.parametrize("argv", [["--help"], ["verify", "--help"], ["inspect", "--help"]])
def test_help_answers_without_torch(argv: list[str]) -> None:
    code = (
        "import sys\nfrom export.cli import main\n"
        f"try: main({argv!r})\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "usage: python -m export" in run.stdout


def test_manifest_is_plain_json(tiny_bundle: Bundle) -> None:
    content = json.loads((tiny_bundle.path / "bundle.json").read_text())
    assert content["format_version"] == 1
    assert content["graphs"]["video_encoder"]["inputs"][0]["shape"] == ["B", 4, 32, 32, 3]
