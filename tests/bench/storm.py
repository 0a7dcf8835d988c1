"""A watch storm, replayed: recorded lists of a real API server, and changes as fast as the operator takes them.

The API server of a small machine carries out some 500 changes a second, so a storm of thousands has to be played. This
program serves what was recorded (TLS, pages, watches), streams the changes when it is told to, and carries out the
status writes that they lead to. It is started by ``tests.bench.rest``.
"""

import argparse
import asyncio
import json
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.bench import load
from vdcos.core import kinds
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.runtime.rehearsal import merged

BATCH = 16
"""Changes that go out in one write."""
BOOKMARK_SECONDS = 20.0
RECORDED = "index.json"
START, SENT, REPORT = "/storm/start", "/storm/sent", "/storm/report"


class Replay:
    """An API server as far as the operator at rest needs one."""

    def __init__(self, folder: Path, objects: int, changes: int) -> None:
        self._objects, self._changes = objects, changes
        self._pages: dict[tuple[str, str], bytes] = {}
        self._own: dict[str, dict[str, Any]] = {}
        self._versions: dict[str, int] = {}
        self._templates: list[bytes] = []
        self._started = asyncio.Event()
        self._writes: Counter[str] = Counter()
        self._sent: tuple[float, float, int] = (0.0, 0.0, 0)
        self._version = 0
        self._span = (0, 0)
        index: dict[str, list[str]] = json.loads((folder / RECORDED).read_text())
        for path, files in index.items():
            token = ""
            for file in files:
                content = (folder / file).read_bytes()
                self._pages[path, token] = content
                page = json.loads(content)
                self._versions[path] = int(page["metadata"]["resourceVersion"])
                token = page["metadata"].get("continue", "")
                self._keep(path, page["items"] or [])
        self._version = max(self._versions.values()) + 1

    def _keep(self, path: str, items: list[dict[str, Any]]) -> None:
        if path == kinds.VIRTUAL_MACHINE.path():
            for item in items:
                meta = item["metadata"]
                self._own[kinds.VIRTUAL_MACHINE.path(meta["namespace"], meta["name"], "status")] = item
        if path == VirtualMachineInstance.resource.path():
            for item in items[: self._objects - len(self._templates)]:
                kind = {"kind": "VirtualMachineInstance", "apiVersion": "kubevirt.io/v1"}
                item["metadata"]["resourceVersion"] = "@VERSION@"
                text = json.dumps({"type": "MODIFIED", "object": {**kind, **item}}, separators=(",", ":"))
                assert load.address(0) in text, "the recorded instance has no address to change"
                self._templates.append(text.replace(load.address(0), "@ADDRESS@").encode() + b"\n")

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path == START:
            self._started.set()
            return web.json_response({})
        if path == SENT:
            return web.json_response({"sent": self._sent[2]})
        if path == REPORT:
            return web.json_response(self._report())
        if request.method == "PATCH" and path in self._own:
            return await self._patch(request)
        if request.method != "GET":
            self._writes[f"{request.method} {path}"] += 1
            return self._refuse(500, "InternalError")
        if "watch" in request.query:
            return await self._watch(request)
        page = self._pages.get((path, request.query.get("continue", "")))
        if page is None:
            return self._refuse(404, "NotFound")
        return web.Response(body=page, content_type="application/json")

    def _refuse(self, code: int, reason: str) -> web.Response:
        return web.json_response({"kind": "Status", "code": code, "reason": reason, "message": reason}, status=code)

    async def _patch(self, request: web.Request) -> web.Response:
        change = await request.json()
        held = self._own[request.path]
        if change["metadata"]["resourceVersion"] != held["metadata"]["resourceVersion"]:
            return self._refuse(409, "Conflict")
        self._writes["status"] += 1
        self._version += 1
        version = {"resourceVersion": str(self._version)}
        held = self._own[request.path] = merged(held, {"status": change["status"], "metadata": version})
        return web.json_response(held)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        stormy = request.path == VirtualMachineInstance.resource.path()
        while True:
            try:
                async with asyncio.timeout(BOOKMARK_SECONDS):
                    await (self._started.wait() if stormy else asyncio.Event().wait())
            except TimeoutError:
                mark = {"metadata": {"resourceVersion": str(self._version)}}
                await response.write(json.dumps({"type": "BOOKMARK", "object": mark}).encode() + b"\n")
                continue
            stormy = False
            began, count, waiting = time.time(), 0, []
            for line in self._lines():
                waiting.append(line)
                count += 1
                if len(waiting) == BATCH:
                    await response.write(b"".join(waiting))
                    waiting = []
            await response.write(b"".join(waiting))
            self._sent = began, time.time(), count

    def _lines(self) -> Iterator[bytes]:
        for change in range(1, self._changes + 1):
            address = load.address(2 * change).encode()
            for template in self._templates:
                self._version += 1
                self._span = self._span[0] or self._version, self._version
                yield template.replace(b"@VERSION@", b"%d" % self._version).replace(b"@ADDRESS@", address)

    def _report(self) -> dict[str, Any]:
        last = load.address(2 * self._changes)
        began, ended, count = self._sent
        return {
            "began": began,
            "ended": ended,
            "sent": count,
            "first_version": self._span[0],
            "last_version": self._span[1],
            "bytes": sum(map(len, self._templates)) * self._changes,
            "told": sum(last in json.dumps(held.get("status", {})) for held in self._own.values()),
            "writes": dict(self._writes),
        }


async def _serve(chosen: argparse.Namespace) -> None:
    replay = Replay(chosen.lists, chosen.objects, chosen.changes)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", replay.handle)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(chosen.cert, chosen.key)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser("tests.bench.storm")
    for name in ("lists", "cert", "key"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("objects", "changes"):
        parser.add_argument(f"--{name}", type=int, required=True)
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
