"""Network cards: how each one is attached, or why it cannot be."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vdcos import api
from vdcos.api import virtualmachine as words
from vdcos.core import ownership, tenancy
from vdcos.core.foreign.kubernetes import Namespace
from vdcos.core.foreign.multus import NetworkAttachmentDefinition
from vdcos.core.objects import Unreadable
from vdcos.providers import networks
from vdcos.providers.networks import Attachment, Problem, Providers
from vdcos.services.virtualmachine.kubevirt_vm import Card, Leaving
from vdcos.services.virtualmachine.observe import SeenNic


@dataclass(frozen=True, slots=True)
class Look:
    """One declared card, and what decides about it."""

    nic: words.Nic
    seen: SeenNic
    namespace: Namespace | Unreadable | None
    name_of_namespace: str
    attached: bool
    """The KubeVirt VM has a card of this name already."""
    providers: Providers

    @property
    def network(self) -> api.Network | None:
        return self.seen.network if isinstance(self.seen.network, api.Network) else None


def resolve(look: Look) -> Card | Problem:
    """The first rule that applies refuses; else the card."""
    for rule in RULES:
        if (problem := rule(look)) is not None:
            return problem
    assert look.network is not None
    attachment = networks.attachment(look.network, look.name_of_namespace, look.providers)
    if isinstance(attachment, Problem):
        return attachment
    return _not_defined(look, attachment) or Card(look.nic, attachment.binding, attachment.source)


Rule = Callable[[Look], Problem | None]


def _unreadable(look: Look) -> Problem | None:
    if isinstance(look.seen.network, Unreadable):
        return Problem("NetworkUnreadable", look.seen.network.why)
    return None


def _missing(look: Look) -> Problem | None:
    if look.seen.network is not None:
        return None
    return Problem(
        "NetworkMissing",
        f"there is no Network {look.nic.network}; correct the name, or have an administrator create it",
    )


def _deleting(look: Look) -> Problem | None:
    if look.attached or look.network is None or look.network.metadata.deletion_timestamp is None:
        return None
    return Problem("NetworkDeleting", f"Network {look.nic.network} is being deleted and takes no new cards")


def _forbidden(look: Look) -> Problem | None:
    if not isinstance(look.namespace, Namespace):
        return Problem("NamespaceUnknown", f"namespace {look.name_of_namespace} cannot be read")
    if look.network is None or tenancy.allows(look.network.spec.allowed_namespaces, look.namespace.metadata):
        return None
    allowed = look.network.spec.allowed_namespaces
    return Problem(
        "NamespaceNotAllowed", tenancy.refusal("Network", look.nic.network, allowed, look.namespace.metadata)
    )


RULES: tuple[Rule, ...] = (_unreadable, _missing, _deleting, _forbidden)


def _not_defined(look: Look, attachment: Attachment) -> Problem | None:
    """The attachment definition that the Network service makes in this namespace."""
    if attachment.definition is None or look.network is None:
        return None
    definition = look.seen.definition
    if isinstance(definition, Unreadable):
        return Problem("AttachmentUnreadable", definition.why)
    if not isinstance(definition, NetworkAttachmentDefinition) or definition.metadata.deletion_timestamp is not None:
        return Problem("AttachmentPending", f"Network {look.nic.network} is being made available in this namespace")
    if not ownership.is_owned(definition.metadata, look.network.metadata.uid):
        return Problem(
            "AttachmentNotOurs",
            f"NetworkAttachmentDefinition {attachment.definition} exists and does not belong to Network "
            f"{look.nic.network}; it is left alone. Remove it, or use a Network of another name",
        )
    return None


def unsupported(card: Card) -> str:
    """What a card declares and its attachment cannot do, or ""."""
    if "sriov" in card.binding and card.nic.link_state == "Down":
        return f"NIC {card.nic.name}: the link of an SR-IOV card cannot be pulled; remove the card instead"
    return ""


def leaving(
    declared: Sequence[words.Nic],
    child: Mapping[str, Any],
    running: Mapping[str, Any],
    reported: Sequence[str],
) -> Iterator[Leaving]:
    """Cards that are not declared any more and can be taken from the running VM: those on a bridge.

    ``child`` is the template's spec of KubeVirt's VM, ``running`` the instance's spec and ``reported`` the names of
    the interfaces that it has.
    """
    kept = {nic.name for nic in declared}
    present = {interface["name"] for interface in interfaces(running)} | set(reported)
    sources = {network["name"]: network for network in child.get("networks", ())}
    for interface in interfaces(child):
        name = interface["name"]
        if name not in kept and name in present and "bridge" in interface and name in sources:
            yield Leaving(interface, sources[name])


def interfaces(template: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The interfaces in the spec of a template or an instance."""
    found: Sequence[Mapping[str, Any]] = template.get("domain", {}).get("devices", {}).get("interfaces", ())
    return found
