"""The objects that a Network becomes: definitions in namespaces, and a policy for the hosts."""

from collections.abc import Mapping
from typing import Any

from vdcos.api.network import Network, Uplink
from vdcos.core import drift, kinds, ownership
from vdcos.core.foreign.multus import RESOURCE_NAME, NetworkAttachmentDefinition
from vdcos.core.foreign.nmstate import NodeNetworkConfigurationPolicy
from vdcos.core.objects import Key, Meta, Object
from vdcos.core.plan import Manifest
from vdcos.providers import networks
from vdcos.services.network.uplink import desired_state

NETWORK_LABEL = f"{ownership.GROUP}/network"
"""Label on children: the name of their Network."""

CHANGED = f"{ownership.GROUP}/changed"
"""Annotation on a definition: when it changed under running VMs. Gone once none runs with what it said before."""


POLICY_PREFIX = "vdcos-"


def policy_key(network: str) -> Key:
    """The name of a network's node network policy."""
    return Key("", f"{POLICY_PREFIX}{network}")


def network_of(child: Meta) -> str:
    """The name of the Network that a child belongs to, "" for what is not ours."""
    return ownership.owner_name(child, kinds.NETWORK) or child.label(NETWORK_LABEL)


def adoptable(child: Meta, network: str) -> bool:
    """Whether a child without an owner is one of ours that was detached, as an uninstallation does to keep it."""
    return ownership.detached(child, NETWORK_LABEL, network)


def definition(network: Network, wanted: networks.Definition, resource: str, changed: str) -> dict[str, Any]:
    """The manifest of a NetworkAttachmentDefinition. ``changed`` is the value of its annotation, or ""."""
    annotations = {name: value for name, value in ((RESOURCE_NAME, resource), (CHANGED, changed)) if value}
    return _child(NetworkAttachmentDefinition, network, wanted.key, {"config": wanted.config}, annotations)


def policy(network: Network, uplink: Uplink) -> dict[str, Any]:
    """The manifest of the NodeNetworkConfigurationPolicy that makes the network's bridge and leads it outside."""
    spec: dict[str, Any] = {"desiredState": desired_state(network.spec, uplink)}
    if uplink.node_selector:
        spec["nodeSelector"] = dict(uplink.node_selector)
    return _child(NodeNetworkConfigurationPolicy, network, policy_key(network.metadata.name), spec, {})


def drifted(wanted: Manifest, live: Object, spec: Mapping[str, Any]) -> tuple[str, ...]:
    """The paths at which a live child does not hold what its manifest says; ``spec`` is the live one as plain data."""
    held = {"labels": live.metadata.labels or {}, "annotations": live.metadata.annotations or {}}
    metadata = {part: wanted["metadata"].get(part, {}) for part in held}
    return tuple(drift.drift({"metadata": metadata, "spec": wanted["spec"]}, {"metadata": held, "spec": spec}))


def _child(
    kind: type[Object], network: Network, key: Key, spec: Mapping[str, Any], annotations: Mapping[str, str]
) -> dict[str, Any]:
    metadata = ownership.metadata(key, {NETWORK_LABEL: network.metadata.name})
    owner = Meta(name=network.metadata.name, uid=network.metadata.uid)
    metadata["ownerReferences"] = [ownership.owner_reference(kinds.NETWORK, owner)]
    if annotations:
        metadata["annotations"] = dict(annotations)
    return drift.stamped(
        {"apiVersion": kind.resource.api_version, "kind": kind.resource.kind, "metadata": metadata, "spec": spec}
    )
