"""The few calls to an API server that bringing up a cluster needs."""

import asyncio
import json
import ssl
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

Object = dict[str, Any]

_ATTEMPT_EVERY = 0.1
_PARALLEL = 8


class ApiError(Exception):
    """The API server's refusal: its HTTP code, and its message as text."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


def plural(kind: str) -> str:
    """The resource name of a kind, by the rule that all kinds used here follow."""
    word = kind.lower()
    if word.endswith("s"):
        return f"{word}es"
    return f"{word[:-1]}ies" if word.endswith("cy") else f"{word}s"


def collection(obj: Object) -> str:
    """The path to which an object is posted."""
    version = obj["apiVersion"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    namespace = obj["metadata"].get("namespace")
    return f"{root}/namespaces/{namespace}/{plural(obj['kind'])}" if namespace else f"{root}/{plural(obj['kind'])}"


class Api:
    """An administrator's connection to one API server on this machine."""

    def __init__(self, server: str, token: str, ca: Path) -> None:
        self._server = server
        self._headers = {"Authorization": f"Bearer {token}"}
        self._tls = ssl.create_default_context(cafile=str(ca))
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=_PARALLEL)
        self._session = aiohttp.ClientSession(
            self._server, connector=connector, headers=self._headers, timeout=aiohttp.ClientTimeout(total=30)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session:
            await self._session.close()

    async def request(self, method: str, path: str, body: Object | None = None) -> Object:
        """One call; returns the decoded body.

        Raises :class:`ApiError` when refused, ``aiohttp.ClientError`` when not answered.
        """
        return await self._send(method, path, body, "application/json")

    async def patch(self, path: str, kind: str, body: Object) -> Object:
        """A patch of a kind: ``merge``, or ``apply`` for one on the server's side. Raises as ``request`` does."""
        types = {"merge": "application/merge-patch+json", "apply": "application/apply-patch+yaml"}
        return await self._send("PATCH", path, body, types[kind])

    async def _send(self, method: str, path: str, body: Object | None, content_type: str) -> Object:
        assert self._session, "use as an async context manager"
        data = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": content_type}
        async with self._session.request(method, path, data=data, headers=headers) as response:
            text = await response.text()
            if response.status >= 400:
                raise ApiError(response.status, _message(text))
            answer: Object = json.loads(text) if response.content_type == "application/json" else {"text": text}
            return answer

    async def is_ready(self) -> bool:
        try:
            await self.request("GET", "/readyz")
        except (ApiError, aiohttp.ClientError, TimeoutError):
            return False
        return True

    async def put(self, obj: Object) -> None:
        """Create an object or replace the one of its name, with its status where that is a subresource.

        Waits as long as its kind is not served yet, for the caller's deadline to end it.
        """
        while True:
            try:
                await self._put_once(obj)
            except ApiError as error:
                # 404: its kind was defined a moment ago; 429: the storage is initializing; 409: somebody else wrote.
                if error.code not in (404, 409, 429):
                    raise ApiError(error.code, f"{obj['kind']} {obj['metadata']['name']}: {error}") from error
                await asyncio.sleep(_ATTEMPT_EVERY)
            else:
                return

    async def put_all(self, objects: Iterable[Object]) -> None:
        """Put objects that do not depend on each other."""
        slots = asyncio.Semaphore(_PARALLEL)

        async def put(obj: Object) -> None:
            async with slots:
                await self.put(obj)

        async with asyncio.TaskGroup() as group:
            for obj in objects:
                group.create_task(put(obj))

    async def _put_once(self, obj: Object) -> None:
        path = collection(obj)
        try:
            stored = await self.request("POST", path, obj)
        except ApiError as error:
            if error.code != 409:
                raise
            path_of_one = f"{path}/{obj['metadata']['name']}"
            live = await self.request("GET", path_of_one)
            metadata = obj["metadata"] | {"resourceVersion": live["metadata"]["resourceVersion"]}
            stored = await self.request("PUT", path_of_one, live | obj | {"metadata": metadata})
        if "status" in obj and stored.get("status") != obj["status"]:
            body = stored | {"status": obj["status"]}
            await self.request("PUT", f"{path}/{obj['metadata']['name']}/status", body)


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text.strip()
