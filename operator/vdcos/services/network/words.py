"""What a Network says about itself: its conditions."""

from collections.abc import Sequence

from vdcos import api
from vdcos.core import conditions, counts
from vdcos.core.conditions import Condition
from vdcos.core.foreign.nmstate import NodeNetworkConfigurationPolicy
from vdcos.core.objects import Key
from vdcos.providers import networks
from vdcos.services.network.seen import Seen

PROVIDER = "ProviderReady"
HOSTS = "HostsReady"
UPLINK = "UplinkReady"
ATTACHMENTS = "AttachmentsReady"
IN_EFFECT = "SettingsInEffect"
DELETING = "Deleting"

SHOWN = 3
"""Namespaces whose trouble a message tells in full."""


def reported(resource: str, offered: frozenset[str]) -> bool:
    """Whether any host offers something of the resource's domain."""
    domain = resource.partition("/")[0]
    return any(name.partition("/")[0] == domain for name in offered)


def configured(policy: NodeNetworkConfigurationPolicy) -> Condition:
    """What nmstate says about a policy."""
    true = {condition.type: condition for condition in policy.status.conditions if condition.status == "True"}
    name = policy.metadata.name
    if "Degraded" in true:
        said = true["Degraded"]
        return conditions.false(
            UPLINK,
            "UplinkFailed",
            f"Hosts could not be configured ({said.reason}): {said.message} See the "
            f"NodeNetworkConfigurationEnactments of policy {name}.",
        )
    if "Ignored" in true:
        return conditions.false(UPLINK, "NoHostMatches", "No host has the labels of spec.uplink.nodeSelector.")
    if "Available" in true:
        return conditions.true(UPLINK, "Configured")
    return conditions.false(UPLINK, "Configuring", "The hosts are being configured.")


def provider(cr: api.Network, seen: Seen, general: networks.Definition | networks.Problem | None) -> Condition:
    if isinstance(general, networks.Problem):
        return conditions.false(PROVIDER, general.reason, f"{general.message}.")
    if general is not None and seen.no_multus:
        return conditions.false(
            PROVIDER,
            "MultusMissing",
            f"VMs cannot be attached: {seen.no_multus.why}. Install Multus and its CustomResourceDefinition.",
        )
    return conditions.true(PROVIDER, "Available", f"Realised by provider {networks.provider_name(cr)}.")


def hosts(seen: Seen, general: networks.Definition | networks.Problem | None) -> Condition:
    resource = general.resource if isinstance(general, networks.Definition) else ""
    if not isinstance(general, networks.Definition) or not resource:
        return conditions.true(HOSTS, "NotNeeded")
    if seen.no_hosts:
        return conditions.unknown(HOSTS, "CannotSee", f"What hosts offer is not known: {seen.no_hosts.why}.")
    if resource in seen.offered:
        return conditions.true(HOSTS, "Offered")
    if general.resource_if_offered and not reported(resource, seen.offered):
        domain = resource.partition("/")[0]
        return conditions.true(
            HOSTS,
            "NotReported",
            f"No agent reports resources of {domain}, so VMs are placed without looking where the switch is.",
        )
    return conditions.false(
        HOSTS,
        "NotOffered",
        f"No host offers {resource}, so no VM on this network can start: configure the hosts (for bridges spec.uplink "
        "can do it), or correct the name.",
    )


def attachments(
    seen: Seen, general: networks.Definition | networks.Problem | None, troubles: Sequence[str], used: bool
) -> Condition:
    if isinstance(general, networks.Problem):
        return conditions.false(ATTACHMENTS, "ProviderNotReady", f"Nothing is attached anew while {PROVIDER} is False.")
    if seen.blind:
        return conditions.unknown(ATTACHMENTS, "CannotSee", f"Who uses the network is not known: {seen.blind.why}.")
    if troubles:
        shown = "; ".join(troubles[:SHOWN])
        more = f"; and {len(troubles) - SHOWN} namespaces more" if len(troubles) > SHOWN else ""
        return conditions.false(ATTACHMENTS, "NotAttached", f"{shown}{more}.")
    return conditions.true(ATTACHMENTS, "Attached" if used else "NotUsed")


def in_effect(seen: Seen) -> Condition:
    behind = [name for site in seen.sites for name in site.behind]
    if not behind:
        return conditions.true(IN_EFFECT, "InEffect")
    return conditions.false(
        IN_EFFECT,
        "OldSettingsRunning",
        "The network was changed, or its definition deleted, while VMs were running; migrate or restart them to "
        "connect them anew: "
        f"{counts.listed(len(behind), behind)}.",
    )


def deleting(users: Sequence[Key], running: Sequence[str], seen: Seen) -> Condition:
    if users:
        message = (
            f"Waits for {counts.some(len(users), 'VM')} using the network: {counts.listed(len(users), users)}. "
            "Delete them, or connect them to another network."
        )
    elif running:
        message = f"Waits for VMs that are still running on it in namespaces {counts.listed(len(running), running)}."
    elif seen.blind:
        message = f"Waits until it is known who uses the network: {seen.blind.why}."
    else:
        return conditions.true(DELETING, "Released", "No VM uses the network.")
    return conditions.true(DELETING, "InUse", message)
