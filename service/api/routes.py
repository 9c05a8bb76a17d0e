"""The addresses of the API."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, Request, Response, Security

from service.access.auth import KEY_SCHEMES
from service.api.form import FormLimits, read_form
from service.api.json_stream import write_answer
from service.api.openapi import classify_body, problem_responses
from service.api.problems import STATUS
from service.api.request import FILE_FIELD, TEXT_FIELDS, parse_request
from service.contract.answer import Classification, LabelSetFacts, LabelSetLabels
from service.contract.errors import ApiError
from service.contract.request import LinkedClip, UploadedClip
from service.lifecycle.service_state import ServiceState
from service.settings import Settings

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
        with contextlib.ExitStack() as stack:
            with server.admission.upload(client):
                form = await read_form(request.stream(), request.headers, limits)
                stack.callback(form.close)
                # in a thread: ten thousand labels would hold up everybody else
                asked = await asyncio.to_thread(parse_request, form, server.settings)
                clip = asked.clip
                if isinstance(clip, LinkedClip):
                    assert server.fetcher is not None  # or the address would have been refused
                    upload = await _unless_gone(request, server.fetcher.fetch(clip.url))
                    stack.callback(upload.close)
                    clip = UploadedClip(upload, clip.sampling)
            with server.admission.work(), server.engine.use() as engine:
                work = engine.classify(clip, asked.question)
                answer = await _unless_gone(request, work, timeout_s)
        return Response(await write_answer(answer), media_type="application/json")

    @open_router.get("/healthz", summary="The process lives")
    async def healthz() -> dict[str, str]:
        """Answers as long as the process does."""
        return {"status": "ok"}

    @open_router.get(
        "/readyz",
        summary="The server can classify",
        responses=problem_responses(["not_ready", "draining"]),
    )
    async def readyz() -> dict[str, Any]:
        """Runs a tiny real inference (at most every two seconds) and looks at the workers."""
        return await server.check()

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
    async def label_list(name: str) -> Response:
        """The labels of a list, in class order."""
        stored = server.engine.label_set(name)
        # Written here: the framework would look at each of a hundred thousand texts once more.
        answer = LabelSetLabels(name=name, labels=stored.labels, prompts=stored.prompts)
        return Response(answer.model_dump_json(), media_type="application/json")

    open_router.include_router(router)
    return open_router


def form_limits(settings: Settings) -> FormLimits:
    """Return the bounds of a classify form under these settings."""
    return FormLimits(
        fields=TEXT_FIELDS,
        file_field=FILE_FIELD,
        max_body_bytes=settings.max_upload_bytes,
        max_parts=settings.max_labels + PARTS_BESIDE_LABELS,
        max_text_bytes=settings.max_text_bytes,
        timeout_s=settings.upload_timeout_s,
        idle_timeout_s=settings.upload_idle_timeout_s,
        directory=settings.upload_dir,
    )


async def _unless_gone(
    request: Request, work: Awaitable[Result], timeout_s: float | None = None
) -> Result:
    """Await work; cancel it when the client hangs up, or once the time is over."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait({task, gone}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if gone.done():
            raise ApiError("client_disconnected", "the client has hung up")
        raise ApiError(
            "deadline_passed", f"the answer was not ready within {timeout_s:g} s", retry_after_s=5
        )
    finally:
        for pending in (task, gone):
            pending.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
