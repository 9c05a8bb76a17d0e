"""The command: its verbs, what they load, what they say."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from service.contract.answer import Classification
from tests.conftest import ROOT
from tests.service.conftest import RunningServer
from tests.xclip_serve.conftest import CLIP, LABELS
from xclip_serve.__main__ import VERBS, main
from xclip_serve.labels import Labels

SLOW = {"torch", "transformers", "open_clip", "onnxruntime", "av", "fastapi", "onnx", "pyarrow"}


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "xclip_serve", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **options)  # type: ignore[call-overload]


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {verb} " in printed for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_loads_nothing_slow(verb: str) -> None:
    code = (
        "import contextlib, sys\n"
        "from xclip_serve.__main__ import main\n"
        f"with contextlib.suppress(SystemExit): main([{verb!r}, '--help'])\n"
        "print('LOADED', *{m.split('.')[0] for m in sys.modules})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    help_text, _, loaded = done.stdout.partition("LOADED")
    assert "usage:" in help_text, done.stderr
    assert not SLOW & set(loaded.split())


@pytest.mark.parametrize("verb", VERBS)
def test_programs_are_named_as_they_were_typed(verb: str) -> None:
    helped = run(verb, "--help")
    assert helped.stdout.startswith(f"usage: xclip-serve {verb} ")
    assert "python -m" not in helped.stdout.replace("python -m model.train", "")
    refused = run(verb, "--no-such-option")
    assert refused.returncode in (1, 2)
    assert refused.stderr.startswith(f"xclip-serve {verb}: ")
    assert refused.stderr.count("\n") == 1
    assert "python -m" not in refused.stderr


def test_what_an_error_proposes_is_named_as_it_was_typed() -> None:
    assert "with `xclip-serve export`" in run("inspect", "nowhere").stderr
    done = subprocess.run(
        [sys.executable, "-m", "export", "inspect", "nowhere"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr.startswith(
        "export: nowhere is no folder; name a bundle made with `python -m export`"
    )


def test_a_verb_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clasify"]) == 2
    assert "there are serve, classify" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("package", "extra", "arguments"),
    [
        ("torch", "model", ["convert", "nothing", "--output", "/tmp/none"]),
        ("torch", "export", ["export", "nothing", "--output", "/tmp/none"]),
        ("matplotlib", "cpu,export,train", ["train", "docs"]),
        ("onnx", "cpu,export,train", ["train", "docs"]),
        ("pyarrow", "parquet", ["batch", "docs", "--label", "a", "--output", "/tmp/none.parquet"]),
    ],
)
def test_a_verb_whose_packages_are_missing_says_which_extra(
    package: str, extra: str, arguments: list[str]
) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        f"from xclip_serve.__main__ import main; sys.exit(main({arguments!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"package {package} is not installed" in done.stderr
    assert f"'xclip-serve[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_classify_prints_score_and_label() -> None:
    done = run("classify", CLIP, *LABELS)
    assert done.returncode == 0, done.stderr
    best = done.stdout.splitlines()[0].split("\t")
    assert best[1] == LABELS[0]
    assert float(best[0]) > 0.9


def test_json_is_the_answer_of_the_server(server: RunningServer) -> None:
    here = json.loads(run("classify", CLIP, *LABELS, "--json").stdout)
    there = json.loads(run("classify", CLIP, *LABELS, "--json", "--server", server.base_url).stdout)
    direct = server.classify(CLIP.read_bytes(), labels=LABELS).json()
    assert here.keys() == there.keys() == direct.keys()
    assert here["predictions"] == there["predictions"] == direct["predictions"]
    assert here["video"] == direct["video"]
    assert here["model"] == direct["model"]


def test_a_terminal_gets_bars() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "xclip_serve", "classify", str(CLIP), *LABELS]
    with subprocess.Popen(command, cwd=ROOT, stdout=theirs, stderr=subprocess.PIPE) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # the other side is closed
                break
    os.close(ours)
    assert process.returncode == 0
    assert b"99.1 %" in shown
    assert "█".encode() in shown


def test_labels_come_from_files_and_standard_input_is_a_clip(tmp_path: Path) -> None:
    lines, table = tmp_path / "lines.txt", tmp_path / "table.csv"
    lines.write_text(f"\ufeff{LABELS[0]}\n\n")
    table.write_text(f"id,name\n0,{LABELS[0]}\n1,{LABELS[1]}\n")
    for labels in ([lines, "--label", LABELS[1]], [table]):
        with CLIP.open("rb") as clip:
            done = run("classify", "-", "--labels", *labels, stdin=clip)
        assert done.returncode == 0, done.stderr
        assert [line.split("\t")[1] for line in done.stdout.splitlines()] == LABELS


def test_a_label_may_be_read_in_other_words_than_it_is_called(tmp_path: Path) -> None:
    """Its text is asked and its name answered, wherever an answer says a label."""
    table = tmp_path / "table.csv"
    table.write_text(f"name,text\nleft,{LABELS[0]}\nright,{LABELS[1]}\nup,\n")
    asked = run("classify", CLIP, "--labels", table, "--explain", "--json")
    assert asked.returncode == 0, asked.stderr
    answer = json.loads(asked.stdout)
    direct = json.loads(run("classify", CLIP, *LABELS, "up", "--explain", "--json").stdout)
    called = dict(zip(LABELS, ("left", "right"), strict=True)) | {"up": "up"}
    assert [(p["label"], p["score"], p["index"]) for p in answer["predictions"]] == [
        (called[p["label"]], p["score"], p["index"]) for p in direct["predictions"]
    ]
    assert answer["explanation"]["label"] == "left"
    backwards = direct["explanation"]["reversed"]["label"]
    assert answer["explanation"]["reversed"]["label"] == called[backwards]
    known = Classification.model_validate_json(json.dumps({**direct, "label_set": LABELS}))
    assert Labels(("left", "right"), tuple(LABELS)).named(known).label_set == ("left", "right")


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["README.md", "a", "b"], 3, "not a video"),
        (["none.mp4", "a", "b"], 2, "none.mp4: No such file"),
        (["docs", "a", "b"], 2, "docs: not a regular file"),
        ([CLIP], 2, "there is no label"),
        ([CLIP, "a", "A"], 2, "same"),
        ([CLIP, "a", "--model", "docs"], 2, "no bundle"),
        ([CLIP, "a", "--label-set", "none"], 2, "one or the other"),
        ([CLIP, "--label-set", "none"], 2, "no --label-set 'none'"),
        ([CLIP, "a", "--views", "100"], 2, "views"),
        ([CLIP, "a", "--labels", "none.txt"], 2, "none.txt: No such file"),
        ([CLIP, "a", "--server", "http://127.0.0.1:9"], 2, "is the server running"),
        ([CLIP, "a", "--server", "nonsense"], 2, "nonsense"),
        ([CLIP, "a", "--server", "http://127.0.0.1:9", "--model", "x"], 2, "leave --model"),
        ([CLIP, "a", "--top-k", "0"], 2, "whole number"),
        ([CLIP, "a", "--precision", "fp3"], 2, "fp3"),
    ],
)
def test_mistakes_are_told_in_a_line(arguments: list[object], status: int, told: str) -> None:
    done = run("classify", *arguments)
    assert done.returncode == status
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("xclip-serve classify: ")
    assert not done.stdout


def test_verbs_reach_the_programs() -> None:
    inspected = run("inspect", "service/demo_bundle")
    assert inspected.returncode == 0, inspected.stderr
    assert "shapes-demo" in inspected.stdout
    key = run("keys", "alice")
    assert key.returncode == 0
    assert key.stdout.endswith(" alice\n")
