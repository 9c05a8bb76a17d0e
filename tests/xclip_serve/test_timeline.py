"""A video over its length: in process, over HTTP, plain and asynchronous, and by the command."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import av
import httpx
import pytest

from service.api.form_fields import form_names
from service.contract.timeline import EndLine, FactsLine, Timeline, TimelineBody, WindowLine
from tests.conftest import ROOT, there_and_back
from tests.service.conftest import RunningServer
from tests.xclip_serve.conftest import CLIP, LABELS
from xclip_serve import AsyncClient, Classifier, ClassifyError, Client
from xclip_serve.question import TimelineOptions
from xclip_serve.timelines import LineReader, timeline_of
from xclip_serve.verbs.timeline import main

LEFT, RIGHT = LABELS


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return there_and_back(tmp_path_factory.mktemp("film") / "film.mp4")


@pytest.fixture(scope="module")
def half_s(film: Path) -> float:
    with av.open(str(film)) as container:
        assert container.duration is not None
        return container.duration / av.time_base / 2


def plain(answer: Timeline) -> dict[str, Any]:
    return answer.model_dump(exclude={"timing_ms"})


def asked_async(server: RunningServer, video: Path, **options: Any) -> Timeline:
    async def ask() -> Timeline:
        async with AsyncClient(server.base_url) as client:
            return await client.timeline(video, LABELS, **options)

    return asyncio.run(ask())


def test_every_way_to_ask_gives_the_same(
    server: RunningServer, classifier: Classifier, film: Path, half_s: float
) -> None:
    options: dict[str, Any] = {"window_s": half_s, "stride_s": half_s / 4}
    here = classifier.timeline(film, LABELS, **options)
    with Client(server.base_url) as client:
        there = client.timeline(film, LABELS, **options)
    assert plain(here) == plain(there) == plain(asked_async(server, film, **options))
    best = [window.predictions[0].label for window in here.windows]
    assert (best[0], best[-1]) == (LEFT, RIGHT)
    assert {segment.label for segment in here.segments} == {LEFT, RIGHT}
    assert here.segments[0].end_s == pytest.approx(half_s, abs=half_s / 4)
    unsure = classifier.timeline(film, LABELS, open_set=True, **options)
    for window in unsure.windows:
        shares = [p.probability for p in window.predictions if p.probability is not None]
        assert window.none_of_these == pytest.approx(1 - sum(shares))


def test_lines_come_one_by_one(classifier: Classifier, film: Path, half_s: float) -> None:
    first, *windows, last = classifier.timeline_lines(
        film, LABELS, window_s=half_s, stride_s=half_s / 4, top_k=1
    )
    assert isinstance(first, FactsLine)
    assert isinstance(last, EndLine)
    assert first.windows == len(windows)
    for window in windows:
        assert isinstance(window, WindowLine)
        (prediction,) = window.predictions
        alone = classifier.classify(film, LABELS, start=window.start_s, end=window.end_s)
        assert prediction.logit == pytest.approx(alone.predictions[0].logit, abs=1e-5)
    assert (last.segments[0].label, last.segments[0].start_s) == (LEFT, 0)
    assert last.segments[-1].label == RIGHT
    assert last.segments[-1].start_s == pytest.approx(half_s, abs=half_s / 4)


def test_whoever_stops_reading_ends_the_work(classifier: Classifier, film: Path) -> None:
    lines = classifier.timeline_lines(film, LABELS, window_s=0.5, stride_s=0.1)
    assert isinstance(next(lines), FactsLine)
    lines.close()  # type: ignore[attr-defined]
    assert classifier.classify(CLIP, LABELS).predictions[0].label == LEFT


def test_problems_come_as_one_exception(
    server: RunningServer, classifier: Classifier, film: Path
) -> None:
    mistakes: list[tuple[Path, dict[str, Any], str]] = [
        (ROOT / "README.md", {}, "not_a_video"),
        (film, {"window_s": -1}, "bad_field"),
        (film, {"stride_s": 0}, "bad_field"),
    ]
    with Client(server.base_url) as client:
        for video, options, code in mistakes:
            for ask in (classifier, client):
                with pytest.raises(ClassifyError) as raised:
                    ask.timeline(video, LABELS, **options)
                assert raised.value.code == code
        with pytest.raises(TypeError, match="there is no option 'window'"):
            client.timeline(film, LABELS, window=1)  # type: ignore[call-arg]


def test_an_answer_that_breaks_off_is_none() -> None:
    reader = LineReader()
    problem = (
        b'{"kind":"problem","type":"about:blank","title":"t","status":504,'
        b'"code":"decode_timeout","detail":"too slow","request_id":"r"}\n'
    )
    assert reader.read(problem[:20]) == []
    with pytest.raises(ClassifyError, match="too slow") as raised:
        reader.read(problem[20:])
    assert (raised.value.code, raised.value.status) == ("decode_timeout", 504)
    with pytest.raises(ClassifyError, match="broke off"):
        timeline_of([])
    with pytest.raises(ClassifyError, match="broke off"):
        LineReader().finish()
    with pytest.raises(ClassifyError, match="none of a timeline"):
        LineReader().read(b"<html>\n")


class Empty(httpx.AsyncBaseTransport, httpx.BaseTransport):
    """Answer with a body that ends before its first line."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.waits.append(request.extensions["timeout"]["read"])
        return httpx.Response(200)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.handle_request(request)


def test_clients_wait_for_a_place_and_say_that_an_answer_broke_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nobody, empty = "http://127.0.0.1:9", Empty()
    monkeypatch.setattr(Client, "_make", partial(httpx.Client, transport=empty))
    monkeypatch.setattr(AsyncClient, "_make", partial(httpx.AsyncClient, transport=empty))

    async def ask() -> None:
        async with AsyncClient(nobody) as client:
            async for _ in client.timeline_lines(CLIP, LABELS):
                pass

    with Client(nobody) as client, pytest.raises(ClassifyError, match="broke off"):
        list(client.timeline_lines(CLIP, LABELS))
    with pytest.raises(ClassifyError, match="broke off"):
        asyncio.run(ask())
    with Client(nobody, timeout_s=5) as client, pytest.raises(ClassifyError):
        client.timeline(CLIP, LABELS)
    with Client(nobody) as client, pytest.raises(ClassifyError):
        client.classify(CLIP, LABELS)
    assert empty.waits == [620, 620, 5, 120]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "xclip_serve", "timeline", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def asked(server: RunningServer, film: Path, half_s: float) -> list[object]:
    """Arguments that ask the server: it starts once for all."""
    cut = ["--window", half_s, "--stride", half_s / 4]
    return [film, *LABELS, *cut, "--server", server.base_url]


def segments_of(answer: dict[str, Any]) -> list[tuple[float, float, str]]:
    return [(s["start_s"], s["end_s"], s["label"]) for s in answer["segments"]]


def test_the_command_writes_what_is_asked_for(asked: list[object], tmp_path: Path) -> None:
    for suffix in ("json", "ndjson", "csv", "srt", "vtt"):
        done = run(*asked, "--output", tmp_path / f"out.{suffix}")
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
    answer = json.loads((tmp_path / "out.json").read_text())
    expected = segments_of(answer)
    assert expected[0][2] == LEFT
    lines = [json.loads(line) for line in (tmp_path / "out.ndjson").read_text().splitlines()]
    kinds = ["facts", *["window"] * len(answer["windows"]), "end"]
    assert [line["kind"] for line in lines] == kinds
    assert segments_of(lines[-1]) == expected
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = [(float(r["start_s"]), float(r["end_s"]), r["label"]) for r in csv.DictReader(file)]
    assert rows == expected
    for subtitles in ("srt", "vtt"):
        assert LEFT in (tmp_path / f"out.{subtitles}").read_text()


def test_a_refusal_leaves_the_lines_of_an_earlier_run(asked: list[object], tmp_path: Path) -> None:
    (tmp_path / "out.ndjson").write_text("earlier")
    done = run(*asked, "--output", tmp_path / "out.ndjson", "--window", -1)
    assert done.returncode == 2, done.stderr
    assert (tmp_path / "out.ndjson").read_text() == "earlier"


def test_the_command_prints_segments(asked: list[object]) -> None:
    answer = json.loads(run(*asked, "--json").stdout)
    rows = [line.split("\t") for line in run(*asked).stdout.splitlines()]
    assert [(float(a), float(b), label) for a, b, _, label in rows] == segments_of(answer)


def test_a_table_of_labels_may_say_what_is_read(
    server: RunningServer, film: Path, tmp_path: Path
) -> None:
    (tmp_path / "labels.csv").write_text(f"id,name,text\n0,to the left,{LEFT}\n1,back,{RIGHT}\n")
    done = run(film, "--labels", tmp_path / "labels.csv", "--server", server.base_url, "--json")
    answer = json.loads(done.stdout)
    assert {p["label"] for p in answer["windows"][0]["predictions"]} == {"to the left", "back"}
    assert {s["label"] for s in answer["segments"]} <= {"to the left", "back"}
    assert answer["segments"]


def on_a_terminal(*arguments: object) -> Iterator[bytes]:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "xclip_serve", "timeline", *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdout=theirs, stderr=subprocess.PIPE) as process:
        os.close(theirs)
        while True:
            try:
                yield os.read(ours, 4096)
            except OSError:  # the other side is closed
                break
    os.close(ours)
    assert process.returncode == 0


def test_a_terminal_gets_bars(asked: list[object]) -> None:
    shown = b"".join(on_a_terminal(*asked)).decode()
    assert "0:00:00.0 – 0:00:" in shown
    assert "█" in shown
    assert LEFT in shown


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["README.md", "a", "b"], 3, "not a video"),
        (["none.mp4", "a", "b"], 2, "none.mp4: No such file"),
        (["docs", "a", "b"], 2, "docs: Is a directory"),
        ([CLIP], 2, "there is no label"),
        ([CLIP, "a", "--window", "0"], 2, "--window must be"),
        ([CLIP, "a", "--stride", "-1"], 2, "--stride must be"),
        ([CLIP, "a", "--start", "2", "--end", "1"], 2, "must be after start"),
    ],
)
def test_mistakes_are_told_in_a_line(
    server: RunningServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[object],
    status: int,
    told: str,
) -> None:
    monkeypatch.chdir(ROOT)
    assert main([*map(str, arguments), "--server", server.base_url]) == status
    printed = capsys.readouterr()
    assert told in printed.err
    assert printed.err.count("\n") == 1


def test_the_python_of_the_page() -> None:
    """That of docs/timeline.md."""
    (code,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "timeline.md").read_text(), re.M | re.S
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].endswith(LEFT)


def test_options_are_the_fields_of_the_api() -> None:
    names = {"labels", "views", "video_id", "video_url"} | TimelineOptions.__annotations__.keys()
    assert names == form_names(TimelineBody)


def test_an_output_that_is_no_format(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(CLIP), "a", "--output", "out.mp4"])
    assert ended.value.code == 2
    assert "must end in .json, .ndjson, .csv, .srt, .vtt" in capsys.readouterr().err
