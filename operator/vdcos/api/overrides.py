"""What `spec.overrides` of a VirtualMachine may touch, as data for the CEL rule, the reference page and the builder.

A path is a JSON pointer into the generated KubeVirt VirtualMachine; elements of `disks` and `interfaces` are addressed
by their name instead of their index. Everything else is refused: annotations (hook sidecars run code), volumes (host
files), node names, owners, whatever the operator sets itself, and what would let a tenant stand in an administrator's
way (eviction, priority).
"""

import re
import typing

PREFIX = "/spec/template/spec"
_NAME = "[a-z0-9][-a-z0-9]*"
_BELOW = "(/[A-Za-z0-9-]+)*"


class Allowed(typing.NamedTuple):
    """One allowed place: `pattern` (RE2) matches all of the path after `PREFIX`; `why` is for the reference page."""

    pattern: str
    why: str


ALLOWED: typing.Final = (
    Allowed("/architecture", "CPU architecture, on clusters with several."),
    Allowed("/dnsPolicy", "How the pod behind the VM resolves names."),
    Allowed(f"/dnsConfig{_BELOW}", "Name servers and search domains of the pod network."),
    Allowed("/subdomain", "DNS subdomain of the guest, for headless Services."),
    Allowed("/terminationGracePeriodSeconds", "How long the guest may take to shut down: 3600 s at most."),
    Allowed(f"/topologySpreadConstraints{_BELOW}", "Spreading over zones, beyond `placement`."),
    Allowed(f"/domain/chassis{_BELOW}", "SMBIOS chassis strings, for licences bound to them."),
    Allowed(f"/domain/clock{_BELOW}", "Time zone and timers."),
    Allowed(f"/domain/features{_BELOW}", "ACPI, APIC, Hyper-V enlightenments, SMM."),
    Allowed("/domain/machine/type", "Emulated machine, where the cluster permits more than one."),
    Allowed("/domain/ioThreadsPolicy", "Threads that serve the disks: shared, auto or supplementalPool."),
    Allowed(f"/domain/ioThreads{_BELOW}", "Number of threads of the supplemental pool."),
    Allowed(f"/domain/launchSecurity{_BELOW}", "Confidential computing (SEV, SEV-SNP, TDX)."),
    Allowed(f"/domain/cpu/features{_BELOW}", "CPU flags to force, require or forbid."),
    Allowed("/domain/cpu/isolateEmulatorThread", "A CPU of its own for the emulator, with dedicated CPUs."),
    Allowed("/domain/cpu/maxSockets", "Room for CPU hot-plug, if not four times the declared sockets."),
    Allowed(f"/domain/cpu/numa{_BELOW}", "NUMA topology as the host has it."),
    Allowed(f"/domain/cpu/realtime{_BELOW}", "Real-time scheduling, with dedicated CPUs."),
    Allowed("/domain/memory/maxGuest", "Room for memory hot-plug, if not four times the declared size."),
    Allowed("/domain/devices/autoattachGraphicsDevice", "Whether there is a screen."),
    Allowed("/domain/devices/autoattachInputDevice", "Whether there is a pointer."),
    Allowed("/domain/devices/autoattachMemBalloon", "Whether the guest reports memory use."),
    Allowed("/domain/devices/autoattachSerialConsole", "Whether there is a serial console."),
    Allowed("/domain/devices/autoattachVSOCK", "A host channel for guest agents."),
    Allowed("/domain/devices/blockMultiQueue", "One disk queue per CPU."),
    Allowed("/domain/devices/networkInterfaceMultiqueue", "One network queue per CPU."),
    Allowed("/domain/devices/logSerialConsole", "Whether the serial console is written to the pod's log."),
    Allowed("/domain/devices/useVirtioTransitional", "Virtio 0.9, for old guests."),
    Allowed(f"/domain/devices/inputs{_BELOW}", "Tablets."),
    Allowed(f"/domain/devices/panicDevices{_BELOW}", "Devices by which a guest reports a panic."),
    Allowed(f"/domain/devices/rng{_BELOW}", "Random numbers from the host."),
    Allowed(f"/domain/devices/sound{_BELOW}", "A sound card."),
    Allowed(f"/domain/devices/video{_BELOW}", "Video card model."),
    Allowed(f"/domain/devices/watchdog{_BELOW}", "A watchdog that resets a hung guest."),
    Allowed(
        f"/domain/devices/disks/{_NAME}/(cache|io|errorPolicy|dedicatedIOThread|serial|tag)", "Tuning of one disk."
    ),
    Allowed(f"/domain/devices/disks/{_NAME}/blockSize{_BELOW}", "Sector size of one disk."),
    Allowed(f"/domain/devices/interfaces/{_NAME}/(acpiIndex|pciAddress|tag)", "Address and tag of one NIC."),
    Allowed(f"/domain/devices/interfaces/{_NAME}/dhcpOptions{_BELOW}", "DHCP answers on the pod network."),
)

PATTERN: typing.Final = f"^{PREFIX}({'|'.join(allowed.pattern for allowed in ALLOWED)})$"
"""One RE2 expression for all allowed paths."""

_COMPILED = re.compile(PATTERN)


def is_allowed(path: str) -> bool:
    """Whether an override may touch this path."""
    return _COMPILED.fullmatch(path) is not None
