"""The settings of a run's data: plain values, loaded without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from model.inputs.sampling import FrameRule

Probability = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(gt=0)]
Factor = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """A part of a configuration: fixed once read, and no key that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class CacheConfig(Section):
    """Decoded frames kept in a file that the system maps into memory: for sets that are small."""

    folder: Path | None = None
    """Where to keep them. Without it every clip is decoded each time it is drawn."""
    frames: Positive = 64
    """At most so many frames of a clip are kept, evenly spread; all of a shorter one."""


class DataConfig(Section):
    """Which clips, and how they are read."""

    root: Path | None = None
    """Folder that paths in lists start from, or an uncompressed .tar with the clips."""
    labels: Path | None = None
    """CSV with the header id,name; ids count rows from 0. Without it: the labels in the lists."""
    train: tuple[Path, ...] = ()
    """Lists (PATH LABEL a line), CSV or Parquet tables (path,label), or WebDataset .tar shards."""
    val: tuple[Path, ...] = ()
    """The same for the clips that accuracy is measured on; empty: it is not measured."""
    template: str | None = None
    """The text of a label, with one {}. It stays with the network: evaluation, export and service
    use it as well. Default: that of the start; from a network without one the plain name, as in
    the published recipes. Captions of a table are taken as they are."""
    frame_rule: FrameRule = FrameRule.EXACT
    """Which frame of each part of a clip is taken: exact, as published, or keyframes, the one that
    needs the fewest pictures decoded. Training draws among those that are as cheap."""
    workers: Count = 4
    """Decoding processes; 0 decodes in the training process, on as many threads as it has."""
    prefetch: Positive = 4
    """Batches that each of them prepares ahead."""
    max_broken_share: Probability = 0.01
    """The run stops when more than this share of a list cannot be decoded."""
    balance: Literal["none", "sampler", "loss"] = "none"
    """Where labels have unequally many clips: sampler draws each label equally often, so clips of
    rare ones come up more than once in an epoch; loss weighs clips of rare labels more."""
    cache: CacheConfig = CacheConfig()
    """Decoded frames, kept."""


class AugmentConfig(Section):
    """What training does to the pixels of a clip, in this order (defaults as published)."""

    scales: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (1.0, 0.875, 0.75, 0.66)
    """Crop sides as parts of the short side; width and height at most one step apart."""
    frames: Literal["drawn", "evenly"] = "drawn"
    """Which frame of each part of a clip: one drawn at random; or the one that evaluation reads."""
    positions: Literal["five", "centre"] = "five"
    """Where the crop lies: one of the corners or the centre; or always the centre."""
    flip: Probability = 0.5
    """Mirror the clip. Set 0 where left and right are part of the labels."""
    jitter: Probability = 0.8
    """Change the colours of the clip."""
    brightness: Factor = 0.4
    """Largest change of brightness."""
    contrast: Factor = 0.4
    """Largest change of contrast."""
    saturation: Factor = 0.2
    """Largest change of saturation."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Largest turn of the hue, in turns."""
    jitter_by: Literal["clip", "frame"] = "clip"
    """One change for the whole clip; or, as the released code does, another for each frame."""
    grey: Probability = 0.2
    """Make the clip grey."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.scales:
            raise ValueError("scales must name at least one; (1.0,) takes the largest square")
        return self

    @property
    def off(self) -> bool:
        """Whether a clip gives the same pixels whenever it is drawn."""
        fixed = self.frames == "evenly" and self.positions == "centre" and len(self.scales) == 1
        return fixed and not self.flip and not self.grey and not self.colours

    @property
    def colours(self) -> bool:
        """Whether the colour change can do anything."""
        strengths = (self.brightness, self.contrast, self.saturation, self.hue)
        return self.jitter > 0 and any(strengths)
