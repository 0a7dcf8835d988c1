"""Taking over a KubeVirt VM that was there before, without a restart.

Whoever may change the KubeVirt VM agrees by an annotation on it. Then it is made ours in steps, each of which may be
the last before a crash: what KubeVirt would do for the VM that we do now is taken out of its spec, its disks are taken
out of its hands, and only then it gets an owner, so that no deletion takes a disk along that is to be retained. What it
runs is touched by none of that; the child is applied afterwards, and what differs waits for the next start, as with any
change.

One that was ours, and was detached, is no stranger: it is taken back as any child is changed (see ``child.converge``).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vdcos.api import virtualmachine as words
from vdcos.core import disks, ownership
from vdcos.core.foreign.kubevirt import VirtualMachine
from vdcos.core.kinds import VIRTUAL_MACHINE
from vdcos.core.objects import Meta
from vdcos.core.plan import Action, Patch
from vdcos.services.virtualmachine import data_volumes

ADOPTABLE = f"{ownership.GROUP}/adoptable"
"""Annotation of a KubeVirt VM, "true" when the VirtualMachine of its name may take it over."""
DEFAULT_NIC = "default"
"""How KubeVirt names the card on the pod network that a VM gets which declares none."""

NOT_DISKS = ("cloudInitNoCloud", "cloudInitConfigDrive", "sysprep")
"""Volumes that are made for each start from what the spec says of the guest."""


def agrees(child: Meta) -> bool:
    """Whether a KubeVirt VM may be taken over: nobody controls it, and its owner says so."""
    return child.annotation(ADOPTABLE) == "true" and not child.controlled


def was_ours(child: Meta) -> bool:
    """Whether a KubeVirt VM was detached from a VirtualMachine of its name. It is taken back in one step, and nobody
    has to agree: it is as we made it, and KubeVirt's VM owns no disk of it."""
    return ownership.detached(child, disks.VM, child.name)


def claims(spec: Mapping[str, Any]) -> dict[str, str]:
    """The claims that a KubeVirt VM uses, by volume."""
    return {volume["name"]: claim for volume in _template(spec).get("volumes", ()) if (claim := claim_of(volume))}


def claim_of(volume: Mapping[str, Any]) -> str:
    """The claim behind a volume; "" when it has none."""
    found = volume.get("dataVolume", {}).get("name") or volume.get("persistentVolumeClaim", {}).get("claimName")
    return str(found or "")


def left_out(vm: str, declared: words.VirtualMachineSpec, spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Disks and cards of a KubeVirt VM that a VirtualMachine does not declare under the same names: the disks as the
    very claims that they are, or the VM would start with others."""
    return tuple(_left_out(vm, declared, spec))


def _left_out(vm: str, declared: words.VirtualMachineSpec, spec: Mapping[str, Any]) -> Iterator[str]:
    template = _template(spec)
    known = {disk.name: disks.claim(vm, disk.name, disk.claim_name) for disk in declared.disks}
    for volume in template.get("volumes", ()):
        if any(kind in volume for kind in NOT_DISKS):
            continue
        claim = claim_of(volume)
        if not claim or known.get(volume["name"]) != claim:
            yield f"volume {volume['name']}" + (f" (claim {claim})" if claim else "")
    nics = {nic.name for nic in declared.nics}
    yield from (f"interface {name}" for name in interfaces(template) if name not in nics)


def interfaces(template: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the cards that a KubeVirt VM gets; those that are being unplugged it loses anyway."""
    devices = template.get("domain", {}).get("devices", {})
    named = devices.get("interfaces", ())
    if named or devices.get("autoattachPodInterface") is False:
        return tuple(interface["name"] for interface in named if interface.get("state") != "absent")
    return (DEFAULT_NIC,)


def _template(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = spec.get("template", {}).get("spec", {})
    return found


def next_step(
    owner: Meta, child: VirtualMachine, spec: Mapping[str, Any], held: Sequence[data_volumes.Held]
) -> tuple[Action, ...]:
    """What is to be done next; ``spec`` is the child's as plain data, ``held`` what there is of the declared disks."""
    if loosened := _loosened(spec):
        return (_patch(child, loosened, "take over the KubeVirt VM: it makes no disks and has a runStrategy"),)
    if owned := [each for each in held if disks.is_held_by(each.metadata, child.metadata)]:
        return tuple(data_volumes.release(each, child.metadata) for each in owned)
    reference = ownership.owner_reference(VIRTUAL_MACHINE, owner)
    operations: list[Mapping[str, Any]] = [{"op": "add", "path": "/metadata/ownerReferences/-", "value": reference}]
    if not child.metadata.owner_references:
        path = "/metadata/ownerReferences"
        operations = [{"op": "test", "path": path, "value": None}, {"op": "add", "path": path, "value": [reference]}]
    if ownership.ADMITTED in (child.metadata.annotations or {}):
        # KubeVirt copies it to clones and restored VMs. With an owner it would count.
        operations.append({"op": "remove", "path": ownership.ADMITTED_AT})
    return (_patch(child, operations, "take over the KubeVirt VM"),)


def _loosened(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """``running`` says what runStrategy says in other words, and KubeVirt takes only one of the two. Templates of disks
    would make KubeVirt own the disks again."""
    operations: list[Mapping[str, Any]] = []
    if (running := spec.get("running")) is not None:
        operations += [
            {"op": "test", "path": "/spec/running", "value": running},
            {"op": "remove", "path": "/spec/running"},
            {"op": "add", "path": "/spec/runStrategy", "value": "Always" if running else "Halted"},
        ]
    if templates := spec.get("dataVolumeTemplates"):
        operations += [
            {"op": "test", "path": "/spec/dataVolumeTemplates", "value": templates},
            {"op": "remove", "path": "/spec/dataVolumeTemplates"},
        ]
    return operations


def _patch(child: VirtualMachine, operations: Sequence[Mapping[str, Any]], why: str) -> Patch:
    meta = child.metadata
    return Patch(child.resource, meta.key, meta.uid, tuple(operations), why, resource_version=meta.resource_version)
