"""``kubectl vdc status``: the datacenter on one screen, what is not well, and the next thing to do."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from vdcos.cli.plan import count
from vdcos.cli.vdc import objects as o
from vdcos.cli.vdc.causes import cause
from vdcos.cli.vdc.objects import Objects, Tree, at
from vdcos.cli.vdc.screen import Cell, Screen, Tone, Word
from vdcos.core import quantity
from vdcos.core.conditions import READY, STALLED

MOST = 15
"""Troubles on the screen; data have all of them."""

_SHORT = {resource.kind: name for name, resource in o.NAMED.items()}
"""How each kind is named on the command line."""

_BESIDE = {
    "VirtualMachine": ("Protected", "GuestHeartbeat", "RestartOrder", "Synchronized"),
    "Datastore": ("AcceptsDisks",),
    "HAPolicy": ("Active", "HostsFenceable", "FailoverCapacity"),
}
"""Conditions that are no part of Ready, and worth a look when they are False."""
_QUIET = ("NotConnected", "NeverSeen", "Disabled", "NotRunning")
"""Reasons of theirs that are as somebody wants it, or nobody's hurry."""


def wanted(namespace: str) -> tuple[o.Wanted, ...]:
    return (o.Wanted(o.VM, namespace), *o.DATACENTER)


def status(found: Objects, namespace: str = "") -> Tree:
    """The same for programs: what there is, how it is, and what is not well."""
    vms = found.all(o.VM, namespace)
    failures = [each for each in found.all(o.FAILURE) if at(each, "status.phase") != "Completed"]
    every = [*failures, *found.all(o.HOST), *found.all(o.POLICY), *vms, *found.all(o.DATASTORE), *found.all(o.NETWORK)]
    return {
        "namespace": namespace,
        "hosts": [_host(each) for each in found.all(o.HOST)],
        "virtualMachines": {
            "count": len(vms),
            "byState": _counted(at(each, "status.powerState", "Unknown") for each in vms),
            "ready": sum(_is_ready(each) for each in vms),
            "restartRequired": sum(bool(at(each, "status.restartRequired", False)) for each in vms),
        },
        "policies": [_policy(each) for each in found.all(o.POLICY)],
        "failures": [_failure(each) for each in failures],
        "datastores": [_datastore(each) for each in found.all(o.DATASTORE)],
        "networks": [_network(each) for each in found.all(o.NETWORK)],
        "notWell": sorted(
            (trouble for each in every for trouble in troubles(each)), key=lambda trouble: trouble["condition"] != READY
        ),
        "unreadable": sorted(found.missing.values()),
    }


def _is_ready(tree: Tree) -> bool:
    return bool(o.condition(tree, READY).get("status") == "True")


def _ready(tree: Tree) -> Tree:
    said = o.condition(tree, READY)
    return {"ready": said.get("status", "Unknown"), "reason": said.get("reason", "NotSeen")}


def _counted(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))


def _host(tree: Tree) -> Tree:
    said, plan = at(tree, "status", {}), at(tree, "status.failurePlan", {})
    return {
        "name": tree["metadata"]["name"],
        "state": said.get("state", "Unknown"),
        "policy": said.get("policy", ""),
        "vms": said.get("vms", 0),
        "cpu": {"reserved": at(said, "reserved.cpu", "0"), "capacity": at(said, "capacity.cpu", "0")},
        "memory": {"reserved": at(said, "reserved.memory", "0"), "capacity": at(said, "capacity.memory", "0")},
        "restarts": plan.get("restarts"),
        "staysDown": plan.get("stays"),
    }


def _policy(tree: Tree) -> Tree:
    capacity, plan = at(tree, "status.failoverCapacity", {}), at(tree, "status.failurePlan", {})
    return {
        "name": tree["metadata"]["name"],
        **_ready(tree),
        "paused": at(tree, "spec.paused.reason"),
        "admission": at(tree, "spec.admissionControl.mode", "Enforce"),
        "hosts": at(tree, "status.hosts.count", 0),
        "connected": at(tree, "status.connected", 0),
        "failoverCapacity": {part: capacity[part] for part in ("promised", "available", "missing") if part in capacity},
        "waiting": at(tree, "status.waiting.count", 0),
        "restarts": plan.get("restarts", 0),
        "staysDown": plan.get("stays", 0),
        "worstHost": plan.get("worstHost", ""),
    }


def _failure(tree: Tree) -> Tree:
    vms = at(tree, "status.vms", {})
    return {
        "name": tree["metadata"]["name"],
        "host": at(tree, "spec.host"),
        "phase": at(tree, "status.phase", "New"),
        **_ready(tree),
        "virtualMachines": {part: vms.get(part, 0) for part in ("total", "running", "starting", "held", "failed")},
    }


def _datastore(tree: Tree) -> Tree:
    return {
        "name": tree["metadata"]["name"],
        **_ready(tree),
        "provisioned": at(tree, "status.provisioned", "0"),
        "capacity": at(tree, "spec.capacity"),
        "disks": at(tree, "status.disks", 0),
        "retained": at(tree, "status.retained.count", 0),
        "maintenance": bool(at(tree, "spec.maintenance", False)),
    }


def _network(tree: Tree) -> Tree:
    return {
        "name": tree["metadata"]["name"],
        **_ready(tree),
        "provider": at(tree, "status.provider"),
        "vms": at(tree, "status.virtualMachines.count", 0),
        "namespaces": at(tree, "status.namespaces.count", 0),
    }


# What is not well


def reference(tree: Tree) -> str:
    """How an object is named on the command line: ``vm/web-1 -n shop``."""
    meta = tree["metadata"]
    where = f" -n {meta['namespace']}" if meta.get("namespace") else ""
    return f"{_SHORT[tree['kind']]}/{meta['name']}{where}"


def troubles(tree: Tree) -> list[Tree]:
    """What is not well with an object: that it is not ready, first; then what is beside that."""
    ready = o.condition(tree, READY)
    said = [
        ready or {"type": READY, "status": "Unknown", "reason": "NotEvaluated", "message": "no operator has seen it"}
    ]
    said += [o.condition(tree, kind) for kind in _BESIDE.get(tree["kind"], ())]
    return [
        {
            "kind": tree["kind"],
            **({"namespace": tree["metadata"]["namespace"]} if tree["metadata"].get("namespace") else {}),
            "name": tree["metadata"]["name"],
            "condition": each["type"],
            "reason": each.get("reason", "Unknown"),
            "message": each.get("message", ""),
            "since": each.get("lastTransitionTime", ""),
            "stalled": each is ready and o.condition(tree, STALLED).get("status") == "True",
            "why": f"kubectl vdc why {reference(tree)}",
            "next": advice(tree, each.get("reason", "")),
        }
        for each in said
        if each and each.get("status") != "True" and each.get("reason") not in _QUIET
    ]


def advice(tree: Tree, reason: str) -> str:
    """The next thing to do about a reason, for this object; "" when it passes by itself."""
    then, meta = cause(tree["kind"], reason).then, tree["metadata"]
    host = at(tree, "spec.host") or at(tree, "status.host") or "its host"
    for word, value in (("NAMESPACE", meta.get("namespace", "")), ("NAME", meta["name"]), ("HOST", host)):
        then = then.replace(word, str(value))
    return then


# For people


def show(found: Tree, screen: Screen) -> None:
    """The screen."""
    for part in (_summary, _hosts, _failures, _stores, _networks, _not_well):
        part(found, screen)


def _summary(found: Tree, screen: Screen) -> None:
    hosts, vms = found["hosts"], found["virtualMachines"]
    rows: list[tuple[str, Cell]] = []
    if hosts:
        states = _counted(each["state"] for each in hosts)
        rows.append(("Hosts", f"{len(hosts)}: {_listed(states)}"))
    words = str(vms["count"])
    if vms["count"]:
        words += f": {_listed(vms['byState'])}; {vms['ready']} ready"
    if vms["restartRequired"]:
        words += f"; {vms['restartRequired']} to be restarted when it suits"
    rows.append(("VMs", words))
    rows += [("HA", _protection(each)) for each in found["policies"]]
    if hosts and not found["policies"]:
        rows.append(("HA", Word("no HAPolicy: if a host dies, its VMs stay down", "wait")))
    for name, text in rows:
        screen.line((Word(f"{name:<7}", "strong"), text))


def _listed(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in numbers.items())


def _protection(policy: Tree) -> str:
    parts = [f"policy {policy['name']}"]
    if policy["paused"]:
        parts.append(f"PAUSED ({policy['paused']})")
    everyone = policy["restarts"] + policy["staysDown"]
    parts.append(f"{policy['restarts']} of {count(everyone, 'VM')} would restart if its host died")
    if policy["worstHost"]:
        parts.append(f"worst host {policy['worstHost']}")
    promised = policy["failoverCapacity"].get("promised")
    if promised:
        kept = f"{promised['cpu']} CPU and {promised['memory']} promised"
        missing = policy["failoverCapacity"].get("missing", {})
        lack = [
            f"{missing[part]} {word}" for part, word in (("cpu", "CPU"), ("memory", "memory")) if _some(missing, part)
        ]
        parts.append(kept + (f", {' and '.join(lack)} missing" if lack else ", all of it free"))
    if policy["waiting"]:
        parts.append(f"{count(policy['waiting'], 'VM')} wait for room")
    return "; ".join(parts)


def _some(amounts: Mapping[str, Any], part: str) -> bool:
    return str(amounts.get(part, "0")) not in ("", "0")


def _tone(ready: str) -> Tone:
    return {"True": "good", "False": "bad"}.get(ready, "wait")  # type: ignore[return-value]


def _hosts(found: Tree, screen: Screen) -> None:
    if not found["hosts"]:
        return
    screen.line()
    screen.table(
        ("HOST", "STATE", "POLICY", "VMS", "CPU", "MEMORY", "IF IT DIED"),
        [
            (
                each["name"],
                Word(each["state"], "good" if each["state"] == "Connected" else "bad"),
                each["policy"] or "-",
                str(each["vms"]),
                f"{each['cpu']['reserved']} of {each['cpu']['capacity']}",
                f"{human(each['memory']['reserved'])} of {human(each['memory']['capacity'])}",
                _if_it_died(each),
            )
            for each in found["hosts"]
        ],
    )


def human(amount: str) -> str:
    """Bytes in the largest unit that leaves no more than one decimal."""
    try:
        number = float(quantity.whole(amount))
    except ValueError:
        return amount
    for unit in ("", "Ki", "Mi", "Gi", "Ti"):
        if number < 1024 or unit == "Ti":
            return f"{number:.1f}".rstrip("0").rstrip(".") + unit
        number /= 1024
    return amount


def _if_it_died(host: Tree) -> Cell:
    if host["staysDown"] is None or host["state"] not in ("Connected", "Maintenance"):
        return "-"
    if host["staysDown"]:
        return Word(f"{host['staysDown']} of {host['staysDown'] + host['restarts']} VMs stay down", "wait")
    return Word("all restart", "good") if host["restarts"] else Word("nothing runs there", "dim")


def _failures(found: Tree, screen: Screen) -> None:
    if not found["failures"]:
        return
    screen.line()
    screen.table(
        ("FAILURE", "HOST", "PHASE", "VMS", "RUN AGAIN", "HELD", "FAILED", "REASON"),
        [
            (
                Word(each["name"], "bad"),
                each["host"],
                each["phase"],
                *(str(each["virtualMachines"][part]) for part in ("total", "running", "held", "failed")),
                each["reason"],
            )
            for each in found["failures"]
        ],
    )


def _stores(found: Tree, screen: Screen) -> None:
    if not found["datastores"]:
        return
    screen.line()
    screen.table(
        ("DATASTORE", "READY", "DISKS", "RETAINED", "PROVISIONED"),
        [
            (
                each["name"],
                Word("yes" if each["ready"] == "True" else each["reason"], _tone(each["ready"])),
                str(each["disks"]),
                str(each["retained"]),
                f"{human(each['provisioned'])}" + (f" of {each['capacity']}" if each["capacity"] else ", no ceiling"),
            )
            for each in found["datastores"]
        ],
    )


def _networks(found: Tree, screen: Screen) -> None:
    if not found["networks"]:
        return
    screen.line()
    screen.table(
        ("NETWORK", "READY", "VMS", "NAMESPACES", "PROVIDER"),
        [
            (
                each["name"],
                Word("yes" if each["ready"] == "True" else each["reason"], _tone(each["ready"])),
                str(each["vms"]),
                str(each["namespaces"]),
                each["provider"] or "-",
            )
            for each in found["networks"]
        ],
    )


def _not_well(found: Tree, screen: Screen) -> None:
    screen.line()
    for why in found["unreadable"]:
        screen.line((Word("not shown  ", "wait"), why))
    troubled = found["notWell"]
    if not troubled:
        screen.line(Word("All is well." if not found["unreadable"] else "All that is shown is well.", "good"))
        return
    screen.line(Word(f"NOT WELL ({len(troubled)})", "strong"))
    for each in troubled[:MOST]:
        where = f"{each['namespace']}/" if "namespace" in each else ""
        tone: Tone = "bad" if each["condition"] == READY else "wait"
        name = f"{_SHORT[each['kind']]} {where}{each['name']}"
        screen.line((Word(name, tone), f"  {each['condition']}: {each['reason']}"), indent=2)
        if each["message"]:
            screen.line(each["message"], indent=4)
        if each["next"]:
            screen.line((Word("next: ", "strong"), each["next"]), indent=4)
    if len(troubled) > MOST:
        screen.line(Word(f"... and {len(troubled) - MOST} more: -o json has all of them", "dim"), indent=2)
    screen.line()
    screen.line((Word("More about the first: ", "dim"), troubled[0]["why"]))
