"""A lean connection to the API server: lists and watches decoded straight into views, writes as the model says them.

`kubernetes_asyncio` and the like decode every field of every object; a host reads a tenth of them.
"""

import asyncio
import base64
import logging
import ssl
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec
import yaml

from devcluster.hosts.kinds import KINDS, Kind, path
from vdcos.testing.hypervisor.objects import Meta, Object
from vdcos.testing.hypervisor.values import Ref, Verb, Write

_log = logging.getLogger(__name__)

_CONNECTIONS = 48
_PAGE = 500
_WATCH_SECONDS = 300
_RETRY_SECONDS = 1.0
_METADATA = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"
_CONTENT_TYPES = {
    Verb.CREATE: "application/json",
    Verb.DELETE: "application/json",
    Verb.JSON_PATCH: "application/json-patch+json",
    Verb.MERGE_PATCH: "application/merge-patch+json",
    Verb.STRATEGIC_PATCH: "application/strategic-merge-patch+json",
}
_METHODS = {Verb.CREATE: "POST", Verb.DELETE: "DELETE"}


class ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class Page(msgspec.Struct, frozen=True):
    metadata: ListMeta
    items: list[msgspec.Raw] | None = None


class WatchEvent(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


class Bookmark(msgspec.Struct, frozen=True):
    metadata: Meta


class Status(msgspec.Struct, frozen=True):
    code: int = 0
    reason: str = ""
    message: str = ""


_page = msgspec.json.Decoder(Page)
_watch_event = msgspec.json.Decoder(WatchEvent)
_bookmark = msgspec.json.Decoder(Bookmark)
_status = msgspec.json.Decoder(Status)
_views = {kind.resource: msgspec.json.Decoder(kind.view) for kind in KINDS.values() if kind.view is not None}


class Refused(Exception):
    """The API server said no. `code` is the HTTP status."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Listed:
    """A complete state of a kind: what is not in it does not exist."""

    objects: list[Object]


@dataclass(frozen=True, slots=True)
class Changed:
    object: Object
    deleted: bool


class Api:
    """A session with the API server of a kubeconfig's current context. Use as an asynchronous context manager."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        context = _named(config, "context", config["current-context"])
        cluster, user = _named(config, "cluster", context["cluster"]), _named(config, "user", context["user"])
        self._server = str(cluster["server"])
        self._tls = _tls(cluster, user)
        self._headers = {"User-Agent": "vdcos-hosts"}
        if token := user.get("token"):
            self._headers["Authorization"] = f"Bearer {token}"
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=_CONNECTIONS + len(_views), keepalive_timeout=60)
        # Writes are answered within seconds; a watch has a limit of its own.
        timeout = aiohttp.ClientTimeout(total=30)
        self._http = aiohttp.ClientSession(self._server, connector=connector, headers=self._headers, timeout=timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.close()

    @property
    def _session(self) -> aiohttp.ClientSession:
        assert self._http is not None, "used outside of its context"
        return self._http

    async def watch(self, kind: Kind) -> AsyncIterator[Listed | Changed]:
        """The state of a kind, and for ever what changes about it. Any error means: list again."""
        while True:
            try:
                listed, version = await self._list(kind)
                yield Listed(listed)
                async for change in self._stream(kind, version):
                    yield change
            except (aiohttp.ClientError, TimeoutError, Refused) as error:
                expected = isinstance(error, Refused) and error.code in (404, 410, 429)
                _log.log(logging.INFO if expected else logging.WARNING, "watch of %s: %s", kind.resource, error)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _list(self, kind: Kind) -> tuple[list[Object], str]:
        found: list[Object] = []
        token = ""
        while True:
            parameters = {"limit": str(_PAGE)} | ({"continue": token} if token else {})
            body = await self._call("GET", f"{kind.prefix}/{kind.resource}", parameters, _accept(kind, listing=True))
            page = _page.decode(body)
            found += [seen for item in page.items or [] if (seen := _view(kind, item)) is not None]
            token = page.metadata.continue_
            if not token:
                return found, page.metadata.resource_version

    async def _stream(self, kind: Kind, version: str) -> AsyncIterator[Changed]:
        """Changes since `version`, for ever; a stream that the server ends in order is taken up where it ended."""
        while True:
            parameters = {
                "watch": "true",
                "allowWatchBookmarks": "true",
                "resourceVersion": version,
                "timeoutSeconds": str(_WATCH_SECONDS),
            }
            url = f"{kind.prefix}/{kind.resource}"
            timeout = aiohttp.ClientTimeout(total=None, sock_read=_WATCH_SECONDS + 30)
            async with self._session.get(
                url, params=parameters, headers=_accept(kind), timeout=timeout, read_bufsize=1 << 20
            ) as response:
                if response.status >= 400:
                    raise _refusal(response.status, await response.read())
                async for line in _lines(response.content):
                    event = _watch_event.decode(line)
                    if event.type == "ERROR":
                        status = _status.decode(event.object)
                        raise Refused(status.code, status.reason, status.message)
                    if event.type == "BOOKMARK":
                        version = _bookmark.decode(event.object).metadata.resource_version
                        continue
                    if (seen := _view(kind, event.object)) is not None:
                        version = seen.metadata.resource_version
                        yield Changed(seen, event.type == "DELETED")

    async def get(self, ref: Ref) -> Object:
        """An object as it is now. Raises Refused."""
        return _views[ref.resource].decode(await self._call("GET", path(ref), {}, _accept(KINDS[ref.resource])))

    async def write(self, write: Write) -> Object | None:
        """Carry a write out; returns the object after it, where hosts read that kind. Raises Refused."""
        try:
            body = await self._send(write)
        except Refused as error:
            if error.code != 404 or write.otherwise is None:
                raise
            body = await self._send(write.otherwise)
        decoder = _views.get(write.ref.resource)
        return None if decoder is None or write.verb is Verb.DELETE else decoder.decode(body)

    async def _send(self, write: Write) -> bytes:
        url = path(write.ref, write.subresource, collection=write.verb is Verb.CREATE)
        headers = {"Content-Type": _CONTENT_TYPES[write.verb]}
        method = _METHODS.get(write.verb, "PATCH")
        return await self._call(method, url, {}, headers, msgspec.json.encode(write.body))

    async def _call(
        self, method: str, url: str, parameters: dict[str, str], headers: dict[str, str], data: bytes | None = None
    ) -> bytes:
        async with self._session.request(method, url, params=parameters, headers=headers, data=data) as response:
            body = await response.read()
            if response.status >= 400:
                raise _refusal(response.status, body)
            return body


def _view(kind: Kind, raw: msgspec.Raw) -> Object | None:
    """An object as hosts see it; None, and an error in the log, for one that they cannot read."""
    try:
        return _views[kind.resource].decode(raw)
    except msgspec.ValidationError:
        _log.exception("cannot read one of %s", kind.resource)
        return None


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Whole lines, however long (a reader's own `readline` has a limit)."""
    rest = b""
    async for chunk in content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line


def _accept(kind: Kind, *, listing: bool = False) -> dict[str, str]:
    if not kind.metadata_only:
        return {"Accept": "application/json"}
    return {"Accept": _METADATA.format("List" if listing else "")}


def _refusal(code: int, body: bytes) -> Refused:
    try:
        status = _status.decode(body)
    except msgspec.DecodeError:
        return Refused(code, "", body[:200].decode(errors="replace"))
    return Refused(code, status.reason, status.message)


def _named(config: dict[str, Any], what: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(item[what] for item in config[f"{what}s"] if item["name"] == name)
    return found


def _tls(cluster: dict[str, Any], user: dict[str, Any]) -> ssl.SSLContext:
    authority = cluster.get("certificate-authority-data")
    context = ssl.create_default_context(
        cafile=cluster.get("certificate-authority"), cadata=base64.b64decode(authority).decode() if authority else None
    )
    if "client-certificate-data" in user:
        # Python loads a certificate from a file only.
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(base64.b64decode(user["client-certificate-data"]) + b"\n")
            pair.write(base64.b64decode(user["client-key-data"]))
            pair.flush()
            context.load_cert_chain(pair.name)
    elif "client-certificate" in user:
        context.load_cert_chain(user["client-certificate"], user["client-key"])
    return context
