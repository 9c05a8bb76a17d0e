"""What an engine tells of its work, for metrics and traces alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.telemetry.metrics import Metrics
from service.telemetry.tracing import NoTracing, Tracing


@dataclass(frozen=True)
class EngineTelemetry:
    """The one place where stage times, batches and the use of caches go."""

    metrics: Metrics
    tracing: Tracing = field(default_factory=NoTracing)

    def stage_ended(self, stage: str, seconds: float) -> None:
        """Note that a stage of this request has just ended; it may be entered again."""
        self.tracing.stage(stage, seconds)

    def batch_ran(self, clips: int) -> None:
        """Note how many clips (views) went through the video encoder together."""
        self.metrics.batch_clips.observe(clips)

    def windows_ranked(self, count: int) -> None:
        """Note windows of a timeline that are done."""
        self.metrics.timeline_windows.inc(count)

    def answered(
        self, stage_seconds: Mapping[str, float], video: str, text_hits: int, text_misses: int
    ) -> None:
        """Note an answer; `video` is hit or miss, `stage_seconds` the whole of each stage."""
        for stage, seconds in stage_seconds.items():
            self.metrics.stage_seconds.labels(stage).observe(seconds)
        self.metrics.count_caches(video, text_hits, text_misses)
