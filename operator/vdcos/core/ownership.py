"""Who owns what: labels, owner references, and names that cannot clash."""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from vdcos.core.objects import Key, Meta, OwnerReference, Resource

GROUP = "vdcos.dev"
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "vdcos"
APPLIED = f"{GROUP}/applied"
"""Annotation on children: the digest of the manifest that was applied last. It tells "we want something else now"
(including a field to remove) from "somebody changed what we want" (drift)."""

ADMITTED = f"{GROUP}/admitted"
"""Annotation of a KubeVirt VM of ours that may run: what was admitted for it, CPU and memory (``core.amounts``)."""
ADMITTED_AT = "/metadata/annotations/" + ADMITTED.replace("/", "~1")
"""Where it stands, as a JSON pointer."""


def owner_reference(resource: Resource, owner: Meta) -> dict[str, Any]:
    """The controlling owner reference that makes the garbage collector remove a child with its owner."""
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def is_ours(reference: OwnerReference) -> bool:
    """Whether an owner is of our API group, in whatever version. Admission policies keep just these: the API server
    takes the group alone for a version, and whoever forges an owner may call it anything."""
    return reference.api_version.startswith(f"{GROUP}/")


def owner_name(child: Meta, owner: Resource) -> str:
    """The name of the object of a kind of ours that controls a child; "" when none does."""
    owners = (ref for ref in child.owner_references if ref.controller and ref.kind == owner.kind)
    return next((ref.name for ref in owners if is_ours(ref)), "")


def is_owned(child: Meta, uid: str) -> bool:
    """Whether the object of ours with this uid is the controlling owner of a child."""
    return any(ref.controller and ref.uid == uid and is_ours(ref) for ref in child.owner_references)


def detached(child: Meta, label: str, owner: str) -> bool:
    """Whether a child, which names its owner in this label, is one of ours that nobody owns any more.

    ``vdcos uninstall`` detaches children so that they stay, and so does ``kubectl delete --cascade=orphan``. Whoever of
    ours has the owner's name may take them back.
    """
    return not child.controlled and child.label(MANAGED_BY) == MANAGER and child.label(label) == owner


def digest(value: str, length: int = 8) -> str:
    """A short, stable, lower-case digest for names and annotations."""
    return hashlib.sha256(value.encode()).hexdigest()[:length]


@lru_cache(maxsize=4096)
def joined_name(first: str, second: str, limit: int = 63) -> str:
    """A DNS label from two names and a digest of both, so that ``a``+``b-c`` and ``a-b``+``c`` differ at any length."""
    suffix = digest(f"{first}/{second}")
    readable = f"{first}-{second}".replace(".", "-")[: limit - len(suffix) - 1].rstrip("-")
    return f"{readable}-{suffix}"


def metadata(key: Key, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The metadata of a child: its name, and the label that says that we manage it."""
    result: dict[str, Any] = {"name": key.name, "labels": {MANAGED_BY: MANAGER, **(labels or {})}}
    if key.namespace:
        result["namespace"] = key.namespace
    return result
