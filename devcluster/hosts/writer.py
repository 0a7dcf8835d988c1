"""Carries the model's writes out: one at a time per object, each answer fed back as seen."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

import aiohttp

from devcluster.hosts.api import Api, Refused
from devcluster.hosts.kinds import KINDS
from vdcos.testing.hypervisor.objects import Object
from vdcos.testing.hypervisor.values import Ref, Verb, Write

_log = logging.getLogger(__name__)

_PARALLEL = 32
_RETRY_SECONDS = 0.05
_RETRY_LIMIT = 5.0
_NOISY = 6
"""After so many refusals in a row a write is worth a warning."""

Guard = Callable[[], bool]


class Writer:
    """Sends writes with bounded concurrency.

    While an object that hosts watch is being written, further writes of it are dropped: when the answer comes, the
    model is asked again, with the newest version. Writes of what nobody watches are sent in order instead.
    """

    def __init__(self, api: Api, seen: Callable[[Object], None]) -> None:
        self._api = api
        self._seen = seen
        self._slots = asyncio.Semaphore(_PARALLEL)
        self._busy: dict[Ref, asyncio.Task[None]] = {}
        self._queues: dict[Ref, deque[tuple[Write, Guard]]] = {}
        self._refusals: dict[Ref, int] = {}
        self._unnamed = 0

    def submit(self, write: Write, guard: Guard) -> None:
        """Send a write, if `guard` still holds when its turn comes."""
        ref = write.ref
        if not ref.name:
            self._unnamed += 1
            ref = Ref(ref.resource, f"#{self._unnamed}", ref.namespace)
        if ref not in self._busy:
            self._busy[ref] = asyncio.create_task(self._send(ref, write, guard))
        elif KINDS[ref.resource].view is None:
            self._queues.setdefault(ref, deque()).append((write, guard))

    async def close(self) -> None:
        """Drop what has not been sent."""
        tasks = list(self._busy.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, ref: Ref, write: Write, guard: Guard) -> None:
        seen: Object | None = None
        try:
            async with self._slots:
                if guard():
                    seen = await self._attempt(ref, write)
            while self._queues.get(ref):
                following, still = self._queues[ref].popleft()
                async with self._slots:
                    if still():
                        await self._attempt(ref, following)
        finally:
            self._busy.pop(ref, None)
            self._queues.pop(ref, None)
        if seen is not None:
            self._seen(seen)

    async def _attempt(self, ref: Ref, write: Write) -> Object | None:
        """The object after the write, or, when it was refused, as it is now, so that the model can think again."""
        try:
            seen = await self._api.write(write)
        except Refused as error:
            if error.code == 404 or (write.verb is Verb.CREATE and error.code == 409):
                return None
            return await self._look_again(ref, write, error)
        except (aiohttp.ClientError, TimeoutError) as error:
            return await self._look_again(ref, write, error)
        self._refusals.pop(ref, None)
        return seen

    async def _look_again(self, ref: Ref, write: Write, error: Exception) -> Object | None:
        count = self._refusals[ref] = self._refusals.get(ref, 0) + 1
        level = logging.WARNING if count >= _NOISY or KINDS[ref.resource].view is None else logging.DEBUG
        _log.log(level, "%s %s/%s: %s", write.verb, ref.resource, ref.name, error)
        while KINDS[ref.resource].view is not None:
            await asyncio.sleep(min(_RETRY_SECONDS * 2 ** (self._refusals.get(ref, 1) - 1), _RETRY_LIMIT))
            try:
                return await self._api.get(ref)
            except Refused as refused:
                if refused.code == 404:
                    return None
                self._refusals[ref] = self._refusals.get(ref, 0) + 1
            except (aiohttp.ClientError, TimeoutError):
                self._refusals[ref] = self._refusals.get(ref, 0) + 1
        return None
