"""How much the answer changes where the frames are taken that are cheap to decode.

    python -m benchmarks.frame_rule [--clips N] [--seed N] [--minutes N] [--anew]

Ten seconds of moving shapes, of combinations that the embedded demo was not trained on, encoded as
phones and sites do: x264 and x265, a key frame every 1 s, every 2 s, every 250 frames, one alone.
All clips have a key frame a second, every tenth is there in the other forms, too. Each is asked by
both frame rules: 24 labels, and a label against its opposite in time. Beside the accuracy stand how
often both rules name the same label first, the cosine of the clip's vectors, and what decoding
takes. Goal: with a key frame a second the accuracy by `keyframes` is at most one point below that
by `exact`, in both questions.

Answers are kept in `build/benchmarks/frame_rule`: a run that ends early, as with `--minutes`, is
gone on with by the next one.
"""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.lib import questions
from benchmarks.lib.films import FILMS
from benchmarks.lib.timing import publish
from export.runtime import RuntimeOptions, available_cpus, open_runtime
from export.scoring import BundleScorer
from model.command_line import Parser
from model.data.shapes.dataset import ShapesOptions, make_clip
from model.data.shapes.scene import SceneOptions
from model.evaluate.scorer import label_vectors
from model.inputs import FrameRule, decode_clip
from service.settings import DEMO_BUNDLE

SECONDS = 10.0
SCENES = SceneOptions(short_side=(96, 240), duration_s=(SECONDS, SECONDS), most_frames=300)
CODECS = {
    "H.264": ("-c:v", "libx264", "-preset", "veryfast", "-sc_threshold", "0"),
    "HEVC": (
        "-c:v",
        "libx265",
        "-preset",
        "ultrafast",
        "-x265-params",
        "log-level=none:scenecut=0:pools=none:frame-threads=1",
    ),
}
GROUPS = {"1 s": "1", "2 s": "2", "250 frames": "", "one": "1000"}
FORMS = tuple((codec, group) for codec in CODECS for group in GROUPS)
# The form that the goal is about; every clip has it.
OFTEN, SELDOM = "1 s", 10
MOST_BELOW = 0.01
KEPT = FILMS.parent / "benchmarks" / "frame_rule"


@dataclass(frozen=True)
class Answer:
    """What one rule gave for one clip: the vector of the clip, and the label of each question."""

    vector: NDArray[np.float32]
    labels: tuple[str, ...]
    seconds: float


class Asker:
    """The demo with one thread, and the vectors of all labels that were asked before."""

    def __init__(self) -> None:
        self.demo = BundleScorer(DEMO_BUNDLE, "onnxruntime-cpu")
        options = RuntimeOptions(threads=1)
        self.demo.runtime = open_runtime(self.demo.bundle, "onnxruntime-cpu", options=options)
        self._known: dict[str, NDArray[np.float32]] = {}

    def vectors(self, labels: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of labels (K,D)."""
        new = [label for label in labels if label not in self._known]
        if new:
            self._known |= zip(new, label_vectors(self.demo, new), strict=True)
        return np.stack([self._known[label] for label in labels])

    def answer(self, path: Path, rule: FrameRule, asked: Sequence[questions.Question]) -> Answer:
        """Decode, encode and rank."""
        began = time.process_time()
        with path.open("rb") as file:
            clip = decode_clip(file, self.demo.inputs, frame_rule=rule)
        seconds = time.process_time() - began
        runtime = self.demo.runtime
        features = runtime.encode_video(clip.frames)
        labels = []
        for question in asked:
            scores = runtime.score(features, self.vectors(question.labels)[None])
            labels.append(question.labels[int(scores[0].argmax())])
        return Answer(features["video"][0].copy(), tuple(labels), seconds)


@cache
def asker() -> Asker:
    """Return the one of this process."""
    return Asker()


def compared(seed: int, number: int) -> dict[str, Any]:
    """Draw a clip of an unseen combination and ask about it in its forms by both rules."""
    options = ShapesOptions(clips=0, unseen_clips=0, seed=seed, scenes=SCENES, h264_only=True)
    forms: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"clips/unseen-{number // 1000:02d}").mkdir(parents=True)
        clip = make_clip(Path(folder), options, ("unseen", number))
        path = Path(folder) / clip.path
        rng = np.random.default_rng([seed, number])
        asked = (questions.plain(rng, path, clip), questions.pair(path, clip))
        for codec, group in forms_of(number):
            encoded = encode(path, codec, group)
            exact, keyed = (asker().answer(encoded, rule, asked) for rule in FrameRule)
            forms[f"{codec}, {group}"] = {
                "exact": exact.labels,
                "keyframes": keyed.labels,
                "cosine": cosine(exact.vector, keyed.vector),
                "seconds": (exact.seconds, keyed.seconds),
            }
    return {"number": number, "right": [question.right for question in asked], "forms": forms}


def forms_of(number: int) -> Iterator[tuple[str, str]]:
    """Yield the codecs and groups that a clip is encoded in."""
    return ((c, g) for c, g in FORMS if g == OFTEN or number % SELDOM == 0)


def encode(path: Path, codec: str, group: str) -> Path:
    """Encode a clip anew, with key frames as far apart as `group` says."""
    seconds = GROUPS[group]
    keys = ["-force_key_frames", f"expr:gte(t,n_forced*{seconds})"] if seconds else []
    target = path.with_suffix(".again.mp4")
    command = ["ffmpeg", "-y", "-v", "error", "-threads", "1", "-i", str(path), *CODECS[codec]]
    command += ["-g", "250" if not seconds else "100000", *keys, "-pix_fmt", "yuv420p"]
    subprocess.run([*command, "-threads", "1", str(target)], check=True, capture_output=True)
    return target


def cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the cosine of two vectors."""
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def main(arguments: Sequence[str]) -> int:
    """Measure; the exit status says whether the goal was met."""
    parser = Parser(prog="python -m benchmarks.frame_rule", description=__doc__)
    parser.add_argument("--clips", type=int, default=200, help="clips with a key frame a second")
    parser.add_argument("--seed", type=int, default=4242)
    parser.add_argument("--minutes", type=float, default=60, help="begin no clip after these (60)")
    parser.add_argument("--anew", action="store_true", help="forget the answers of earlier runs")
    given = parser.parse_args(arguments)
    if given.anew:
        rmtree(KEPT, ignore_errors=True)
    answers = all_answers(given.seed, given.clips, 60 * given.minutes)
    seen = {form for answer in answers for form in answer["forms"]}
    forms = (f"{codec}, {group}" for codec, group in FORMS)
    rows = [row(form, answers) for form in forms if form in seen]
    command = f"python -m benchmarks.frame_rule --clips {given.clips} --seed {given.seed}"
    publish("frame_rule", command, rows, clips=len(answers), model=asker().demo.name)
    return int(any(misses(r) for r in rows if r["form"].endswith(OFTEN)))


def all_answers(seed: int, clips: int, seconds: float) -> list[dict[str, Any]]:
    """Return the answers about so many clips, as far as there is time to ask for what is new."""
    file = KEPT / f"{asker().demo.bundle.hash[:16]}-{seed}.jsonl"
    known = read(file)
    deadline = time.monotonic() + seconds
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(available_cpus(), mp_context=context) as pool:
        waiting = [n for n in range(clips) if n not in known]
        while waiting and time.monotonic() < deadline:
            now, waiting = waiting[: 2 * SELDOM], waiting[2 * SELDOM :]
            for answer in pool.map(compared, [seed] * len(now), now):
                known[answer["number"]] = answer
                with file.open("a") as stream:
                    stream.write(json.dumps(answer) + "\n")
            print(f"{len(known)} of {clips} clips", flush=True)
    return [known[number] for number in sorted(known) if number < clips]


def read(file: Path) -> dict[int, dict[str, Any]]:
    """Return the answers of earlier runs, by number of the clip."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = file.read_text().splitlines() if file.exists() else []
    return {answer["number"]: answer for answer in map(json.loads, lines)}


def row(form: str, answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the table line of one encoding."""
    seen = [
        (answer["right"], answer["forms"][form]) for answer in answers if form in answer["forms"]
    ]
    figures: dict[str, Any] = {"form": form, "clips": len(seen)}
    for which, question in enumerate(("of 24", "of its pair")):
        for rule in FrameRule:
            hits = [of_form[rule][which] == right[which] for right, of_form in seen]
            figures[f"right {question}, {rule}"] = float(np.mean(hits))
    same = [of_form["exact"][0] == of_form["keyframes"][0] for _, of_form in seen]
    figures["same first"] = float(np.mean(same))
    cosines = [of_form["cosine"] for _, of_form in seen]
    figures["cosine, median"] = float(np.median(cosines))
    figures["cosine, lowest 5 %"] = float(np.quantile(cosines, 0.05))
    exact, keyed = np.sum([of_form["seconds"] for _, of_form in seen], axis=0)
    figures["decode time"] = float(keyed / exact)
    return figures


def misses(figures: dict[str, Any]) -> bool:
    """Tell whether the goal is missed."""
    return any(
        figures[f"right {q}, keyframes"] < figures[f"right {q}, exact"] - MOST_BELOW
        for q in ("of 24", "of its pair")
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
