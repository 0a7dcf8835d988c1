"""Upgrade and uninstallation with live VMs: none restarts, no spec is rewritten, nothing hangs.

In a cluster of their own: definitions come and go.
"""

import asyncio
import contextlib
import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.cluster import Cluster, KubectlError
from devcluster.waiting import eventually
from tests.devcluster import fleet, replica
from tests.devcluster.replica import Replica, quiet, writes
from vdcos import api
from vdcos.core import finalizers
from vdcos.core.uninstall import GUARD

Tree = dict[str, Any]

ROOT = Path(__file__).parents[2]
PART_OF = "app.kubernetes.io/part-of=vdcos"
NAMESPACE = "shop"
HOSTS = 2
VMS = ("db", "web")
LAN: Tree = {
    "apiVersion": api.API_VERSION,
    "kind": "Network",
    "metadata": {"name": "lan"},
    "spec": {"bridge": {"name": "br0"}, "allowedNamespaces": {"from": "All"}},
}


def vm(name: str) -> Tree:
    disk = {"size": "1Gi", "datastore": fleet.DATASTORE}
    spec = {
        "cpu": {"sockets": 1},
        "memory": {"size": "128Mi"},
        "disks": [{**disk, "name": "root"}, {**disk, "name": "scratch", "deletionPolicy": "Delete"}],
        "nics": [{"name": "lan", "network": "lan"}],
    }
    meta = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": api.API_VERSION, "kind": "VirtualMachine", "metadata": meta, "spec": spec}


def declared() -> list[Tree]:
    return [*fleet.infrastructure(), LAN, *map(vm, VMS)]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with contextlib.ExitStack() as stack:
        if directory := os.environ.get("VDCOS_DEVCLUSTER"):
            cluster = Cluster(Path(directory))
        else:
            directory = str(tmp_path_factory.mktemp("lifecycle"))
            cluster = stack.enter_context(Cluster.running(hosts=HOSTS, directory=Path(directory)))
        if NAMESPACE not in cluster.kubectl("get", "namespaces", "-o", "name"):
            cluster.kubectl("create", "namespace", NAMESPACE)
        yield cluster


async def soon(predicate: Callable[[], Any], seconds: float = 240.0) -> Any:
    return await asyncio.to_thread(eventually, predicate, seconds)


async def applied(cluster: Cluster, *objects: Tree) -> None:
    """After definitions have changed, kubectl may have to wait longer for their schemas than it is willing to."""

    def once() -> bool:
        cluster.apply(*objects)
        return True

    await soon(once)


async def vdcos(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line, as an administrator."""
    command = [sys.executable, "-m", "vdcos", *arguments, "--kubeconfig", str(cluster.kubeconfig)]
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=120, check=False)


def items(cluster: Cluster, *arguments: str) -> list[Tree]:
    found: list[Tree] = cluster.get(*arguments)["items"]
    return found


def passing(item: Tree) -> bool:
    """Claims that CDI makes to fill another, and takes away some time after that one is bound."""
    return any(ref["kind"] == "PersistentVolumeClaim" for ref in item["metadata"].get("ownerReferences", []))


@dataclass(frozen=True)
class Life:
    """What must stay the same: which pods run, which disks there are, and what KubeVirt was told."""

    pods: dict[str, str]
    instances: dict[str, str]
    machines: dict[str, tuple[str, int, Tree]]
    disks: dict[str, str]

    @classmethod
    def of(cls, cluster: Cluster) -> "Life":
        def uids(*arguments: str) -> dict[str, str]:
            found = items(cluster, *arguments, "-n", NAMESPACE)
            return {item["metadata"]["name"]: item["metadata"]["uid"] for item in found if not passing(item)}

        machines = items(cluster, "virtualmachines.kubevirt.io", "-n", NAMESPACE)
        return cls(
            pods=uids("pods", "-l", "kubevirt.io=virt-launcher"),
            instances=uids("virtualmachineinstances"),
            machines={
                item["metadata"]["name"]: (item["metadata"]["uid"], item["metadata"]["generation"], item["spec"])
                for item in machines
            },
            disks=uids("persistentvolumeclaims"),
        )


def owners(cluster: Cluster, kind: str) -> set[str]:
    """Kind and uid of our objects that own those of a kind."""
    found = items(cluster, kind, "-n", NAMESPACE)
    return {
        f"{ref['kind']} {ref['uid']}"
        for item in found
        for ref in item["metadata"].get("ownerReferences", [])
        if ref["apiVersion"].startswith("vdcos.dev/")
    }


def uids(cluster: Cluster, kind: str) -> set[str]:
    return {f"{item['kind']} {item['metadata']['uid']}" for item in items(cluster, kind, "-A")}


def converged(cluster: Cluster) -> bool:
    return fleet.standing(cluster, NAMESPACE).ready == len(VMS)


async def leading(cluster: Cluster, kubeconfig: Path, log: Path) -> Replica:
    started = Replica(kubeconfig, log)
    await started.start()
    await soon(lambda: started.said("leading"))
    return started


def attached(cluster: Cluster) -> bool:
    """Everything hangs on the objects that are there now."""
    machines, networks = uids(cluster, "virtualmachines.vdcos.dev"), uids(cluster, "networks.vdcos.dev")
    return (
        owners(cluster, "virtualmachines.kubevirt.io") == machines
        and owners(cluster, "datavolumes.cdi.kubevirt.io") == machines
        and owners(cluster, "network-attachment-definitions") <= networks
        and bool(owners(cluster, "network-attachment-definitions"))
    )


def detached(cluster: Cluster) -> bool:
    kinds = ("virtualmachines.kubevirt.io", "datavolumes.cdi.kubevirt.io", "network-attachment-definitions")
    return not any(owners(cluster, kind) for kind in (*kinds, "persistentvolumeclaims"))


def refusal(action: Callable[[], object]) -> str:
    """What the API server says against it; empty when it is carried out."""
    try:
        action()
    except KubectlError as error:
        return str(error)
    return ""


async def test_uninstalled_and_installed_again_without_a_restart(plane: Cluster, tmp_path: Path) -> None:
    kubeconfig = replica.install(plane)
    operator = await leading(plane, kubeconfig, tmp_path / "operator.log")
    try:
        await applied(plane, *declared())
        await soon(lambda: converged(plane))
        await soon(lambda: attached(plane))
        before = Life.of(plane)
        assert len(before.pods) == len(before.instances) == len(VMS)
        assert len(before.disks) == 2 * len(VMS)

        # Nobody deletes the definitions by mistake.
        delete = ("delete", "crd", "-l", PART_OF, "--timeout=60s")
        await soon(lambda: "vdcos uninstall --yes" in refusal(lambda: plane.kubectl(*delete, "--dry-run=server")), 30)

        shown = await vdcos(plane, "uninstall")
        assert shown.returncode == 2, shown.stderr
        assert "Nothing was changed. To do it (" in shown.stdout
        assert attached(plane)

        # An operator that runs would take everything back.
        alive = await vdcos(plane, "uninstall", "--yes")
        assert alive.returncode == 1
        assert "the operator runs" in alive.stderr
        assert "kubectl scale -n vdcos-system deployment/vdcos --replicas=0" in alive.stderr
        assert attached(plane)
    finally:
        await operator.stop()

    done = await vdcos(plane, "uninstall", "--yes")
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    assert f"{len(VMS)} VMs detached" in done.stdout
    assert detached(plane)
    for kind in ("networks.vdcos.dev", "datastores.vdcos.dev"):
        assert not any(item["metadata"].get("finalizers") for item in items(plane, kind))
    again = await vdcos(plane, "uninstall")
    assert (again.returncode, again.stdout.splitlines()[0]) == (0, "Nothing to do.")
    assert Life.of(plane) == before

    # What the garbage collector takes along shows that it has dealt with the deletion.
    [web] = [item for item in items(plane, "virtualmachines.vdcos.dev", "-A") if item["metadata"]["name"] == "web"]
    owner = {"apiVersion": api.API_VERSION, "kind": "VirtualMachine", "name": "web", "uid": web["metadata"]["uid"]}
    witness = {"name": "witness", "namespace": NAMESPACE, "ownerReferences": [owner]}
    plane.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": witness})
    # The policy is deleted, and in force until the API server has heard of that.
    await soon(lambda: plane.kubectl(*delete), 90)
    await soon(lambda: plane.kubectl("get", "configmap", "-n", NAMESPACE, "--ignore-not-found", "witness") == "")
    assert Life.of(plane) == before, "VMs run on and disks stay"

    kubeconfig = replica.install(plane)
    operator = await leading(plane, kubeconfig, tmp_path / "again.log")
    try:
        await applied(plane, *declared())
        await soon(lambda: converged(plane))
        await soon(lambda: attached(plane))
        assert Life.of(plane) == before, "everything is taken back as it is"
        await quiet(plane)
    finally:
        await operator.kill()


async def test_uninstalled_after_the_operator_was_killed_and_taken_back_by_the_next(
    plane: Cluster, tmp_path: Path
) -> None:
    """Its Lease stands for a while; the objects stay, and whoever is started again finds them and their children."""
    before = Life.of(plane)
    assert before.pods
    assert attached(plane)
    done = await vdcos(plane, "uninstall", "--yes", "-o", "json")
    assert done.returncode == 0, done.stderr
    verbs = {step["verb"] for step in json.loads(done.stdout)["steps"]}
    assert verbs == {"detach", "release", "delete"}
    assert detached(plane)

    kubeconfig = replica.install(plane)
    operator = await leading(plane, kubeconfig, tmp_path / "operator.log")
    try:
        await soon(lambda: attached(plane))
        await soon(lambda: converged(plane))
        assert Life.of(plane) == before
    finally:
        await operator.kill()


async def test_definitions_that_hang_without_an_operator_are_let_go(plane: Cluster) -> None:
    """Our finalizers hold what is in use, and nobody takes them off: the way out is the uninstallation."""
    before = Life.of(plane)
    plane.kubectl("delete", "validatingadmissionpolicybinding", GUARD)
    names = [f"{plural}.vdcos.dev" for plural in ("networks", "datastores")]
    await soon(lambda: plane.kubectl("delete", "crd", *names, "--wait=false"), 30)

    def hanging() -> bool:
        found = [plane.get("crd", name) for name in names]
        held = [item for name in names for item in items(plane, name)]
        assert all(finalizers.IN_USE in item["metadata"]["finalizers"] for item in held)
        return bool(held) and all("deletionTimestamp" in crd["metadata"] for crd in found)

    await soon(hanging)
    done = await vdcos(plane, "uninstall", "--yes")
    assert done.returncode == 0, done.stderr
    for name in names:
        await soon(lambda name=name: plane.kubectl("get", "crd", name, "--ignore-not-found") == "", 30)  # type: ignore[misc]
    assert Life.of(plane) == before


# Upgrade and downgrade


def definitions() -> dict[str, Tree]:
    files = [path for path in (ROOT / "crds").glob("*.yaml") if path.name != "kustomization.yaml"]
    return {crd["spec"]["names"]["kind"]: crd for crd in map(yaml.safe_load, (path.read_text() for path in files))}


LATER = (
    ("VirtualMachine", "spec", "availability"),
    ("VirtualMachine", "status", "powerState"),
    ("VirtualMachine", "status", "disks", "made"),
    ("Network", "status", "virtualMachines"),
    ("Host", "status", "reserved"),
)
"""Fields that came later than the release before."""


def older() -> list[Tree]:
    """Our definitions as a release before could have had them: without some fields, and with another default."""
    made = copy.deepcopy(definitions())
    for kind, *path in LATER:
        version = made[kind]["spec"]["versions"][0]
        _forget(version["schema"]["openAPIV3Schema"], path)
        version["additionalPrinterColumns"] = [
            column for column in version["additionalPrinterColumns"] if path[-1] not in column["jsonPath"]
        ]
    schema = made["VirtualMachine"]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    model = schema["properties"]["spec"]["properties"]["nics"]["items"]["properties"]["model"]
    assert model["default"] == "virtio"
    model["default"] = "e1000e"
    return [*made.values()]


def _forget(schema: Tree, path: list[str]) -> None:
    """Take a field out of a schema, with the rules that speak of it."""
    name, *rest = path
    if "x-kubernetes-validations" in schema:
        rules = schema["x-kubernetes-validations"]
        schema["x-kubernetes-validations"] = [rule for rule in rules if path[-1] not in json.dumps(rule)]
    if rest:
        below = schema["properties"][name]
        _forget(below.get("items", below), rest)
    else:
        del schema["properties"][name]
        schema["required"] = [field for field in schema.get("required", []) if field != name]


def specs(cluster: Cluster) -> dict[str, tuple[int, Tree]]:
    """Generation and spec of everything that was declared."""
    found = [
        item
        for plural in ("virtualmachines", "networks", "datastores")
        for item in items(cluster, f"{plural}.vdcos.dev", "-A")
    ]
    return {
        f"{item['kind']} {item['metadata']['name']}": (item["metadata"]["generation"], item["spec"]) for item in found
    }


async def test_upgrade_and_downgrade_restart_nothing_and_write_little(plane: Cluster, tmp_path: Path) -> None:
    """The definitions of the release before, with objects of its time; then ours, with a field that is new; then those
    of before again."""
    kubeconfig = replica.install(plane)
    plane.kubectl("delete", "virtualmachines.vdcos.dev,virtualmachines.kubevirt.io", "--all", "-n", NAMESPACE)
    await soon(lambda: not Life.of(plane).machines)
    await applied(plane, *older())
    plane.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", "-l", PART_OF)
    operator = await leading(plane, kubeconfig, tmp_path / "before.log")
    try:
        await applied(plane, *declared())
        await soon(lambda: converged(plane))
        await soon(lambda: attached(plane))
        await quiet(plane)
    finally:
        await operator.stop()
    before, said = Life.of(plane), specs(plane)
    assert len(before.pods) == len(VMS)
    assert said["VirtualMachine web"][1]["nics"][0]["model"] == "e1000e", "by the default of then"

    async def another_release(name: str, schemas: list[Tree]) -> None:
        """The definitions first, then the operator. It writes statuses, and few of them."""
        await applied(plane, *schemas)
        mark = plane.audit_mark()
        operator = await leading(plane, kubeconfig, tmp_path / f"{name}.log")
        try:
            await operator.at_rest(len(said))
            await soon(lambda: converged(plane))
            await quiet(plane)
        finally:
            await operator.stop()
        found = writes(plane, mark)
        told = [f"{write.verb} {write.resource}/{write.subresource}" for write in found]
        print(f"{name}: {len(found)} writes for {len(said)} objects: {told}")
        assert all(write.subresource == "status" for write in found), told
        assert len(found) <= 2 * (len(said) + HOSTS), "a status each, and what is counted later"
        assert Life.of(plane) == before, "no VM restarts, and KubeVirt is told nothing new"

    await another_release("ours", [*definitions().values()])
    assert specs(plane) == said, "what was declared is as it was"

    operator = await leading(plane, kubeconfig, tmp_path / "news.log")
    try:
        priority = json.dumps({"spec": {"availability": {"restartPriority": "High"}}})
        plane.kubectl("patch", "vdcvm", "db", "-n", NAMESPACE, "--type=merge", "-p", priority)
        await soon(lambda: converged(plane))
        await quiet(plane)
    finally:
        await operator.stop()
    said = specs(plane)
    assert said["VirtualMachine db"][1].pop("availability")

    await another_release("before again", older())
    assert specs(plane) == said, "but for what the older definitions do not know"
