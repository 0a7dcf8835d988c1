"""Runs a command of the plug-in: finds the cluster, reads what is wanted, and shows what came of it."""

import argparse
import asyncio
import functools
import json
import logging
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import yaml

from vdcos.cli import ha
from vdcos.cli.plan import read as manifests_of
from vdcos.cli.safe import safe
from vdcos.cli.vdc import availability, diff, importing, status, why
from vdcos.cli.vdc import objects as o
from vdcos.cli.vdc import tree as trees
from vdcos.cli.vdc.objects import Objects, Tree
from vdcos.cli.vdc.screen import Screen
from vdcos.cli.vdc.where import namespace_of, origin_of
from vdcos.runtime import logs
from vdcos.runtime.credentials import NoCluster, Origin
from vdcos.runtime.port import Port
from vdcos.runtime.rehearsal import Unfit
from vdcos.runtime.requests import ApiError

WELL, FAILED, NOT_WELL = 0, 1, 2


class Unknown(Exception):
    """What was asked for is not there, or cannot be read. The text says which, and what helps."""


def main(chosen: argparse.Namespace) -> int:
    """Returns the exit status."""
    logs.configure("text", logging.ERROR)
    try:
        return _COMMANDS[chosen.command](chosen)
    except (NoCluster, Unknown, Unfit, ha.NoPlan, ValueError) as error:
        return _failed(str(error))
    except OSError as error:
        return _failed(f"cannot read {error.filename}: {error.strerror}")
    except ApiError as error:
        if error.status == 401:
            return _failed(f"the API server does not know you: log in again ({error.message})")
        return _failed(f"the API server does not answer ({error.reason}): {error.message}")


def _failed(words: str) -> int:
    print(f"kubectl vdc: {safe(words)}", file=sys.stderr)
    return FAILED


def _print(found: Any, output: str, show: Callable[[Screen], None]) -> None:
    """For people, or as data."""
    if output == "json":
        json.dump(found, sys.stdout, indent=2)
        print()
    elif output == "yaml":
        yaml.safe_dump(found, sys.stdout, sort_keys=False, width=120)
    else:
        show(Screen())


# The commands


def _status(chosen: argparse.Namespace) -> int:
    namespace = namespace_of(chosen)
    read = asyncio.run(o.read(origin_of(chosen), status.wanted(namespace)))
    if o.VM in read.missing:
        raise Unknown(read.missing[o.VM])
    found = status.status(read, namespace)
    _print(found, chosen.output, lambda screen: status.show(found, screen))
    return NOT_WELL if found["notWell"] else WELL


def _tree(chosen: argparse.Namespace) -> int:
    asked = [why.parse_reference(each) for each in chosen.what]
    if any(resource != o.VM for resource, _, _ in asked):
        raise Unknown("tree shows VMs: kubectl vdc tree vm/NAME")
    namespaces = {namespace or namespace_of(chosen) for _, namespace, _ in asked} or {namespace_of(chosen)}
    if len(namespaces) > 1:
        raise Unknown("tree shows VMs of one namespace at a time")
    namespace = namespaces.pop()
    read = asyncio.run(o.read(origin_of(chosen), trees.wanted(namespace)))
    vms = [_existing(read, o.VM, name, namespace) for _, _, name in asked] or _all(read, namespace)
    found = [trees.tree(read, each) for each in vms]
    _print(found, chosen.output, lambda screen: trees.show(found, sorted(read.missing.values()), screen))
    return WELL


def _all(read: Objects, namespace: str) -> list[Tree]:
    if o.VM in read.missing:
        raise Unknown(read.missing[o.VM])
    found = read.all(o.VM)
    if not found:
        raise Unknown(f"there are no VirtualMachines in namespace {namespace}; KubeVirt's own: kubectl vdc import")
    return found


def _existing(read: Objects, resource: Any, name: str, namespace: str) -> Tree:
    found = read.get(resource, name, namespace)
    if found is not None:
        return found
    if resource in read.missing:
        raise Unknown(read.missing[resource])
    where = f" in namespace {namespace}" if resource.namespaced else ""
    there = ", ".join(key.name for key in sorted(read.shelves.get(resource, {}))[:10])
    raise Unknown(f"there is no {resource.kind} {name}{where}; there are: {there or 'none'}")


def _why(chosen: argparse.Namespace) -> int:
    resource, namespace, name = why.parse_reference(chosen.what)
    if resource.namespaced:
        namespace = namespace or namespace_of(chosen)
    read = asyncio.run(o.read(origin_of(chosen), why.wanted(resource, namespace)))
    found = why.why(read, _existing(read, resource, name, namespace))
    _print(found, chosen.output, lambda screen: why.show(found, screen, datetime.now(UTC)))
    return WELL if found["well"] else NOT_WELL


def _ha(chosen: argparse.Namespace) -> int:
    read = asyncio.run(o.read(origin_of(chosen), (o.Wanted(o.HOST), o.Wanted(o.POLICY), o.Wanted(o.FAILURE))))
    if read.missing:
        raise Unknown(next(iter(read.missing.values())))
    found = ha.status(ha.of_trees([*read.all(o.POLICY), *read.all(o.HOST), *read.all(o.FAILURE)]))
    _print(found, chosen.output, lambda screen: availability.show_plan(found, screen))
    return WELL


def _drill(chosen: argparse.Namespace) -> int:
    store, complaints = ha.world(origin_of(chosen))
    found = ha.drill(store, chosen.host)
    for complaint in complaints:
        if complaint.forbidden:  # what is not installed has no part in a drill
            print(f"kubectl vdc: {safe(complaint.why)}", file=sys.stderr)
    _print(found, chosen.output, lambda screen: availability.show_drill(found, screen))
    return WELL


def _diff(chosen: argparse.Namespace) -> int:
    manifests, ignored = _declared(chosen)
    if not manifests:
        raise Unknown("there is nothing of vdcos in these files")
    reports = asyncio.run(_compared(origin_of(chosen), manifests))
    for each in ignored:
        print(f"kubectl vdc: {safe(each)} is no kind of vdcos and was left out: kubectl diff", file=sys.stderr)
    _print(reports, chosen.output, lambda screen: diff.show(reports, screen))
    results = {each["result"] for each in reports}
    return FAILED if results & {"refused", "unknown"} else WELL if results == {"unchanged"} else NOT_WELL


def _declared(chosen: argparse.Namespace) -> tuple[list[Tree], list[str]]:
    """Manifests of ours, each with its namespace, and the names of others."""
    mine, others = [], []
    here = functools.cache(lambda: namespace_of(chosen))
    for each in manifests_of(chosen.filename, sys.stdin):
        meta = each.get("metadata")
        name = meta.get("name") if isinstance(meta, dict) else None
        if not isinstance(name, str) or not isinstance(meta, dict):
            raise Unfit(f"{each.get('kind')}: there is no metadata.name")
        resource = diff.resource_of(each)
        if resource is None:
            others.append(f"{each.get('kind')} {name}")
        elif resource.namespaced:
            namespace = meta.get("namespace") or here()
            mine.append({**each, "metadata": {**meta, "namespace": namespace}})
        else:
            mine.append(each)
    return mine, others


async def _compared(origin: Origin, manifests: Iterable[Tree]) -> list[Tree]:
    manifests = list(manifests)
    found = await o.read(origin, diff.wanted(manifests))
    async with Port.open(origin) as port:
        return await diff.compare(port, manifests, found)


def _import(chosen: argparse.Namespace) -> int:
    namespace = namespace_of(chosen)
    read = asyncio.run(o.read(origin_of(chosen), importing.wanted(namespace)))
    if o.CHILD in read.missing:
        raise Unknown(read.missing[o.CHILD])
    children = [_existing(read, o.CHILD, name, namespace) for name in chosen.names]
    drafts = [importing.draft(read, each) for each in children or importing.strangers(read)]
    if not drafts:
        raise Unknown("there is no KubeVirt VM" + (f" in namespace {namespace}" if namespace else "") + " to import")
    importing.write(drafts, chosen.output, sys.stdout)
    for draft in drafts:
        if draft.refused:
            print(
                f"kubectl vdc: {safe(draft.key)} cannot be taken over: {safe('; '.join(draft.refused))}",
                file=sys.stderr,
            )
    return NOT_WELL if any(draft.refused for draft in drafts) else WELL


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "status": _status,
    "tree": _tree,
    "why": _why,
    "ha": _ha,
    "drill": _drill,
    "diff": _diff,
    "import": _import,
}
