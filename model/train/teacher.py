"""What a larger network says of the clips, asked once: targets for a smaller one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.data.frames.cache import FixedClips, key_of
from model.data.frames.reading import TestClips
from model.data.lists.cliplist import ClipList
from model.evaluate.run import Views, evaluate
from model.evaluate.sources import from_bundle
from model.files import sha256_of
from model.processes import Processes
from model.progress import progress
from model.train.config import TrainConfig
from model.train.errors import TrainError

MANIFEST = "bundle.json"


def teacher_answers(config: TrainConfig, clips: ClipList, processes: Processes) -> Tensor | None:
    """Return the teacher's scores (N,K) of all clips, 0 in sum where it could not read one.

    They are kept in `data.cache.folder`, or else in the run's folder, by bundle, clips and labels.
    None where there is no teacher; TrainError where it is no bundle.
    """
    bundle = config.loss.teacher
    if bundle is None:
        return None
    if not (bundle / MANIFEST).is_file():
        raise TrainError(
            f"loss.teacher: {bundle} is no bundle (it has no {MANIFEST}): make one with python -m "
            "export"
        )
    scorer = from_bundle(bundle, "auto", None).scorer
    source = FixedClips(TestClips(clips, scorer.inputs, frame_rule=config.data.frame_rule))
    asked = f"{sha256_of(bundle / MANIFEST)} {clips.labels.texts} {key_of(source)}"
    name = f"teacher-{hashlib.sha256(asked.encode()).hexdigest()[:24]}.npy"
    file = (config.data.cache.folder or config.output) / name
    if not all(processes.collected(file.exists())):
        shown = processes.leads
        with progress("asking the teacher", len(clips), shown=shown) as on_clip:
            scores = evaluate(scorer, clips, Views(), config.data, processes, on_clip)
        answers = np.zeros((len(clips), len(clips.labels)), np.float32)
        answers[scores.indices] = scores.scores
        if processes.leads_here:
            _write(file, answers)
        processes.wait()
    return torch.from_numpy(np.load(file)).to(processes.device)


def _write(file: Path, answers: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(f".draft-{os.getpid()}.npy")
    np.save(draft, answers)
    os.replace(draft, file)
