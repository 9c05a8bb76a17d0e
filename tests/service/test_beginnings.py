"""What begins, begins by client in turn, one in each round of the event loop."""

from __future__ import annotations

import asyncio
from functools import partial

from service.transport.beginnings import Beginnings


def test_clients_begin_in_turn_one_in_each_round() -> None:
    async def run() -> list[tuple[str, int]]:
        loop, beginnings = asyncio.get_running_loop(), Beginnings()
        begun: list[tuple[str, int]] = []
        rounds = 0

        def begin(name: str) -> None:
            begun.append((name, rounds))

        for name in ("a1", "a2", "a3", "b1", "c1", "b2"):
            beginnings.put(loop, name[0], partial(begin, name))
        while len(begun) < 6:
            await asyncio.sleep(0)
            rounds += 1
        beginnings.put(loop, "a", partial(begin, "a4"))  # once nobody waits
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return begun

    begun = asyncio.run(run())
    assert [name for name, _ in begun] == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]
    rounds = [number for _, number in begun]
    assert len(set(rounds)) == len(rounds)
