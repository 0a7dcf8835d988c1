"""What the Network service looks at, and whose change wakes which Network."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from vdcos import api
from vdcos.core import tenancy
from vdcos.core.foreign.kubernetes import Namespace, Node
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.foreign.multus import NetworkAttachmentDefinition
from vdcos.core.foreign.nmstate import NodeNetworkConfigurationPolicy
from vdcos.core.objects import Index, Key, Meta, Own, Unreadable
from vdcos.core.service import Watch
from vdcos.core.snapshot import Snapshot
from vdcos.services.network import children


class _Nic(msgspec.Struct, frozen=True):
    network: str


class _MachineSpec(msgspec.Struct, frozen=True):
    nics: tuple[_Nic, ...] = ()


class _Machine(msgspec.Struct, frozen=True):
    spec: _MachineSpec = _MachineSpec()


class _Multus(msgspec.Struct, frozen=True, rename="camel"):
    network_name: str = ""


class _Source(msgspec.Struct, frozen=True):
    multus: _Multus | None = None


class _InstanceSpec(msgspec.Struct, frozen=True):
    networks: tuple[_Source, ...] = ()


_machine = msgspec.json.Decoder(_Machine).decode
_instance = msgspec.json.Decoder(_InstanceSpec).decode


def used_by(machine: Own) -> frozenset[str]:
    """``namespace/network`` of every network that a VirtualMachine names; nothing for a malformed one."""
    try:
        nics = _machine(machine.raw).spec.nics
    except msgspec.DecodeError:
        return frozenset()
    return frozenset(f"{machine.metadata.namespace}/{nic.network}" for nic in nics)


def plugged_into(instance: VirtualMachineInstance) -> frozenset[str]:
    """``namespace/name`` of every definition that a running VM's interfaces were made from."""
    names = [source.multus.network_name for source in _instance(instance.spec).networks if source.multus is not None]
    return frozenset(name if "/" in name else f"{instance.metadata.namespace}/{name}" for name in names)


PATIENCE = 2.0
"""Seconds that the number of VMs may be behind, so that many VMs that come at once are counted once."""

USERS: Index[Any] = Index(api.VirtualMachine, used_by)
GUESTS = Index(VirtualMachineInstance, plugged_into)


@dataclass(frozen=True, slots=True)
class Site:
    """One namespace that has VMs on the network, or something of the network's name."""

    namespace: Meta
    users: int
    """VirtualMachines that name the network."""
    child: NetworkAttachmentDefinition | None
    guests: int
    """Running VMs whose interfaces were made from the definition of the network's name, whoever wrote it."""
    behind: tuple[str, ...]
    """Those of them that still have the interface of before the definition's last change, as namespace/name."""


@dataclass(frozen=True, slots=True)
class Seen:
    """All that a plan looks at besides the Network itself."""

    sites: tuple[Site, ...]
    users: tuple[Key, ...]
    """The VirtualMachines behind ``Site.users``, in order."""
    offered: frozenset[str]
    """Devices that hosts have for pods, by resource name."""
    no_hosts: Unreadable | None
    """Why it is not known what hosts offer."""
    policy: NodeNetworkConfigurationPolicy | Unreadable | None
    blind: Unreadable | None
    """Why it cannot be known who uses the network; then nothing is removed."""
    no_multus: Unreadable | None


def look(key: Key, world: Snapshot) -> Seen:
    """Gather what a plan for the Network ``key`` may look at."""
    sites: list[Site] = []
    users: list[Key] = []
    for namespace in world.all(Namespace):
        where = Key(namespace.metadata.name, key.name)
        machines = world.keys(USERS, str(where))
        child = world.get(NetworkAttachmentDefinition, where)
        if isinstance(child, Unreadable):
            child = None
        if not machines and child is None:
            continue
        users += machines
        guests = world.total(GUESTS, str(where)).count
        changed = _changed(child) if child is not None else ""
        behind = _behind(changed, world.by(GUESTS, str(where))) if changed else ()
        sites.append(Site(namespace.metadata, len(machines), child, guests, behind))
    return Seen(
        sites=tuple(sites),
        users=tuple(users),
        offered=frozenset().union(*(node.offers for node in world.all(Node))),
        no_hosts=world.missing(Node),
        policy=world.get(NodeNetworkConfigurationPolicy, children.policy_key(key.name)),
        blind=world.missing(Namespace) or world.missing(api.VirtualMachine) or world.missing(VirtualMachineInstance),
        no_multus=world.missing(NetworkAttachmentDefinition),
    )


def _changed(child: NetworkAttachmentDefinition) -> str:
    return child.metadata.annotation(children.CHANGED)


def _behind(changed: str, instances: Iterable[VirtualMachineInstance]) -> tuple[str, ...]:
    """The VMs that started, and were not migrated since, before a definition changed. Its own second counts as before.

    Kubernetes' time stamps are all alike (UTC, whole seconds), so that their order is that of their text.
    """
    return tuple(
        str(instance.metadata.key)
        for instance in instances
        if instance.metadata.creation_timestamp <= changed and _moved(instance) <= changed
    )


def _moved(instance: VirtualMachineInstance) -> str:
    migration = instance.status.migration_state
    return migration.start_timestamp if migration and migration.completed and not migration.failed else ""


def _of_interest(instance: VirtualMachineInstance) -> Hashable:
    return plugged_into(instance), _moved(instance)


def _networks_of_machine(machine: Own, _: Snapshot) -> Iterable[Key]:
    return {_network_key(place) for place in used_by(machine)}


def _first_or_last(machine: Own, world: Snapshot) -> Iterable[Key]:
    """Networks to which a VM brings a namespace, or of which it leaves one: there is something to do."""
    return {_network_key(place) for place in used_by(machine) if world.total(USERS, place).count <= 1}


def _networks_of_instance(instance: VirtualMachineInstance, world: Snapshot) -> Iterable[Key]:
    """Networks to which a running VM matters: it may be the last one, or run with settings of before."""
    for place in plugged_into(instance):
        namespace, _, name = place.partition("/")
        child = world.get(NetworkAttachmentDefinition, Key(namespace, name))
        if isinstance(child, NetworkAttachmentDefinition) and (
            _changed(child) or not world.total(USERS, place).count or not _allowed(world, namespace, name)
        ):
            yield Key("", name)


def _allowed(world: Snapshot, namespace: str, network: str) -> bool:
    cr, tenant = world.get(api.Network, Key("", network)), world.get(Namespace, Key("", namespace))
    return (
        isinstance(cr, api.Network)
        and isinstance(tenant, Namespace)
        and tenancy.allows(cr.spec.allowed_namespaces, tenant.metadata)
    )


def _networks_of_definition(child: NetworkAttachmentDefinition, _: Snapshot) -> Iterable[Key]:
    """Its owner, and the Network whose place it takes."""
    return {Key("", name) for name in (children.network_of(child.metadata), child.metadata.name) if name}


def _networks_of_policy(policy: NodeNetworkConfigurationPolicy, _: Snapshot) -> Iterable[Key]:
    name = policy.metadata.name.removeprefix(children.POLICY_PREFIX)
    return (Key("", name),) if name != policy.metadata.name else ()


def _networks_in_namespace(namespace: Namespace, world: Snapshot) -> Iterable[Key]:
    """Networks that VMs of the namespace use."""
    own: Own
    for own in world.all(api.Network):
        if world.total(USERS, str(Key(namespace.metadata.name, own.metadata.name))).count:
            yield own.metadata.key


def _all_networks(_: Node, world: Snapshot) -> Iterable[Key]:
    return [own.metadata.key for own in world.all(api.Network)]


def _network_key(place: str) -> Key:
    return Key("", place.partition("/")[2])


WATCHES: tuple[Watch[Any], ...] = (
    Watch(api.VirtualMachine, _first_or_last, sees=used_by),
    Watch(api.VirtualMachine, _networks_of_machine, sees=used_by, patience=PATIENCE),
    Watch(VirtualMachineInstance, _networks_of_instance, sees=_of_interest),
    Watch(NetworkAttachmentDefinition, _networks_of_definition),
    Watch(NodeNetworkConfigurationPolicy, _networks_of_policy),
    Watch(Namespace, _networks_in_namespace),
    Watch(Node, _all_networks, sees=lambda node: node.offers),
)
