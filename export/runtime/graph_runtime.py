"""The one runtime behind every backend: checks, names, and label lists of any length."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from export.bundle import Bundle, PrecisionBuild
from export.bundle.manifest import GraphName
from export.runtime.contract import (
    PAIRS_PER_RUN,
    TEXTS_PER_RUN,
    Backend,
    GraphRun,
    check_frames,
    check_pairs,
    check_token_ids,
)
from export.runtime.features import Features, Vectors, join_features, split_features


class GraphRuntime:
    """Runs a bundle's graphs on one backend, in one precision."""

    def __init__(
        self,
        bundle: Bundle,
        build: PrecisionBuild,
        backend: Backend,
        selection: tuple[str, ...] = (),
    ) -> None:
        self.name = backend.name
        self.precision: str = build.precision
        self.prefers_batches: bool = backend.prefers_batches
        self.selection = selection
        self._manifest = bundle.manifest
        self._clips_per_run = build.clips_per_run or backend.max_clips
        self._backend = backend
        self._graphs = _opened(bundle, build, backend)
        score_inputs = (tensor.name for tensor in bundle.manifest.graphs["score_head"].inputs)
        self._feature_names = tuple(name for name in score_inputs if name != "text")

    def encode_video(self, frames: NDArray[np.uint8]) -> Features:
        """Encode frames uint8 (B,T,H,W,3) RGB, at most `clips_per_run` clips at a time."""
        check_frames(frames, self._manifest.inputs)
        run = self._graph("video_encoder")
        step = self._clips_per_run or len(frames)
        starts = range(0, len(frames), step)
        return join_features([run({"frames": frames[i : i + step]}) for i in starts])

    def encode_text(self, token_ids: NDArray[np.int64]) -> Vectors:
        """Encode token ids int64 (K,L) to label vectors (K,D), `TEXTS_PER_RUN` at a time."""
        check_token_ids(token_ids, self._manifest.inputs)
        run = self._graph("text_encoder")
        step = TEXTS_PER_RUN
        parts = [token_ids[start : start + step] for start in range(0, len(token_ids), step)]
        return np.concatenate([run({"token_ids": part})["text"] for part in parts])

    def score(self, features: Features, text: Vectors) -> Vectors:
        """Score clips against label vectors (B,K,D), at most `PAIRS_PER_RUN` pairs at a time."""
        check_pairs(features, text, self._feature_names, self._manifest.text_dim)
        head = self._graph("score_head")
        clips, labels, _ = text.shape
        most = self._backend.max_clips or clips
        if clips > most:
            counts = [min(most, clips - first) for first in range(0, clips, most)]
            parts = zip(split_features(features, counts), np.cumsum(counts), counts, strict=True)
            return np.concatenate([self.score(part, text[e - n : e]) for part, e, n in parts])
        step = max(1, PAIRS_PER_RUN // clips)
        inputs = self._backend.keep(features, self._feature_names)
        logits = np.empty((clips, labels), np.float32)
        for start in range(0, labels, step):
            # May be a broadcast view of one label list for all clips: whole a run at a time.
            part = text[:, start : start + step]
            logits[:, start : start + step] = head({**inputs, "text": part})["logits"]
        return logits

    def warm_up(self) -> Vectors:
        """Run every graph on one blank clip and one label; return their logits (1,1)."""
        spec = self._manifest.inputs
        size = spec.image_size
        frames = np.zeros((1, spec.num_frames, size, size, 3), np.uint8)
        length = spec.context_length if spec.tokenizer.pad == "fixed" else 2
        text = self.encode_text(np.ones((1, length), np.int64))
        return self.score(self.encode_video(frames), text[None])

    def close(self) -> None:
        """Give memory and threads back."""
        self._graphs = {}
        self._backend.close()

    def _graph(self, name: str) -> GraphRun:
        try:
            return self._graphs[name]
        except KeyError:
            raise ValueError("this runtime is closed; open another one") from None


def _opened(bundle: Bundle, build: PrecisionBuild, backend: Backend) -> dict[str, GraphRun]:
    """Load every graph of the bundle, side by side where the backend can."""
    graphs = bundle.manifest.graphs

    def opened(name: GraphName) -> tuple[str, GraphRun]:
        file, precision = bundle.graph_file(name, build), build.graph_precision(name)
        return name, backend.open(name, graphs[name], file, precision)

    if not backend.opens_at_once:
        return dict(map(opened, graphs))
    with ThreadPoolExecutor(len(graphs)) as threads:
        return dict(threads.map(opened, graphs))
