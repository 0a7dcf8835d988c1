"""The generated rights and admission policies, on the real API server: what the operator and tenants can do."""

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devcluster.cluster import Cluster, KubectlError
from devcluster.waiting import eventually

ROOT = Path(__file__).parents[2]
ACCOUNT = "system:serviceaccount:vdcos-system:vdcos"
OPERATOR = (f"--as={ACCOUNT}", "--as-group=system:authenticated")
TENANT = ("--as=tenant", "--as-group=system:authenticated")
NETWORK = {
    "apiVersion": "vdcos.dev/v1alpha1",
    "kind": "Network",
    "metadata": {"name": "rights", "labels": {"team": "a"}},
    "spec": {"bridge": {"name": "br0"}},
}


def refused(action: Callable[[], object], says: str) -> None:
    with pytest.raises(KubectlError, match=says):
        action()


def is_refused(action: Callable[[], object], says: str) -> bool:
    try:
        action()
    except KubectlError as error:
        return says in str(error)
    return False


def may(cluster: Cluster, user: str, verb: str, resource: str, namespace: str = "") -> bool:
    """Whether a user may do this; `resource` is resource[/subresource][.group]."""
    path, _, group = resource.partition(".")
    name, _, subresource = path.partition("/")
    asked = {"verb": verb, "group": group, "resource": name, "subresource": subresource, "namespace": namespace}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "groups": ["system:authenticated"], "resourceAttributes": asked},
    }
    answer = json.loads(
        cluster.kubectl("create", "--validate=false", "-f", "-", "-o", "json", stdin=json.dumps(review))
    )
    allowed: bool = answer["status"]["allowed"]
    return allowed


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Cluster:
    for directory in ("crds", "manifests/rbac"):
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / directory))
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd/networks.vdcos.dev")
    return cluster


@pytest.fixture
def network(installed: Cluster) -> Iterator[Cluster]:
    installed.apply(NETWORK)
    yield installed
    installed.kubectl("delete", "networks.vdcos.dev", "rights", "--wait=false")


def attachment(namespace: str, **labels: str) -> str:
    return json.dumps(
        {
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": "front", "namespace": namespace, "labels": labels},
            "spec": {"config": "{}"},
        }
    )


def test_the_operator_cannot_rewrite_what_was_declared(network: Cluster) -> None:
    def patch(content: object) -> Callable[[], str]:
        body = json.dumps(content)
        return lambda: network.kubectl("patch", "networks.vdcos.dev", "rights", "--type=merge", "-p", body, *OPERATOR)

    eventually(lambda: is_refused(patch({"spec": {"mtu": 1400}}), "never rewritten"), 30)
    refused(patch({"metadata": {"labels": {"team": "b"}}}), "never rewritten")
    refused(patch({"metadata": {"annotations": {"a": "b"}}}), "never rewritten")
    patch({"metadata": {"finalizers": ["vdcos.dev/in-use"]}})()
    patch({"metadata": {"finalizers": []}})()
    assert may(network, ACCOUNT, "patch", "networks/status.vdcos.dev")


def test_the_operator_has_no_right_to_secrets_of_tenants_or_to_machines(installed: Cluster) -> None:
    assert may(installed, ACCOUNT, "watch", "virtualmachines.vdcos.dev")
    for verb, resource in (("get", "secrets"), ("patch", "virtualmachines.vdcos.dev"), ("create", "pods")):
        assert not may(installed, ACCOUNT, verb, resource)
    assert may(installed, ACCOUNT, "get", "secrets", "vdcos-system"), "those of power switches"
    for verb in ("list", "watch", "update", "delete"):
        assert not may(installed, ACCOUNT, verb, "secrets", "vdcos-system")
    for verb, resource in (("delete", "nodes"), ("patch", "nodes/status"), ("patch", "pods"), ("create", "pods/exec")):
        assert not may(installed, ACCOUNT, verb, resource)


def test_tenants_cannot_forge_or_change_derived_attachments(installed: Cluster, namespace: str) -> None:
    installed.kubectl("create", "rolebinding", "all", "-n", namespace, "--clusterrole=cluster-admin", "--user=tenant")

    def create(labels: dict[str, str], who: tuple[str, ...]) -> Callable[[], str]:
        return lambda: installed.kubectl("create", "-f", "-", *who, stdin=attachment(namespace, **labels))

    ours = {"app.kubernetes.io/managed-by": "vdcos"}
    eventually(lambda: is_refused(create(ours, TENANT), "derived from a Network of vdcos"), 30)
    claimed = json.loads(attachment(namespace))
    owner = {"apiVersion": "vdcos.dev/v1alpha1", "kind": "Network", "name": "front", "uid": "u", "controller": True}
    claimed["metadata"]["ownerReferences"] = [owner]
    claim = lambda: installed.kubectl("create", "-f", "-", *TENANT, stdin=json.dumps(claimed))  # noqa: E731
    refused(claim, "derived from a Network of vdcos")
    create({}, TENANT)()
    change = ["label", "network-attachment-definitions", "front", "-n", namespace, "app.kubernetes.io/managed-by=vdcos"]
    refused(lambda: installed.kubectl(*change, *TENANT), "derived from a Network of vdcos")
    installed.kubectl("delete", "network-attachment-definitions", "front", "-n", namespace, *TENANT)
    create(ours, OPERATOR)()
    undo = ["label", "network-attachment-definitions", "front", "-n", namespace, "app.kubernetes.io/managed-by-"]
    refused(lambda: installed.kubectl(*undo, *TENANT), "derived from a Network of vdcos")
    delete = ["delete", "network-attachment-definitions", "front", "-n", namespace]
    refused(lambda: installed.kubectl(*delete, *TENANT), "derived from a Network of vdcos")
    installed.kubectl(*delete, *OPERATOR)


def test_only_administrators_hand_out_devices(installed: Cluster, namespace: str) -> None:
    """A tenant who may edit and create namespaces still cannot give himself host devices."""
    role, every = f"namespaces-{namespace}", "namespaces,namespaces/status,namespaces/finalize"
    installed.kubectl("create", "clusterrole", role, "--verb=get,patch,update,create", f"--resource={every}")
    installed.kubectl("create", "clusterrolebinding", role, f"--clusterrole={role}", "--user=tenant")
    annotate = ["annotate", "--overwrite", "namespace", namespace]
    eventually(
        lambda: is_refused(
            lambda: installed.kubectl(*annotate, "vdcos.dev/allowed-devices=*", *TENANT), "it takes verb allow"
        ),
        30,
    )
    new = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": f"{namespace}-2", "annotations": {"vdcos.dev/allowed-devices": "*"}},
    }
    refused(lambda: installed.kubectl("create", "-f", "-", *TENANT, stdin=json.dumps(new)), "it takes verb allow")
    body = json.dumps({"metadata": {"annotations": {"vdcos.dev/allowed-devices": "*"}}})
    status = ["patch", "namespace", namespace, "--subresource=status", "--type=merge", "-p", body]
    refused(lambda: installed.kubectl(*status, *TENANT), "it takes verb allow")
    finalize = ["replace", "--raw", f"/api/v1/namespaces/{namespace}/finalize", "-f", "-"]
    there = installed.get("namespace", namespace)
    there["metadata"]["annotations"] = {"vdcos.dev/allowed-devices": "*"}
    refused(lambda: installed.kubectl(*finalize, *TENANT, stdin=json.dumps(there)), "it takes verb allow")
    installed.kubectl(*annotate, "vdcos.dev/allowed-devices=nvidia.com/T4")
    installed.kubectl(*annotate, "colour=blue", *TENANT)
    refused(lambda: installed.kubectl(*annotate, "vdcos.dev/allowed-devices-", *TENANT), "it takes verb allow")
    installed.kubectl("delete", "clusterrolebinding,clusterrole", role)


def disk(kind: str, namespace: str, *, marked: bool = True) -> str:
    marks = {"labels": {"vdcos.dev/datastore": "gold"}, "annotations": {"vdcos.dev/requested": "1"}}
    storage: dict[str, object] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    meta = {"name": "disk", "namespace": namespace, **(marks if marked else {})}
    if kind == "PersistentVolumeClaim":
        return json.dumps({"apiVersion": "v1", "kind": kind, "metadata": meta, "spec": storage})
    spec = {"source": {"blank": {}}, "storage": storage}
    return json.dumps({"apiVersion": "cdi.kubevirt.io/v1beta1", "kind": kind, "metadata": meta, "spec": spec})


CDI = ("--as=system:serviceaccount:cdi:cdi-sa",)
KUBEVIRT = ("--as=system:serviceaccount:kubevirt:kubevirt-controller",)
STATEFUL_SETS = ("--as=system:serviceaccount:kube-system:statefulset-controller",)


@pytest.mark.parametrize(
    ("kind", "may_mark", "may_not"),
    [
        ("DataVolume", (OPERATOR, ()), (TENANT, CDI, KUBEVIRT)),
        ("PersistentVolumeClaim", ((), CDI, KUBEVIRT), (TENANT, STATEFUL_SETS)),
    ],
)
def test_only_vdcos_says_what_a_disk_counts(
    installed: Cluster,
    namespace: str,
    kind: str,
    may_mark: tuple[tuple[str, ...], ...],
    may_not: tuple[tuple[str, ...], ...],
) -> None:
    """Whoever copies what tenants wrote into templates is no better than they."""
    installed.kubectl("create", "rolebinding", "all", "-n", namespace, "--clusterrole=cluster-admin", "--user=tenant")
    says = "only vdcos sets them"

    def create(who: tuple[str, ...], *, marked: bool = True) -> Callable[[], str]:
        return lambda: installed.kubectl("create", "-f", "-", *who, stdin=disk(kind, namespace, marked=marked))

    def change(verb: str, mark: str) -> Callable[[], str]:
        return lambda: installed.kubectl(verb, kind, "disk", "-n", namespace, "--overwrite", mark, *TENANT)

    eventually(lambda: is_refused(create(TENANT), says), 30)
    for who in may_not:
        refused(create(who), says)
    create(TENANT, marked=False)()
    refused(change("label", "vdcos.dev/datastore=gold"), says)
    refused(change("annotate", "vdcos.dev/requested=1"), says)
    delete = ["delete", kind, "disk", "-n", namespace]
    for who in may_mark:
        installed.kubectl(*delete, *TENANT)
        create(who)()
    change("label", "colour=blue")()
    change("annotate", "colour=blue")()
    for verb, mark in (("label", "vdcos.dev/datastore"), ("annotate", "vdcos.dev/requested")):
        refused(change(verb, f"{mark}=other"), says)
        refused(change(verb, f"{mark}-"), says)
    installed.kubectl(*delete, *TENANT)


def test_tenants_edit_machines_and_see_infrastructure_only_if_somebody_lets_them(
    installed: Cluster, namespace: str
) -> None:
    installed.kubectl("create", "rolebinding", "edit", "-n", namespace, "--clusterrole=edit", "--user=tenant")
    installed.kubectl("create", "clusterrolebinding", namespace, "--clusterrole=view", "--user=viewer")
    try:
        eventually(lambda: may(installed, "tenant", "create", "virtualmachines.vdcos.dev", namespace), 30)
        for plural in ("networks", "datastores", "hosts", "hapolicies", "hostfailures"):
            eventually(functools.partial(may, installed, "viewer", "list", f"{plural}.vdcos.dev"), 30)
            assert not may(installed, "tenant", "list", f"{plural}.vdcos.dev")
    finally:
        installed.kubectl("delete", "clusterrolebinding", namespace)
    assert not may(installed, "tenant", "create", "networks.vdcos.dev")
    assert not may(installed, "tenant", "patch", "virtualmachines/status.vdcos.dev", namespace)


def test_the_operator_may_mark_nodes_and_do_nothing_else_to_them(installed: Cluster) -> None:
    says = "the operator may cordon nodes and put its own taints on them"

    def operator(*arguments: str) -> Callable[[], str]:
        return lambda: installed.kubectl(*arguments, *OPERATOR)

    eventually(lambda: is_refused(operator("label", "node", "host-1", "colour=blue"), says), 30)
    refused(operator("annotate", "node", "host-1", "colour=blue"), says)
    refused(operator("taint", "node", "host-1", "colour=blue:NoSchedule"), says)
    try:
        operator("cordon", "host-1")()
        operator("annotate", "node", "host-1", "vdcos.dev/cordoned-by=host/host-1")()
        operator("taint", "node", "host-1", "vdcos.dev/failover-only:NoSchedule")()
        refused(operator("taint", "node", "host-1", "node.kubernetes.io/unschedulable-"), says)
    finally:
        operator("taint", "node", "host-1", "vdcos.dev/failover-only-")()
        operator("annotate", "node", "host-1", "vdcos.dev/cordoned-by-")()
        operator("uncordon", "host-1")()


def test_the_operator_may_delete_pods_of_vms_only(installed: Cluster, namespace: str) -> None:
    for name, label in (("web", "shop"), ("launcher", "virt-launcher")):
        container = {"name": "main", "image": "example.com/main:1"}
        meta = {"name": name, "namespace": namespace, "labels": {"kubevirt.io": label}}
        spec = {"containers": [container], "nodeSelector": {"nowhere": "yes"}}
        installed.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})

    def delete(name: str) -> Callable[[], str]:
        return lambda: installed.kubectl("delete", "pod", name, "-n", namespace, *OPERATOR)

    eventually(lambda: is_refused(delete("web"), "the operator may delete pods of VMs only"), 30)
    delete("launcher")()
