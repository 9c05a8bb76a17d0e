"""Ask a running server from plain code."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Self, TypeVar, Unpack
from urllib.parse import quote

import httpx
import numpy as np
from numpy.typing import NDArray

from service.contract.answer import Classification, StoredVideo
from service.contract.embeddings import Embeddings
from service.contract.timeline import Timeline
from xclip_serve.errors import ClassifyError
from xclip_serve.exchange import (
    CLASSIFY,
    EMBEDDINGS,
    LINES,
    NO_HEADERS,
    TIMELINE,
    VIDEOS,
    Answer,
    Remote,
    pause_s,
    read,
    refusal,
    request,
    unreachable,
)
from xclip_serve.many import Answered, as_they_come
from xclip_serve.question import (
    Options,
    OptionsAndSource,
    Question,
    TimelineOptionsAndUrl,
    Video,
    question,
)
from xclip_serve.timelines import LineReader, TimelineLine, timeline_of
from xclip_serve.vectors import ClipVector, arrays, clip_question, clip_vector, text_questions

AT_ONCE = 8

V = TypeVar("V", bound=Video)


class Client(Remote[httpx.Client]):
    """A server, asked from plain code; may be used by several threads.

    Args:
        url: Address of the server, such as http://127.0.0.1:8000, with its prefix if it has one.
        api_key: Where the server asks for one.
        retries: How often to ask again where the server is busy and says when.
        timeout_s: Seconds without a byte, sent or received, after which to give up; unless given,
            120, and 620 for a byte of a timeline.
    """

    _make = httpx.Client

    def classify(
        self,
        video: Video | None = None,
        labels: Sequence[str] = (),
        **options: Unpack[OptionsAndSource],
    ) -> Classification:
        """Rank labels for a clip.

        Args:
            video: Path of a file, its bytes, or a binary stream.
            labels: What may be seen; each a word or a phrase.
            **options: See `xclip_serve.question.Options`; in place of `video`, `video_id` of an
                earlier answer or `video_url`, an address that the server may fetch.

        Returns:
            The answer, best label first.

        Raises:
            ClassifyError: Why there is none.
            OSError: The file cannot be read.
        """
        return self._ask(CLASSIFY, video, question(labels, options), Classification)

    def classify_many(
        self,
        videos: Iterable[V],
        labels: Sequence[str] = (),
        *,
        at_once: int = AT_ONCE,
        **options: Unpack[Options],
    ) -> Iterator[Answered[V]]:
        """Ask the same about many clips, `at_once` at a time; answers come as they are there.

        Yields:
            Each clip with its answer, or with the ClassifyError that it got instead.
        """
        with ThreadPoolExecutor(at_once, thread_name_prefix="asking") as threads:
            yield from as_they_come(
                videos,
                lambda video: threads.submit(self.classify, video, labels, **options),
                at_once,
            )

    def encode(
        self, video: Video | None = None, **options: Unpack[OptionsAndSource]
    ) -> StoredVideo:
        """Have a clip encoded and held, to be asked about by its `video_id` as often as wanted.

        Args:
            video: As for `classify`.
            **options: `start`, `end`, `views`, `frame_rule`; in place of the clip `video_url`.

        Returns:
            The `video_id`, and the facts of the clip.

        Raises:
            ClassifyError: Why it cannot be had.
            OSError: The file cannot be read.
        """
        return self._ask(VIDEOS, video, question((), options), StoredVideo)

    def forget(self, video_id: str) -> None:
        """Have nothing of a clip be held any more; right also where nothing is.

        Raises:
            ClassifyError: It may still be held, or this client may not ask.
        """
        with self._answered(f"{VIDEOS}/{quote(video_id, safe='')}", None, None) as response:
            response.read()
            if not response.is_success:
                raise refusal(response)

    def timeline(
        self,
        video: Video | None = None,
        labels: Sequence[str] = (),
        **options: Unpack[TimelineOptionsAndUrl],
    ) -> Timeline:
        """Say which labels hold when in a video.

        Args:
            video: As for `classify`.
            labels: What may be seen.
            **options: See `xclip_serve.question.TimelineOptions`; in place of `video`, `video_url`.

        Returns:
            The windows with their best labels, and the segments that they make.

        Raises:
            ClassifyError: Why there is none.
            OSError: The file cannot be read.
        """
        return timeline_of(self.timeline_lines(video, labels, **options))

    def timeline_lines(
        self,
        video: Video | None = None,
        labels: Sequence[str] = (),
        **options: Unpack[TimelineOptionsAndUrl],
    ) -> Iterator[TimelineLine]:
        """Do that line by line: facts, each window as soon as it is done, the end with segments.

        Whoever stops reading ends the work. Raises as `timeline` does, also between two lines.
        """
        asked = question(labels, options, TimelineOptionsAndUrl)
        with self._answered(TIMELINE, video, asked, LINES) as response:
            if not response.is_success:
                response.read()
                raise refusal(response)
            lines = LineReader()
            for piece in response.iter_bytes():
                yield from lines.read(piece)
            lines.finish()

    def embed(
        self,
        video: Video | None = None,
        *,
        normalize: bool = True,
        **options: Unpack[OptionsAndSource],
    ) -> ClipVector:
        """Return the vector of a clip, to be compared with those of texts by cosine.

        Args:
            video: As for `classify`.
            normalize: Scale it to length 1.
            **options: `start`, `end`, `views`, `frame_rule`; in place of the clip `video_id` or
                `video_url`.

        Raises:
            ClassifyError: Why there is none.
            OSError: The file cannot be read.
        """
        asked = clip_question(options, normalize=normalize)
        return clip_vector(self._ask(EMBEDDINGS, video, asked, Embeddings))

    def embed_many(
        self,
        videos: Iterable[V],
        *,
        at_once: int = AT_ONCE,
        normalize: bool = True,
        **options: Unpack[Options],
    ) -> Iterator[tuple[V, ClipVector | ClassifyError]]:
        """Do that for many clips, `at_once` at a time; vectors come as they are there."""

        def embed(video: V) -> ClipVector:
            return self.embed(video, normalize=normalize, **options)

        with ThreadPoolExecutor(at_once, thread_name_prefix="asking") as threads:
            yield from as_they_come(videos, lambda video: threads.submit(embed, video), at_once)

    def embed_texts(
        self,
        texts: Sequence[str],
        *,
        template: str | Sequence[str] | None = None,
        normalize: bool = True,
    ) -> NDArray[np.float32]:
        """Return the vectors of K texts, float32 (K,D). ClassifyError where one is no text."""
        asked = text_questions(texts, template, normalize=normalize)
        return arrays([self._ask(EMBEDDINGS, None, one, Embeddings) for one in asked])

    def _ask(self, path: str, video: Video | None, asked: Question, kind: type[Answer]) -> Answer:
        with self._answered(path, video, asked) as response:
            response.read()
            return read(response, kind)

    @contextmanager
    def _answered(
        self,
        path: str,
        video: Video | None,
        asked: Question | None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> Iterator[httpx.Response]:
        """Ask until the server is not busy; the body of the answer is still to be read."""
        with request(video, asked) as sent:
            for attempt in range(self._retries + 1):
                message = self._message(sent, path, headers)
                try:
                    response = self._http.send(message, stream=True)
                    try:
                        wait_s = pause_s(response, sent, attempt, self._retries)
                        if wait_s < 0:
                            yield response
                            return
                    finally:
                        response.close()
                except httpx.TransportError as error:
                    raise unreachable(self._http.base_url, error) from error
                time.sleep(wait_s)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
