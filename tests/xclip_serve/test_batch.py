"""Tables of many clips: whole rows, nothing twice, whatever ends a run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from service.settings import DEMO_BUNDLE
from tests.service.conftest import running, until
from tests.xclip_serve.sixty_clips import (
    BROKEN,
    COUNT,
    ENVIRONMENT,
    LABELS,
    batch,
    make_clips,
    rows,
    start,
)
from xclip_serve import Client
from xclip_serve.clips import find_clips, shard_of
from xclip_serve.rows import Layout, shown
from xclip_serve.tables import open_table

COLUMNS = Layout().columns


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clips(tmp_path_factory.mktemp("batch"))


@pytest.fixture(scope="module")
def whole(folder: Path) -> dict[str, dict[str, Any]]:
    """The table of one undisturbed run."""
    status, said = batch(folder, "clips", "--output", "whole.csv")
    assert status == 3, said
    assert "60 clips, 1 of them failed" in said
    return rows(folder / "whole.csv")


def test_each_clip_has_a_row_and_a_broken_one_says_why(whole: dict[str, Any]) -> None:
    assert len(whole) == COUNT
    failed = [path for path, row in whole.items() if row["code"]]
    assert failed == [f"clips/{BROKEN}"]
    assert whole[failed[0]]["code"] == "not_a_video"
    assert "not a video" in whole[failed[0]]["error"]
    assert all(
        row["label"] in LABELS and row["score"] > 0 for row in whole.values() if not row["code"]
    )


def test_answers_are_the_servers_to_the_bit(folder: Path, whole: dict[str, Any]) -> None:
    with running() as server:
        with Client(server.base_url) as client:
            for path in sorted(whole)[:5]:
                best = client.classify(folder / path, LABELS, top_k=1).predictions[0]
                row = whole[path]
                assert (best.label, best.score, best.similarity) == (
                    row["label"], row["score"], row["similarity"],
                )  # fmt: skip
        asked = ("clips", "--server", server.base_url, "--jobs", 3, "--output", "asked.jsonl")
        assert batch(folder, *asked)[0] == 3
    assert rows(folder / "asked.jsonl") == whole


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_killed_run_goes_on(folder: Path, whole: dict[str, Any], suffix: str) -> None:
    table = folder / f"killed.{suffix}"
    growing = table.with_name(f"{table.name}.rows") if suffix == "parquet" else table
    arguments = ("clips", "--labels", "labels.txt", "--jobs", 2, "--output", table, "--server")
    with (
        running(rate_limit="20/minute") as server,  # holds the run up half way
        start(folder, *arguments, server.base_url) as run,
    ):
        until(lambda: growing.exists() and growing.read_bytes().count(b"\n") >= 15)
        run.send_signal(signal.SIGKILL)
        run.communicate()
    assert growing.read_bytes().count(b"\n") < COUNT
    status, said = batch(folder, "clips", "--output", table)
    assert status == 3, said
    assert rows(table) == whole
    written = table.read_bytes()
    status, said = batch(folder, "clips", "--output", table)
    assert (status, written) == (3, table.read_bytes())
    assert "nothing was left to do" in said


def test_two_shards_are_the_whole(folder: Path, whole: dict[str, Any]) -> None:
    for part in ("1/2", "2/2"):
        batch(folder, "clips", "--shard", part, "--output", f"shard{part[0]}.parquet")
    first, second = rows(folder / "shard1.parquet"), rows(folder / "shard2.parquet")
    assert first
    assert second
    assert not first.keys() & second.keys()
    assert {**first, **second} == whole


def test_shards_may_share_a_folder(folder: Path, whole: dict[str, dict[str, Any]]) -> None:
    (folder / "parts").mkdir()
    for part in ("1/2", "2/2"):
        assert batch(folder, "clips", "--shard", part, "--output", "parts")[0] in (0, 3)
    assert rows(folder / "parts") == whole
    assert {file.name for file in (folder / "parts").glob("[!p]*")} == {"_question.json"}
    status, said = batch(folder, "clips", "--output", "parts")
    assert status == 3, said
    assert "nothing was left to do" in said


def test_a_finished_parquet_takes_more_clips(folder: Path, whole: dict[str, Any]) -> None:
    assert batch(folder, "clips/deeper", "--output", "more.parquet")[0] == 0
    assert 0 < len(rows(folder / "more.parquet")) < COUNT
    assert batch(folder, "clips", "--output", "more.parquet")[0] == 3
    assert rows(folder / "more.parquet") == whole
    assert not list(folder.glob("more.parquet.rows*"))


def test_several_labels_in_a_row(folder: Path) -> None:
    assert batch(folder, "clips/01.mp4", "--top-k", 5, "--output", "top.jsonl")[0] == 0
    (row,) = rows(folder / "top.jsonl").values()
    assert {row["label"], row["label_2"], row["label_3"]} == set(LABELS)
    assert row["score"] >= row["score_2"] >= row["score_3"]
    assert row["label_4"] is None


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_every_score_may_have_a_column(folder: Path, whole: dict[str, Any], suffix: str) -> None:
    table = folder / f"scores.{suffix}"
    assert batch(folder, "clips/01.mp4", "--scores", "all", "--output", table)[0] == 0
    (row,) = rows(table).values()
    scores = [float(row[f"score: {label}"]) for label in LABELS]
    assert sum(scores) == pytest.approx(1)
    assert max(scores) == row["score"] == whole["clips/01.mp4"]["score"]


def test_a_server_that_refuses_everything_ends_the_run(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "out.csv"
    with running(rate_limit="5/hour") as server:
        status, said = batch(
            folder, "clips", "--server", server.base_url, "--jobs", 1, "--output", table
        )
    assert status == 2
    assert "run the command again" in said
    assert len(rows(table)) == 5
    doubled = ("--label", "a red  Circle moving left")
    status, said = batch(folder, "clips", *doubled, "--output", tmp_path / "other.csv")
    assert status == 2
    assert "same" in said


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["none", "--output", "x.csv"], "there is no file or folder none"),
        (["none/*.mp4", "--output", "x.csv"], "no file matches"),
        (["clips", "--output", "x.txt"], "must end with .csv, .jsonl, .parquet"),
        (["clips", "--output", "none/x.csv"], "name a file in a folder that exists"),
        (["clips", "--output", "other.csv"], "is another table"),
        (["clips", "--output", "other.jsonl"], "is another table"),
        (["clips", "--output", "x.csv", "--shard", "3/2"], "must be I/N"),
        (["other.csv", "--output", "x.csv"], "no column path"),
        (["clips", "--output", "x.csv", "--server", "http://127.0.0.1:9"], "is the server running"),
    ],
)
def test_mistakes_are_told_in_a_line(folder: Path, arguments: list[str], told: str) -> None:
    for suffix in ("csv", "jsonl"):
        (folder / f"other.{suffix}").write_text("mine, not yours")
    status, said = batch(folder, *arguments)
    assert status == 2
    assert told in said
    assert said.count("\n") == 1
    assert (folder / "other.csv").read_text() == "mine, not yours"


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_row_that_is_cut_anywhere_is_written_again(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"t.{suffix}"
    table = open_table(file, COLUMNS)
    written = [{**dict.fromkeys(COLUMNS), "path": name} for name in ("a", 'b,"ü', "c")]
    written[1]["code"] = "not_a_video"
    for row in written:
        table.add(row)
    table.close(complete=True)
    content = file.read_bytes()
    for length in range(len(content) + 1):
        file.write_bytes(content[:length])
        table = open_table(file, COLUMNS)
        assert table.failed == ('b,"ü' in table.done)
        for row in written:
            if row["path"] not in table.done:
                table.add(row)
        table.close(complete=True)
        assert file.read_bytes() == content


def test_a_table_has_one_writer(tmp_path: Path) -> None:
    table = open_table(tmp_path / "t.csv", COLUMNS)
    with pytest.raises(ValueError, match="another run"):
        open_table(tmp_path / "t.csv", COLUMNS)
    table.close(complete=True)


def test_clips_are_found_in_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "b.webm", "sub/c.mp4", "sub/.d.mp4", "sub/e.pdf", "odd.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "list.txt").write_text("a.mp4\n\nsub/c.mp4\n")
    (tmp_path / "sub" / "list.csv").write_text("id,Path\n1,c.mp4\n2,../b.webm\n")
    assert list(find_clips(["."])) == ["a.mp4", "b.webm", "sub/c.mp4"]
    assert list(find_clips(["odd.bin", "./a.mp4", "a.mp4"])) == ["odd.bin", "a.mp4"]
    assert list(find_clips(["**/*.mp4"])) == ["a.mp4", "sub/c.mp4"]
    assert list(find_clips(["list.txt"])) == ["a.mp4", "sub/c.mp4"]
    assert list(find_clips(["sub/list.csv"])) == ["sub/c.mp4", "b.webm"]
    pq.write_table(pq.read_table(parquet_list(tmp_path)), tmp_path / "copy.parquet")
    assert list(find_clips(["copy.parquet"])) == ["sub/c.mp4"]


def parquet_list(folder: Path) -> Path:
    import pyarrow as pa

    file = folder / "list.parquet"
    pq.write_table(pa.table({"video": ["sub/c.mp4", None]}), file)
    return file


def test_a_list_may_come_on_standard_input(folder: Path) -> None:
    command = [sys.executable, "-m", "xclip_serve", "batch", "-", "--labels", "labels.txt"]
    run = subprocess.run(
        [*command, "--output", "stdin.jsonl"], cwd=folder, env=ENVIRONMENT, text=True,
        input="clips/01.mp4\nclips/02.mp4\n", capture_output=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert set(rows(folder / "stdin.jsonl")) == {"clips/01.mp4", "clips/02.mp4"}


def test_a_clip_keeps_its_shard() -> None:
    paths = [f"clips/{i}.mp4" for i in range(1000)]
    shards = [shard_of(path, 4) for path in paths]
    assert {shards.count(shard) > 150 for shard in (1, 2, 3, 4)} == {True}
    assert shard_of("clips/7.mp4", 4) == shards[7]


def test_any_name_of_a_file_fits_in_a_line() -> None:
    assert shown(os.fsdecode(b"a\xff\nb")) == "a\\xff\\nb"
    assert shown("ü.mp4") == "ü.mp4"


def test_an_empty_clip_is_a_row_and_a_wrong_question_is_none(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    status, _ = batch(folder, tmp_path, "clips/01.mp4", "--output", tmp_path / "t.jsonl")
    assert status == 3
    read = rows(tmp_path / "t.jsonl")
    assert read[str(tmp_path / "empty.mp4")]["error"] == "the file is empty"
    assert read["clips/01.mp4"]["label"] in LABELS
    status, said = batch(folder, "clips", "--views", 1000, "--output", tmp_path / "u.jsonl")
    assert status == 2
    assert "views" in said
    assert not rows(tmp_path / "u.jsonl")


def test_labels_with_texts_are_asked_by_these_and_told_by_their_names(
    folder: Path, whole: dict[str, Any], tmp_path: Path
) -> None:
    names = dict(zip(LABELS, ("left", "right", "grows"), strict=True))
    table = tmp_path / "t.csv"
    labels = tmp_path / "labels.csv"
    labels.write_text("name,text\n" + "".join(f"{n},{text}\n" for text, n in names.items()))
    arguments = ("clips/01.mp4", "--scores", "all", "--output", table)
    with start(folder, *arguments, "--labels", labels) as run:
        assert "1 clips" in run.communicate()[1]
    (row,) = rows(table).values()
    expected = whole["clips/01.mp4"]
    assert (row["label"], row["score"]) == (names[expected["label"]], expected["score"])
    assert {float(row[f"score: {name}"]) for name in names.values()} >= {expected["score"]}
    labels.write_text("name\n" + "".join(f"{name}\n" for name in names.values()))
    with start(folder, *arguments, "--labels", labels) as run:
        assert "the question (texts)" in run.communicate()[1]


def test_another_question_or_model_does_not_go_on_with_a_table(
    folder: Path, tmp_path: Path
) -> None:
    table = tmp_path / "t.csv"
    assert batch(folder, "clips/01.mp4", "--output", table)[0] == 0
    before = table.read_bytes()
    other = shutil.copytree(DEMO_BUNDLE, tmp_path / "other")
    manifest = json.loads((other / "bundle.json").read_text())
    (other / "bundle.json").write_text(json.dumps({**manifest, "name": "another"}))
    for changed, told in (
        (("--label", "another label"), "the question (labels)"),
        (("--template", "a video of {}", "--views", 2), "the question (template, views)"),
        (("--model", other), "the network (sha256:"),
    ):
        status, said = batch(folder, "clips/01.mp4", "clips/02.mp4", "--output", table, *changed)
        assert status == 2
        assert told in said
        assert "name another --output" in said
        assert said.count("\n") == 1
        assert table.read_bytes() == before
    assert batch(folder, "clips/01.mp4", "clips/02.mp4", "--output", table)[0] == 0
    assert len(rows(table)) == 2
    table.unlink()  # a new table may answer another question
    assert batch(folder, "clips/01.mp4", "--label", "more", "--output", table)[0] == 0
