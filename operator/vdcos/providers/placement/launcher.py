"""What a VM's launcher pod will request, for VMs that have none yet. A running one's pod says it itself.

Source: KubeVirt 1.8.2, ``pkg/hypervisor/kvm/hypervisorbackend.go`` (GetMemoryOverhead; up to 1.7 in
``pkg/virt-controller/services/renderresources.go``) and ``pkg/virt-controller/services`` (template.go,
renderresources.go, serialconsolelog.go).
"""

import math
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from vdcos.core import quantity
from vdcos.providers.placement.model import CPU, MEMORY

Tree = Mapping[str, Any]

MIB, GIB = 1 << 20, 1 << 30

# virt-launcher's monitor, itself, virtlogd, virtqemud and qemu without its guest: 25 + 100 + 25 + 40 + 30 MiB.
_PROCESSES = 220 * MIB
_CONSOLE_LOG = {CPU: 5, MEMORY: 35_000_000}
_CONSOLE_LOG_GUARANTEED = {CPU: 15, MEMORY: 60_000_000}


def memory_overhead(spec: Tree, *, architecture: str = "amd64", ratio: str = "") -> int:
    """Bytes that KubeVirt requests for a VM on top of its guest's memory.

    ``spec`` is that of a VirtualMachineInstance, as the manifest has it; ``ratio`` is
    ``additionalGuestMemoryOverheadRatio`` of the KubeVirt object. Raises ValueError for what is no quantity.
    """
    domain = spec.get("domain") or {}
    devices = domain.get("devices") or {}
    memory = domain.get("memory") or {}
    security = domain.get("launchSecurity") or {}
    requested = _quantity(_resources(domain, "requests").get(MEMORY, 0))
    # Page tables: a 512th, of the request rounded up to whole kilobytes.
    overhead = -(-requested // 1000) * 1000 // 512
    overhead += _PROCESSES + 8 * MIB * _vcpus(domain) + 8 * MIB
    if devices.get("autoattachGraphicsDevice") is not False:
        overhead += 32 * MIB
    if architecture == "arm64":
        overhead += 128 * MIB
    if (
        devices.get("gpus")
        or devices.get("hostDevices")
        or any("sriov" in nic for nic in devices.get("interfaces", ()))
    ):
        overhead += GIB
    if any("downwardMetrics" in volume for volume in spec.get("volumes", ())):
        overhead += MIB
    probes = sum("exec" in (spec.get(probe) or {}) for probe in ("livenessProbe", "readinessProbe"))
    overhead += probes * 10 * MIB + (100 * MIB if probes else 0)
    if "sev" in security or "snp" in security:
        overhead += 256 * MIB
    if (tpm := devices.get("tpm")) is not None and tpm.get("enabled") is not False:
        overhead += 53 * MIB
    if _dedicated(domain) or _guaranteed(domain):
        overhead += 100 * MIB
    overhead += _quantity((memory.get("reservedOverhead") or {}).get("addedOverhead", 0))
    if ratio:
        overhead += int(-(-overhead // 1000) * (float(ratio) - 1.0)) * 1000
    return overhead


def launcher_requests(
    spec: Tree,
    *,
    architecture: str = "amd64",
    cpu_allocation_ratio: int = 10,
    memory_overcommit: int = 100,
    overhead_ratio: str = "",
    emulation: bool = False,
) -> dict[str, int]:
    """What the launcher pod of a VirtualMachineInstance spec requests, as ``Machine.requests`` has it.

    The numbers are ``cpuAllocationRatio``, ``memoryOvercommit`` (percent), ``additionalGuestMemoryOverheadRatio`` and
    ``useEmulation`` of the KubeVirt object. Counted are the compute container and the one that logs the serial console;
    not those of container disks, virtiofs, hook sidecars and service meshes. Raises ValueError for what is no quantity.
    """
    domain = spec.get("domain") or {}
    devices = domain.get("devices") or {}
    overhead = memory_overhead(spec, architecture=architecture, ratio=overhead_ratio)
    amounts = {
        name: _milli(value) if name == CPU else _quantity(value)
        for name, value in _resources(domain, "requests").items()
    }
    guest = _quantity((domain.get("memory") or {}).get("guest", 0))
    if not amounts.get(MEMORY):
        limit = _quantity(_resources(domain, "limits").get(MEMORY, 0))
        amounts[MEMORY] = limit or guest * 100 // memory_overcommit
    if hugepages := (domain.get("memory") or {}).get("hugepages"):
        pages = min(amounts[MEMORY], guest) if guest else amounts[MEMORY]
        amounts[f"hugepages-{hugepages['pageSize']}"] = pages
        amounts[MEMORY] = amounts[MEMORY] - pages + overhead
    elif not (domain.get("resources") or {}).get("overcommitGuestOverhead"):
        amounts[MEMORY] += overhead
    threads = ((domain.get("ioThreads") or {}).get("supplementalPoolThreadCount")) or 0
    if _dedicated(domain):
        emulator = bool((domain.get("cpu") or {}).get("isolateEmulatorThread"))
        amounts[CPU] = (_vcpus(domain) + threads + emulator) * 1000
    else:
        share = math.ceil(Fraction((_vcpus(domain) + threads) * 1000, cpu_allocation_ratio))
        amounts.setdefault(CPU, _milli(_resources(domain, "limits").get(CPU, 0)) or share)
    if devices.get("logSerialConsole") is not False and devices.get("autoattachSerialConsole") is not False:
        log = _CONSOLE_LOG_GUARANTEED if _dedicated(domain) or _guaranteed(domain) else _CONSOLE_LOG
        for name, amount in log.items():
            amounts[name] = amounts.get(name, 0) + amount
    # Without interfaces there is one on the pod network, unless that was refused.
    interfaces = devices.get("interfaces") or ([{}] if devices.get("autoattachPodInterface") is not False else [])
    wanted = [] if emulation else ["devices.kubevirt.io/kvm"]
    if interfaces:
        wanted.append("devices.kubevirt.io/tun")
    if not emulation and any(nic.get("model", "virtio") == "virtio" for nic in interfaces):
        wanted.append("devices.kubevirt.io/vhost-net")
    wanted += [each["deviceName"] for kind in ("gpus", "hostDevices") for each in devices.get(kind) or ()]
    for name in wanted:
        amounts[name] = amounts.get(name, 0) + 1
    return amounts


def _resources(domain: Tree, which: str) -> Tree:
    found: Tree = (domain.get("resources") or {}).get(which) or {}
    return found


def _quantity(value: str | int) -> int:
    return quantity.whole(value)


def _milli(value: str | int) -> int:
    return math.ceil(quantity.parse(value) * Decimal(1000))


def _vcpus(domain: Tree) -> int:
    cpu = domain.get("cpu") or {}
    given = [int(cpu[field]) for field in ("cores", "sockets", "threads") if cpu.get(field)]
    if given:
        return math.prod(given)
    said = (_resources(domain, which).get(CPU) for which in ("limits", "requests"))
    return max(1, next((_quantity(value) for value in said if value is not None), 1))


def _dedicated(domain: Tree) -> bool:
    return bool((domain.get("cpu") or {}).get("dedicatedCpuPlacement"))


def _guaranteed(domain: Tree) -> bool:
    requests, limits = _resources(domain, "requests"), _resources(domain, "limits")
    memory = _quantity(requests.get(MEMORY, 0)), _quantity(limits.get(MEMORY, 0))
    cpu = _milli(requests.get(CPU, 0)), _milli(limits.get(CPU, 0))
    return (memory[0] == memory[1] or not memory[0]) and memory[1] > 0 and cpu[0] > 0 and cpu[0] == cpu[1]
