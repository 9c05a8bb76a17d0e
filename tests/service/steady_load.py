"""Requests without a pause from several clients at once, and what became of each."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

Answer = Mapping[str, Any]


@dataclass(frozen=True)
class Sample:
    """One request: when it began, how long it took, its status and body; 0 where none came."""

    began: float
    seconds: float
    status: int
    body: Answer
    question: int
    transport_error: str = ""


@dataclass
class SteadyLoad:
    """`clients` threads that ask one question after the other, round and round, until stopped.

    `ask(client, question)` sends one request; use as a context.
    """

    url: str
    ask: Callable[[httpx.Client, int], httpx.Response]
    clients: int = 4
    samples: list[Sample] = field(default_factory=list)

    def __enter__(self) -> SteadyLoad:
        self._stop = threading.Event()
        self._questions = itertools.count()
        self._threads = [threading.Thread(target=self._run) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def more(self, count: int) -> None:
        """Wait until so many more requests have ended."""
        wanted = len(self.samples) + count
        while len(self.samples) < wanted and any(t.is_alive() for t in self._threads):
            time.sleep(0.01)

    def since(self, began: float) -> list[Sample]:
        """The requests that began after a moment (of time.perf_counter)."""
        return [sample for sample in self.samples if sample.began >= began]

    def _run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=None) as client:
            while not self._stop.is_set():
                self.samples.append(self._one(client, next(self._questions)))

    def _one(self, client: httpx.Client, question: int) -> Sample:
        began = time.perf_counter()
        try:
            response = self.ask(client, question)
            status, body, error = response.status_code, response.json(), ""
        except httpx.TransportError as problem:
            status, body, error = 0, {}, f"{type(problem).__name__}: {problem}"
        return Sample(began, time.perf_counter() - began, status, body, question, error)


def statuses(samples: list[Sample]) -> Counter[int]:
    return Counter(sample.status for sample in samples)


def percentile(samples: list[Sample], q: float) -> float:
    """Milliseconds that q of 100 requests stayed under."""
    return float(1000 * np.percentile([sample.seconds for sample in samples], q))


def by_label(body: Answer) -> dict[str, float]:
    """The logits of an answer."""
    return {p["label"]: p["logit"] for p in body["predictions"]}


def cycle_lists(lists: int, labels: int) -> list[list[str]]:
    """Label lists that overlap, as requests of real users do."""
    pool = [f"somebody doing thing number {n}" for n in range(lists * labels // 2)]
    return [
        [pool[(start * labels // 2 + i) % len(pool)] for i in range(labels)]
        for start in range(lists)
    ]
