"""The status fields: what the VM is. Bounded, sorted, and free of what flutters."""

import ipaddress
from collections.abc import Mapping
from typing import Any

from vdcos.core import conditions, disks, quantity
from vdcos.core.foreign.kubevirt import Interface, VirtualMachineInstance
from vdcos.providers.failover import room
from vdcos.services.virtualmachine import disks as storage
from vdcos.services.virtualmachine.case import Case
from vdcos.services.virtualmachine.power import State

ADDRESSES = 32
ADDRESSES_PER_CARD = 16
_MAC = len("02:00:00:00:00:00")


def fields(case: Case, state: State, restart: bool, watch: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """The status without conditions, in its JSON form; empty values are left out."""
    instance = case.instance if case.facts.up else None
    status: dict[str, Any] = {"powerState": state, "restartRequired": restart}
    if case.lack is not None:
        status["waitsFor"] = room.status(case.lack.need)
    if case.child is not None and case.mine:
        status["virtualMachine"] = {"uid": case.child.metadata.uid, "generation": case.child.metadata.generation}
    if instance is not None:
        status["host"] = instance.status.node_name
        if addresses := _addresses(instance):
            status["addresses"] = addresses
        if system := _guest_os(instance):
            status["guestOs"] = system
    if case.disks:
        status["disks"] = [_disk(case, decision) for decision in case.disks]
    if case.cr.spec.nics:
        found = {interface.name: interface for interface in instance.status.interfaces} if instance else {}
        status["nics"] = [_nic(nic.name, found.get(nic.name)) for nic in case.cr.spec.nics]
    if watch is not None:
        status["monitoring"] = watch
    return status


def _addresses(instance: VirtualMachineInstance) -> list[str]:
    """All of them, by card; those of one card sorted, since agents report them in any order."""
    found = [
        address
        for interface in sorted(instance.status.interfaces, key=lambda interface: interface.name)
        for address in sorted(set(interface.ip_addresses))
        if _is_useful(address)
    ]
    return list(dict.fromkeys(found))[:ADDRESSES]


def _is_useful(address: str) -> bool:
    """Link-local and loopback addresses lead nowhere; and agents are programs of the guest, which can say anything."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (ip.is_link_local or ip.is_loopback or "%" in address)  # a zone is of any length


def _guest_os(instance: VirtualMachineInstance) -> str:
    info = instance.status.guest_os_info
    return conditions.line(info.pretty_name or f"{info.name} {info.version}".strip())[:128]


def _disk(case: Case, decision: storage.Decision) -> Mapping[str, Any]:
    fields: dict[str, Any] = {"name": decision.disk.name, "phase": decision.phase}
    if decision.attachable:
        fields["claimName"] = disks.claim(case.owner.name, decision.disk.name, decision.disk.claim_name)
        fields["size"] = quantity.human(decision.size)
    if decision.progress:
        fields["progress"] = decision.progress
    if decision.reason:
        fields["reason"] = decision.reason
    if decision.reused:
        fields["reused"] = True
    if decision.disk.name in case.made or decision.phase in storage.MADE:
        fields["made"] = True
    if message := decision.message or decision.note:
        fields["message"] = conditions.line(message)[:512]
    return fields


def _nic(name: str, interface: Interface | None) -> Mapping[str, Any]:
    fields: dict[str, Any] = {"name": name}
    if interface is None:
        return fields
    if 0 < len(interface.mac) <= _MAC:
        fields["macAddress"] = interface.mac.lower()
    if addresses := sorted({address for address in interface.ip_addresses if _is_useful(address)}):
        fields["addresses"] = addresses[:ADDRESSES_PER_CARD]
    if interface.link_state:
        fields["linkState"] = "Down" if interface.link_state == "down" else "Up"
    return fields
