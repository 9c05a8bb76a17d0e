"""What Prometheus can scrape: requests, stages, queues, caches, decode workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class ReloadResult(StrEnum):
    """What became of a bundle that was to take the place of another."""

    SWAPPED = "swapped"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


class Metrics:
    """Counters of one app, in a registry of its own."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "xclip_requests", "Answers by route, status and error code.",
            ["route", "status", "code"], registry=registry,
        )  # fmt: skip
        self.request_seconds = Histogram(
            "xclip_request_seconds", "From the first byte to the answer.",
            ["route"], registry=registry, buckets=SECONDS,
        )  # fmt: skip
        self.stage_seconds = Histogram(
            "xclip_stage_seconds", "Time of one request in one stage.",
            ["stage"], registry=registry, buckets=SECONDS,
        )  # fmt: skip
        self.batch_clips = Histogram(
            "xclip_batch_clips", "Clips (views) that went through the video encoder together.",
            registry=registry, buckets=(1, 2, 4, 8, 16, 32, 64),
        )  # fmt: skip
        self.timeline_windows = Counter(
            "xclip_timeline_windows", "Windows of timelines that were ranked.", registry=registry
        )
        self.video_cache = Counter(
            "xclip_video_cache", "Clips asked for, by whether they were known.",
            ["result"], registry=registry,
        )  # fmt: skip
        self.label_cache = Counter(
            "xclip_label_cache", "Label vectors asked for, by whether they were known.",
            ["result"], registry=registry,
        )  # fmt: skip
        self.reloads = Counter(
            "xclip_reloads", "Bundle changes asked for with SIGHUP, by what became of them.",
            ["result"], registry=registry,
        )  # fmt: skip
        for result in ReloadResult:
            self.reloads.labels(result)
        self.build = Info("xclip_build", "What is being served.", registry=registry)

    def watch(self, name: str, what: str, value: Callable[[], float]) -> None:
        """Add a gauge that is read at each scrape."""
        Gauge(name, what, registry=self.registry).set_function(value)

    def watch_each(
        self, name: str, what: str, label: str, values: Callable[[], Mapping[str, float]]
    ) -> None:
        """Add a gauge for each value of a label, read at each scrape."""
        self.registry.register(_Gauges(name, what, label, values))

    def watch_totals(self, name: str, what: str, value: Callable[[], Mapping[str, int]]) -> None:
        """Add counters kept elsewhere, by reason, that are read at each scrape."""
        self.registry.register(_Totals(name, what, value))

    def count_caches(self, video: str, text_hits: int, text_misses: int) -> None:
        """Count one answered request's use of the caches."""
        self.video_cache.labels(video).inc()
        self.label_cache.labels("hit").inc(text_hits)
        self.label_cache.labels("miss").inc(text_misses)

    def render(self) -> bytes:
        """Return the text that Prometheus reads."""
        return generate_latest(self.registry)


class _Totals(Collector):
    def __init__(self, name: str, what: str, value: Callable[[], Mapping[str, int]]) -> None:
        self._name, self._what, self._value = name, what, value

    def collect(self) -> Iterable[CounterMetricFamily]:
        family = CounterMetricFamily(self._name, self._what, labels=["reason"])
        for reason, count in self._value().items():
            family.add_metric([reason], count)
        yield family


class _Gauges(Collector):
    def __init__(
        self, name: str, what: str, label: str, values: Callable[[], Mapping[str, float]]
    ) -> None:
        self._name, self._what, self._label, self._values = name, what, label, values

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily(self._name, self._what, labels=[self._label])
        for value, number in self._values().items():
            family.add_metric([value], number)
        yield family
