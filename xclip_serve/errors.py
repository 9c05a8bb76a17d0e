"""The one exception of the front door: a question that got no answer, and why."""

from __future__ import annotations

# Problems of the question, the server or the store, not of one clip: no other would be answered.
NOT_OF_THE_CLIP = frozenset(
    [
        *("unreachable", "unexpected_answer", "unauthorized", "foreign_origin", "unknown_host"),
        *("not_found", "method_not_allowed", "unknown_field", "missing_field", "duplicate_field"),
        *("empty_labels", "empty_label", "duplicate_label", "too_many_labels", "label_too_long"),
        *("bad_field", "bad_template", "not_calibrated", "too_many_templates"),
        *("unknown_label_set", "not_ready", "draining"),
        *("queue_full", "rate_limited", "out_of_resources"),
    ]
)


class ClassifyError(Exception):
    """A problem, as the API reports it; its text is `detail`.

    Attributes:
        code: Stable, for programs: a code of the API, or `unreachable` (no server answers),
            `unexpected_answer` (what answers is no xclip-serve), `cannot_open` (no such file, or no
            right to read it).
        detail: A sentence that says what to change.
        status: The HTTP status, also where no HTTP was spoken; None where the API has none.
        retry_after_s: Seconds after which asking again may help; None where it will not.
        request_id: What the server's log calls the request; None where no server was asked.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        status: int | None = None,
        retry_after_s: int | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.code, self.detail, self.status = code, detail, status
        self.retry_after_s, self.request_id = retry_after_s, request_id


def cannot_open(error: OSError) -> ClassifyError:
    """Say which file cannot be opened, and why."""
    where = f"{error.filename}: " if error.filename else ""
    return ClassifyError("cannot_open", f"{where}{error.strerror or error}")
