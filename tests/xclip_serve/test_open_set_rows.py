"""`--open-set`, `--coverage` and `--explain` on the command line, and the columns of a table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.xclip_serve.conftest import CLIP, LABELS
from xclip_serve import Classifier, ClassifyError
from xclip_serve.rows import Layout
from xclip_serve.tables import open_table
from xclip_serve.verbs.classify import main


def test_none_of_these_is_a_line_of_its_own(
    capsys: pytest.CaptureFixture[str], classifier: Classifier
) -> None:
    assert main([str(CLIP), *LABELS, "--open-set", "--explain"]) == 0
    told = capsys.readouterr()
    lines = [line.split("\t") for line in told.out.splitlines()]
    assert [label for _, label in lines] == [*LABELS, "(none of these)"]
    assert sum(float(share) for share, _ in lines) == pytest.approx(1, abs=2e-4)
    assert "not calibrated" in told.err
    assert "backwards: a red circle moving right" in told.err
    frames = len(classifier.classify(CLIP, LABELS).video.frame_times_s)
    assert told.err.count(" s  ") == frames


def test_what_the_bundle_was_not_calibrated_for_is_a_mistake(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([str(CLIP), *LABELS, "--coverage", "0.9"]) == 2
    assert "xclip-serve calibrate" in capsys.readouterr().err


def test_a_table_has_columns_for_what_was_asked(tmp_path: Path, classifier: Classifier) -> None:
    answer = classifier.classify(CLIP, LABELS, open_set=True)
    assert "open_set" not in json.loads(answer.model_dump_json())
    covered = answer.model_copy(update={"label_set": (LABELS[0],)})
    layout = Layout(2, open_set=True, coverage=True)
    row = layout.row("a.mp4", covered)
    assert set(layout.columns) - set(Layout(2).columns) == {
        *("probability", "probability_2", "none_of_these", "label_set")
    }
    assert row["probability"] == answer.predictions[0].probability
    assert row["probability_2"] + row["probability"] + row["none_of_these"] == pytest.approx(1)
    assert json.loads(row["label_set"]) == [LABELS[0]]
    for name in ("table.csv", "table.jsonl", "table.parquet"):
        table = open_table(tmp_path / name, layout.columns)
        table.add(row)
        table.add(layout.row("b.mp4", ClassifyError("not_a_video", "no")))
        table.close(complete=True)
        again = open_table(tmp_path / name, layout.columns)
        assert (again.done, again.failed) == ({"a.mp4", "b.mp4"}, 1)
        again.close(complete=True)
