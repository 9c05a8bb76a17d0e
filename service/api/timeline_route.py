"""POST /timeline: labels over the length of a video, at once or line by line."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import TypeAdapter

from service.api.asking import Asked, ask, body_limits
from service.api.hanging_up import unless_gone
from service.api.line_response import LINES, LineResponse
from service.api.media import preferred
from service.api.openapi import TAG, problem_responses
from service.api.paced_response import PacedResponse
from service.api.problems import STATUS, noted_error, problem_fields
from service.api.timeline_formats import FORMATS
from service.api.timeline_request import parse_timeline
from service.api.timeline_schema import timeline_body, timeline_responses
from service.contract.errors import ApiError
from service.contract.request import UploadedClip
from service.contract.timeline import (
    ProblemLine,
    Timeline,
    TimelineBody,
    TimelineLine,
    TimelineQuestion,
    joined,
)
from service.inference.engine import Engine
from service.lifecycle.service_state import ServiceState

JSON = "application/json"
WRITERS = {form.media_type: form.write for form in FORMATS.values()}
MEDIA = (JSON, LINES, *WRITERS)
TIMELINE = TypeAdapter(Timeline)


def add_timeline(router: APIRouter, server: ServiceState, schemes: list[Any]) -> None:
    """Add the route."""
    settings = server.settings
    limits = body_limits(settings, TimelineBody)

    @router.post(
        "/timeline",
        operation_id="timeline",
        tags=[TAG.CLIPS],
        summary="Labels over the length of a video",
        response_model=Timeline,
        responses={200: timeline_responses(), **problem_responses(sorted(STATUS))},
        openapi_extra=timeline_body(settings),
        dependencies=schemes,
    )
    async def timeline(request: Request) -> Response:
        """A video and labels in; what is seen when, out: windows, and the segments they make."""
        media = preferred(request.headers.get("accept", ""), MEDIA)
        async with ask(request, server, limits, parse_timeline, long=True) as asked:
            deadline = time.monotonic() + settings.timeline_timeout_s
            engine = asked.place.enter_context(server.engine.use())
            if media == LINES:
                return await _in_lines(request, asked, engine, deadline)
            answer = await unless_gone(request, _whole(asked, engine), deadline)
            body = await server.parsing.run(partial(_written_whole, answer, media), asked.client)
            return PacedResponse(body, asked.place.pop_all(), media)


def _lines_of(asked: Asked[TimelineQuestion], engine: Engine) -> AsyncGenerator[TimelineLine, None]:
    assert isinstance(asked.clip, UploadedClip)  # an id was refused
    return engine.timeline(asked.clip, asked.question, asked.client)


async def _whole(asked: Asked[TimelineQuestion], engine: Engine) -> Timeline:
    async with contextlib.aclosing(_lines_of(asked, engine)) as lines:
        timeline = joined([line async for line in lines])
    assert timeline is not None  # it has gone on to its end
    return timeline


async def _in_lines(
    request: Request, asked: Asked[TimelineQuestion], engine: Engine, deadline: float
) -> Response:
    """Answer once the first line is there; what fails before that is a problem as any other."""
    lines = _lines_of(asked, engine)
    try:
        first = await unless_gone(request, anext(lines), deadline)
    except BaseException:
        await lines.aclose()
        raise

    def problem(error: BaseException) -> bytes:
        if isinstance(error, TimeoutError):
            error = ApiError("deadline_passed", "the answer was not ready within the time limit")
        fields = problem_fields(noted_error(request, error), request.state.request_id)
        return _written(ProblemLine(**fields))

    ends = asyncio.get_running_loop().time() + deadline - time.monotonic()
    return LineResponse(first, lines, _written, problem, ends, asked.place.pop_all())


def _written_whole(answer: Timeline, media: str) -> bytes:
    if media in WRITERS:
        return WRITERS[media](answer.segments).encode()
    return TIMELINE.dump_json(answer)  # as a text it might take four bytes a character


def _written(line: TimelineLine | ProblemLine) -> bytes:
    return line.model_dump_json().encode() + b"\n"
