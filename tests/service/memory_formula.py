"""The formula of docs/reliability.md: bytes that the service holds at most, term by term."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from export.bundle.manifest import BundleManifest
from service.cache.redis.write_behind import MAX_WAITING_BYTES
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
        return 4 * self.settings.max_text_bytes + (800 + 50 * self.settings.max_views) * labels

    @property
    def frames(self) -> int:
        """Frames of one clip."""
        spec = self.manifest.inputs
        return self.settings.max_views * spec.num_frames * spec.image_size**2 * 3

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
            + MAX_WAITING_BYTES
        )
