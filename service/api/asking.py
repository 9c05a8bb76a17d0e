"""What every request with a clip goes through, before and while its work is done."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from fastapi import Request

from service.api.body import SMALL_BYTES, read_body
from service.api.form import BodyLimits, Form
from service.api.form_fields import FILE_FIELD, form_names
from service.api.hanging_up import unless_gone
from service.api.json_body import JsonBody
from service.api.numbers import most_values
from service.api.request import check_address
from service.contract.body import ClipBody
from service.contract.request import ClipRequest, KnownClip, LinkedClip, UploadedClip
from service.lifecycle.service_state import ServiceState
from service.settings import Settings

MAX_PARTS = 500  # a label each; more of them cost less as one JSON array
PARTS_BESIDE_LABELS = 64

Question = TypeVar("Question")
Result = TypeVar("Result")
Parse = Callable[[Form | JsonBody, Settings, Callable[[], bool]], ClipRequest[Question]]


@dataclass(frozen=True)
class Asked(Generic[Question]):
    """A request that is in.

    Attributes:
        client: Who asks.
        clip: Whose bytes are here, or once were.
        question: What is asked about it.
        deadline: When the answer must be there, as `time.monotonic()` has it.
        place: What the request holds until its answer is out: hand it on, or it is given back.
    """

    client: str
    clip: UploadedClip | KnownClip
    question: Question
    deadline: float
    place: contextlib.ExitStack


@contextlib.asynccontextmanager
async def ask(
    request: Request,
    server: ServiceState,
    limits: BodyLimits,
    parse: Parse[Question],
    *,
    long: bool = False,
) -> AsyncIterator[Asked[Question]]:
    """Let a request with a clip in, and hold what it uses for the length of the context.

    Args:
        request: Nothing of its body has been read.
        server: Which is asked.
        limits: Bounds of its body.
        parse: Reads the body once it is here, in a thread unless there is little of it: ten
            thousand labels would hold up everybody else.
        long: Answering takes minutes.

    Raises:
        ApiError: It is refused; nothing more of its body is read.
    """
    await server.access.identify(request)
    server.check_started()  # before the request is counted, or anything uploaded
    client = await server.access.admit(request)
    check_address(request.query_params, limits)
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(contextlib.ExitStack())
        with server.admission.upload(client) as receiving:
            stream = receiving.counted(request.stream())
            in_turn = partial(server.parsing.run, client=client)
            reading = read_body(stream, request.headers, limits, in_turn)
            body = await receiving.read(reading)
            stack.callback(body.close)
            deadline = time.monotonic() + server.settings.request_timeout_s
            read = partial(_read, server, partial(parse, body))
            if body.text_bytes <= SMALL_BYTES:
                asked, memory = read()
            else:
                asked, memory = await _in_turn(request, server, read, client, deadline)
            body.forget_texts()  # they are there once more, cleaned
            place.enter_context(server.admission.question(client, memory))
            clip = asked.clip
            if isinstance(clip, LinkedClip):
                assert server.fetcher is not None  # or the address would have been refused
                upload = await unless_gone(request, server.fetcher.fetch(clip.url))
                stack.callback(upload.close)
                clip = UploadedClip(upload, clip.sampling)
        place.enter_context(server.admission.work(client, long=long))
        request.state.worked_for = True
        if not long:
            stack.enter_context(server.admission.paced(client))
        yield Asked(client, clip, asked.question, deadline, place)


def body_limits(settings: Settings, fields: type[ClipBody]) -> BodyLimits:
    """Return the bounds of a body with these fields, under these settings."""
    return BodyLimits(
        fields=form_names(fields),
        file_field=FILE_FIELD,
        max_body_bytes=settings.max_upload_bytes,
        max_parts=min(settings.max_labels, MAX_PARTS) + PARTS_BESIDE_LABELS,
        max_values=most_values(settings),
        max_text_bytes=settings.max_text_bytes,
        timeout_s=settings.upload_timeout_s,
        idle_timeout_s=settings.upload_idle_timeout_s,
        directory=settings.upload_dir,
    )


def _read(
    server: ServiceState,
    parse: Callable[[Settings, Callable[[], bool]], ClipRequest[Question]],
    given_up: Callable[[], bool] = lambda: False,
) -> tuple[ClipRequest[Question], int]:
    """Read a request; return it with bytes of memory for its question."""
    asked = parse(server.settings, given_up)
    return asked, server.engine.memory_for(asked.question)


async def _in_turn(
    request: Request,
    server: ServiceState,
    read: Callable[[Callable[[], bool]], Result],
    client: str,
    deadline: float,
) -> Result:
    """Read a request when it is its client's turn, unless that comes too late."""
    given_up = threading.Event()
    try:
        reading = server.parsing.run(partial(read, given_up.is_set), client)
        return await unless_gone(request, reading, deadline)
    finally:
        given_up.set()
