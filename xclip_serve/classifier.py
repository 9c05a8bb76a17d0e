"""Classify in this process: the service's engine and its confined decode workers, without HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar, Unpack

import numpy as np
from numpy.typing import NDArray

from export.bundle import BundleManifest
from export.runtime import DeviceMemoryError
from model.files import open_regular
from model.inputs import VideoError
from service.api.embedding_request import check_embedding
from service.api.json_fields import body_of
from service.api.request import check_request
from service.contract.answer import Classification
from service.contract.body import ClassifyBody, EmbeddingBody
from service.contract.embeddings import Embeddings
from service.contract.errors import ApiError
from service.contract.request import ClassifyRequest, ClipRequest, KnownClip, UploadedClip
from service.contract.upload import Upload, UploadWriter
from service.inference.engine import Engine, ScoredClip
from service.inference.stage_timer import StageTimer
from service.lifecycle.engine_loader import EngineLoader
from service.settings import Settings
from service.telemetry.engine_telemetry import EngineTelemetry
from service.telemetry.metrics import Metrics
from xclip_serve.errors import ClassifyError
from xclip_serve.many import Answered, as_they_come
from xclip_serve.question import Options, OptionsAndId, Question, Video, question
from xclip_serve.vectors import (
    ClipVector,
    arrays,
    clip_question,
    clip_vector,
    text_questions,
    vectors_of,
)

CHUNK_BYTES = 1 << 20
WAITING_PER_WORKER = 2  # clips that wait while one is decoded: nobody is ever without work

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
        self._settings = Settings(**{**settings, "video_url_hosts": ()})
        self._loaded: Future[tuple[Engine, asyncio.AbstractEventLoop]] = Future()
        self._closing = asyncio.Event()
        # The kernel ends decode workers with the thread that has started them.
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._live()), name="classifier", daemon=True
        )
        self._thread.start()
        self._engine, self._loop = self._loaded.result()

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
        return _result(self._submit(video, partial(self._classify, question(labels, options))))

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
        return as_they_come(
            videos, lambda video: self._submit(video, classify), at_once or self._enough
        )

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
        return clip_vector(_result(self._submit(video, partial(self._embed, asked))))

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
        answers = as_they_come(
            videos, lambda video: self._submit(video, embed), at_once or self._enough
        )
        return vectors_of(answers)

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
        return arrays([_result(self._submit(None, partial(self._embed, one))) for one in asked])

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
        return as_they_come(videos, lambda video: self._submit(video, score), self._enough)

    @property
    def manifest(self) -> BundleManifest:
        """What the bundle says about itself."""
        return self._engine.bundle.manifest

    def close(self) -> None:
        """End the decode workers and the runtime; questions under way are dropped."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- on the thread of the event loop -----------------------------------------------------

    async def _live(self) -> None:
        try:
            loader = EngineLoader(self._settings, EngineTelemetry(Metrics()))
            engine = await loader.load(await loader.read_bundle())
        except BaseException as error:
            self._loaded.set_exception(error)
            return
        self._loaded.set_result((engine, asyncio.get_running_loop()))
        await self._closing.wait()
        await engine.pool.stop()
        await asyncio.to_thread(engine.close)

    @property
    def _enough(self) -> int:
        """Clips under way at a time that keep every core at work."""
        return self._engine.pool.workers * (1 + WAITING_PER_WORKER)

    def _submit(
        self, video: Video | None, answer: Callable[[Upload | None], Awaitable[A]]
    ) -> Future[A]:
        if not self._thread.is_alive():
            raise RuntimeError("the classifier is closed")
        return asyncio.run_coroutine_threadsafe(self._ask(video, answer), self._loop)

    async def _ask(self, video: Video | None, answer: Callable[[Upload | None], Awaitable[A]]) -> A:
        upload: Upload | None = None
        try:
            if video is not None:
                upload = await asyncio.to_thread(_open, video, self._settings.upload_dir)
            return await answer(upload)
        except (ApiError, VideoError, MemoryError, DeviceMemoryError) as error:
            raise _problem(error) from error
        finally:
            if upload is not None:
                upload.close()

    async def _classify(self, asked: Question, upload: Upload | None) -> Classification:
        request = await self._checked(asked, upload)
        return await self._engine.classify(_clip(request), request.question)

    async def _score(self, asked: Question, upload: Upload | None) -> ScoredClip:
        request = await self._checked(asked, upload)
        timer = StageTimer(lambda *_: None)
        return await self._engine.score(_clip(request), request.question, timer)

    async def _embed(self, asked: Question, upload: Upload | None) -> Embeddings:
        fields = body_of(asked, EmbeddingBody)
        request = await asyncio.to_thread(check_embedding, fields, upload, self._settings)
        return await self._engine.embeddings(_clip(request), request.question)

    async def _checked(self, asked: Question, upload: Upload | None) -> ClassifyRequest:
        fields = body_of(asked, ClassifyBody)
        return await asyncio.to_thread(check_request, fields, upload, self._settings)


def _result(future: Future[A]) -> A:
    try:
        return future.result()
    finally:
        future.cancel()  # where the caller was interrupted


def _clip(request: ClipRequest[Any]) -> UploadedClip | KnownClip:
    assert isinstance(request.clip, UploadedClip | KnownClip)  # addresses are refused
    return request.clip


def _open(video: Video, upload_dir: Path | None) -> Upload:
    """Make an upload of a clip; a file is read where it lies."""
    if isinstance(video, str | os.PathLike):
        file = open_regular(Path(video))
        try:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return Upload(file, os.fstat(file.fileno()).st_size, sha256)
        except BaseException:
            file.close()
            raise
    writer = UploadWriter(upload_dir)
    try:
        if isinstance(video, bytes):
            writer.write(video)
        else:
            if video.seekable():
                video.seek(0)
            while chunk := video.read(CHUNK_BYTES):
                writer.write(chunk)
        return writer.finish()
    except BaseException:
        writer.close()
        raise


def _problem(error: BaseException) -> ClassifyError:
    """Say what the API would answer: one table for both."""
    from service.api.problems import as_api_error, status_of

    known = as_api_error(error)
    return ClassifyError(
        known.code, known.detail, status=status_of(known), retry_after_s=known.retry_after_s
    )
