"""What is asked of POST /classify, once it is known to be valid."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sampling:
    """Which part of the clip is looked at, and how often."""

    views: int = 1
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class ClassifyRequest:
    """A valid request. Exactly one of `labels` and `label_set`; at most one of `video_id` and
    `video_url`, neither means an upload.

    `prompts` holds, for each label, the texts whose vectors are averaged. `shortlist` is how many
    labels, best by plain cosine, are scored; None scores all.
    """

    labels: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]
    label_set: str | None
    top_k: int | None
    shortlist: int | None
    sampling: Sampling
    video_id: str | None
    video_url: str | None = None
