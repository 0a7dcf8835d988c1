"""Kubernetes Events: one for each condition that changes sides, never more than people can read."""

import asyncio
import json
import logging
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from vdcos.core.conditions import READY, RECONCILING, STALLED
from vdcos.core.objects import Meta, Resource
from vdcos.core.plan import Action
from vdcos.runtime.lease import Caller
from vdcos.runtime.queue import Item
from vdcos.runtime.requests import ApiError

log = logging.getLogger(__name__)

EVENT = Resource("events.k8s.io", "v1", "events", "Event")
CONTROLLER = "vdcos.dev/operator"
WAITING = 1000
"""Events that may wait; of further ones the newest of whom has most are dropped and counted."""
PER_SECOND, BURST = 5.0, 25.0
"""When a host with a hundred VMs dies, seven hundred Events must not come between KubeVirt and the API server."""
NOTE_LIMIT = 1024
"""What the API server allows a note, in bytes."""


class Turns:
    """Events that wait, one line per namespace, served in turn: who floods the operator keeps only himself waiting."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[dict[str, Any]]] = {}
        self._size = 0
        self._some = asyncio.Event()

    def put(self, namespace: str, event: dict[str, Any]) -> bool:
        """Let an Event wait. False when there was no room and the newest of the longest line is lost for it."""
        self._lines.setdefault(namespace, deque()).append(event)
        self._size += 1
        self._some.set()
        if self._size <= WAITING:
            return True
        longest = max(self._lines, key=lambda each: len(self._lines[each]))
        self._lines[longest].pop()
        if not self._lines[longest]:
            del self._lines[longest]
        self._size -= 1
        return False

    async def get(self) -> dict[str, Any]:
        """The next Event, when there is one. Its line is the last to be served again."""
        while not self._size:
            self._some.clear()
            await self._some.wait()
        namespace = next(iter(self._lines))
        line = self._lines.pop(namespace)
        event = line.popleft()
        self._size -= 1
        if line:
            self._lines[namespace] = line
        return event


class Events:
    """Listens to the engine and posts in the background: best effort, never in a reconcile's way."""

    def __init__(
        self, resources: Mapping[str, Resource], identity: str, counted: Callable[[str], None] = lambda result: None
    ) -> None:
        """``resources`` maps a service's name to the kind that it owns."""
        self._resources = resources
        self._identity = identity[:128]
        self._counted = counted
        self._waiting = Turns()

    async def run(self, port: Caller) -> None:
        """Post until cancelled."""
        clock = asyncio.get_running_loop().time
        tokens, last = BURST, clock()
        while True:
            event = await self._waiting.get()
            now = clock()
            tokens, last = min(BURST, tokens + (now - last) * PER_SECOND) - 1, now
            if tokens < 0:
                await asyncio.sleep(-tokens / PER_SECOND)
            try:
                path = EVENT.path(event["metadata"]["namespace"])
                await port.call("event", "POST", path, body=json.dumps(event).encode())
            except ApiError as error:
                self._counted("failed")
                log.debug("event not posted", extra={"reason": error.reason, "error": error.message})
            else:
                self._counted("posted")

    def said(
        self, item: Item, owner: Meta, before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]
    ) -> None:
        for condition in worth_an_event(before, now):
            if not self._waiting.put(owner.namespace, self._event(item, owner, condition)):
                self._counted("dropped")

    def acted(self, item: Item, action: Action) -> None:
        """No Event: what it leads to will be a condition."""

    def refused(self, item: Item, error: ApiError) -> None:
        """No Event: it becomes a condition if it lasts."""

    def bug(self, item: Item, error: Exception) -> None:
        """No Event: it becomes a condition."""

    def _event(self, item: Item, owner: Meta, condition: Mapping[str, Any]) -> dict[str, Any]:
        resource = self._resources[item.service]
        bad = condition["status"] == ("True" if condition["type"] == STALLED else "False")
        note = f"{condition['type']} is {condition['status']}: {condition['message'] or condition['reason']}"
        return {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            # Events about cluster-scoped objects live in the namespace "default".
            "metadata": {
                "name": f"{owner.name[:200]}.{uuid.uuid4().hex[:16]}",
                "namespace": owner.namespace or "default",
            },
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": CONTROLLER,
            "reportingInstance": self._identity,
            "type": "Warning" if bad else "Normal",
            "action": condition["type"],
            "reason": condition["reason"],
            "note": note.encode()[:NOTE_LIMIT].decode(errors="ignore"),
            "regarding": {
                "apiVersion": resource.api_version,
                "kind": resource.kind,
                "namespace": owner.namespace,
                "name": owner.name,
                "uid": owner.uid,
            },
        }


def worth_an_event(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Ready and Stalled when they come true, whatever comes untrue, and what comes true again while Ready.

    The rest of what is said of an object on its way up is progress and no news: Ready will sum it up.
    """
    known = {condition.get("type"): condition.get("status") for condition in before}
    news = []
    for condition in now:
        kind, was, status = condition["type"], known.get(condition["type"]), condition["status"]
        if kind == RECONCILING or was == status:
            continue
        if status == "False":
            worth = was == "True"
        else:
            worth = status == "True" and (kind in (READY, STALLED) or (was == "False" and known.get(READY) == "True"))
        if worth:
            news.append(condition)
    return news
