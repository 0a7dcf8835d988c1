"""The Kubernetes port: the only place that talks to the API server, in bytes."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Self

import aiohttp
import msgspec

from vdcos import __version__
from vdcos.runtime.credentials import Credentials, NoCluster, Origin
from vdcos.runtime.depth import bounded
from vdcos.runtime.requests import JSON, ApiError, Request

# 32 reconciles, a watch per source, and a few lists. Connections are opened when they are needed.
CONNECTIONS = 56
CONNECT_SECONDS = 5.0
LIST_SECONDS = 30.0
PAGE = 500

Failed = Callable[[str, int], None]
"""Is told the verb and the HTTP status (0: no answer) of every request that failed."""


class ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class Page(msgspec.Struct, frozen=True):
    """Part of a list, its items not decoded yet."""

    metadata: ListMeta
    items: list[msgspec.Raw] | None = None  # Go writes an empty list as null


class _Details(msgspec.Struct, rename="camel"):
    retry_after_seconds: float | None = None


class _Status(msgspec.Struct, rename="camel"):
    """The part of `metav1.Status` that explains a refusal."""

    code: int = 0
    reason: str = ""
    message: str = ""
    details: _Details | None = None


_decode_page = bounded(msgspec.json.Decoder(Page).decode)
_decode_status = msgspec.json.Decoder(_Status).decode


def error_of(body: bytes, status: int = 0) -> ApiError:
    """The error that a `metav1.Status` describes; of any other body, its first words. ``status`` is the HTTP status."""
    try:
        said = _decode_status(body)
    except msgspec.MsgspecError:
        said = _Status(message=body[:200].decode(errors="replace").strip())
    retry = said.details.retry_after_seconds if said.details else None
    return ApiError(status or said.code or 500, said.reason or "Unknown", said.message or "no reason given", retry)


class Port:
    """One pool of connections to one API server. Belongs to the event loop that it is opened in."""

    def __init__(self, session: aiohttp.ClientSession, credentials: Credentials, failed: Failed) -> None:
        self._session = session
        self._credentials = credentials
        self._failed = failed

    @classmethod
    @asynccontextmanager
    async def open(cls, origin: Origin, failed: Failed = lambda verb, status: None) -> AsyncIterator[Self]:
        """Raises NoCluster when the configuration cannot be used; does not connect yet."""
        credentials = await Credentials.load(origin)
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, ssl=credentials.tls or True, keepalive_timeout=60)
        headers = {
            "Accept": JSON,
            # The API server compresses big answers, which costs both sides more than it saves in one cluster.
            "Accept-Encoding": "identity",
            "User-Agent": f"vdcos/{__version__}",
        }
        # Without trust_env: for that, aiohttp would ask a thread twice per request for what the environment says, and
        # refuse to send our token to a host that ~/.netrc names.
        cookies = aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(connector=connector, headers=headers, cookie_jar=cookies) as session:
            yield cls(session, credentials, failed)

    @property
    def server(self) -> str:
        return self._credentials.server

    async def send(self, request: Request, seconds: float) -> bytes:
        """Make a request of the engine; the API server gives up on it no later than we do. Raises ApiError."""
        query = {**request.query, "timeout": f"{max(1, int(seconds))}s"}
        return await self.call(
            request.verb, request.method, request.path, query, request.body, request.content_type, seconds
        )

    async def call(
        self,
        verb: str,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = JSON,
        seconds: float = 10.0,
    ) -> bytes:
        """The body of the answer. ``verb`` is for the count of failures. Raises ApiError."""
        limits = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)
        async with self._exchange(verb, method, path, query or {}, limits, body, content_type) as response:
            return await response.read()

    async def pages(self, path: str, query: Mapping[str, str]) -> AsyncGenerator[Page, None]:
        """A whole collection as of one moment, a page at a time. Raises ApiError."""
        token = ""
        while True:
            asked = {**query, "limit": str(PAGE), **({"continue": token} if token else {})}
            body = await self.call("list", "GET", path, asked, seconds=LIST_SECONDS)
            try:
                page = _decode_page(body)
            except msgspec.MsgspecError as error:
                raise ApiError(0, "Unreadable", f"the answer is not a list: {error}") from error
            yield page
            token = page.metadata.continue_
            if not token:
                return

    async def watch(self, path: str, query: Mapping[str, str], silence: float) -> AsyncGenerator[bytes, None]:
        """The lines of a watch, until the API server ends it. Raises ApiError, also after ``silence`` seconds without
        a byte, and when the stream breaks off within a line."""
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence)
        asked = {**query, "watch": "true", "allowWatchBookmarks": "true"}
        async with self._exchange("watch", "GET", path, asked, limits) as response:
            unfinished: list[bytes] = []
            async for chunk in response.content.iter_any():
                first, *rest = chunk.split(b"\n")
                unfinished.append(first)
                for following in rest:
                    if line := b"".join(unfinished):
                        yield line
                    unfinished = [following]
            if any(unfinished):
                raise ApiError(0, "Truncated", "the watch ended within a line")

    @asynccontextmanager
    async def _exchange(
        self,
        verb: str,
        method: str,
        path: str,
        query: Mapping[str, str],
        limits: aiohttp.ClientTimeout,
        body: bytes | None = None,
        content_type: str = JSON,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response with a good status. Everything that can go wrong comes out as ApiError, counted once."""
        try:
            async with self._session.request(
                method,
                self._credentials.server + path,
                params=query,
                data=body,
                headers={**await self._credentials.headers(), **({"Content-Type": content_type} if body else {})},
                timeout=limits,
                proxy=self._credentials.proxy,
                server_hostname=self._credentials.server_name,
                allow_redirects=False,
            ) as response:
                if response.status >= 300:
                    raise _refusal(await response.read(), response)
                yield response
        except ApiError as error:
            self._failed(verb, error.status)
            if error.status == 401:
                await self._renew()
            raise
        except TimeoutError as error:
            self._failed(verb, 0)
            raise ApiError(0, "Timeout", "no answer in time") from error
        except aiohttp.ClientPayloadError as error:
            self._failed(verb, 0)
            raise ApiError(0, "Unreachable", "the connection broke off") from error
        except (aiohttp.ClientError, OSError) as error:
            self._failed(verb, 0)
            raise ApiError(0, "Unreachable", str(error) or type(error).__name__) from error

    async def _renew(self) -> None:
        """The token was refused: whoever retries finds a new one, if there is one."""
        try:
            await self._credentials.refresh()
        except NoCluster as error:
            raise ApiError(401, "Unauthorized", str(error)) from error


def _refusal(body: bytes, response: aiohttp.ClientResponse) -> ApiError:
    error = error_of(body, response.status)
    after = response.headers.get("Retry-After", "")
    if error.retry_after is None and after.isdigit():
        error.retry_after = float(after)
    return error
