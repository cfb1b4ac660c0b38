"""Whose turn it is: lines of clients, served in a round, so that a long line delays its own client alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

OLDEST_EVERY = 4
"""Every so many turns of a client its oldest item goes first, so that its own newer ones do not starve it."""


@dataclass(eq=False, slots=True)
class _Line(Generic[T]):
    """One client's share."""

    waiting: OrderedDict[T, None] = field(default_factory=OrderedDict)
    running: int = 0
    turns: int = 0


class FairQueue(Generic[T]):
    """Items of clients. Each client in turn gives one item; an item that several clients want is in all their lines.

    Not safe to call from several threads at once.

    Args:
        at_once: items of one client that may run at a time; None for as many as there are.
        newest_first: whether a client's newest item is its first, as a map wants it; else its oldest.
    """

    def __init__(self, at_once: int | None = None, newest_first: bool = True) -> None:
        self._at_once = at_once
        self._newest_first = newest_first
        # In the order of their turns.
        self._lines: OrderedDict[str, _Line[T]] = OrderedDict()
        self._owners: dict[T, set[str]] = {}

    def __len__(self) -> int:
        """Items that wait, each counted once."""
        return len(self._owners)

    def __contains__(self, item: T) -> bool:
        return item in self._owners

    @property
    def clients(self) -> int:
        """Clients with an item that waits or runs."""
        return len(self._lines)

    def waiting(self, client: str) -> int:
        """Items that wait in a client's line."""
        line = self._lines.get(client)
        return len(line.waiting) if line else 0

    def running(self, client: str) -> int:
        """Items that were taken in a client's turn and are not done."""
        line = self._lines.get(client)
        return line.running if line else 0

    def items(self) -> Iterable[T]:
        """What waits, in no particular order."""
        return self._owners.keys()

    def add(self, client: str, item: T) -> None:
        """Put an item at the end of a client's line; where it is there already, nothing changes."""
        self._lines.setdefault(client, _Line()).waiting.setdefault(item, None)
        self._owners.setdefault(item, set()).add(client)

    def leave(self, client: str, item: T) -> None:
        """Take an item out of one client's line; it waits on while it is in another's."""
        owners = self._owners.get(item)
        if owners is None or client not in owners:
            return
        owners.discard(client)
        if not owners:
            del self._owners[item]
        del self._lines[client].waiting[item]
        self._tidy(client)

    def remove(self, item: T) -> None:
        """Take an item out of every line."""
        for client in self._owners.pop(item, ()):
            del self._lines[client].waiting[item]
            self._tidy(client)

    def take(self) -> tuple[str, T] | None:
        """The next client that has something waiting and may run it, and that item; None if there is none.

        The item is counted as running for that client until `done`.
        """
        client = next((name for name, line in self._lines.items() if self._may_run(line)), None)
        if client is None:
            return None
        line = self._lines[client]
        line.turns += 1
        newest = self._newest_first and line.turns % OLDEST_EVERY != 0
        item = next(reversed(line.waiting)) if newest else next(iter(line.waiting))
        # Before the item goes, since a client with nothing left is forgotten.
        line.running += 1
        self._lines.move_to_end(client)
        self.remove(item)
        return client, item

    def done(self, client: str) -> None:
        """An item that `take` gave in a client's turn runs no longer."""
        self._lines[client].running -= 1
        self._tidy(client)

    def greediest(self) -> str | None:
        """The client with the most waiting items; None if nothing waits."""
        return max(self._lines, key=self.waiting, default=None) if self._owners else None

    def oldest_of(self, client: str) -> T | None:
        """A client's oldest waiting item that nobody else waits for."""
        line = self._lines.get(client)
        return next((item for item in line.waiting if len(self._owners[item]) == 1), None) if line else None

    def _may_run(self, line: _Line[T]) -> bool:
        return bool(line.waiting) and (self._at_once is None or line.running < self._at_once)

    def _tidy(self, client: str) -> None:
        line = self._lines[client]
        if not line.waiting and not line.running:
            del self._lines[client]
