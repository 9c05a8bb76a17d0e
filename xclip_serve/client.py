"""Ask a running server, from plain and from asynchronous code.

A question changes nothing on the server, so asking again is safe: it is done where the server says
when (429 and 503 with `Retry-After`), a bounded number of times, and nowhere else.
"""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, BinaryIO, Generic, Self, TypeVar, Unpack

import httpx
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from service.contract.answer import Classification, Problem
from service.contract.embeddings import Embeddings
from xclip_serve.errors import ClassifyError
from xclip_serve.many import Answered, as_they_come, as_they_come_async
from xclip_serve.question import (
    Options,
    OptionsAndSource,
    Question,
    Video,
    form_fields,
    question,
)
from xclip_serve.vectors import ClipVector, arrays, clip_question, clip_vector, text_questions

TIMEOUT_S = 120.0  # of an upload, and of the answer: the server's own limits end before
RETRIES = 5
LONGEST_RETRY_S = 60
AT_ONCE = 8
BUSY = (429, 503)
CLASSIFY, EMBEDDINGS = "v1/classify", "v1/embeddings"

Answer = TypeVar("Answer", bound=BaseModel)
V = TypeVar("V", bound=Video)
Http = TypeVar("Http", httpx.Client, httpx.AsyncClient)


class _Request:
    """One question, which can be sent again if its clip can be read again."""

    def __init__(self, asked: Question, video: BinaryIO | None) -> None:
        self._asked, self._video = asked, video
        self._sent = False

    @property
    def can_be_sent(self) -> bool:
        """Whether the clip is still to be had from its beginning."""
        return not self._sent or self._video is None or self._video.seekable()

    def content(self) -> dict[str, Any]:
        """Return the body as arguments of httpx: JSON, or a form with the clip last."""
        self._sent = True
        if self._video is None:
            return {"json": self._asked}
        # What cannot be read twice has no length either: it is sent in chunks.
        video = self._video if self._video.seekable() else _ReadOnce(self._video)
        parts: dict[str, Any] = {n: (None, text) for n, text in form_fields(self._asked).items()}
        return {"files": {**parts, "video": ("clip", video, "application/octet-stream")}}


class _ReadOnce:
    """A pipe as httpx should see it, which takes the size of its inode for its length."""

    def __init__(self, stream: BinaryIO) -> None:
        self.read = stream.read


@contextmanager
def _request(video: Video | None, asked: Question) -> Iterator[_Request]:
    """Open the clip for as long as the question is asked; a caller's stream stays open."""
    if video is None:
        yield _Request(asked, None)
    elif isinstance(video, bytes):
        yield _Request(asked, io.BytesIO(video))
    elif isinstance(video, str | os.PathLike):
        with open(video, "rb") as file:
            yield _Request(asked, file)
    else:
        yield _Request(asked, video)


def _read(response: httpx.Response, kind: type[Answer]) -> Answer:
    """Return the answer; ClassifyError where it is a problem, or no answer of ours."""
    try:
        if response.is_success:
            return kind.model_validate_json(response.content)
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        raise ClassifyError(
            "unexpected_answer",
            f"{response.url} answered {response.status_code} and no xclip-serve answer; "
            "is this the address of the server?",
            status=response.status_code,
            retry_after_s=_retry_after_s(response),
        ) from None
    raise ClassifyError(
        problem.code,
        problem.detail,
        status=response.status_code,
        retry_after_s=_retry_after_s(response),
        request_id=problem.request_id,
    )


def _retry_after_s(response: httpx.Response) -> int | None:
    text = response.headers.get("Retry-After", "")
    return int(text) if text.isascii() and text.isdecimal() else None


def _pause_s(response: httpx.Response, request: _Request, attempt: int, retries: int) -> int:
    """Return for how long to wait before asking again; -1 for not asking again."""
    wait_s = _retry_after_s(response)
    if response.status_code not in BUSY or wait_s is None or wait_s > LONGEST_RETRY_S:
        return -1
    return wait_s if attempt < retries and request.can_be_sent else -1


def _unreachable(url: httpx.URL, error: httpx.TransportError) -> ClassifyError:
    reason = str(error) or type(error).__name__
    return ClassifyError("unreachable", f"no answer from {url}: {reason}; is the server running?")


class _Remote(Generic[Http]):
    """The connections to a server, and how it is asked."""

    _make: type[Http]

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        retries: int = RETRIES,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._retries = retries
        self._http: Http = self._make(base_url=url, headers=headers, timeout=timeout_s)


class Client(_Remote[httpx.Client]):
    """A server, asked from plain code; may be used by several threads.

    Args:
        url: Address of the server, such as http://127.0.0.1:8000, with its prefix if it has one.
        api_key: Where the server asks for one.
        retries: How often to ask again where the server is busy and says when.
        timeout_s: Seconds without a byte, sent or received, after which to give up.
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
        with _request(video, asked) as request:
            for attempt in range(self._retries + 1):
                try:
                    response = self._http.post(path, **request.content())
                except httpx.TransportError as error:
                    raise _unreachable(self._http.base_url, error) from error
                pause_s = _pause_s(response, request, attempt, self._retries)
                if pause_s < 0:
                    break
                time.sleep(pause_s)
            return _read(response, kind)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(_Remote[httpx.AsyncClient]):
    """A server, asked from asynchronous code. Arguments and answers are those of `Client`."""

    _make = httpx.AsyncClient

    async def classify(
        self,
        video: Video | None = None,
        labels: Sequence[str] = (),
        **options: Unpack[OptionsAndSource],
    ) -> Classification:
        """Rank labels for a clip; see `Client.classify`."""
        return await self._ask(CLASSIFY, video, question(labels, options), Classification)

    async def embed(
        self,
        video: Video | None = None,
        *,
        normalize: bool = True,
        **options: Unpack[OptionsAndSource],
    ) -> ClipVector:
        """Return the vector of a clip; see `Client.embed`."""
        asked = clip_question(options, normalize=normalize)
        return clip_vector(await self._ask(EMBEDDINGS, video, asked, Embeddings))

    async def embed_texts(
        self,
        texts: Sequence[str],
        *,
        template: str | Sequence[str] | None = None,
        normalize: bool = True,
    ) -> NDArray[np.float32]:
        """Return the vectors of K texts; see `Client.embed_texts`."""
        asked = text_questions(texts, template, normalize=normalize)
        return arrays([await self._ask(EMBEDDINGS, None, one, Embeddings) for one in asked])

    async def _ask(
        self, path: str, video: Video | None, asked: Question, kind: type[Answer]
    ) -> Answer:
        with _request(video, asked) as request:
            for attempt in range(self._retries + 1):
                try:
                    response = await self._http.post(path, **request.content())
                except httpx.TransportError as error:
                    raise _unreachable(self._http.base_url, error) from error
                pause_s = _pause_s(response, request, attempt, self._retries)
                if pause_s < 0:
                    break
                await asyncio.sleep(pause_s)
            return _read(response, kind)

    async def classify_many(
        self,
        videos: Iterable[V],
        labels: Sequence[str] = (),
        *,
        at_once: int = AT_ONCE,
        **options: Unpack[Options],
    ) -> AsyncIterator[Answered[V]]:
        """Ask the same about many clips; see `Client.classify_many`."""

        async def ask(video: V) -> Classification:
            return await self.classify(video, labels, **options)

        async for answered in as_they_come_async(videos, ask, at_once):
            yield answered

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
