"""What a VM's hardware needs to be known or permitted: instance type, preference, devices, features of KubeVirt."""

from collections.abc import Iterator

from vdcos import api
from vdcos.api import virtualmachine as words
from vdcos.core.foreign.kubernetes import Namespace
from vdcos.core.foreign.kubevirt import KubeVirt
from vdcos.core.objects import Meta, Unreadable
from vdcos.services.virtualmachine.observe import Seen

Problem = tuple[str, str]
"""A reason and a message."""


def problems(cr: api.VirtualMachine, seen: Seen) -> Iterator[Problem]:
    """Why the hardware cannot be had, most fundamental first."""
    for matcher, found in ((cr.spec.instancetype, seen.instancetype), (cr.spec.preference, seen.preference)):
        if matcher is not None and not isinstance(found, Meta):
            yield _unknown(matcher, found)
    for device in cr.spec.devices:
        yield from _device(device, seen)


def _unknown(matcher: words.Instancetype | words.Preference, found: Unreadable | None) -> Problem:
    what = "Instancetype" if isinstance(matcher, words.Instancetype) else "Preference"
    if found is not None:
        return f"{what}Unreadable", found.why
    return f"{what}Missing", f"there is no {matcher.kind} {matcher.name}; create it, or name another one"


def _device(device: words.Device, seen: Seen) -> Iterator[Problem]:
    if not isinstance(seen.namespace, Namespace):
        yield "NamespaceUnknown", "the namespace cannot be read"
        return
    namespace = seen.namespace.metadata
    if not api.allows_device(namespace.annotation(api.ALLOWED_DEVICES), device.resource_name):
        yield (
            "DeviceNotAllowed",
            f"device {device.name}: namespace {namespace.name} may not use {device.resource_name}; an admin can add it "
            f"to annotation {api.ALLOWED_DEVICES} of the namespace",
        )
    if seen.kubevirt is not None:
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
