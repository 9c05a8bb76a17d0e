"""What a run draws its clips from: the files, or a cache of decoded frames."""

from __future__ import annotations

from model.data.frames.cache import (
    CachedFrames,
    DrawnFromCache,
    FixedClips,
    WholeClips,
    cached_frames,
)
from model.data.frames.reading import TestClips, TrainingClips
from model.data.lists.cliplist import ClipList, read_clips
from model.data.lists.labels import LabelList
from model.inputs import InputSpec
from model.processes import Processes
from model.progress import progress
from model.train.config import TrainConfig


def training_clips(
    config: TrainConfig, clips: ClipList, spec: InputSpec, processes: Processes
) -> TrainingClips:
    """Make the clips to train on, augmented."""
    if config.data.cache.folder is None or config.cache.features:
        return TrainingClips(clips, spec, config.augment, frame_rule=config.data.frame_rule)
    whole = WholeClips(clips, spec, config.data.cache.frames, config.data.frame_rule)
    evenly = config.augment.frames == "evenly"
    drawn = DrawnFromCache(_cached(config, whole, processes), spec.num_frames, evenly=evenly)
    return TrainingClips(clips, spec, config.augment, drawn)


def validation_clips(
    config: TrainConfig, labels: LabelList, spec: InputSpec, processes: Processes
) -> TestClips | None:
    """Make the clips to measure accuracy on, if there are any."""
    if not config.data.val:
        return None
    clips = read_clips(config.data.val, config.data.root, labels)
    views, crops = config.evaluate.views, config.evaluate.crops
    plain = TestClips(clips, spec, views, crops, frame_rule=config.data.frame_rule)
    if config.data.cache.folder is None or config.cache.features:
        return plain
    cached = _cached(config, FixedClips(plain), processes)
    return TestClips(clips, spec, views, crops, cached.read)


def _cached(
    config: TrainConfig, source: WholeClips | FixedClips, processes: Processes
) -> CachedFrames:
    """Fill the cache in one process of each machine; the others wait for it."""
    folder = config.data.cache.folder
    assert folder is not None
    if processes.leads_here:
        with progress(
            "decoding clips for the cache", len(source), shown=processes.leads
        ) as on_clip:
            cached_frames(source, folder, config.data, on_clip)
    processes.wait()
    return cached_frames(source, folder, config.data, lambda: None)
