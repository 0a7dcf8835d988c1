"""The laws: what must hold after every step, and what must hold whenever the world has come to rest.

A broken law raises ``Violation``. Each law looks at what is true (the API server's objects, the hosts' processes),
never at what the operator believes.
"""

import re
from collections.abc import Mapping
from itertools import takewhile
from typing import Any

import msgspec

from vdcos.core import disks, kinds, ownership, quantity
from vdcos.core.finalizers import IN_USE
from vdcos.core.foreign.multus import NetworkAttachmentDefinition
from vdcos.core.objects import Key, Resource
from vdcos.core.plan import Ask
from vdcos.runtime.lease import LEASE as LEASE_RESOURCE
from vdcos.runtime.queue import Item
from vdcos.testing.apiserver import NAMESPACE, Change, Held
from vdcos.testing.cluster import DV, PVC, VM, VMI
from vdcos.testing.replica import LEASE, Replica, Violation
from vdcos.testing.simulator import START, World, Write
from vdcos.testing.trees import Tree

OURS = (kinds.VIRTUAL_MACHINE, kinds.NETWORK, kinds.DATASTORE)
NAD = NetworkAttachmentDefinition.resource
MANAGED, MANAGER = ownership.MANAGED_BY, ownership.MANAGER
RESYNCS = 10
"""Looks at everything, with time and restarts between them, that must write nothing once the world is at rest."""
LONGEST_WAIT = 1.0
"""Seconds of virtual time for which an object that is due may wait for others."""
MOST_STEPS = 6000
REPAIRS_AT_ONCE, REPAIRED_EVERY = 3, 200.0
"""How often a child may be put right, and seconds after which once more."""
REPAIRED = f"{ownership.GROUP}/repaired"
ROUNDING = 1 << 27
"""Bytes by which an account for people may be off."""
LONGEST = 3600.0
"""Virtual seconds after which a world must have come to rest again."""

FILLED = ("Succeeded", "WaitForFirstConsumer", "PendingPopulation")
"""Phases of a DataVolume that has what it is to have, or will get it when its VM first runs."""
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
        _used_things_are_held(world, write)
        _repairs_are_few(world, write)
        _ceilings_hold(world, write)
        if write.request.resource == kinds.VIRTUAL_MACHINE:
            _what_is_said_is_of_this_vm(world, write)
            _ready_is_earned(world, write)

    def changed(self, world: World, resource: Resource, change: Change) -> None:
        if change.type == "DELETED" and resource in (DV, PVC):
            _no_disk_is_lost(world, resource, change.held)
        if change.type == "DELETED" and resource in (kinds.NETWORK, kinds.DATASTORE):
            _nothing_goes_that_is_known_to_be_used(world, resource, change.held)
        if change.type == "DELETED" and resource == NAD:
            _no_definition_goes_under_a_guest(world, change.held)

    def hosts(self, world: World) -> None:
        for disk, holders in world.cluster.running().items():
            if len(holders) > 1:
                raise Violation("never two", f"disk {disk} is written to by {holders}")

    def asked(self, world: World, replica: Replica, item: Item, ask: Ask) -> None:
        """Something outside is asked."""

    # At rest

    def essence(self, world: World) -> Mapping[str, Any]:
        """What two paths that end alike have in common."""
        return essence_of(world)

    def at_rest(self, world: World) -> int:
        """Check a world in which nothing happens any more. Returns a hash of how it ended."""
        essence = self.essence(world)
        for vm in world.api.all(kinds.VIRTUAL_MACHINE):
            _status_is_true(world, vm)
            _child_is_as_declared(world, vm)
            _status_says_all(world, vm)
        for kind in OURS:
            for held in world.api.all(kind):
                _was_seen(held)
        _counts_are_true(world)
        _no_orphans(world)
        found = hash(msgspec.json.encode(essence))
        state = hash((found, *(replica.memory() for replica in world.replicas.values())))
        if state not in self.quiet:
            _stays_quiet(world)
            self.quiet.add(state)
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


def _used_things_are_held(world: World, write: Write) -> None:
    """A Network is held before anything depends on it."""
    if write.request.resource != NAD or write.before is not None or write.after is None:
        return
    for owner in write.after.meta.get("ownerReferences", ()):
        network = world.api.get(kinds.NETWORK, Key("", owner["name"]))
        if network is not None and not network.deleting and IN_USE not in network.meta.get("finalizers", ()):
            raise Violation("held while in use", f"{write.after.key} is there, and Network {network.key} is not held")


def _repairs_are_few(world: World, write: Write) -> None:
    """Somebody who keeps changing a child is not fought: until we want something else, it is put right now and then."""
    if write.request.resource != VM or write.before is None or write.after is None:
        return
    marks = [_mark(child, ownership.APPLIED) for child in _applies(world, write.after)]
    repairs = len(list(takewhile(lambda mark: mark == marks[-1], reversed(marks)))) - 1
    if repairs > REPAIRS_AT_ONCE + (world.now - START) / REPAIRED_EVERY:
        raise Violation("write budget", f"{repairs} repairs of {write.request.key}")


def _applies(world: World, child: Held) -> list[Held]:
    """What the operator has made of a KubeVirt VM, one version after the other: each apply leaves another mark."""
    found: list[Held] = []
    last: tuple[Any, ...] = ()
    for change in world.api.changes(VM):
        held = change.held
        marks = (_mark(held, ownership.APPLIED), _mark(held, REPAIRED))
        if held.key == child.key and held.meta["uid"] == child.meta["uid"] and marks != last:
            found.append(held)
            last = marks
    return found


def _mark(held: Held, name: str) -> Any:
    return held.meta.get("annotations", {}).get(name)


def _ceilings_hold(world: World, write: Write) -> None:
    """What the operator asks of a datastore never passes its capacity, as it stands at that moment."""
    held = write.after
    if write.request.resource not in (DV, PVC) or held is None:
        return
    name = held.meta.get("labels", {}).get(disks.DATASTORE)
    datastore = world.api.get(kinds.DATASTORE, Key("", name)) if name else None
    if datastore is None or "capacity" not in datastore.tree["spec"]:
        return
    asked = _asked(held)
    if write.before is not None and _asked(write.before) >= asked:
        return
    total, capacity = sum(_promised(world, str(name)).values()), quantity.whole(datastore.tree["spec"]["capacity"])
    if total > capacity:
        raise Violation("ceiling", f"Datastore {name} has {capacity} bytes, and {total} are promised")


def _asked(held: Held) -> int:
    """Bytes that a DataVolume or a claim asks for."""
    spec = held.tree["spec"]
    return quantity.whole(spec.get("storage", spec)["resources"]["requests"]["storage"])


def _promised(world: World, datastore: str) -> dict[Key, int]:
    """What the disks of a datastore were promised. Claims without a name of ours are CDI's passing ones, and
    those of a DataVolume that is gone are going."""
    found: dict[Key, int] = {}
    for held in (*world.api.all(DV), *world.api.all(PVC)):
        labels = held.meta.get("labels", {})
        ours = held.key.name == disks.name(labels.get(disks.VM, ""), labels.get(disks.DISK, ""))
        volumes = [owner["name"] for owner in held.meta.get("ownerReferences", ()) if owner["kind"] == DV.kind]
        going = volumes and world.api.get(DV, Key(held.key.namespace, volumes[0])) is None
        if ours and labels.get(disks.DATASTORE) == datastore and not going:
            found[held.key] = max(found.get(held.key, 0), _asked(held))
    return found


def _what_is_said_is_of_this_vm(world: World, write: Write) -> None:
    """A status is about the object that it is stored with, and about the spec that it says it is about."""
    vm = write.after
    if vm is None:
        return
    told = vm.tree.get("status", {}).get("virtualMachine", {}).get("uid")
    for change in world.api.changes(VM) if told else ():
        if change.held.meta["uid"] == told and not change.held.owned_by(vm.meta["uid"]):
            raise Violation("status truth", f"{vm.key} is said to have a KubeVirt VM that is not its own")
    applied = _condition(vm, "Applied")
    if vm.deleting or applied.get("status") != "True" or applied["observedGeneration"] != vm.meta["generation"]:
        return
    child = world.api.get(VM, vm.key)
    if child is not None and child.owned_by(vm.meta["uid"]):
        found = _differences(vm, _applies(world, child)[-1]).keys() - {"halted"}
        if found:
            raise Violation("status truth", f"{vm.key} is said to be applied, and its {', '.join(found)} never was")


def _ready_is_earned(world: World, write: Write) -> None:
    """A VM becomes Ready when its disks are filled and its guest has come up, or is to be off; not before."""
    before, vm = write.before, write.after
    if before is None or vm is None or _condition(before, "Ready").get("status") == "True":
        return
    ready, synced = _condition(vm, "Ready"), _condition(vm, "PowerStateSynced")
    if ready.get("status") != "True" or ready["observedGeneration"] != vm.meta["generation"]:
        return
    by_hand = any(resource in (DV, PVC, NAMESPACE) for resource, _ in world.deleted)
    for disk in vm.tree["spec"].get("disks", ()) if not by_hand else ():
        volume = world.api.get(DV, disks.key(*vm.key, disk["name"]))
        if volume is not None and volume.tree.get("status", {}).get("phase") not in FILLED:
            raise Violation("status truth", f"{vm.key} becomes Ready, and there is nothing on {volume.key} yet")
    if vm.tree["spec"].get("powerState", "PoweredOn") != "PoweredOn" or synced.get("reason") in STAYS_OFF:
        return
    vmi = world.api.get(VMI, vm.key)
    ran = {e.vmi for e in world.cluster.entries if (e.namespace, e.name) == vm.key}
    if vmi is not None and vmi.meta["uid"] not in ran:
        raise Violation("status truth", f"{vm.key} becomes Ready, and its guest has never run")
    for disk in vm.tree["spec"].get("disks", ()) if not by_hand else ():
        _disk_is_there(world, vm, disk, True)


def _no_definition_goes_under_a_guest(world: World, gone: Held) -> None:
    """A running VM keeps the definition of its interfaces: without it, it could not move."""
    key = gone.key
    if (NAD, key) in world.deleted or (NAMESPACE, Key("", key.namespace)) in world.deleted:
        return
    for vmi in world.api.all(VMI):
        runs = vmi.tree["status"]["phase"] == "Running"  # one that has just been made may not have been heard of
        if vmi.key.namespace == key.namespace and key.name in _plugged(vmi) and not vmi.deleting and runs:
            raise Violation("held while in use", f"definition {key} is gone, and {vmi.key} runs with it")


def _plugged(vmi: Held) -> list[str]:
    networks = vmi.tree["spec"].get("networks", ())
    return [n.get("multus", {}).get("networkName", "").rpartition("/")[2] for n in networks]


def _no_disk_is_lost(world: World, resource: Resource, held: Held) -> None:
    """A disk goes only by hand, with its namespace, or with a VM that said so when it went or was last seen."""
    labels = held.meta.get("labels", {})
    vm, disk = labels.get(disks.VM), labels.get(disks.DISK)
    by_hand = {(DV, held.key), (PVC, held.key), (NAMESPACE, Key("", held.key.namespace))}
    if not vm or by_hand & world.deleted:
        return
    log = [c for c in world.api.changes(kinds.VIRTUAL_MACHINE) if c.held.key == Key(held.key.namespace, vm)]
    for gone in (change.held for change in log if change.type == "DELETED"):
        seen = gone.tree.get("status", {}).get("observedGeneration")
        for each in (change.held for change in log if change.held.meta["uid"] == gone.meta["uid"]):
            declared = {d["name"]: d.get("deletionPolicy") for d in each.tree["spec"].get("disks", ())}
            if each.meta["generation"] in (seen, gone.meta["generation"]) and declared.get(disk) == "Delete":
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
    labels = held.meta.get("labels", {})
    if (labels.get(disks.VM), labels.get(disks.DISK)) != (vm.key.name, disk["name"]):
        raise Violation("status truth", f"{vm.key} is Ready with {held.key}, which is not its disk")
    owned = held.owned_by(vm.meta["uid"])
    if owned is not (disk.get("deletionPolicy", "Retain") == "Delete"):
        raise Violation("status truth", f"disk {key} is {'' if owned else 'not '}to go with its VM: not as declared")
    if on and claim is not None:
        has = quantity.whole(claim.tree["status"]["capacity"]["storage"])
        if has < quantity.whole(disk["size"]):
            raise Violation("status truth", f"{vm.key} is Ready, and disk {disk['name']} has only {has} bytes")


def _status_says_all(world: World, vm: Held) -> None:
    """What the kind's status has fields for is in it."""
    spec, status = vm.tree["spec"], vm.tree.get("status", {})
    if vm.deleting:
        return
    for field in ("disks", "nics"):
        names = [[item["name"] for item in tree.get(field, ())] for tree in (spec, status)]
        if names[0] != names[1]:
            raise Violation("status truth", f"{vm.key} declares {field} {names[0]}, and its status has {names[1]}")
    if status.get("powerState") != "PoweredOn":
        return
    vmi = world.api.get(VMI, vm.key)
    assert vmi is not None
    if status.get("host") != vmi.tree["status"]["nodeName"]:
        raise Violation(
            "status truth", f"{vm.key} runs on {vmi.tree['status']['nodeName']}, and not {status.get('host')}"
        )
    has = {
        address
        for interface in vmi.tree["status"].get("interfaces", ())
        for address in interface.get("ipAddresses", ())
    }
    if has != set(status.get("addresses", ())):
        raise Violation("status truth", f"{vm.key} has addresses {has}, and not {status.get('addresses')}")
    if _condition(vm, "Applied").get("status") == "True":
        runs, said = vmi.tree["spec"]["domain"], status.get("restartRequired", False)
        asked = (spec.get("cpu", {}).get("cores"), spec.get("memory", {}).get("size"))
        if (runs.get("cpu", {}).get("cores"), runs.get("memory", {}).get("guest")) != asked and not said:
            raise Violation("status truth", f"{vm.key} does not run what is declared, and needs no restart, it says")


def _counts_are_true(world: World) -> None:
    """At rest, what a Network and a Datastore count is what there is."""
    machines = world.api.all(kinds.VIRTUAL_MACHINE)
    for network in world.api.all(kinds.NETWORK):
        if network.tree["spec"].get("allowedNamespaces", {}).get("from") == "All":
            users = [
                m for m in machines if network.key.name in {nic["network"] for nic in m.tree["spec"].get("nics", ())}
            ]
            _counts(network, "virtualMachines", len(users))
    declared = {disks.key(*m.key, disk["name"]) for m in machines for disk in m.tree["spec"].get("disks", ())}
    for datastore in world.api.all(kinds.DATASTORE):
        there = _promised(world, datastore.key.name)
        _counts(datastore, "disks", len(there))
        _counts(datastore, "retained", len(there.keys() - declared))
        said, promised = quantity.whole(datastore.tree["status"].get("provisioned", 0)), sum(there.values())
        if abs(said - promised) > ROUNDING:
            raise Violation("status truth", f"{datastore.key} has promised {promised} bytes, and counts {said}")


def _counts(held: Held, field: str, there: int) -> None:
    told = held.tree["status"].get(field, 0)
    if (told["count"] if isinstance(told, dict) else told) != there:
        raise Violation("status truth", f"{held.key} has {there} {field}, and counts {told}")


def _child_is_as_declared(world: World, vm: Held) -> None:
    """What KubeVirt is told is what the user said, where the plan does not wait for anything."""
    child, applied = world.api.get(VM, vm.key), _condition(vm, "Applied")
    off = vm.tree["spec"].get("powerState") == "PoweredOff"
    if off and child is not None and child.owned_by(vm.meta["uid"]) and child.tree["spec"]["runStrategy"] != "Halted":
        raise Violation("status truth", f"{vm.key} is declared off, and KubeVirt is not told")
    if vm.deleting or applied.get("status") != "True" or applied.get("reason") == "WriteWar":
        return
    if child is None or not child.owned_by(vm.meta["uid"]):
        raise Violation("status truth", f"{vm.key} is Applied, and there is no KubeVirt VM of ours")
    found = _differences(vm, child)
    if found.keys() - ({"halted"} if _waits_for_its_turn(world, vm) else set()):
        raise Violation("status truth", f"{vm.key} is Applied, and its KubeVirt VM has not what is declared: {found}")


def _waits_for_its_turn(world: World, vm: Held) -> bool:
    """Whether the failure of its host holds the VM off for now."""
    return any(
        machine["uid"] == vm.meta["uid"] and machine["state"] == "Held"
        for failure in world.api.all(kinds.HOST_FAILURE)
        if failure.tree.get("status", {}).get("phase") != "Completed"
        for machine in failure.tree.get("status", {}).get("machines", ())
    )


def _differences(vm: Held, child: Held) -> Mapping[str, Any]:
    """What is declared, and given to KubeVirt, where it differs."""
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
        "nodeSelector": template.get("nodeSelector") or None,
        "halted": child.tree["spec"]["runStrategy"] == "Halted",
    }
    return {field: (value, wanted[field]) for field, value in said.items() if wanted[field] != value}


def _no_orphans(world: World) -> None:
    """Nothing is left that belongs to nobody, and nothing hangs."""
    living = {held.meta["uid"] for _, held in world.api.everything()}
    for resource, held in world.api.everything():
        owners = held.meta.get("ownerReferences", ())
        if owners and not held.deleting and not any(owner["uid"] in living for owner in owners):
            raise Violation("no orphan", f"{resource.kind} {held.key} outlives its owner")
        if resource in OURS and held.deleting and held.meta.get("finalizers") and not _in_use(world, resource, held):
            raise Violation("no orphan", f"{resource.kind} {held.key} waits for nothing")
        if resource == NAD and not held.deleting:
            _is_used_and_as_declared(world, held)
        if resource == DV and not held.deleting:
            _goes_with_its_vm(world, held)
        ours = held.meta.get("labels", {}).get(MANAGED) == MANAGER
        if ours and not owners and resource not in (DV, PVC, kinds.HOST_FAILURE):
            raise Violation("no orphan", f"{resource.kind} {held.key} has no owner")


def _is_used_and_as_declared(world: World, definition: Held) -> None:
    """A definition of ours leads to the bridge of its Network, and has a VM."""
    owners = [
        o["name"] for o in definition.meta.get("ownerReferences", ()) if o["apiVersion"].startswith(ownership.GROUP)
    ]
    for network in filter(None, (world.api.get(kinds.NETWORK, Key("", name)) for name in owners)):
        if (bridge := network.tree["spec"].get("bridge")) and bridge["name"] not in definition.tree["spec"]["config"]:
            raise Violation("status truth", f"definition {definition.key} does not lead to bridge {bridge['name']}")
        machines = (vm for vm in world.api.all(kinds.VIRTUAL_MACHINE) if vm.key.namespace == definition.key.namespace)
        guests = (vmi for vmi in world.api.all(VMI) if vmi.key.namespace == definition.key.namespace)
        used = {nic["network"] for vm in machines for nic in vm.tree["spec"].get("nics", ())}
        if network.key.name not in used | {name for vmi in guests for name in _plugged(vmi)}:
            raise Violation("no orphan", f"definition {definition.key} is there, and nobody uses it")


def _goes_with_its_vm(world: World, disk: Held) -> None:
    """A disk that belonged to a VM which said so is gone when the VM is."""
    for change in world.api.changes(kinds.VIRTUAL_MACHINE):
        vm = change.held
        labels = disk.meta.get("labels", {})
        if change.type != "DELETED" or (vm.key.namespace, vm.key.name) != (disk.key.namespace, labels.get(disks.VM)):
            continue
        wanted = {d["name"] for d in vm.tree["spec"].get("disks", ()) if d.get("deletionPolicy") == "Delete"}
        before = [c.held for c in world.api.changes(DV) if c.held.meta["uid"] == disk.meta["uid"]]
        before = [held for held in before if held.version < vm.version]
        if labels.get(disks.DISK) in wanted and before and before[-1].owned_by(vm.meta["uid"]):
            raise Violation("no orphan", f"disk {disk.key} is still there, and was to go with its VM")


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
