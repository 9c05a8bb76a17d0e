"""Ask about many clips, a bounded number at a time, and hand each answer on as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from itertools import islice
from typing import TypeVar

from service.contract.answer import Classification
from xclip_serve.errors import ClassifyError, cannot_open

C = TypeVar("C")
A = TypeVar("A")
Answered = tuple[C, Classification | ClassifyError]


def as_they_come(
    clips: Iterable[C], submit: Callable[[C], Future[A]], at_once: int
) -> Iterator[tuple[C, A | ClassifyError]]:
    """Yield each clip with its answer or problem. `clips` is read only as far as is asked."""
    clips = iter(clips)
    waiting: dict[Future[A], C] = {}
    try:
        while True:
            for clip in islice(clips, at_once - len(waiting)):
                waiting[submit(clip)] = clip
            if not waiting:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                yield waiting.pop(future), _answer(future.result)
    finally:
        for future in waiting:
            future.cancel()


async def as_they_come_async(
    clips: Iterable[C], ask: Callable[[C], Awaitable[A]], at_once: int
) -> AsyncIterator[tuple[C, A | ClassifyError]]:
    """Yield each clip with its answer or problem, in asynchronous code."""
    clips = iter(clips)
    waiting: dict[asyncio.Future[A], C] = {}
    try:
        while True:
            for clip in islice(clips, at_once - len(waiting)):
                waiting[asyncio.ensure_future(ask(clip))] = clip
            if not waiting:
                return
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                yield waiting.pop(future), _answer(future.result)
    finally:
        for future in waiting:
            future.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


def _answer(result: Callable[[], A]) -> A | ClassifyError:
    try:
        return result()
    except ClassifyError as error:
        return error
    except OSError as error:
        return cannot_open(error)
