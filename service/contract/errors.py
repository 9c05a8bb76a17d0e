"""Every error of the API: one table of codes and statuses, one form (RFC 9457)."""

from __future__ import annotations

import errno
import http

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from export.runtime import DeviceMemoryError
from model.inputs import VideoError

PROBLEM_JSON = "application/problem+json"

# The stable codes, with the status each is answered with.
STATUS = {
    "malformed_request": 400,
    "client_disconnected": 400,  # for logs and metrics: nobody is there to read it
    "unauthorized": 401,
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


class ApiError(Exception):
    """An answer other than 200: `detail` says what to change; the status follows from `code`."""

    def __init__(self, code: str, detail: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.code, self.detail, self.retry_after_s = code, detail, retry_after_s
        self.status = STATUS[code]


def problem(error: ApiError, request_id: str) -> JSONResponse:
    """The response for an error."""
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    if error.status == http.HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    body = {
        "type": f"urn:xclip-serve:error:{error.code}",
        "title": http.HTTPStatus(error.status).phrase,
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
        "request_id": request_id,
    }
    return JSONResponse(body, error.status, headers, PROBLEM_JSON)


def as_api_error(error: BaseException) -> ApiError:
    """Any exception as what the client is told; the unexpected says nothing about itself."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, VideoError):
        code = error.code if error.code in STATUS else "video_undecodable"
        return ApiError(code, error.detail)
    if isinstance(error, ClientDisconnect):
        return ApiError("client_disconnected", "the client has hung up")
    if isinstance(error, HTTPException):
        if error.status_code == 405:
            return ApiError("method_not_allowed", "this address takes another method; see /docs")
        if error.status_code == 404:
            return ApiError("not_found", "there is nothing at this address; see /docs")
        return ApiError("malformed_request", "the request cannot be understood; see /docs")
    if isinstance(error, RequestValidationError):
        return ApiError("bad_field", "a parameter is not valid; see /docs")
    if (
        isinstance(error, MemoryError | DeviceMemoryError)
        or getattr(error, "errno", None) in EXHAUSTED
    ):
        return ApiError(
            "out_of_resources",
            "the server lacks memory, disk or files; ask again, or with fewer views",
            retry_after_s=10,
        )
    return ApiError("internal_error", "the server failed on this request; it has been logged")


def answer_error(request: Request, error: BaseException) -> JSONResponse:
    """The response for any exception; what the operator must know is logged."""
    answer = as_api_error(error)
    request.state.error_code = answer.code
    if answer.code in ALARMING:
        structlog.get_logger("service").error("request failed", code=answer.code, exc_info=error)
    return problem(answer, getattr(request.state, "request_id", ""))


def install_handlers(app: FastAPI) -> None:
    """Answer every expected exception in the one form; the middleware answers the others."""

    async def handle(request: Request, error: Exception) -> JSONResponse:
        return answer_error(request, error)

    for kind in (ApiError, VideoError, HTTPException, RequestValidationError, ClientDisconnect):
        app.add_exception_handler(kind, handle)
