"""A FastAPI around transformers' X-CLIP, as people write it: one route, FastAPI's thread pool.

    python -m benchmarks.lib.fastapi_peer --model FOLDER --precision fp32 --port N

torch runs each clip with as many threads as the process may use.
"""

from __future__ import annotations

import uvicorn
from fastapi import FastAPI, File, Form, UploadFile

from benchmarks.lib.transformers import Pipeline, server_arguments
from export.runtime.cpus import available_cpus


def make_app(pipeline: Pipeline) -> FastAPI:
    """Make the whole service."""
    app = FastAPI()

    @app.get("/health")
    def health() -> str:
        return "ok"

    # No `async`: the framework runs it in a thread of its pool (40 of them).
    @app.post("/classify")
    def classify(video: UploadFile = File(), labels: list[str] = Form()) -> dict[str, float]:  # noqa: B008
        return pipeline(video.file.read(), labels)

    return app


def main() -> None:
    """Serve until stopped."""
    given = server_arguments(__doc__)
    app = make_app(Pipeline(given.model, given.precision, available_cpus()))
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
