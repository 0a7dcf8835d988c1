"""What the VirtualMachine service generates is accepted by the real KubeVirt and CDI, and comes back without drift."""

import json
from typing import Any

import pytest

from devcluster.cluster import Cluster
from vdcos import api
from vdcos.core.drift import drift
from vdcos.core.objects import Key
from vdcos.core.plan import Apply, Create
from vdcos.services.virtualmachine import VirtualMachineService
from vdcos.testing.world import World

Tree = dict[str, Any]

SMALL: Tree = {"cpu": {}, "memory": {"size": "512Mi"}}
SUM = "sha256:" + "0" * 64
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJsYWNrIGJveCBvZiBhIHNhbXBsZSBrZXkgISEh somebody@example.org"


def disk(name: str, **fields: Any) -> Tree:
    return {"name": name, "size": "1Gi", "datastore": "gold", **fields}


def nic(name: str, network: str, **fields: Any) -> Tree:
    return {"name": name, "network": network, **fields}


CASES: dict[str, Tree] = {
    "the least": SMALL,
    "off": {**SMALL, "powerState": "PoweredOff"},
    "stays off after a guest's shutdown": {**SMALL, "onGuestShutdown": "StayOff"},
    "CPU and memory in full": {
        "cpu": {"sockets": 2, "cores": 2, "threads": 2, "model": "host-model"},
        "memory": {"size": "2Gi"},
        "reservations": {"cpu": "500m", "memory": "1Gi"},
    },
    "dedicated CPUs": {"cpu": {"sockets": 2, "dedicated": True}, "memory": {"size": "1Gi"}},
    "huge pages": {"cpu": {}, "memory": {"size": "1Gi", "hugepages": "2Mi"}},
    "disks from everywhere, on every bus": {
        **SMALL,
        "disks": [
            disk("root", bootOrder=1, source={"image": {"reference": "quay.io/containerdisks/fedora:40"}}),
            disk("http", bus="scsi", source={"http": {"url": "https://example.org/a.qcow2", "checksum": SUM}}),
            disk("secret", bus="sata", source={"http": {"url": "http://example.org/a", "secretName": "s"}}),
            disk("copy", bus="usb", source={"pvc": {"name": "golden"}}),
            disk("snap", source={"snapshot": {"name": "golden"}}, deletionPolicy="Delete"),
        ],
    },
    "a datastore that says modes": {**SMALL, "disks": [disk("root", datastore="silver")]},
    "NICs of all kinds": {
        **SMALL,
        "nics": [
            nic("pod", "internet"),
            nic("lan", "front", model="e1000e", macAddress="02:00:00:AA:BB:CC", linkState="Down"),
            nic("ovs", "back"),
            nic("ovn", "overlay"),
            nic("fast", "fast"),
        ],
    },
    "cloud-init inline": {
        **SMALL,
        "guest": {"cloudInit": {"userData": "#cloud-config\n", "networkData": "version: 2\n"}},
    },
    "cloud-init from Secrets, as a config drive": {
        **SMALL,
        "guest": {
            "hostname": "shop",
            "cloudInit": {"type": "ConfigDrive", "userDataSecretName": "u", "networkDataSecretName": "n"},
            "sshKeySecretNames": ["k"],
        },
    },
    "inline SSH keys": {**SMALL, "guest": {"sshAuthorizedKeys": [KEY]}},
    "SSH keys from a Secret alone": {**SMALL, "guest": {"sshKeySecretNames": ["k", "l"]}},
    "sysprep": {**SMALL, "guest": {"sysprep": {"secretName": "answers"}}},
    "sysprep from a ConfigMap": {**SMALL, "guest": {"sysprep": {"configMapName": "answers"}}},
    "UEFI with secure boot and a TPM": {
        **SMALL,
        "firmware": {
            "bootloader": "UEFI",
            "secureBoot": True,
            "tpm": "Persistent",
            "serial": "SN-1",
            "uuid": "5D307CA9-b3ef-428c-8861-06e72d69f223",
        },
    },
    "UEFI without secure boot": {**SMALL, "firmware": {"bootloader": "UEFI", "tpm": "Ephemeral"}},
    "BIOS": {**SMALL, "firmware": {"bootloader": "BIOS"}},
    "devices": {
        **SMALL,
        "devices": [
            {"name": "nvme", "resourceName": "vdcos.dev/nvme"},
            {"name": "gpu", "resourceName": "nvidia.com/TU104GL_Tesla_T4", "type": "GPU"},
        ],
    },
    "placement": {
        **SMALL,
        "placement": {
            "nodeSelector": {"zone": "a"},
            "affinity": [
                {"name": "a", "type": "Together", "strength": "Must", "names": ["db"]},
                {"name": "b", "type": "Together", "matchLabels": {"tier": "db"}},
                {"name": "c", "type": "Apart", "strength": "Must", "matchLabels": {"tier": "web"}},
                {"name": "d", "type": "Apart", "names": ["web"], "topologyKey": "topology.kubernetes.io/zone"},
            ],
            "tolerations": [
                {"key": "a", "operator": "Exists", "effect": "NoSchedule"},
                {"key": "b", "value": "v", "effect": "NoExecute", "tolerationSeconds": 30},
            ],
        },
    },
    "overrides": {
        **SMALL,
        "disks": [disk("boot")],
        "overrides": [
            {"op": "add", "path": "/spec/template/spec/domain/clock/utc", "value": {}},
            {"op": "add", "path": "/spec/template/spec/domain/devices/disks/boot/cache", "value": "none"},
            {"op": "replace", "path": "/spec/template/spec/terminationGracePeriodSeconds", "value": 30},
            {"op": "remove", "path": "/spec/template/spec/domain/devices/rng"},
            {"op": "add", "path": "/spec/template/spec/domain/cpu/maxSockets", "value": 8},
        ],
    },
}

OPEN: Tree = {"allowedNamespaces": {"from": "All"}}
DATASTORES = {
    "gold": {"storageClassName": "block-rwx"},
    "silver": {"storageClassName": "nfs-rwx", "volumeMode": "Filesystem", "accessMode": "ReadWriteMany"},
}
NETWORKS: dict[str, Tree] = {
    "internet": {"pod": {}},
    "front": {"bridge": {"name": "br0", "vlan": 7}},
    "back": {"ovs": {"name": "br1"}},
    "overlay": {"ovn": {"topology": "Layer2"}},
    "fast": {"sriov": {"resourceName": "example.org/vf"}},
}


def children(namespace: str, spec: Tree) -> list[tuple[Tree, bool]]:
    """What the service writes for a VM in a world where all that it refers to is there, and whether it is an apply."""
    world = World(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}},
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": namespace, "annotations": {api.ALLOWED_DEVICES: "*", api.ALLOWED_TAINTS: "a, b"}},
        },
        *(own("Datastore", name, said | OPEN) for name, said in DATASTORES.items()),
        *(own("Network", name, said | OPEN) for name, said in NETWORKS.items()),
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "golden", "namespace": namespace}},
        {
            "apiVersion": "snapshot.storage.k8s.io/v1",
            "kind": "VolumeSnapshot",
            "metadata": {"name": "golden", "namespace": namespace},
        },
        own("VirtualMachine", "vm", spec, namespace=namespace, labels={"tier": "web"}),
    )
    for name in NETWORKS:
        uid = world.tree(api.Network, Key("", name))["metadata"]["uid"]
        reference = {"apiVersion": api.API_VERSION, "kind": "Network", "name": name, "uid": uid, "controller": True}
        world.put(
            {
                "apiVersion": "k8s.cni.cncf.io/v1",
                "kind": "NetworkAttachmentDefinition",
                "metadata": {"name": name, "namespace": namespace, "ownerReferences": [reference]},
            }
        )
    world.settle(VirtualMachineService({}), Key(namespace, "vm"))
    written = []
    for action in world.log:
        assert isinstance(action, Create | Apply), action
        written.append((dict(action.manifest), isinstance(action, Apply)))
    return written


def own(kind: str, name: str, spec: Tree, **metadata: Any) -> Tree:
    return {"apiVersion": api.API_VERSION, "kind": kind, "metadata": {"name": name, **metadata}, "spec": spec}


@pytest.mark.parametrize("name", CASES)
def test_accepted_by_the_real_webhooks(cluster: Cluster, namespace: str, name: str) -> None:
    """Server-side dry runs go through defaulting, conversion, schema and every webhook, and store nothing."""
    written = children(namespace, CASES[name])
    assert [manifest["kind"] for manifest, _ in written] == ["DataVolume"] * len(CASES[name].get("disks", [])) + [
        "VirtualMachine"
    ]
    for manifest, is_apply in written:
        way = ["apply", "--server-side", "--field-manager=vdcos/virtualmachine"] if is_apply else ["create"]
        answer = cluster.kubectl(
            *way, "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-", stdin=json.dumps(manifest)
        )
        live = json.loads(answer)
        assert list(drift({"spec": manifest["spec"], "metadata": manifest["metadata"]}, live)) == []
