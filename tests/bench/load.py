"""What is written: VirtualMachines, the very requests that vdcos makes for them, and the world in which they rest."""

import asyncio
import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tests.bench.plane import BenchError, Json, Plane
from tests.devcluster import fleet
from vdcos.core import disks
from vdcos.core.foreign.cdi import DataVolume
from vdcos.core.foreign.kubevirt import VirtualMachine
from vdcos.core.kinds import DATASTORE, NETWORK, VIRTUAL_MACHINE
from vdcos.runtime.credentials import Origin
from vdcos.runtime.metrics import Metrics
from vdcos.runtime.port import Port
from vdcos.runtime.providers.discovery import discover_networks
from vdcos.runtime.queue import Item
from vdcos.runtime.reflector import Reflector
from vdcos.runtime.rehearsal import Rehearsal
from vdcos.runtime.requests import JSON, MERGE_PATCH, Request
from vdcos.runtime.store import Store
from vdcos.services.catalogue import dated, indexes, kinds, services

Chain = list[Json]
DISK = "root"


def call(method: str, path: str, body: Any = None, content_type: str = JSON) -> Json:
    """One request of a chain."""
    return {"method": method, "path": path, "contentType": content_type, "body": body}


@dataclass(frozen=True)
class Sent:
    """How a load went."""

    cpu: float
    """Seconds that the client used."""
    stamps: Mapping[int, int]
    """When each resource version was answered, in Unix nanoseconds; empty when it was not asked for."""


async def send(
    plane: Plane, chains: Iterable[Chain], parallel: int = 32, *, as_operator: bool = False, stamps: bool = False
) -> Sent:
    """Make all requests. Raises BenchError when one is refused."""
    file, stamp_file = plane.directory / "chains.jsonl", plane.directory / "stamps.txt"
    count = 0
    with file.open("w") as output:
        for chain in chains:
            output.write(json.dumps(chain, separators=(",", ":")) + "\n")
            count += 1
    command = [
        *(plane.artifacts["bench-wall"], "-server", plane.server, "-ca", str(plane.ca), "-chains", str(file)),
        *("-token-file", str(plane.operator_token_file if as_operator else plane.token_file)),
        *("-parallel", str(parallel)),
        *(("-stamps", str(stamp_file)) if stamps else ()),
    ]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    output_bytes, _ = await process.communicate()
    if process.returncode:
        raise BenchError(f"the load client ended with {process.returncode}")
    said = json.loads(output_bytes)
    if said["codes"]:
        raise BenchError(f"not every write was carried out: {said['codes']}, for example {said['error']}")
    lines = stamp_file.read_text().splitlines() if stamps else []
    return Sent(said["cpu"], {int(version): int(at) for version, at in (line.split() for line in lines)})


# What users declare


async def declare_datacenter(plane: Plane) -> None:
    """The network and the datastore that all VMs use."""
    for item in fleet.infrastructure():
        path = (NETWORK if item["kind"] == "Network" else DATASTORE).path()
        await plane.request("POST", path, item)


async def declare(plane: Plane, namespace: str, numbers: Iterable[int], *, stamps: bool = False) -> Sent:
    """Create VirtualMachines."""
    path = VIRTUAL_MACHINE.path(namespace)
    return await send(
        plane, ([call("POST", path, fleet.machine(namespace, number))] for number in numbers), stamps=stamps
    )


async def make_namespace(plane: Plane, name: str) -> None:
    await plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})


async def clear(plane: Plane, namespace: str) -> None:
    """Delete the VMs of a namespace and what was made for them: there is no garbage collector here."""
    resources = (VIRTUAL_MACHINE, VirtualMachine.resource, DataVolume.resource)
    await asyncio.gather(*(plane.request("DELETE", resource.path(namespace)) for resource in resources))


# What vdcos writes for them


class _Recorder(Rehearsal):
    """Plays the engine, and keeps its requests by the object that they are made for."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.requests: dict[Item, list[Request]] = {}
        self._item: Item | None = None

    def _look(self, item: Item) -> None:
        self._item = item
        super()._look(item)

    def _answer(self, request: Request) -> bytes:
        assert self._item is not None, "requests are only made during a look"
        self.requests.setdefault(self._item, []).append(request)
        return super()._answer(request)


async def rehearse(plane: Plane) -> list[list[Request]]:
    """The requests that vdcos would make now, one list per VirtualMachine, from the same code and the same objects."""
    served = services(discover_networks())
    resources = kinds(served)
    store = Store(resources, indexes(served), dated(served))
    metrics = Metrics()
    async with Port.open(Origin(str(plane.kubeconfig))) as port:
        sources = [Reflector(kind, resource, port, store, metrics) for kind, resource in resources.items()]
        await asyncio.gather(*(source.once() for source in sources))
    recorder = _Recorder(served, store)
    recorder.play()
    return [made for item, made in recorder.requests.items() if item.service == "virtualmachine"]


def chain(requests: Sequence[Request]) -> Chain:
    """Requests of the engine for the load client."""
    return [
        call(
            made.method,
            f"{made.path}?{urlencode(made.query)}" if made.query else made.path,
            json.loads(made.body or b"null"),
            made.content_type,
        )
        for made in requests
    ]


def template(requests: Sequence[Request]) -> Json:
    """What vdcos writes for one VM, with marks for what differs between VMs: the bodies of the other operators."""
    by_verb = {made.verb: made for made in requests}
    create, apply, status = by_verb["create"], by_verb["apply"], by_verb["status"]
    body = json.loads(apply.body or b"")
    uid = body["metadata"]["ownerReferences"][0]["uid"]
    marks = {create.key.name: "@DISK@", apply.key.name: "@NAME@", apply.key.namespace: "@NAMESPACE@", uid: "@UID@"}
    texts = {}
    for name, content in (
        ("child", body),
        ("volume", json.loads(create.body or b"")),
        ("status", json.loads(status.body or b"")["status"]),
    ):
        text = json.dumps(content)
        for value, mark in marks.items():
            text = text.replace(value, mark)
        texts[name] = json.loads(text)
    return texts


# The world in which VMs rest


def nodes(count: int) -> Iterable[Chain]:
    """Hosts, as large as a kubelet reports them."""
    for number in range(count):
        name = f"host-{number:04}"
        labels = {
            "kubernetes.io/hostname": name,
            "kubernetes.io/arch": "amd64",
            "kubernetes.io/os": "linux",
            "kubevirt.io/schedulable": "true",
            "topology.kubernetes.io/zone": f"rack-{number // 40}",
            **{f"cpu-feature.node.kubevirt.io/feature-{index}": "true" for index in range(80)},
            **{f"cpu-model.node.kubevirt.io/model-{index}": "true" for index in range(12)},
        }
        amounts = {"cpu": "64", "memory": "512Gi", "pods": "250", "ephemeral-storage": "800Gi"}
        amounts |= {f"devices.kubevirt.io/{device}": "1k" for device in ("kvm", "tun", "vhost-net")}
        images = [
            {"names": [f"registry.example/images/image-{index}@sha256:{index:064x}"], "sizeBytes": 10**8}
            for index in range(30)
        ]
        status = {
            "capacity": amounts,
            "allocatable": amounts,
            "images": images,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
            "addresses": [{"type": "Hostname", "address": name}],
            "nodeInfo": dict.fromkeys(
                ("machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion",
                 "kubeletVersion", "kubeProxyVersion", "operatingSystem", "architecture"),
                "x",
            ),
        }  # fmt: skip
        yield [call("POST", "/api/v1/nodes", {"metadata": {"name": name, "labels": labels}, "status": status})]


def running(vm: Json, hosts: int, number: int) -> Chain:
    """What KubeVirt, CDI and the hosts would add to a KubeVirt VM (as stored) until it runs and its disk is full.

    The instance is somewhat smaller than real ones: 4 KB, where those have 5.
    """
    meta, spec = vm["metadata"], vm["spec"]["template"]["spec"]
    namespace, name = meta["namespace"], meta["name"]
    host = f"host-{number % hosts:04}"
    disk = disks.name(name, DISK)
    made: Chain = [
        call("PATCH", VirtualMachine.resource.path(namespace, name, "status"), {"status": {
            "created": True, "ready": True, "printableStatus": "Running", "runStrategy": vm["spec"]["runStrategy"],
            "desiredGeneration": meta["generation"], "observedGeneration": meta["generation"],
            "conditions": [_true("Ready"), _true("LiveMigratable"), _true("StorageLiveMigratable")],
        }}, MERGE_PATCH),
        call("POST", f"/apis/kubevirt.io/v1/namespaces/{namespace}/virtualmachineinstances", instance(vm, spec, host)),
        call("PATCH", DataVolume.resource.path(namespace, disk, "status"), {"status": {
            "phase": "Succeeded", "progress": "100.0%", "claimName": disk,
            "conditions": [_true("Ready"), _true("Bound"), {"type": "Running", "status": "False"}],
        }}, MERGE_PATCH),
        *claim(namespace, name, disk),
    ]  # fmt: skip
    return made


def claim(namespace: str, vm: str, disk: str) -> Chain:
    """The claim that CDI makes of a DataVolume, bound."""
    path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
    owner = {"apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume", "name": disk, "uid": disk}
    annotations = {
        disks.REQUESTED: str(2**30),
        "cdi.kubevirt.io/storage.contentType": "kubevirt",
        "cdi.kubevirt.io/storage.pod.phase": "Succeeded",
        "pv.kubernetes.io/bind-completed": "yes",
        "volume.kubernetes.io/storage-provisioner": "block.csi.vdcos.dev",
    }
    body = {
        "metadata": {
            "name": disk,
            "labels": disks.labels(vm, DISK, fleet.DATASTORE),
            "annotations": annotations,
            "ownerReferences": [owner | {"controller": True, "blockOwnerDeletion": True}],
        },
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "volumeMode": "Block",
            "storageClassName": "block-rwx",
            "volumeName": f"pv-{disk}",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    status = {"phase": "Bound", "accessModes": ["ReadWriteMany"], "capacity": {"storage": "1Gi"}}
    return [call("POST", path, body), call("PATCH", f"{path}/{disk}/status", {"status": status}, MERGE_PATCH)]


def _true(kind: str) -> Json:
    return {"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z", "lastProbeTime": None}


def instance(vm: Json, spec: Json, host: str) -> Json:
    """A running VirtualMachineInstance of a KubeVirt VM."""
    meta = vm["metadata"]
    pod = f"{meta['uid'][:-12]}{meta['uid'][:12].replace('-', '0')}"
    labels = {"kubevirt.io/nodeName": host, **vm["spec"]["template"].get("metadata", {}).get("labels", {})}
    volumes = [
        {
            "name": volume["name"],
            "target": f"vd{chr(97 + index)}",
            "phase": "Ready",
            "persistentVolumeClaimInfo": {
                "accessModes": ["ReadWriteMany"],
                "capacity": {"storage": "1Gi"},
                "claimName": disks.name(meta["name"], DISK),
                "filesystemOverhead": "0",
                "requests": {"storage": "1Gi"},
                "volumeMode": "Block",
            },
        }
        for index, volume in enumerate(spec.get("volumes", []))
    ]
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {
            "name": meta["name"],
            "labels": labels,
            "annotations": {
                "kubevirt.io/latest-observed-api-version": "v1",
                "kubevirt.io/storage-observed-api-version": "v1",
                "kubevirt.io/nonroot": "true",
                "kubevirt.io/vm-generation": str(meta["generation"]),
            },
            "ownerReferences": [
                {
                    "apiVersion": "kubevirt.io/v1",
                    "kind": "VirtualMachine",
                    "name": meta["name"],
                    "uid": meta["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": spec,
        "status": {
            "phase": "Running",
            "nodeName": host,
            "activePods": {pod: host},
            "launcherContainerImageVersion": f"registry.example/kubevirt/virt-launcher@sha256:{0:064x}",
            "migrationMethod": "LiveMigration",
            "migrationTransport": "Unix",
            "qosClass": "Burstable",
            "runtimeUser": 107,
            "selinuxContext": "none",
            "virtualMachineRevisionName": f"revision-start-vm-{meta['uid']}-{meta['generation']}",
            "machine": {"type": "pc-q35-rhel9.6.0"},
            "memory": {"guestAtBoot": "128Mi", "guestCurrent": "128Mi", "guestRequested": "128Mi"},
            "currentCPUTopology": {"cores": 1, "sockets": 1, "threads": 1},
            "guestOSInfo": {
                "name": "Debian GNU/Linux",
                "id": "debian",
                "version": "12 (bookworm)",
                "versionId": "12",
                "prettyName": "Debian GNU/Linux 12 (bookworm)",
                "kernelRelease": "6.1.0-40-amd64",
                "kernelVersion": "#1 SMP PREEMPT_DYNAMIC Debian 6.1.153-1",
                "machine": "x86_64",
            },
            "phaseTransitionTimestamps": [
                {"phase": phase, "phaseTransitionTimestamp": "2026-01-01T00:00:00Z"}
                for phase in ("Pending", "Scheduling", "Scheduled", "Running")
            ],
            "interfaces": [
                {
                    "name": network["name"],
                    "interfaceName": "enp1s0",
                    "infoSource": "domain, guest-agent",
                    "ipAddress": address(0),
                    "ipAddresses": [address(0), "fe80::1"],
                    "mac": "02:00:00:00:00:01",
                    "linkState": "up",
                    "queueCount": 1,
                }
                for network in spec.get("networks", [])
            ],
            "volumeStatus": volumes,
            "conditions": [
                _true("Ready"),
                _true("LiveMigratable"),
                _true("StorageLiveMigratable"),
                _true("AgentConnected"),
            ],
        },
    }


def address(number: int) -> str:
    """One of many addresses of a guest."""
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255 | 1}"
