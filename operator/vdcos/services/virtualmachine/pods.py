"""What the scheduler and kubelets say about a VM's pods, shortened for people."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from vdcos.core.foreign import kubevirt
from vdcos.core.foreign.kubernetes import FailedMount
from vdcos.core.foreign.kubevirt import VirtualMachineInstance

_OF_CLAIMS = re.compile(r"\bPVC \S+ does not exist\b|\bpersistentvolumeclaim \"")
"""KubeVirt's words, and the scheduler's, for a claim that no host can help with: it is missing, or going, or lost its
volume."""
_ASIDE = re.compile(r"[.,] (?:preemption:|no new claims)")
_NODES = re.compile(r"^0/(\d+) nodes are available: ")

_MISSING = re.compile(
    r"references non-existent (?:secret|config) key: (?P<key>\S+)"
    r"|(?P<kind>secret|configmap) \"(?P<name>[^\"]+)\" not found"
)
_KINDS = {"secret": "Secret", "configmap": "ConfigMap"}

# A kubelet's words are kept to a length that a status can hold.
_LIMIT = 400


class Missing(NamedTuple):
    """What the guest was to be given and is not there: an object, or (``kind`` is "") a key in one."""

    kind: str
    name: str


def unplaced(instance: VirtualMachineInstance | None) -> str:
    """Why there is no host for the VM, in the scheduler's words, or "".

    That a claim is not bound yet is no matter of hosts: StorageReady tells of it, and the scheduler looks again.
    """
    message = kubevirt.finds_no_host(instance.status.conditions) if instance else ""
    if not message:
        return ""
    if _OF_CLAIMS.search(message):
        advice = "Restore the claim, or remove its disk from the VM; it starts by itself then"
    else:
        advice = "Free capacity, or change placement, CPU, memory or devices of the VM"
    return f"{shortened(message)}. {advice}"


def shortened(message: str) -> str:
    """What the scheduler says, without what it says about preemption and resource claims."""
    short = _ASIDE.split(message, maxsplit=1)[0].strip().rstrip(".")
    if found := _NODES.match(short):
        return f"none of {found[1]} hosts fits: {short[found.end() :]}"
    return short or "no host fits"


def missing(complaints: Sequence[FailedMount]) -> Missing | None:
    """The first Secret, ConfigMap or key that kubelets miss. We may not read tenants' Secrets, so they tell us."""
    for complaint in complaints:
        if found := _MISSING.search(complaint.message):
            return Missing(_KINDS.get(found["kind"] or "", ""), found["name"] or found["key"])
    return None


def trouble(complaints: Sequence[FailedMount]) -> str:
    """What else kubelets complain about, or ""."""
    said = (complaint.message for complaint in complaints if not _MISSING.search(complaint.message))
    return next(said, "")[:_LIMIT]
