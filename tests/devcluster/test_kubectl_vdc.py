"""The plug-in in kubectl's own hands, on a real control plane: import without a restart, and what the others show."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
import yaml

from devcluster.cluster import Cluster
from devcluster.waiting import eventually
from tests.devcluster.replica import Replica
from tests.devcluster.test_virtualmachines import Vms, store
from vdcos.testing import builders

Tree = dict[str, Any]

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOW = 120.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operator(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Replica]:
    running = Replica(installed, tmp_path_factory.mktemp("operator") / "operator.log", "--standalone")
    await running.start()
    yield running
    await running.stop()


class Said(NamedTuple):
    """What a command printed, and its exit status."""

    out: str
    err: str
    status: int


def vdc(cluster: Cluster, *words: str, stdin: str | None = None, kubeconfig: Path | None = None) -> Said:
    """``kubectl vdc``: kubectl finds the plug-in in the PATH."""
    beside = str(Path(sys.executable).parent)
    environment = {**cluster.environment(kubeconfig), "PATH": f"{beside}{os.pathsep}{os.environ['PATH']}"}
    command = [cluster.record.kubectl, "vdc", *words]
    result = subprocess.run(command, env=environment, input=stdin, capture_output=True, text=True, check=False)
    return Said(result.stdout, result.stderr, result.returncode)


async def soon(predicate: Any, seconds: float = SLOW) -> Any:
    return await asyncio.to_thread(eventually, predicate, seconds)


# --- Import -----------------------------------------------------------------------------------------------------------


def kubevirt_vm(namespace: str, name: str, spec: Tree, template: Tree) -> Tree:
    domain = {"devices": {}, **template.pop("domain", {})}
    labels = {"app": name}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**spec, "template": {"metadata": {"labels": labels}, "spec": {"domain": domain, **template}}},
    }


def by_template(name: str, size: str = "1Gi") -> Tree:
    storage = {"storageClassName": "block-rwx", "resources": {"requests": {"storage": size}}}
    return {"metadata": {"name": name}, "spec": {"source": {"blank": {}}, "storage": storage}}


def plain(namespace: str, instancetype: str) -> dict[str, Tree]:
    """Five VMs as people write them for KubeVirt, each in another way."""
    masquerade = {"interfaces": [{"name": "default", "masquerade": {}}]}
    pod = [{"name": "default", "pod": {}}]
    cloud = {"name": "cloudinitdisk", "cloudInitNoCloud": {"userData": "#cloud-config\npackages: [nginx]\n"}}
    return {
        "tutorial": kubevirt_vm(
            namespace,
            "tutorial",
            {"running": True, "dataVolumeTemplates": [by_template("tutorial-root")]},
            {
                "domain": {
                    "memory": {"guest": "256Mi"},
                    "devices": {
                        "disks": [
                            {"name": "rootdisk", "disk": {"bus": "virtio"}},
                            {"name": "cloudinitdisk", "disk": {"bus": "virtio"}},
                        ],
                        **masquerade,
                    },
                },
                "networks": pod,
                "volumes": [{"name": "rootdisk", "dataVolume": {"name": "tutorial-root"}}, cloud],
            },
        ),
        "database": kubevirt_vm(
            namespace,
            "database",
            {"runStrategy": "Always"},
            {
                "domain": {
                    "cpu": {"cores": 2},
                    "memory": {"guest": "256Mi"},
                    "devices": {
                        "disks": [
                            {"name": "system", "disk": {"bus": "scsi"}, "bootOrder": 1},
                            {"name": "data", "disk": {"bus": "virtio"}, "cache": "none", "serial": "D-1"},
                        ],
                        "interfaces": [{"name": "lan", "bridge": {}, "macAddress": "02:00:5e:00:07:01"}],
                    },
                },
                "terminationGracePeriodSeconds": 60,
                "networks": [{"name": "lan", "multus": {"networkName": "old-lan"}}],
                "volumes": [
                    {"name": "system", "persistentVolumeClaim": {"claimName": "database-system"}},
                    {"name": "data", "persistentVolumeClaim": {"claimName": "database-data"}},
                ],
            },
        ),
        "typed": kubevirt_vm(
            namespace,
            "typed",
            {"runStrategy": "RerunOnFailure", "instancetype": {"name": instancetype}},
            {"domain": {"devices": masquerade}, "networks": pod},
        ),
        "manual": kubevirt_vm(
            namespace,
            "manual",
            {"runStrategy": "Manual"},
            {
                "domain": {
                    "resources": {"requests": {"memory": "256Mi"}},
                    "firmware": {
                        "uuid": "5d307ca9-b3ef-428c-8861-06e72d69f223",
                        "bootloader": {"efi": {"secureBoot": False}},
                    },
                }
            },
        ),
        "asleep": kubevirt_vm(
            namespace,
            "asleep",
            {"running": False, "dataVolumeTemplates": [by_template("asleep-root")]},
            {
                "domain": {
                    "memory": {"guest": "256Mi"},
                    "devices": {"disks": [{"name": "rootdisk", "disk": {"bus": "virtio"}}], **masquerade},
                },
                "networks": pod,
                "volumes": [{"name": "rootdisk", "dataVolume": {"name": "asleep-root"}}],
            },
        ),
    }


RUN = ("tutorial", "database", "typed", "manual")


def claim(namespace: str, name: str) -> Tree:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "storageClassName": "block-rwx",
            "accessModes": ["ReadWriteMany"],
            "volumeMode": "Block",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def what_runs(cluster: Cluster, namespace: str) -> dict[str, str]:
    """The uid of every instance and of every pod of a VM; CDI's, which come and go, are none of them."""
    found = cluster.get("vmi", "-n", namespace)["items"]
    found += cluster.get("pods", "-n", namespace, "-l", "kubevirt.io=virt-launcher")["items"]
    return {f"{each['kind']}/{each['metadata']['name']}": each["metadata"]["uid"] for each in found}


async def test_five_kubevirt_vms_become_ours_without_a_restart(
    cluster: Cluster, namespace: str, operator: Replica
) -> None:
    vms, suffix = Vms(cluster, namespace), namespace[-6:]
    cluster.apply(
        {
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": "old-lan", "namespace": namespace},
            "spec": {"config": json.dumps({"cniVersion": "0.3.1", "type": "cnv-bridge", "bridge": "br7", "vlan": 7})},
        },
        {
            "apiVersion": "instancetype.kubevirt.io/v1beta1",
            "kind": "VirtualMachineClusterInstancetype",
            "metadata": {"name": f"small-{suffix}"},
            "spec": {"cpu": {"guest": 1}, "memory": {"guest": "256Mi"}},
        },
        claim(namespace, "database-system"),
        claim(namespace, "database-data"),
        builders.network(f"lan-{suffix}", bridge={"name": "br7", "vlan": 7}),
        builders.network(f"internet-{suffix}", pod={}),
    )
    store(cluster, f"gold-{suffix}")
    machines = plain(namespace, f"small-{suffix}")
    cluster.apply(*machines.values())
    await soon(lambda: vms.ask("manual", "start"))
    await soon(lambda: all(cluster.get("vmi", name, "-n", namespace)["status"]["phase"] == "Running" for name in RUN))
    before = what_runs(cluster, namespace)
    assert len(before) == 2 * len(RUN)

    mark = cluster.audit_mark()
    said = vdc(cluster, "import", "-n", namespace)
    assert (said.err, said.status) == ("", 0)
    assert not cluster.writes("kubernetes-admin", since=mark), "it only reads"
    declared = list(yaml.safe_load_all(said.out))
    assert [each["metadata"]["name"] for each in declared] == sorted(machines)
    cluster.kubectl("annotate", "virtualmachines.kubevirt.io", "-n", namespace, "--all", "vdcos.dev/adoptable=true")
    cluster.kubectl("apply", "-f", "-", stdin=said.out)

    for name in machines:
        await soon(lambda name=name: vms.says(name)[0] == "True")
    for name in machines:
        child = vms.child(name)
        assert child["metadata"]["ownerReferences"][0]["apiVersion"] == "vdcos.dev/v1alpha1"
        assert not {"running", "dataVolumeTemplates"} & child["spec"].keys()
    assert what_runs(cluster, namespace) == before, "not one instance and not one pod is another"
    assert [vms.status(name)["powerState"] for name in sorted(machines)] == [
        "PoweredOff",
        "PoweredOn",
        "PoweredOn",
        "PoweredOn",
        "PoweredOn",
    ]
    assert vdc(cluster, "import", "-n", namespace).status == 1, "there is nothing left to import"

    # What became of it when time went by: nobody changes anything, and disks outlive their VMs.
    disks = cluster.get("dv", "-n", namespace)["items"]
    assert {disk["metadata"]["name"] for disk in disks} == {"tutorial-root", "asleep-root"}
    assert not any(disk["metadata"].get("ownerReferences") for disk in disks)
    cluster.kubectl("delete", "vdcvm", "tutorial", "-n", namespace)
    await soon(
        lambda: not cluster.get("virtualmachines.kubevirt.io", "-n", namespace, "-l", "vdcos.dev/vm=tutorial")["items"]
    )
    assert "deletionTimestamp" not in cluster.get("pvc", "tutorial-root", "-n", namespace)["metadata"]


# --- Forecasts --------------------------------------------------------------------------------------------------------

BASE: Tree = {"cpu": {"sockets": 1}, "memory": {"size": "1Gi"}}


def forecasts(suffix: str) -> dict[str, tuple[Tree, str]]:
    """An edit of a running VM each, and when it takes effect, as the guide has it."""
    nic = {"name": "lan", "network": f"lan-{suffix}"}
    return {
        "sockets": ({"cpu": {"sockets": 2}}, "by live migration"),
        "many-sockets": ({"cpu": {"sockets": 8}}, "at the next start"),
        "cores": ({"cpu": {"sockets": 1, "cores": 2}}, "at the next start"),
        "memory": ({"memory": {"size": "2Gi"}}, "by live migration"),
        "less-memory": ({"memory": {"size": "512Mi"}}, "at the next start"),
        "disk": ({"disks": [{"name": "data", "size": "1Gi", "datastore": f"gold-{suffix}"}]}, "live"),
        "sata": (
            {"disks": [{"name": "a", "size": "1Gi", "datastore": f"gold-{suffix}", "bus": "sata"}]},
            "at the next start",
        ),
        "link": ({"nics": [{**nic, "linkState": "Down"}]}, "live"),
        "model": ({"nics": [{**nic, "model": "e1000e"}]}, "at the next start"),
        "placement": ({"placement": {"nodeSelector": {"kubernetes.io/os": "linux"}}}, "at the next move or start"),
    }


async def test_a_forecast_is_what_kubevirt_makes_of_it(cluster: Cluster, namespace: str, operator: Replica) -> None:
    vms, suffix = Vms(cluster, namespace), namespace[-6:]
    cluster.apply(builders.network(f"lan-{suffix}", bridge={"name": "br7"}))
    store(cluster, f"gold-{suffix}")
    expected = forecasts(suffix)
    nics = [{"name": "lan", "network": f"lan-{suffix}"}]
    for name in expected:
        vms.apply(name, **BASE, nics=nics)
    for name in expected:
        await soon(lambda name=name: vms.is_up(name))

    edited = [
        {**cluster.get("vdcvm", name, "-n", namespace), "spec": {**BASE, "nics": nics, **edit}}
        for name, (edit, _) in expected.items()
    ]
    manifests = [
        {**each, "metadata": {"name": each["metadata"]["name"], "namespace": namespace}, "status": None}
        for each in edited
    ]
    for each in manifests:
        del each["status"]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    mark = cluster.audit_mark()
    said = vdc(cluster, "diff", "-f", "-", "-o", "json", stdin=text)
    assert (said.err, said.status) == ("", 2)
    assert not cluster.writes("kubernetes-admin", since=mark), "a dry run"
    told = {each["name"]: [change["takesEffect"] for change in each["changes"]] for each in json.loads(said.out)}
    assert told == {name: [when] for name, (_, when) in expected.items()}

    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)
    for name, (_, when) in expected.items():
        waits = when == "at the next start"
        await soon(lambda name=name, waits=waits: settled(vms, name) and vms.status(name)["restartRequired"] is waits)
    assert vdc(cluster, "diff", "-f", "-", stdin=text).status == 0, "nothing would change now"

    smaller = {
        **manifests[5],
        "spec": {**BASE, "disks": [{"name": "data", "size": "512Mi", "datastore": f"gold-{suffix}"}]},
    }
    refused = vdc(cluster, "diff", "-f", "-", stdin=json.dumps(smaller))
    assert refused.status == 1
    assert "would be refused" in refused.out
    assert "a disk can grow but not shrink" in refused.out


def settled(vms: Vms, name: str) -> bool:
    """KubeVirt has looked at the last change of its VM, and nothing is under way."""
    child = vms.child(name)
    seen = child["status"].get("desiredGeneration") == child["metadata"]["generation"]
    return seen and vms.says(name, "Applied")[0] == "True" and vms.says(name, "RestartRequired")[1] != "LiveUpdate"


# --- What people see --------------------------------------------------------------------------------------------------


async def test_what_is_wrong_is_found_from_kubectl(cluster: Cluster, namespace: str, operator: Replica) -> None:
    vms, suffix = Vms(cluster, namespace), namespace[-6:]
    store(cluster, f"tiny-{suffix}", capacity="1Gi")
    vms.apply("full", disks=[{"name": "root", "size": "2Gi", "datastore": f"tiny-{suffix}"}])
    vms.apply("well")
    await soon(lambda: vms.is_up("well") and vms.is_told("full", "DatastoreFull"))

    said = vdc(cluster, "why", "vm/full", "-n", namespace)
    assert said.status == 2
    assert said.out.startswith(
        f"VirtualMachine {namespace}/full is not well: its Datastore has promised all that it may.\n\n"
        "StorageReady: DatastoreFull"
    )
    assert f"└─ Datastore tiny-{suffix}  " in said.out
    assert "Next:\n  1. delete disks that nobody needs" in said.out
    assert vdc(cluster, "why", "vm/well", "-n", namespace).status == 0
    tree = vdc(cluster, "tree", "vm/well", "-n", namespace)
    host = vms.status("well")["host"]
    assert f"instance well  Running on {host}" in tree.out
    assert f"host {host}  " in tree.out
    status = vdc(cluster, "status", "-n", namespace)
    assert status.status == 2
    assert "VMs    2: 1 PoweredOff, 1 PoweredOn; 1 ready" in status.out
    assert f"vm {namespace}/full  Ready: DatastoreFull" in status.out
    assert "\x1b" not in status.out
    missing = vdc(cluster, "why", "vm/nobody", "-n", namespace)
    assert (missing.out, missing.status) == ("", 1)
    assert "there are: full, well" in missing.err
    completion = await asyncio.create_subprocess_exec(
        Path(sys.executable).parent / "kubectl_complete-vdc",
        *("why", "-n", namespace, "vm/w"),
        env=cluster.environment(),
        stdout=asyncio.subprocess.PIPE,
    )
    completed, _ = await completion.communicate()
    assert completed == b"vm/well\n:4\n"


async def test_a_tenant_sees_what_he_may_and_hears_what_he_may_not(
    cluster: Cluster, namespace: str, operator: Replica
) -> None:
    vms = Vms(cluster, namespace)
    vms.apply("mine")
    cluster.kubectl("create", "serviceaccount", "tenant", "-n", namespace)
    cluster.kubectl(
        "create", "rolebinding", "tenant", "--clusterrole=view", f"--serviceaccount={namespace}:tenant", "-n", namespace
    )
    tenant = cluster.service_account_kubeconfig(namespace, "tenant")
    await soon(lambda: vms.is_up("mine"))
    here = vdc(cluster, "status", kubeconfig=tenant)
    assert here.status == 0, here
    assert "VMs    1: 1 PoweredOn; 1 ready" in here.out, "of the namespace of his context"
    assert "hosts.vdcos.dev: you have no right to list them; an administrator can bind ClusterRole" in here.out
    everywhere = vdc(cluster, "status", "-A", kubeconfig=tenant)
    assert (everywhere.out, everywhere.status) == ("", 1)
    assert "you have no right to list them in all namespaces; name a namespace with -n" in everywhere.err
    assert vdc(cluster, "tree", "vm/mine", kubeconfig=tenant).status == 0
    assert vdc(cluster, "why", "vm/mine", kubeconfig=tenant).status == 0
    plan = vdc(cluster, "ha", "plan", kubeconfig=tenant)
    assert (plan.out, plan.status) == ("", 1)
    assert "no right" in plan.err
    changed = {"apiVersion": "vdcos.dev/v1alpha1", "kind": "VirtualMachine", "metadata": {"name": "mine"}, "spec": BASE}
    refused = vdc(cluster, "diff", "-f", "-", stdin=json.dumps(changed), kubeconfig=tenant)
    assert refused.status == 1
    assert 'cannot patch resource "virtualmachines"' in refused.out
