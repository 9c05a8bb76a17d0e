"""Ask a running server from asynchronous code."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
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
from xclip_serve.many import Answered, as_they_come_async
from xclip_serve.question import (
    Options,
    OptionsAndSource,
    Question,
    TimelineOptionsAndUrl,
    Video,
    question,
)
from xclip_serve.storage import fetch, is_address
from xclip_serve.timelines import LineReader, TimelineLine, timeline_of
from xclip_serve.vectors import ClipVector, arrays, clip_question, clip_vector, text_questions

AT_ONCE = 8

V = TypeVar("V", bound=Video)


class AsyncClient(Remote[httpx.AsyncClient]):
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

    async def encode(
        self, video: Video | None = None, **options: Unpack[OptionsAndSource]
    ) -> StoredVideo:
        """Have a clip encoded and held; see `Client.encode`."""
        return await self._ask(VIDEOS, video, question((), options), StoredVideo)

    async def forget(self, video_id: str) -> None:
        """Have nothing of a clip be held any more; see `Client.forget`."""
        async with self._answered(f"{VIDEOS}/{quote(video_id, safe='')}", None, None) as response:
            await response.aread()
            if not response.is_success:
                raise refusal(response)

    async def timeline(
        self,
        video: Video | None = None,
        labels: Sequence[str] = (),
        **options: Unpack[TimelineOptionsAndUrl],
    ) -> Timeline:
        """Say which labels hold when in a video; see `Client.timeline`."""
        lines = self.timeline_lines(video, labels, **options)
        return timeline_of([line async for line in lines])

    async def timeline_lines(
        self,
        video: Video | None = None,
        labels: Sequence[str] = (),
        **options: Unpack[TimelineOptionsAndUrl],
    ) -> AsyncIterator[TimelineLine]:
        """Do that line by line; see `Client.timeline_lines`."""
        asked = question(labels, options, TimelineOptionsAndUrl)
        async with self._answered(TIMELINE, video, asked, LINES) as response:
            if not response.is_success:
                await response.aread()
                raise refusal(response)
            lines = LineReader()
            async for piece in response.aiter_bytes():
                for line in lines.read(piece):
                    yield line
            lines.finish()

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

    async def embed_many(
        self,
        videos: Iterable[V],
        *,
        at_once: int = AT_ONCE,
        normalize: bool = True,
        **options: Unpack[Options],
    ) -> AsyncIterator[tuple[V, ClipVector | ClassifyError]]:
        """Do that for many clips; see `Client.embed_many`."""

        async def embed(video: V) -> ClipVector:
            return await self.embed(video, normalize=normalize, **options)

        async for answered in as_they_come_async(videos, embed, at_once):
            yield answered

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
        async with self._answered(path, video, asked) as response:
            await response.aread()
            return read(response, kind)

    @asynccontextmanager
    async def _answered(
        self,
        path: str,
        video: Video | None,
        asked: Question | None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> AsyncIterator[httpx.Response]:
        """Ask until the server is not busy; the body of the answer is still to be read."""
        async with _at_hand(video) as clip:
            with request(clip, asked) as sent:
                for attempt in range(self._retries + 1):
                    message = self._message(sent, path, headers)
                    try:
                        response = await self._http.send(message, stream=True)
                        try:
                            wait_s = pause_s(response, sent, attempt, self._retries)
                            if wait_s < 0:
                                yield response
                                return
                        finally:
                            await response.aclose()
                    except httpx.TransportError as error:
                        raise unreachable(self._http.base_url, error) from error
                    await asyncio.sleep(wait_s)

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


@asynccontextmanager
async def _at_hand(video: Video | None) -> AsyncIterator[Video | None]:
    """Fetch the clip out of a store into a file, beside the event loop; others stay as they are."""
    if not (isinstance(video, str) and is_address(video)):
        yield video
        return
    with tempfile.TemporaryFile() as file:
        await asyncio.to_thread(fetch, video, file)
        yield file
