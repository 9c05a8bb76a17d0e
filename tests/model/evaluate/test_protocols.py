"""The paper's protocols on scores that are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model.data.frames.reading import Broken
from model.data.lists.cliplist import ClipList, Sample
from model.data.lists.files import Folder
from model.data.lists.labels import LabelList
from model.evaluate.paper import BASE_TO_NOVEL, DATASETS, PROTOCOLS, SUPERVISED, published
from model.evaluate.protocols import (
    VIEWS,
    base_to_novel,
    harmonic_mean,
    mean_and_std,
    part,
    single,
    zero_shot,
)
from model.evaluate.scores import Scores
from model.network.config import VARIANTS


def clips(count: int = 4) -> ClipList:
    samples = tuple(Sample(str(i), 0, (0,)) for i in range(count))
    return ClipList(samples, LabelList(("a", "b")), ("a",), Folder(Path()))


def right(share: float, broken: int = 0) -> Callable[[ClipList], Scores]:
    """A network that is right about the first clips, up to that share of those it scores."""

    def measure(found: ClipList) -> Scores:
        count = len(found) - broken
        rows = np.zeros((count, 2), np.float32)
        rows[:, 1] = 0.5
        rows[: round(share * count), 0] = 1
        lost = tuple(Broken(str(i), "missing") for i in range(broken))
        return Scores(np.arange(count), rows, np.zeros(count, np.int64), lost)

    return measure


def test_supervised_is_four_by_three_views_and_the_others_one() -> None:
    assert VIEWS == {
        "supervised": (4, 3), "zero-shot": (1, 1), "few-shot": (1, 1), "base-to-novel": (1, 1),
    }  # fmt: skip
    assert set(VIEWS) == set(PROTOCOLS)


def test_one_list() -> None:
    result = single("supervised", "val", clips(), right(0.75))
    assert result.figures == {"top1": 75.0, "top5": 100.0}


def test_zero_shot_is_mean_and_sample_deviation_over_splits() -> None:
    shares = iter((0.25, 0.5, 0.75))
    splits = [(f"split{i}", clips()) for i in range(3)]
    result = zero_shot(splits, lambda found: right(next(shares))(found))
    assert result.figures == {"mean": 50.0, "std": 25.0}
    assert [p.name for p in result.parts] == ["split0", "split1", "split2"]


def test_one_split_has_no_deviation() -> None:
    assert mean_and_std([44.0]) == {"mean": 44.0}


def test_base_to_novel_takes_means_over_seeds_and_their_harmonic_mean() -> None:
    base, novel = clips(4), clips(8)
    halves = {4: iter((0.5, 1.0)), 8: iter((0.25, 0.5))}

    def measure(found: ClipList) -> Scores:
        return right(next(halves[len(found)]))(found)

    result = base_to_novel(base, novel, [("s1", measure), ("s2", measure)])
    assert result.figures["base"] == 75.0
    assert result.figures["novel"] == 37.5
    assert result.figures["harmonic"] == pytest.approx(50.0)
    assert [p.name for p in result.parts] == ["s1, base", "s1, novel", "s2, base", "s2, novel"]


def test_harmonic_means_of_the_paper() -> None:
    assert harmonic_mean(76.4, 61.1) == pytest.approx(67.9, abs=0.05)
    assert harmonic_mean(74.1, 56.4) == pytest.approx(64.0, abs=0.1)
    assert harmonic_mean(0, 0) == 0


def test_broken_clips_are_counted_apart_and_none_is_lost() -> None:
    found = part("val", clips(10), right(0.5, broken=2)(clips(10)))
    assert (found.clips, found.broken, found.top1) == (8, 2, 50.0)
    with pytest.raises(AssertionError, match="lost"):
        part("val", clips(11), right(0.5)(clips(10)))


def test_every_network_of_the_paper_is_a_published_variant() -> None:
    names = {config.variant for config in VARIANTS.values()}
    assert {network for _, network in SUPERVISED} <= names
    assert VARIANTS["xclip-base-patch16-zero-shot"].variant == "B/16, 224 pixels, 32 frames"
    assert VARIANTS["xclip-large-patch14-16-frames"].variant == "L/14, 336 pixels, 16 frames"
    assert {data for data, _ in SUPERVISED} | set(BASE_TO_NOVEL) <= set(DATASETS)


def test_published_figures_belong_to_their_network() -> None:
    assert published("supervised", "k400", "B/32, 224 pixels, 8 frames", None) == {
        "top1": 80.4,
        "top5": 95.0,
    }
    assert published("supervised", "hmdb51", "B/32, 224 pixels, 8 frames", None) == {}
    assert published("zero-shot", "ucf101", "B/16, 224 pixels, 32 frames", None) == {
        "mean": 72.0,
        "std": 2.3,
    }
    assert published("zero-shot", "ucf101", "B/16, 224 pixels, 8 frames", None) == {}
    assert published("few-shot", "hmdb51", "B/16, 224 pixels, 32 frames", 2) == {"top1": 53.0}
    assert published("few-shot", "hmdb51", "B/16, 224 pixels, 32 frames", 3) == {}
    assert published("base-to-novel", "k400", "B/16, 224 pixels, 32 frames", 16)["harmonic"] == 64.0
    assert published("supervised", None, "B/32, 224 pixels, 8 frames", None) == {}
