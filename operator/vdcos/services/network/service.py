"""Network: a port group that reaches every namespace whose VMs use it."""

from collections.abc import Mapping
from typing import Any

from vdcos import api
from vdcos.core import conditions, counts, finalizers, kinds, ownership, tenancy
from vdcos.core.conditions import Condition
from vdcos.core.foreign.multus import NetworkAttachmentDefinition
from vdcos.core.foreign.nmstate import NodeNetworkConfigurationPolicy
from vdcos.core.objects import Key, Object, Unreadable
from vdcos.core.plan import Action, Apply, Delete, Instant, Manifest, Plan
from vdcos.core.service import Write
from vdcos.core.snapshot import Snapshot
from vdcos.providers import networks
from vdcos.services.network import children, words
from vdcos.services.network.seen import GUESTS, USERS, WATCHES, Seen, Site, look

EXAMPLE = "default"
"""A namespace to ask a provider about when it only matters whether it answers."""

_DEFINITION = NetworkAttachmentDefinition.resource
_POLICY = NodeNetworkConfigurationPolicy.resource


class NetworkService:
    """A Network becomes a NetworkAttachmentDefinition in every allowed namespace whose VMs use it."""

    name = "network"
    resource = kinds.NETWORK
    kind = api.Network
    needed = (words.PROVIDER, words.HOSTS, words.UPLINK)
    watches = WATCHES
    indexes = (USERS, GUESTS)
    writes = (
        Write(kinds.NETWORK, ("patch",)),
        Write(NetworkAttachmentDefinition.resource, ("create", "patch", "delete")),
        Write(NodeNetworkConfigurationPolicy.resource, ("create", "patch", "delete")),
    )

    def __init__(self, providers: networks.Providers) -> None:
        self._providers = providers

    def observe(self, key: Key, world: Snapshot) -> Seen:
        return look(key, world)

    def plan(self, cr: api.Network, seen: Seen, now: Instant) -> Plan:
        general = networks.definition(cr, EXAMPLE, self._providers)
        allowed = [site for site in seen.sites if tenancy.allows(cr.spec.allowed_namespaces, site.namespace)]
        served = {site.namespace.name for site in allowed if site.users}
        users = tuple(key for key in seen.users if key.namespace in served)
        running = tuple(site.namespace.name for site in seen.sites if site.guests and _ours(cr, site.child))
        going = cr.metadata.deletion_timestamp is not None
        in_use = bool(users or running)
        sites = [self._site(cr, seen, site, site.namespace.name in served, now) for site in seen.sites]
        policy, uplink = _uplink(cr, seen)
        attached = sorted(served if general is None else (s.namespace.name for s in seen.sites if _ours(cr, s.child)))
        counted = {
            "namespaces": counts.usage(len(attached), attached),
            "virtualMachines": counts.usage(len(users), users),
        }
        status, after = counts.paced(cr.status.manifest(), counted, now)
        hold = finalizers.hold(kinds.NETWORK, cr.metadata, in_use) if in_use or not seen.blind else ()
        below = (*(action for actions, _ in sites for action in actions), *policy)
        return Plan(
            # Held before anything depends on it, let go when nothing does: a crash in between loses nothing.
            actions=(*hold, *below) if in_use else (*below, *hold),
            conditions=(
                words.provider(cr, seen, general),
                words.hosts(seen, general),
                uplink,
                words.attachments(seen, general, [trouble for _, trouble in sites if trouble], bool(served)),
                words.in_effect(seen),
                *((words.deleting(users, running, seen),) if going else ()),
            ),
            status={"provider": networks.provider_name(cr), **status},
            after=after,
        )

    def _site(
        self, cr: api.Network, seen: Seen, site: Site, served: bool, now: Instant
    ) -> tuple[tuple[Action, ...], str]:
        """What to do in one namespace, and what is in the way there, if anything."""
        namespace, child = site.namespace.name, site.child
        if seen.no_multus:
            return (), ""
        wanted = networks.definition(cr, namespace, self._providers) if served else None
        if wanted is None:
            unused = not site.guests and not seen.blind
            return (_remove(cr, child, "no VM of the namespace uses the network") if unused else ()), ""
        if isinstance(wanted, networks.Problem):
            return (), f"{namespace}: {wanted.message}"
        if child is None:
            closing = site.namespace.deletion_timestamp is not None
            # What VMs run with went with a definition that somebody deleted: nobody can know that it was the same.
            changed = counts.stamp(now) if site.guests else ""
            manifest = children.definition(cr, wanted, _resource(wanted, seen.offered), changed)
            why = "VMs of the namespace use the network"
            return (() if closing else (Apply(_DEFINITION, manifest, why, force=False),)), ""
        if not _ours(cr, child) and not children.adoptable(child.metadata, cr.metadata.name):
            return (), (
                f"{namespace}: a NetworkAttachmentDefinition {cr.metadata.name} that is not of this Network is in the "
                "way; delete or rename it"
            )
        changed = child.metadata.annotation(children.CHANGED) if site.behind else ""
        if child.spec.config != wanted.config and site.guests:
            changed = counts.stamp(now)
        manifest = children.definition(cr, wanted, _resource(wanted, seen.offered), changed)
        return _converge(cr, manifest, child, {"config": child.spec.config}), ""


def _ours(cr: api.Network, child: Object | None) -> bool:
    return child is not None and ownership.is_owned(child.metadata, cr.metadata.uid)


def _remove(cr: api.Network, child: Object | None, why: str) -> tuple[Action, ...]:
    """The deletion of a child, if it is there, ours, and not going anyway."""
    if child is None or not _ours(cr, child) or child.metadata.deletion_timestamp is not None:
        return ()
    return (Delete(child.resource, child.metadata.key, child.metadata.uid, why),)


def _converge(cr: api.Network, manifest: Manifest, child: Object, spec: Mapping[str, Any]) -> tuple[Action, ...]:
    """The apply that a present child of ours needs, if any; ``spec`` is its spec as plain data."""
    if child.metadata.deletion_timestamp is not None:
        return ()
    applied = manifest["metadata"]["annotations"][ownership.APPLIED]
    # For this very child, and not for a namesake that was created since.
    manifest = {**manifest, "metadata": {**manifest["metadata"], "uid": child.metadata.uid}}
    if not _ours(cr, child):
        return (Apply(child.resource, manifest, "it was detached from an earlier Network of this name"),)
    if child.metadata.annotation(ownership.APPLIED) != applied:
        return (Apply(child.resource, manifest, "the network says something else now"),)
    if repairs := children.drifted(manifest, child, spec):
        return (Apply(child.resource, manifest, "somebody changed it", repairs),)
    return ()


def _resource(wanted: networks.Definition, offered: frozenset[str]) -> str:
    """The node resource to ask for: none where only an agent would offer it that this cluster does not have."""
    return wanted.resource if not wanted.resource_if_offered or words.reported(wanted.resource, offered) else ""


def _uplink(cr: api.Network, seen: Seen) -> tuple[tuple[Action, ...], Condition]:
    """The hosts' configuration, and what has become of it."""
    policy, uplink = seen.policy, cr.spec.uplink
    if uplink is None:
        known = None if isinstance(policy, Unreadable) else policy
        why = "the network has no uplink any more; hosts keep what they have"
        return _remove(cr, known, why), conditions.true(words.UPLINK, "NotAsked")
    if isinstance(policy, Unreadable):
        return (), conditions.false(
            words.UPLINK,
            "NmstateMissing",
            f"The uplink is not configured: {policy.why}. Install kubernetes-nmstate, or configure the hosts by other "
            "means and remove spec.uplink.",
        )
    manifest = children.policy(cr, uplink)
    if policy is None:
        action = Apply(_POLICY, manifest, "the network has an uplink", force=False)
        return (action,), conditions.false(words.UPLINK, "Configuring", "The hosts are being configured.")
    if not _ours(cr, policy) and not children.adoptable(policy.metadata, cr.metadata.name):
        return (), conditions.false(
            words.UPLINK,
            "PolicyConflict",
            f"The uplink is not configured: a NodeNetworkConfigurationPolicy {policy.metadata.name} that is not of "
            "this Network is in the way; delete or rename it.",
        )
    return _converge(cr, manifest, policy, policy.spec), words.configured(policy)
