"""The most that a server may take, as docs/reliability.md says it, term by term."""

from __future__ import annotations

from export.bundle import open_bundle
from export.runtime import available_cpus
from service.decode.options import PoolOptions
from service.settings import Settings

MIB = 1 << 20
RUNTIME = 300 * MIB  # the embedded bundle, and Python with its libraries
RESERVED_CONNECTIONS = 8
FRESH_WORKER = 100 * MIB
STATED_VIEWS = 10  # what the frames' memory of a worker has room for


def most_memory(settings: Settings) -> int:
    """Return bytes of memory: the service, and all of its decode workers."""
    return most_of_service(settings) + most_of_decoding(settings)


def most_of_service(settings: Settings) -> int:
    """Return bytes of memory of the server's own process."""
    manifest = open_bundle(settings.bundle, check_files=False).manifest
    text, prompts = settings.max_text_bytes * 4, settings.max_prompts or settings.max_labels
    longest = max([settings.max_labels, *(info.count for info in manifest.labels.values())])
    return (
        RUNTIME
        + settings.label_cache_bytes
        + settings.video_cache_bytes
        + (settings.max_connections + RESERVED_CONNECTIONS) * (64 + 128) * 1024
        + (settings.max_uploads + settings.max_in_flight) * text
        + settings.max_in_flight * (text + prompts * (100 + 4 * manifest.text_dim))
        + settings.max_in_flight * 500 * longest
        + 32 * MIB
        + settings.max_in_flight * settings.max_views * _frame_bytes(settings)
    )


def most_of_decoding(settings: Settings) -> int:
    """Return bytes of memory of the decode workers."""
    each = FRESH_WORKER + settings.decode_memory_bytes + 4 * STATED_VIEWS * _frame_bytes(settings)
    return ((settings.decode_workers or available_cpus()) + PoolOptions().spares) * each


def most_upload_bytes(settings: Settings) -> int:
    """Return bytes on disk, or in a tmpfs."""
    return (settings.max_uploads + settings.max_in_flight) * settings.max_upload_bytes


def _frame_bytes(settings: Settings) -> int:
    spec = open_bundle(settings.bundle, check_files=False).manifest.inputs
    return spec.num_frames * spec.image_size**2 * 3
