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
from vdcos.core.foreign.multus import RESOURCE_NAME
from vdcos.core.objects import Key, Resource
from vdcos.core.plan import Ask
from vdcos.runtime.lease import LEASE as LEASE_RESOURCE
from vdcos.runtime.queue import Item
from vdcos.testing import contents, declared
from vdcos.testing.apiserver import NAMESPACE, Change, Held
from vdcos.testing.cluster import DV, PVC, VM, VMI
from vdcos.testing.contents import STAYS_OFF, asked, condition, promised
from vdcos.testing.declared import NAD
from vdcos.testing.replica import LEASE, Replica, Violation
from vdcos.testing.simulator import START, World, Write
from vdcos.testing.trees import Tree

OURS = (kinds.VIRTUAL_MACHINE, kinds.NETWORK, kinds.DATASTORE)
GROUP, MANAGED, MANAGER = ownership.GROUP, ownership.MANAGED_BY, ownership.MANAGER
RESYNCS = 10
"""Looks at everything, with time and restarts between them, that must write nothing once the world is at rest."""
LONGEST_WAIT = 1.0
"""Seconds of virtual time for which an object that is due may wait for others."""
MOST_STEPS = 6000
REPAIRS_AT_ONCE, REPAIRED_EVERY = 3, 200.0
"""How often a child may be put right, and seconds after which once more."""
REPAIRED = f"{GROUP}/repaired"
REACTION = 1.0
"""Seconds within which something follows from what has happened."""
COUNTED_EVERY = 7.0
"""Seconds more that it may take where many objects are counted: counts are written every five, says the API reference,
and those that come at once are counted once."""
LONGEST_PAUSE, REFUSED_FOR = 60.0, 300.0
"""Seconds after which is tried again what has failed (at last), and what was refused for what it says."""
LONGEST = 3600.0
"""Virtual seconds after which a world must have come to rest again."""

FILLED = ("Succeeded", "WaitForFirstConsumer", "PendingPopulation")
"""Phases of a DataVolume that has what it is to have, or will get it when its VM first runs."""


class Laws:
    """All of them. ``quiet`` remembers the states of rest that were found to stay quiet: they need no second proof."""

    def __init__(self) -> None:
        self.quiet: set[int] = set()
        self.identities: dict[tuple[Key, str], str] = {}
        """What follows from the names of VMs, in whatever world they are: addresses of NICs, UUIDs, serial numbers."""

    # Before and after every write of the operator, after every change of an object, and of a host

    def looked(self, replica: Replica, item: Item, overdue: float) -> None:
        """No object waits for another. One that does not lead, or stands still, is excused."""
        if overdue > LONGEST_WAIT and replica.elector is None and replica.paused_until < 0:
            raise Violation("no delay", f"{item.service} {item.key} waited for {overdue:.1f} s")

    def sent(self, world: World, replica: Replica) -> None:
        _only_the_leader_writes(world, replica)

    def wrote(self, world: World, write: Write) -> None:
        _users_objects_are_theirs(write)
        _what_is_not_ours_is_left_alone(world, write)
        _what_others_add_stays(write)
        _new_disks_are_as_declared(world, write)
        _reacts_in_time(world, write)
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
            contents.child_is_as_declared(world, vm, self.identities)
            contents.status_is_as_found(world, vm)
        for kind in OURS:
            for held in world.api.all(kind):
                _was_seen(held)
                contents.conditions_are_of_this_spec(held)
                contents.ready_is_the_sum(kind, held)
        for network in world.api.all(kinds.NETWORK):
            contents.network_is_as_declared(world, network)
        for datastore in world.api.all(kinds.DATASTORE):
            contents.datastore_is_as_found(world, datastore)
        contents.identities_are_unique(world)
        _no_orphans(world)
        for replica in world.replicas.values():
            if replica.remaining() > 0 and (doubts := replica.doubts()):
                raise Violation("quiet at rest", f"{replica.name} will never know what became of writes of {doubts}")
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


def _is_handed_over(world: World, resource: Resource, held: Held) -> bool:
    """A KubeVirt VM whose owner lets a VirtualMachine of its name have it, or a disk that such a VM uses and the
    VirtualMachine names."""
    if resource == VM:
        agreed = held.meta.get("annotations", {}).get("vdcos.dev/adoptable") == "true"
        return agreed and world.api.get(kinds.VIRTUAL_MACHINE, held.key) is not None
    for machine in world.api.all(kinds.VIRTUAL_MACHINE):
        child = world.api.get(VM, machine.key)
        named = any(disk.get("claimName") == held.key.name for disk in machine.tree["spec"].get("disks", ()))
        if named and machine.key.namespace == held.key.namespace and child is not None:
            return child.owned_by(machine.meta["uid"]) or _is_handed_over(world, VM, child)
    return False


def _what_is_not_ours_is_left_alone(world: World, write: Write) -> None:
    """An object of somebody else under a name that we want stays as it is."""
    if write.before is None or write.request.resource in OURS:
        return
    meta = write.before.meta
    owned = any(ref["apiVersion"].startswith(GROUP) for ref in meta.get("ownerReferences", ()))
    marked = disks.VM in meta.get("labels", {}) or meta.get("labels", {}).get(MANAGED) == MANAGER
    if not owned and not marked and not _is_handed_over(world, write.request.resource, write.before):
        raise Violation("others' objects", f"{write.request.method} of {write.request.path}, which is not ours")


def _what_others_add_stays(write: Write) -> None:
    """Finalizers, labels, annotations and owners that others have put on an object are still there after our write."""
    if write.before is None:
        return
    before, after = write.before.meta, write.after.meta if write.after is not None else {}
    for part in ("labels", "annotations") if after else ():
        theirs = {name: value for name, value in before.get(part, {}).items() if not _is_ours(name)}
        if lost := theirs.items() - after.get(part, {}).items():
            raise Violation("others' objects", f"{part} of {write.request.path} are lost: {lost}")
    finalizers = [[name for name in meta.get("finalizers", ()) if name != IN_USE] for meta in (before, after)]
    owners = [
        [each for each in meta.get("ownerReferences", ()) if not each["apiVersion"].startswith(GROUP)]
        for meta in (before, after)
    ]
    if finalizers[0] != finalizers[1] or (after and owners[0] != owners[1]):
        raise Violation("others' objects", f"{write.request.path} had {finalizers[0]}, {owners[0]}")


def _is_ours(name: str) -> bool:
    """Whether a label or annotation is one of those that we write."""
    return name.startswith(f"{GROUP}/") or name in (MANAGED, RESOURCE_NAME)


def _new_disks_are_as_declared(world: World, write: Write) -> None:
    """What a new disk is made of was declared at some time: size, source, datastore, and what becomes of it."""
    volume = write.after
    if write.request.resource != DV or write.before is not None or volume is None:
        return
    labels = volume.meta["labels"]
    where, store = Key(volume.key.namespace, labels[disks.VM]), Key("", labels[disks.DATASTORE])
    stores = [change.held for change in world.api.changes(kinds.DATASTORE) if change.held.key == store]
    for change in reversed(world.api.changes(kinds.VIRTUAL_MACHINE)):
        for disk in change.held.tree["spec"].get("disks", ()) if change.held.key == where else ():
            if (
                (disk["name"], disk["datastore"]) == (labels[disks.DISK], store.name)
                and volume.owned_by(change.held.meta["uid"]) is (disk["deletionPolicy"] == "Delete")
                and volume.meta["annotations"][disks.REQUESTED] == str(quantity.whole(disk["size"]))
                and volume.tree["spec"] == declared.data_volume(change.held, disk, stores[-1])
            ):
                return
    raise Violation("as declared", f"disk {volume.key} is made, and nobody declared one like that")


def _reacts_in_time(world: World, write: Write) -> None:
    """Nothing is written later than soon after something has happened, but what has failed, was refused, or is fought
    over: each of these waits for as long as the conditions and the guide say, and no longer."""
    service = write.request.service
    counts = write.request.resource in (kinds.NETWORK, kinds.DATASTORE)
    reaction = REACTION + COUNTED_EVERY if counts else REACTION
    due = world.stirred_at + reaction
    for (item, _), failure in world.failures.items():
        if item.service == service and failure.stands(world, item):
            growing = min(LONGEST_PAUSE, failure.at - failure.began + reaction)
            due = max(due, failure.at + (REFUSED_FOR if failure.refused else growing) + reaction)
    if world.now <= due or world.cluster.lively or any(REPAIRED in _annotations(child) for child in world.api.all(VM)):
        return
    raise Violation("reaction", f"{write.request.method} {write.request.path} comes {world.now - due:.1f} s too late")


def _annotations(held: Held) -> Mapping[str, str]:
    found: Mapping[str, str] = held.meta.get("annotations", {})
    return found


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
    if write.before is not None and asked(write.before) >= asked(held):
        return
    total, capacity = sum(promised(world, str(name)).values()), quantity.whole(datastore.tree["spec"]["capacity"])
    if total > capacity:
        raise Violation("ceiling", f"Datastore {name} has {capacity} bytes, and {total} are promised")


def _what_is_said_is_of_this_vm(world: World, write: Write) -> None:
    """A status is about the object that it is stored with, and about the spec that it says it is about."""
    vm = write.after
    if vm is None:
        return
    told = vm.tree.get("status", {}).get("virtualMachine", {}).get("uid")
    known = [change.held for change in world.api.changes(VM) if change.held.meta["uid"] == told] if told else []
    if known and not any(held.owned_by(vm.meta["uid"]) for held in known):
        # One that was taken over was not its own before.
        raise Violation("status truth", f"{vm.key} is said to have a KubeVirt VM that is not its own")
    applied = condition(vm, "Applied")
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
    if before is None or vm is None or condition(before, "Ready").get("status") == "True":
        return
    ready, synced = condition(vm, "Ready"), condition(vm, "PowerStateSynced")
    if ready.get("status") != "True" or ready["observedGeneration"] != vm.meta["generation"]:
        return
    by_hand = any(resource in (DV, PVC, NAMESPACE) for resource, _ in world.deleted)
    for disk in vm.tree["spec"].get("disks", ()) if not by_hand else ():
        volume = world.api.get(DV, contents.disk_key(vm, disk))
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
    """A disk goes only by hand, with its namespace, or with a VM that said so when it was last seen, or since."""
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
            if each.meta["generation"] >= (seen or 0) and declared.get(disk) == "Delete":
                return
    raise Violation("no lost disk", f"{resource.kind} {held.key} was deleted, and nobody said so")


def _nothing_goes_that_is_known_to_be_used(world: World, resource: Resource, held: Held) -> None:
    """A Network of VMs that were told that it is ready, and a Datastore that has counted its disks, wait for them."""
    if resource == kinds.DATASTORE and held.tree.get("status", {}).get("disks") and _in_use(world, resource, held):
        raise Violation("held while in use", f"Datastore {held.key} is gone, and has disks")
    for vm in world.api.all(kinds.VIRTUAL_MACHINE) if resource == kinds.NETWORK else ():
        nics = {nic["network"] for nic in vm.tree["spec"].get("nics", ())}
        seen = vm.tree.get("status", {}).get("observedGeneration") == vm.meta["generation"]
        if held.key.name in nics and seen and condition(vm, "NetworkReady").get("status") == "True":
            raise Violation("held while in use", f"Network {held.key} is gone, and {vm.key} uses it")


def _was_seen(held: Held) -> None:
    """At rest, what is said is said of what is declared."""
    status = held.tree.get("status", {})
    if status.get("observedGeneration") != held.meta["generation"]:
        raise Violation("status truth", f"{held.key} is at generation {held.meta['generation']}, its status is not")
    if not condition(held, "Ready"):
        raise Violation("status truth", f"{held.key} has no Ready")


def _status_is_true(world: World, vm: Held) -> None:
    """Ready and powerState say what is so on the hosts and in storage."""
    if vm.deleting:
        return
    spec, status = vm.tree["spec"], vm.tree.get("status", {})
    ready = condition(vm, "Ready")
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
    if (said == "Paused") is not (not runs and any(host.writing for host, _ in processes)):
        raise Violation(
            "status truth",
            f"{vm.key} is said to be {said}, and its guest is {'not ' if said == 'Paused' else ''}paused",
        )
    if ready.get("status") != "True":
        return
    on, synced = spec.get("powerState", "PoweredOn") == "PoweredOn", condition(vm, "PowerStateSynced")
    if on is not bool(processes) and synced.get("reason") not in STAYS_OFF:
        raise Violation("status truth", f"{vm.key} is Ready, declared {'on' if on else 'off'}, and it is the other")
    for disk in spec.get("disks", ()):
        _disk_is_there(world, vm, disk, on)


def _disk_is_there(world: World, vm: Held, disk: Tree, on: bool) -> None:
    key = contents.disk_key(vm, disk)
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
        "nodeSelector": spec.get("placement", {}).get("nodeSelector") or None,
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
        if resource in OURS and held.deleting and _holds(held) and not _in_use(world, resource, held):
            raise Violation("no orphan", f"{resource.kind} {held.key} waits for nothing")
        if resource == NAD and not held.deleting:
            _is_used(world, held)
        if resource == DV and not held.deleting:
            _goes_with_its_vm(world, held)
        ours = held.meta.get("labels", {}).get(MANAGED) == MANAGER
        if ours and not owners and resource not in (DV, PVC, kinds.HOST_FAILURE):
            raise Violation("no orphan", f"{resource.kind} {held.key} has no owner")


def _holds(held: Held) -> bool:
    """Whether it is we who hold up the end of an object."""
    return IN_USE in held.meta.get("finalizers", ())


def _is_used(world: World, definition: Held) -> None:
    """A definition of ours has a VM."""
    owners = {o["name"] for o in definition.meta.get("ownerReferences", ()) if o["apiVersion"].startswith(GROUP)}
    machines = (vm for vm in world.api.all(kinds.VIRTUAL_MACHINE) if vm.key.namespace == definition.key.namespace)
    guests = (vmi for vmi in world.api.all(VMI) if vmi.key.namespace == definition.key.namespace)
    used = {nic["network"] for vm in machines for nic in vm.tree["spec"].get("nics", ())}
    if unused := owners - used - {name for vmi in guests for name in _plugged(vmi)}:
        raise Violation("no orphan", f"definition {definition.key} of {', '.join(unused)} is used by nobody")


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
        f"{GROUP}/repaired", f"{GROUP}/grown-under", f"{GROUP}/changed",
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
