"""What tenants try (attempts.py), on a real control plane, with the operator under its generated rights."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import prometheus_client.parser
import pytest
import pytest_asyncio

from devcluster.cluster import Cluster, KubectlError
from devcluster.waiting import eventually
from tests.devcluster import attempts
from tests.devcluster.attempts import (
    ATTEMPTS,
    BLUE,
    ON,
    OWNER,
    RED,
    RESERVED,
    SMALL,
    TAINT,
    TENANT,
    Attempt,
    Stage,
    Who,
)
from tests.devcluster.replica import Replica
from vdcos.core import disks, ownership
from vdcos.testing import builders

Tree = dict[str, Any]

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROLES: Mapping[Who, tuple[str, ...]] = {TENANT: ("vdcos:edit",), OWNER: ("admin", "attempts-definitions")}
MULTUS: Tree = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {"name": "attempts-definitions"},
    "rules": [
        {"apiGroups": ["k8s.cni.cncf.io"], "resources": ["network-attachment-definitions"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["*"]},
    ],
}
"""What administrators of clusters with Multus give those of namespaces; and Events, which some do."""
KUBEVIRT, CDI = "system:serviceaccount:kubevirt:kubevirt-controller", "system:serviceaccount:cdi:cdi-sa"


def only(*names: str) -> Tree:
    return {"from": "Names", "names": list(names)}


def serving(manifest: Tree, *namespaces: str) -> Tree:
    return {**manifest, "spec": {**manifest["spec"], "allowedNamespaces": only(*namespaces)}}


def binding(who: Who, role: str) -> Tree:
    account = "tenant" if who == TENANT else "owner"
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": f"{account}-{role.replace(':', '-')}", "namespace": RED},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": RED}],
    }


@dataclass(frozen=True)
class Scene:
    """Both tenants, what is there of them, and the operator."""

    cluster: Cluster
    operator: Replica
    kubeconfigs: Mapping[Who, Path]
    before: str
    """The other tenant's VM as it was before anybody tried anything."""

    def victim(self) -> str:
        vm = self.cluster.get("vdcvm", "db", "-n", BLUE)
        instance = self.cluster.get("vmi", "db", "-n", BLUE)
        child = self.cluster.get("virtualmachines.kubevirt.io", "db", "-n", BLUE)
        said = {
            "vm": [vm["metadata"]["uid"], vm["spec"]],
            "ready": next(c["status"] for c in vm["status"]["conditions"] if c["type"] == "Ready"),
            "child": [child["metadata"]["uid"], child["spec"]["runStrategy"]],
            "instance": [instance["metadata"]["uid"], instance["status"]["phase"], instance["status"]["nodeName"]],
            "secrets": sorted(each["metadata"]["uid"] for each in self._all("secrets")),
            "claims": sorted(each["metadata"]["uid"] for each in self._all("pvc") if not is_passing(each)),
            "definitions": sorted(each["spec"]["config"] for each in self._all("net-attach-def")),
        }
        return json.dumps(said, sort_keys=True)

    def users(self, network: str) -> list[str]:
        """The VMs that a Network says use it."""
        found: list[str] = self.cluster.get("networks.vdcos.dev", network)["status"]["virtualMachines"]["names"]
        return found

    def _all(self, kind: str) -> list[Tree]:
        found: list[Tree] = self.cluster.get(kind, "-n", BLUE)["items"]
        return found


def is_passing(claim: Tree) -> bool:
    """Whether it is one of CDI's, which go when the disk that they fill is full."""
    return str(claim["metadata"]["name"]).startswith("prime-")


def furnish(cluster: Cluster) -> None:
    """Two tenants: RED has little, BLUE a VM with a disk, a NIC and a Secret, and a host for itself."""
    cluster.apply(builders.namespace(RED), builders.namespace(BLUE, {"tier": "blue"}), MULTUS)
    accounts = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": RED}}
        for name in ("tenant", "owner")
    ]
    cluster.apply(*accounts, *(binding(who, role) for who, roles in ROLES.items() for role in roles))
    cluster.kubectl("taint", "node", RESERVED, f"{TAINT}=blue:NoSchedule", "--overwrite")
    cluster.kubectl("annotate", "namespace", BLUE, f"vdcos.dev/allowed-taints={TAINT}", "--overwrite")
    cluster.apply(
        serving(builders.datastore("gold", "block-rwx"), BLUE),
        serving(builders.datastore("shared", "block-rwx", capacity="1Ti"), RED, BLUE),
        serving(builders.network("front", bridge={"name": "br0"}), BLUE),
        serving(builders.network("shared", bridge={"name": "br1"}), RED, BLUE),
        serving(builders.network("taken", bridge={"name": "br2"}), RED, BLUE),
    )
    for name in ("passwords", "registry"):
        cluster.kubectl("create", "secret", "generic", name, "-n", BLUE, "--from-literal=userdata=hunter2")
    cluster.apply({**attempts.claim("golden"), "metadata": {"name": "golden", "namespace": BLUE}})
    spec = {
        **ON,
        "disks": [{"name": "root", "size": "1Gi", "datastore": "gold"}],
        "nics": [{"name": "eth0", "network": "front"}],
        "placement": {"tolerations": [{"key": TAINT, "value": "blue", "effect": "NoSchedule"}]},
    }
    cluster.apply(attempts.obj("VirtualMachine", "db", BLUE, spec=spec, metadata={"labels": {"app": "db"}}))
    cluster.apply(attempts.obj("VirtualMachine", "resident", spec=SMALL))
    cluster.kubectl("wait", "vdcvm/db", "-n", BLUE, "--for=condition=Ready", "--timeout=180s")


def clear(cluster: Cluster) -> None:
    cluster.kubectl("taint", "node", RESERVED, f"{TAINT}-")
    held = "jsonpath={range .items[?(@.metadata.finalizers)]}{.metadata.name} {end}"
    for name in cluster.kubectl("get", "vdcvm", "-n", RED, "-o", held).split():
        patch = ["--type=merge", "-p", '{"metadata":{"finalizers":null}}', "-o", "name"]
        cluster.kubectl("patch", "vdcvm", name, "-n", RED, *patch)
    cluster.kubectl("delete", "namespace", RED, BLUE, "--wait=false")
    cluster.kubectl("delete", "clusterrole", MULTUS["metadata"]["name"])
    cluster.kubectl("delete", "datastores.vdcos.dev", "gold", "shared", "--wait=false")
    cluster.kubectl("delete", "networks.vdcos.dev", "front", "shared", "taken", "--wait=false")


def is_empty(cluster: Cluster) -> bool:
    """The operator has taken its finalizers off what nobody uses any more."""
    left = cluster.kubectl("get", "networks.vdcos.dev,datastores.vdcos.dev", "-o", "name")
    names = ("/gold", "/shared", "/front", "/taken")
    return not any(line.endswith(names) for line in left.splitlines())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(cluster: Cluster, installed: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    operator = Replica(installed, tmp_path_factory.mktemp("operator") / "operator.log", "--standalone")
    await operator.start()
    await asyncio.to_thread(furnish, cluster)
    kubeconfigs: dict[Who, Path] = {
        TENANT: cluster.service_account_kubeconfig(RED, "tenant"),
        OWNER: cluster.service_account_kubeconfig(RED, "owner"),
    }
    made = Scene(cluster, operator, kubeconfigs, "")
    yield Scene(cluster, operator, kubeconfigs, await asyncio.to_thread(made.victim))
    await asyncio.to_thread(clear, cluster)
    await asyncio.to_thread(eventually, lambda: is_empty(cluster), 180)
    await operator.stop()


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=[attempt.slug for attempt in ATTEMPTS])
async def test_a_tenant_reaches_nothing_of_others(scene: Scene, attempt: Attempt) -> None:
    stage = Stage(scene.cluster, attempt.slug, scene.kubeconfigs, attempt.who)
    await asyncio.to_thread(attempt.ends.check, stage, attempt.act)


async def test_kubevirt_itself_may_say_again_what_a_vm_takes(scene: Scene) -> None:
    """It copies a VM's annotations to a clone, and puts them back at a restore."""
    copy = json.dumps(attempts.kubevirt_vm("copy", annotations={ownership.ADMITTED: "1/1"}))
    made = scene.cluster.kubectl("create", "--as", KUBEVIRT, "--dry-run=server", "-n", RED, "-f", "-", stdin=copy)
    assert "created" in made


async def test_disks_of_ours_are_snapshotted_and_restored_as_ever(scene: Scene) -> None:
    """KubeVirt copies their marks to what it keeps of the snapshot, and to the restored claim."""
    stage = Stage(scene.cluster, "kept", scene.kubeconfigs, OWNER)

    def keep() -> Mapping[str, str]:
        stage.create(attempts.vm(stage, {**SMALL, **attempts.disk()}))
        eventually(lambda: stage.says("Ready")[0] == "True", attempts.SOON)
        attempts.snapshot(stage, stage.name)
        attempts.restore(stage, "copy")
        eventually(lambda: stage.get("virtualmachinerestores")["status"]["complete"], attempts.SOON)
        [restored] = stage.get("virtualmachinerestores")["status"]["restores"]
        labels: Mapping[str, str] = stage.get("pvc", restored["persistentVolumeClaim"])["metadata"]["labels"]
        return labels

    marks = {disks.VM: "kept", disks.DISK: attempts.DISK, disks.DATASTORE: "shared"}
    assert marks.items() <= (await asyncio.to_thread(keep)).items()


async def test_cdi_itself_marks_claims_when_it_creates_them_and_never_later(scene: Scene) -> None:
    """It labels a claim as the pod says that fills it, and that pod may be a tenant's."""
    labels = {disks.DATASTORE: "gold"}
    marked = json.dumps(attempts.claim("marked", metadata={"labels": labels}))
    as_cdi = ("--as", CDI, "--dry-run=server", "-n", RED)
    assert "created" in scene.cluster.kubectl("create", *as_cdi, "-f", "-", stdin=marked)
    scene.cluster.apply(attempts.claim("plain"))
    with pytest.raises(KubectlError, match="only vdcos sets them"):
        scene.cluster.kubectl("label", "pvc", "plain", *as_cdi, *(f"{key}={value}" for key, value in labels.items()))
    assert "labeled" in scene.cluster.kubectl("label", "pvc", "plain", *as_cdi, "other=label")


async def test_after_all_that_the_other_tenant_has_what_he_had(scene: Scene) -> None:
    await asyncio.to_thread(eventually, lambda: scene.victim() == scene.before)
    # What is counted follows what happens; by now it would count those who only tried.
    await asyncio.to_thread(eventually, lambda: scene.users("front") == [f"{BLUE}/db"])


async def test_after_all_that_the_operator_is_well(scene: Scene) -> None:
    """No error of its own, metrics that can be parsed, and a log of whole lines without what a terminal obeys."""
    assert scene.operator.alive
    samples = [
        sample
        for family in prometheus_client.parser.text_string_to_metric_families(scene.operator.scraped())
        for sample in family.samples
    ]
    assert not [each for each in samples if each.labels.get("result") == "bug" and each.value]
    assert all(value.isprintable() for each in samples for value in each.labels.values())
    lines = scene.operator.log.read_text().splitlines()
    assert len(lines) > 10
    assert all(json.loads(line)["time"] and line.isprintable() for line in lines)
    assert not any('"message":"forged"' in line for line in lines)
