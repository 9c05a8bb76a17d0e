"""One question to a server over HTTP: what is sent, when it is sent again, what the answer is.

A question changes nothing on the server, so asking again is safe: it is done where the server says
when (429 and 503 with `Retry-After`), a bounded number of times, and nowhere else.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, Generic, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from service.contract.answer import Problem
from xclip_serve.errors import ClassifyError
from xclip_serve.question import Question, Video, form_fields
from xclip_serve.storage import is_address, opened

TIMEOUT_S = 120.0  # of an upload, and of the answer: the server's own limits end before
# A timeline may wait for its place: XCLIP_TIMELINE_TIMEOUT_S (600) can pass before its first line.
TIMELINE_TIMEOUT = httpx.Timeout(TIMEOUT_S, read=620.0)
RETRIES = 5
LONGEST_RETRY_S = 60
BUSY = (429, 503)
CLASSIFY, EMBEDDINGS, VIDEOS = "v1/classify", "v1/embeddings", "v1/videos"
TIMELINE = "v1/timeline"
LINES = {"Accept": "application/x-ndjson"}
NO_HEADERS: Mapping[str, str] = {}

Answer = TypeVar("Answer", bound=BaseModel)
Http = TypeVar("Http", httpx.Client, httpx.AsyncClient)


class Request:
    """One question, which can be sent again if its clip can be read again; None is to delete."""

    def __init__(self, asked: Question | None, video: BinaryIO | None) -> None:
        self.method = "DELETE" if asked is None else "POST"
        self._asked, self._video = asked, video
        self._sent = False

    @property
    def can_be_sent(self) -> bool:
        """Whether the clip is still to be had from its beginning."""
        return not self._sent or self._video is None or self._video.seekable()

    def content(self) -> dict[str, Any]:
        """Return the body as arguments of httpx: JSON, or a form with the clip last."""
        self._sent = True
        if self._asked is None:
            return {}
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
def request(video: Video | None, asked: Question | None) -> Iterator[Request]:
    """Open the clip for as long as the question is asked; a caller's stream stays open."""
    if video is None:
        yield Request(asked, None)
    elif isinstance(video, bytes):
        yield Request(asked, io.BytesIO(video))
    elif isinstance(video, str) and is_address(video):
        with opened(video) as stream:
            yield Request(asked, stream)
    elif isinstance(video, str | os.PathLike):
        with open(video, "rb") as file:
            yield Request(asked, file)
    else:
        yield Request(asked, video)


def read(response: httpx.Response, kind: type[Answer]) -> Answer:
    """Return the answer; ClassifyError where it is a problem, or no answer of ours."""
    if not response.is_success:
        raise refusal(response)
    try:
        return kind.model_validate_json(response.content)
    except ValidationError:
        raise _unexpected(response) from None


def refusal(response: httpx.Response) -> ClassifyError:
    """Return the problem that is answered; its body has been read."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        return _unexpected(response)
    return ClassifyError(
        problem.code,
        problem.detail,
        status=response.status_code,
        retry_after_s=_retry_after_s(response),
        request_id=problem.request_id,
    )


def _unexpected(response: httpx.Response) -> ClassifyError:
    return ClassifyError(
        "unexpected_answer",
        f"{response.url} answered {response.status_code} and no xclip-serve answer; "
        "is this the address of the server?",
        status=response.status_code,
        retry_after_s=_retry_after_s(response),
    )


def _retry_after_s(response: httpx.Response) -> int | None:
    text = response.headers.get("Retry-After", "")
    return int(text) if text.isascii() and text.isdecimal() else None


def pause_s(response: httpx.Response, request: Request, attempt: int, retries: int) -> int:
    """Return for how long to wait before asking again; -1 for not asking again."""
    wait_s = _retry_after_s(response)
    if response.status_code not in BUSY or wait_s is None or wait_s > LONGEST_RETRY_S:
        return -1
    return wait_s if attempt < retries and request.can_be_sent else -1


def unreachable(url: httpx.URL, error: httpx.TransportError) -> ClassifyError:
    """Say that nobody answers at an address."""
    reason = str(error) or type(error).__name__
    return ClassifyError("unreachable", f"no answer from {url}: {reason}; is the server running?")


class Remote(Generic[Http]):
    """The connections to a server, and how it is asked."""

    _make: type[Http]

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        retries: int = RETRIES,
        timeout_s: float | None = None,
    ) -> None:
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._retries = retries
        self._timeouts = {TIMELINE: TIMELINE_TIMEOUT} if timeout_s is None else {}
        timeout = TIMEOUT_S if timeout_s is None else timeout_s
        self._http: Http = self._make(base_url=url, headers=headers, timeout=timeout)

    def _message(self, sent: Request, path: str, headers: Mapping[str, str]) -> httpx.Request:
        timeout = self._timeouts.get(path, self._http.timeout)
        return self._http.build_request(
            sent.method, path, headers=headers, timeout=timeout, **sent.content()
        )
