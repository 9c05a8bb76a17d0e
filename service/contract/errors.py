"""The errors of the API: stable codes, and the exception that carries one. Loads no HTTP library.

What each is answered with over HTTP stands in `service.api.problems`.
"""

from __future__ import annotations

from typing import Literal

ErrorCode = Literal[
    "malformed_request",
    "client_disconnected",
    "unauthorized",
    "foreign_origin",
    "unknown_host",
    "bad_field",
    "unknown_field",
    "missing_field",
    "duplicate_field",
    "empty_labels",
    "empty_label",
    "duplicate_label",
    "too_many_labels",
    "label_too_long",
    "bad_template",
    "too_many_templates",
    "video_url_disabled",
    "video_url_refused",
    "video_url_failed",
    "start_past_end",
    "not_calibrated",
    "unknown_label_set",
    "unknown_video_id",
    "not_found",
    "method_not_allowed",
    "upload_timeout",
    "upload_too_large",
    "too_many_parts",
    "resolution_too_large",
    "video_too_long",
    "too_many_frames",
    "too_many_windows",
    "too_many_streams",
    "not_a_video",
    "unsupported_media",
    "unsupported_content_type",
    "video_undecodable",
    "video_too_short",
    "video_too_demanding",
    "decode_timeout",
    "decode_crashed",
    "queue_full",
    "rate_limited",
    "headers_too_large",
    "internal_error",
    "not_ready",
    "draining",
    "out_of_resources",
    "deadline_passed",
]


LONGEST_RETRY_S = 60  # whole seconds; clients wait no longer


class ApiError(Exception):
    """A request that gets no answer of its own.

    Attributes:
        code: Stable, for programs.
        detail: A sentence for people that says what to change.
        retry_after_s: Whole seconds after which asking again may help; None where it will not.
    """

    def __init__(self, code: ErrorCode, detail: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.code: ErrorCode = code
        self.detail, self.retry_after_s = detail, retry_after_s
