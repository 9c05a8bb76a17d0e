"""Which texts clips are compared with, and which of them are right."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.data.frames.loading import Batch
from model.data.lists.cliplist import ClipList, Sample
from model.data.lists.files import Folder
from model.data.lists.labels import LabelList
from model.evaluate.scorer import encode_texts
from model.inputs import Tokenizer
from model.processes import ALONE
from model.train.config import LossConfig, StartConfig
from model.train.errors import TrainError
from model.train.initial_model import InitialModel, make_initial_model
from model.train.objective import Objective, Texts, tokenised
from tests.model.clip_sets import tiny_run

# clip: label, wordings; "a circle moves" is right for clips of two labels
WORDINGS = ("a red circle", "a circle moves", "a blue circle", "wave")
SAMPLES = (Sample("0", 0, (0, 1)), Sample("1", 1, (2, 1)), Sample("2", 2, (3,)))
LABELS = LabelList(("red circle", "blue circle", "wave", "nod"))
TEXTS = (*WORDINGS, "nod")


@pytest.fixture(scope="module")
def start() -> InitialModel:
    config = tiny_run(Path(), Path())["start"]
    return make_initial_model(StartConfig.model_validate(config), seed=0)


@pytest.fixture
def clips(tmp_path: Path) -> ClipList:
    return ClipList(SAMPLES, LABELS, WORDINGS, Folder(tmp_path))


def objective(clips: ClipList, start: InitialModel, over: str, frozen: bool = False) -> Objective:
    ids = torch.from_numpy(tokenised(clips, "{}", start.tokenizer, start.net.inputs))
    texts = Texts(ids, encode_texts(start.net, ids) if frozen else None)
    return Objective(clips, texts, LossConfig(over=over), seed=0)


def batch(indices: list[int], wordings: list[int], samples: tuple[Sample, ...] = SAMPLES) -> Batch:
    labels = [samples[i].label for i in indices]
    frames = torch.zeros(len(indices), 1, 1, 1, 3, dtype=torch.uint8)
    return Batch(frames, torch.tensor(indices), torch.tensor(labels), torch.tensor(wordings), ())


def read_back(ids: torch.Tensor, tokenizer: Tokenizer, texts: tuple[str, ...]) -> list[str]:
    """Which of the texts the rows of token ids are."""
    found = []
    for row in ids.tolist():
        trimmed = row[: row.index(tokenizer.end_id) + 1]
        found += [text for text in texts if tokenizer.encode([text])[0].tolist() == trimmed]
    return found


def test_over_labels_every_label_is_a_candidate_and_what_is_true_of_a_clip_is_right(
    clips: ClipList, start: InitialModel
) -> None:
    asked = objective(clips, start, "labels")
    seen = set()
    for update in range(40):
        ids, right = asked.candidates(batch([2, 0, 1], [3, 0, 1]), update, ALONE)
        texts = tuple(read_back(ids, start.tokenizer, TEXTS))
        assert texts[0] in ("a red circle", "a circle moves")
        assert texts[1] in ("a blue circle", "a circle moves")
        assert texts[2:] == ("wave", "nod")  # no clip nods, so its own name
        # "a circle moves" is true of both circles, whichever label it stands for.
        moves = [text == "a circle moves" for text in texts]
        red, blue = [True, moves[1], False, False], [moves[0], True, False, False]
        assert right.tolist() == [[False, False, True, False], red, blue]
        seen.add(texts[:2])
    assert len(seen) == 4


def test_a_label_in_the_words_of_another_clip_is_right_where_nothing_else_is(
    start: InitialModel, tmp_path: Path
) -> None:
    """Of two clips of one label one is small and one is large: neither is left without a label."""
    samples = (Sample("0", 0, (0,)), Sample("1", 0, (2,)))
    clips = ClipList(samples, LabelList(("circle", "wave")), WORDINGS, Folder(tmp_path))
    asked = objective(clips, start, "labels")
    for update in range(8):
        _, right = asked.candidates(batch([0, 1], [0, 2], samples), update, ALONE)
        assert right.tolist() == [[True, False], [True, False]]


def test_each_update_draws_other_wordings_of_the_labels_and_the_same_again(
    clips: ClipList, start: InitialModel
) -> None:
    asked = objective(clips, start, "labels")
    once = [asked.candidates(batch([0], [0]), update, ALONE)[0] for update in range(12)]
    again = [asked.candidates(batch([0], [0]), update, ALONE)[0] for update in range(12)]
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    firsts = {read_back(ids, start.tokenizer, TEXTS)[0] for ids in once}
    assert firsts == {"a red circle", "a circle moves"}


def test_over_captions_what_another_clip_goes_by_is_right_for_both(
    clips: ClipList, start: InitialModel
) -> None:
    drawn = batch([0, 1, 2], [0, 1, 3])  # "a red circle", "a circle moves", "wave"
    ids, right = objective(clips, start, "captions").candidates(drawn, 0, ALONE)
    assert read_back(ids, start.tokenizer, WORDINGS) == ["a red circle", "a circle moves", "wave"]
    assert right.tolist() == [[True, True, False], [False, True, False], [False, False, True]]


def test_equal_captions_are_one_candidate(clips: ClipList, start: InitialModel) -> None:
    _, right = objective(clips, start, "captions").candidates(batch([0, 1], [1, 1]), 0, ALONE)
    assert right.tolist() == [[True], [True]]


def test_extra_captions_stand_beside_those_of_the_batch(
    clips: ClipList, start: InitialModel
) -> None:
    """Whatever is drawn, what is true of a clip is right, and the clip's own caption is there."""
    ids = torch.from_numpy(tokenised(clips, "{}", start.tokenizer, start.net.inputs))
    config = LossConfig(over="captions", extra_captions=40)
    asked = Objective(clips, Texts(ids, None), config, seed=0)
    found, right = asked.candidates(batch([0], [0]), 0, ALONE)
    assert read_back(found, start.tokenizer, WORDINGS) == list(WORDINGS)
    assert right.tolist() == [[True, True, False, False]]
    few = Objective(clips, Texts(ids, None), LossConfig(over="captions", extra_captions=1), seed=0)
    drawn = [few.candidates(batch([0], [0]), update, ALONE)[1].shape[1] for update in range(20)]
    assert set(drawn) == {1, 2}  # another one, or the clip's own again


@pytest.mark.parametrize("over", ["labels", "captions"])
def test_frozen_text_gives_the_vectors_of_the_same_texts(
    clips: ClipList, start: InitialModel, over: str
) -> None:
    drawn = batch([0, 2], [0, 3])
    ids, _ = objective(clips, start, over).candidates(drawn, 1, ALONE)
    vectors, _ = objective(clips, start, over, frozen=True).candidates(drawn, 1, ALONE)
    assert torch.allclose(vectors, encode_texts(start.net, ids), atol=1e-5)
    assert not vectors.requires_grad


def with_labels(*names: str) -> ClipList:
    samples = tuple(Sample(str(i), i, (i,)) for i in range(len(names)))
    return ClipList(samples, LabelList(names), names, Folder(Path()))


def test_texts_are_as_long_as_the_longest_of_those_asked_for(start: InitialModel) -> None:
    clips = with_labels("wave", "a very long label of many words")
    texts = Texts(torch.from_numpy(tokenised(clips, "{}", start.tokenizer, start.net.inputs)), None)
    assert texts.take(torch.tensor([1])).shape[1] == texts.ids.shape[1]
    short = texts.take(torch.tensor([0]))
    assert short[0].tolist() == start.tokenizer.encode(["wave"])[0].tolist()


def test_names_go_into_the_template_and_other_wordings_do_not(
    clips: ClipList, start: InitialModel
) -> None:
    ids = tokenised(clips, "a clip of {}", start.tokenizer, start.net.inputs)
    asked = ("a red circle", "a circle moves", "a blue circle", "a clip of wave")
    assert read_back(torch.from_numpy(ids[:4]), start.tokenizer, asked) == list(asked)


def test_a_label_that_is_too_long_and_a_template_without_a_place_are_named(
    start: InitialModel,
) -> None:
    spec = start.net.inputs
    with pytest.raises(TrainError, match=r"data\.labels: label 'word word"):
        tokenised(with_labels(" ".join(["word"] * 90)), "{}", start.tokenizer, spec)
    with pytest.raises(TrainError, match=r"data\.template: template 'a clip'"):
        tokenised(with_labels("wave"), "a clip", start.tokenizer, spec)
