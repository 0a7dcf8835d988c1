"""``vdcos uninstall``: detach VMs and disks from vdcos, so that it can be removed."""

import argparse
import asyncio
import contextlib
import itertools
import logging
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from math import inf
from typing import Any

import msgspec

from vdcos import app
from vdcos.cli.ha import show
from vdcos.cli.plan import columns, count, read_all
from vdcos.core.foreign import kubevirt
from vdcos.core.objects import Object, Resource, Unreadable
from vdcos.core.plan import Action, Delete, Patch
from vdcos.core.service import Service
from vdcos.core.uninstall import Undoing, kinds_to_read, undo
from vdcos.runtime import logs
from vdcos.runtime.credentials import NoCluster, Origin
from vdcos.runtime.lease import LEASE, Elector
from vdcos.runtime.logs import qualified
from vdcos.runtime.port import Port
from vdcos.runtime.preflight import reader
from vdcos.runtime.providers.discovery import discover_networks
from vdcos.runtime.requests import JSON, JSON_PATCH, ApiError
from vdcos.runtime.shell import NotLeading, seconds_for_request
from vdcos.runtime.store import Store
from vdcos.runtime.threads import in_own_loop
from vdcos.services.catalogue import kinds, services

Tree = dict[str, Any]
DONE, FAILED, SOMETHING = 0, 1, 2

PATIENCE = 20.0
"""Seconds that we wait for the Lease: a leader that was killed holds it for 8 s, one that lives for ever."""
AT_ONCE = 16
"""Requests at the same time."""
ROUNDS = 5
"""How often it is tried to do what is to be done, as somebody may change it meanwhile."""
SHOWN = 40
"""Lines of a table; -o json has all."""
MANAGER = "vdcos/uninstall"


class Unfinished(Exception):
    """It cannot be done, or not all of it. The text says why, and what to do."""


def main(chosen: argparse.Namespace) -> int:
    """Returns the exit status."""
    logs.configure("text", logging.CRITICAL)
    try:
        origin = Origin.find(chosen.kubeconfig, chosen.context)
        undoing = asyncio.run(_run(origin, chosen))
    except (NoCluster, Unfinished) as error:
        print(f"vdcos uninstall: {error}", file=sys.stderr)
        return FAILED
    except ApiError as error:
        print(f"vdcos uninstall: the API server does not do it ({error.reason}): {error.message}", file=sys.stderr)
        return FAILED
    show(data(undoing, chosen.yes), chosen.output, lambda _: table(undoing, chosen.yes), sys.stdout)
    return DONE if chosen.yes or not undoing.actions else SOMETHING


async def _run(origin: Origin, chosen: argparse.Namespace) -> Undoing:
    """What is to be done, or was. Raises NoCluster, Unfinished and ApiError."""
    served = services(discover_networks())
    async with Port.open(origin) as port:
        if not chosen.yes:
            return await look(port, served)
        async with alone(origin, port, chosen.namespace, chosen.lease_name) as remaining:
            return await carry_out(port, served, remaining)


async def look(port: Port, served: Sequence[Service[Any, Any]]) -> Undoing:
    """What is to be done now. Raises ApiError, and Unfinished where something of ours cannot be seen."""
    own = {service.kind: service.resource for service in served}
    written = _written(served)
    resources = kinds_to_read(own, written)
    store = Store(resources)
    await read_all(store, resources, port)
    read = reader(store)
    unseen = [found.why for kind in resources if isinstance(found := read(kind), Unreadable) and found.forbidden]
    if unseen:
        raise Unfinished(f"it takes the rights of a cluster administrator: {'; '.join(unseen)}")
    return undo(read, own, written)


def _written(served: Sequence[Service[Any, Any]]) -> list[type[Object]]:
    """The foreign kinds that services create or change, each once."""
    changed = {write.resource for service in served for write in service.writes if {"create", "patch"} & {*write.verbs}}
    found: dict[Resource, type[Object]] = {}
    for kind, resource in kinds(served).items():
        if resource in changed and issubclass(kind, Object) and not kind.partial:
            found.setdefault(resource, kind)
    return list(found.values())


@contextlib.asynccontextmanager
async def alone(origin: Origin, port: Port, namespace: str, lease: str) -> AsyncIterator[Callable[[], float]]:
    """Hold the Lease inside the block, so that no operator takes back what is being detached. Gives the seconds that a
    write may still take. Raises Unfinished when an operator leads. Where the namespace is gone, nobody can lead."""
    try:
        await port.call("get", "GET", f"/api/v1/namespaces/{namespace}")
    except ApiError as error:
        if error.status != 404:
            raise
        yield lambda: inf
        return
    elector = Elector(namespace, lease, f"uninstall_{app.identity()}")
    competing = asyncio.create_task(
        in_own_loop("lease", lambda: elector.run(lambda: Port.open(origin), lambda leading: None))
    )
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while not elector.leading and not competing.done():  # noqa: ASYNC110  it has a loop of its own
                    await asyncio.sleep(0.1)
        if not elector.leading:
            holder = await _holder(port, namespace, lease)
            raise Unfinished(
                f"nothing was changed: the operator runs ({holder} holds Lease {namespace}/{lease}) and would take "
                f"everything back. Stop it first: kubectl scale -n {namespace} deployment/vdcos --replicas=0"
            )
        yield elector.remaining
    finally:
        competing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await competing


async def _holder(port: Port, namespace: str, lease: str) -> str:
    found = msgspec.json.decode(await port.call("get", "GET", LEASE.path(namespace, lease)))
    return str(found["spec"].get("holderIdentity") or "nobody")


async def carry_out(port: Port, served: Sequence[Service[Any, Any]], remaining: Callable[[], float]) -> Undoing:
    """Do it, all of one sort before the next. What somebody changes meanwhile is looked at again. Raises ApiError, and
    Unfinished."""
    done: list[Action] = []
    room = asyncio.Semaphore(AT_ONCE)

    async def carried_out(action: Action) -> bool:
        async with room:
            try:
                await _send(port, action, remaining())
            except ApiError as error:
                if error.status not in (404, 409, 422):
                    raise
                return False
        done.append(action)
        return True

    for number in itertools.count():
        undoing = await look(port, served)
        if not undoing.actions:
            break
        if number == ROUNDS:
            left = len(undoing.actions)
            raise Unfinished(f"somebody keeps changing what is to be detached: {left} left. Does another vdcos run?")
        try:
            for _, alike in itertools.groupby(undoing.actions, _verb):
                if not all(await asyncio.gather(*map(carried_out, alike))):
                    break
        except NotLeading as error:
            raise Unfinished(f"the Lease was lost after {count(len(done), 'step')}; run it again") from error
    return Undoing(tuple(done), undoing.notes)


async def _send(port: Port, action: Action, remaining: float) -> None:
    """Raises ApiError and NotLeading."""
    seconds = seconds_for_request(remaining)
    path = action.resource.path(action.key.namespace, action.key.name) if isinstance(action, Patch | Delete) else ""
    match action:
        case Patch(uid=uid, operations=operations):
            body = msgspec.json.encode([{"op": "test", "path": "/metadata/uid", "value": uid}, *operations])
            await port.call("patch", "PATCH", path, {"fieldManager": MANAGER}, body, JSON_PATCH, seconds)
        case Delete(uid=uid):
            options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
            await port.call("delete", "DELETE", path, {}, msgspec.json.encode(options), JSON, seconds)
        case _:
            raise TypeError(f"an uninstallation makes nothing: {action}")


def data(undoing: Undoing, done: bool) -> Tree:
    """For programs."""
    steps = [
        {
            "verb": _verb(action),
            "apiVersion": action.resource.api_version,
            "kind": action.resource.kind,
            **({"namespace": action.key.namespace} if action.key.namespace else {}),
            "name": action.key.name,
            "why": action.why,
        }
        for action in undoing.actions
        if isinstance(action, Patch | Delete)
    ]
    return {"done": done, "steps": steps, "notes": list(undoing.notes)}


def _verb(action: Action) -> str:
    if isinstance(action, Delete):
        return "delete"
    operations = action.operations if isinstance(action, Patch) else ()
    path = next(each["path"] for each in operations if each["op"] == "remove")
    words = {"ownerReferences": "detach", "finalizers": "release", "taints": "untaint"}
    return next((word for part, word in words.items() if part in path), "change")


def table(undoing: Undoing, done: bool) -> str:
    """For people: what is done to what, what stays as it is, and what to do next."""
    actions = [action for action in undoing.actions if isinstance(action, Patch | Delete)]
    rows = [(_verb(action), f"{qualified(action.resource)} {action.key}", action.why) for action in actions]
    lines = columns(rows[:SHOWN]) if rows else []
    if len(rows) > SHOWN:
        lines.append(f"... and {len(rows) - SHOWN} more (-o json shows all)")
    lines += ["", *(f"Note: {note}." for note in undoing.notes)] if undoing.notes else []
    vms = sum(action.resource == kubevirt.VirtualMachine.resource for action in actions)
    if not done and actions:
        lines += ["", f"Nothing was changed. To do it ({count(len(actions), 'step')}): vdcos uninstall --yes"]
        return "\n".join(lines) + "\n"
    lines += ["", f"{count(len(actions), 'step')} done, {count(vms, 'VM')} detached." if actions else "Nothing to do."]
    return "\n".join([*lines, NEXT]).lstrip("\n") + "\n"


NEXT = """\
VMs run on and disks stay, whatever is deleted of vdcos now. Next, in this order:
  kubectl delete crd -l app.kubernetes.io/part-of=vdcos    its definitions, with all objects of these kinds
  helm uninstall vdcos -n vdcos-system, or kubectl delete -k of what was applied
Installed again, vdcos takes everything back without a restart: apply the same objects."""
