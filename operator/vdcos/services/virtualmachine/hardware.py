"""What a VM's hardware needs to be known or permitted: instance type, preference, devices, features of KubeVirt, and
hosts that are kept for some."""

from collections.abc import Iterator

from vdcos import api
from vdcos.api import virtualmachine as words
from vdcos.core.foreign.kubernetes import Namespace
from vdcos.core.foreign.kubevirt import KubeVirt
from vdcos.core.objects import Unreadable
from vdcos.services.virtualmachine.observe import Imposing, Seen

Problem = tuple[str, str]
"""A reason and a message."""


def problems(cr: api.VirtualMachine, seen: Seen) -> Iterator[Problem]:
    """Why the hardware cannot be had, most fundamental first."""
    for matcher, found in ((cr.spec.instancetype, seen.instancetype), (cr.spec.preference, seen.preference)):
        if matcher is not None:
            yield from (
                _unknown(matcher, found) if found is None or isinstance(found, Unreadable) else _imposed(found, seen)
            )
    for device in cr.spec.devices:
        yield from _device(device, seen)
    for key in sorted({each.key for each in cr.spec.placement.tolerations} if cr.spec.placement else ()):
        yield from _toleration(key, seen)


def _unknown(matcher: words.Instancetype | words.Preference, found: Unreadable | None) -> Iterator[Problem]:
    what = "Instancetype" if isinstance(matcher, words.Instancetype) else "Preference"
    if found is not None:
        yield f"{what}Unreadable", found.why
    else:
        yield f"{what}Missing", f"there is no {matcher.kind} {matcher.name}; create it, or name another one"


def _imposed(found: Imposing, seen: Seen) -> Iterator[Problem]:
    """KubeVirt gives the VM all that its instance type and preference say. Those of a namespace are the tenants'."""
    who = f"{found.resource.kind} {found.metadata.name}"
    for device in (*found.spec.gpus, *found.spec.host_devices):
        yield from _not_allowed(who, device.device_name, seen)
    if not found.resource.namespaced:
        return
    for field, value in (("annotations", found.spec.annotations), ("schedulerName", found.spec.scheduler_name)):
        if value:
            yield (
                "InstancetypeNotAllowed" if found.resource.kind.endswith("Instancetype") else "PreferenceNotAllowed",
                f"{who} sets spec.{field}, which only cluster-wide ones may; remove that, or let an admin create "
                "a cluster-wide one",
            )


def _not_allowed(who: str, resource_name: str, seen: Seen) -> Iterator[Problem]:
    """The namespace must be permitted to use the device, whoever asks for it."""
    if not isinstance(seen.namespace, Namespace):
        yield "NamespaceUnknown", "the namespace cannot be read"
        return
    namespace = seen.namespace.metadata
    if not api.allows_device(namespace.annotation(api.ALLOWED_DEVICES), resource_name):
        yield (
            "DeviceNotAllowed",
            f"{who}: namespace {namespace.name} may not use {resource_name}; an admin can add it to annotation "
            f"{api.ALLOWED_DEVICES} of the namespace",
        )


def _device(device: words.Device, seen: Seen) -> Iterator[Problem]:
    yield from _not_allowed(f"device {device.name}", device.resource_name, seen)
    if seen.kubevirt is not None and isinstance(seen.namespace, Namespace):
        yield from _kubevirt(device, seen.kubevirt)


def _kubevirt(device: words.Device, kubevirt: KubeVirt) -> Iterator[Problem]:
    if device.type == "HostDevice" and not kubevirt.gate("HostDevices"):
        yield (
            "FeatureDisabled",
            f"device {device.name}: KubeVirt's feature gate HostDevices is off; an admin can add it to "
            "developerConfiguration.featureGates of the KubeVirt object",
        )
    if device.resource_name not in kubevirt.permitted_devices:
        yield (
            "DeviceNotPermitted",
            f"device {device.name}: KubeVirt does not permit {device.resource_name}; an admin can add it to "
            "permittedHostDevices of the KubeVirt object",
        )


def _toleration(key: str, seen: Seen) -> Iterator[Problem]:
    """Taints are how hosts are kept for some: the namespace must be one of those."""
    if not isinstance(seen.namespace, Namespace):
        yield "NamespaceUnknown", "the namespace cannot be read"
        return
    namespace = seen.namespace.metadata
    if not api.allows_taint(namespace.annotation(api.ALLOWED_TAINTS), key):
        yield (
            "TolerationNotAllowed",
            f"VMs of namespace {namespace.name} may not put up with taint {key} (spec.placement.tolerations); an admin "
            f"can add it to annotation {api.ALLOWED_TAINTS} of the namespace",
        )
