"""Prompts to vectors, in batches of like length: the cost of a batch follows its longest text."""

from __future__ import annotations

import contextlib
import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from export.runtime import Runtime
from model.inputs import InputSpec, LabelTooLong, Tokenizer
from model.inputs.text.lengths import TokenIds, batches_by_length, token_lengths
from service.contract.errors import LONGEST_RETRY_S, ApiError
from service.inference.batching import Batcher
from service.inference.inference_thread import InferenceThread
from service.sharing.fair_threads import FairThreads
from service.sharing.shares import Full, Shares

# Tokens in one run: more are no faster each, and a video would wait longer behind them.
TOKENS_PER_RUN = 512
# A GPU takes so many in hardly more time than a few, and waiting texts of other requests with them.
GPU_TOKENS_PER_RUN = 4096
IN_THREAD_FROM = 64  # texts; tokenizing more would hold up the event loop
CHARS_PER_TOKEN = 4  # of English, rounded down
# Of the run that is measured at the start: its part of a full one, and tokens of a text.
MEASURED_PART, MEASURED_LENGTH = 4, 8


class TextEncoder:
    """Runs the text graph on the inference thread, and tokenizes long lists `beside` it.

    Of the network's time until an answer is due, `limit_s`, each client has a share for labels,
    half of it at most. The server's own lists, whose client is "", may take longer.
    """

    def __init__(
        self,
        runtime: Runtime,
        tokenizer: Tokenizer,
        spec: InputSpec,
        thread: InferenceThread,
        limit_s: float,
        beside: FairThreads,
    ) -> None:
        together = runtime.prefers_batches
        self._runtime, self._tokenizer, self._spec = runtime, tokenizer, spec
        self._limit_s, self._beside = limit_s, beside
        self._tokens_per_run = GPU_TOKENS_PER_RUN if together else TOKENS_PER_RUN
        self._runs = Batcher(thread, self._run, _tokens, self._tokens_per_run if together else 1)
        # What the network can take until the deadline, once it is known.
        self._tokens = Shares(sys.maxsize, in_turn=True)
        self._taken_on: dict[str, Counter[str]] = {}  # texts of each client, by his questions
        self._seconds_per_token = 0.0  # of the fastest run of requests so far
        self._at_start = 0.0  # a guess, until there was one

    @contextlib.contextmanager
    def taken_on(self, prompts: Sequence[str], client: str) -> Iterator[None]:
        """Count what these prompts will take of the network, for as long as they are worked on.

        What several questions of a client have in common counts once, until the last has ended.

        Args:
            prompts: What is not known, each once.
            client: Who asks.

        Raises:
            ApiError: `too_many_labels` where they take more than half of the time there is, even on
                a machine with nothing else to do; `queue_full` where they would with what the
                client has had taken on before, or a smaller part beside other clients.
        """
        if not client or not prompts:
            yield
            return
        already = self._taken_on.get(client) or Counter[str]()
        new = [prompt for prompt in prompts if prompt not in already]
        if new:
            self._take(new, client)
        mine = self._taken_on.setdefault(client, Counter())
        mine.update(prompts)
        try:
            yield
        finally:
            mine.subtract(prompts)
            done = [prompt for prompt in prompts if not mine[prompt]]
            for prompt in done:
                del mine[prompt]
            if not mine:
                del self._taken_on[client]
            self._tokens.give_back(client, self._count(done))

    def _take(self, prompts: Sequence[str], client: str) -> None:
        """Take the time of prompts off the client's share; ApiError where they are too many."""
        tokens = self._count(prompts)
        each_s = self._seconds_per_token or self._at_start
        need_s = tokens * each_s
        if need_s > self._limit_s / 2:
            raise ApiError(
                "too_many_labels",
                f"{len(prompts)} of these labels are new here and take about {need_s:.0f} s, a "
                f"request may take {self._limit_s / 2:g} s of the network for labels; send them in "
                "several requests: what has been computed is kept",
            )
        self._tokens.total = round(self._limit_s / each_s) if each_s else sys.maxsize
        try:
            self._tokens.take(client, tokens)
        except Full as full:
            held_s = full.held * each_s
            raise ApiError(
                "queue_full",
                f"new labels of yours take {held_s:.0f} s already; ask again later",
                retry_after_s=min(max(1, math.ceil(held_s)), LONGEST_RETRY_S),
            ) from None

    def _count(self, prompts: Sequence[str]) -> int:
        """Return how many tokens prompts have at the least."""
        if self._spec.tokenizer.pad == "fixed":
            return len(prompts) * self._spec.context_length
        return sum(2 + len(prompt) // CHARS_PER_TOKEN for prompt in prompts)

    async def measure(self) -> None:
        """Learn from a small run what texts cost here at the least, before anybody has asked.

        The figure is halved: a start has other work as well, and only what is hopeless is refused.
        """
        length = (
            self._spec.context_length if self._spec.tokenizer.pad == "fixed" else MEASURED_LENGTH
        )
        rows = max(1, self._tokens_per_run // MEASURED_PART // length)
        ids = np.ones((rows, length), np.int64)
        runs = [await self._runs.submit(ids) for _ in range(2)]  # the first makes ready as well
        self._at_start = min(run.ran_s for run in runs) / ids.size / 2

    async def encode(self, prompts: Sequence[str], client: str = "") -> NDArray[np.float32]:
        """Encode K texts: vectors (K,D). ApiError `label_too_long` names one that is too long."""
        if len(prompts) < IN_THREAD_FROM:
            ids = self._tokenize(prompts)
        else:
            ids = await self._beside.run(lambda: self._tokenize(prompts), client)
        lengths = token_lengths(ids, self._spec.tokenizer.pad)
        vectors: NDArray[np.float32] | None = None
        for rows in batches_by_length(lengths, self._tokens_per_run):
            batch = np.ascontiguousarray(ids[rows, : lengths[rows].max()])
            encoded = await self._runs.submit(batch, client)
            if batch.size >= self._tokens_per_run // 2:  # small runs say little about large ones
                self._learn(encoded.ran_s / batch.size)
            if vectors is None:
                vectors = np.empty((len(ids), encoded.answer.shape[1]), np.float32)
            vectors[rows] = encoded.answer
        assert vectors is not None
        return vectors

    def _run(self, batches: list[TokenIds]) -> list[NDArray[np.float32]]:
        """Run the texts of several requests at once, on the inference thread."""
        if len(batches) == 1:
            return [self._runtime.encode_text(batches[0])]
        longest = max(ids.shape[1] for ids in batches)
        padding = self._spec.pad_id
        ids = np.concatenate(
            [
                np.pad(ids, ((0, 0), (0, longest - ids.shape[1])), constant_values=padding)
                for ids in batches
            ]
        )
        ends = np.cumsum([len(ids) for ids in batches])
        return np.split(self._runtime.encode_text(ids), ends[:-1])

    def _tokenize(self, prompts: Sequence[str]) -> NDArray[np.int64]:
        try:
            return self._tokenizer.encode(prompts, self._spec.context_length, self._spec.pad_id)
        except LabelTooLong as error:
            raise ApiError("label_too_long", str(error)) from None

    def _learn(self, seconds_per_token: float) -> None:
        known = self._seconds_per_token or seconds_per_token
        self._seconds_per_token = min(known, seconds_per_token)


def _tokens(batches: list[TokenIds]) -> int:
    return sum(len(ids) for ids in batches) * max(int(ids.shape[1]) for ids in batches)
