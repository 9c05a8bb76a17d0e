"""Vectors from the front door: in process, from a server, in tables, and a search among them."""

from __future__ import annotations

import asyncio
import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from model.data.shapes import (
    SceneOptions,
    Subject,
    draw_frames,
    draw_scene,
    plain_label,
    write_video,
)
from tests.service.conftest import RunningServer
from tests.xclip_serve.conftest import CLIP, LABELS
from tests.xclip_serve.test_answers import run_example
from xclip_serve import AsyncClient, Classifier, ClassifyError, Client
from xclip_serve.rows import VectorLayout
from xclip_serve.tables import open_table
from xclip_serve.verbs.batch import main as batch


def test_vectors_are_the_same_in_process_and_from_a_server(
    server: RunningServer, classifier: Classifier
) -> None:
    here = classifier.embed(CLIP)
    assert np.linalg.norm(here.vector) == pytest.approx(1)
    with Client(server.base_url) as client:
        there = client.embed(CLIP.read_bytes())
        assert (there.vector == here.vector).all()
        assert (there.video_id, there.bundle) == (here.video_id, here.bundle)
        (of_many,) = dict(client.embed_many([CLIP])).values()
        assert not isinstance(of_many, ClassifyError)
        assert (of_many.vector == here.vector).all()
        texts = client.embed_texts(LABELS, template="a clip of {}", normalize=False)
    assert (texts == classifier.embed_texts(LABELS, template="a clip of {}", normalize=False)).all()
    many = [f"text {i}" for i in range(2049)]  # more than one request holds
    assert classifier.embed_texts(many).shape == (2049, len(here.vector))
    with pytest.raises(ClassifyError, match="label 2 is empty"):
        classifier.embed_texts(["a", " "])
    with pytest.raises(TypeError, match="list"):
        classifier.embed_texts("a")

    async def ask() -> tuple[np.ndarray, np.ndarray]:
        async with AsyncClient(server.base_url) as client:
            clip = await client.embed(video_id=here.video_id)
            return clip.vector, await client.embed_texts(LABELS)

    vector, of_labels = asyncio.run(ask())
    assert (vector == here.vector).all()
    assert (of_labels == classifier.embed_texts(LABELS)).all()


def test_an_index_of_ten_thousand_clips_is_searched_by_text(
    tmp_path: Path, classifier: Classifier
) -> None:
    """Nearest by cosine first, then exactly: what the network says of these is what counts."""
    subjects = [Subject("red", "circle", "left"), Subject("blue", "square", "growing")]
    clips = tmp_path / "clips"
    clips.mkdir()
    draw = np.random.default_rng(3)
    for number, subject in enumerate(subjects * 2):
        scene = draw_scene(draw, subject, SceneOptions(short_side=(96, 128)))
        write_video(clips / f"{number}.mp4", draw_frames(scene), rate=scene.rate)
    index = tmp_path / "index.jsonl"
    assert batch([str(clips), "--embeddings", "--output", str(index), "--jobs", "1"]) == 0
    rows = [json.loads(line) for line in index.read_text().splitlines()]
    text = classifier.embed_texts([plain_label(subjects[0])])[0]
    with index.open("a") as file:  # others, whose cosine is lower than that of any of these
        for number in range(10_000 - len(rows)):
            vector = draw.standard_normal(len(text)) - 9 * text
            row = {**rows[0], "path": f"none-{number}.mp4"}
            row["embedding"] = (vector / np.linalg.norm(vector)).tolist()
            file.write(json.dumps(row) + "\n")
    printed = run_example("search_by_text", index, plain_label(subjects[0]))
    found = [line.split()[1] for line in printed]
    logits = [float(line.split()[0]) for line in printed]
    assert set(map(Path, found[:2])) == {clips / "0.mp4", clips / "2.mp4"}
    assert logits == sorted(logits, reverse=True)
    exact = classifier.classify(found[0], [plain_label(subjects[0])]).predictions[0].logit
    assert logits[0] == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize(
    "option",
    [
        ["--labels", "labels.txt"],
        ["--label", "a"],
        ["--label-set", "labels"],
        ["--template", "a {}"],
        ["--sigmoid"],
        ["--open-set"],
        ["--coverage", "0.9"],
        ["--scores", "all"],
        ["--top-k", "2"],
    ],
)
def test_what_is_said_of_labels_is_refused_with_vectors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: list[str]
) -> None:
    table = tmp_path / "index.csv"
    assert batch([str(CLIP), "--embeddings", "--output", str(table), *option]) == 2
    assert f"leave {option[0]} out" in capsys.readouterr().err
    assert not table.exists()


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_vectors_stand_in_any_table(tmp_path: Path, classifier: Classifier, ending: str) -> None:
    layout, vector = VectorLayout(), classifier.embed(CLIP)
    table = open_table(tmp_path / f"index{ending}", layout.columns)
    table.add(layout.row("a.mp4", vector))
    table.add(layout.row("b.mp4", ClassifyError("not_a_video", "no")))
    table.close(complete=True)
    if ending == ".csv":
        with (tmp_path / "index.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        stored = json.loads(rows[0]["embedding"])
    else:
        rows = pq.read_table(tmp_path / "index.parquet").to_pylist()
        stored = rows[0]["embedding"]
        assert rows[1]["embedding"] is None
    assert (np.array(stored, np.float32) == vector.vector).all()
    assert rows[1]["code"] == "not_a_video"
