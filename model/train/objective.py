"""Which texts a clip is compared with, and which of them are right. B clips, K texts, L tokens."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from model.data.frames.loading import Batch
from model.data.frames.streams import Stream, generator
from model.data.lists.cliplist import UNLABELLED, ClipList
from model.inputs import InputSpec, LabelTooLong, Tokenizer, fill_template
from model.inputs.text.lengths import token_lengths
from model.network.xclip import XClip
from model.processes import Processes
from model.train.config import LossConfig
from model.train.errors import TrainError
from model.train.losses import smooth


class Texts:
    """Texts as the network takes them: token ids, or, where the text tower is frozen, vectors
    that are computed once.
    """

    def __init__(self, ids: Tensor, vectors: Tensor | None) -> None:
        self.ids, self.vectors = ids, vectors
        # On the processor, where reading one makes nobody wait.
        self.lengths = torch.from_numpy(token_lengths(ids.cpu().numpy()))

    def take(self, indices: Tensor) -> Tensor:
        """Return vectors (K,E) float, or token ids (K,L) integer cut to the longest of these."""
        there = indices.to(self.ids.device, non_blocking=True)
        if self.vectors is not None:
            return self.vectors[there]
        return self.ids[there, : int(self.lengths[indices].max())]


def tokenised(
    clips: ClipList, template: str, tokenizer: Tokenizer, spec: InputSpec
) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Encode every text that can be asked for (U,L): wordings of clips, then the labels.

    The texts of labels go into the template; other wordings are taken as they are. TrainError
    names a text that is too long.
    """
    labels = set(clips.labels.texts)
    try:
        filled = [
            fill_template(template, text).text if text in labels else text
            for text in (*clips.wordings, *clips.labels.texts)
        ]
        return tokenizer.encode(filled, spec.context_length, spec.pad_id)
    except LabelTooLong as error:
        raise TrainError(f"data.labels: {error}") from None
    except ValueError as error:
        raise TrainError(f"data.template: {error}") from None


class Comparison(nn.Module):
    """Frames and texts to logits: all that is differentiated, so all that is distributed."""

    def __init__(self, net: XClip) -> None:
        super().__init__()
        self.net = net

    def forward(self, frames: Tensor, text: Tensor) -> Tensor:
        """Map frames (B,T,3,H,W) and vectors (K,E) or token ids (K,L) to logits (B,K)."""
        video, context = self.net.encode_video(frames)
        if not text.is_floating_point():
            text = self.net.encode_text(text)
        return self.net.score(video, context, text)


class Objective:
    """Picks the texts of a micro-batch and says which of them are right for which clip."""

    def __init__(
        self,
        clips: ClipList,
        texts: Texts,
        config: LossConfig,
        seed: int,
        teacher: Tensor | None = None,
    ) -> None:
        self.clips, self.texts, self.config, self.seed = clips, texts, config, seed
        self._teacher = teacher
        self._own = [frozenset(sample.wordings) for sample in clips.samples]
        self._of_label = _wordings_of_labels(clips)

    def candidates(self, batch: Batch, update: int, processes: Processes) -> tuple[Tensor, Tensor]:
        """Return texts (K,E) or (K,L) and what is right (B,K), as booleans."""
        device = self.texts.ids.device
        if self.config.over == "labels":
            indices = self._label_indices(update)
            right = self._true(batch, indices)
            # A wording of the label that is not this clip's is still the nearest there is.
            missed = ~right.any(dim=1) & (batch.labels != UNLABELLED)
            right[missed, batch.labels[missed]] = True
        else:
            drawn = processes.gathered(batch.wordings)
            indices = torch.unique(torch.cat([drawn, self._extra_captions(update).to(drawn)]))
            right = self._true(batch, indices)
        return self.texts.take(indices), right.to(device, non_blocking=True)

    def targets(self, batch: Batch, right: Tensor) -> Tensor:
        """Return what is to be answered (B,K): what is right, smoothed, and what a teacher says,
        alone of a clip that nobody labelled.
        """
        targets = smooth(right, self.config.smoothing)
        if self._teacher is None:
            return targets
        said = self._teacher[batch.indices.to(self._teacher.device)]
        labelled = right.any(dim=1, keepdim=True)
        share = torch.where(labelled, self.config.teacher_share, 1.0)
        return targets + share * (said.sum(dim=1, keepdim=True) > 0) * (said - targets)

    def _true(self, batch: Batch, indices: Tensor) -> Tensor:
        """Return which of these wordings (K,) are those of each clip (B,K)."""
        asked = indices.tolist()
        rows = [self._own[index] for index in batch.indices.tolist()]
        return torch.tensor([[index in row for index in asked] for row in rows])

    def _extra_captions(self, update: int) -> Tensor:
        """Return captions that no clip of the batch need have; the same in every process."""
        rng = generator(self.seed, Stream.EXTRA_CAPTIONS, update)
        return torch.from_numpy(
            rng.integers(len(self.clips.wordings), size=self.config.extra_captions)
        )

    def _label_indices(self, update: int) -> Tensor:
        """Return one wording of each label, another in each update."""
        rng = generator(self.seed, Stream.LABEL_WORDING, update)
        drawn = rng.random(len(self._of_label))
        return torch.tensor(
            [own[int(u * len(own))] for own, u in zip(self._of_label, drawn, strict=True)]
        )


def _wordings_of_labels(clips: ClipList) -> list[tuple[int, ...]]:
    """Return the wordings of each label's clips; of one without clips its name."""
    by_label: list[dict[int, None]] = [{} for _ in clips.labels.texts]
    for sample in clips.samples:
        if sample.label == UNLABELLED:
            continue
        by_label[sample.label].update(dict.fromkeys(sample.wordings))
    names = range(len(clips.wordings), len(clips.wordings) + len(by_label))
    return [tuple(own) or (name,) for own, name in zip(by_label, names, strict=True)]
