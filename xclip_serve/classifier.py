"""Classify in this process: the service's engine and its confined decode workers, without HTTP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar, Unpack

import numpy as np
from numpy.typing import NDArray

from export.bundle import BundleManifest
from service.api.embedding_request import check_embedding
from service.api.json_fields import body_of
from service.api.request import check_clip, check_request
from service.api.timeline_request import check_timeline
from service.contract.answer import Classification, StoredVideo
from service.contract.body import ClassifyBody, ClipBody, EmbeddingBody
from service.contract.embeddings import Embeddings
from service.contract.request import ClassifyRequest, ClipRequest, KnownClip, UploadedClip
from service.contract.timeline import Timeline, TimelineBody
from service.contract.upload import Upload
from service.inference.classification import ScoredClip
from service.inference.stage_timer import StageTimer
from service.settings import Settings
from xclip_serve.engine_loop import EngineLoop
from xclip_serve.errors import ClassifyError
from xclip_serve.many import Answered, as_they_come
from xclip_serve.question import Options, OptionsAndId, Question, TimelineOptions, Video, question
from xclip_serve.timelines import TimelineLine, timeline_of
from xclip_serve.vectors import (
    ClipVector,
    arrays,
    clip_question,
    clip_vector,
    text_questions,
    vectors_of,
)

A = TypeVar("A")
V = TypeVar("V", bound=Video)


class Classifier:
    """A bundle, opened in this process; may be used by several threads.

    Answers are those of a server with the same bundle. Clips are decoded in confined processes, as
    a server's are, so files of strangers may be asked about.

    Args:
        bundle: Folder of a bundle; None takes the small network that comes in the package.
        **settings: Any setting of the server, such as `precision="bf16"` or `decode_workers=4`;
            `python -m service --help` lists them. Environment variables `XCLIP_*` count as well.

    Raises:
        ValueError: A setting is wrong, or the bundle damaged.
        RuntimeError: The network cannot be run here, or no clip be decoded.
    """

    def __init__(self, bundle: str | os.PathLike[str] | None = None, **settings: Any) -> None:
        if bundle is not None:
            settings["bundle"] = Path(bundle)
        self._loop = EngineLoop(Settings(**{**settings, "video_url_hosts": ()}))

    def classify(
        self,
        video: Video | None = None,
        labels: Sequence[str] = (),
        **options: Unpack[OptionsAndId],
    ) -> Classification:
        """Rank labels for a clip.

        Args:
            video: Path of a file, its bytes, or a binary stream.
            labels: What may be seen; each a word or a phrase.
            **options: See `xclip_serve.question.Options`; `video_id` of an earlier answer of this
                classifier takes the place of `video`.

        Returns:
            The answer, best label first: the same as a server's.

        Raises:
            ClassifyError: Why there is none.
            OSError: The file cannot be read.
        """
        return self._loop.run(video, partial(self._classify, question(labels, options)))

    def classify_many(
        self,
        videos: Iterable[V],
        labels: Sequence[str] = (),
        *,
        at_once: int | None = None,
        **options: Unpack[Options],
    ) -> Iterator[Answered[V]]:
        """Ask the same about many clips; answers come as they are there, not in order.

        Args:
            videos: Clips; read only as far as there is work.
            labels: As for `classify`.
            at_once: Clips under way at a time; None for as many as keep every core at work.
            **options: As for `classify`.

        Yields:
            Each clip with its answer, or with the ClassifyError that it got instead.
        """
        classify = partial(self._classify, question(labels, options))
        return self._many(videos, classify, at_once)

    def encode(self, video: Video, **options: Unpack[Options]) -> StoredVideo:
        """Have a clip encoded and held, to be asked about by its `video_id` as often as wanted.

        Args:
            video: As for `classify`.
            **options: `start`, `end`, `views`, `frame_rule`.

        Returns:
            The `video_id`, and the facts of the clip.

        Raises:
            ClassifyError: Why it cannot be had.
            OSError: The file cannot be read.
        """
        return self._loop.run(video, partial(self._encode, question((), options)))

    def forget(self, video_id: str) -> None:
        """Have nothing of a clip be held any more, also where nothing is."""
        self._loop.run(None, lambda _: self._loop.engine.forget(video_id))

    def timeline(
        self,
        video: Video,
        labels: Sequence[str] = (),
        **options: Unpack[TimelineOptions],
    ) -> Timeline:
        """Say which labels hold when in a video.

        Args:
            video: As for `classify`.
            labels: What may be seen.
            **options: See `xclip_serve.question.TimelineOptions`.

        Returns:
            The windows with their best labels, and the segments that they make.

        Raises:
            ClassifyError: Why there is none.
            OSError: The file cannot be read.
        """
        return timeline_of(self.timeline_lines(video, labels, **options))

    def timeline_lines(
        self,
        video: Video,
        labels: Sequence[str] = (),
        **options: Unpack[TimelineOptions],
    ) -> Iterator[TimelineLine]:
        """Do that line by line: facts, each window as soon as it is done, the end with segments.

        Whoever stops reading ends the work. Raises as `timeline` does, also between two lines.
        """
        asked = question(labels, options, TimelineOptions)
        return self._loop.stream(video, partial(self._timeline, asked))

    def embed(
        self,
        video: Video | None = None,
        *,
        normalize: bool = True,
        **options: Unpack[OptionsAndId],
    ) -> ClipVector:
        """Return the vector of a clip, to be compared with those of texts by cosine.

        Args:
            video: As for `classify`.
            normalize: Scale it to length 1.
            **options: `start`, `end`, `views`, `frame_rule`; or `video_id` in place of the clip.

        Raises:
            ClassifyError: Why there is none.
            OSError: The file cannot be read.
        """
        asked = clip_question(options, normalize=normalize)
        return clip_vector(self._loop.run(video, partial(self._embed, asked)))

    def embed_many(
        self,
        videos: Iterable[V],
        *,
        at_once: int | None = None,
        normalize: bool = True,
        **options: Unpack[Options],
    ) -> Iterator[tuple[V, ClipVector | ClassifyError]]:
        """Do that for many clips; vectors come as they are there, not in order."""
        embed = partial(self._embed, clip_question(options, normalize=normalize))
        return vectors_of(self._many(videos, embed, at_once))

    def embed_texts(
        self,
        texts: Sequence[str],
        *,
        template: str | Sequence[str] | None = None,
        normalize: bool = True,
    ) -> NDArray[np.float32]:
        """Return the vectors of K texts, float32 (K,D).

        Raises:
            ClassifyError: A text is empty or too long.
        """
        asked = text_questions(texts, template, normalize=normalize)
        return arrays([self._loop.run(None, partial(self._embed, one)) for one in asked])

    def score_many(
        self, videos: Iterable[V], labels: Sequence[str]
    ) -> Iterator[tuple[V, ScoredClip | ClassifyError]]:
        """Return logits, also those of labels that are not meant: what calibration is made of.

        Args:
            videos: Clips; read only as far as there is work.
            labels: Two or more.

        Yields:
            Each clip, in no order, with what the network gave for it, or the ClassifyError.
        """
        asked = question(labels, {"open_set": True, "frame_rule": "exact"})
        score = partial(self._score, asked)
        return self._many(videos, score)

    @property
    def manifest(self) -> BundleManifest:
        """What the bundle says about itself."""
        return self._loop.engine.bundle.manifest

    def close(self) -> None:
        """End the decode workers and the runtime; questions under way are dropped."""
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _many(
        self,
        videos: Iterable[V],
        answer: Callable[[Upload | None], Awaitable[A]],
        at_once: int | None = None,
    ) -> Iterator[tuple[V, A | ClassifyError]]:
        return as_they_come(
            videos,
            lambda video: self._loop.submit(video, answer),
            at_once or self._loop.enough,
        )

    # --- on the thread of the event loop -----------------------------------------------------

    async def _classify(self, asked: Question, upload: Upload | None) -> Classification:
        request = await self._checked(asked, upload)
        return await self._loop.engine.classify(_clip(request), request.question)

    async def _score(self, asked: Question, upload: Upload | None) -> ScoredClip:
        request = await self._checked(asked, upload)
        timer = StageTimer(lambda *_: None)
        return await self._loop.engine.score(_clip(request), request.question, timer)

    async def _encode(self, asked: Question, upload: Upload | None) -> StoredVideo:
        clip = check_clip(body_of(asked, ClipBody), upload, self._loop.settings)
        assert isinstance(clip, UploadedClip)  # nothing else can be asked
        return await self._loop.engine.encode(clip)

    async def _embed(self, asked: Question, upload: Upload | None) -> Embeddings:
        fields = body_of(asked, EmbeddingBody)
        request = await asyncio.to_thread(check_embedding, fields, upload, self._loop.settings)
        return await self._loop.engine.embeddings(_clip(request), request.question)

    async def _timeline(
        self, asked: Question, upload: Upload | None
    ) -> AsyncGenerator[TimelineLine, None]:
        fields = body_of(asked, TimelineBody)
        request = await asyncio.to_thread(check_timeline, fields, upload, self._loop.settings)
        assert isinstance(request.clip, UploadedClip)  # nothing else was let through
        async with aclosing(self._loop.engine.timeline(request.clip, request.question)) as lines:
            async for line in lines:
                yield line

    async def _checked(self, asked: Question, upload: Upload | None) -> ClassifyRequest:
        fields = body_of(asked, ClassifyBody)
        return await asyncio.to_thread(check_request, fields, upload, self._loop.settings)


def _clip(request: ClipRequest[Any]) -> UploadedClip | KnownClip:
    assert isinstance(request.clip, UploadedClip | KnownClip)  # addresses are refused
    return request.clip
