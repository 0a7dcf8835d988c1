"""What simulated hosts, storage and importers do in a devcluster, seen as a user sees it."""

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from devcluster.cluster import Cluster, FaultError
from devcluster.waiting import eventually

GIB = 1 << 30
LONG = 90.0


class Tenant:
    """A namespace, and short ways to make things in it."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    def apply(self, kind: str, version: str, name: str, spec: Any, **more: Any) -> None:
        metadata = {"name": name, "namespace": self.namespace} | more.pop("metadata", {})
        self.cluster.apply({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec, **more})

    def get(self, *what: str) -> dict[str, Any]:
        return self.cluster.get("-n", self.namespace, *what)

    def disk(self, name: str, source: dict[str, Any] | None = None, storage_class: str = "block-rwx") -> None:
        storage = {"storageClassName": storage_class, "resources": {"requests": {"storage": "1Gi"}}}
        spec = {"source": source or {"blank": {}}, "storage": storage}
        self.apply("DataVolume", "cdi.kubevirt.io/v1beta1", name, spec)

    def vm(self, name: str, *, disk: str = "", **domain: Any) -> None:
        """A VM with one NIC on the pod network, and a disk if one is named."""
        devices = {"interfaces": [{"name": "default", "masquerade": {}}], "disks": []} | domain.pop("devices", {})
        networks = [{"name": "default", "pod": {}}, *domain.pop("networks", [])]
        volumes = domain.pop("volumes", [])
        if disk:
            devices["disks"] = [{"name": "root", "disk": {"bus": "virtio"}}, *devices["disks"]]
            volumes = [{"name": "root", "dataVolume": {"name": disk}}, *volumes]
        inside = {"memory": {"guest": "256Mi"}, "devices": devices, **domain}
        template = {"spec": {"domain": inside, "networks": networks, "volumes": volumes}}
        self.apply("VirtualMachine", "kubevirt.io/v1", name, {"runStrategy": "Always", "template": template})

    def ready(self, name: str) -> dict[str, Any]:
        """The VMI, once its VM is Ready."""
        eventually(lambda: self.get("vm", name).get("status", {}).get("ready"), LONG)
        return self.get("vmi", name)

    def condition(self, kind: str, name: str, condition: str) -> dict[str, Any]:
        conditions = self.get(kind, name).get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == condition), {})

    def running(self, name: str) -> list[dict[str, Any]]:
        """The VM's processes that run now, by the ledger."""
        ledger = self.cluster.hosts("ledger")["intervals"]
        return [i for i in ledger if i["namespace"] == self.namespace and i["name"] == name and i["to"] is None]

    def overlaps(self) -> list[dict[str, Any]]:
        return [o for o in self.cluster.hosts("ledger")["overlaps"] if o["first"]["namespace"] == self.namespace]

    def events(self, reason: str) -> list[str]:
        return [e["message"] for e in self.get("events")["items"] if e["reason"] == reason]


@pytest.fixture
def tenant(cluster: Cluster, namespace: str) -> Tenant:
    return Tenant(cluster, namespace)


@pytest.fixture
def host(tenant: Tenant) -> Iterator[str]:
    """The host on which VM `vm`, with disk `root`, runs. It recovers from whatever a test does to it."""
    tenant.disk("root")
    tenant.vm("vm", disk="root")
    name = tenant.ready("vm")["status"]["nodeName"]
    yield name
    tenant.cluster.fault("recover", host=name)
    eventually(lambda: node_ready(tenant.cluster, name) == "True", LONG)


def node_ready(cluster: Cluster, name: str) -> str:
    conditions = cluster.get("node", name)["status"]["conditions"]
    return next(str(c["status"]) for c in conditions if c["type"] == "Ready")


# --- networks, devices, placement -------------------------------------------------------------------------------------


def test_a_nic_on_a_bridge_needs_the_bridge_on_the_host(tenant: Tenant) -> None:
    resource = f"sriov.example.com/{tenant.namespace[-6:]}"  # not a bridge marker's: Networks would believe in it
    config = json.dumps({"cniVersion": "0.3.1", "name": "lan", "type": "bridge", "bridge": "br10", "vlan": 10})
    tenant.apply(
        "NetworkAttachmentDefinition", "k8s.cni.cncf.io/v1", "lan", {"config": config},
        metadata={"annotations": {"k8s.v1.cni.cncf.io/resourceName": resource}},
    )  # fmt: skip
    eventually(lambda: resource in tenant.cluster.get("node", "host-1")["status"]["allocatable"])
    interfaces = [
        {"name": "default", "masquerade": {}},
        {"name": "lan", "bridge": {}, "macAddress": "02:00:00:00:00:01"},
    ]
    networks = [{"name": "lan", "multus": {"networkName": "lan"}}]
    tenant.vm("vm", devices={"interfaces": interfaces}, networks=networks)
    tenant.ready("vm")

    def reported() -> bool:
        nics = {i["name"]: i for i in tenant.get("vmi", "vm")["status"]["interfaces"]}
        return "multus-status" in nics["lan"]["infoSource"] and nics["lan"]["mac"] == "02:00:00:00:00:01"

    eventually(reported)


def test_a_nic_that_is_added_comes_with_a_migration_and_leaves_without_one(tenant: Tenant) -> None:
    config = json.dumps({"cniVersion": "0.3.1", "name": "lan", "type": "bridge", "bridge": "br10"})
    tenant.apply("NetworkAttachmentDefinition", "k8s.cni.cncf.io/v1", "lan", {"config": config})
    tenant.vm("vm")
    first = tenant.ready("vm")["status"]["nodeName"]

    def patch(op: str, path: str, value: Any) -> dict[str, Any]:
        return {"op": op, "path": f"/spec/template/spec/{path}", "value": value}

    def nics() -> list[str]:
        return [i["name"] for i in tenant.get("vmi", "vm")["status"]["interfaces"] if "domain" in i["infoSource"]]

    interfaces = "domain/devices/interfaces"
    network = {"name": "lan", "multus": {"networkName": "lan"}}
    added = [patch("add", "networks/-", network), patch("add", f"{interfaces}/-", {"name": "lan", "bridge": {}})]
    change = ("-n", tenant.namespace, "patch", "vm", "vm", "--type=json", "-p")
    tenant.cluster.kubectl(*change, json.dumps(added))
    eventually(lambda: nics() == ["default", "lan"], LONG)
    assert tenant.get("vmi", "vm")["status"]["nodeName"] != first
    tenant.cluster.kubectl(*change, json.dumps([patch("add", f"{interfaces}/1/state", "absent")]))
    eventually(lambda: nics() == ["default"], LONG)


def test_a_volume_moves_to_another_datastore_while_the_vm_runs(tenant: Tenant) -> None:
    tenant.disk("root", storage_class="file-rwo")
    tenant.vm("vm", disk="root")
    tenant.ready("vm")
    tenant.disk("moved", storage_class="nfs-rwx")
    change = [
        {"op": "add", "path": "/spec/updateVolumesStrategy", "value": "Migration"},
        {"op": "replace", "path": "/spec/template/spec/volumes/0/dataVolume/name", "value": "moved"},
    ]
    tenant.cluster.kubectl("-n", tenant.namespace, "patch", "vm", "vm", "--type=json", "-p", json.dumps(change))

    def claim() -> str:
        return str(tenant.get("vmi", "vm")["status"]["volumeStatus"][0]["persistentVolumeClaimInfo"]["claimName"])

    eventually(lambda: claim() == "moved" and not tenant.condition("vmi", "vm", "VolumesChange"), LONG)
    uid = tenant.get("pvc", "moved")["metadata"]["uid"]
    assert [i["disks"] for i in tenant.running("vm")] == [[uid]]


def test_a_passed_through_device_binds_a_vm_to_a_host_that_has_it(tenant: Tenant) -> None:
    tenant.vm("vm", devices={"hostDevices": [{"name": "disk", "deviceName": "vdcos.dev/nvme"}]})
    assert tenant.ready("vm")["status"]["nodeName"] in ("host-1", "host-2")
    blocked = tenant.condition("vmi", "vm", "LiveMigratable")
    assert (blocked["status"], blocked["reason"]) == ("False", "HostDeviceNotLiveMigratable")


def test_a_disk_that_only_one_host_can_write_is_the_last_reason_not_to_migrate(tenant: Tenant) -> None:
    tenant.disk("root", storage_class="file-rwo")
    tenant.vm("vm", disk="root")
    tenant.ready("vm")
    blocked = tenant.condition("vmi", "vm", "LiveMigratable")
    assert blocked["reason"] == "DisksNotLiveMigratable"
    assert "PVC root is not shared" in blocked["message"]
    assert tenant.condition("vmi", "vm", "StorageLiveMigratable")["status"] == "True"


def test_a_missing_secret_keeps_the_pod_waiting_and_says_so(tenant: Tenant) -> None:
    volume = {"name": "init", "cloudInitNoCloud": {"secretRef": {"name": "user-data"}}}
    tenant.vm("vm", devices={"disks": [{"name": "init", "disk": {"bus": "virtio"}}]}, volumes=[volume])
    eventually(lambda: any('secret "user-data" not found' in m for m in tenant.events("FailedMount")))
    assert tenant.get("vmi", "vm")["status"]["phase"] == "Scheduling"
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "user-data", "namespace": tenant.namespace}}
    tenant.cluster.apply({**secret, "stringData": {"userdata": "#cloud-config\n"}})
    tenant.ready("vm")


# --- storage and import -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        {"http": {"url": "http://images.test/fedora.qcow2"}},
        {"registry": {"url": "docker://images.test/fedora:43"}},
    ],
    ids=["http", "registry"],
)
def test_an_import_succeeds(tenant: Tenant, source: dict[str, Any]) -> None:
    tenant.disk("root", source)
    eventually(lambda: tenant.get("dv", "root").get("status", {}).get("phase") == "Succeeded", LONG)


def test_an_import_that_finds_nothing_is_tried_again_and_says_why(tenant: Tenant) -> None:
    tenant.disk("root", {"http": {"url": "http://images.test/fail/fedora.qcow2"}})
    eventually(lambda: "404" in json.dumps(tenant.get("dv", "root").get("status", {})), LONG)
    eventually(lambda: tenant.get("dv", "root")["status"].get("restartCount", 0) >= 1, LONG)
    assert tenant.get("dv", "root")["status"]["phase"].startswith("Import")


def test_a_wrong_checksum_is_final(tenant: Tenant) -> None:
    tenant.disk("root", {"http": {"url": "http://images.test/fedora.qcow2", "checksum": f"sha256:{'0' * 64}"}})
    eventually(lambda: tenant.get("dv", "root").get("status", {}).get("phase") == "Failed", LONG)
    assert tenant.condition("dv", "root", "Running")["reason"] == "ChecksumError"


def test_a_clone_a_snapshot_and_growth(tenant: Tenant) -> None:
    tenant.disk("root")
    eventually(lambda: tenant.get("dv", "root").get("status", {}).get("phase") == "Succeeded", LONG)
    tenant.disk("copy", {"pvc": {"namespace": tenant.namespace, "name": "root"}})
    source = {"persistentVolumeClaimName": "root"}
    spec = {"volumeSnapshotClassName": "block-rwx", "source": source}
    tenant.apply("VolumeSnapshot", "snapshot.storage.k8s.io/v1", "snap", spec)
    grow = json.dumps({"spec": {"resources": {"requests": {"storage": "3Gi"}}}})
    tenant.cluster.kubectl("-n", tenant.namespace, "patch", "pvc", "root", "-p", grow)
    eventually(lambda: tenant.get("volumesnapshot", "snap")["status"]["readyToUse"], LONG)
    eventually(lambda: tenant.get("pvc", "root")["status"]["capacity"]["storage"] == "3Gi", LONG)
    eventually(lambda: tenant.get("dv", "copy").get("status", {}).get("phase") == "Succeeded", LONG)
    assert tenant.get("dv", "copy")["metadata"]["annotations"]["cdi.kubevirt.io/cloneType"] == "csi-clone"


def test_a_file_system_grows_only_while_a_pod_uses_it(tenant: Tenant) -> None:
    tenant.disk("root", storage_class="nfs-rwx")
    eventually(lambda: tenant.get("dv", "root").get("status", {}).get("phase") == "Succeeded", LONG)
    grow = json.dumps({"spec": {"resources": {"requests": {"storage": "3Gi"}}}})
    tenant.cluster.kubectl("-n", tenant.namespace, "patch", "pvc", "root", "-p", grow)
    eventually(lambda: tenant.condition("pvc", "root", "FileSystemResizePending"), LONG)
    tenant.vm("vm", disk="root")
    tenant.ready("vm")
    eventually(lambda: tenant.get("pvc", "root")["status"]["capacity"]["storage"] == "3Gi", LONG)
    assert not tenant.condition("pvc", "root", "FileSystemResizePending")


def test_a_full_array_says_so_and_goes_on_when_there_is_room(tenant: Tenant) -> None:
    small = f"small-{tenant.namespace[-6:]}"
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": small},
        "provisioner": "block.csi.vdcos.dev",
        "parameters": {"capacityBytes": "2Gi"},
    }
    tenant.cluster.apply(storage_class)
    try:
        for name in ("one", "two", "three"):
            spec = {"storageClassName": small, "accessModes": ["ReadWriteOnce"]}
            tenant.apply("PersistentVolumeClaim", "v1", name, spec | {"resources": {"requests": {"storage": "1Gi"}}})
            if name != "three":
                eventually(lambda name=name: tenant.get("pvc", name)["status"]["phase"] == "Bound")  # type: ignore[misc]
        eventually(lambda: any("insufficient capacity" in m for m in tenant.events("ProvisioningFailed")))
        assert tenant.get("pvc", "three")["status"]["phase"] == "Pending"
        tenant.cluster.kubectl("-n", tenant.namespace, "delete", "pvc", "one")
        eventually(lambda: tenant.get("pvc", "three")["status"]["phase"] == "Bound", LONG)
    finally:
        tenant.cluster.kubectl("delete", "storageclass", small)


# --- faults and the ledger --------------------------------------------------------------------------------------------


def test_power_off_ends_the_process_and_nobody_tells_the_api(tenant: Tenant, host: str) -> None:
    assert [i["host"] for i in tenant.running("vm")] == [host]
    tenant.cluster.fault("power-off", host=host)
    assert tenant.running("vm") == []
    assert tenant.get("vmi", "vm")["status"]["phase"] == "Running"


def test_a_partition_and_a_forced_deletion_make_two_and_the_ledger_proves_it(tenant: Tenant, host: str) -> None:
    disk = tenant.get("pvc", "root")["metadata"]["uid"]
    tenant.cluster.fault("partition", host=host)
    assert tenant.overlaps() == []
    pods = ("-n", tenant.namespace, "delete", "pods", "-l", "kubevirt.io=virt-launcher")
    # The node must be known to be gone, or the scheduler would choose it again and nothing would start.
    eventually(lambda: node_ready(tenant.cluster, host) == "Unknown", LONG)
    tenant.cluster.kubectl(*pods, "--force", "--grace-period=0")
    eventually(lambda: len(tenant.running("vm")) == 2, LONG)
    (overlap,) = tenant.overlaps()
    assert overlap["disk"] == disk
    tenant.cluster.fault("recover", host=host)
    eventually(lambda: len(tenant.running("vm")) == 1, LONG)
    assert tenant.running("vm")[0]["host"] != host
    assert len(tenant.overlaps()) == 1, "the ledger forgets nothing"


def test_a_failing_migration_is_reported_and_harmless(tenant: Tenant, host: str) -> None:
    tenant.cluster.fault("fail-migration", vm=f"{tenant.namespace}/vm")
    tenant.apply("VirtualMachineInstanceMigration", "kubevirt.io/v1", "move", {"vmiName": "vm"})
    eventually(lambda: tenant.get("vmim", "move").get("status", {}).get("phase") == "Failed", LONG)
    assert "Lost connection" in tenant.get("vmi", "vm")["status"]["migrationState"]["failureReason"]
    assert [i["host"] for i in tenant.running("vm")] == [host]
    assert tenant.ready("vm")["status"]["nodeName"] == host


@pytest.mark.parametrize("fault", ["guest-crash", "guest-shutdown"])
def test_a_vm_that_ends_by_itself_is_started_again(tenant: Tenant, host: str, fault: str) -> None:
    uid = tenant.get("vmi", "vm")["metadata"]["uid"]
    tenant.cluster.fault(fault, vm=f"{tenant.namespace}/vm")
    eventually(lambda: tenant.get("vmi", "vm")["metadata"]["uid"] != uid, LONG)
    tenant.ready("vm")
    assert tenant.overlaps() == []


def test_hosts_that_are_started_again_find_their_vms(tenant: Tenant, host: str) -> None:
    def process() -> int:
        record = json.loads((tenant.cluster.directory / "cluster.json").read_text())
        return int(next(p["pid"] or 0 for p in record["processes"] if p["name"] == "hosts"))

    before, uid = process(), tenant.get("vmi", "vm")["metadata"]["uid"]
    os.kill(before, signal.SIGKILL)
    eventually(lambda: process() not in (0, before), LONG)

    def adopted() -> bool:
        try:
            return [i["host"] for i in tenant.running("vm")] == [host]
        except FaultError:
            return False

    eventually(adopted, LONG)
    assert tenant.ready("vm")["metadata"]["uid"] == uid


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        ("power-off", {}, "needs a host"),
        ("power-off", {"host": "host-99"}, "there is no host-99"),
        ("earthquake", {"host": "host-1"}, "there is no fault earthquake"),
        ("guest-crash", {"vm": "nowhere/nothing"}, "no VM nowhere/nothing runs"),
        ("slow-start", {"host": "host-1", "minutes": 3}, "unknown field"),
    ],
)
def test_faults_that_make_no_sense_are_refused(cluster: Cluster, kind: str, body: dict[str, Any], said: str) -> None:
    with pytest.raises(FaultError, match=said):
        cluster.fault(kind, **body)
