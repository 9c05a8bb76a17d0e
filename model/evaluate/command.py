"""From the options of the command line to a measured protocol."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from model.data.config import DataConfig
from model.data.frames.loading import worker_deaths_told
from model.data.lists.cliplist import ClipList, read_clips
from model.data.lists.labels import read_labels
from model.evaluate.errors import EvaluateError
from model.evaluate.paper import Protocol, published
from model.evaluate.protocols import VIEWS, Measure, Result, base_to_novel, single, zero_shot
from model.evaluate.run import Views, evaluate
from model.evaluate.scorer import Scorer
from model.evaluate.scores import Scores
from model.evaluate.sources import Source, from_bundle, from_checkpoint
from model.inputs import FrameRule, check_templates
from model.progress import progress


@dataclass(frozen=True)
class Measured:
    """A result, how it was made, and what the paper has (percent)."""

    result: Result
    names: tuple[str, ...]
    network: str
    templates: tuple[str, ...]
    views: Views
    frame_rule: FrameRule
    paper: dict[str, float]


def measure(options: argparse.Namespace) -> Measured:
    """Run the protocol. ValueErrors and OSErrors say in a line what is wrong."""
    sources = _sources(options)
    sets = _sets(options)
    views, crops = VIEWS[options.protocol]
    looks = Views(options.views or views, options.crops or crops, options.batch)
    data = DataConfig(
        workers=options.workers,
        max_broken_share=options.max_broken,
        frame_rule=options.frame_rule,
    )
    measures = [(s.scorer.name, _measure(s.scorer, looks, data)) for s in sources]
    return Measured(
        _run(options.protocol, sets, measures),
        tuple(source.scorer.name for source in sources),
        sources[0].network,
        sources[0].scorer.templates,
        looks,
        options.frame_rule,
        published(options.protocol, options.dataset, sources[0].network, options.shots),
    )


def _run(
    protocol: Protocol, sets: list[tuple[str, ClipList]], measures: list[tuple[str, Measure]]
) -> Result:
    if protocol == "base-to-novel":
        if len(sets) != 2:
            raise EvaluateError("base-to-novel takes two lists: --list BASE NOVEL")
        return base_to_novel(sets[0][1], sets[1][1], measures)
    if len(measures) > 1:
        raise EvaluateError(f"{protocol} measures one checkpoint at a time; give one")
    if protocol == "zero-shot":
        return zero_shot(sets, measures[0][1])
    if len(sets) > 1:
        raise EvaluateError(f"{protocol} measures one list; give one")
    name, clips = sets[0]
    return single(
        "supervised" if protocol == "supervised" else "few-shot", name, clips, measures[0][1]
    )


def _sources(options: argparse.Namespace) -> list[Source]:
    if (options.bundle is None) == (not options.checkpoints):
        raise EvaluateError("give either a CHECKPOINT or --bundle DIR")
    templates = None if options.template is None else check_templates(options.template)
    if options.bundle is not None:
        if options.frames is not None:
            raise EvaluateError("--frames is for checkpoints: a bundle has its number of frames")
        return [from_bundle(options.bundle, options.runtime, options.precision, templates)]
    precision = options.precision or "fp32"
    if precision not in ("fp32", "bf16", "fp16"):
        raise EvaluateError(f"a checkpoint runs in fp32, bf16 or fp16, not {precision}")
    return [
        from_checkpoint(path, options.device, precision, options.frames, templates)
        for path in options.checkpoints
    ]


def _sets(options: argparse.Namespace) -> list[tuple[str, ClipList]]:
    """Read the lists: one label file serves all of them, or there is one for each."""
    files: list[Path | None] = list(options.labels) or [None]
    if len(files) not in (1, len(options.lists)):
        raise EvaluateError(
            f"{len(files)} label files for {len(options.lists)} lists: give one, or one for each"
        )
    files = files * len(options.lists) if len(files) == 1 else files
    return [
        (path.stem, read_clips([path], options.root, read_labels(file) if file else None))
        for path, file in zip(options.lists, files, strict=True)
    ]


def _measure(scorer: Scorer, views: Views, data: DataConfig) -> Measure:
    def run(clips: ClipList) -> Scores:
        with worker_deaths_told(), progress(f"scoring with {scorer.name}", len(clips)) as on_clip:
            return evaluate(scorer, clips, views, data, on_clip=on_clip)

    return run
