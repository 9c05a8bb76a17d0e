"""Who hangs up again and again before the answer is heard later on new connections.

An answer of little cost comes later to who has had many (`service.api.later_answers`); who hears
none pays nothing for it, and may ask for the next at once. Hundreds of forms a second, each left
after some milliseconds, keep the event loop so busy that nobody else's connection is accepted for
seconds. Where many clients do so, a little each, nobody is read who has gone by then.
"""

from __future__ import annotations

import asyncio
import select

from service.access.client import client_of
from service.sharing.pace import Pace

# Of one client, all his connections together; beyond them his next connections are read later, by
# so much at most.
HANG_UPS_PER_S, READ_WITHIN_S = 50, 3.0
EVERYBODY = ""  # no client has this name


class HangUps:
    """Counts by client, and says how long a new connection of one is put off."""

    def __init__(self) -> None:
        self._pace = Pace(HANG_UPS_PER_S, READ_WITHIN_S)

    @property
    def are_many(self) -> bool:
        """Whether there have been so many of all clients together."""
        return self._pace.due_in_s(EVERYBODY) > 0

    def note(self, address: str) -> None:
        """Count one of whoever has this address."""
        self._pace.wait_s(client_of(address))
        self._pace.wait_s(EVERYBODY)

    def put_off_s(self, address: str) -> float:
        """Return in how many seconds a connection that begins now is to be read."""
        return self._pace.due_in_s(client_of(address))


def has_hung_up(transport: asyncio.Transport) -> bool:
    """Tell whether the other side has closed its own, also where what it sent is not read."""
    side = select.poll()
    side.register(transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
    return bool(side.poll(0))
