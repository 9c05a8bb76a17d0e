"""Gauges and totals that Prometheus reads off a server's parts at each scrape.

They read through the server, so they follow it from one bundle to the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from service.decode.ending import Ending
from service.decode.protocol import YES

if TYPE_CHECKING:
    from service.access.admission import Admission
    from service.access.auth import Access
    from service.cache.redis.client import SharedCache
    from service.inference.engine import Engine
    from service.telemetry.metrics import Metrics


class Watched(Protocol):
    """The parts of a server that gauges read."""

    metrics: Metrics
    access: Access
    admission: Admission
    cache: SharedCache | None

    @property
    def engine(self) -> Engine:
        """What answers requests at this moment."""


def watch_server(server: Watched) -> None:
    """Register what a ready server can be asked."""
    m, admission = server.metrics, server.admission
    m.watch("xclip_in_flight", "Requests begun and not answered.", lambda: admission.in_flight)
    m.watch("xclip_uploading", "Requests whose body is coming in.", lambda: admission.uploading)
    m.watch("xclip_max_in_flight", "Most requests at once.", lambda: float(admission.max_in_flight))
    m.watch(
        "xclip_lane_waiting", "Calls on the inference thread.", lambda: server.engine.thread.waiting
    )
    m.watch(
        "xclip_decode_waiting", "Clips no worker has begun.", lambda: server.engine.pool.waiting
    )
    m.watch("xclip_decode_running", "Clips a worker is at.", lambda: server.engine.pool.running)
    m.watch("xclip_video_cache_bytes", "Clip features held.", lambda: server.engine.features.nbytes)
    m.watch(
        "xclip_label_cache_entries", "Label vectors held.", lambda: len(server.engine.labels.known)
    )
    m.watch_totals("xclip_decode_jobs", "Decode jobs, by how they ended.", lambda: {
        "decoded": server.engine.pool.stats.decoded, "refused": server.engine.pool.stats.refused,
        "dropped": server.engine.pool.stats.dropped,
    })  # fmt: skip
    m.watch_totals(
        "xclip_decode_workers_ended",
        "Workers gone, by reason.",
        lambda: {end.value: server.engine.pool.stats.ended[end] for end in Ending},
    )
    m.watch_each(
        "xclip_sandbox",
        "1 where a measure that confines decode workers could be taken.",
        "measure",
        lambda: {
            measure: float(outcome.startswith(YES))
            for measure, outcome in server.engine.pool.sandbox.items()
        },
    )
    m.watch(
        "xclip_api_keys_stale",
        "1 while the key file cannot be read and the keys from before count.",
        lambda: float(server.access.keys_stale),
    )
    if server.cache is not None:
        _watch_cache(server, server.cache)


def _watch_cache(server: Watched, cache: SharedCache) -> None:
    m, stats = server.metrics, cache.stats
    m.watch("xclip_shared_cache_up", "Whether Redis is asked.", lambda: float(cache.up))
    m.watch("xclip_shared_cache_writable", "Whether Redis takes writes.", lambda: cache.writable)
    m.watch_totals("xclip_shared_cache_reads", "Keys asked of Redis.", lambda: stats.reads)
    m.watch_totals("xclip_shared_cache_writes", "Keys for Redis.", lambda: stats.writes)
    m.watch_totals("xclip_shared_cache_errors", "Failed calls to Redis.", lambda: stats.errors)
    m.watch_totals(
        "xclip_shared_cache_values",
        "Label vectors from Redis: used, or of another version, or corrupt.",
        lambda: stats.values,
    )
    m.watch_totals(
        "xclip_shared_cache_clips",
        "Clips from Redis: used, or of another version, or corrupt.",
        lambda: stats.clips,
    )
