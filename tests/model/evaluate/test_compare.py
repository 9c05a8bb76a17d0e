"""Networks on the same clips: decoded once, each asked in its own process, judged with care."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from model.data.config import DataConfig
from model.data.lists.cliplist import read_clips
from model.data.shapes import plain_label
from model.data.shapes.dataset import ShapesOptions, make_clip
from model.data.shapes.scene import SceneOptions
from model.data.shapes.vocabulary import OPPOSITES, Subject
from model.evaluate.__main__ import main
from model.evaluate.comparison import answers, frames
from model.evaluate.comparison.answers import Contender
from model.evaluate.comparison.figures import agreement, mcnemar, wilson_interval
from model.evaluate.comparison.frames import KeptFrames
from model.evaluate.comparison.report import as_json, print_comparison
from model.evaluate.comparison.run import Comparison, compare
from model.evaluate.errors import EvaluateError
from model.evaluate.sources import Source
from model.inputs import InputSpec, decode_clip, decode_for_several
from model.progress import Steps
from service.settings import DEMO_BUNDLE
from tests.conftest import ROOT
from tests.model.clip_sets import COLOURS, write_clip, write_table
from tests.open_clip_folders import open_clip_folder

CLIPS = 24
QUIET = Steps(Console(quiet=True))
SPECS = (
    InputSpec(num_frames=4, image_size=32, resize_short_side=36),
    InputSpec(
        num_frames=3, image_size=24, resize_short_side=24, frame_rule="ends", crop="squash",
        resize_rule="bicubic-antialias",
    ),
    InputSpec(num_frames=4, image_size=32, resize_short_side=36, pixel_aspect="stored"),
)  # fmt: skip


def test_the_interval_is_wilsons() -> None:
    low, high = wilson_interval(81, 263)  # Newcombe 1998, table I
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert [round(v, 4) for v in wilson_interval(0, 20)] == [0.0, 0.1611]
    assert [round(v, 4) for v in wilson_interval(20, 20)] == [0.8389, 1.0]


def test_mcnemar_counts_what_only_one_has_right() -> None:
    first = np.array([True] * 9 + [False] * 1 + [True] * 30 + [False] * 5)
    second = np.array([False] * 9 + [True] * 1 + [True] * 30 + [False] * 5)
    assert mcnemar(first, second) == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar(first, second) == mcnemar(second, first)
    assert mcnemar(first, first) == 1.0


def test_networks_agree_where_they_say_the_same() -> None:
    shares = agreement(np.array([[0, 1, 2, 3], [0, 1, 2, 0]]))
    assert shares.tolist() == [[1.0, 0.75], [0.75, 1.0]]


@pytest.mark.parametrize("specs", [SPECS[:2], SPECS[:1], SPECS])
def test_one_decoding_gives_each_network_its_own_frames(
    specs: Sequence[InputSpec], tmp_path: Path
) -> None:
    write_clip(tmp_path / "clip.mp4", COLOURS["red clip"], frames=11)
    data = (tmp_path / "clip.mp4").read_bytes()
    for spec, found in zip(specs, decode_for_several(io.BytesIO(data), specs), strict=True):
        assert np.array_equal(found, decode_clip(io.BytesIO(data), spec).frames)


class Decodings:
    """Counts how often each clip is decoded, and ends the run before one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, end_before: int | None = None) -> None:
        self.seen: Counter[int] = Counter()
        self.end_before = end_before
        monkeypatch.setattr(frames, "decode_for_several", self)

    def __call__(self, stream: Any, *rest: Any, **options: Any) -> list[Any]:
        if len(self.seen) == self.end_before:
            raise KeyboardInterrupt
        self.seen[hash(stream.read())] += 1
        stream.seek(0)
        return decode_for_several(stream, *rest, **options)


def test_a_run_that_was_ended_decodes_nothing_twice(
    clip_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = read_clips([clip_set / "val.csv"], clip_set / "clips")
    kept = KeptFrames(tmp_path / "frames", clips)
    here = DataConfig(workers=0)
    decoded = Decodings(monkeypatch, end_before=3)
    with pytest.raises(KeyboardInterrupt):
        kept.keep(SPECS[:2], here, lambda: None)
    decoded.end_before = None
    assert kept.keep(SPECS[:2], here, lambda: None) == {}
    assert set(decoded.seen.values()) == {1}
    assert len(decoded.seen) == len(clips)
    assert kept.keep(SPECS[:1], here, lambda: None) == {}  # one of the two, again: nothing
    assert decoded.seen.total() == len(clips)
    with clips.files.open(clips.samples[0].name) as stream:
        assert np.array_equal(kept.read(0, SPECS[1]), decode_clip(stream, SPECS[1]).frames)


class Averaged:
    """A network that sees each frame as a clip at rest, and averages: it knows no order."""

    def __init__(self, scorer: Any) -> None:
        self.inputs, self.templates = scorer.inputs, scorer.templates
        self.name, self._scorer, self.texts = "averaged", scorer, scorer.texts

    def logits(self, frames: NDArray[np.uint8], texts: Any) -> NDArray[np.float32]:
        still = np.ascontiguousarray(np.repeat(frames[0][:, None], frames.shape[1], axis=1))
        alone = self._scorer.runtime.encode_video(still)
        together = {name: v.mean(axis=0, keepdims=True) for name, v in alone.items()}
        logits: NDArray[np.float32] = self._scorer.runtime.score(together, texts[None])
        return logits


@dataclass(frozen=True)
class FrameAveraged(Contender):
    """The demo with its frames averaged."""

    def open(self) -> Source:
        source = super().open()
        return replace(source, scorer=Averaged(source.scorer), name="averaged")


def opposite(subject: Subject) -> Subject:
    other = {a: b for pair in OPPOSITES for a, b in (pair, pair[::-1])}
    return Subject(subject.colour, subject.outline, other[subject.motion])


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of moving shapes with `clips.csv`, and `labels.csv` with their opposites as well."""
    folder = tmp_path_factory.mktemp("shapes")
    (folder / "clips/unseen-00").mkdir(parents=True)
    scenes = SceneOptions(short_side=(64, 96))
    options = ShapesOptions(clips=0, unseen_clips=CLIPS, seed=9, scenes=scenes, h264_only=True)
    made = [make_clip(folder, options, ("unseen", i)) for i in range(CLIPS)]
    rows = [(clip.path, plain_label(clip.subject)) for clip in made]
    write_table(folder / "clips.csv", rows)
    labels = dict.fromkeys(
        plain_label(s) for clip in made for s in (clip.subject, opposite(clip.subject))
    )
    write_table(folder / "labels.csv", list(enumerate(labels)), ("id", "name"))
    return folder


@pytest.fixture(scope="module")
def compared(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """The averaged demo and the demo, asked about moving shapes."""
    from model.data.lists.labels import read_labels

    clips = read_clips([shapes / "clips.csv"], shapes, read_labels(shapes / "labels.csv"))
    contenders = (FrameAveraged(str(DEMO_BUNDLE)), Contender(str(DEMO_BUNDLE)))
    kept = KeptFrames(tmp_path_factory.mktemp("frames"), clips)
    return compare(contenders, clips, kept, DataConfig(workers=0), QUIET)


def test_what_sees_order_is_ranked_above_averaged_frames(compared: Comparison) -> None:
    found = as_json(compared, ["…"])
    best, other = found["networks"]
    assert (best["name"], other["name"]) == ("shapes-demo", "averaged")
    right = [c["predicted"][0] == c["label"] for c in found["clips"]]
    wrong = [c["predicted"][1] != c["label"] for c in found["clips"]]
    assert len(right) == CLIPS
    assert best["top1"]["right"] == sum(right) > CLIPS - sum(wrong) == other["top1"]["right"]
    assert best["p_against_best"] is None
    only_best = sum(r and w for r, w in zip(right, wrong, strict=True))
    only_other = CLIPS - sum(wrong) - (sum(right) - only_best)
    discordant = only_best + only_other
    tail = sum(math.comb(discordant, i) for i in range(min(only_best, only_other) + 1))
    assert other["p_against_best"] == pytest.approx(min(1, 2 * tail / 2**discordant))
    assert not other["may_be_as_good_as_best"]


def test_the_interval_holds_what_could_give_this_share(compared: Comparison) -> None:
    """Its ends lie 1.96 of their own deviations from the share: what Wilson's interval is."""
    for network in as_json(compared, [])["networks"]:
        share = network["top1"]["right"] / CLIPS
        assert network["top1"]["share"] == pytest.approx(share)
        for end in (network["top1"]["low"], network["top1"]["high"]):
            if end not in (0, 1):
                assert abs(share - end) == pytest.approx(
                    1.959964 * math.sqrt(end * (1 - end) / CLIPS), rel=1e-5
                )


def test_what_was_measured_here_is_told(compared: Comparison) -> None:
    console = Console(file=io.StringIO(), width=300)
    print_comparison(compared, console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "shapes-demo" in printed
    assert "best" in printed
    for network in as_json(compared, [])["networks"]:
        assert network["clip_ms"] > 0
        assert network["memory_bytes"] > network["weights_bytes"] > 1e6
        assert len(network["confused"]) <= 5


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are asked here: what a process of its own is good for is seen above."""

    def here(name: str, work: Callable[..., Any], *arguments: object) -> Any:
        result = work(*arguments)
        if isinstance(result, str):
            raise EvaluateError(result)
        return result

    monkeypatch.setattr(answers, "_alone", here)


@pytest.mark.usefixtures("in_this_process")
def test_without_labels_networks_are_compared_with_each_other(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (shapes / "clips.csv").open() as stream:
        paths = [row["path"] for row in csv.DictReader(stream)][:6]
    (tmp_path / "paths.txt").write_text("# mine\n" + "\n".join(paths) + "\n")
    write_table(tmp_path / "paths.csv", [[path] for path in paths], ("path",))
    other = f"local-dir:{open_clip_folder('clip', tmp_path / 'clip')}"
    found = {}
    for name in ("paths.txt", "paths.csv"):
        arguments = [
            *("compare", str(DEMO_BUNDLE), other, "--list", str(tmp_path / name)),
            *("--root", str(shapes), "--labels", str(shapes / "labels.csv"), "--workers", "0"),
            *("--frames-in", str(tmp_path / "frames"), "--json", str(tmp_path / "found.json")),
            *("--picture", str(tmp_path / "found.png")),
        ]
        assert main(arguments) == 0, capsys.readouterr().err
        found[name] = json.loads((tmp_path / "found.json").read_text())
    first, second = found.values()
    assert first["clips"] == second["clips"]
    assert [n["name"] for n in first["networks"]] == ["shapes-demo", "clip"]
    assert "top1" not in first["networks"][0]
    same = [c["predicted"][0] == c["predicted"][1] for c in first["clips"]]
    assert first["agreement"][0][1] == pytest.approx(sum(same) / 6, abs=1e-6)
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")
    assert "agree on" in capsys.readouterr().out


@pytest.mark.usefixtures("in_this_process")
def test_mistakes_are_told_in_a_line(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "paths.txt").write_text("a.mp4\n")
    (tmp_path / "gone.csv").write_text("path,label\ngone.mp4,a thing\n")
    where = ("--root", str(shapes), "--workers", "0", "--frames-in", str(tmp_path / "frames"))
    for given, said in (
        ((str(DEMO_BUNDLE), "--list", str(tmp_path / "paths.txt")), "the labels to choose from"),
        ((str(DEMO_BUNDLE), "--list", str(tmp_path / "gone.csv")), "no clip can be decoded"),
        (("no-such-thing", "--list", str(shapes / "clips.csv")), "no-such-thing is no checkpoint"),
    ):
        assert main(["compare", *given, *where]) == 1
        error = capsys.readouterr().err
        assert said in error
        assert "Traceback" not in error


@pytest.mark.usefixtures("in_this_process")
def test_a_broken_clip_is_left_out_and_named(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (shapes / "clips.csv").open() as stream:
        rows = list(csv.reader(stream))[1:4]
    (shapes / "broken.mp4").write_bytes(b"\0" * 1000)
    write_table(tmp_path / "list.csv", [*(row[:2] for row in rows), ("broken.mp4", rows[0][1])])
    arguments = ["compare", str(DEMO_BUNDLE), "--list", str(tmp_path / "list.csv")]
    arguments += ["--root", str(shapes), "--workers", "0"]
    arguments += ["--frames-in", str(tmp_path / "frames"), "--picture", str(tmp_path / "a.png")]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "3 clips" in printed
    assert "left out 1 of 4: broken.mp4" in printed
    assert (tmp_path / "a.png").stat().st_size > 1000


ENDED = """
import hashlib, os, signal, sys
from pathlib import Path
from model.evaluate.__main__ import main
from model.evaluate.comparison import answers, frames
log, end_before = Path(sys.argv[1]), int(sys.argv[2])
decode = frames.decode_for_several
def counted(stream, *rest, **options):
    done = log.read_text().splitlines()
    if len(done) == end_before:
        os.kill(os.getpid(), signal.SIGKILL)
    clip = hashlib.sha256(stream.read()).hexdigest()
    stream.seek(0)
    log.write_text("\\n".join([*done, clip]))
    return decode(stream, *rest, **options)
frames.decode_for_several = counted
answers._alone = lambda name, work, *arguments: work(*arguments)
sys.exit(main(sys.argv[3:]))
"""


def test_a_run_that_was_killed_goes_on_and_clears_its_frames(shapes: Path, tmp_path: Path) -> None:
    log, cache = tmp_path / "decoded", tmp_path / "cache"
    log.touch()
    with (shapes / "clips.csv").open() as stream:
        write_table(tmp_path / "list.csv", list(csv.reader(stream))[1:7])
    arguments = ["compare", str(DEMO_BUNDLE), "--list", str(tmp_path / "list.csv")]
    arguments += ["--root", str(shapes), "--workers", "0"]

    def ended_before(count: int) -> int:
        return subprocess.run(
            [sys.executable, "-c", ENDED, str(log), str(count), *arguments],
            env={**os.environ, "XCLIP_CACHE": str(cache)},
            cwd=ROOT,
        ).returncode

    assert ended_before(4) == -signal.SIGKILL
    assert len(list(cache.rglob("*.npy"))) == 4
    assert ended_before(-1) == 0
    decoded = log.read_text().splitlines()
    assert len(decoded) == len(set(decoded)) == 6
    assert not list(cache.rglob("*.npy"))


def test_frames_that_another_run_uses_stay(
    clip_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = read_clips([clip_set / "val.csv"], clip_set / "clips")
    kept = KeptFrames(tmp_path / "frames", clips)
    with kept.in_use():
        kept.keep(SPECS[:2], DataConfig(workers=0), lambda: None)
        kept.clear(SPECS[:2])
        assert kept.read(0, SPECS[0]).size
    kept.clear(SPECS[:1])
    assert not kept.file(0, SPECS[0]).exists()
    assert kept.file(0, SPECS[1]).exists(), "of a run that may go on"
    monkeypatch.setattr(frames, "GIVEN_UP_S", -60)
    kept.clear(SPECS[:1])
    assert not list(kept.folder.rglob("*.npy"))
