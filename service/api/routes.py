"""The addresses of the API. Each is answered below `/v1` and, as an alias, without it."""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response, Security

from export.bundle import LabelSet
from service.access.auth import KEY_SCHEMES
from service.api.asking import ask, body_limits
from service.api.embedding_request import parse_embedding
from service.api.embedding_schema import embedding_body
from service.api.hanging_up import unless_gone
from service.api.json_stream import write_answer, write_embeddings
from service.api.openapi import ANSWER_EXAMPLE, TAG, problem_responses
from service.api.paced_response import PacedResponse
from service.api.problems import STATUS
from service.api.question_schema import TEXT, body_schema
from service.api.request import VIDEO_ID, parse_classify, parse_clip
from service.api.timeline_route import add_timeline
from service.contract.answer import Classification, LabelSetFacts, LabelSetLabels, StoredVideo
from service.contract.body import ClassifyBody, ClipBody, EmbeddingBody
from service.contract.embeddings import Embeddings
from service.contract.errors import ApiError
from service.contract.served import Alive, Limits, ReadyState, ServedModel
from service.lifecycle.service_state import ServiceState


def make_routes(server: ServiceState) -> APIRouter:
    """Make every route. All but the health checks ask for a key where there are keys."""
    open_router = APIRouter()
    schemes = [Security(scheme) for scheme in KEY_SCHEMES] if server.access.asks_for_key else []
    router = APIRouter(
        dependencies=[*schemes, Depends(server.access.identify)],
        responses=problem_responses(["unauthorized", "unknown_host", "not_ready"]),
    )
    settings = server.settings
    classify_limits = body_limits(settings, ClassifyBody)
    clip_limits = body_limits(settings, ClipBody)
    embedding_limits = body_limits(settings, EmbeddingBody)

    @open_router.post(
        "/classify",
        operation_id="classify",
        tags=[TAG.CLIPS],
        summary="Rank labels for a clip",
        response_model=Classification,
        responses={
            200: {"content": {"application/json": {"example": ANSWER_EXAMPLE}}},
            **problem_responses(sorted(STATUS)),
        },
        openapi_extra=body_schema(settings, ClassifyBody),
        dependencies=schemes,
    )
    async def classify(request: Request) -> Response:
        """A clip and labels in, ranked labels out."""
        async with ask(request, server, classify_limits, parse_classify) as asked:
            with server.engine.use() as engine:
                work = engine.classify(asked.clip, asked.question, asked.client)
                answer = await unless_gone(request, work, asked.deadline)
            return PacedResponse(await write_answer(answer), asked.place.pop_all())

    add_timeline(open_router, server, schemes)

    @open_router.post(
        "/videos",
        operation_id="createVideo",
        tags=[TAG.CLIPS],
        summary="Encode a clip, to ask about it later",
        responses=problem_responses(sorted(STATUS)),
        openapi_extra=body_schema(settings, ClipBody, known_clips=False),
        dependencies=schemes,
    )
    async def create_video(request: Request) -> StoredVideo:
        """A clip in, its `video_id` out. What the network made of it is kept, its bytes are not."""
        async with ask(request, server, clip_limits, parse_clip) as asked:
            with server.engine.use() as engine:
                work = engine.encode(asked.clip, asked.client)
                return await unless_gone(request, work, asked.deadline)

    @open_router.post(
        "/embeddings",
        operation_id="createEmbeddings",
        tags=[TAG.CLIPS],
        summary="Vectors of texts, or of a clip",
        response_model=Embeddings,
        responses=problem_responses(sorted(STATUS)),
        openapi_extra=embedding_body(settings),
        dependencies=schemes,
    )
    async def create_embeddings(request: Request) -> Response:
        """Texts or a clip in, vectors out: clients of OpenAI's API read those of texts."""
        async with ask(request, server, embedding_limits, parse_embedding) as asked:
            with server.engine.use() as engine:
                work = engine.embeddings(asked.clip, asked.question, asked.client)
                answer = await unless_gone(request, work, asked.deadline)
            body = await server.parsing.run(partial(write_embeddings, answer), asked.client)
            return PacedResponse(body, asked.place.pop_all())

    @router.delete(
        "/videos/{video_id}",
        operation_id="deleteVideo",
        tags=[TAG.CLIPS],
        summary="Forget a clip",
        status_code=204,
        responses=problem_responses(["bad_field"]),
    )
    async def delete_video(
        request: Request, video_id: Annotated[str, Path(pattern=f"^{VIDEO_ID.pattern}$")]
    ) -> None:
        """What was kept of a clip is gone then: here, and in the Redis that servers share."""
        client = await server.access.identify(request)
        await server.engine.forget(video_id, client)

    @open_router.get(
        "/healthz", operation_id="getHealth", tags=[TAG.HEALTH], summary="The process lives"
    )
    async def healthz() -> Alive:
        """Answers as long as the process does."""
        return Alive()

    @open_router.get(
        "/readyz",
        operation_id="getReadiness",
        tags=[TAG.HEALTH],
        summary="The server can classify",
        response_model_exclude_none=True,
        responses=problem_responses(["not_ready", "draining"]),
    )
    async def readyz(request: Request) -> ReadyState:
        """Runs a tiny real inference (at most every two seconds) and looks at the workers.

        Says more than the status to who may ask, or on the port for operators.
        """
        state = await server.check()
        return state if await _may_know(request, server) else ReadyState(status=state.status)

    known: dict[str, tuple[LabelSet, bytes, str]] = {}  # lists written out, and their ETags
    writing = asyncio.Lock()

    @router.get("/model", operation_id="getModel", tags=[TAG.NETWORK], summary="What is served")
    async def model() -> ServedModel:
        """The bundle's own description, without its file hashes."""
        engine = server.engine
        return ServedModel(
            **engine.bundle.manifest.model_dump(exclude={"files"}),
            bundle=f"sha256:{engine.bundle.hash}",
            runtime=engine.runtime.name,
            precision=engine.runtime.precision,
            selection=engine.runtime.selection,
            limits=Limits.model_validate(server.settings),
        )

    @router.get(
        "/labels", operation_id="listLabelSets", tags=[TAG.NETWORK], summary="Stored label lists"
    )
    async def labels() -> list[LabelSetFacts]:
        """Lists that `label_set` may name."""
        stored = server.engine.bundle.manifest.labels
        return [LabelSetFacts(name=name, count=info.count) for name, info in stored.items()]

    @router.get(
        "/labels/{name}",
        operation_id="getLabelSet",
        tags=[TAG.NETWORK],
        summary="One stored label list",
        response_model=LabelSetLabels,
        responses={
            200: {"headers": {"ETag": {"description": "of the list", "schema": TEXT}}},
            304: {"description": "The list is still the one that If-None-Match names"},
            **problem_responses(["rate_limited", "unknown_label_set", "bad_field"]),
        },
        dependencies=[Depends(server.access.count)],
    )
    async def label_list(name: str, request: Request) -> Response:
        """The labels of a list, in class order."""
        stored = server.engine.labels.label_set(name)
        async with writing:  # by one, for all who have asked meanwhile
            if known.get(name, (None, b"", ""))[0] is not stored:
                # In a thread, and not by the framework: it would look at each of a hundred
                # thousand texts once more.
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
