"""What virt-handler writes about VMIs (KubeVirt 1.8.2; fields, reasons and order as recorded on real nodes).

Three controllers live in one virt-handler: of the VMs that run here, of migrations that leave, and of migrations that
arrive. Each is a function from (host, VMI, process) to the status fields that differ from what the API server holds;
the first one with something to say wins, and the next is asked when the API server has answered.
"""

import hashlib
import zlib
from typing import Any

from vdcos.testing.hypervisor import migratable
from vdcos.testing.hypervisor.kubelet import event
from vdcos.testing.hypervisor.objects import Disk, Json, Vmi
from vdcos.testing.hypervisor.values import (
    Direction,
    Exit,
    Host,
    Life,
    Process,
    Ref,
    Verb,
    Write,
    stamp,
)

MACHINE = "pc-q35-10.0"
GUEST: Json = {
    "id": "fedora",
    "kernelRelease": "6.17.1-300.fc43.x86_64",
    "kernelVersion": "#1 SMP PREEMPT_DYNAMIC",
    "machine": "x86_64",
    "name": "Fedora Linux",
    "prettyName": "Fedora Linux 43 (Cloud Edition)",
    "version": "43 (Cloud Edition)",
    "versionId": "43",
}
ISO_SIZE = 1 << 20
TARGET_LABEL = "kubevirt.io/migrationTargetNodeName"
NODE_LABEL = "kubevirt.io/nodeName"
PAUSES = {
    "PausedByUser": "VMI was paused by user",
    "PausedIOError": "VMI was paused, low-level IO error detected",
}

Fields = dict[str, Any]


class Change:
    """A patch of a VMI in the making: new values of status fields, and of labels (None removes one)."""

    def __init__(self, vmi: Vmi) -> None:
        self.vmi = vmi
        self.status: Fields = {}
        self.labels: dict[str, str | None] = {}
        self.annotations: dict[str, str | None] = {}
        self.migration: Fields = {}

    def write(self) -> Write | None:
        """As a JSON patch: whole lists are guarded by what was seen of them, so that nobody's update is lost."""
        vmi, ops = self.vmi, [_op("test", "/metadata/uid", self.vmi.uid)]
        if self.migration:
            ops.append(_op("test", "/status/migrationState/migrationUid", _state(vmi).get("migrationUid")))
        seen = _seen(vmi)
        for name, value in self.status.items():
            if seen.get(name) == value:
                continue
            if isinstance(seen.get(name), list) or name == "phase":
                ops.append(_op("test", f"/status/{name}", seen[name]))
            if value is None:
                ops.append({"op": "remove", "path": f"/status/{name}"})
            else:
                ops.append(_op("add", f"/status/{name}", value))
        for name, value in self.migration.items():
            ops.append(_op("add", f"/status/migrationState/{name}", value))
        for group, present, wanted in (
            ("labels", vmi.metadata.labels, self.labels),
            ("annotations", vmi.metadata.annotations, self.annotations),
        ):
            for key, text in wanted.items():
                path = f"/metadata/{group}/{key.replace('/', '~1')}"
                if text is None and key in present:
                    ops.append({"op": "remove", "path": path})
                elif text is not None and present.get(key) != text:
                    ops.append(_op("add", path, text))
        if all(op["op"] == "test" for op in ops):
            return None
        return Write(Ref("virtualmachineinstances", vmi.metadata.name, vmi.metadata.namespace), Verb.JSON_PATCH, ops)


def _op(op: str, path: str, value: Any) -> Json:
    return {"op": op, "path": path, "value": value}


def _state(vmi: Vmi) -> Json:
    return vmi.status.migration_state or {}


def _seen(vmi: Vmi) -> Fields:
    status = vmi.status
    return {
        "phase": status.phase,
        "nodeName": status.node_name,
        "conditions": status.conditions,
        "interfaces": status.interfaces,
        "volumeStatus": status.volume_status,
        "phaseTransitionTimestamps": status.phase_transition_timestamps,
        "migratedVolumes": status.migrated_volumes,
        "migrationMethod": status.migration_method,
        "selinuxContext": status.selinux_context,
        "evacuationNodeName": status.evacuation_node_name or None,
        "launcherContainerImageVersion": status.launcher_container_image_version or None,
        "machine": status.machine,
        "fsFreezeStatus": status.fs_freeze_status or None,
        "kernelBootStatus": status.kernel_boot_status,
        "memory": status.memory,
        "guestOSInfo": status.guest_os_info,
        "currentCPUTopology": status.current_cpu_topology,
    }


def write(host: Host, vmi: Vmi, now: float) -> Write | None:
    """The next thing that this host's virt-handler has to say about a VMI, if anything."""
    if not host.handler or vmi.final:
        return None
    process = host.process(vmi.uid)
    for controller in (_arriving, _leaving, _running, _arrived):
        if found := controller(host, vmi, process, now):
            return found
    return None


# --- VMs that run here ------------------------------------------------------------------------------------------------


def _running(host: Host, vmi: Vmi, process: Process | None, now: float) -> Write | None:
    if vmi.status.node_name != host.name or vmi.status.phase not in ("Scheduled", "Running"):
        return None
    change = Change(vmi)
    ended = _ended(host, vmi, process)
    if ended:
        change.status = {"phase": ended, "phaseTransitionTimestamps": _reached(vmi, ended, now)}
        return change.write()
    if process is None or process.life in (Life.OFF, Life.INCOMING):
        return None
    conditions = list(vmi.status.conditions or [])
    change.status = {"selinuxContext": "none"}
    if migratable.known(vmi):
        conditions = _put(conditions, migratable.live_migratable(vmi))
        conditions = _put(conditions, migratable.storage_live_migratable(vmi))
        change.status["migrationMethod"] = migratable.migration_method(vmi)
    if process.life is Life.RUNNING:
        change.status |= {
            "phase": "Running",
            "phaseTransitionTimestamps": _reached(vmi, "Running", now),
            "machine": {"type": MACHINE},
            "interfaces": _interfaces(host, vmi, process),
            "fsFreezeStatus": "frozen" if process.frozen else None,
        }
        if kernel := vmi.spec.domain.firmware.kernel_boot:
            change.status["kernelBootStatus"] = {
                "kernelInfo": {"checksum": _checksum(kernel.container, "kernelPath")},
                "initrdInfo": {"checksum": _checksum(kernel.container, "initrdPath")},
            }
        if process.agent:
            change.status["guestOSInfo"] = GUEST
        if process.agent and not vmi.condition("AgentConnected"):
            agent = {"type": "AgentConnected", "status": "True", "lastProbeTime": stamp(now)}
            conditions = [*conditions, agent | {"lastTransitionTime": None}]
        elif not process.agent:
            conditions = _drop(conditions, "AgentConnected")
        conditions = _pause(vmi, process, conditions, now)
    if vmi.status.volume_status:
        change.status["volumeStatus"] = _volumes(vmi, process)
    change.status["conditions"] = conditions
    return change.write()


def _ended(host: Host, vmi: Vmi, process: Process | None) -> str:
    """The final phase that the VMI has reached here, or nothing."""
    if process is not None and process.life is Life.OFF:
        match process.exit:
            case Exit.MIGRATED:
                return ""
            case Exit.SHUTDOWN:
                return "Succeeded"
            case _:
                return "Failed"
    if process is None:
        launcher = any(
            seen.pod.vmi == vmi.uid and not seen.pod.finished and seen.pod.uid in host.runs
            for seen in host.pods.values()
        )
        if vmi.status.phase == "Running" or not launcher:
            return "Failed"
    return ""


def _reached(vmi: Vmi, phase: str, now: float) -> list[Json]:
    """The phase history, with `phase` reached now unless it was before."""
    history = list(vmi.status.phase_transition_timestamps or [])
    if any(p["phase"] == phase for p in history):
        return history
    return [*history, {"phase": phase, "phaseTransitionTimestamp": stamp(now)}]


def panicked(vmi: Vmi, now: float) -> Write:
    """The Event by which virt-launcher tells of a panic (KubeVirt 1.8: reason, kind and component)."""
    said = "GuestPanicked (details unavailable)"
    return event("VirtualMachineInstance", vmi, "GuestPanicked", said, "virt-handler", now, "kubevirt.io/v1")


def _put(conditions: list[Json], wanted: Json) -> list[Json]:
    """With `wanted` among the conditions; moved to the end if it changes, as virt-handler does."""
    present = next((c for c in conditions if c["type"] == wanted["type"]), None)
    if present == wanted:
        return conditions
    return [*_drop(conditions, wanted["type"]), wanted]


def _drop(conditions: list[Json], *kinds: str) -> list[Json]:
    return [c for c in conditions if c["type"] not in kinds]


def _pause(vmi: Vmi, process: Process, conditions: list[Json], now: float) -> list[Json]:
    if not process.paused:
        return _drop(conditions, "Paused")
    if vmi.condition("Paused"):
        return conditions
    at = stamp(now)
    paused = {"type": "Paused", "status": "True", "lastProbeTime": at, "lastTransitionTime": at}
    return [*conditions, {**paused, "reason": process.paused, "message": PAUSES[process.paused]}]


def _interfaces(host: Host, vmi: Vmi, process: Process) -> list[Json]:
    """As libvirt and the guest agent report them; what Multus reported is kept. The pod network comes first."""
    before = {i.get("name", ""): i for i in vmi.status.interfaces or []}
    pod_network = next((n.name for n in vmi.spec.networks if n.pod is not None), None)
    run = host.runs.get(process.pod)
    found: list[Json] = []
    for interface in vmi.spec.domain.devices.interfaces:
        old = before.get(interface.name, {})
        if interface.state == "absent":
            continue
        if interface.name not in process.nics:
            if "multus-status" in old.get("infoSource", ""):
                found.append({k: v for k, v in old.items() if k in ("name", "podInterfaceName", "infoSource")})
            continue
        sources = ["domain"]
        own = interface.mac_address or old.get("mac") or mac(vmi, interface.name)
        status: Json = {"name": interface.name, "mac": own}
        if interface.sriov is None:
            status |= {"linkState": interface.state or "up", "queueCount": 1}
        if process.agent:
            sources.append("guest-agent")
            status["interfaceName"] = f"eth{len(found)}"
        if "multus-status" in old.get("infoSource", ""):
            sources.append("multus-status")
        if interface.name == pod_network and run is not None:
            status |= {"ipAddress": run.ip, "ipAddresses": [run.ip]}
        if "podInterfaceName" in old:
            status["podInterfaceName"] = old["podInterfaceName"]
        status["infoSource"] = ", ".join(sources)
        found.append(status)
    found.sort(key=lambda s: s["name"] != pod_network)
    return found


def mac(vmi: Vmi, interface: str) -> str:
    """A stable, locally administered unicast address, as a kernel would make one up."""
    octets = hashlib.sha256(f"{vmi.uid}/{interface}".encode()).digest()[:5]
    return ":".join(["02", *(f"{o:02x}" for o in octets)])


# --- Volumes ----------------------------------------------------------------------------------------------------------


def _volumes(vmi: Vmi, process: Process) -> list[Json]:
    targets = _targets(vmi, process) if process.life is Life.RUNNING else {}
    declared = {v.name: v for v in vmi.spec.volumes}
    statuses = []
    for seen in vmi.status.volume_status or []:
        status = {**seen, "target": targets.get(seen["name"], "")}
        volume = declared.get(seen["name"])
        if seen.get("hotplugVolume") is not None:
            status = _hotplugged(status, process, declared=volume is not None)
        elif volume is not None and (volume.cloud_init_no_cloud or volume.cloud_init_config_drive or volume.sysprep):
            status["size"] = ISO_SIZE
        elif volume is not None and volume.container_disk and process.life is Life.RUNNING:
            status["containerDiskVolume"] = {"checksum": _checksum(volume.container_disk)}
        statuses.append(status)
    return sorted(statuses, key=lambda s: str(s["name"]))


def _checksum(container: Json, path: str = "path") -> int:
    """Of a file in an image. Always below 2³¹: KubeVirt 1.8.2 fails on the others on Kubernetes 1.36."""
    return zlib.crc32(f"{container.get('image')}:{container.get(path)}".encode()) & 0x7FFFFFFF


def _hotplugged(status: Json, process: Process, *, declared: bool) -> Json:
    name = status["name"]
    phase = status.get("phase", "")
    if status["target"]:
        said = ("Ready", "VolumeReady", f"Successfully attach hotplugged volume {name} to VM")
    elif declared and name in process.plugged and phase in ("Bound", "Pending", "AttachedToNode"):
        said = ("MountedToPod", "VolumeMountedToPod", f"Volume {name} has been mounted in virt-launcher pod")
    elif not declared and name not in process.plugged and phase in ("Ready", "MountedToPod", "AttachedToNode"):
        message = f"Volume {name} has been unmounted from virt-launcher pod"
        said = ("UnMountedFromPod", "VolumeUnMountedFromPod", message)
    else:
        return status
    return status | dict(zip(("phase", "reason", "message"), said, strict=True))


def _targets(vmi: Vmi, process: Process) -> dict[str, str]:
    """Device names as libvirt gives them: counted per prefix, in the order of the disks."""
    hotplug = {s["name"] for s in vmi.status.volume_status or [] if s.get("hotplugVolume") is not None}
    volumes = {v.name for v in vmi.spec.volumes}
    counts: dict[str, int] = {}
    targets = {}
    for disk in vmi.spec.domain.devices.disks:
        if disk.name not in volumes or (disk.name in hotplug and disk.name not in process.attached):
            continue
        prefix = _prefix(disk)
        targets[disk.name] = prefix + _letters(counts.get(prefix, 0))
        counts[prefix] = counts.get(prefix, 0) + 1
    return targets


def _prefix(disk: Disk) -> str:
    return "vd" if disk.bus == "virtio" else "sd"


def _letters(number: int) -> str:
    return (_letters(number // 26 - 1) if number >= 26 else "") + chr(ord("a") + number % 26)


def wanted_volumes(vmi: Vmi) -> tuple[frozenset[str], frozenset[str]]:
    """Of the VMI's hot-plugged volumes: those to mount (declared, and their attachment pod runs), and those in use."""
    declared = {v.name for v in vmi.spec.volumes}
    mount, attach = set(), set()
    for status in vmi.status.volume_status or []:
        hotplug = status.get("hotplugVolume")
        if hotplug is None or status["name"] not in declared:
            continue
        if hotplug.get("attachPodUID"):
            mount.add(status["name"])
        if status.get("phase") in ("MountedToPod", "Ready"):
            attach.add(status["name"])
    return frozenset(mount), frozenset(attach)


# --- Migrations that leave --------------------------------------------------------------------------------------------


def is_source(host: Host, vmi: Vmi) -> bool:
    state = _state(vmi)
    return state.get("sourceNode") == host.name and not state.get("completed") and not state.get("failed")


def _leaving(host: Host, vmi: Vmi, process: Process | None, now: float) -> Write | None:
    state = _state(vmi)
    migration = process.migration if process is not None else None
    if migration is None or migration.direction is not Direction.OUT or migration.uid != state.get("migrationUid"):
        return None
    if not is_source(host, vmi):
        return None
    change = Change(vmi)
    if not state.get("startTimestamp"):
        change.migration = {"startTimestamp": stamp(migration.started), "mode": "PreCopy"}
    elif migration.failure:
        change.migration = {"failed": True, "endTimestamp": stamp(migration.ended), "failureReason": migration.failure}
        if migration.aborted:
            change.migration["abortStatus"] = "Succeeded"
    else:
        return None
    return change.write()


# --- Migrations that arrive -------------------------------------------------------------------------------------------


def is_target(host: Host, vmi: Vmi) -> bool:
    return _state(vmi).get("targetNode") == host.name and vmi.metadata.labels.get(TARGET_LABEL) == host.name


def _arriving(host: Host, vmi: Vmi, process: Process | None, now: float) -> Write | None:
    """Up to the acknowledgement: listen, see the domain come, see it run, take the VMI over."""
    state = _state(vmi)
    if not is_target(host, vmi) or state.get("endTimestamp"):
        return None
    migration = process.migration if process is not None else None
    if process is None or migration is None or migration.uid != state.get("migrationUid") or not migration.ready:
        return None
    change = Change(vmi)
    if not state.get("targetNodeAddress"):
        port = 30000 + zlib.crc32(migration.uid.encode()) % 30000
        change.migration = {
            "targetNodeAddress": "127.0.0.1",
            "targetDirectMigrationNodePorts": {str(port): 0, str(port + 1): 49152},
        }
    elif migration.detected and not state.get("targetNodeDomainDetected"):
        change.migration = {"targetNodeDomainDetected": True}
    elif process.active and not state.get("targetNodeDomainReadyTimestamp"):
        change.migration = {"targetNodeDomainReadyTimestamp": stamp(process.since)}
        change.status["conditions"] = _drop(list(vmi.status.conditions or []), "MigrationRequired")
    elif process.active:
        change.migration = {"endTimestamp": stamp(process.since)}
        change.labels = {NODE_LABEL: host.name, "kubevirt.io/outdatedLauncherImage": None}
        change.annotations = {"kubevirt.io/eviction-source": None}
        change.status = {"nodeName": host.name, "evacuationNodeName": None, "launcherContainerImageVersion": None}
        if (overhead := state.get("targetMemoryOverhead")) and vmi.status.memory is not None:
            change.status["memory"] = {**vmi.status.memory, "memoryOverhead": overhead}
    else:
        return None
    return change.write()


def _arrived(host: Host, vmi: Vmi, process: Process | None, now: float) -> Write | None:
    """After the acknowledgement: bring hot-added CPU and memory in, complete, and let the migration go."""
    state = _state(vmi)
    if not is_target(host, vmi) or not state.get("endTimestamp"):
        return None
    change = Change(vmi)
    if state.get("completed") or state.get("failed"):
        change.labels = {TARGET_LABEL: None}
        return change.write()
    if process is None or not process.active or not state.get("startTimestamp"):
        return None
    change.migration = {"completed": True}
    change.labels = {
        "kubevirt.io/vmi-pod-cpu-resource-limits": None,
        "kubevirt.io/vmi-pod-memory-resource-requests": None,
        "kubevirt.io/memory-hotplug-overhead-ratio": None,
    }
    change.status = {"migratedVolumes": None}
    if vmi.condition("HotVCPUChange"):
        cpu = vmi.spec.domain.cpu
        change.status["currentCPUTopology"] = {"sockets": cpu.sockets, "cores": cpu.cores, "threads": cpu.threads}
    if vmi.condition("HotMemoryChange"):
        guest = vmi.spec.domain.memory.guest
        change.status["memory"] = {**(vmi.status.memory or {}), "guestRequested": guest, "guestCurrent": guest}
    kept = _drop(list(vmi.status.conditions or []), "HotVCPUChange", "HotMemoryChange", "VolumesChange")
    change.status["conditions"] = kept
    return change.write()
