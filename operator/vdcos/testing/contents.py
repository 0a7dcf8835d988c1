"""The laws about contents, at rest: what is there is what is declared, and what is said is what is there.

What a user declares says what there has to be (``declared``). What a status says is compared with what the API server
holds and what the hosts do, field by field, and never with what the operator wrote elsewhere.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from vdcos.core import disks, kinds, ownership, quantity
from vdcos.core.foreign.cdi import StorageProfile
from vdcos.core.foreign.kubevirt import (
    ClusterInstancetype,
    ClusterPreference,
    Instancetype,
    KubeVirt,
    Preference,
)
from vdcos.core.foreign.multus import RESOURCE_NAME
from vdcos.core.foreign.nmstate import NodeNetworkConfigurationPolicy
from vdcos.core.foreign.snapshots import VolumeSnapshotClass
from vdcos.core.objects import Key, Resource
from vdcos.testing import declared
from vdcos.testing.apiserver import NAMESPACE, Held
from vdcos.testing.cluster import CLASS, CONFIG_MAP, DV, POD, PVC, SECRET, VM, VMI, mounts
from vdcos.testing.declared import NAD, admits, kind_of
from vdcos.testing.replica import Violation
from vdcos.testing.simulator import World
from vdcos.testing.trees import Tree

MANAGED = {ownership.MANAGED_BY: ownership.MANAGER}
POLICY = NodeNetworkConfigurationPolicy.resource
FINAL = ("Succeeded", "Failed")
STAYS_OFF = ("GuestShutdown", "StopRequested", "StayedOff")
"""Reasons for which a VM that is declared on is off, as declared."""
UNBOUND = "unbound immediate PersistentVolumeClaims"
"""What the scheduler says of a pod whose claim is on its way."""
NEEDED = {
    kinds.VIRTUAL_MACHINE: (
        "StorageReady", "NetworkReady", "HardwareReady", "CustomizationReady", "Applied", "PowerStateSynced",
        "PlacementReady",
    ),
    kinds.NETWORK: ("ProviderReady", "HostsReady", "UplinkReady"),
    kinds.DATASTORE: ("StorageClassReady", "ModesKnown"),
}  # fmt: skip
"""What Ready is made of, as the guide has it."""
FOLLOWS = ("nodeSelector", "affinity", "tolerations")
"""What KubeVirt changes of a running VM without a word."""
MATCHED = tuple(kind.resource for kind in (ClusterInstancetype, Instancetype, ClusterPreference, Preference))
NAMED = 10
"""How many names a status holds."""


def condition(held: Held, kind: str) -> Mapping[str, Any]:
    found = held.tree.get("status", {}).get("conditions") or ()
    return next((c for c in found if c["type"] == kind), {})


def _says(held: Held, kind: str) -> str:
    return str(condition(held, kind).get("status", ""))


def conditions_are_of_this_spec(held: Held) -> None:
    """Every condition is about the generation that is there."""
    for each in held.tree.get("status", {}).get("conditions", ()):
        if each.get("observedGeneration") != held.meta["generation"]:
            raise Violation("status truth", f"{each['type']} of {held.key} is not about generation "
                            f"{held.meta['generation']}")  # fmt: skip


def ready_is_the_sum(resource: Resource, held: Held) -> None:
    """An object is Ready when all is in order that its kind needs, and not else."""
    whole = all(_says(held, kind) == "True" for kind in NEEDED[resource]) and not condition(held, "Stalled")
    if (_says(held, "Ready") == "True") is not whole:
        raise Violation("status truth", f"{resource.kind} {held.key} is {'' if whole else 'not '}in order, and says "
                        f"Ready={_says(held, 'Ready')}")  # fmt: skip


def _expect(name: object, what: str, wanted: Any, said: Any, law: str = "status truth") -> None:
    if wanted != said:
        how = f"is to be {wanted!r}, and is" if law == "as declared" else f"is {wanted!r}, and not"
        raise Violation(law, f"{name}: {what} {how} {said!r}")


# KubeVirt VMs


def child_is_as_declared(world: World, vm: Held, known: dict[tuple[Key, str], str]) -> None:
    """KubeVirt is told what the user said, all of it and nothing else, unless the plan says that it waits.

    ``known`` remembers what nobody declares and must never change: it follows from names.
    """
    child = _child(world, vm)
    off = vm.tree["spec"]["powerState"] == "PoweredOff"
    if child is not None and off:
        _expect(vm.key, "its run strategy", "Halted", child.tree["spec"]["runStrategy"], "as declared")
    if vm.deleting or _says(vm, "Applied") != "True":
        return
    if child is None:
        raise Violation("as declared", f"{vm.key} is Applied, and there is no KubeVirt VM of its own")
    strategy = {"Restart": "Always", "StayOff": "RerunOnFailure"}[vm.tree["spec"]["onGuestShutdown"]]
    if not off and not (child.tree["spec"]["runStrategy"] == "Halted" and _may_be_halted(world, vm)):
        _expect(vm.key, "its run strategy", strategy, child.tree["spec"]["runStrategy"], "as declared")
    wanted, has = declared.virtual_machine(world, vm), declared.as_kubevirt_has_it(vm, child.tree["spec"])
    if wanted != has:
        raise Violation("as declared", f"KubeVirt VM {vm.key}: {'; '.join(differences(wanted, has))}")
    _is_marked_as_ours(kinds.VIRTUAL_MACHINE, vm, child, {disks.VM: vm.key.name})
    _leaving_cards_are_there(world, vm, child)
    for what, value in declared.identities(vm, child.tree["spec"]).items():
        _expect(vm.key, what, known.setdefault((vm.key, what), value), value, "as declared")
        if what.startswith("MAC") and int(value[:2], 16) & 3 != 2:
            raise Violation("as declared", f"{what} of {vm.key}, {value}, is not one of those that anybody may use")


def identities_are_unique(world: World) -> None:
    """No two NICs have one address, and no two VMs one UUID or serial number, where nobody declares it."""
    taken: dict[str, str] = {}
    for vm in world.api.all(kinds.VIRTUAL_MACHINE):
        child = _child(world, vm)
        for what, value in declared.identities(vm, child.tree["spec"]).items() if child is not None else ():
            if value in taken:
                raise Violation("as declared", f"{what} of {vm.key}, {value}, is {taken[value]}, too")
            taken[value] = f"{what} of {vm.key}"


def _child(world: World, vm: Held) -> Held | None:
    """The KubeVirt VM that is a VirtualMachine's own."""
    child = world.api.get(VM, vm.key)
    return child if child is not None and child.owned_by(vm.meta["uid"]) else None


def _instance(world: World, vm: Held) -> Held | None:
    """The instance of a VM that runs, starts, or is being stopped."""
    child, vmi = _child(world, vm), world.api.get(VMI, vm.key)
    ours = child is not None and vmi is not None and vmi.owned_by(child.meta["uid"])
    return vmi if vmi is not None and ours and vmi.tree["status"]["phase"] not in FINAL else None


def _may_be_halted(world: World, vm: Held) -> bool:
    """Whether a VM that is to run may be off for now: its host has failed and it is not its turn, it waits for failover
    capacity, or what was before is to end first, and does not because its host is silent."""
    vmi = world.api.get(VMI, vm.key)
    return is_held(world, vm) or "waitsFor" in vm.tree["status"] or (vmi is not None and vmi.deleting)


def is_held(world: World, vm: Held) -> bool:
    """Whether the failure of its host holds a VM off for now."""
    return any(
        machine["uid"] == vm.meta["uid"] and machine["state"] == "Held"
        for failure in world.api.all(kinds.HOST_FAILURE)
        if failure.tree.get("status", {}).get("phase") != "Completed"
        for machine in failure.tree.get("status", {}).get("machines", ())
    )


def _is_marked_as_ours(resource: Resource, owner: Held, child: Held, labels: Mapping[str, str]) -> None:
    """A child is known by its labels, and goes with its owner."""
    name = f"{owner.key}'s {child.tree['kind']}"
    missing = {**MANAGED, **labels}.items() - child.meta.get("labels", {}).items()
    _expect(name, "what its labels lack", set(), missing, "as declared")
    reference = {
        "apiVersion": resource.api_version, "kind": resource.kind, "name": owner.key.name, "uid": owner.meta["uid"],
        "controller": True, "blockOwnerDeletion": False,
    }  # fmt: skip
    controlling = [each for each in child.meta.get("ownerReferences", ()) if each.get("controller")]
    _expect(name, "its owner", [reference], controlling, "as declared")


def _leaving_cards_are_there(world: World, vm: Held, child: Held) -> None:
    """A card that is to be unplugged is one that the running VM has, and nobody declares."""
    vmi, names = _instance(world, vm), {nic["name"] for nic in vm.tree["spec"].get("nics", ())}
    has = _cards(vmi.tree["spec"]) if vmi is not None else {}
    for name, card in _cards(child.tree["spec"]["template"]["spec"]).items():
        if card.get("state") == "absent" and (name in names or name not in has):
            raise Violation("as declared", f"KubeVirt VM {vm.key} is to lose {name}, and nobody said so")


def _cards(template: Tree) -> dict[str, Tree]:
    return {card["name"]: card for card in template["domain"]["devices"].get("interfaces", ())}


def differences(wanted: Any, has: Any, path: str = "") -> Iterator[str]:
    """Where two trees differ, for people."""
    if isinstance(wanted, dict) and isinstance(has, dict):
        for name in sorted(wanted.keys() | has.keys()):
            yield from differences(wanted.get(name), has.get(name), f"{path}.{name}" if path else name)
    elif wanted != has:
        yield f"{path} is {has!r}, and not {wanted!r}"


# What a VirtualMachine says


def status_is_as_found(world: World, vm: Held) -> None:
    """Every field of the status, by what KubeVirt, CDI and the storage say."""
    if vm.deleting:
        return
    spec, status = vm.tree["spec"], vm.tree.get("status", {})
    for field in ("disks", "nics"):
        names, said = ([item["name"] for item in tree.get(field, ())] for tree in (spec, status))
        _expect(vm.key, f"its {field}", names, said)
    child, vmi = _child(world, vm), _instance(world, vm)
    guest = vmi if vmi is not None and _is_up(vmi) else None
    found: Tree = guest.tree["status"] if guest is not None else {}
    cards = {card["name"]: card for card in found.get("interfaces", ())}
    mine = child is not None and not child.deleting
    applied = {"uid": child.meta["uid"], "generation": child.meta["generation"]} if child and mine else None
    _expect(vm.key, "its KubeVirt VM", applied, status.get("virtualMachine"))
    _expect(vm.key, "its host", found.get("nodeName", ""), status.get("host", ""))
    by_card = [_addresses(cards[name]) for name in sorted(cards)]
    _expect(vm.key, "its addresses", [a for addresses in by_card for a in addresses], status.get("addresses", []))
    _expect(vm.key, "its guest OS", found.get("guestOSInfo", {}).get("prettyName", ""), status.get("guestOs", ""))
    nics = [_without_empty(nic) for nic in status.get("nics", ())]
    _expect(vm.key, "its NICs", [_nic(nic["name"], cards.get(nic["name"])) for nic in spec.get("nics", ())], nics)
    _agents_are_as_found(vm, guest)
    _power_is_as_said(vm, vmi)
    _starts_are_as_found(world, vm, vmi)
    _restart_is_as_needed(world, vm, child, vmi)
    _expect(vm.key, "StorageReady", _disks_are_as_said(world, vm), _says(vm, "StorageReady") == "True")
    _expect(vm.key, "NetworkReady", _networks_are_there(world, vm, child), _says(vm, "NetworkReady") == "True")
    _expect(vm.key, "HardwareReady", _hardware_is_there(world, vm), _says(vm, "HardwareReady") == "True")


def _is_up(vmi: Held) -> bool:
    """Whether the guest has come up, as far as anybody knows."""
    return vmi.tree["status"]["phase"] == "Running" and condition(vmi, "Ready").get("reason") != "GuestNotRunning"


def _addresses(card: Tree) -> list[str]:
    """Those that lead anywhere, in order."""
    found = sorted(set(card.get("ipAddresses", ())))
    return [a for a in found if not (ip := ipaddress.ip_address(a)).is_link_local and not ip.is_loopback]


def _nic(name: str, card: Tree | None) -> Tree:
    if card is None:
        return {"name": name}
    link = {"": "", "down": "Down"}.get(card.get("linkState", ""), "Up")
    said = {"name": name, "macAddress": card.get("mac", "").lower(), "addresses": _addresses(card), "linkState": link}
    return _without_empty(said)


def _without_empty(tree: Tree) -> Tree:
    return {name: value for name, value in tree.items() if value not in ("", [], None, False, 0)}


def _agents_are_as_found(vm: Held, guest: Held | None) -> None:
    """What the guest's agent and KubeVirt say of a guest that is up."""
    agent = guest is not None and condition(guest, "AgentConnected").get("status") == "True"
    _expect(vm.key, "GuestAgentConnected", "True" if agent else "False", _says(vm, "GuestAgentConnected"))
    movable = condition(guest, "LiveMigratable").get("status") if guest is not None else None
    _expect(vm.key, "Migratable", movable or "Unknown", _says(vm, "Migratable"))


def _power_is_as_said(vm: Held, vmi: Held | None) -> None:
    """Whether it runs or not as declared, or stays off as declared."""
    spec, says = vm.tree["spec"], vm.tree["status"].get("powerState")
    if spec["powerState"] == "PoweredOff":
        synced = vmi is None
    else:
        rests = spec["onGuestShutdown"] == "StayOff" and vmi is None and says == "PoweredOff"
        grown = says == "PoweredOn" and "waitsFor" not in vm.tree["status"]
        synced = grown or (rests and condition(vm, "PowerStateSynced").get("reason") in STAYS_OFF)
    _expect(vm.key, "PowerStateSynced", synced, _says(vm, "PowerStateSynced") == "True")


def _starts_are_as_found(world: World, vm: Held, vmi: Held | None) -> None:
    """Why a VM does not start: the scheduler finds no host, or its pod lacks what the guest is to be given."""
    scheduled = condition(vmi, "PodScheduled") if vmi is not None else {}
    homeless = scheduled.get("status") == "False" and UNBOUND not in scheduled.get("message", "")
    _expect(vm.key, "whether a host is missing", homeless, _says(vm, "PlacementReady") == "False")
    lacks = False
    if vmi is not None and vmi.tree["status"]["phase"] == "Scheduling" and not vmi.deleting:
        pods = [pod for pod in world.api.all(POD) if pod.owned_by(vmi.meta["uid"])]
        hosts = [world.cluster.hosts.get(pod.tree["spec"].get("nodeName", "")) for pod in pods]
        named = [(SECRET if kind == "secret" else CONFIG_MAP, name) for kind, _, name in mounts(vmi)]
        missing = [name for kind, name in named if world.api.get(kind, Key(vm.key.namespace, name)) is None]
        lacks = bool(missing) and any(host is not None and host.writing for host in hosts)
    _expect(vm.key, "whether something for the guest is missing", lacks, _says(vm, "CustomizationReady") == "False")


def _restart_is_as_needed(world: World, vm: Held, child: Held | None, vmi: Held | None) -> None:
    """A restart is called for when the running VM is not what KubeVirt is told, or does not see how a disk has grown;
    placement follows by itself."""
    said = vm.tree.get("status", {}).get("restartRequired", False)
    _expect(vm.key, "RestartRequired", "True" if said else "False", _says(vm, "RestartRequired"))
    if child is None or vmi is None or child.deleting:
        _expect(vm.key, "a restart", False, said)
        return
    differs = list(_what_waits(child.tree["spec"]["template"]["spec"], vmi.tree["spec"]))
    differs += [disk["name"] for disk in vm.tree["spec"].get("disks", ()) if _has_grown_since(world, vm, disk, vmi)]
    if said is not bool(differs) and (said or _is_up(vmi)):
        verdict = "needs a" if said else "needs no"
        raise Violation("status truth", f"{vm.key} {verdict} restart, it says, and what waits for one is {differs}")


def _what_waits(template: Tree, runs: Tree) -> Iterator[str]:
    if template is runs:
        return
    for field in template.keys() | runs.keys():
        if field not in FOLLOWS and template.get(field) != runs.get(field):
            yield field


def disk_key(vm: Held, disk: Tree) -> Key:
    """Where a disk is: under a name of its own, or the claim that it is declared to be."""
    return Key(vm.key.namespace, disk.get("claimName") or disks.name(vm.key.name, disk["name"]))


def _has_grown_since(world: World, vm: Held, disk: Tree, vmi: Held) -> bool:
    """Whether a disk asks for more than it did when the instance was made."""
    key = disk_key(vm, disk)
    sizes: list[str] = []
    born = next(c.held.version for c in world.api.changes(VMI) if c.held.meta["uid"] == vmi.meta["uid"])
    for change in world.api.changes(PVC):
        if change.held.key == key:
            size = change.held.tree["spec"]["resources"]["requests"]["storage"]
            sizes = [size] if change.held.version < born or not sizes else [*sizes, size]
    return len(set(map(quantity.whole, sizes))) > 1


def _disks_are_as_said(world: World, vm: Held) -> bool:
    """Each disk of a status is as it is. Returns whether all are in order for what is declared."""
    spec, said = vm.tree["spec"], {d["name"]: d for d in vm.tree.get("status", {}).get("disks", ())}
    off, well = spec["powerState"] == "PoweredOff", True
    for disk in spec.get("disks", ()):
        tells, where = said[disk["name"]], f"disk {disk['name']} of {vm.key}"
        held, waits, fits = _disk(world, vm, disk)
        in_order = tells["phase"] == "Ready" and not tells.get("reason")
        _expect(where, "whether it is in order", fits, in_order)
        claim = world.api.get(PVC, held.key) if held is not None else None
        if claim is not None and claim.tree["status"]["phase"] == "Bound" and "size" in tells:
            has = claim.tree["status"]["capacity"]["storage"]
            _expect(where, "its size", quantity.whole(has), quantity.whole(tells["size"]))
        if in_order or waits:
            assert held is not None
            _expect(where, "its claim", held.key.name, tells.get("claimName"))
            older = held.meta["creationTimestamp"] < vm.meta["creationTimestamp"] and "claimName" not in disk
            _expect(where, "whether it is used again", older, tells.get("reused", False))
        if in_order and not tells.get("made"):
            raise Violation("status truth", f"{where} is Ready, and was never made, it says")
        well = well and (fits or (waits and off))
    return well


def _disk(world: World, vm: Held, disk: Tree) -> tuple[Held | None, bool, bool]:
    """What there is of a disk, whether it waits for the first power-on, and whether it is just what is declared."""
    name = declared.claim_of(world, vm.key.namespace, vm.key.name, disk["name"])
    key = Key(vm.key.namespace, name)
    claim, volume = world.api.get(PVC, key), world.api.get(DV, key)
    held = volume or claim
    if held is None or any(each is not None and each.deleting for each in (claim, volume)):
        return None, False, False
    phase = volume.tree.get("status", {}).get("phase", "") if volume is not None else "Succeeded"
    owners = [o["uid"] for o in held.meta.get("ownerReferences", ()) if o["kind"] == kinds.VIRTUAL_MACHINE.kind]
    right = owners == ([vm.meta["uid"]] if disk["deletionPolicy"] == "Delete" else [])
    right = right and held.meta["labels"].get(disks.DATASTORE) == disk["datastore"]
    waits = right and phase in ("WaitForFirstConsumer", "PendingPopulation")
    if claim is None or phase != "Succeeded" or claim.tree["status"]["phase"] != "Bound" or not right:
        return held, waits, False
    asks = claim.tree["spec"]["resources"]["requests"]["storage"]
    has = claim.tree["status"]["capacity"]["storage"]
    return held, waits, quantity.whole(asks) == quantity.whole(has) == quantity.whole(disk["size"])


def _networks_are_there(world: World, vm: Held, child: Held | None) -> bool:
    """Whether every NIC has a Network that its namespace may use, and that is there."""
    plugged = _cards(child.tree["spec"]["template"]["spec"]) if child is not None else {}
    on_pods, nics = 0, vm.tree["spec"].get("nics", ())
    for nic in nics:
        network = world.api.get(kinds.NETWORK, Key("", nic["network"]))
        if network is None or not admits(world, network, vm.key.namespace):
            return False
        if network.deleting and nic["name"] not in plugged:
            return False
        definition = declared.definition_of(world, network, vm.key.namespace)
        if kind_of(network) != "pod" and (definition is None or definition.deleting):
            return False
        on_pods += kind_of(network) == "pod"
    return on_pods <= 1


def _hardware_is_there(world: World, vm: Held) -> bool:
    """Whether instance type and preference exist, and devices are permitted, by KubeVirt and to the namespace, and
    taints to the namespace."""
    spec = vm.tree["spec"]
    for named in (spec.get("instancetype"), spec.get("preference")):
        kind = next((k for k in MATCHED if named is not None and k.kind == named["kind"]), None)
        where = Key(vm.key.namespace if kind is not None and kind.namespaced else "", named["name"]) if named else None
        if kind is not None and where is not None and world.api.get(kind, where) is None:
            return False
    namespace = world.api.get(NAMESPACE, Key("", vm.key.namespace))
    annotations = namespace.meta.get("annotations", {}) if namespace is not None else {}
    allowed = set(annotations.get(f"{ownership.GROUP}/allowed-devices", "").split(","))
    configured = [each.tree["spec"].get("configuration", {}) for each in world.api.all(KubeVirt.resource)]
    permitted = {
        device["resourceName"]
        for each in configured
        for device in each.get("permittedHostDevices", {}).get("pciHostDevices", ())
    }
    tolerated = {each["key"] for each in spec.get("placement", {}).get("tolerations", ())}
    taints = set(annotations.get(f"{ownership.GROUP}/allowed-taints", "").split(","))
    return tolerated <= taints and {device["resourceName"] for device in spec.get("devices", ())} <= allowed & permitted


# Networks


def network_is_as_declared(world: World, network: Held) -> None:
    """Definitions are in all namespaces whose VMs use the Network, and say what it says; so does the hosts' policy. And
    what it says of itself is so."""
    kind = kind_of(network)
    users = [
        vm.key
        for vm in world.api.all(kinds.VIRTUAL_MACHINE)
        if network.key.name in {nic["network"] for nic in vm.tree["spec"].get("nics", ())}
        and admits(world, network, vm.key.namespace)
    ]
    served = sorted({user.namespace for user in users})
    attached = _definitions_are_as_declared(world, network, served) if kind != "pod" else served
    resource = declared.resource(world, network)
    open_ = {held.key.name for held in world.api.all(NAMESPACE) if not held.deleting}
    parts = {
        "ProviderReady": kind != "plugin",
        "HostsReady": not resource or resource in declared.offers(world),
        "UplinkReady": _uplink_is_there(world, network),
        "AttachmentsReady": open_ & set(served) <= set(attached),
    }
    for what, is_so in parts.items():
        _expect(f"Network {network.key}", what, is_so, _says(network, what) == "True")
    _old_settings_are_told(world, network)
    status = network.tree["status"]
    _expect(network.key, "its provider", kind, status["provider"])
    _expect(network.key, "its VMs", _usage(map(str, sorted(users))), _without_empty(status["virtualMachines"]))
    _expect(network.key, "its namespaces", _usage(attached), _without_empty(status["namespaces"]))


def _old_settings_are_told(world: World, network: Held) -> None:
    """VMs that run with what a definition said before are told of; and nobody is where none runs on the Network."""
    guests, behind = 0, []
    for vmi in world.api.all(VMI):
        plugs = [source.get("multus", {}).get("networkName") for source in vmi.tree["spec"].get("networks", ())]
        definition = world.api.get(NAD, Key(vmi.key.namespace, network.key.name))
        if definition is None or not definition.owned_by(network.meta["uid"]) or str(definition.key) not in plugs:
            continue
        guests += 1
        # What a pod is plugged into is decided when it starts; a migration brings another one.
        pods = [change.held for change in world.api.changes(POD) if change.held.owned_by(vmi.meta["uid"])]
        if not pods:
            continue
        born = next(pod.version for pod in pods if pod.meta["uid"] == pods[-1].meta["uid"])
        log = [change.held for change in world.api.changes(NAD) if change.held.key == definition.key]
        config = [held.tree["spec"]["config"] for held in log if held.version < born]
        if config and config[-1] != definition.tree["spec"]["config"] and vmi.tree["status"]["phase"] == "Running":
            behind.append(str(vmi.key))
    told = _says(network, "SettingsInEffect") == "False"
    if (behind and not told) or (told and not guests):
        what = f"{', '.join(behind) or 'nobody'} with settings of before"
        raise Violation("status truth", f"on Network {network.key} runs {what}, and SettingsInEffect is {not told}")


def _usage(names: Iterable[str]) -> Tree:
    """How many, and the first ten by name."""
    found = list(names)
    return _without_empty({"count": len(found), "names": found[:NAMED]})


def _definitions_are_as_declared(world: World, network: Held, served: Sequence[str]) -> list[str]:
    """Returns the namespaces that have one."""
    attached, resource = [], declared.resource(world, network)
    for held in world.api.all(NAD):
        space = held.key.namespace
        if not held.owned_by(network.meta["uid"]):
            continue
        attached.append(space)
        if space not in served:
            continue
        name = f"definition {held.key}"
        config = declared.definition(network, space)
        _expect(name, "what it says", config, msgspec.json.decode(held.tree["spec"]["config"]), "as declared")
        _expect(name, "its resource", resource, held.meta["annotations"].get(RESOURCE_NAME, ""), "as declared")
        _is_marked_as_ours(kinds.NETWORK, network, held, {f"{ownership.GROUP}/network": network.key.name})
    for space in set(served) - set(attached):
        namespace, there = world.api.get(NAMESPACE, Key("", space)), world.api.get(NAD, Key(space, network.key.name))
        if namespace is not None and not namespace.deleting and there is None:
            raise Violation("as declared", f"Network {network.key} is used in {space}, and not defined there")
    return sorted(attached)


def _uplink_is_there(world: World, network: Held) -> bool:
    """The policy of a Network leads its bridge outside as declared. Returns whether hosts have carried it out."""
    policy = world.api.get(POLICY, Key("", f"vdcos-{network.key.name}"))
    ours = policy is not None and policy.owned_by(network.meta["uid"])
    uplink = network.tree["spec"].get("uplink")
    if uplink is None:
        if ours:
            raise Violation("as declared", f"Network {network.key} has no uplink, and a policy for one")
        return True
    if policy is None or not ours:
        return False
    bridge = uplink.get("bridge") or network.tree["spec"][kind_of(network)]["name"]
    by_name = {each["name"]: each for each in policy.tree["spec"]["desiredState"]["interfaces"]}
    ports = {port["name"] for port in by_name[bridge]["bridge"]["port"]}
    bonded = {card for port in ports for card in by_name.get(port, {}).get("link-aggregation", {}).get("port", ())}
    _expect(policy.key, "the way outside", set(uplink["interfaces"]), bonded or ports, "as declared")
    selector = policy.tree["spec"].get("nodeSelector", {})
    _expect(policy.key, "its hosts", uplink.get("nodeSelector", {}), selector, "as declared")
    return _says(policy, "Available") == "True" and "True" not in (_says(policy, "Degraded"), _says(policy, "Ignored"))


# Datastores


def datastore_is_as_found(world: World, datastore: Held) -> None:
    """What a Datastore says is what its storage class, CDI and its disks are."""
    spec, status = datastore.tree["spec"], datastore.tree["status"]
    name = spec["storageClassName"]
    storage, profile = world.api.get(CLASS, Key("", name)), world.api.get(StorageProfile.resource, Key("", name))
    offered = profile.tree.get("status", {}).get("claimPropertySets", ()) if profile is not None else ()
    volume_mode, access_mode = _claimed_as(spec, offered)
    there = promised(world, datastore.key.name)
    total = sum(there.values())
    full = "capacity" in spec and total >= quantity.whole(spec["capacity"])
    parts = {
        "StorageClassReady": storage is not None,
        "ModesKnown": bool(access_mode),
        "AcceptsDisks": not datastore.deleting and not spec["maintenance"] and not full,
    }
    for what, is_so in parts.items():
        _expect(f"Datastore {datastore.key}", what, is_so, _says(datastore, what) == "True")
    if storage is None:
        _expect(datastore.key, "what it can do", None, status.get("capabilities"))
    else:
        snapshots = [each.tree["driver"] for each in world.api.all(VolumeSnapshotClass.resource)]
        can = {
            "snapshots": storage.tree["provisioner"] in snapshots,
            "expansion": storage.tree.get("allowVolumeExpansion", False),
            "liveMigration": access_mode == "ReadWriteMany",
            "volumeMode": volume_mode,
            "accessMode": access_mode,
        }
        _expect(datastore.key, "what it can do", _without_empty(can), _without_empty(status.get("capabilities", {})))
    machines = world.api.all(kinds.VIRTUAL_MACHINE)
    used = {disk_key(vm, disk) for vm in machines for disk in vm.tree["spec"].get("disks", ())}
    retained, tenants = sorted(there.keys() - used), sorted({key.namespace for key in there})
    _expect(datastore.key, "its disks", len(there), status["disks"])
    _expect(datastore.key, "its tenants", _usage(tenants), _without_empty(status["tenants"]))
    _expect(datastore.key, "what is retained", _usage(map(str, retained)), _without_empty(status["retained"]))
    if not total <= quantity.whole(status["provisioned"]) <= total + ROUNDING:
        raise Violation(
            "status truth", f"{datastore.key} has promised {total} bytes, and counts {status['provisioned']}"
        )


ROUNDING = 1 << 27
"""Bytes by which an account for people may be more than what is promised."""


def _claimed_as(spec: Tree, offered: Sequence[Tree]) -> tuple[str, str]:
    """Volume mode and access mode of a new disk by CDI's rules; "" where nobody says."""
    volume_mode, access_mode = spec.get("volumeMode"), spec.get("accessMode")
    if access_mode:
        fitting = (each["volumeMode"] for each in offered if access_mode in each["accessModes"])
        return volume_mode or next(fitting, "Filesystem"), access_mode
    chosen = next((e for e in offered if volume_mode in (None, e["volumeMode"])), None)
    if chosen is None or not chosen["accessModes"]:
        return volume_mode or "", ""
    modes = chosen["accessModes"]
    return chosen["volumeMode"], "ReadWriteMany" if "ReadWriteMany" in modes else modes[0]


def promised(world: World, datastore: str) -> dict[Key, int]:
    """What the disks of a datastore were promised. Claims without a name of ours are CDI's passing ones, and those of a
    DataVolume that is gone are going."""
    found: dict[Key, int] = {}
    for held in (*world.api.all(DV), *world.api.all(PVC)):
        labels = held.meta.get("labels", {})
        brought = held.meta.get("annotations", {}).get(disks.CLAIM)
        ours = held.key.name in (brought, disks.name(labels.get(disks.VM, ""), labels.get(disks.DISK, "")))
        volumes = [owner["name"] for owner in held.meta.get("ownerReferences", ()) if owner["kind"] == DV.kind]
        going = volumes and world.api.get(DV, Key(held.key.namespace, volumes[0])) is None
        if ours and labels.get(disks.DATASTORE) == datastore and not going:
            found[held.key] = max(found.get(held.key, 0), asked(held))
    return found


def asked(held: Held) -> int:
    """Bytes that a DataVolume or a claim asks for."""
    spec = held.tree["spec"]
    return quantity.whole(spec.get("storage", spec)["resources"]["requests"]["storage"])
