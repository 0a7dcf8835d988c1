"""Reflectors: one per kind, each keeps one shelf of the store equal to what the API server holds."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from vdcos.core.objects import Key, Object, Resource, Stored
from vdcos.runtime.depth import bounded
from vdcos.runtime.logs import qualified
from vdcos.runtime.port import Port, error_of
from vdcos.runtime.requests import ApiError
from vdcos.runtime.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """In seconds. Bookmarks come about once a minute, so a longer silence is a dead connection."""

    silence: float = 90.0
    watch: float = 300.0
    """How long the API server is asked to keep a watch open; spread by a tenth, so that watches do not end together."""
    brief: float = 1.0
    """A watch that ends sooner is a failure, or a server that closes every watch would be asked without a pause."""
    first_pause: float = 0.2
    longest_pause: float = 10.0
    absent_pause: float = 30.0
    """Until a kind that is not installed, or not allowed to us, is asked for again."""
    disbelief: float = 15.0
    """For how long a kind that was there is not taken for gone: an API server that starts says 403 and 404 until it
    has read its own rules and definitions."""


class SourceObserver(Protocol):
    """What metrics want to know of sources."""

    def listed(self, resource: Resource, why: str) -> None:
        """A kind is about to be listed; ``why`` is ``start`` or the reason of the error before."""

    def undecodable(self, resource: Resource) -> None:
        """An object did not fit the struct of its kind and was left out."""


class _Event(msgspec.Struct, frozen=True):
    """A line of a watch, its object not decoded yet."""

    type: str
    object: msgspec.Raw


class _Header(msgspec.Struct, frozen=True):
    """What every object has, also one that does not fit its struct."""

    class Meta(msgspec.Struct, frozen=True, rename="camel"):
        name: str = ""
        namespace: str = ""
        resource_version: str = ""

    metadata: Meta


_decode_event = bounded(msgspec.json.Decoder(_Event).decode)
_decode_header = msgspec.json.Decoder(_Header).decode


class Reflector:
    """Lists a kind, watches it, and lists it again after any error, forever.

    ``changed`` is called after every list, and when a kind turns out to be absent: the barrier may have opened.
    """

    def __init__(
        self,
        kind: type[Any],
        resource: Resource,
        port: Port,
        store: Store,
        observer: SourceObserver,
        changed: Callable[[], None] = lambda: None,
        timing: Timing = Timing(),
    ) -> None:
        self.kind = kind
        self.resource = resource
        self._port = port
        self._store = store
        self._decode = store.decoder(kind)
        self._observer = observer
        self._changed = changed
        self._timing = timing
        self._heard = self._since = time.monotonic()
        self._spell = kind.spell if issubclass(kind, Object) else Object.spell
        store.source(kind, lambda: self._heard, lambda: self._since)
        self._refused_since: float | None = None
        self._reason = ""
        self.unavailable = ""
        """Why the kind cannot be read at all, or empty."""
        self._query: dict[str, str] = {}
        if issubclass(kind, Object):
            selectors = {"labelSelector": kind.label_selector, "fieldSelector": kind.field_selector}
            self._query = {name: value for name, value in selectors.items() if value}

    def age(self) -> float:
        """Seconds since the API server last said anything about this kind, be it that nothing is new."""
        return time.monotonic() - self._heard

    def _listened(self) -> None:
        """The API server has said something. After a long silence, what went on meanwhile is not known."""
        now = time.monotonic()
        if now - self._heard > self._spell:
            self._since = now
        self._heard = now

    async def run(self) -> None:
        """Returns only when cancelled."""
        why, failures = "start", 0
        while True:
            began = time.monotonic()
            self._observer.listed(self.resource, why)
            try:
                version = await self._list()
                while True:
                    version = await self._watch(version)
            except ApiError as error:
                why, failure = error.reason, error
            except msgspec.MsgspecError as error:
                why, failure = "Unreadable", ApiError(0, "Unreadable", str(error))
            except Exception as error:
                log.exception("bug in a source", extra={"kind": qualified(self.resource)})
                why, failure = "Bug", ApiError(0, "Bug", str(error))
            failures = 1 if time.monotonic() - began > self._timing.longest_pause else failures + 1
            await asyncio.sleep(self._failed(failure, failures))

    async def once(self) -> None:
        """One list and no watch. A kind that cannot be read is entered as such. Raises ApiError for anything else."""
        try:
            await self._list()
        except ApiError as error:
            if error.status not in (403, 404):
                raise
            self._unavailable(error)

    async def _list(self) -> str:
        """One complete list into the store, a page at a time: never is all of a kind there twice.

        Returns the version to watch from. Raises ApiError and MsgspecError.
        """
        present: set[Key] = set()
        version = ""
        async with contextlib.aclosing(self._port.pages(self.resource.path(), self._query)) as pages:
            async for page in pages:
                self._listened()
                version = page.metadata.resource_version
                for raw in page.items or ():
                    if (heard := self._read(raw)) is not None:
                        self._store.put(self.kind, heard)
                        present.add(heard.metadata.key)
        self.unavailable = self._reason = ""
        self._refused_since = None
        self._store.listed(self.kind, present, version)
        self._changed()
        return version

    async def _watch(self, version: str) -> str:
        """Follow changes until the API server ends the watch in good order. Returns the version to go on from.

        Raises ApiError and MsgspecError: the caller must list again.
        """
        began = time.monotonic()
        seconds = self._timing.watch * random.uniform(0.9, 1.1)  # noqa: S311  not for secrets
        query = {**self._query, "resourceVersion": version, "timeoutSeconds": str(max(1, round(seconds)))}
        async with contextlib.aclosing(self._port.watch(self.resource.path(), query, self._timing.silence)) as lines:
            async for line in lines:
                self._listened()
                version = self._apply(line) or version
        if time.monotonic() - began < self._timing.brief:
            raise ApiError(0, "Closed", "the watch was closed at once")
        return version

    def _apply(self, line: bytes) -> str:
        """Enter one event into the store. Returns the version it brings us to. Raises ApiError and MsgspecError."""
        event = _decode_event(line)
        if event.type == "ERROR":
            raise error_of(bytes(event.object))
        meta = _decode_header(event.object).metadata
        if event.type == "DELETED":
            self._store.remove(self.kind, Key(meta.namespace, meta.name), meta.resource_version)
        elif event.type != "BOOKMARK":
            heard = self._read(event.object)
            if heard is not None:
                self._store.put(self.kind, heard)
        return meta.resource_version

    def _read(self, raw: msgspec.Raw) -> Stored | None:
        """Decode one object. One that does not fit leaves the last version that did, if there was one."""
        try:
            return self._decode(raw)
        except msgspec.MsgspecError as error:
            self._observer.undecodable(self.resource)
            meta = _decode_header(raw).metadata
            key = Key(meta.namespace, meta.name)
            log.error(
                "object does not fit", extra={"kind": qualified(self.resource), "object": str(key), "error": str(error)}
            )
            return self._store.heard(self.kind, key)

    def _failed(self, error: ApiError, failures: int) -> float:
        """Say what an error means. Returns the seconds to wait before the next list."""
        now, quiet = time.monotonic(), error.reason == self._reason
        self._reason = error.reason
        if error.status not in (403, 404):
            self._refused_since = None
        else:
            self._refused_since = now if self._refused_since is None else self._refused_since
            new = not self._store.known(self.kind)
            if new or self.unavailable or now - self._refused_since >= self._timing.disbelief:
                self._unavailable(error)
                return self._timing.absent_pause
        log.log(
            logging.DEBUG if quiet else logging.INFO,
            "watch broke",
            extra={"kind": qualified(self.resource), "reason": error.reason, "error": error.message},
        )
        longest = min(self._timing.longest_pause, self._timing.first_pause * 2.0 ** min(failures - 1, 16))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311  not for secrets

    def _unavailable(self, error: ApiError) -> None:
        name = f"{self.resource.plural}.{self.resource.group}" if self.resource.group else self.resource.plural
        if error.status == 404:
            why = f"the API {name} ({self.resource.version}) is not installed in this cluster"
        else:
            why = f"vdcos is not allowed to read {name}: install the current RBAC of vdcos"
        self._listened()
        if why != self.unavailable:
            log.warning("unavailable", extra={"kind": qualified(self.resource), "reason": error.reason, "error": why})
        self.unavailable = why
        self._store.unavailable(self.kind, why, error.status == 403)
        self._changed()
