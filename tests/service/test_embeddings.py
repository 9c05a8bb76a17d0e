"""`POST /v1/embeddings`: vectors of clips and texts, and what order their cosines give."""

from __future__ import annotations

import base64
import io
from typing import Any

import httpx
import numpy as np
import pytest

from model.inputs import decode_clip
from service.api.embedding_request import MAX_INPUTS
from service.api.json_stream import VECTORS_AT_ONCE, write_embeddings
from service.contract.embeddings import Embedding, Embeddings, TokenUse
from tests.conftest import ROOT
from tests.service.conftest import RunningServer

CLIP = (ROOT / "docs" / "clip.mp4").read_bytes()
TEXTS = ["a red circle moving left", "a blue square growing", "a red circle moving left"]


def ask(server: RunningServer, **body: Any) -> httpx.Response:
    return server.client.post("/v1/embeddings", json=body)


def of_texts(server: RunningServer, **body: Any) -> dict[str, Any]:
    response = ask(server, **body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def of_clip(server: RunningServer, **fields: str) -> dict[str, Any]:
    response = server.client.post("/v1/embeddings", files={"video": ("c", CLIP)}, data=fields)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def vectors(answer: dict[str, Any]) -> np.ndarray:
    return np.array([each["embedding"] for each in answer["data"]], np.float32)


def test_texts_have_the_form_that_clients_of_openai_read(server: RunningServer) -> None:
    answer = of_texts(server, input=TEXTS, model="anything", user="somebody")
    assert (answer["object"], answer["model"]) == ("list", "shapes-demo")
    assert [(each["object"], each["index"]) for each in answer["data"]] == [
        ("embedding", i) for i in range(3)
    ]
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 3 * 5
    found = vectors(answer)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1)
    assert (found[0] == found[2]).all()
    one = of_texts(server, input=TEXTS[1])
    assert vectors(one)[0] == pytest.approx(found[1], abs=1e-5)
    # As their client asks, which decodes it itself.
    packed = of_texts(server, input=TEXTS, model="m", encoding_format="base64")
    decoded = [
        np.frombuffer(base64.b64decode(each["embedding"]), dtype="float32")
        for each in packed["data"]
    ]
    assert (np.array(decoded) == found).all()


def test_a_clip_has_the_vector_that_the_encoder_gave(server: RunningServer) -> None:
    answer = of_clip(server, normalize="false")
    held = server.server.engine.features._clips._entries[("", answer["video_id"])].value.features[
        "video"
    ]
    assert (vectors(answer) == held).all()
    assert answer["video"]["codec"] == "h264"
    unit = held[0] / np.linalg.norm(held[0])
    assert vectors(of_clip(server))[0] == pytest.approx(unit, abs=1e-6)
    again = of_texts(server, video={"id": answer["video_id"]}, normalize=False)
    assert (vectors(again) == held).all()
    data = base64.b64encode(CLIP).decode()
    sent = of_texts(server, video={"data": data}, normalize=False, encoding_format="base64")
    assert base64.b64decode(sent["data"][0]["embedding"]) == held.astype("<f4").tobytes()


def test_several_views_have_one_vector(server: RunningServer) -> None:
    answer = of_clip(server, views="3")
    held = server.server.engine.features._clips._entries[("", answer["video_id"])].value.features[
        "video"
    ]
    assert len(held) == 3
    mean = (held / np.linalg.norm(held, axis=1, keepdims=True)).mean(axis=0)
    assert vectors(answer)[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)


@pytest.mark.parametrize("views", ["1", "3"])
def test_a_shortlist_takes_labels_in_the_order_of_these_cosines(
    server: RunningServer, views: str
) -> None:
    labels = list(server.server.engine.labels.label_set("labels").labels)
    texts = vectors(of_texts(server, input=labels))
    order = np.argsort(-(texts @ vectors(of_clip(server, views=views))[0]), kind="stable")
    for count in (1, 5, 40):
        answer = server.classify(CLIP, label_set="labels", shortlist=str(count), views=views)
        chosen = {prediction["index"] for prediction in answer.json()["predictions"]}
        assert chosen == set(order[:count].tolist())


def test_vectors_are_those_of_torch(server: RunningServer) -> None:
    torch = pytest.importorskip("torch")
    from model import load_checkpoint
    from model.network.pixels import NormalisePixels

    bundle = server.server.engine.bundle
    net, spec = load_checkpoint(ROOT / "model" / "demo"), bundle.manifest.inputs
    pixels = NormalisePixels(spec)(torch.from_numpy(decode_clip(io.BytesIO(CLIP), spec).frames))
    ids = bundle.tokenizer().encode(TEXTS, spec.context_length, spec.pad_id)
    with torch.no_grad():
        video, text = net.encode_video(pixels)[0].numpy(), net.encode_text(torch.from_numpy(ids))
    assert vectors(of_clip(server, normalize="false")) == pytest.approx(video, abs=1e-3)
    found = vectors(of_texts(server, input=TEXTS, normalize=False))
    assert found == pytest.approx(text.numpy(), abs=1e-3)


def test_templates_are_averaged_as_for_labels(server: RunningServer) -> None:
    templates = ["a video of {}", "{}, seen from above"]
    found = vectors(of_texts(server, input=["a cat"], templates=templates, normalize=False))
    filled = [template.format("a cat") for template in templates]
    each = vectors(of_texts(server, input=filled, normalize=False))
    assert found[0] == pytest.approx(each.mean(axis=0), abs=1e-5)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "missing_field"),
        ({"input": []}, "missing_field"),
        ({"input": [1, 2]}, "bad_field"),
        ({"input": ["a", " "]}, "empty_label"),
        ({"input": "a" * 100_000}, "label_too_long"),
        ({"input": ["a"] * (MAX_INPUTS + 1)}, "too_many_labels"),
        ({"input": "a", "encoding_format": "int8"}, "bad_field"),
        ({"input": "a", "dimensions": 7}, "bad_field"),
        ({"input": "a", "normalize": "no"}, "bad_field"),
        ({"input": "a", "video": {"id": "0" * 32}}, "bad_field"),
        ({"input": "a", "views": 2}, "bad_field"),
        ({"video": {"id": "0" * 32}, "templates": ["{}"]}, "bad_field"),
        ({"video": {"id": "0" * 32}}, "unknown_video_id"),
        ({"input": "a", "labels": ["a"]}, "unknown_field"),
    ],
)
def test_what_makes_no_sense_is_refused(
    server: RunningServer, body: dict[str, Any], code: str
) -> None:
    response = ask(server, **body)
    assert response.json()["code"] == code, response.text
    assert 400 <= response.status_code < 500


@pytest.mark.parametrize("tokens", [[1, 2], [[1, 2], [3]], 7, [None]])
def test_who_sends_tokens_is_told_to_send_texts(server: RunningServer, tokens: Any) -> None:
    problem = ask(server, input=tokens).json()
    assert problem["code"] == "bad_field"
    assert "token ids are not read" in problem["detail"]


def test_vectors_are_written_as_they_would_be_at_once() -> None:
    for count in (1, VECTORS_AT_ONCE, 3 * VECTORS_AT_ONCE + 1):
        data = tuple(Embedding(index=i, embedding=[i / 7, -1e-9]) for i in range(count))
        use = TokenUse(prompt_tokens=1, total_tokens=1)
        answer = Embeddings(data=data, model='a "model"', bundle="sha256:0", usage=use)
        assert write_embeddings(answer) == answer.model_dump_json().encode()
