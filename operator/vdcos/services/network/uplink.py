"""The hosts' side of a network in the words of nmstate.

Every port that leads outside carries all VLANs: which one a NIC is in, its definition says. Two networks of the same
bridge say the same about it, so that it does not matter which policy a host applies last.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from vdcos.api.network import NetworkSpec, Uplink
from vdcos.core import ownership

_NO_ADDRESS: Mapping[str, Any] = {"ipv4": {"enabled": False}, "ipv6": {"enabled": False}}

# What Open vSwitch bonds by itself; the kernel's bonding does the rest, below the bridge.
_BOND_OF_SWITCH = frozenset({"active-backup", "balance-slb"})


def desired_state(spec: NetworkSpec, uplink: Uplink) -> dict[str, Any]:
    """``NodeNetworkConfigurationPolicy.spec.desiredState``: the bridge, its port, and a bond of several cards."""
    if spec.bridge is not None:
        return {"interfaces": _linux_bridge(spec.bridge.name, spec.mtu, uplink)}
    if spec.ovs is not None:
        return {"interfaces": _open_vswitch(spec.ovs.name, spec.mtu, uplink)}
    # OVN puts patch ports of its own on the bridge: nmstate must let them be.
    interfaces = _open_vswitch(uplink.bridge or "", spec.mtu, uplink, {"allow-extra-patch-ports": True})
    physical = spec.ovn.physical_network if spec.ovn is not None else None
    mapping = {"localnet": physical, "bridge": uplink.bridge, "state": "present"}
    return {"interfaces": interfaces, "ovn": {"bridge-mappings": [mapping]}}


def _linux_bridge(name: str, mtu: int | None, uplink: Uplink) -> list[dict[str, Any]]:
    below, port = _ports(name, mtu, uplink)
    bridge = {"options": {"stp": {"enabled": False}}, "port": [{"name": port}]}
    return [*below, _interface(name, "linux-bridge", mtu, **_NO_ADDRESS, bridge=bridge)]


def _open_vswitch(
    name: str, mtu: int | None, uplink: Uplink, options: Mapping[str, Any] = MappingProxyType({})
) -> list[dict[str, Any]]:
    if len(uplink.interfaces) > 1 and uplink.bond_mode in _BOND_OF_SWITCH:
        below = _cards(mtu, uplink)
        cards = [{"name": card} for card in uplink.interfaces]
        port = {"name": _bond_name(name), "link-aggregation": {"mode": uplink.bond_mode, "port": cards}}
    else:
        below, port_name = _ports(name, mtu, uplink)
        port = {"name": port_name}
    return [*below, _interface(name, "ovs-bridge", None, bridge={**options, "port": [port]})]


def _ports(bridge: str, mtu: int | None, uplink: Uplink) -> tuple[list[dict[str, Any]], str]:
    """What to say about the cards, and the name of the interface that becomes the bridge's port."""
    cards = _cards(mtu, uplink)
    if len(uplink.interfaces) == 1:
        return cards, uplink.interfaces[0]
    aggregation: dict[str, Any] = {"mode": uplink.bond_mode, "port": list(uplink.interfaces)}
    if uplink.bond_mode == "balance-slb":  # the kernel's name for it: XOR by VLAN and sender, and no echo of own frames
        options = {"xmit_hash_policy": "vlan+srcmac", "balance_slb": True}
        aggregation |= {"mode": "balance-xor", "options": options}
    bond = _interface(_bond_name(bridge), "bond", mtu, **_NO_ADDRESS, **{"link-aggregation": aggregation})
    return [*cards, bond], bond["name"]


def _cards(mtu: int | None, uplink: Uplink) -> list[dict[str, Any]]:
    """The cards themselves, where there is something to say about them."""
    return [_interface(card, "ethernet", mtu) for card in uplink.interfaces] if mtu is not None else []


def _bond_name(bridge: str) -> str:
    """At most 15 characters, as Linux demands, and the same for every network of the bridge."""
    return f"bond-{ownership.digest(bridge)}"


def _interface(name: str, kind: str, mtu: int | None, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "state": "up", **({"mtu": mtu} if mtu is not None else {}), **more}
