"""A small API server in the test's own process, with the faults that a real one shows at the worst moment."""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from vdcos.core.objects import Resource
from vdcos.runtime.credentials import Origin

Json = dict[str, Any]
Fault = str | int | Callable[[], Any]


class FakeApi:
    """Collections with resource versions, optimistic conflicts, paged lists and watches; ``documents`` by their path.

    ``faults`` are used up one by one by the requests of a verb on a collection: an HTTP status, or for watches
    ``410`` and ``500`` (in the stream), ``close``, ``cut``, ``half``, ``silent``, ``garbage``.
    """

    def __init__(self) -> None:
        self.version = 100
        self.collections: dict[str, dict[tuple[str, str], Json]] = {}
        self.kinds: dict[str, Resource] = {}
        self.history: list[tuple[int, str, str, Json]] = []
        self.faults: dict[tuple[str, str], deque[Any]] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.documents: dict[str, Json] = {}
        self.down = False
        self.watches: set[asyncio.Task[Any]] = set()
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self.port = 0

    @contextlib.asynccontextmanager
    async def serving(self, folder: Path) -> AsyncIterator[Origin]:
        """Serve on a free port inside the block; yields a kubeconfig that points here."""
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "fake",
                    "clusters": [{"name": "fake", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
                    "users": [{"name": "me", "user": {"token": "not-a-secret"}}],
                    "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "me"}}],
                }
            )
        )
        try:
            yield Origin(str(kubeconfig))
        finally:
            await self._runner.cleanup()

    def serve(self, resource: Resource) -> None:
        self.kinds[resource.path()] = resource
        self.collections.setdefault(resource.path(), {})

    def fault(self, verb: str, resource: Resource, *what: Any) -> None:
        self.faults.setdefault((verb, resource.path()), deque()).extend(what)

    def count(self, verb: str, resource: Resource) -> int:
        return sum(1 for v, path, _ in self.requests if (v, path) == (verb, resource.path()))

    async def put(self, resource: Resource, name: str, namespace: str = "", tell: bool = True, **rest: Any) -> Json:
        """Create or change an object; with ``tell=False`` no watch hears of it."""
        table = self.collections[resource.path()]
        old = table.get((namespace, name))
        self.version += 1
        meta = {"name": name, "uid": f"uid-{name}", **({"namespace": namespace} if namespace else {})}
        new = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            **rest,
            "metadata": {**meta, **rest.get("metadata", {}), "resourceVersion": str(self.version)},
        }
        table[namespace, name] = new
        if tell:
            await self._tell("MODIFIED" if old else "ADDED", resource.path(), new)
        return new

    async def delete(self, resource: Resource, name: str, namespace: str = "", tell: bool = True) -> None:
        gone = self.collections[resource.path()].pop((namespace, name))
        self.version += 1
        gone = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.version)}}
        if tell:
            await self._tell("DELETED", resource.path(), gone)

    async def _tell(self, kind: str, path: str, what: Json) -> None:
        self.history.append((self.version, kind, path, what))
        async with self._changed:
            self._changed.notify_all()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self.down:
            request.transport.close()  # type: ignore[union-attr]
            return web.Response()
        if request.path in self.documents:
            return web.json_response(self.documents[request.path])
        path, name = request.path, ""
        if path not in self.collections:
            path, _, name = path.rpartition("/")
        namespace = ""
        parts = path.split("/")
        if "namespaces" in parts and path not in self.collections:
            at = parts.index("namespaces")
            namespace = parts[at + 1]
            path = "/".join(parts[:at] + parts[at + 2 :])
            if path not in self.collections:  # the collection of one namespace
                path, namespace, name = "/".join([*parts[:at], name]), parts[at + 1], ""
        watching = request.query.get("watch") == "true"
        verb = "watch" if watching else "list" if request.method == "GET" and not name else request.method
        self.requests.append((verb, path, dict(request.query)))
        queued = self.faults.get((verb, path))
        fault = queued.popleft() if queued else None
        if callable(fault):
            fault = await fault()
        if isinstance(fault, int) and not (watching and fault in (410, 500)):
            return _status(fault, "Injected")
        if path not in self.collections:
            return _status(404, "NotFound")
        if watching:
            return await self._watch(request, path, fault)
        if verb == "list":
            return self._list(request, path)
        return await self._object(request, path, namespace, name)

    def _list(self, request: web.Request, path: str) -> web.Response:
        items = [item for _, item in sorted(self.collections[path].items())]
        start, limit = int(request.query.get("continue") or 0), int(request.query.get("limit") or 10**6)
        meta = {"resourceVersion": str(self.version)}
        if start + limit < len(items):
            meta["continue"] = str(start + limit)
        return web.json_response({"kind": "List", "metadata": meta, "items": items[start : start + limit] or None})

    async def _watch(self, request: web.Request, path: str, fault: Any) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_type = "application/json"
        await response.prepare(request)
        since = int(request.query["resourceVersion"])
        if task := asyncio.current_task():
            self.watches.add(task)
            task.add_done_callback(self.watches.discard)
        if fault == "silent":
            await asyncio.Event().wait()
        if fault == "garbage":
            await response.write(b"this is not JSON\n")
        if fault == "half":
            await response.write(b'{"type": "ADDED", "object": {"metadata"')
        if fault in (410, 500):
            status = {"kind": "Status", "code": fault, "reason": "Expired" if fault == 410 else "InternalError"}
            await response.write(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
        if fault == "cut":
            request.transport.abort()  # type: ignore[union-attr]
        if fault is not None:
            return response
        while True:
            for version, kind, where, what in list(self.history):
                if where == path and version > since:
                    since = version
                    line = json.dumps({"type": kind, "object": what}).encode() + b"\n"
                    # In two pieces, as the network likes to deliver.
                    await response.write(line[: len(line) // 2])
                    await asyncio.sleep(0)
                    await response.write(line[len(line) // 2 :])
            async with self._changed:
                if not any(where == path and version > since for version, _, where, _ in self.history):
                    await self._changed.wait()

    async def _object(self, request: web.Request, path: str, namespace: str, name: str) -> web.Response:
        table, resource = self.collections[path], self.kinds[path]
        body = await request.json() if request.can_read_body else {}
        if request.method == "POST":
            name = body["metadata"].get("name") or f"{body['metadata']['generateName']}{self.version}"
            if (namespace, name) in table:
                return _status(409, "AlreadyExists")
            return web.json_response(await self.put(resource, name, namespace, **body), status=201)
        stored = table.get((namespace, name))
        if stored is None:
            return _status(404, "NotFound")
        if request.method == "PUT":
            if body["metadata"]["resourceVersion"] != stored["metadata"]["resourceVersion"]:
                return _status(409, "Conflict")
            return web.json_response(await self.put(resource, name, namespace, **body))
        if request.method == "DELETE":
            await self.delete(resource, name, namespace)
        return web.json_response(stored)


def _status(code: int, reason: str) -> web.Response:
    return web.json_response(
        {"kind": "Status", "code": code, "reason": reason, "message": f"injected {code}"}, status=code
    )
