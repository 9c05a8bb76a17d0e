"""A queue that serves clients in turn, so that one who asks for much waits behind himself."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Items of several clients: the clients in turn (round robin), each one's items in order."""

    def __init__(self) -> None:
        self._items: OrderedDict[str, deque[Item]] = OrderedDict()  # the next client first

    def __len__(self) -> int:
        return sum(map(len, self._items.values()))

    def put(self, client: str, item: Item, *, first: bool = False) -> None:
        """Add an item behind the client's others; `first` puts it and the client before all."""
        own = self._items.setdefault(client, deque())
        if first:
            own.appendleft(item)
            self._items.move_to_end(client, last=False)
        else:
            own.append(item)

    def take(
        self, may: Callable[[str, Item], bool] = lambda client, item: True
    ) -> tuple[str, Item] | None:
        """Take the item whose turn it is out: of each client the first that `may` have it.

        Returns:
            The client and the item; None where nobody who may has one.
        """
        able = (
            (client, index)
            for client, own in self._items.items()
            for index, item in enumerate(own)
            if may(client, item)
        )
        client, index = next(able, ("", -1))
        if index < 0:
            return None
        own = self._items[client]
        item = own[index]
        del own[index]
        if own:
            self._items.move_to_end(client)
        else:
            del self._items[client]
        return client, item

    def remove(self, client: str, item: Item) -> None:
        """Drop an item of a client, if it still waits."""
        own = self._items.get(client)
        if own is None or item not in own:
            return
        own.remove(item)
        if not own:
            del self._items[client]
