"""The formula of docs/reliability.md: bytes that the service holds at most, term by term."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from export.bundle.manifest import BundleManifest
from export.runtime.cpus import available_cpus
from service.cache.redis.write_behind import MAX_WAITING_BYTES
from service.decode.options import PoolOptions
from service.inference.timeline import MOST_PREDICTIONS
from service.settings import Settings

KIB = 1 << 10
PARSED_AT_ONCE = 2
RESERVE = 8
BYTES_PER_CHARACTER = 4


@dataclass(frozen=True)
class MemoryFormula:
    """The terms, for a server with these settings that serves this bundle."""

    settings: Settings
    manifest: BundleManifest

    @property
    def texts(self) -> int:
        """Texts of one request, as Python holds them."""
        return BYTES_PER_CHARACTER * self.settings.max_text_bytes + 100 * self.settings.max_labels

    @property
    def parsing(self) -> int:
        """What reading the texts of one request takes beside these."""
        return 3 * self.texts + 400 * self.settings.max_labels

    @property
    def prompts(self) -> int:
        """Prompts of one request, and their vectors."""
        s = self.settings
        each = 600 + 8 * self.manifest.text_dim
        return BYTES_PER_CHARACTER * s.max_text_bytes + each * (s.max_prompts or s.max_labels)

    @property
    def answer(self) -> int:
        """One answer, from the logits to its last byte."""
        stored = [info.count for info in self.manifest.labels.values()]
        labels = max([self.settings.max_labels, *stored])
        one = 4 * self.settings.max_text_bytes + (800 + 50 * self.settings.max_views) * labels
        return max(one, MOST_PREDICTIONS * (800 + 4 * self.settings.max_label_chars))

    @property
    def frames(self) -> int:
        """Frames of one clip."""
        spec = self.manifest.inputs
        return self.settings.max_views * spec.num_frames * spec.image_size**2 * 3

    @property
    def timelines(self) -> int:
        """Frames of the videos that are being decoded in windows: of a batch in the memory that a
        worker fills, of the one before, and of the one that is being encoded.
        """
        spec, s = self.manifest.inputs, self.settings
        window = spec.num_frames * spec.image_size**2 * 3
        at_once = max(1, (s.decode_workers or available_cpus()) // 2)
        return at_once * 3 * PoolOptions().max_views * window

    @property
    def features(self) -> int:
        """What the network makes of one clip."""
        outputs = self.manifest.graphs["video_encoder"].outputs
        numbers = sum(prod(int(n) for n in out.shape[1:]) for out in outputs)
        return self.settings.max_views * 4 * numbers

    @property
    def connection(self) -> int:
        """One connection: its buffer, what is read ahead, and what waits to be sent."""
        return 64 * KIB + 64 * KIB + 128 * KIB

    @property
    def total(self) -> int:
        """All but the runtime, the tokenizer's words and the lists of the bundle."""
        s = self.settings
        return (
            s.label_cache_bytes
            + s.video_cache_bytes
            + (s.max_connections + RESERVE) * self.connection
            + (s.max_uploads + s.max_in_flight) * self.texts
            + PARSED_AT_ONCE * self.parsing
            + s.max_in_flight * (self.prompts + self.answer + self.frames + self.features)
            + self.timelines
            + MAX_WAITING_BYTES
        )
