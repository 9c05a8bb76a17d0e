"""What a frozen vision tower makes of each clip, computed once: the rest trains on that.

Of a clip the frame features (T,E) are kept, and its patches (P,D) averaged over time, as one row
of T·E + P·D numbers. A row stands for a clip where its frames would.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from model.data.config import AugmentConfig
from model.data.frames.cache import CachedFrames, FixedClips, kept_arrays, key_of
from model.data.frames.loading import in_workers
from model.data.frames.reading import TestClips, TrainingClips, why
from model.evaluate.scorer import TorchScorer, autocast
from model.inputs import VideoError
from model.network.pixels import NormalisePixels
from model.network.xclip import XClip
from model.processes import Processes
from model.progress import progress
from model.train.config import TrainConfig
from model.train.objective import Comparison

FOLDER = "features"
AT_ONCE = 8  # views


class OneView(Dataset[Any]):
    """The frames of training clips that are always the same, uint8 (1,T,H,H,3)."""

    def __init__(self, training: TrainingClips, augment: AugmentConfig) -> None:
        self.training, self.clips, self._augment = training, training.clips, augment

    def __len__(self) -> int:
        return len(self.training)

    def __getitem__(self, index: int) -> NDArray[np.uint8] | str:
        """Read a clip, or say why there is none."""
        unused = np.random.default_rng(0)
        try:
            frames = self.training.read(index, unused)
        except (VideoError, OSError) as error:
            return why(error)
        return self.training.augment(frames, unused)[None]

    @property
    def way(self) -> str:
        """Describe what the pixels depend on besides the files."""
        rule, spec = self.training.frame_rule, self.training.spec.model_dump_json()
        return f"one view {rule} {self._augment.model_dump_json()} {spec}"


class FeatureComparison(Comparison):
    """The same as a comparison of frames with texts, from the rows that stand for the frames."""

    def forward(self, frames: Tensor, text: Tensor) -> Tensor:
        """Map rows (B,T·E+P·D) and vectors (K,E) or token ids (K,L) to logits (B,K)."""
        video, context = encode_rows(self.net, frames)
        if not text.is_floating_point():
            text = self.net.encode_text(text)
        return self.net.score(video, context, text)


class FeatureScorer(TorchScorer):
    """A network that is given rows in place of frames."""

    @torch.no_grad()
    def logits(self, frames: NDArray[Any], texts: Tensor) -> NDArray[np.float32]:
        """Score rows float32 (N,T·E+P·D) against vectors (K,E): logits (N,K)."""
        rows = torch.from_numpy(frames).to(self.device)
        assert isinstance(self.net, XClip)
        with autocast(self.device, self.precision):
            video, context = encode_rows(self.net, rows)
            scores = self.net.score(video, context, texts)
        return scores.float().cpu().numpy()


def encode_rows(net: XClip, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Map rows (B,T·E+P·D) to clip vectors (B,E) and context (B,P,E), as `encode_video` frames."""
    size = net.config.num_frames * net.config.embed_dim
    video = net.mit(rows[:, :size].unflatten(1, (net.config.num_frames, -1)))
    if net.patch_context is None:
        return video, video.new_empty(len(rows), 0, video.shape[1])
    normed = rows[:, size:].unflatten(1, (net.config.num_patches, -1))
    return video, net.patch_context.trained(normed)


def training_rows(
    config: TrainConfig, net: XClip, clips: TrainingClips, processes: Processes
) -> TrainingClips:
    """Make the same clips, read as rows."""
    rows = _rows(config, net, OneView(clips, config.augment), processes)
    read = TrainingClips(
        clips.clips, clips.spec, config.augment, lambda index, _rng: rows.read(index)[0]
    )
    read.augment = _as_it_is  # type: ignore[assignment]
    return read


def validation_rows(
    config: TrainConfig, net: XClip, clips: TestClips, processes: Processes
) -> TestClips:
    """Make the same clips, read as rows, one for each view."""
    rows = _rows(config, net, FixedClips(clips), processes)
    return TestClips(clips.clips, clips.spec, clips.views, clips.crops, rows.read)


def _as_it_is(rows: Any, _rng: np.random.Generator) -> Any:
    return rows


def _rows(
    config: TrainConfig, net: XClip, source: OneView | FixedClips, processes: Processes
) -> CachedFrames:
    """Encode all clips in one process of each machine, unless that was done before."""
    folder = config.data.cache.folder or config.output / FOLDER
    tower = f"{_digest(net)} {config.compute.precision} {key_of(source)}"
    name = f"features-{hashlib.sha256(tower.encode()).hexdigest()[:24]}"

    def opened(*, shown: bool) -> CachedFrames:
        with progress("encoding clips", len(source), shown=shown) as on_clip:
            return kept_arrays(
                name, folder, lambda: _encoded(config, net, source), on_clip, np.float32
            )

    if processes.leads_here:
        opened(shown=processes.leads and not (folder / f"{name}.json").exists())
    processes.wait()
    return opened(shown=False)


def _encoded(
    config: TrainConfig, net: XClip, source: OneView | FixedClips
) -> Iterator[NDArray[Any] | str]:
    """Yield the rows (V,T·E+P·D) of each clip in order, encoded some views at a time."""
    waiting: list[NDArray[Any] | str] = []
    for clip in in_workers(source, config.data):
        waiting.append(clip)
        if sum(len(views) for views in waiting if not isinstance(views, str)) >= AT_ONCE:
            yield from _together(config, net, waiting)
            waiting = []
    yield from _together(config, net, waiting)


@torch.no_grad()
def _together(
    config: TrainConfig, net: XClip, clips: Sequence[NDArray[Any] | str]
) -> Iterator[NDArray[Any] | str]:
    arrays = [clip for clip in clips if not isinstance(clip, str)]
    if not arrays:
        yield from clips
        return
    device = next(net.parameters()).device
    normalise = NormalisePixels(net.inputs).to(device)
    trained = net.training
    net.eval()
    rows = []
    for views in torch.from_numpy(np.concatenate(arrays)).split(AT_ONCE):
        with autocast(device, config.compute.precision):
            features, patches = net.visual(normalise(views.to(device)))
        parts = [features.float().flatten(1)]
        if net.patch_context is not None:
            parts.append(net.patch_context.untrained(patches).flatten(1))
        rows.append(torch.cat(parts, dim=1).cpu().numpy())
    net.train(trained)
    counts = np.cumsum([len(array) for array in arrays])
    each = iter(np.split(np.concatenate(rows), counts[:-1]))
    for clip in clips:
        yield clip if isinstance(clip, str) else next(each)


def _digest(net: XClip) -> str:
    digest = hashlib.sha256(net.config.model_dump_json().encode())
    for name, tensor in net.visual.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()
