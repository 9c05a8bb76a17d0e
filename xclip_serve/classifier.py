"""Classify in this process: the service's engine and its confined decode workers, without HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self, TypeVar, Unpack

from export.runtime import DeviceMemoryError
from model.files import open_regular
from model.inputs import VideoError
from service.api.json_fields import body_of
from service.api.request import check_request
from service.contract.answer import Classification
from service.contract.body import ClassifyBody
from service.contract.errors import ApiError
from service.contract.request import ClassifyRequest, KnownClip, UploadedClip
from service.contract.upload import Upload, UploadWriter
from service.inference.engine import Engine
from service.lifecycle.engine_loader import EngineLoader
from service.settings import Settings
from service.telemetry.engine_telemetry import EngineTelemetry
from service.telemetry.metrics import Metrics
from xclip_serve.errors import ClassifyError
from xclip_serve.many import Answered, as_they_come
from xclip_serve.question import Options, OptionsAndId, Question, Video, question

CHUNK_BYTES = 1 << 20
WAITING_PER_WORKER = 2  # clips that wait while one is decoded: nobody is ever without work

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
        future = self._submit(video, question(labels, options))
        try:
            return future.result()
        finally:
            future.cancel()  # where the caller was interrupted

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
        asked = question(labels, options)
        enough = self._engine.pool.workers * (1 + WAITING_PER_WORKER)
        return as_they_come(videos, lambda video: self._submit(video, asked), at_once or enough)

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

    def _submit(self, video: Video | None, asked: Question) -> Future[Classification]:
        if not self._thread.is_alive():
            raise RuntimeError("the classifier is closed")
        return asyncio.run_coroutine_threadsafe(self._classify(video, asked), self._loop)

    async def _classify(self, video: Video | None, asked: Question) -> Classification:
        upload: Upload | None = None
        try:
            if video is not None:
                upload = await asyncio.to_thread(_open, video, self._settings.upload_dir)
            request = await asyncio.to_thread(self._checked, asked, upload)
            assert isinstance(request.clip, UploadedClip | KnownClip)  # addresses are refused
            return await self._engine.classify(request.clip, request.question)
        except (ApiError, VideoError, MemoryError, DeviceMemoryError) as error:
            raise _problem(error) from error
        finally:
            if upload is not None:
                upload.close()

    def _checked(self, asked: Question, upload: Upload | None) -> ClassifyRequest:
        return check_request(body_of(asked, ClassifyBody), upload, self._settings)


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
