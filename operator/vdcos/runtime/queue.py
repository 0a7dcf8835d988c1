"""The work queue: each key once, in order of when it is due, with back-off for those that fail."""

import heapq
import itertools
from collections.abc import Callable
from typing import NamedTuple

from vdcos.core.objects import Key

FIRST_BACKOFF = 0.005
LONGEST_BACKOFF = 60.0


class Item(NamedTuple):
    """A unit of work: look at this object with this service."""

    service: str
    key: Key


class Queue:
    """Holds no clock: every method that needs the time gets it, in monotonic seconds.

    An item is in flight at most once; one that is added meanwhile is due again when it is done.
    ``jitter`` gives a number in [0, 1) and spreads retries over the second half of their delay.
    """

    def __init__(self, jitter: Callable[[], float] = lambda: 0.0) -> None:
        self._jitter = jitter
        self._order = itertools.count()
        self._heap: list[tuple[float, int, Item]] = []
        self._due: dict[Item, float] = {}
        self._in_flight: set[Item] = set()
        self._failures: dict[Item, int] = {}
        self._not_before: dict[Item, float] = {}

    def add(self, item: Item, due: float) -> None:
        """Look at the item at ``due`` at the latest; an earlier appointment stands, and so does a back-off."""
        due = max(due, self._not_before.get(item, due))
        known = self._due.get(item)
        if known is not None and known <= due:
            return
        self._due[item] = due
        if item not in self._in_flight:
            heapq.heappush(self._heap, (due, next(self._order), item))

    def pop(self, now: float) -> Item | None:
        """The next item that is due, now in flight; None when there is none."""
        self._drop_outdated()
        if not self._heap or self._heap[0][0] > now:
            return None
        item = heapq.heappop(self._heap)[2]
        del self._due[item]
        self._not_before.pop(item, None)
        self._in_flight.add(item)
        return item

    def done(self, item: Item, now: float, after: float | None = None) -> None:
        """The item was looked at and needs no other look before ``after`` seconds, if at all. Forgets its failures."""
        self._failures.pop(item, None)
        self._land(item, None if after is None else now + after)

    def failed(self, item: Item, now: float, at_least: float = 0.0) -> None:
        """The item needs another look after a delay that doubles with each failure in a row.

        The delay is binding: events do not shorten it, or an item that keeps failing would be tried at the pace of its
        events.
        """
        count = self._failures[item] = self._failures.get(item, 0) + 1
        longest = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** min(count, 30))
        self._due.pop(item, None)
        due = self._not_before[item] = now + max(at_least, longest * (0.5 + 0.5 * self._jitter()))
        self._land(item, due)

    def failures(self, item: Item) -> int:
        """How often in a row the item has failed."""
        return self._failures.get(item, 0)

    def forget(self, item: Item) -> None:
        """Drop the failures of an item whose object was changed by its owner: it deserves an immediate look."""
        self._failures.pop(item, None)
        self._not_before.pop(item, None)

    def next_due(self) -> float | None:
        """When the next item is due; None when nothing waits."""
        self._drop_outdated()
        return self._heap[0][0] if self._heap else None

    def depth(self, now: float) -> int:
        """How many items are due and not in flight."""
        return sum(due <= now for item, due in self._due.items() if item not in self._in_flight)

    def oldest_age(self, now: float) -> float:
        """How many seconds the item that has waited longest is overdue."""
        due = self.next_due()
        return max(0.0, now - due) if due is not None else 0.0

    def __len__(self) -> int:
        return len(self._due) + len(self._in_flight - self._due.keys())

    def _land(self, item: Item, due: float | None) -> None:
        self._in_flight.discard(item)
        waiting = self._due.get(item)
        if waiting is not None and (due is None or waiting < due):
            due = waiting
        if due is not None:
            self._due[item] = due
            heapq.heappush(self._heap, (due, next(self._order), item))

    def _drop_outdated(self) -> None:
        while self._heap:
            due, _, item = self._heap[0]
            if item not in self._in_flight and self._due.get(item) == due:
                return
            heapq.heappop(self._heap)
