"""``kubectl vdc tree``: what a VM is made of, from our object down to the host that runs it."""

from collections.abc import Iterable
from typing import Any

from vdcos.cli.vdc import objects as o
from vdcos.cli.vdc.objects import Objects, Tree, at
from vdcos.cli.vdc.screen import Branch, Cell, Screen, Tone, Word
from vdcos.cli.vdc.status import human
from vdcos.core import disks
from vdcos.core.conditions import READY

_MODES = {"ReadWriteMany": "RWX", "ReadWriteOnce": "RWO", "ReadWriteOncePod": "RWOP", "ReadOnlyMany": "ROX"}


def wanted(namespace: str) -> tuple[o.Wanted, ...]:
    return (*o.around_vms(namespace), o.Wanted(o.HOST), o.Wanted(o.DATASTORE), o.Wanted(o.NETWORK))


def tree(found: Objects, vm: Tree) -> Tree:
    """For programs: the object and everything below it; null for what is not there."""
    meta = vm["metadata"]
    child = found.get(o.CHILD, meta["name"], meta["namespace"])
    instance = found.get(o.INSTANCE, meta["name"], meta["namespace"])
    ready = o.condition(vm, READY)
    return {
        "virtualMachine": {
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta.get("uid", ""),
            "ready": ready.get("status", "Unknown"),
            "reason": ready.get("reason", "NotSeen"),
            "powerState": at(vm, "status.powerState", "Unknown"),
        },
        "kubevirt": _child(child, vm),
        "instance": _instance(instance, child),
        "pods": [_pod(each) for each in found.owned(o.POD, instance)] if instance else [],
        "disks": [_disk(found, vm, child, each) for each in at(vm, "spec.disks", [])],
        "nics": [_nic(found, vm, each) for each in at(vm, "spec.nics", [])],
        "host": _host(found, at(vm, "status.host") or at(instance, "status.nodeName")),
    }


def _child(child: Tree | None, vm: Tree) -> Tree | None:
    if child is None:
        return None
    owner = next((ref for ref in o.references(child) if ref.get("controller")), None)
    ours = owner is not None and owner["uid"] == vm["metadata"].get("uid")
    running = {True: "Always", False: "Halted"}.get(at(child, "spec.running", None))
    return {
        "name": child["metadata"]["name"],
        "uid": child["metadata"].get("uid", ""),
        "runStrategy": at(child, "spec.runStrategy") or running or "",
        "status": at(child, "status.printableStatus"),
        "ours": ours,
    }


def _instance(instance: Tree | None, child: Tree | None) -> Tree | None:
    if instance is None:
        return None
    owned = child is not None and any(ref["uid"] == child["metadata"].get("uid") for ref in o.references(instance))
    return {
        "name": instance["metadata"]["name"],
        "uid": instance["metadata"].get("uid", ""),
        "phase": at(instance, "status.phase"),
        "node": at(instance, "status.nodeName"),
        "ofThisVm": owned,
        "leaving": "deletionTimestamp" in instance["metadata"],
    }


def _pod(pod: Tree) -> Tree:
    containers = at(pod, "status.containerStatuses", [])
    return {
        "name": pod["metadata"]["name"],
        "phase": at(pod, "status.phase"),
        "ready": f"{sum(bool(each.get('ready')) for each in containers)}/{len(at(pod, 'spec.containers', []))}",
        "node": at(pod, "spec.nodeName"),
        "leaving": "deletionTimestamp" in pod["metadata"],
        "waiting": waiting(pod),
    }


def waiting(pod: Tree) -> str:
    """Why a pod does not run yet, as the kubelet or the scheduler says it; "" when nobody says anything."""
    for each in [*at(pod, "status.initContainerStatuses", []), *at(pod, "status.containerStatuses", [])]:
        state = at(each, "state.waiting", {})
        if state.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
            return f"{state['reason']}: {state.get('message', '')}".rstrip(": ")
    scheduled = o.condition(pod, "PodScheduled")
    return str(scheduled.get("message", "")) if scheduled.get("status") == "False" else ""


def _disk(found: Objects, vm: Tree, child: Tree | None, disk: Tree) -> Tree:
    namespace, machine = o.key_of(vm)
    name = disks.claim(machine, disk["name"], disk.get("claimName"))
    volume, claim = found.get(o.VOLUME, name, namespace), found.get(o.CLAIM, name, namespace)
    said: Tree = next((each for each in at(vm, "status.disks", []) if each.get("name") == disk["name"]), {})
    volumes = at(child, "spec.template.spec.volumes", [])
    return {
        "name": disk["name"],
        "size": disk.get("size", ""),
        "datastore": disk.get("datastore", ""),
        "phase": said.get("phase", "Pending"),
        "reason": said.get("reason", ""),
        "message": said.get("message", ""),
        "attached": any(each.get("name") == disk["name"] for each in volumes),
        "dataVolume": None
        if volume is None
        else {"name": name, "phase": at(volume, "status.phase"), "progress": at(volume, "status.progress")},
        "claim": None
        if claim is None
        else {
            "name": name,
            "phase": at(claim, "status.phase"),
            "capacity": at(claim, "status.capacity.storage"),
            "storageClass": at(claim, "spec.storageClassName"),
            "accessModes": at(claim, "spec.accessModes", []),
            "volume": at(claim, "spec.volumeName"),
        },
    }


def _nic(found: Objects, vm: Tree, nic: Tree) -> Tree:
    said: Tree = next((each for each in at(vm, "status.nics", []) if each.get("name") == nic["name"]), {})
    network = found.get(o.NETWORK, nic.get("network", ""))
    ready = o.condition(network, READY).get("status", "Unknown") if network is not None else ""
    return {
        "name": nic["name"],
        "network": nic.get("network", ""),
        "networkReady": ready or ("Unknown" if o.NETWORK in found.missing else "Missing"),
        "macAddress": said.get("macAddress", ""),
        "addresses": said.get("addresses", []),
    }


def _host(found: Objects, name: str) -> Tree | None:
    if not name:
        return None
    host = found.get(o.HOST, name)
    return {"name": name, "state": at(host, "status.state", "Unknown"), "policy": at(host, "status.policy")}


# For people


def show(trees: Iterable[Tree], unreadable: Iterable[str], screen: Screen) -> None:
    """Each as a tree."""
    for number, each in enumerate(trees):
        if number:
            screen.line()
        screen.tree(_branch(each))
    for why in unreadable:
        screen.line((Word("not shown  ", "wait"), why))


def _branch(found: Tree) -> Branch:
    vm = found["virtualMachine"]
    state: Cell = Word("Ready", "good") if vm["ready"] == "True" else Word(f"not ready: {vm['reason']}", "bad")
    head = (Word(f"VirtualMachine {vm['namespace']}/{vm['name']}", "strong"), "  ", state, f", {vm['powerState']}")
    below = [_child_branch(found)]
    below += [_disk_branch(each) for each in found["disks"]]
    below += [_nic_branch(each) for each in found["nics"]]
    return Branch(head, below)


def _child_branch(found: Tree) -> Branch:
    child = found["kubevirt"]
    if child is None:
        return Branch(Word("no KubeVirt VM yet", "wait"))
    line: tuple[Cell, ...] = (
        f"KubeVirt VM {child['name']}  {child['runStrategy']}, {child['status'] or 'no status yet'}",
    )
    if not child["ours"]:
        line = (*line, Word("  not managed by this object", "bad"))
    instance = found["instance"]
    if instance is None:
        return Branch(line, [Branch(Word("no instance: it does not run", "dim"))])
    leaving = Word(" and ends", "wait") if instance["leaving"] else ""
    where = f" on {instance['node']}" if instance["node"] else ""
    strange = "" if instance["ofThisVm"] else Word("  of another VM", "bad")
    words = (f"instance {instance['name']}  ", _phase(instance["phase"]), where, leaving, strange)
    below = [_pod_branch(each) for each in found["pods"]] or [Branch(Word("no pod", "wait"))]
    host = found["host"]
    if host is not None:
        policy = f", policy {host['policy']}" if host["policy"] else ""
        tone: Tone = "good" if host["state"] == "Connected" else "wait" if host["state"] == "Unknown" else "bad"
        below.append(Branch((f"host {host['name']}  ", Word(host["state"], tone), policy)))
    return Branch(line, [Branch(words, below)])


def _phase(phase: str) -> Word:
    good = phase in ("Running", "Bound", "Succeeded", "Ready")
    return Word(phase or "Pending", "good" if good else "bad" if phase in ("Failed", "Lost") else "wait")


def _pod_branch(pod: Tree) -> Branch:
    where = f" on {pod['node']}" if pod["node"] else ""
    leaving = Word(" and ends", "wait") if pod["leaving"] else ""
    below = [Branch(Word(pod["waiting"], "wait"))] if pod["waiting"] else []
    return Branch((f"pod {pod['name']}  ", _phase(pod["phase"]), f" {pod['ready']}{where}", leaving), below)


def _disk_branch(disk: Tree) -> Branch:
    why = f" {disk['reason']}" if disk["reason"] else ""
    below = []
    if disk["message"]:
        below.append(Branch(Word(disk["message"], "dim")))
    if volume := disk["dataVolume"]:
        progress = f" {volume['progress']}" if volume["progress"] not in ("", "N/A", "100.0%") else ""
        below.append(Branch((f"DataVolume {volume['name']}  ", _phase(volume["phase"]), progress)))
    if claim := disk["claim"]:
        modes = ",".join(_MODES.get(mode, mode) for mode in claim["accessModes"])
        size = "".join(f" {word}" for word in (human(claim["capacity"]), claim["storageClass"], modes) if word)
        leads = [Branch(f"volume {claim['volume']}")] if claim["volume"] else []
        below.append(Branch((f"claim {claim['name']}  ", _phase(claim["phase"]), size), leads))
    if not disk["dataVolume"] and not disk["claim"]:
        below.append(Branch(Word("no DataVolume and no claim yet", "wait")))
    head = f"disk {disk['name']}  {disk['size']} on {disk['datastore']}, "
    return Branch((head, _phase(disk["phase"]), why), below)


def _nic_branch(nic: Tree) -> Branch:
    ready = nic["networkReady"]
    known: Any = {"True": "", "Unknown": "", "Missing": Word(" (does not exist)", "bad")}
    state = known.get(ready, Word(" (not ready)", "bad"))
    where = "".join(f"  {word}" for word in (nic["macAddress"], ", ".join(nic["addresses"])) if word)
    return Branch((f"NIC {nic['name']}  Network {nic['network']}", state, where))
