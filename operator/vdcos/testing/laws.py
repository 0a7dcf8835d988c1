"""The laws: what must hold after every step, and what must hold whenever the world has come to rest.

A broken law raises ``Violation``. Each law looks at what is true (the API server's objects, the hosts' processes),
never at what the operator believes.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from vdcos.core import disks, kinds, ownership, quantity
from vdcos.core.foreign.multus import NetworkAttachmentDefinition
from vdcos.core.objects import Key, Resource
from vdcos.runtime.lease import LEASE as LEASE_RESOURCE
from vdcos.runtime.queue import Item
from vdcos.testing.apiserver import NAMESPACE, Change, Held
from vdcos.testing.cluster import DV, PVC, VM, VMI
from vdcos.testing.replica import LEASE, Replica, Violation
from vdcos.testing.simulator import World, Write
from vdcos.testing.trees import Tree

OURS = (kinds.VIRTUAL_MACHINE, kinds.NETWORK, kinds.DATASTORE)
NAD = NetworkAttachmentDefinition.resource
MANAGED, MANAGER = ownership.MANAGED_BY, ownership.MANAGER
RESYNCS = 10
"""Looks at everything, with time and restarts between them, that must write nothing once the world is at rest."""
LONGEST_WAIT = 1.0
"""Seconds of virtual time for which an object that is due may wait for others."""
MOST_STEPS = 6000
LONGEST = 3600.0
"""Virtual seconds after which a world must have come to rest again."""

STAYS_OFF = ("GuestShutdown", "StopRequested", "StayedOff")


class Laws:
    """All of them. ``quiet`` remembers the states of rest that were found to stay quiet: they need no second proof."""

    def __init__(self) -> None:
        self.quiet: set[int] = set()

    # Before and after every write of the operator, after every change of an object, and of a host

    def looked(self, replica: Replica, item: Item, overdue: float) -> None:
        """No object waits for another. One that does not lead, or stands still, is excused."""
        if overdue > LONGEST_WAIT and replica.elector is None and replica.paused_until < 0:
            raise Violation("no delay", f"{item.service} {item.key} waited for {overdue:.1f} s")

    def sent(self, world: World, replica: Replica) -> None:
        _only_the_leader_writes(world, replica)

    def wrote(self, world: World, write: Write) -> None:
        _users_objects_are_theirs(write)
        _what_is_not_ours_is_left_alone(write)
        _nothing_is_said_to_run_before_it_does(world, write)

    def changed(self, world: World, resource: Resource, change: Change) -> None:
        if change.type == "DELETED" and resource in (DV, PVC):
            _no_disk_is_lost(world, resource, change.held)
        if change.type == "DELETED" and resource in (kinds.NETWORK, kinds.DATASTORE):
            _nothing_goes_that_is_known_to_be_used(world, resource, change.held)
        if change.type == "DELETED" and resource == NAD:
            _no_definition_goes_under_a_guest(world, change.held)
        if change.type == "ADDED" and resource == DV:
            _no_datastore_overflows(world, change.held)

    def hosts(self, world: World) -> None:
        for disk, holders in world.cluster.running().items():
            if len(holders) > 1:
                raise Violation("never two", f"disk {disk} is written to by {holders}")

    # At rest

    def at_rest(self, world: World) -> int:
        """Check a world in which nothing happens any more. Returns a hash of how it ended."""
        essence = essence_of(world)
        for vm in world.api.all(kinds.VIRTUAL_MACHINE):
            _status_is_true(world, vm)
            _child_is_as_declared(world, vm)
        for kind in OURS:
            for held in world.api.all(kind):
                _was_seen(held)
        _no_orphans(world)
        found = hash(msgspec.json.encode(essence))
        if found not in self.quiet:
            _stays_quiet(world)
            self.quiet.add(found)
        return found


def _only_the_leader_writes(world: World, writer: Replica) -> None:
    """By the Lease as it stands at the API server when the write arrives, whatever becomes of it."""
    if writer.elector is None:
        return
    lease = world.api.get(LEASE_RESOURCE, Key(*LEASE))
    holder = lease.tree["spec"].get("holderIdentity") if lease is not None else None
    if holder != writer.elector.identity:
        raise Violation("only the leader writes", f"{writer.elector.identity} writes, and the Lease is {holder}'s")


def _users_objects_are_theirs(write: Write) -> None:
    """Spec, labels and annotations of an object of ours are its user's; finalizers and status are ours."""
    resource = write.request.resource
    if resource not in OURS:
        return
    if write.before is None or write.after is None:
        if write.before is None or not write.before.deleting:
            raise Violation("user objects", f"{write.request.method} of {resource.kind} {write.request.key}")
        return
    before, after = write.before, write.after
    if before.tree.get("spec") != after.tree.get("spec"):
        raise Violation("user objects", f"the spec of {resource.kind} {before.key} was written")
    for part in ("labels", "annotations", "ownerReferences"):
        if before.meta.get(part) != after.meta.get(part):
            raise Violation("user objects", f"{part} of {resource.kind} {before.key} were written")


def _what_is_not_ours_is_left_alone(write: Write) -> None:
    """An object of somebody else under a name that we want stays as it is."""
    if write.before is None or write.request.resource in OURS:
        return
    meta = write.before.meta
    owned = any(ref["apiVersion"].startswith(ownership.GROUP) for ref in meta.get("ownerReferences", ()))
    if not owned and disks.VM not in meta.get("labels", {}) and meta.get("labels", {}).get(MANAGED) != MANAGER:
        raise Violation("others' objects", f"{write.request.method} of {write.request.path}, which is not ours")


def _nothing_is_said_to_run_before_it_does(world: World, write: Write) -> None:
    """PoweredOn is said of a VM of which KubeVirt has said that it runs; it may have ended since."""
    if write.request.resource != kinds.VIRTUAL_MACHINE or write.before is None or write.after is None:
        return
    was, says = (held.tree.get("status", {}).get("powerState") for held in (write.before, write.after))
    if says != "PoweredOn" or was == says:
        return
    phases = {c.held.tree["status"]["phase"] for c in world.api.changes(VMI) if c.held.key == write.after.key}
    if "Running" not in phases:
        raise Violation("status truth", f"{write.after.key} is said to be PoweredOn, and it never ran")


def _no_datastore_overflows(world: World, added: Held) -> None:
    """A new disk keeps to the ceiling that its Datastore has at that moment."""
    name = added.meta.get("labels", {}).get(disks.DATASTORE, "")
    datastore = world.api.get(kinds.DATASTORE, Key("", name))
    capacity = datastore.tree["spec"].get("capacity") if datastore is not None else None
    if capacity is None:
        return
    sizes = [
        quantity.whole(volume.tree["spec"]["storage"]["resources"]["requests"]["storage"])
        for volume in world.api.all(DV)
        if volume.meta.get("labels", {}).get(disks.DATASTORE) == name
    ]
    if sum(sizes) > quantity.whole(capacity):
        raise Violation("ceiling", f"{len(sizes)} disks of {sum(sizes)} bytes on Datastore {name} of {capacity}")


def _no_definition_goes_under_a_guest(world: World, gone: Held) -> None:
    """A running VM keeps the definition of its interfaces: without it, it could not move."""
    key = gone.key
    if (NAD, key) in world.deleted or (NAMESPACE, Key("", key.namespace)) in world.deleted:
        return
    for vmi in world.api.all(VMI):
        final = vmi.tree["status"]["phase"] in ("Succeeded", "Failed")
        if vmi.key.namespace == key.namespace and key.name in _plugged(vmi) and not vmi.deleting and not final:
            raise Violation("held while in use", f"definition {key} is gone, and {vmi.key} runs with it")


def _plugged(vmi: Held) -> list[str]:
    networks = vmi.tree["spec"].get("networks", ())
    return [n.get("multus", {}).get("networkName", "").rpartition("/")[2] for n in networks]


def _no_disk_is_lost(world: World, resource: Resource, held: Held) -> None:
    """A disk goes only by hand, with its namespace, or with a VM that said so when it went."""
    labels = held.meta.get("labels", {})
    vm, disk = labels.get(disks.VM), labels.get(disks.DISK)
    by_hand = {(DV, held.key), (PVC, held.key), (NAMESPACE, Key("", held.key.namespace))}
    if not vm or by_hand & world.deleted:
        return
    key = Key(held.key.namespace, vm)
    for change in world.api.changes(kinds.VIRTUAL_MACHINE):
        if change.type == "DELETED" and change.held.key == key:
            for declared in change.held.tree["spec"].get("disks", ()):
                if declared["name"] == disk and declared.get("deletionPolicy") == "Delete":
                    return
    raise Violation("no lost disk", f"{resource.kind} {held.key} was deleted, and nobody said so")


def _nothing_goes_that_is_known_to_be_used(world: World, resource: Resource, held: Held) -> None:
    """A Network of VMs that were told that it is ready, and a Datastore that has counted its disks, wait for them."""
    if resource == kinds.DATASTORE and held.tree.get("status", {}).get("disks") and _in_use(world, resource, held):
        raise Violation("held while in use", f"Datastore {held.key} is gone, and has disks")
    for vm in world.api.all(kinds.VIRTUAL_MACHINE) if resource == kinds.NETWORK else ():
        nics = {nic["network"] for nic in vm.tree["spec"].get("nics", ())}
        seen = vm.tree.get("status", {}).get("observedGeneration") == vm.meta["generation"]
        if held.key.name in nics and seen and _condition(vm, "NetworkReady").get("status") == "True":
            raise Violation("held while in use", f"Network {held.key} is gone, and {vm.key} uses it")


def _condition(held: Held, kind: str) -> Mapping[str, Any]:
    found = held.tree.get("status", {}).get("conditions", ())
    return next((c for c in found if c["type"] == kind), {})


def _was_seen(held: Held) -> None:
    """At rest, what is said is said of what is declared."""
    status = held.tree.get("status", {})
    if status.get("observedGeneration") != held.meta["generation"]:
        raise Violation("status truth", f"{held.key} is at generation {held.meta['generation']}, its status is not")
    if not _condition(held, "Ready"):
        raise Violation("status truth", f"{held.key} has no Ready")


def _status_is_true(world: World, vm: Held) -> None:
    """Ready and powerState say what is so on the hosts and in storage."""
    if vm.deleting:
        return
    spec, status = vm.tree["spec"], vm.tree.get("status", {})
    ready = _condition(vm, "Ready")
    vmi, child = world.api.get(VMI, vm.key), world.api.get(VM, vm.key)
    ours = child is not None and child.owned_by(vm.meta["uid"])
    uid = vmi.meta["uid"] if vmi is not None and ours else ""
    processes = [
        (host, process)
        for host in world.cluster.hosts.values()
        for process in host.processes.values()
        if process.vmi == uid and process.active
    ]
    runs = any(host.writing and not process.paused for host, process in processes)
    said = status.get("powerState")
    if (said == "PoweredOn") is not runs:
        raise Violation("status truth", f"{vm.key} is said to be {said}, and {'runs' if runs else 'does not run'}")
    if ready.get("status") != "True":
        return
    on, synced = spec.get("powerState", "PoweredOn") == "PoweredOn", _condition(vm, "PowerStateSynced")
    if on is not bool(processes) and synced.get("reason") not in STAYS_OFF:
        raise Violation("status truth", f"{vm.key} is Ready, declared {'on' if on else 'off'}, and it is the other")
    for disk in spec.get("disks", ()):
        _disk_is_there(world, vm, disk, on)
    for nic in spec.get("nics", ()):
        network = world.api.get(kinds.NETWORK, Key("", nic["network"]))
        if network is None:
            raise Violation("status truth", f"{vm.key} is Ready without its network {nic['network']}")
    if (host := status.get("host")) and host not in [h.name for h, _ in processes]:
        raise Violation("status truth", f"{vm.key} is said to be on {host}")


def _disk_is_there(world: World, vm: Held, disk: Tree, on: bool) -> None:
    key = disks.key(vm.key.namespace, vm.key.name, disk["name"])
    claim, volume = world.api.get(PVC, key), world.api.get(DV, key)
    held = volume or claim
    if held is None or (on and (claim is None or claim.tree["status"]["phase"] != "Bound")):
        raise Violation("status truth", f"{vm.key} is Ready without its disk {disk['name']}")
    owned = held.owned_by(vm.meta["uid"])
    if owned is not (disk.get("deletionPolicy", "Retain") == "Delete"):
        raise Violation("status truth", f"disk {key} is {'' if owned else 'not '}to go with its VM: not as declared")
    if on and claim is not None:
        has = quantity.whole(claim.tree["status"]["capacity"]["storage"])
        if has < quantity.whole(disk["size"]):
            raise Violation("status truth", f"{vm.key} is Ready, and disk {disk['name']} has only {has} bytes")


def _child_is_as_declared(world: World, vm: Held) -> None:
    """What KubeVirt is told is what the user said, where the plan does not wait for anything."""
    child, applied = world.api.get(VM, vm.key), _condition(vm, "Applied")
    if vm.deleting or applied.get("status") != "True" or applied.get("reason") == "WriteWar":
        return
    if child is None or not child.owned_by(vm.meta["uid"]):
        raise Violation("status truth", f"{vm.key} is Applied, and there is no KubeVirt VM of ours")
    spec, template = vm.tree["spec"], child.tree["spec"]["template"]["spec"]
    domain = template["domain"]
    said = {
        "sockets": spec.get("cpu", {}).get("sockets"),
        "cores": spec.get("cpu", {}).get("cores"),
        "memory": spec.get("memory", {}).get("size"),
        "disks": [d["name"] for d in spec.get("disks", ())],
        "nics": [n["name"] for n in spec.get("nics", ())],
        "nodeSelector": spec.get("placement", {}).get("nodeSelector"),
        "halted": spec.get("powerState", "PoweredOn") == "PoweredOff",
    }
    wanted = {
        "sockets": domain.get("cpu", {}).get("sockets"),
        "cores": domain.get("cpu", {}).get("cores"),
        "memory": domain.get("memory", {}).get("guest"),
        "disks": [v["name"] for v in template.get("volumes", ()) if v.keys() & {"dataVolume", "persistentVolumeClaim"}],
        "nics": [i["name"] for i in domain["devices"].get("interfaces", ()) if i.get("state") != "absent"],
        "nodeSelector": template.get("nodeSelector"),
        "halted": child.tree["spec"]["runStrategy"] == "Halted",
    }
    for field, value in said.items():
        if wanted[field] != value:
            raise Violation("status truth", f"{vm.key} is Applied, declares {field} {value}, and gives {wanted[field]}")


def _no_orphans(world: World) -> None:
    """Nothing is left that belongs to nobody, and nothing hangs."""
    living = {held.meta["uid"] for _, held in world.api.everything()}
    for resource, held in world.api.everything():
        owners = held.meta.get("ownerReferences", ())
        if owners and not any(owner["uid"] in living for owner in owners):
            raise Violation("no orphan", f"{resource.kind} {held.key} outlives its owner")
        if resource in OURS and held.deleting and held.meta.get("finalizers") and not _in_use(world, resource, held):
            raise Violation("no orphan", f"{resource.kind} {held.key} waits for nothing")
        ours = held.meta.get("labels", {}).get(MANAGED) == MANAGER
        if ours and not owners and resource not in (DV, PVC):
            raise Violation("no orphan", f"{resource.kind} {held.key} has no owner")


def _in_use(world: World, resource: Resource, held: Held) -> bool:
    if resource == kinds.DATASTORE:
        return any(d.meta.get("labels", {}).get(disks.DATASTORE) == held.key.name for d in world.api.all(DV))
    users = (nic for vm in world.api.all(kinds.VIRTUAL_MACHINE) for nic in vm.tree["spec"].get("nics", ()))
    plugged = [name for vmi in world.api.all(VMI) for name in _plugged(vmi)]
    return held.key.name in {nic["network"] for nic in users} | set(plugged)


def _stays_quiet(world: World) -> None:
    """Ten looks at everything, hours of time and restarts between them, write nothing."""
    twin = world.fork()
    twin.script, twin.done, twin.hurry, twin.trace = (), 0, (), None
    before = twin.attempts
    for number in range(RESYNCS):
        twin.now += 61.7 * (number + 1)
        for replica in list(twin.replicas.values()):
            if number % 4 == 1:
                twin.restart(replica)
                continue
            for service in twin.served:
                for held in twin.api.all(service.resource):
                    replica.queue.add(Item(service.name, held.key), twin.now)
        for _ in range(MOST_STEPS):
            if not twin.step():
                break
        if twin.attempts > before:
            request = twin.tried[before]
            raise Violation("quiet at rest", f"{request.method} {request.path} {request.body!r}")


# What matters of a state, for comparisons between paths

_VOLATILE = frozenset(
    {
        "uid", "resourceVersion", "creationTimestamp", "lastTransitionTime", "countedAt", "generation",
        "observedGeneration", "desiredGeneration", "host", "nodeName", "addresses", "activePods",
        f"{ownership.GROUP}/repaired", f"{ownership.GROUP}/grown-under", f"{ownership.GROUP}/changed",
        ownership.APPLIED, "kubevirt.io/vm-generation", "volume.kubernetes.io/selected-node",
    }
)  # fmt: skip
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
TOUCHED = "somebody/touched"


def essence_of(world: World) -> dict[str, Any]:
    """The state at rest without times, versions, places and names that differ from one path to another."""
    found = {}
    for resource, held in world.api.everything():
        if resource in (*OURS, VM, DV, PVC) or resource.group in ("k8s.cni.cncf.io", "nmstate.io"):
            found[f"{resource.kind}.{resource.group} {held.key}"] = _stripped(held.tree)
    return dict(sorted(found.items()))


def _stripped(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get("reason") in STAYS_OFF:  # who stopped it, can be missed
            value = {**value, "reason": STAYS_OFF[0], "message": ""}
        kept = {name: _stripped(value[name]) for name in sorted(value) if name not in _VOLATILE and name != TOUCHED}
        return {name: inner for name, inner in kept.items() if inner not in ({}, [], None)}
    if isinstance(value, list):
        return [_stripped(item) for item in value]
    if isinstance(value, str):
        return _TIME.sub("(time)", value)
    return value
