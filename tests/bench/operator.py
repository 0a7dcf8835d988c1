"""``vdcos run`` with a stopwatch: the operator itself, its store, queue and loop looked at from outside.

When it ends it writes what it saw to the file that VDCOS_BENCH_TRACE names, as JSON: ``synced`` (when every kind was
listed), ``heard`` (resource version and time of each object, in Unix nanoseconds), ``waits`` (time in s and how long an
item had been due), ``lags`` (time in s and how late the loop was). All times but those of ``heard`` are Unix seconds.

While it runs, the file beside it (``.now``) says four times a second how many looks there were, and how many are due or
under way: a scrape of a thousand hosts' metrics would cost more than what is measured.
"""

import array
import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from vdcos import app, cli
from vdcos.core.objects import Key, Stored
from vdcos.runtime.engine import Outcome
from vdcos.runtime.metrics import Metrics
from vdcos.runtime.queue import Item, Queue
from vdcos.runtime.reflector import Reflector
from vdcos.runtime.store import Store, version

TICK = 0.005
TOLD_EVERY = 50
"""Ticks."""


class Trace:
    """Numbers in arrays: lists of tuples would be seen in the memory that is measured."""

    def __init__(self) -> None:
        self.heard_versions = array.array("q")
        self.heard_at = array.array("q")
        self.waits = array.array("d")
        self.lags = array.array("d")
        self.listed = 0.0
        self.synced = 0.0
        self.timer: asyncio.TimerHandle | None = None
        self.looks = 0
        self.unfinished: Callable[[], int] = lambda: 1
        self._told = os.open(f"{os.environ['VDCOS_BENCH_TRACE']}.now", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

    def tell(self) -> None:
        os.pwrite(self._told, b"%12d %12d" % (self.looks, self.unfinished()), 0)

    def write(self, file: Path) -> None:
        said = {
            "listed": self.listed,
            "synced": self.synced,
            "heard": [self.heard_versions.tolist(), self.heard_at.tolist()],
            "waits": self.waits.tolist(),
            "lags": self.lags.tolist(),
        }
        file.write_text(json.dumps(said))

    def tick(self, loop: asyncio.AbstractEventLoop, count: int = 0) -> None:
        """Set a timer again and again, and note how late each is."""
        due = loop.time() + TICK

        def rings() -> None:
            self.lags.extend((time.time(), max(0.0, loop.time() - due)))
            if count % TOLD_EVERY == 0:
                self.tell()
            self.tick(loop, count + 1)

        self.timer = loop.call_at(due, rings)


trace = Trace()


class WatchedStore(Store):
    """Notes what is heard after the first lists."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        trace.listed = time.time()
        self.subscribe(self._note)

    def _note(self, kind: type[Any], old: Stored | None, new: Stored | None) -> None:
        if new is not None and trace.synced:
            trace.heard_versions.append(version(new.metadata.resource_version))
            trace.heard_at.append(time.time_ns())

    def listed(self, kind: type[Any], present: Collection[Key], resource_version: str) -> None:
        super().listed(kind, present, resource_version)
        self._see()

    def unavailable(self, kind: type[Any], why: str, forbidden: bool = False) -> None:
        super().unavailable(kind, why, forbidden)
        self._see()

    def _see(self) -> None:
        if not trace.synced and all(map(self.known, self.kinds)):
            trace.synced = time.time()


class WatchedMetrics(Metrics):
    """Counts looks, and knows what is due or under way."""

    def watch(
        self,
        vservices: Iterable[str],
        queue: Queue,
        store: Store,
        sources: Sequence[Reflector],
        leading: Callable[[], bool],
        in_flight: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        super().watch(vservices, queue, store, sources, leading, in_flight, clock)
        trace.unfinished = lambda: queue.depth(clock()) + in_flight()

    def reconciled(self, item: Item, outcome: Outcome, seconds: float) -> None:
        super().reconciled(item, outcome, seconds)
        trace.looks += 1


class WatchedQueue(Queue):
    """Notes how long items waited."""

    def pop(self, now: float) -> Item | None:
        due = self.next_due()
        item = super().pop(now)
        if item is not None and due is not None:
            trace.waits.extend((time.time(), max(0.0, now - due)))
        return item


async def _run(settings: app.Settings) -> None:
    trace.tick(asyncio.get_running_loop())
    try:
        await plain(settings)
    finally:
        assert trace.timer is not None
        trace.timer.cancel()
        trace.write(Path(os.environ["VDCOS_BENCH_TRACE"]))


# The composition is made by hand, from names of its module: these are the ones that are looked at.
plain = app._run
vars(app).update(Store=WatchedStore, Queue=WatchedQueue, Metrics=WatchedMetrics, _run=_run)

if __name__ == "__main__":
    sys.exit(cli.main(["run", *sys.argv[1:]]))
