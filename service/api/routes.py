"""The addresses of the API."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
import time
from collections.abc import Awaitable
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, Request, Response, Security

from export.bundle import LabelSet
from service.access.auth import KEY_SCHEMES
from service.api.form import Form, FormLimits, read_form
from service.api.json_stream import write_answer
from service.api.openapi import classify_body, problem_responses
from service.api.paced_response import PacedResponse
from service.api.problems import STATUS
from service.api.request import FILE_FIELD, TEXT_FIELDS, check_address, parse_request
from service.contract.answer import Classification, LabelSetFacts, LabelSetLabels
from service.contract.errors import ApiError
from service.contract.request import ClassifyRequest, LinkedClip, UploadedClip
from service.lifecycle.service_state import ServiceState
from service.settings import Settings

MAX_PARTS = 500  # a label each; more of them cost less as one JSON array
PARTS_BESIDE_LABELS = 64

Result = TypeVar("Result")


def make_routes(server: ServiceState) -> APIRouter:
    """Make every route. All but the health checks ask for a key where there are keys."""
    open_router = APIRouter()
    schemes = [Security(scheme) for scheme in KEY_SCHEMES] if server.access.asks_for_key else []
    router = APIRouter(
        dependencies=[*schemes, Depends(server.access.identify)],
        responses=problem_responses(["unauthorized", "not_ready"]),
    )
    limits = form_limits(server.settings)
    timeout_s = server.settings.request_timeout_s

    @open_router.post(
        "/classify",
        summary="Rank labels for a clip",
        response_model=Classification,
        responses=problem_responses(sorted(STATUS)),
        openapi_extra=classify_body(server.settings),
        dependencies=schemes,
    )
    async def classify(request: Request) -> Response:
        """A clip and labels in, ranked labels out."""
        await server.access.identify(request)
        server.check_started()  # before the request is counted, or anything uploaded
        client = await server.access.admit(request)
        check_address(request.query_params)
        with contextlib.ExitStack() as stack:
            with server.admission.upload(client):
                form = await read_form(request.stream(), request.headers, limits)
                stack.callback(form.close)
                deadline = time.monotonic() + timeout_s
                asked = await _parsed(request, server, form, client, deadline)
                clip = asked.clip
                if isinstance(clip, LinkedClip):
                    assert server.fetcher is not None  # or the address would have been refused
                    upload = await _unless_gone(request, server.fetcher.fetch(clip.url))
                    stack.callback(upload.close)
                    clip = UploadedClip(upload, clip.sampling)
            slot = stack.enter_context(contextlib.ExitStack())
            slot.enter_context(server.admission.work(client))
            with server.engine.use() as engine:
                work = engine.classify(clip, asked.question, client)
                answer = await _unless_gone(request, work, deadline)
            return PacedResponse(await write_answer(answer), slot.pop_all())

    @open_router.get("/healthz", summary="The process lives")
    async def healthz() -> dict[str, str]:
        """Answers as long as the process does."""
        return {"status": "ok"}

    @open_router.get(
        "/readyz",
        summary="The server can classify",
        responses=problem_responses(["not_ready", "draining"]),
    )
    async def readyz(request: Request) -> dict[str, Any]:
        """Runs a tiny real inference (at most every two seconds) and looks at the workers.

        Says more than the status to who may ask, or on the port for operators.
        """
        facts = await server.check()
        return facts if await _may_know(request, server) else {"status": facts["status"]}

    known: dict[str, tuple[LabelSet, bytes, str]] = {}  # lists written out, and their ETags

    @router.get("/model", summary="What is served")
    async def model() -> dict[str, Any]:
        """The bundle's own description, without its file hashes."""
        engine = server.engine
        manifest = engine.bundle.manifest
        return {
            **manifest.model_dump(mode="json", exclude={"files"}),
            "bundle": f"sha256:{engine.bundle.hash}",
            "runtime": engine.runtime.name,
            "precision": engine.runtime.precision,
            "selection": list(engine.runtime.selection),
            "limits": {
                name: getattr(server.settings, name)
                for name in (
                    "max_upload_bytes", "max_text_bytes", "max_labels", "max_label_chars",
                    "max_templates", "max_views", "max_duration_s", "max_pixels", "max_side",
                    "max_frames",
                )
            },
        }  # fmt: skip

    @router.get("/labels", summary="Stored label lists")
    async def labels() -> list[LabelSetFacts]:
        """Lists that `label_set` may name."""
        stored = server.engine.bundle.manifest.labels
        return [LabelSetFacts(name=name, count=info.count) for name, info in stored.items()]

    @router.get(
        "/labels/{name}",
        summary="One stored label list",
        response_model=LabelSetLabels,
        responses=problem_responses(["unknown_label_set"]),
    )
    async def label_list(name: str, request: Request) -> Response:
        """The labels of a list, in class order."""
        stored = server.engine.label_set(name)
        if known.get(name, (None, b"", ""))[0] is not stored:
            # Written once, in a thread, and not by the framework: it would look at each of a
            # hundred thousand texts once more.
            body = await server.parsing.run(partial(_written, name, stored))
            known[name] = (stored, body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
        _, body, tag = known[name]
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        return PacedResponse(body, headers={"ETag": tag})

    open_router.include_router(router)
    return open_router


async def _may_know(request: Request, server: ServiceState) -> bool:
    """Tell whether somebody may see how the server is built: not a stranger, where it knows any."""
    if server.settings.ops_port is not None:
        return False
    try:
        await server.access.identify(request)
    except ApiError:
        return False
    return True


def _written(name: str, stored: LabelSet) -> bytes:
    answer = LabelSetLabels(name=name, labels=stored.labels, prompts=stored.prompts)
    return answer.model_dump_json().encode()


def form_limits(settings: Settings) -> FormLimits:
    """Return the bounds of a classify form under these settings."""
    return FormLimits(
        fields=TEXT_FIELDS,
        file_field=FILE_FIELD,
        max_body_bytes=settings.max_upload_bytes,
        max_parts=min(settings.max_labels, MAX_PARTS) + PARTS_BESIDE_LABELS,
        max_text_bytes=settings.max_text_bytes,
        timeout_s=settings.upload_timeout_s,
        idle_timeout_s=settings.upload_idle_timeout_s,
        directory=settings.upload_dir,
    )


async def _parsed(
    request: Request, server: ServiceState, form: Form, client: str, deadline: float
) -> ClassifyRequest:
    """Check a form in a thread: ten thousand labels would hold up everybody else."""
    given_up = threading.Event()
    parse = partial(parse_request, form, server.settings, given_up.is_set)
    try:
        return await _unless_gone(request, server.parsing.run(parse, client), deadline)
    finally:
        given_up.set()


async def _unless_gone(
    request: Request, work: Awaitable[Result], deadline: float | None = None
) -> Result:
    """Await work; cancel it when the client hangs up, or at a `time.monotonic()`."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_hung_up(request))
    timeout_s = None if deadline is None else max(0.0, deadline - time.monotonic())
    try:
        await asyncio.wait({task, gone}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if gone.done():
            raise ApiError("client_disconnected", "the client has hung up")
        raise ApiError(
            "deadline_passed", "the answer was not ready within the time limit", retry_after_s=5
        )
    finally:
        for pending in (task, gone):
            pending.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
