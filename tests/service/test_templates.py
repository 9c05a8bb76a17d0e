"""The prompts that a network was trained with: the default of every request without its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from export.bundle import open_bundle
from export.bundle.writing import write_manifest
from service.settings import DEMO_BUNDLE
from tests.service.conftest import RunningServer, clip_bytes, running

LABELS = ["a red circle moving left", "a blue square growing", "juggling"]
TEMPLATES = ["a video of {}", "watch {}!"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of the demo's network, as if it had been trained with templates."""
    folder = tmp_path_factory.mktemp("bundles") / "prompted"
    shutil.copytree(DEMO_BUNDLE, folder)
    manifest = open_bundle(DEMO_BUNDLE).manifest
    write_manifest(folder, manifest.model_copy(update={"templates": tuple(TEMPLATES)}))
    warm = folder.with_name("warm.txt")
    warm.write_text("\n".join(LABELS))
    with running(bundle=folder, warm_labels=warm) as server:
        yield server


@pytest.fixture(scope="module")
def bare() -> Iterator[RunningServer]:
    with running() as server:
        yield server


def logits(server: RunningServer, **fields: Any) -> dict[str, float]:
    answer = server.classify(clip_bytes(1), **{"labels": LABELS, **fields})
    assert answer.status_code == 200, answer.text
    return {p["label"]: p["logit"] for p in answer.json()["predictions"]}


def test_labels_are_prompted_as_the_network_was_trained(
    trained: RunningServer, bare: RunningServer
) -> None:
    assert logits(trained) == pytest.approx(logits(bare, template=TEMPLATES), abs=1e-4)
    assert logits(trained) != pytest.approx(logits(bare), abs=1e-2)
    assert trained.client.get("/model").json()["templates"] == TEMPLATES


def test_the_start_up_list_is_prompted_alike(trained: RunningServer) -> None:
    cache = trained.classify(clip_bytes(1), labels=LABELS).json()["cache"]
    assert (cache["text_hits"], cache["text_misses"]) == (len(LABELS) * len(TEMPLATES), 0)


def test_a_request_may_have_others_or_none(trained: RunningServer, bare: RunningServer) -> None:
    other = "there is {}"
    assert logits(trained, template=other) == pytest.approx(logits(bare, template=other), abs=1e-4)
    assert logits(trained, template="{}") == pytest.approx(logits(bare), abs=1e-4)


def test_a_stored_list_has_its_own_vectors_unless_the_request_has_templates(
    trained: RunningServer, bare: RunningServer
) -> None:
    name = bare.client.get("/labels").json()[0]["name"]
    stored: dict[str, Any] = {"labels": [], "label_set": name}
    assert logits(trained, **stored) == pytest.approx(logits(bare, **stored), abs=1e-4)
    labels = json.dumps(bare.client.get(f"/labels/{name}").json()["labels"])
    prompted = logits(trained, **stored, template=TEMPLATES)
    assert prompted == pytest.approx(logits(trained, labels=labels), abs=1e-4)
