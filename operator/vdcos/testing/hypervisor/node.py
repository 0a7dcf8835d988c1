"""What a host tells about itself: Node, Lease, CSINode and virt-handler's heartbeat; labels as a real labeller's."""

from vdcos.testing.hypervisor.handler import MACHINE
from vdcos.testing.hypervisor.kubelet import host_address
from vdcos.testing.hypervisor.objects import Json
from vdcos.testing.hypervisor.values import Fault, Host, Ref, Verb, Write, micro_stamp, stamp

CSI_DRIVERS = tuple(f"{kind}.csi.vdcos.dev" for kind in ("block", "file", "nfs", "small"))
VENDOR = "AMD"
HOST_MODEL = "EPYC"
CPU_MODELS = ("EPYC", "EPYC-IBPB", "EPYC-Rome", "EPYC-Milan", "Opteron_G3", "Nehalem", "Westmere", "Penryn", "qemu64")
MACHINES = ("q35", "pc", MACHINE)
KUBEVIRT_DEVICES = ("kvm", "tun", "vhost-net")
KUBELET = "v1.35.4"
LEASES = 4
"""A kubelet renews its Lease so many times before it would end."""


def devices(index: int) -> dict[str, str]:
    """Device plugins' resources of the `index`-th host: one has GPUs, two have NVMe disks to pass through."""
    found = {}
    if index == 1:
        found["nvidia.com/TU104GL_Tesla_T4"] = "2"
    if index <= 2:
        found["vdcos.dev/nvme"] = "4"
    return found


def ours(driver: str) -> bool:
    """Whether a provisioner is one that we play."""
    return driver == "csi.vdcos.dev" or driver.endswith(".csi.vdcos.dev")


def labels(host: Host) -> dict[str, str]:
    pinning = "true" if host.index <= 2 else "false"
    return {
        "beta.kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": host.name,
        "kubernetes.io/os": "linux",
        "node-role.kubernetes.io/worker": "",
        "topology.kubernetes.io/region": "region-1",
        "topology.kubernetes.io/zone": f"zone-{(host.index - 1) % 3 + 1}",
        "kubevirt.io/ksm-enabled": "false",
        "kubevirt.io/cpumanager": pinning,
        "cpumanager": pinning,
        f"cpu-vendor.node.kubevirt.io/{VENDOR}": "true",
        f"host-model-cpu.node.kubevirt.io/{HOST_MODEL}": "true",
        "cpu-feature.node.kubevirt.io/npt": "true",
        "host-model-required-features.node.kubevirt.io/npt": "true",
        **{f"cpu-model.node.kubevirt.io/{m}": "true" for m in CPU_MODELS},
        **{f"cpu-model-migration.node.kubevirt.io/{m}": "true" for m in CPU_MODELS},
        **{f"machine-type.node.kubevirt.io/{m}": "true" for m in MACHINES},
    }


def register(host: Host, now: float) -> tuple[Write, ...]:
    """A kubelet's first words: the Node with its status and its CSI drivers; and virt-handler's, if it runs already."""
    metadata = {
        "name": host.name,
        "labels": labels(host),
        "annotations": {
            "volumes.kubernetes.io/controller-managed-attach-detach": "true",
            "kubevirt.io/ksm-handler-managed": "false",
        },
    }
    status_now = _status(host, now)
    body = {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {}, "status": status_now}
    drivers = [{"name": d, "nodeID": host.name, "topologyKeys": []} for d in CSI_DRIVERS]
    csi_node = {"metadata": {"name": host.name}, "spec": {"drivers": drivers}}
    return (
        Write(
            Ref("nodes", host.name), Verb.STRATEGIC_PATCH, {"metadata": metadata},
            otherwise=Write(Ref("nodes", host.name), Verb.CREATE, body),
        ),
        status(host, now),
        Write(
            Ref("csinodes", host.name), Verb.STRATEGIC_PATCH, {"spec": csi_node["spec"]},
            otherwise=Write(Ref("csinodes", host.name), Verb.CREATE, csi_node),
        ),
        lease(host, now),
        *([heartbeat(host, now)] if host.handler else []),
    )  # fmt: skip


def status(host: Host, now: float) -> Write:
    return Write(Ref("nodes", host.name), Verb.STRATEGIC_PATCH, {"status": _status(host, now)}, "status")


def _status(host: Host, now: float) -> Json:
    resources = {
        "cpu": "64",
        "memory": "256Gi",
        "pods": "500",
        "ephemeral-storage": "1Ti",
        "hugepages-1Gi": "8Gi" if host.index == 1 else "0",
        "hugepages-2Mi": "32Gi" if host.index <= 2 else "0",
        **dict.fromkeys(sorted(host.resources), "1k"),
    }
    # Device plugins register anew after a boot: until then their resources are there, but none can be had.
    plugins = {**{f"devices.kubevirt.io/{d}": "1k" for d in KUBEVIRT_DEVICES}, **devices(host.index)}
    resources |= plugins if host.handler else dict.fromkeys(plugins, "0")
    full = (Fault.FULL_DISK, "") in host.faults
    conditions = [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "True", "KubeletHasDiskPressure", "kubelet has disk pressure")
        if full
        else ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ]
    return {
        "addresses": [
            {"type": "InternalIP", "address": host_address(host)},
            {"type": "Hostname", "address": host.name},
        ],
        "allocatable": resources,
        "capacity": resources,
        "conditions": [
            {
                "type": kind,
                "status": value,
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": stamp(now),
                "lastTransitionTime": stamp(host.disk_since if kind == "DiskPressure" else host.up_since),
            }
            for kind, value, reason, message in conditions
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": host.kubelet_port}},
        "nodeInfo": {
            "architecture": "amd64",
            "bootID": boot_id(host),
            "containerRuntimeVersion": "containerd://2.2.9",
            "kernelVersion": "6.12.57",
            "kubeProxyVersion": "",
            "kubeletVersion": KUBELET,
            "machineID": f"{host.index:032x}",
            "operatingSystem": "linux",
            "osImage": "Debian GNU/Linux 13 (trixie)",
            "systemUUID": system_uuid(host),
        },
    }


def system_uuid(host: Host) -> str:
    """The machine's own, which no boot and no installation changes."""
    return f"00000000-0000-4000-9000-{host.index:012x}"


def boot_id(host: Host) -> str:
    """Differs at every power cycle, and between hosts."""
    return f"00000000-0000-4000-{0x8000 + host.index:04x}-{host.boots:012x}"


def lease(host: Host, now: float) -> Write:
    ref = Ref("leases", host.name, "kube-node-lease")
    spec = {
        "holderIdentity": host.name,
        "leaseDurationSeconds": round(host.timings.lease * LEASES),
        "renewTime": micro_stamp(now),
    }
    body = {"metadata": {"name": host.name, "namespace": "kube-node-lease"}, "spec": spec}
    return Write(ref, Verb.MERGE_PATCH, {"spec": spec}, otherwise=Write(ref, Verb.CREATE, body))


def heartbeat(host: Host, now: float) -> Write:
    """virt-handler's: the node takes VMs only while its device plugins work."""
    body = {
        "metadata": {
            "labels": {"kubevirt.io/schedulable": "true" if host.handler else "false"},
            "annotations": {"kubevirt.io/heartbeat": stamp(now)},
        }
    }
    return Write(Ref("nodes", host.name), Verb.STRATEGIC_PATCH, body)
