"""The blocks of docs/client.md and of the README's first screen run as they stand."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.service.conftest import RunningServer
from tests.xclip_serve.conftest import CLIP, LABELS

BLOCK = re.compile(r"^```(sh|python|json)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall((ROOT / page).read_text()) if kind == language]


def commands(page: str) -> list[str]:
    """Lines that call the command; those that install are for a fresh environment."""
    lines = [
        line for block in blocks(page, "sh") for line in re.sub(r"\\\n", "", block).splitlines()
    ]
    return [
        line
        for line in lines
        if line.startswith(("xclip-serve classify", "xclip-serve batch", "xclip-serve timeline"))
    ]


def test_the_python_of_the_page() -> None:
    (code,) = blocks("docs/client.md", "python")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert printed[0].startswith(LABELS[0])
    assert set(printed[1:]) == {f"docs/clip.mp4 {LABELS[0]}", "README.md not_a_video"}


@pytest.mark.parametrize("page", ["README.md", "docs/client.md", "docs/timeline.md"])
def test_the_commands_of_the_page(page: str, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "clips").mkdir()
    for copy in ("docs/clip.mp4", "clips/clip.mp4"):
        (tmp_path / copy).write_bytes(CLIP.read_bytes())
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    named = commands(page)
    assert named
    for command in named:
        words = [sys.executable, "-m", "xclip_serve", *shlex.split(command, comments=True)[1:]]
        done = subprocess.run(
            words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        table = tmp_path / "table.csv"
        assert LABELS[0] in done.stdout or LABELS[0] in table.read_text()


def test_the_question_of_the_readme(server: RunningServer) -> None:
    """Its curl, at the port of a test, gives the answer that stands below it."""
    question = next(block for block in blocks("README.md", "sh") if block.startswith("curl"))
    here = "http://127.0.0.1:8000"
    assert here in question
    done = subprocess.run(
        ["bash", "-e", "-c", question.replace(here, server.base_url)],
        cwd=ROOT, capture_output=True, check=True,
    )  # fmt: skip
    (shown,) = blocks("README.md", "json")
    rows = [json.loads(row) for row in re.findall(r'\{"label".*?\}', shown)]
    answer = json.loads(done.stdout)
    assert f'"name": "{answer["model"]["name"]}"' in shown
    for row, given in zip(rows, answer["predictions"], strict=True):
        assert (given["index"], given["label"]) == (row["index"], row["label"])
        for name, places in (("score", 3), ("logit", 2), ("similarity", 3)):
            assert given[name] == pytest.approx(row[name], abs=10**-places)


def test_the_commands_of_embeddings(server: RunningServer) -> None:
    """Those of docs/embeddings.md: a vector for a clip, and one for each text."""
    command = blocks("docs/embeddings.md", "sh")[0].replace(
        "http://127.0.0.1:8000", server.base_url
    )
    done = subprocess.run(["bash", "-e", "-c", command], cwd=ROOT, capture_output=True, check=True)
    decoder, text = json.JSONDecoder(), done.stdout.decode()
    clip, end = decoder.raw_decode(text)
    texts, _ = decoder.raw_decode(text[end:].lstrip())
    assert [len(answer["data"]) for answer in (clip, texts)] == [1, 2]
