"""What is written of segments is read back: by csv, by FFmpeg, by a reader of WebVTT."""

from __future__ import annotations

import csv
import html
import io
import re

import av
import pytest
from av.subtitles.subtitle import AssSubtitle

from service.api.timeline_formats import FORMATS, UNSEEN, write_csv, write_srt, write_vtt
from service.contract.timeline import TimelineSegment

LABELS = [
    "juggling",
    "a, b; \"c\" 'd'",
    "x --> y",
    "<b>bold</b> & <i>",
    "&lt;amp&amp;",
    "{\\an8}up",
    "מישהו רוקד",
    "رجل يركض",
    "👩‍👩‍👧 dancing 🕺🏽",
    "00:00:01.000 --> 00:00:02.000",
    "NOTE this",
    "12",
    "=1+1",
]


def segment(label: str, start_s: float, end_s: float, score: float = 0.5) -> TimelineSegment:
    return TimelineSegment(label=label, index=0, start_s=start_s, end_s=end_s, score=score)


SEGMENTS = [segment(label, 1.5 * i, 1.5 * i + 1.25) for i, label in enumerate(LABELS)]
CUE = re.compile(
    r"(?:(\d{2,}):)?(\d\d):(\d\d)\.(\d{3}) --> (?:(\d{2,}):)?(\d\d):(\d\d)\.(\d{3})\n(.*)"
)


def read_vtt(text: str) -> list[tuple[float, float, str]]:
    """Read WebVTT by its grammar: blocks between empty lines, times, a line of escaped text."""
    head, *cues = text.rstrip("\n").split("\n\n")
    assert head == "WEBVTT"
    read = []
    for cue in cues:
        match = CUE.fullmatch(cue)
        assert match is not None, cue
        assert not re.search(r"[<>]|&(?!amp;|lt;|gt;)", match[9])
        numbers = [int(match[i] or 0) for i in range(1, 9)]
        start_s, end_s = (
            3600 * h + 60 * m + s + ms / 1000 for h, m, s, ms in (numbers[:4], numbers[4:])
        )
        read.append((start_s, end_s, html.unescape(match[9])))
    return read


def read_by_ffmpeg(text: str, kind: str) -> list[tuple[float, float, str]]:
    """Read subtitles as players that stand on FFmpeg do, which looks for markup in the text."""
    read = []
    with av.open(io.BytesIO(text.encode()), "r", format=kind) as file:
        for packet in file.demux(file.streams.subtitles[0]):
            for subtitle in packet.decode() if packet.size else ():
                assert isinstance(subtitle, AssSubtitle)
                assert packet.pts is not None
                assert packet.duration is not None
                assert packet.time_base is not None
                start_s, length_s = (
                    float(t * packet.time_base) for t in (packet.pts, packet.duration)
                )
                # the raw event: its text comes after eight commas
                said = subtitle.ass.decode().split(",", 8)[8]
                read.append((start_s, start_s + length_s, said))
    return read


def expected(labels: list[str] = LABELS) -> list[tuple[float, float, str]]:
    return [(s.start_s, s.end_s, label) for s, label in zip(SEGMENTS, labels, strict=True)]


def test_csv_is_read_back() -> None:
    rows = list(csv.DictReader(io.StringIO(write_csv(SEGMENTS), newline="")))
    assert [(float(r["start_s"]), float(r["end_s"]), r["label"]) for r in rows] == expected()
    assert {float(r["score"]) for r in rows} == {0.5}


def test_vtt_is_read_back() -> None:
    assert read_vtt(write_vtt(SEGMENTS)) == expected()


def test_srt_is_read_back() -> None:
    text = write_srt(SEGMENTS)
    numbers = [block.split("\n")[0] for block in text.split("\n\n")]
    assert numbers == [str(i) for i in range(1, len(SEGMENTS) + 1)]
    assert text.count("-->") == len(SEGMENTS)
    read = read_by_ffmpeg(text, "srt")
    shown = [(a, b, said.replace(UNSEEN, "").replace("\\{", "{")) for a, b, said in read]
    assert shown == expected()


def test_ffmpeg_reads_vtt() -> None:
    times = [
        (start_s, end_s) for start_s, end_s, _ in read_by_ffmpeg(write_vtt(SEGMENTS), "webvtt")
    ]
    assert times == [(start_s, end_s) for start_s, end_s, _ in expected()]


def test_a_label_of_several_lines_is_one_line_of_a_subtitle() -> None:
    """A table holds it as it is."""
    lines = [segment("one\n\n2\n00:00 --> 00:01\nthree", 0, 1)]
    assert read_vtt(write_vtt(lines)) == [(0, 1, "one 2 00:00 --> 00:01 three")]
    assert len(read_by_ffmpeg(write_srt(lines), "srt")) == 1
    (row,) = csv.DictReader(io.StringIO(write_csv(lines), newline=""))
    assert row["label"] == lines[0].label


@pytest.mark.parametrize(
    ("seconds", "clock"),
    [
        (0, "00:00:00.000"),
        (59.9996, "00:01:00.000"),
        (3599.999, "00:59:59.999"),
        (3600, "01:00:00.000"),
        (86_399.5, "23:59:59.500"),
        (360_000.25, "100:00:00.250"),
    ],
)
def test_times(seconds: float, clock: str) -> None:
    lines = [segment("a", seconds, seconds + 1)]
    assert f"\n{clock} --> " in write_vtt(lines)
    assert f"\n{clock.replace('.', ',')} --> " in write_srt(lines)
    (_, _, said), *_ = read_vtt(write_vtt(lines))
    assert said == "a"


@pytest.mark.parametrize("name", FORMATS)
def test_no_segment(name: str) -> None:
    assert FORMATS[name].write([]) in ("", "WEBVTT\n", "start_s,end_s,score,label\n")
