"""A client that a program has made from the OpenAPI document classifies a clip."""

from __future__ import annotations

import base64
import importlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, missing
from tests.service.conftest import RunningServer, running

GENERATOR = ROOT / ".venv-openapi" / "bin" / "openapi-python-client"
CLIP = ROOT / "docs" / "clip.mp4"
LABELS = ["a red circle moving left", "a red circle moving right"]
PACKAGE = "made_from_the_document"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running() as started:
        yield started


@pytest.fixture(scope="module")
def made(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the package; what the generator does not understand fails."""
    if not GENERATOR.exists():
        missing("openapi-python-client (make .venv-openapi/.installed)")
    folder = tmp_path_factory.mktemp("client")
    document = folder / "openapi.json"
    document.write_bytes(server.client.get("/v1/openapi.json").content)
    path = f"{GENERATOR.parent}:{os.environ['PATH']}"  # it has ruff tidy up what it made
    subprocess.run(
        [GENERATOR, "generate", "--path", document, "--output-path", folder / PACKAGE,
         "--meta", "none", "--fail-on-warning"],
        check=True, env={"PATH": path, "HOME": str(folder), "LANG": "C.UTF-8"},
    )  # fmt: skip
    sys.path.insert(0, str(folder))
    yield folder / PACKAGE
    sys.path.remove(str(folder))


def module(name: str) -> Any:
    return importlib.import_module(f"{PACKAGE}.{name}")


def test_it_classifies_with_a_form_and_with_json(server: RunningServer, made: Path) -> None:
    models, classify = module("models"), module("api.clips.classify")
    data = base64.b64encode(CLIP.read_bytes()).decode()
    file = module("types").File(payload=io.BytesIO(CLIP.read_bytes()), file_name="clip.mp4")
    form = models.ClassifyFilesBody(video=file, labels=LABELS)
    body = models.ClassifyJsonBody(
        video=models.ClassifyJsonBodyClipData(data=data), labels=LABELS, top_k=1
    )
    with module("client").Client(base_url=server.base_url, timeout=None) as client:
        answers = [classify.sync(client=client, body=one) for one in (form, body)]
        model = module("api.network.get_model").sync(client=client)
        state = module("api.health.get_readiness").sync(client=client)
        refused = classify.sync(
            client=client, body=models.ClassifyJsonBody(video=body.video, labels=["a", "a"])
        )
    for answer in answers:
        assert answer.predictions[0].label == LABELS[0]
        assert answer.predictions[0].index == 0
    assert answers[0].predictions[0].score == answers[1].predictions[0].score
    assert model.name == server.server.engine.bundle.manifest.name
    assert state.status == "ready"
    assert refused.code == models.ProblemCode.DUPLICATE_LABEL


def test_it_sends_a_clip_once_and_has_it_forgotten(server: RunningServer, made: Path) -> None:
    models = module("models")
    with module("client").Client(base_url=server.base_url, timeout=None) as client:
        with CLIP.open("rb") as file:
            body = models.CreateVideoFilesBody(video=module("types").File(payload=file))
            stored = module("api.clips.create_video").sync(client=client, body=body)
        known = models.ClassifyJsonBody(
            video=models.ClassifyJsonBodyClipId(id=stored.video_id), labels=LABELS
        )
        classify = module("api.clips.classify")
        assert classify.sync(client=client, body=known).cache.video == "hit"
        forget = module("api.clips.delete_video").sync_detailed
        assert forget(client=client, video_id=stored.video_id).status_code == 204
        gone = classify.sync(client=client, body=known)
    assert gone.code == models.ProblemCode.UNKNOWN_VIDEO_ID
