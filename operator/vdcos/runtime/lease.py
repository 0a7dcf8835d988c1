"""Leadership: one replica writes, the others stand by warm. A `coordination.k8s.io` Lease says which."""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from vdcos.core.objects import Resource
from vdcos.runtime.requests import ApiError

log = logging.getLogger(__name__)

LEASE = Resource("coordination.k8s.io", "v1", "leases", "Lease")


def boottime() -> float:
    """Monotonic seconds that go on while the machine sleeps, as the other replicas' do."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True, slots=True)
class Timing:
    """In seconds. Another replica takes over at most ``duration`` + 2 × ``retry`` and one request after a crash.

    ``renew`` is how long after its last renewal a leader goes on: what is left of ``duration`` is for requests that
    are still on their way.
    """

    duration: float = 8.0
    renew: float = 5.0
    retry: float = 1.0


class Caller(Protocol):
    """The part of the Kubernetes port that an elector needs."""

    async def call(
        self, verb: str, method: str, path: str, *, body: bytes | None = None, seconds: float = 10.0
    ) -> bytes: ...


class _Spec(msgspec.Struct, rename="camel", omit_defaults=True):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class _Metadata(msgspec.Struct, rename="camel", omit_defaults=True):
    name: str
    namespace: str
    resource_version: str = ""
    uid: str = ""


class _Lease(msgspec.Struct, rename="camel"):
    metadata: _Metadata
    spec: _Spec
    api_version: str = "coordination.k8s.io/v1"
    kind: str = "Lease"


_decode = msgspec.json.Decoder(_Lease).decode


class Elector:
    """Competes for one Lease. All times come from our monotonic clock; the times in the Lease are for people.

    A leader measures from the moment *before* it sent its last successful renewal, a candidate from the moment *after*
    it saw the last change: whatever the API server and the clocks do, the first ends before the second begins.
    """

    def __init__(
        self,
        namespace: str,
        name: str,
        identity: str,
        timing: Timing = Timing(),
        clock: Callable[[], float] = boottime,
    ) -> None:
        self.identity = identity
        self._namespace = namespace
        self._name = name
        self._timing = timing
        self._clock = clock
        self._renewed = -float("inf")
        self._seen: tuple[Any, ...] = ()
        self._seen_at = 0.0
        self._known: _Lease | None = None
        self._announced = False

    def remaining(self) -> float:
        """Seconds that a write may still take; 0 when none may begin. Cheap, and callable from any thread.

        It needs nobody to tell it that leadership is lost: time passes by itself.
        """
        passed = self._clock() - self._renewed
        return self._timing.duration - passed if passed < self._timing.renew else 0.0

    @property
    def leading(self) -> bool:
        return self.remaining() > 0

    @property
    def holder(self) -> str:
        """Who held the Lease when we last looked; empty when nobody did."""
        return (self._known.spec.holder_identity if self._known else None) or ""

    async def run(
        self, connect: Callable[[], AbstractAsyncContextManager[Caller]], changed: Callable[[bool], None]
    ) -> None:
        """Compete over a port of our own until cancelled, then give the Lease back.

        Meant for a loop of its own: a long plan must not cost leadership.
        """
        async with connect() as port:
            try:
                await self.compete(port, changed)
            finally:
                try:
                    await self.release(port)
                except ApiError as error:
                    log.warning("lease not released", extra={"reason": error.reason, "error": error.message})

    async def compete(self, port: Caller, changed: Callable[[bool], None] = lambda leading: None) -> None:
        """Acquire, renew, acquire again, until cancelled. ``changed`` is called when leadership begins and ends."""
        while True:
            began = self._clock()
            try:
                await self.attempt(port)
            except ApiError as error:
                log.log(
                    logging.WARNING if self._announced else logging.DEBUG,
                    "lease not renewed",
                    extra={"object": f"{self._namespace}/{self._name}", "reason": error.reason, "error": error.message},
                )
            except msgspec.MsgspecError as error:
                log.error(
                    "lease is malformed", extra={"object": f"{self._namespace}/{self._name}", "error": str(error)}
                )
            if self.leading != self._announced:
                self._announced = not self._announced
                log.info(
                    "leading" if self._announced else "not leading",
                    extra={
                        "object": f"{self._namespace}/{self._name}",
                        "holder": self.holder,
                        "identity": self.identity,
                    },
                )
                changed(self._announced)
            pause = self._timing.retry * random.uniform(0.9, 1.0)  # noqa: S311  not for secrets
            await asyncio.sleep(max(0.0, began + pause - self._clock()))

    async def attempt(self, port: Caller) -> None:
        """Renew if we hold the Lease, take it if nobody does. Raises ApiError and MsgspecError."""
        sent = self._clock()
        if self._known is None or self.holder != self.identity:
            await self._look(port)
        lease = self._known
        if lease is not None and self.holder not in ("", self.identity):
            stated = float(lease.spec.lease_duration_seconds or self._timing.duration)
            if self._clock() - self._seen_at < stated:
                return
        try:
            self._known = await self._write(port, self._next(lease, self.identity))
        except ApiError as error:
            if error.status == 409:
                # Somebody else wrote. Who leads now?
                await self._look(port)
                return
            # Nobody knows whether we wrote: look before the next attempt. Our right to lead runs out by itself.
            self._known = None
            raise
        self._renewed = sent

    async def release(self, port: Caller) -> None:
        """Let another replica take over at once. To be called when no write can be on its way any more."""
        self._renewed = -float("inf")
        await self._look(port)  # a renewal that was interrupted may have arrived
        if self._known is not None and self.holder == self.identity:
            await self._write(port, self._next(self._known, ""))
            log.info("lease released", extra={"object": f"{self._namespace}/{self._name}", "identity": self.identity})

    async def _look(self, port: Caller) -> None:
        """Read the Lease, remember since when it looks as it does, and stop leading if somebody else does."""
        self._known = None
        self._known = await self._read(port)
        seen = (self._known.metadata.uid, self._known.metadata.resource_version) if self._known else ()
        if seen != self._seen:
            self._seen, self._seen_at = seen, self._clock()
        if self.holder != self.identity:
            self._renewed = -float("inf")

    @property
    def _patience(self) -> float:
        """For one request: as long as its answer is still worth something."""
        return self._timing.renew - self._timing.retry

    def _next(self, lease: _Lease | None, holder: str) -> _Lease:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        old = lease.spec if lease else _Spec()
        kept = (old.holder_identity or "") == holder
        return _Lease(
            lease.metadata if lease else _Metadata(self._name, self._namespace),
            _Spec(
                holder_identity=holder,
                lease_duration_seconds=max(1, round(self._timing.duration)),
                acquire_time=old.acquire_time if kept or not holder else now,
                renew_time=now,
                lease_transitions=(old.lease_transitions or 0) + (not kept and bool(holder)),
            ),
        )

    async def _read(self, port: Caller) -> _Lease | None:
        try:
            path = LEASE.path(self._namespace, self._name)
            return _decode(await port.call("get", "GET", path, seconds=self._patience))
        except ApiError as error:
            if error.status == 404 and error.reason == "NotFound":
                return None
            raise

    async def _write(self, port: Caller, lease: _Lease) -> _Lease:
        """Create, or update what we saw and nothing newer. Raises ApiError."""
        new = not lease.metadata.resource_version
        path = LEASE.path(self._namespace, "" if new else self._name)
        body = msgspec.json.encode(lease)
        verb, method = ("create", "POST") if new else ("update", "PUT")
        return _decode(await port.call(verb, method, path, body=body, seconds=self._patience))
