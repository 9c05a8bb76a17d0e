"""The formula of docs/reliability.md: bytes that the service holds at most, term by term."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from export.bundle.manifest import BundleManifest
from export.runtime.cpus import available_cpus
from service.api.asking import MAX_PARTS, PARTS_BESIDE_LABELS
from service.cache.redis.write_behind import MAX_WAITING_BYTES
from service.contract.request import Question
from service.decode.options import PoolOptions
from service.inference.question_memory import question_bytes
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
    def body(self) -> int:
        """Texts of one body as they came: bytes that grow, and a little for each part."""
        return 5 * self.settings.max_text_bytes // 4 + KIB * (MAX_PARTS + PARTS_BESIDE_LABELS)

    @property
    def parsing(self) -> int:
        """What reading the texts of one body takes beside these."""
        s = self.settings
        texts = BYTES_PER_CHARACTER * s.max_text_bytes + 100 * s.max_labels
        return 4 * texts + 400 * s.max_labels

    @property
    def questions(self) -> int:
        """All questions together, from their labels to the last byte of their answers."""
        half = self.settings.max_question_bytes // 2
        return half + max(half, *map(self._of, self._largest_questions()))

    def _of(self, question: Question) -> int:
        s = self.settings
        return question_bytes(question, self.manifest, s.max_views, s.max_windows)

    def _largest_questions(self) -> list[Question]:
        """One that is larger than there is room for is answered alone."""
        s = self.settings
        count = min(s.max_labels, s.max_prompts or s.max_labels)
        labels = ("x" * (s.max_text_bytes // count),) * count
        lists = [Question(labels=(), label_set=name) for name in self.manifest.labels]
        return [
            replace(asked, scores="sigmoid", open_set=True, explain="frames")
            for asked in (Question(labels=labels), *lists)
        ]

    @property
    def one_view(self) -> tuple[int, int, int, int]:
        """Shape of the frames of a view."""
        spec = self.manifest.inputs
        return spec.num_frames, spec.image_size, spec.image_size, 3

    @property
    def frames(self) -> int:
        """Frames of one clip."""
        return self.settings.max_views * prod(self.one_view)

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
            + s.max_uploads * self.body
            + PARSED_AT_ONCE * self.parsing
            + self.questions
            + s.max_in_flight * (self.frames + self.features)
            + self.timelines
            + MAX_WAITING_BYTES
        )
