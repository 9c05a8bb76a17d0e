"""LitServe around transformers' X-CLIP: its defaults, one worker that has all processors.

    python -m benchmarks.lib.litserve_peer --model FOLDER --precision fp32 --port N

Only its time limit of 30 s is lifted, so that what waits in a long queue is answered.
"""

# No `from __future__ import annotations`: LitServe reads the type of `request` as an object.
from pathlib import Path

import litserve
from starlette.requests import Request

from benchmarks.lib.transformers import Pipeline, server_arguments
from export.runtime.cpus import available_cpus


class Classify(litserve.LitAPI):
    """One clip and its labels at a time."""

    def __init__(self, folder: Path, precision: str) -> None:
        super().__init__(api_path="/classify")
        self._folder, self._precision = folder, precision

    def setup(self, device: str) -> None:
        """Load the model in the worker."""
        self._pipeline = Pipeline(self._folder, self._precision, available_cpus())

    def decode_request(self, request: Request) -> tuple[bytes, list[str]]:
        """Return the clip and the labels; LitServe hands over the parsed form."""
        return request["video"].file.read(), request.getlist("labels")  # type: ignore[attr-defined]

    def predict(self, asked: tuple[bytes, list[str]]) -> dict[str, float]:
        """Return labels and their shares."""
        return self._pipeline(*asked)


def main() -> None:
    """Serve until stopped."""
    given = server_arguments(__doc__)
    server = litserve.LitServer(
        Classify(given.model, given.precision), accelerator="cpu", timeout=False
    )
    server.run(host="127.0.0.1", port=given.port, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
