"""Network: a port group, realised by one of several virtual switches."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from vdcos.api.meta import (
    AllowedNamespaces,
    InterfaceName,
    LabelMap,
    ObjectMeta,
    ObjectName,
    Parameters,
    ResourceName,
    Status,
    Timestamp,
    Usage,
    VlanId,
)
from vdcos.api.schema import AGE, SET, Column, Definition, Model, Must, OneOf, Rule, condition_column

Cidr = Annotated[
    str,
    Field(max_length=43, pattern="^[0-9a-fA-F:.]+/[0-9]{1,3}$"),
    Must("must be a network such as 192.0.2.0/24 or 2001:db8::/64", "isCIDR(self)"),
]


BridgeName = Annotated[
    str,
    Field(max_length=15, pattern="^[A-Za-z0-9]([-A-Za-z0-9_.]{0,13}[A-Za-z0-9])?$"),
    Must("must be the name of a bridge: at most 15 letters, digits and, between them, '-', '_', '.'"),
]
"""Hosts offer it as a resource of that name, and resources' names end with a letter or digit."""


class PodNetwork(Model):
    """The cluster's own pod network, behind NAT."""


class Bridge(Model):
    """A Linux bridge on the hosts."""

    name: BridgeName
    """The bridge on the hosts."""
    vlan: VlanId | None = None
    """VLAN of this port group; untagged when left out."""
    spoof_check: bool = True
    """Drop frames whose sender address is not the NIC's."""


class Ovs(Model):
    """An Open vSwitch bridge on the hosts."""

    name: BridgeName
    """The bridge on the hosts."""
    vlan: VlanId | None = None
    """VLAN of this port group; untagged when left out."""


class Ovn(Model):
    """A network of OVN-Kubernetes."""

    topology: Literal["Localnet", "Layer2"]
    """Localnet: a physical network of the hosts. Layer2: an overlay that spans the cluster."""
    physical_network: (
        Annotated[
            str,
            Field(max_length=63, pattern="^[A-Za-z0-9][-A-Za-z0-9_.]*$"),
            Must("must be the name of a physical network in OVN's bridge mappings"),
        ]
        | None
    ) = None
    """With Localnet: the physical network's name in OVN's bridge mappings."""
    vlan: VlanId | None = None
    """With Localnet: its VLAN; untagged when left out."""
    subnets: Annotated[
        tuple[Cidr, ...],
        Field(max_length=2),
        SET,
        Rule(
            "self.size() < 2 || self.exists_one(s, s.contains(':'))",
            "two networks must be one of IPv4 and one of IPv6",
        ),
    ] = ()
    """Addresses that OVN hands out: one IPv4 and one IPv6 network at most. None: guests bring their own."""

    rules = (
        Rule(
            "has(self.physicalNetwork) == (self.topology == 'Localnet')",
            "topology: Localnet, and only that, takes a physicalNetwork",
            ".physicalNetwork",
        ),
        Rule("!has(self.vlan) || self.topology == 'Localnet'", "only topology: Localnet takes a vlan", ".vlan"),
    )


class Sriov(Model):
    """Virtual functions of the hosts' network cards."""

    resource_name: ResourceName
    """What the hosts' device plugin calls them."""
    vlan: VlanId | None = None
    """VLAN of this port group; untagged when left out."""
    spoof_check: bool = True
    """The card drops frames whose sender address is not the NIC's."""
    trust: bool = False
    """The guest may change its MAC address and receive all multicast."""


class Plugin(Model):
    """A third party's virtual switch."""

    provider: ObjectName
    """The name under which the provider is installed in the operator."""
    parameters: Parameters = Field(default_factory=dict)
    """What the provider wants to know; it says what it takes."""


class Uplink(Model):
    """The bridge on the hosts and its way out, through nmstate. Needs the NodeNetworkConfigurationPolicy API."""

    interfaces: Annotated[tuple[InterfaceName, ...], Field(min_length=1, max_length=8), SET]
    """Network cards of the hosts that lead outside; several are bonded."""
    bond_mode: Literal["active-backup", "802.3ad", "balance-slb", "balance-xor"] = "active-backup"
    """How several network cards share the work."""
    bridge: InterfaceName | None = None
    """With `ovn`: the Open vSwitch bridge that carries the physical network. Elsewhere the network names its bridge."""
    node_selector: LabelMap = Field(default_factory=dict)
    """The hosts to configure; all when left out."""


_KINDS = ("pod", "bridge", "ovs", "ovn", "sriov", "plugin")


class NetworkSpec(OneOf):
    """What the network shall be. Exactly one of pod, bridge, ovs, ovn, sriov and plugin is set."""

    pod: PodNetwork | None = None
    """The cluster's own pod network, behind NAT."""
    bridge: Bridge | None = None
    """A Linux bridge on the hosts."""
    ovs: Ovs | None = None
    """An Open vSwitch bridge on the hosts."""
    ovn: Ovn | None = None
    """A network of OVN-Kubernetes: a physical one of the hosts, or an overlay."""
    sriov: Sriov | None = None
    """Virtual functions of the hosts' network cards (SR-IOV), handed through to the guest."""
    plugin: Plugin | None = None
    """A third party's virtual switch."""
    uplink: Uplink | None = None
    """Host-side configuration, where nmstate is installed."""
    mtu: Annotated[int, Field(ge=576, le=65535)] | None = None
    """Largest packet in bytes; the switch's default when left out."""
    allowed_namespaces: AllowedNamespaces = AllowedNamespaces()
    """Which namespaces' VMs may connect to it."""

    choices = _KINDS

    rules = (
        Rule(
            " && ".join(f"has(self.{choice}) == has(oldSelf.{choice})" for choice in _KINDS),
            "a network cannot become one of another kind while VMs may be using it; make a new one",
            reason="FieldValueForbidden",
        ),
        Rule(
            "!has(self.uplink) || has(self.bridge) || has(self.ovs)"
            " || (has(self.ovn) && self.ovn.topology == 'Localnet')",
            "an uplink goes with bridge, ovs, or ovn with topology: Localnet",
            ".uplink",
        ),
        Rule(
            "!has(self.uplink) || has(self.uplink.bridge) == has(self.ovn)",
            "an uplink of ovn, and only that, takes a bridge",
            ".uplink.bridge",
        ),
        Rule("!has(self.mtu) || !has(self.pod)", "the pod network has an MTU of its own", ".mtu"),
    )


class NetworkStatus(Status):
    """What the network is."""

    provider: Annotated[str, Field(max_length=253)] = ""
    """The provider that realises it."""
    namespaces: Usage | None = None
    """Namespaces in which it is attached."""
    virtual_machines: Usage | None = None
    """VMs that use it."""
    counted_at: Timestamp | None = None
    """When the counts last changed; they are written at most every five seconds."""


class Network(Model):
    """A port group that VMs of allowed namespaces connect to, whatever virtual switch is behind it."""

    api_version: Literal["vdcos.dev/v1alpha1"] = "vdcos.dev/v1alpha1"
    kind: Literal["Network"] = "Network"
    metadata: ObjectMeta
    spec: NetworkSpec
    """What the network shall be."""
    status: NetworkStatus = NetworkStatus()
    """What the network is. Written by the operator."""

    rules = (
        Rule(
            "self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')",
            "a network's name stands in labels: at most 63 characters, no dots",
            ".metadata.name",
        ),
    )

    definition: ClassVar = Definition(
        kind="Network",
        plural="networks",
        scope="Cluster",
        short_names=("vdcnet",),
        columns=(
            condition_column("Ready", "Ready"),
            condition_column("Reason", "Ready", "reason"),
            Column("Provider", ".status.provider"),
            Column("VMs", ".status.virtualMachines.count", "integer"),
            Column("Namespaces", ".status.namespaces.count", "integer"),
            AGE,
            Column("MTU", ".spec.mtu", "integer", wide=True),
            Column("Allowed", ".spec.allowedNamespaces.from", wide=True),
            condition_column("Message", "Ready", "message", wide=True),
        ),
    )
