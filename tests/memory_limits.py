"""The most that a server may take in all: the formula of docs/reliability.md, and its workers."""

from __future__ import annotations

from export.bundle import open_bundle
from export.runtime import available_cpus
from service.decode.options import PoolOptions
from service.settings import Settings
from tests.service.memory_formula import MemoryFormula

MIB = 1 << 20
RUNTIME = 300 * MIB  # the embedded bundle, and Python with its libraries
WORDS = 100 * MIB  # that the tokenizer keeps
FRESH_WORKER = 100 * MIB
STATED_VIEWS = 10  # what the frames' memory of a worker has room for


def most_memory(settings: Settings) -> int:
    """Return bytes of memory: the service with the bundle of its settings, and its workers."""
    manifest = open_bundle(settings.bundle, check_files=False).manifest
    spec = manifest.inputs
    frames = spec.num_frames * spec.image_size**2 * 3
    worker = FRESH_WORKER + settings.decode_memory_bytes + 4 * STATED_VIEWS * frames
    workers = (settings.decode_workers or available_cpus()) + PoolOptions().spares
    return RUNTIME + WORDS + MemoryFormula(settings, manifest).total + workers * worker


def most_upload_bytes(settings: Settings) -> int:
    """Return bytes on disk, or in a tmpfs."""
    return (settings.max_uploads + settings.max_in_flight) * settings.max_upload_bytes
