"""The shell: takes keys off the queue, drives the engine's conversations, makes their requests."""

import asyncio
import logging
import time
from collections.abc import Callable
from math import inf
from typing import Protocol

from vdcos.runtime.engine import Colloquy, Engine, Outcome, Together
from vdcos.runtime.queue import Item, Queue
from vdcos.runtime.requests import ApiError, Request
from vdcos.runtime.store import Store

log = logging.getLogger(__name__)

IN_FLIGHT = 32
"""Conversations at a time. Their plans still run one after the other: what is in flight are requests."""
FEW = 4
"""The same while one of them hurries, with pods of a dead host that go together: each makes a VM restart, and what is
to be said of that must not take the API server's time from the other pods."""
AT_ONCE = 40
"""Requests of one conversation at the same time; connections are left for others."""
LEAST_SECONDS = 1.0
"""A write is not begun with less time than this left of our right to write."""
MOST_SECONDS = 30.0
"""For one request; virt-api's and CDI's webhooks are slow under load."""
DRAIN_SECONDS = 5.0
"""That writes under way get to finish when we stop."""
BUG_SECONDS = 5.0
"""Before an object on which a service failed is looked at again, at least."""


class Sender(Protocol):
    """The part of the Kubernetes port that the shell needs."""

    async def send(self, request: Request, seconds: float) -> bytes: ...


class ShellObserver(Protocol):
    """What metrics want to know of the shell."""

    def reconciled(self, item: Item, outcome: Outcome, seconds: float) -> None:
        """A look at an object ended."""

    def wrote(self, request: Request) -> None:
        """The API server carried out a write."""


class NotLeading(Exception):
    """Our right to write has run out, or is about to."""


def seconds_for_request(remaining: float) -> float:
    """How long a request may take when so many seconds are left of our right to write. Raises NotLeading."""
    if remaining <= LEAST_SECONDS:
        raise NotLeading
    return min(remaining, MOST_SECONDS)


def land(queue: Queue, item: Item, outcome: Outcome, now: float) -> None:
    """Give an item that was looked at back to the queue. ``now`` is in monotonic seconds."""
    match outcome.result:
        case "done" | "gone" | "refused":
            queue.done(item, now, outcome.after)
        case "conflict":
            queue.failed(item, now)
        case "backoff":
            queue.failed(item, now, outcome.after or 0.0)
        case "bug":
            queue.failed(item, now, BUG_SECONDS)


class Shell:
    """One per process, in the main loop. ``remaining`` gives the seconds that a write may still take, 0 for none."""

    def __init__(
        self,
        engine: Engine,
        store: Store,
        queue: Queue,
        sender: Sender,
        remaining: Callable[[], float],
        observer: ShellObserver,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._store = store
        self._queue = queue
        self._sender = sender
        self._remaining = remaining
        self._observer = observer
        self._clock = clock
        self._wake = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._hurrying = 0
        self._due = -inf
        """When it wakes by itself, in the clock's seconds. Nothing is sooner while it is awake, or busy."""
        store.subscribe(lambda kind, old, new: self._heard())

    @property
    def in_flight(self) -> int:
        return len(self._running)

    def wake(self) -> None:
        """Something changed that is not an object: leadership, or a source that has been heard for the first time."""
        self._wake.set()

    def _heard(self) -> None:
        """Wake up if somebody is to look sooner now; most of what is heard makes nobody."""
        due = self._queue.next_due()
        if due is not None and due < self._due:
            self._wake.set()

    def ready(self) -> bool:
        """Whether every source was listed or is known to be unavailable. Nothing is planned before."""
        return self._store.complete()

    async def run(self) -> None:
        """Reconcile until cancelled; then let what is under way finish."""
        try:
            while True:
                self._wake.clear()
                if self.ready() and self._remaining() > LEAST_SECONDS:
                    await self._start()
                await self._sleep()
        finally:
            await self._drain()

    async def _start(self) -> None:
        self._engine.listen()
        while len(self._running) < self._most() and (item := self._queue.pop(self._clock())) is not None:
            task = asyncio.create_task(self._reconcile(item))
            self._running.add(task)
            task.add_done_callback(self._ended)
            # Every conversation begins with a plan. Between two of them the loop hears sources, probes and timers.
            await asyncio.sleep(0)

    def _most(self) -> int:
        return FEW if self._hurrying else IN_FLIGHT

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("bug in the shell", exc_info=error)

    async def _sleep(self) -> None:
        """Until something changes, or is due."""
        if len(self._running) >= self._most() or not self.ready():
            await self._wake.wait()
            return
        known = [due for due in (self._queue.next_due(), self._engine.next_silence()) if due is not None]
        due, leads = min(known, default=None), self._remaining() > LEAST_SECONDS
        timer = None
        if due is not None:
            # Our right to write may come back between two announcements, so look for it.
            pause = max(0.0, due - self._clock()) if leads else LEAST_SECONDS
            timer = asyncio.get_running_loop().call_later(pause, self._wake.set)
        self._due = inf if due is None else due if leads else -inf
        try:
            await self._wake.wait()
        finally:
            self._due = -inf
            if timer is not None:
                timer.cancel()

    async def _drain(self) -> None:
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=DRAIN_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _reconcile(self, item: Item) -> None:
        began = self._clock()
        try:
            outcome = await self._converse(self._engine.converse(item))
        except NotLeading:
            self._queue.done(item, self._clock(), after=0.0)
            return
        except BaseException:
            self._queue.failed(item, self._clock(), BUG_SECONDS)
            raise
        now = self._clock()
        self._observer.reconciled(item, outcome, now - began)
        land(self._queue, item, outcome, now)

    async def _converse(self, conversation: Colloquy) -> Outcome:
        """Make the engine's requests. Raises NotLeading; the conversation is closed then."""
        try:
            request = next(conversation)
            while True:
                if isinstance(request, Together):
                    request = conversation.send(await self._send_all(request))
                    continue
                try:
                    answer = await self._send(request)
                except ApiError as error:
                    request = conversation.throw(error)
                else:
                    request = conversation.send(answer)
        except StopIteration as stop:
            outcome: Outcome = stop.value
            return outcome
        finally:
            conversation.close()

    async def _send_all(self, together: Together) -> list[bytes | ApiError]:
        """At the same time. All are over when one of them raises."""
        room = asyncio.Semaphore(AT_ONCE)

        async def send(request: Request) -> bytes:
            async with room:
                return await self._send(request)

        self._hurrying += 1
        try:
            answers = await asyncio.gather(*map(send, together.requests), return_exceptions=True)
        finally:
            self._hurrying -= 1
            self._wake.set()
        found: list[bytes | ApiError] = []
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, ApiError):
                raise answer
            found.append(answer)
        return found

    async def _send(self, request: Request) -> bytes:
        answer = await self._sender.send(request, seconds_for_request(self._remaining()))
        if request.writes:
            self._observer.wrote(request)
        return answer
