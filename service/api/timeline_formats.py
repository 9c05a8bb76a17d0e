"""The segments of a timeline as tables and subtitles: CSV, SubRip (SRT) and WebVTT."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from service.contract.timeline import TimelineSegment

COLUMNS = ("start_s", "end_s", "score", "label")
# SubRip has no way to escape, and players take these for markup, unless something is between that
# joins words without being seen.
MARKUP = re.compile(r"[<{&\\](?=\S)|--(?=>)")
UNSEEN = "\u2060"


@dataclass(frozen=True)
class TimelineFormat:
    """A way to write segments.

    Attributes:
        media_type: What HTTP calls it.
        write: Makes the text.
    """

    media_type: str
    write: Callable[[Iterable[TimelineSegment]], str]


def write_csv(segments: Iterable[TimelineSegment]) -> str:
    """Return a table with a head, a segment a row; times in seconds."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    rows.writerows((f"{s.start_s:.3f}", f"{s.end_s:.3f}", s.score, s.label) for s in segments)
    return text.getvalue()


def write_srt(segments: Iterable[TimelineSegment]) -> str:
    """Return subtitles that show each label for as long as its segment lasts."""
    return "\n".join(
        f"{number}\n{_span(segment, ',')}\n{_srt_text(segment.label)}\n"
        for number, segment in enumerate(segments, start=1)
    )


def write_vtt(segments: Iterable[TimelineSegment]) -> str:
    """Return the same for browsers: a `track` of a `video`."""
    cues = (f"\n{_span(segment, '.')}\n{_vtt_text(segment.label)}\n" for segment in segments)
    return "".join(["WEBVTT\n", *cues])


FORMATS: Mapping[str, TimelineFormat] = {
    "csv": TimelineFormat("text/csv", write_csv),
    "srt": TimelineFormat("application/x-subrip", write_srt),
    "vtt": TimelineFormat("text/vtt", write_vtt),
}


def _span(segment: TimelineSegment, point: str) -> str:
    return f"{_clock(segment.start_s, point)} --> {_clock(segment.end_s, point)}"


def _clock(seconds: float, point: str) -> str:
    whole, thousandths = divmod(round(1000 * seconds), 1000)
    minutes, second = divmod(whole, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02}:{minute:02}:{second:02}{point}{thousandths:03}"


def _srt_text(label: str) -> str:
    return MARKUP.sub(lambda mark: mark[0] + UNSEEN, _one_line(label))


def _vtt_text(label: str) -> str:
    return _one_line(label).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _one_line(label: str) -> str:
    """Return a label without line breaks: an empty line would end what is shown."""
    return " ".join(label.split())
