"""What is asked of POST /classify, once it is known to be valid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from model.inputs.sampling import FrameChoice
from service.contract.upload import Upload

ScoreKind = Literal["softmax", "sigmoid"]
ExplainKind = Literal["frames"]


@dataclass(frozen=True)
class Sampling:
    """Which part of a clip is looked at, in seconds, how often, and by which frame rule."""

    views: int = 1
    start: float | None = None
    end: float | None = None
    frame_rule: FrameChoice = "auto"


@dataclass(frozen=True)
class UploadedClip:
    """A clip whose bytes are here."""

    upload: Upload
    sampling: Sampling


@dataclass(frozen=True)
class LinkedClip:
    """A clip at an address that the client names; to be fetched."""

    url: str
    sampling: Sampling


@dataclass(frozen=True)
class KnownClip:
    """The clip of an earlier answer. How it is sampled was chosen then."""

    video_id: str


@dataclass(frozen=True)
class Question:
    """What is asked about a clip.

    Attributes:
        labels: Cleaned, in the order given; empty where `label_set` names them.
        label_set: Name of a list stored in the bundle, or None.
        templates: Prompts with one `{}` each, averaged; empty for the bundle's own.
        top_k: How many of the best labels to answer; None for all.
        shortlist: How many labels, nearest by plain cosine, to score; None for all.
        scores: `softmax`, where exactly one label is true; `sigmoid`, where several may be.
        open_set: Also say how likely it is that none of the labels is true.
        coverage: Also give the labels that hold the true one with this probability.
        explain: Also say what each of the frames adds to the best label.
    """

    labels: tuple[str, ...]
    label_set: str | None = None
    templates: tuple[str, ...] = ()
    top_k: int | None = None
    shortlist: int | None = None
    scores: ScoreKind = "softmax"
    open_set: bool = False
    coverage: float | None = None
    explain: ExplainKind | None = None


Asked = TypeVar("Asked")


@dataclass(frozen=True)
class ClipRequest(Generic[Asked]):
    """A valid request: what is asked about one clip."""

    clip: UploadedClip | LinkedClip | KnownClip
    question: Asked


ClassifyRequest = ClipRequest[Question]
