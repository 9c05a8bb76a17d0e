"""The one exception of the front door: a question that got no answer, and why."""

from __future__ import annotations


class ClassifyError(Exception):
    """A problem, as the API reports it; its text is `detail`.

    Attributes:
        code: Stable, for programs: a code of the API, or `unreachable` (no server answers),
            `unexpected_answer` (what answers is no xclip-serve), `cannot_open` (no such file).
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
