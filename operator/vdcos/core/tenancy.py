"""Who may use a cluster-wide resource: ``allowedNamespaces`` against a namespace."""

from collections.abc import Collection, Mapping
from typing import Literal, Protocol

from vdcos.api.meta import AllowedNamespaces
from vdcos.core.objects import Meta


class Requirement(Protocol):
    """One expression of a label selector, as declared or as prepared for many comparisons."""

    @property
    def key(self) -> str: ...
    @property
    def operator(self) -> Literal["In", "NotIn", "Exists", "DoesNotExist"]: ...
    @property
    def values(self) -> Collection[str]: ...


class Selector(Protocol):
    """A label selector, as declared or as decoded from what is stored."""

    @property
    def match_labels(self) -> Mapping[str, str]: ...
    @property
    def match_expressions(self) -> Collection[Requirement]: ...


def allows(allowed: AllowedNamespaces, namespace: Meta) -> bool:
    """Whether VMs of ``namespace`` (the metadata of a Namespace object) may use what says ``allowed``."""
    match allowed.from_:
        case "None":
            return False
        case "All":
            return True
        case "Names":
            return namespace.name in (allowed.names or ())
        case "Selector":
            return allowed.selector is not None and selects(allowed.selector, namespace.labels or {})


def selects(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches as in Kubernetes: NotIn and DoesNotExist hold where the label is absent."""
    return all(labels.get(key) == value for key, value in selector.match_labels.items()) and all(
        holds(requirement, labels) for requirement in selector.match_expressions
    )


def holds(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    """Whether one expression holds, as in Kubernetes."""
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None


def refusal(kind: str, name: str, allowed: AllowedNamespaces, namespace: Meta) -> str:
    """The sentence that tells a tenant why he may not use a resource, and an admin what to change. It names no other
    tenant: whom else a resource serves is for administrators to know."""
    whom = {
        "None": "nobody (allowedNamespaces.from is None)",
        "All": "all namespaces",
        "Names": "other namespaces, by name",
        "Selector": "namespaces with certain labels",
    }[allowed.from_]
    return (
        f"{kind} {name} does not allow namespace {namespace.name}: it serves {whom}; "
        f"an admin can change spec.allowedNamespaces of the {kind}, or the labels of the namespace"
    )
