"""``vdcos ha``: what would happen if a host died, and how it stands with high availability. Nothing is written."""

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Iterable
from typing import Any, TextIO

import yaml

from vdcos import api
from vdcos.cli.plan import columns, count, fill
from vdcos.cli.safe import safe
from vdcos.core.objects import Key, Resource, Unreadable
from vdcos.providers import placement as p
from vdcos.providers.failover.outlook import OUTLOOK, RESTARTS, Outlook
from vdcos.runtime import logs
from vdcos.runtime.credentials import NoCluster, Origin
from vdcos.runtime.providers.discovery import discover_networks
from vdcos.runtime.requests import ApiError
from vdcos.runtime.store import Store
from vdcos.services.catalogue import dated, indexes, kinds, services

Tree = dict[str, Any]
WELL, FAILED = 0, 1


class NoPlan(Exception):
    """There is nothing to say about a host. The text says why, and what to do."""


def main(chosen: argparse.Namespace) -> int:
    """Returns the exit status."""
    try:
        logs.configure("text", logging.ERROR)
        store, complaints = world(Origin.find(chosen.kubeconfig, chosen.context))
        for complaint in complaints:
            print(f"vdcos ha: {safe(complaint.why)}", file=sys.stderr)
        if chosen.what == "drill":
            found = drill(store, chosen.host)
            show(found, chosen.output, drill_table, sys.stdout)
        else:
            show(status(store), chosen.output, status_table, sys.stdout)
    except (NoCluster, NoPlan) as error:
        print(f"vdcos ha: {safe(error)}", file=sys.stderr)
        return FAILED
    except ApiError as error:
        print(f"vdcos ha: the API server does not answer ({error.reason}): {error.message}", file=sys.stderr)
        return FAILED
    return WELL


def world(origin: Origin) -> tuple[Store, list[Unreadable]]:
    """All that services read, and what of it cannot be read. Raises NoCluster and ApiError."""
    store, resources = _empty()
    return store, asyncio.run(fill(store, resources, origin))


def of_trees(trees: Iterable[Tree]) -> Store:
    """A world of some objects of ours."""
    store, resources = _empty()
    known = {(resource.api_version, resource.kind): kind for kind, resource in resources.items()}
    for tree in trees:
        kind = known[tree["apiVersion"], tree["kind"]]
        store.put(kind, store.decoder(kind)(json.dumps(tree).encode()))
    return store


def _empty() -> tuple[Store, dict[type[Any], Resource]]:
    served = services(discover_networks())
    resources = kinds(served)
    return Store(resources, indexes(served), dated(served)), resources


def show(found: Tree, output: str, table: Any, stream: TextIO) -> None:
    """Print what was found as text for people, or as data."""
    if output == "table":
        stream.write(table(found))
    elif output == "json":
        json.dump(found, stream, indent=2)
        stream.write("\n")
    else:
        yaml.safe_dump(found, stream, sort_keys=False, width=120)


def drill(store: Store, host: str) -> Tree:
    """What would become of the VMs of a host if it died now, in the order of restart. Raises NoPlan."""
    outlook = store.derived(OUTLOOK)
    if not store.shelf(api.HAPolicy).objects:
        raise NoPlan("there is no HAPolicy: if a host dies, its VMs stay down. Make one (vdcos.dev/v1alpha1, spec: {})")
    if host not in outlook.hosts:
        known = ", ".join(sorted(outlook.hosts)) or "none"
        raise NoPlan(f"no HAPolicy covers host {host}, or KubeVirt does not run there. Hosts that are covered: {known}")
    plan, machines = outlook.plans[host], _machines(outlook, host)
    turns = sorted({(each.priority, each.depth) for each in machines if each.priority != p.Priority.DISABLED})
    vms = []
    for machine in machines:
        key = machine.key
        why = plan.unplaced.get(key)
        fate = outlook.vms[Key(machine.namespace, machine.name)]
        vms.append(
            {
                "namespace": machine.namespace,
                "name": machine.name,
                "tier": turns.index(turn) if (turn := (machine.priority, machine.depth)) in turns else None,
                "priority": machine.priority.name.capitalize(),
                "target": plan.placed.get(key) if fate.reason == RESTARTS else None,
                "reason": fate.reason,
                "why": why.message() if why is not None else "",
            }
        )
    fates = outlook.hosts[host]
    return {"host": host, "restarts": fates.restarts, "stays": fates.stays, "virtualMachines": vms}


def _machines(outlook: Outlook, host: str) -> list[p.Machine]:
    assert outlook.basis is not None
    there = (each.machine for each in outlook.basis.machines.values() if each.machine.host == host)
    return sorted(there, key=p.restart_rank)


def drill_table(found: Tree) -> str:
    """A drill for people."""
    vms = found["virtualMachines"]
    head = (
        f"If {safe(found['host'])} died now, {found['restarts']} of {count(len(vms), 'VM')} would restart, in this "
        f"order, and {found['stays']} would not. Nothing was touched.\n"
    )
    rows = [("TIER", "VM", "PRIORITY", "TARGET", "REASON", "")]
    rows += [
        (
            "-" if vm["tier"] is None else str(vm["tier"]),
            f"{vm['namespace']}/{vm['name']}",
            vm["priority"],
            vm["target"] or "-",
            vm["reason"],
            vm["why"],
        )
        for vm in vms
    ]
    return head + ("\n" + "\n".join(columns(rows)) + "\n" if vms else "")


def status(store: Store) -> Tree:
    """Policies, hosts, and failures under way, as their statuses say."""
    policies = [
        {
            "name": cr.metadata.name,
            "ready": _reason(cr),
            "paused": cr.spec.paused is not None,
            "hosts": cr.status.hosts.count if cr.status.hosts is not None else 0,
            "connected": cr.status.connected or 0,
            "failed": cr.status.failed or 0,
            "admission": cr.spec.admission_control.mode,
            "failoverCapacity": _reason(cr, "FailoverCapacity"),
            "waiting": cr.status.waiting.count if cr.status.waiting is not None else 0,
            "staysDown": cr.status.failure_plan.stays if cr.status.failure_plan is not None else 0,
            "worstHost": cr.status.failure_plan.worst_host if cr.status.failure_plan is not None else "",
        }
        for cr in _all(store, api.HAPolicy)
    ]
    found = [
        {
            "name": cr.metadata.name,
            "policy": cr.status.policy,
            "state": cr.status.state or "Unknown",
            "verdict": cr.status.verdict or "",
            "fenceable": _reason(cr, "Fenceable"),
            "vms": cr.status.vms or 0,
            "restarts": cr.status.failure_plan.restarts if cr.status.failure_plan is not None else None,
            "staysDown": cr.status.failure_plan.stays if cr.status.failure_plan is not None else None,
        }
        for cr in _all(store, api.Host)
    ]
    failures = [
        {
            "name": cr.metadata.name,
            "host": cr.spec.host,
            "phase": cr.status.phase or "New",
            "reason": _reason(cr),
            "why": next((each.message for each in cr.status.conditions if each.type == "Ready"), ""),
        }
        for cr in _all(store, api.HostFailure)
        if cr.status.phase != "Completed"
    ]
    return {"policies": policies, "hosts": found, "failures": failures}


def _all(store: Store, kind: type[Any]) -> Iterable[Any]:
    for key in sorted(store.shelf(kind).objects):
        try:
            yield store.parse(kind, store.heard(kind, key))  # type: ignore[arg-type]
        except api.InvalidObject as error:
            print(f"vdcos ha: {kind.__name__} {key} is malformed: {error}", file=sys.stderr)


def _reason(cr: Any, kind: str = "Ready") -> str:
    return next((each.reason for each in cr.status.conditions if each.type == kind), "Unknown")


def status_table(found: Tree) -> str:
    """The same for people."""
    parts = []
    for name, rows in found.items():
        if not rows:
            parts.append(f"{name.upper()}\n  none\n")
            continue
        cells = [tuple(_words(column) for column in rows[0])]
        cells += [tuple("-" if value in (None, "") else str(value) for value in row.values()) for row in rows]
        parts.append(f"{name.upper()}\n" + "".join(f"  {line}\n" for line in columns(cells)))
    return "\n".join(parts)


def _words(column: str) -> str:
    return "".join(f"-{letter}" if letter.isupper() else letter for letter in column).upper()
