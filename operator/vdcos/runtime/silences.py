"""Who is to look again when something has not changed for a while: a host's Lease, say."""

import heapq
import itertools
from collections.abc import Callable, Iterable
from typing import Any

from vdcos.core.objects import Key
from vdcos.core.plan import Silence
from vdcos.runtime.queue import Item

_Object = tuple[type[Any], Key]


class Silences:
    """``since`` says when the silence of an object began (``Store.silent_since``), in monotonic seconds, as all here.

    A change costs nothing: whether there was one is only asked when a silence would be over.
    """

    def __init__(self, since: Callable[[type[Any], Key], float | None]) -> None:
        self._since = since
        self._wanted: dict[Item, dict[_Object, float]] = {}
        self._heap: list[tuple[float, int, Item, _Object, float]] = []
        self._order = itertools.count()

    def settle(self, item: Item, silences: Iterable[Silence], now: float) -> None:
        """What a look at an item asks for, in place of what the look before has. What was silent already at ``now``,
        the moment of the look, was seen by it, and what is not there cannot be silent."""
        before, wanted = self._wanted.pop(item, {}), {}
        for silence in silences:
            began = self._since(silence.kind, silence.key)
            if began is None or began + silence.seconds <= now:
                continue
            watched = silence.kind, silence.key
            wanted[watched] = silence.seconds
            if before.get(watched) != silence.seconds:
                self._push(began + silence.seconds, item, watched, silence.seconds)
        if wanted:
            self._wanted[item] = wanted

    def drop(self, item: Item) -> None:
        """The object that asked is gone."""
        self._wanted.pop(item, None)

    def next_due(self) -> float | None:
        """When the first silence will be over, if nothing changes; None for never."""
        while self._heap:
            due, _, item, watched, seconds = self._heap[0]
            if self._wanted.get(item, {}).get(watched) != seconds:
                heapq.heappop(self._heap)
                continue
            began = self._since(*watched)
            if began is None:
                del self._wanted[item][watched]
            elif began + seconds > due:
                heapq.heappop(self._heap)
                self._push(began + seconds, item, watched, seconds)
            else:
                return due
        return None

    def over(self, now: float) -> list[Item]:
        """The items whose silence is over by now, each told once."""
        items: dict[Item, None] = {}
        while (due := self.next_due()) is not None and due <= now:
            _, _, item, watched, _ = heapq.heappop(self._heap)
            del self._wanted[item][watched]
            items[item] = None
        return list(items)

    def _push(self, due: float, item: Item, watched: _Object, seconds: float) -> None:
        heapq.heappush(self._heap, (due, next(self._order), item, watched, seconds))
