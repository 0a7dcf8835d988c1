"""The simulated hosts against recordings of real ones: the same facts, in the same order, with the same reasons.

`traces/*.yaml` holds what real nodes and controllers wrote; `traces/allowed.yaml` names each accepted difference, with
the reason. Everything else fails.
"""

import json
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from devcluster.cluster import Cluster
from devcluster.waiting import eventually
from tests.devcluster.recording import Allowed, Moment, Recorder, differences, load

TRACES = Path(__file__).parent / "traces"
LONG = 120.0
PLAYS = 3


class DifferenceError(AssertionError):
    """A play differs from the recording in ways that nobody has accepted."""


Vm = dict[str, Any]


class Vms:
    """The VMs of the recordings, in a namespace of the devcluster."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    def create(self, name: str, *, cpu: bool = False) -> None:
        """A VM as it was recorded: a kernel from a container image, one NIC on the pod network, no disk, no agent."""
        self.cluster.fault("agent-off", vm=f"{self.namespace}/{name}")
        kernel = {
            "container": {
                "image": "registry.local/guest-kernel:1",
                "imagePullPolicy": "IfNotPresent",
                "initrdPath": "/boot/initrd",
                "kernelPath": "/boot/vmlinuz",
            },
            "kernelArgs": "console=ttyS0 quiet",
        }
        domain: dict[str, Any] = {
            "devices": {
                "interfaces": [{"name": "default", "masquerade": {}, "ports": [{"port": 80}]}],
                "logSerialConsole": True,
            },
            "firmware": {"kernelBoot": kernel},
            "resources": {"requests": {"memory": "256Mi"}},
        }
        if cpu:
            domain["cpu"] = {"sockets": 1, "cores": 1, "threads": 1}
        spec = {"domain": domain, "networks": [{"name": "default", "pod": {}}], "terminationGracePeriodSeconds": 15}
        vm = {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachine",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "runStrategy": "Always",
                "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
            },
        }
        self.cluster.apply(vm)

    def get(self, *what: str) -> dict[str, Any]:
        return self.cluster.get("-n", self.namespace, *what)

    def wait_ready(self, name: str, timeout: float = 60.0) -> None:
        eventually(lambda: self.get("vm", name).get("status", {}).get("ready"), timeout)

    def node(self, name: str) -> str:
        return str(self.get("vmi", name)["status"]["nodeName"])

    def migrate(self, name: str) -> None:
        migration = {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstanceMigration",
            "metadata": {"name": "mig-abcde", "namespace": self.namespace},
            "spec": {"vmiName": name},
        }
        self.cluster.apply(migration)

    def subresource(self, name: str, action: str) -> None:
        path = f"/apis/subresources.kubevirt.io/v1/namespaces/{self.namespace}/virtualmachineinstances/{name}/{action}"
        request = urllib.request.Request(
            f"{self.cluster.server}{path}",
            data=b"{}",
            method="PUT",
            headers={"Authorization": f"Bearer {self.cluster.token}", "Content-Type": "application/json"},
        )
        tls = ssl.create_default_context(cafile=str(self.cluster.ca))
        urllib.request.urlopen(request, context=tls, timeout=30).close()

    def launchers(self, name: str) -> list[dict[str, Any]]:
        return list(self.get("pods", "-l", f"kubevirt.io=virt-launcher,app={name}")["items"])

    def recorder(self) -> Recorder:
        kubevirt = f"/apis/kubevirt.io/v1/namespaces/{self.namespace}"
        return Recorder(
            self.cluster,
            {
                "vm": f"{kubevirt}/virtualmachines",
                "vmi": f"{kubevirt}/virtualmachineinstances",
                "vmim": f"{kubevirt}/virtualmachineinstancemigrations",
                "pod": f"/api/v1/namespaces/{self.namespace}/pods",
                "node": "/api/v1/nodes",
            },
        )


def compare(scenario: str, played: dict[str, list[Moment]]) -> None:
    """Fail with every difference from the recording that nobody has accepted."""
    recorded = load(TRACES / f"{scenario}.yaml")
    assert recorded.keys() == played.keys()
    found = [
        f"{name}: {difference}"
        for name, moments in recorded.items()
        for difference in differences(moments, played[name], allowed(scenario, name))
    ]
    if found:
        raise DifferenceError("\n".join([f"{len(found)} differences from {scenario}.yaml", *found]))


def allowed(scenario: str, name: str) -> Iterator[Allowed]:
    for entry in yaml.safe_load((TRACES / "allowed.yaml").read_text()):
        where = entry["in"]
        if scenario in where and (where[scenario] is None or name in where[scenario]):
            patterns = {kind: tuple(entry.get(kind, ())) for kind in ("missing", "extra", "reordered")}
            yield Allowed(entry["why"], **patterns)


def played(scene: Callable[[Vms], None]) -> Callable[[Cluster, str], None]:
    """A test that plays a scene until it is as recorded, at most ``PLAYS`` times, each in a namespace of its own.

    Which of two real controllers writes first is chance, and no list of chances is complete. What a simulated host does
    wrong it does wrong in every play. Anything but a difference fails at once.
    """

    def test(cluster: Cluster, namespace: str) -> None:
        for play in range(1, PLAYS + 1):
            stage = namespace if play == 1 else f"{namespace}-{play}"
            if stage != namespace:
                cluster.kubectl("create", "namespace", stage)
            try:
                scene(Vms(cluster, stage))
            except DifferenceError as error:
                print(f"play {play}: {error}")
                if play == PLAYS:
                    raise
            else:
                return
            finally:
                if stage != namespace:
                    cluster.kubectl("delete", "namespace", stage, "--wait=false")

    test.__name__ = scene.__name__
    test.__doc__ = scene.__doc__
    return test


def settled(probe: Callable[[], Any]) -> None:
    """Wait until something has stopped changing."""
    last = [""]

    def same() -> bool:
        now = json.dumps(probe(), sort_keys=True)
        before, last[0] = last[0], now
        return now == before

    eventually(same, LONG, every=1.0)


@played
def test_start_and_stop(vms: Vms) -> None:
    with vms.recorder() as record:
        vms.create("vm1")
        vms.wait_ready("vm1")
        settled(lambda: vms.get("vmi", "vm1")["status"])
        launcher = vms.launchers("vm1")[0]["metadata"]["name"]
    pod = record.traces["pod"][launcher]
    compare("start", {"vmi": record.traces["vmi"]["vm1"], "vm": record.traces["vm"]["vm1"], "pod": pod})

    with vms.recorder() as record:
        vms.cluster.kubectl("-n", vms.namespace, "delete", "vm", "vm1")
        eventually(lambda: not vms.get("vmi")["items"])
        eventually(lambda: [("", "<deleted>")] in record.traces["vm"]["vm1"])
    compare("stop", {"vmi": record.traces["vmi"]["vm1"], "vm": record.traces["vm"]["vm1"]})


@played
def test_live_migration(vms: Vms) -> None:
    vms.create("vm1")
    vms.wait_ready("vm1")
    settled(lambda: vms.get("vmi", "vm1")["status"])
    source = vms.launchers("vm1")[0]["metadata"]["name"]
    with vms.recorder() as record:
        vms.migrate("vm1")
        eventually(lambda: vms.get("vmim", "mig-abcde").get("status", {}).get("phase") == "Succeeded", LONG)
        eventually(lambda: any(p["status"]["phase"] == "Succeeded" for p in vms.launchers("vm1")), LONG)
        vms.wait_ready("vm1")
        settled(lambda: [vms.get("vmi", "vm1"), vms.get("pods")])
    target = next(name for name in record.traces["pod"] if name != source)
    state = vms.get("vmi", "vm1")["status"]
    assert state["nodeName"] == state["migrationState"]["targetNode"] != state["migrationState"]["sourceNode"]
    compare(
        "migrate",
        {
            "vmi": record.traces["vmi"]["vm1"],
            "vm": record.traces["vm"]["vm1"],
            "vmim": record.traces["vmim"]["mig-abcde"],
            "source": record.traces["pod"][source],
            "target": record.traces["pod"][target],
        },
    )


@played
def test_pause_and_unpause(vms: Vms) -> None:
    vms.create("vm1")
    vms.wait_ready("vm1")
    settled(lambda: vms.get("vmi", "vm1")["status"])
    launcher = vms.launchers("vm1")[0]["metadata"]["name"]
    with vms.recorder() as record:
        vms.subresource("vm1", "pause")
        eventually(lambda: vms.get("vm", "vm1")["status"]["printableStatus"] == "Paused")
        eventually(lambda: not vms.get("vm", "vm1")["status"].get("ready"))
        vms.subresource("vm1", "unpause")
        vms.wait_ready("vm1")
    compare("pause", {"vmi": record.traces["vmi"]["vm1"], "pod": record.traces["pod"][launcher]})


@played
def test_hot_add_of_a_volume_and_a_cpu_and_drain(vms: Vms) -> None:
    for name in ("vm1", "vm2"):
        vms.create(name, cpu=True)
    for name in ("vm1", "vm2"):
        vms.wait_ready(name)
    disk = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "disk2", "namespace": vms.namespace},
        "spec": {
            "storageClassName": "block-rwx",
            "accessModes": ["ReadWriteMany"],
            "volumeMode": "Block",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    vms.cluster.apply(disk)
    eventually(lambda: vms.get("pvc", "disk2")["status"]["phase"] == "Bound")
    settled(lambda: [vms.get("vmi"), vms.get("vm")])

    with vms.recorder() as record:
        volume = {"name": "data1", "persistentVolumeClaim": {"claimName": "disk2", "hotpluggable": True}}
        data = {"name": "data1", "disk": {"bus": "scsi"}, "serial": "data1"}
        domain = "/spec/template/spec/domain/devices/disks"
        patch(vms, "vm2", ("add", domain, [data]), ("add", "/spec/template/spec/volumes", [volume]))
        eventually(
            lambda: [v.get("phase") for v in vms.get("vmi", "vm2")["status"].get("volumeStatus", [])] == ["Ready"]
        )
        settled(lambda: [vms.get("vmi"), vms.get("vm")])
    compare("hotplug", {"vmi": record.traces["vmi"]["vm2"], "vm": record.traces["vm"]["vm2"]})

    with vms.recorder() as record:
        patch(vms, "vm2", ("replace", "/spec/template/spec/domain/cpu/sockets", 2))
        eventually(lambda: vms.get("vmi", "vm2")["status"]["currentCPUTopology"]["sockets"] == 2, LONG)
        vms.wait_ready("vm2")
        settled(lambda: [vms.get("vmi"), vms.get("vm"), vms.get("pods")])
    compare("hot-cpu", {"vmi": record.traces["vmi"]["vm2"], "vm": record.traces["vm"]["vm2"]})

    node = vms.node("vm2")
    if vms.node("vm1") != node:
        bring(vms, "vm1", node)
    settled(lambda: [vms.get("vmi"), vms.get("vm"), vms.get("pods")])
    with vms.recorder() as record:
        vms.cluster.kubectl(
            "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=100s",
            "--pod-selector=app in (vm1,vm2),kubevirt.io/created-by",
        )  # fmt: skip
        for name in ("vm1", "vm2"):
            vms.wait_ready(name)
            assert vms.node(name) != node
        settled(lambda: [vms.get("vmi"), vms.get("vm"), vms.get("pods")])
    vms.cluster.kubectl("uncordon", node)
    compare("drain", {name: record.traces["vmi"][name] for name in ("vm1", "vm2")})


def patch(vms: Vms, name: str, *operations: tuple[str, str, Any]) -> None:
    body = json.dumps([{"op": op, "path": path, "value": value} for op, path, value in operations])
    vms.cluster.kubectl("-n", vms.namespace, "patch", "vm", name, "--type=json", "-p", body)


def bring(vms: Vms, name: str, node: str) -> None:
    """Migrate a VM to a host."""
    migration = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstanceMigration",
        "metadata": {"name": "bring", "namespace": vms.namespace},
        "spec": {"vmiName": name, "addedNodeSelector": {"kubernetes.io/hostname": node}},
    }
    vms.cluster.apply(migration)
    eventually(lambda: vms.get("vmim", "bring")["status"]["phase"] == "Succeeded", LONG)
    eventually(lambda: sum(p["status"]["phase"] == "Running" for p in vms.launchers(name)) == 1, LONG)


@played
def test_death_and_reboot_of_a_host(vms: Vms) -> None:
    vms.create("vm1")
    vms.wait_ready("vm1")
    settled(lambda: vms.get("vmi", "vm1")["status"])
    node, launcher = vms.node("vm1"), vms.launchers("vm1")[0]["metadata"]["name"]
    uid = vms.get("vmi", "vm1")["metadata"]["uid"]
    boot = vms.cluster.get("node", node)["status"]["nodeInfo"]["bootID"]
    with vms.recorder() as record:
        vms.cluster.fault("power-off", host=node)
        try:
            eventually(lambda: ready(vms.cluster, node) == "Unknown", LONG)
            vms.cluster.kubectl("taint", "node", node, "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute")
            eventually(lambda: vms.get("vmi", "vm1")["metadata"]["uid"] != uid, LONG)
            vms.wait_ready("vm1")
        finally:
            vms.cluster.fault("recover", host=node)
            eventually(lambda: ready(vms.cluster, node) == "True", LONG)
            vms.cluster.kubectl("taint", "node", node, "node.kubernetes.io/out-of-service-")
        eventually(lambda: schedulable(vms.cluster, node), LONG)
        settled(lambda: vms.cluster.get("node", node)["spec"])
    assert vms.cluster.get("node", node)["status"]["nodeInfo"]["bootID"] != boot
    compare(
        "death",
        {
            "vmi": record.traces["vmi"]["vm1"],
            "node": record.traces["node"][node],
            "pod": record.traces["pod"][launcher],
        },
    )
    mine = [i for i in vms.cluster.hosts("ledger")["intervals"] if i["namespace"] == vms.namespace]
    assert [i["why"] for i in mine] == ["power off", ""], "one life ended with the power, one goes on"


def ready(cluster: Cluster, node: str) -> str:
    conditions = cluster.get("node", node)["status"]["conditions"]
    return next(str(c["status"]) for c in conditions if c["type"] == "Ready")


def schedulable(cluster: Cluster, node: str) -> bool:
    found = cluster.get("node", node)
    free = found["status"]["allocatable"].get("devices.kubevirt.io/tun")
    return found["metadata"]["labels"]["kubevirt.io/schedulable"] == "true" and free not in (None, "0")
