"""Errors as HTTP answers: one table of statuses, one of exception classes, one form (RFC 9457)."""

from __future__ import annotations

import errno
import http
from collections.abc import Callable, Mapping
from typing import Any, cast

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from export.runtime import DeviceMemoryError
from model.inputs import VideoError
from service.api.later_answers import forget_frames, may_wait
from service.contract.errors import ApiError, ErrorCode

PROBLEM_JSON = "application/problem+json"

STATUS: Mapping[ErrorCode, int] = {
    "malformed_request": 400,
    "client_disconnected": 400,  # for logs and metrics: nobody is there to read it
    "unauthorized": 401,
    "foreign_origin": 403,
    "unknown_host": 421,
    "bad_field": 422,
    "unknown_field": 422,
    "missing_field": 422,
    "duplicate_field": 422,
    "empty_labels": 422,
    "empty_label": 422,
    "duplicate_label": 422,
    "too_many_labels": 422,
    "label_too_long": 422,
    "bad_template": 422,
    "too_many_templates": 422,
    "video_url_disabled": 422,
    "video_url_refused": 422,
    "video_url_failed": 422,
    "start_past_end": 422,
    "not_calibrated": 422,
    "unknown_label_set": 404,
    "unknown_video_id": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "upload_timeout": 408,
    "upload_too_large": 413,
    "too_many_parts": 413,
    "resolution_too_large": 413,
    "video_too_long": 413,
    "too_many_frames": 413,
    "too_many_windows": 422,
    "too_many_streams": 413,
    "not_a_video": 415,
    "unsupported_media": 415,
    "unsupported_content_type": 415,
    "video_undecodable": 422,
    "video_too_short": 422,
    "video_too_demanding": 422,
    "decode_timeout": 422,
    "decode_crashed": 422,
    "queue_full": 429,
    "rate_limited": 429,
    "headers_too_large": 431,
    "internal_error": 500,
    "not_ready": 503,
    "draining": 503,
    "out_of_resources": 503,
    "deadline_passed": 504,
}
# Codes that tell the operator, not the sender, that something is wrong.
ALARMING = frozenset({"internal_error", "out_of_resources"})
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT})


def status_of(error: ApiError) -> int:
    """Return the HTTP status that an error is answered with."""
    return STATUS[error.code]


def problem(error: ApiError, request_id: str) -> JSONResponse:
    """Make the response for an error."""
    status = status_of(error)
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    if status == http.HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(problem_fields(error, request_id), status, headers, PROBLEM_JSON)


def problem_fields(error: ApiError, request_id: str) -> dict[str, Any]:
    """Return the fields of a problem (RFC 9457)."""
    status = status_of(error)
    return {
        "type": f"urn:xclip-serve:error:{error.code}",
        "title": http.HTTPStatus(status).phrase,
        "status": status,
        "code": error.code,
        "detail": error.detail,
        "request_id": request_id,
    }


def _video_error(error: VideoError) -> ApiError:
    known = error.code in STATUS
    return ApiError(cast(ErrorCode, error.code) if known else "video_undecodable", error.detail)


def _framework_error(error: HTTPException) -> ApiError:
    if error.status_code == http.HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "another method")
        return ApiError("method_not_allowed", f"this address takes {allowed}; see /docs")
    if error.status_code == http.HTTPStatus.NOT_FOUND:
        return ApiError("not_found", "there is nothing at this address; see /docs")
    return ApiError("malformed_request", "the request cannot be understood; see /docs")


def _system_error(error: OSError) -> ApiError:
    return _exhausted(error) if error.errno in EXHAUSTED else _unexpected(error)


def _exhausted(_: BaseException) -> ApiError:
    return ApiError(
        "out_of_resources",
        "the server lacks memory, disk or files; ask again, or with fewer views",
        retry_after_s=10,
    )


def _unexpected(_: BaseException) -> ApiError:
    """Say nothing about an error that nobody has foreseen."""
    return ApiError("internal_error", "the server failed on this request; it has been logged")


# What each class of exception is answered with; the nearest class of an exception counts.
ANSWERS: Mapping[type[BaseException], Callable[[Any], ApiError]] = {
    ApiError: lambda error: error,
    VideoError: _video_error,
    ClientDisconnect: lambda _: ApiError("client_disconnected", "the client has hung up"),
    HTTPException: _framework_error,
    RequestValidationError: lambda _: ApiError("bad_field", "a parameter is not valid; see /docs"),
    MemoryError: _exhausted,
    DeviceMemoryError: _exhausted,
    OSError: _system_error,
    BaseException: _unexpected,
}
# Handled where they are raised; the others reach the middleware, which answers them as well.
EXPECTED = (ApiError, VideoError, ClientDisconnect, HTTPException, RequestValidationError)


def as_api_error(error: BaseException) -> ApiError:
    """Turn any exception into what the client is told."""
    nearest = next(kind for kind in type(error).__mro__ if kind in ANSWERS)
    return ANSWERS[nearest](error)


def answer_error(request: Request, error: BaseException) -> JSONResponse:
    """Make the response for any exception, and log what the operator must know."""
    answer = noted_error(request, error)
    response = problem(answer, getattr(request.state, "request_id", ""))
    if isinstance(error, HTTPException):  # a 405 says in `Allow` what is taken
        response.headers.update(error.headers or {})
    return response


def noted_error(request: Request, error: BaseException) -> ApiError:
    """Return what the client is told, noted for metrics and, where they must know, operators."""
    answer = as_api_error(error)
    request.state.error_code = answer.code
    if answer.code in ALARMING:
        structlog.get_logger("service").error("request failed", code=answer.code, exc_info=error)
    return answer


def install_handlers(app: FastAPI) -> None:
    """Have every expected exception answered in the one form."""

    async def handle(request: Request, error: Exception) -> JSONResponse:
        answer = answer_error(request, error)
        if may_wait(request, answer.status_code):
            # It would live as long. What work was done for may be the failure of others, too, who
            # are still in these frames.
            forget_frames(error)
        return answer

    for kind in EXPECTED:
        app.add_exception_handler(kind, handle)
