"""POST /classify on a real server: right answers, each to its own request."""

from __future__ import annotations

import concurrent.futures
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from export.bundle import open_bundle
from export.runtime import open_runtime
from model.inputs import decode_clip
from service.settings import DEMO_BUNDLE
from tests.service.conftest import RunningServer, clip_bytes, fake_runtime, running

LABELS = ["a red circle moving left", "juggling balls", "arm wrestling"]


def expected_logits(path: Path, labels: list[str], views: int = 1) -> np.ndarray:
    bundle = open_bundle(DEMO_BUNDLE)
    spec = bundle.manifest.inputs
    runtime = open_runtime(bundle, "onnxruntime-cpu")
    with path.open("rb") as file:
        frames = decode_clip(file, spec, views=views).frames
    ids = bundle.tokenizer().encode(labels, spec.context_length, spec.pad_id)
    text = np.repeat(runtime.encode_text(ids)[None], views, axis=0)
    logits = runtime.score(runtime.encode_video(frames), text)
    runtime.close()
    return logits


def drawn_clip(colours: Sequence[tuple[int, int, int]]) -> bytes:
    """An mp4 file of plain pictures, one for each colour."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for colour in colours:
            picture = np.full((64, 64, 3), colour, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return file.getvalue()


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_the_answer_is_the_networks(server: RunningServer, videos: dict[str, Path]) -> None:
    path = videos["arm_wrestling"]
    response = server.classify(path.read_bytes(), labels=LABELS)
    assert response.status_code == 200, response.text
    answer = response.json()
    logits = expected_logits(path, LABELS)[0]
    scores = softmax(logits.astype(float))
    got = {p["label"]: p for p in answer["predictions"]}
    for label, logit, score in zip(LABELS, logits, scores, strict=True):
        assert got[label]["logit"] == pytest.approx(logit, abs=1e-4)
        assert got[label]["score"] == pytest.approx(score, abs=1e-5)
    order = [p["score"] for p in answer["predictions"]]
    assert order == sorted(order, reverse=True)
    assert sum(order) == pytest.approx(1)
    assert answer["video"]["codec"] == "h264"
    assert answer["video"]["duration_s"] == pytest.approx(10, abs=0.1)
    assert answer["cache"]["video"] == "miss"
    assert set(answer["timing_ms"]) == {"decode", "queue", "encode", "text", "score", "total"}
    manifest = open_bundle(DEMO_BUNDLE).manifest
    assert answer["model"]["name"] == manifest.name
    assert answer["warnings"] == list(manifest.warnings)
    best = answer["predictions"][0]
    assert best["similarity"] * manifest.logit_scale == pytest.approx(best["logit"], rel=1e-5)


def test_views_average_their_scores(server: RunningServer, videos: dict[str, Path]) -> None:
    path = videos["apply_eye_makeup"]
    answer = server.classify(path.read_bytes(), labels=LABELS, views="3").json()
    scores = softmax(expected_logits(path, LABELS, views=3).astype(float)).mean(axis=0)
    got = {p["label"]: p["score"] for p in answer["predictions"]}
    assert [got[label] for label in LABELS] == pytest.approx(list(scores), abs=1e-5)
    assert len(answer["video"]["frame_times_s"]) == 3 * len(
        server.classify(path.read_bytes(), labels=LABELS).json()["video"]["frame_times_s"]
    )


def test_labels_as_json_and_repeated_are_the_same(server: RunningServer, clip: bytes) -> None:
    repeated = server.classify(clip, labels=LABELS).json()
    array = server.classify(clip, labels=json.dumps(LABELS)).json()
    assert repeated["predictions"] == array["predictions"]
    assert array["cache"] == {"video": "hit", "text_hits": 3, "text_misses": 0}


def test_top_k_cuts_after_the_softmax(server: RunningServer, clip: bytes) -> None:
    whole = server.classify(clip, labels=LABELS).json()["predictions"]
    cut = server.classify(clip, labels=LABELS, top_k="2").json()["predictions"]
    assert cut == whole[:2]


def test_other_labels_do_not_change_a_logit(server: RunningServer, clip: bytes) -> None:
    few = server.classify(clip, labels=LABELS).json()["predictions"]
    many = server.classify(clip, labels=[*LABELS, *(f"label {i}" for i in range(300))]).json()
    logits = {p["label"]: p["logit"] for p in many["predictions"]}
    for prediction in few:
        assert logits[prediction["label"]] == pytest.approx(prediction["logit"], abs=1e-4)


def test_templates_average_their_vectors(server: RunningServer, clip: bytes) -> None:
    plain = server.classify(clip, labels=["dog", "cat"]).json()["predictions"]
    one = server.classify(clip, labels=["dog", "cat"], template="{}").json()["predictions"]
    two = server.classify(
        clip, labels=["dog", "cat"], template=["a video of {}", "{} in the park"]
    ).json()["predictions"]
    assert plain == one
    assert plain != two


def test_video_id_asks_again_without_an_upload(server: RunningServer, clip: bytes) -> None:
    first = server.classify(clip, labels=LABELS).json()
    again = server.classify(labels=LABELS, video_id=first["video_id"])
    assert again.status_code == 200, again.text
    assert again.json()["predictions"] == first["predictions"]
    assert again.json()["video"] == first["video"]
    assert again.json()["cache"]["video"] == "hit"
    assert again.json()["timing_ms"]["decode"] == 0


def test_start_and_end_choose_the_frames(server: RunningServer, videos: dict[str, Path]) -> None:
    content = videos["arm_wrestling"].read_bytes()
    part = server.classify(content, labels=LABELS, start="2", end="4.5").json()
    whole = server.classify(content, labels=LABELS).json()
    assert all(2 <= t <= 4.5 for t in part["video"]["frame_times_s"])
    assert part["video_id"] != whole["video_id"]


def test_label_set(server: RunningServer, clip: bytes) -> None:
    stored = server.client.get("/labels").json()
    if not stored:
        pytest.fail("the embedded bundle should have a label list")
    name = stored[0]["name"]
    labels = server.client.get(f"/labels/{name}").json()["labels"]
    answer = server.classify(clip, label_set=name).json()
    assert sorted(p["label"] for p in answer["predictions"]) == sorted(labels)
    typed = server.classify(clip, labels=labels).json()
    assert [p["label"] for p in typed["predictions"]] == [p["label"] for p in answer["predictions"]]


def test_the_same_request_gives_the_same_answer(server: RunningServer, clip: bytes) -> None:
    answers = [server.classify(clip, labels=LABELS).json()["predictions"] for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]


def test_requests_in_flight_together_get_their_own_answers() -> None:
    clips = [clip_bytes(shade) for shade in range(8)]
    with running(fake_runtime()) as server:
        alone = [
            server.classify(c, labels=[f"label {i} {j}" for j in range(i + 1)]).json()
            for i, c in enumerate(clips)
        ]
    with running(fake_runtime()) as server, concurrent.futures.ThreadPoolExecutor(8) as threads:
        together = list(
            threads.map(
                lambda i: server.classify(
                    clips[i], labels=[f"label {i} {j}" for j in range(i + 1)]
                ).json(),
                [i for i in range(8) for _ in range(4)],
            )
        )
    for place, answer in enumerate(together):
        assert answer["predictions"] == alone[place // 4]["predictions"]
        assert answer["video_id"] == alone[place // 4]["video_id"]


def test_identical_uploads_at_once_are_encoded_once(clip: bytes) -> None:
    runtime = fake_runtime()
    with running(runtime) as server, concurrent.futures.ThreadPoolExecutor(6) as threads:
        runtime.calls.clear()
        answers = list(threads.map(lambda _: server.classify(clip, labels=LABELS).json(), range(6)))
        encoded = [call for call in runtime.calls if call[0] == "encode_video" and call[1][0] == 1]
    assert all(a["predictions"] == answers[0]["predictions"] for a in answers)
    probes = 6  # readiness runs the network too, at most once in a while
    assert 1 <= len(encoded) <= 1 + probes
    trial = 1  # the sample clip of the start
    assert server.server.engine.pool.stats.decoded - trial == 1


@pytest.fixture(scope="module")
def plain() -> Iterator[RunningServer]:
    with running(fake_runtime()) as server:
        yield server


EMPTY = dict.fromkeys(
    ["video_id", "video_url", "label_set", "template", "top_k", "shortlist", "start", "end",
     "views"], ""
)  # fmt: skip


def test_empty_fields_are_absent(plain: RunningServer) -> None:
    bare = plain.classify(clip_bytes(1), labels=["cat", "dog"])
    cleared = plain.classify(clip_bytes(1), labels=["cat", "dog", ""], **EMPTY)
    assert cleared.status_code == 200, cleared.text
    assert cleared.json()["predictions"] == bare.json()["predictions"]
    assert cleared.json()["video_id"] == bare.json()["video_id"]


def test_an_empty_file_field_beside_an_id_is_absent(plain: RunningServer) -> None:
    known = plain.classify(clip_bytes(1), labels=["cat"]).json()["video_id"]
    assert plain.classify(b"", labels=["cat", "dog"], video_id=known).status_code == 200


def test_numbers_as_forms_write_them(plain: RunningServer) -> None:
    numbers = {"top_k": "2.0", "views": " 1 ", "start": "0.", "end": "1e0"}
    answer = plain.classify(clip_bytes(1), labels=["a", "b", "c"], **numbers)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["predictions"]) == 2


@pytest.mark.parametrize(
    ("labels", "warned"),
    [("cat, dog", "looks like a list"), ("a zebra", "there is one label:"), ("cat\ndog", "")],
)
def test_one_label_is_answered_with_a_warning(
    plain: RunningServer, labels: str, warned: str
) -> None:
    warnings = plain.classify(clip_bytes(1), labels=labels).json()["warnings"]
    assert any(warned in line for line in warnings) if warned else not warnings


@pytest.mark.parametrize(
    ("labels", "marked"),
    [
        ("- cat\n- dog", True),
        ("1. cat\n2) dog\n(3) bird", True),
        ("id,name\n0,cat\n1,dog", True),
        ('"cat"\n"dog"', True),
        ("3 people dancing\n2 dogs", False),
        ("- cat\nsomething else\na dog", False),
        ("cat, running\ndog, sitting", False),
    ],
)
def test_labels_with_the_marks_of_a_list_are_answered_with_a_warning(
    plain: RunningServer, labels: str, marked: bool
) -> None:
    answer = plain.classify(clip_bytes(1), labels=labels).json()
    assert [bool("of a list" in line) for line in answer["warnings"]] == [True] * marked


def test_a_clip_without_motion_or_light_is_answered_with_a_warning(plain: RunningServer) -> None:
    still = plain.classify(drawn_clip([(200, 0, 0)]), labels=["a", "b"]).json()
    assert [line for line in still["warnings"] if "one frame" in line]
    black = plain.classify(drawn_clip([(0, 0, 0)] * 9), labels=["a", "b"]).json()
    assert [line for line in black["warnings"] if "black" in line]
    again = plain.classify(None, video_id=black["video_id"], labels=["a", "b"]).json()
    assert again["warnings"] == black["warnings"]


def test_an_id_says_why_it_takes_no_start(plain: RunningServer) -> None:
    known = plain.classify(clip_bytes(1), labels=["cat", "dog"]).json()["video_id"]
    answer = plain.classify(None, video_id=known, labels=["cat", "dog"], start="0.5")
    assert answer.status_code == 422
    assert "its bytes are not kept" in answer.json()["detail"]


def test_a_template_takes_the_place_of_a_stored_list_s_own() -> None:
    with running() as server:
        name = server.client.get("/labels").json()[0]["name"]
        labels = server.client.get(f"/labels/{name}").json()["labels"]
        template = "seen from above: {}"
        stored = server.classify(clip_bytes(1), label_set=name, template=template).json()
        given = server.classify(clip_bytes(1), labels=json.dumps(labels), template=template).json()
        assert stored["predictions"] == given["predictions"]
        plain_set = server.classify(clip_bytes(1), label_set=name).json()
        assert stored["predictions"] != plain_set["predictions"]
