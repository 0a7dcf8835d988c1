"""Carries asks out: each is a task with a hard deadline, a provider does so many at a time, and who fails is spared."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from vdcos.core.errors import place
from vdcos.core.plan import Ask
from vdcos.runtime.answers import Reply
from vdcos.runtime.queue import Item

log = logging.getLogger(__name__)

Provider = Callable[[Mapping[str, Any], float], Awaitable[Mapping[str, Any]]]
"""Is given a request and the seconds it may take, and gives the value of the answer. Raises Failed."""

ERROR_LIMIT = 300


class Failed(Exception):
    """A provider could not do what was asked. The text is shown in a status: it holds no secrets, says what is wrong,
    and is the same for the same cause."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one provider. ``patience`` is in seconds."""

    at_once: int = 16
    """How many questions may be under way, and how many effects: a crowd of questions never holds an effect up."""
    failures: int = 5
    """After so many in a row of one target, its questions are answered without asking ..."""
    patience: float = 15.0
    """... for this long. Effects are always tried: they are rare, and waiting for one is worse than its failure."""
    least_lease: float = 1.0
    """An effect is not begun with less time than this left of our right to act, in seconds."""


class AsksObserver(Protocol):
    """What metrics want to know of asks."""

    def answered(self, provider: str, effect: bool, result: str, seconds: float) -> None:
        """An ask came to an end: ``ok``, ``failed``, ``late``, ``spared`` (not tried), ``idle`` (not leading)."""


@dataclass(slots=True)
class _Record:
    """How a target did lately."""

    failures: int = 0
    until: float = 0.0


@dataclass(slots=True)
class _Bulkhead:
    questions: asyncio.Semaphore
    effects: asyncio.Semaphore
    records: dict[str, _Record] = field(default_factory=dict)


class Asks:
    """An ``Asker``. ``remaining`` gives the seconds that this replica may still act, 0 for none; renewals extend it.

    ``woken`` is called after each reply: an object waits to be looked at.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        remaining: Callable[[], float],
        observer: AsksObserver,
        woken: Callable[[], None],
        limits: Limits = Limits(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._providers = providers
        self._remaining = remaining
        self._observer = observer
        self._woken = woken
        self._limits = limits
        self._clock = clock
        self._bulkheads = {
            name: _Bulkhead(asyncio.Semaphore(limits.at_once), asyncio.Semaphore(limits.at_once)) for name in providers
        }
        self._running: dict[tuple[Item, str], asyncio.Task[None]] = {}

    def start(self, item: Item, ask: Ask, reply: Reply) -> None:
        task = asyncio.create_task(self._run(item, ask, reply))
        self._running[item, ask.id] = task
        task.add_done_callback(lambda _: self._ended((item, ask.id), task))

    def stop(self, item: Item, ask: Ask) -> None:
        task = self._running.get((item, ask.id))
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Call everything off. Who reads the stored intents later finds out what became of them."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, name: tuple[Item, str], task: asyncio.Task[None]) -> None:
        if self._running.get(name) is task:
            del self._running[name]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("bug in asks", extra={"why": place(error)})

    async def _run(self, item: Item, ask: Ask, reply: Reply) -> None:
        began = self._clock()
        value: Mapping[str, Any] = {}
        result, error = "ok", ""
        try:
            value = await self._within(ask)
        except _Untried as untried:
            result, error = untried.result, str(untried)
        except TimeoutError:
            result, error = "late", f"no answer within {ask.deadline:g} s"
        except Failed as failure:
            result, error = "failed", str(failure)[:ERROR_LIMIT]
        except Exception as bug:  # noqa: BLE001  somebody else's code; its text may hold a secret, so it goes nowhere
            result, error = "failed", f"provider {ask.provider} failed with {place(bug)}; report it to its author"
        self._count(ask, result)
        self._observer.answered(ask.provider, ask.effect, result, self._clock() - began)
        log.log(
            logging.INFO if ask.effect or error else logging.DEBUG,
            "asked",
            extra={
                "service": item.service,
                "object": str(item.key),
                "ask": ask.id,
                "provider": ask.provider,
                "target": ask.target,
                "result": result,
                "error": error,
            },
        )
        reply(not error, value, error)
        self._woken()

    async def _within(self, ask: Ask) -> Mapping[str, Any]:
        """Raises Failed, _Untried, TimeoutError, and whatever a provider's bug raises."""
        provider = self._providers.get(ask.provider)
        if provider is None:
            installed = ", ".join(sorted(self._providers)) or "none"
            raise Failed(f"provider {ask.provider} is not installed (there are: {installed})")
        bulkhead = self._bulkheads[ask.provider]
        record = bulkhead.records.get(ask.target, _Record())
        if not ask.effect and self._clock() < record.until:
            raise _Untried("spared", f"it failed {record.failures} times in a row, and is asked again later")
        slots = bulkhead.effects if ask.effect else bulkhead.questions
        until = self._clock() + ask.deadline
        async with asyncio.timeout(ask.deadline):
            await slots.acquire()
        if ask.effect and self._remaining() <= self._limits.least_lease:
            slots.release()
            raise _Untried("idle", "not begun: this replica does not lead")
        work = asyncio.ensure_future(provider(ask.request, until - self._clock()))
        work.add_done_callback(lambda _: _over(work, slots))
        try:
            return await self._wait(work, until, ask.effect)
        finally:
            # Not waited for: a provider that clings to its work keeps its slot, but does not hold us up.
            work.cancel()

    async def _wait(self, work: "asyncio.Future[Mapping[str, Any]]", until: float, effect: bool) -> Mapping[str, Any]:
        """Until the deadline at the latest; an effect until another replica may act, whatever its deadline."""
        while (left := until - self._clock()) > 0:
            lease = self._remaining() if effect else left
            if lease <= 0:
                raise Failed("called off: this replica does not lead any more")
            done, _ = await asyncio.wait({work}, timeout=min(left, lease))
            if done:
                return work.result()
        raise TimeoutError

    def _count(self, ask: Ask, result: str) -> None:
        bulkhead = self._bulkheads.get(ask.provider)
        if bulkhead is None or result in ("spared", "idle"):
            return
        if result == "ok":
            bulkhead.records.pop(ask.target, None)
            return
        record = bulkhead.records.setdefault(ask.target, _Record())
        record.failures += 1
        if record.failures >= self._limits.failures:
            record.until = self._clock() + self._limits.patience


class _Untried(Exception):
    """The provider was not asked. ``result`` is for the metrics."""

    def __init__(self, result: str, why: str) -> None:
        super().__init__(why)
        self.result = result


def _over(work: "asyncio.Future[Mapping[str, Any]]", slots: asyncio.Semaphore) -> None:
    """Give the slot back, and keep asyncio from logging what was raised after nobody waited any more."""
    slots.release()
    if not work.cancelled():
        work.exception()
