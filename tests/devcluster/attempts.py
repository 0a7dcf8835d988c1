"""What a tenant may try to reach beyond his namespace, each with how it ends; docs/security/tenants.md is made of this.

Usage: python -m tests.devcluster.attempts --write docs/security/tenants.md
"""

import argparse
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from devcluster.cluster import Cluster, KubectlError
from devcluster.waiting import eventually
from vdcos import api
from vdcos.core import disks, ownership

Tree = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
Who = Literal["tenant", "namespace admin"]

TENANT: Who = "tenant"
OWNER: Who = "namespace admin"
RED, BLUE = "red", "blue"
"""The namespace of who tries, and that of who must not be reached."""
SMALL: Tree = {"powerState": "PoweredOff", "cpu": {}, "memory": {"size": "64Mi"}}
ON: Tree = {**SMALL, "powerState": "PoweredOn"}
SOON = 120.0
"""Seconds, on a busy machine."""
RESERVED = "host-4"
"""A host that is kept for BLUE by a taint."""
TAINT = "dedicated"
DISK = "root"
"""The only disk of VMs that have one."""
SPEC = "/spec/template/spec"


class Stage:
    """A cluster, the attempt's own name in it, and who tries."""

    def __init__(self, cluster: Cluster, name: str, kubeconfigs: Mapping[Who, Path], who: Who) -> None:
        self.cluster, self.name = cluster, name
        self._kubeconfig = kubeconfigs[who]

    # What the one who tries does

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl(*arguments, stdin=stdin, kubeconfig=self._kubeconfig)

    def create(self, *objects: Tree, strict: bool = True) -> None:
        """A POST, so that a refusal is the API server's own."""
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.run("create", "-f", "-", f"--validate={'strict' if strict else 'ignore'}", stdin=document)

    def send(self, item: Tree, *options: str) -> None:
        """A PATCH without a look at what is there."""
        self.run("apply", "--server-side", "--force-conflicts", "-f", "-", *options, stdin=json.dumps(item))

    def patch(self, kind: str, name: str, body: Any, *options: str, namespace: str = RED, how: str = "merge") -> None:
        self.run("patch", kind, name, "-n", namespace, f"--type={how}", "-p", json.dumps(body), *options)

    # What an administrator sees of it

    def get(self, kind: str, name: str = "", namespace: str = RED) -> Tree:
        return self.cluster.get(kind, name or self.name, "-n", namespace)

    def exists(self, kind: str, name: str = "", namespace: str = RED) -> bool:
        found = self.cluster.kubectl(
            "get", kind, name or self.name, "-n", namespace, "--ignore-not-found", "-o", "name"
        )
        return bool(found.strip())

    def says(self, condition: str) -> tuple[str, str, str]:
        """Status, reason and message of a condition of the attempt's VM, once its present spec was looked at."""
        # Not the whole object: one of them is nested deeper than a decoder goes.
        fields = 'jsonpath={.metadata.generation}{"\\n"}{.status}'
        generation, _, text = self.cluster.kubectl("get", "vdcvm", self.name, "-n", RED, "-o", fields).partition("\n")
        status: Tree = json.loads(text or "{}")
        assert str(status.get("observedGeneration")) == generation
        found = (each for each in status["conditions"] if each["type"] == condition)
        return next(((each["status"], each["reason"], each["message"]) for each in found), ("", "", ""))

    def child(self) -> Tree:
        return self.get("virtualmachines.kubevirt.io")

    def template(self) -> Tree:
        """The template of KubeVirt's VM, as soon as there is one."""
        found: Tree = self.child()["spec"]["template"]
        return found


Act = Callable[[Stage], object]


@dataclass(frozen=True)
class Refused:
    """The request is refused."""

    by: str
    says: str

    def check(self, stage: Stage, act: Act) -> None:
        try:
            act(stage)
        except KubectlError as error:
            refusal = str(error)
        else:
            raise AssertionError("it was not refused")
        assert self.says in refusal, f"refused in other words: {refusal}"

    def told(self) -> str:
        return f"refused by {self.by}: “{self.says}”"


@dataclass(frozen=True)
class Undone:
    """The object is stored, and what it asks for is not done: a condition says why."""

    condition: str
    reason: str
    says: str = ""
    made: bool = False
    """There is a KubeVirt VM all the same, which does not get what it asks for."""

    def check(self, stage: Stage, act: Act) -> None:
        act(stage)
        eventually(lambda: stage.says(self.condition)[1] == self.reason, SOON)
        _, _, message = stage.says(self.condition)
        assert self.says in message, message
        assert message.isprintable(), message
        assert BLUE not in message, f"a tenant is told of another: {message}"
        assert self.made or not stage.exists("virtualmachines.kubevirt.io")

    def told(self) -> str:
        says = f": “{self.says}”" if self.says else ""
        return f"not done by vdcos: `{self.condition}` says `{self.reason}`{says}"


@dataclass(frozen=True)
class Harmless:
    """It is taken, and reaches nobody."""

    because: str
    proof: Callable[[Stage], object] = field(repr=False)

    def check(self, stage: Stage, act: Act) -> None:
        act(stage)
        eventually(lambda: self.proof(stage), SOON)

    def told(self) -> str:
        return f"harmless: {self.because}"


@dataclass(frozen=True)
class Attempt:
    what: str
    act: Act = field(repr=False)
    ends: Refused | Undone | Harmless
    who: Who = TENANT

    @property
    def slug(self) -> str:
        """Its name in tests, and that of its VM."""
        return re.sub("[^a-z0-9]+", "-", self.what.lower()).strip("-")[:50].strip("-")


# What is tried


def obj(kind: str, name: str, namespace: str = RED, version: str = api.API_VERSION, **fields: Any) -> Tree:
    meta = {"name": name, **({"namespace": namespace} if namespace else {}), **fields.pop("metadata", {})}
    return {"apiVersion": version, "kind": kind, "metadata": meta, **fields}


def vm(stage: Stage, spec: Tree, namespace: str = RED, **metadata: Any) -> Tree:
    return obj("VirtualMachine", stage.name, namespace, spec=spec, metadata=metadata)


def declare(base: Tree = SMALL, /, *, metadata: Tree | None = None, **spec: Any) -> Act:
    """A VM in his own namespace."""
    return lambda stage: stage.create(vm(stage, {**base, **spec}, **(metadata or {})))


def both(*acts: Act) -> Act:
    """One after the other."""

    def act(stage: Stage) -> None:
        for each in acts:
            each(stage)

    return act


def disk(source: Tree | None = None, /, datastore: str = "shared", **fields: Any) -> Tree:
    one: Tree = {"name": DISK, "size": "1Gi", "datastore": datastore, **fields}
    if source is not None:
        one["source"] = source
    return {"disks": [one]}


def nic(network: str, **fields: Any) -> Tree:
    return {"nics": [{"name": "eth0", "network": network, **fields}]}


def override(path: str, value: Any = None, *more: Tree) -> Tree:
    return {"overrides": [{"op": "add", "path": path, "value": value if value is not None else {}}, *more]}


def tolerate(key: str, effect: str = "NoSchedule") -> Tree:
    return {"placement": {"tolerations": [{"key": key, "operator": "Exists", "effect": effect}]}}


def data_volume(name: str, source: Tree | None, **more: Any) -> Tree:
    storage = {"resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "block-rwx"}
    spec = {**({"source": source} if source else {}), "storage": storage, **more.pop("spec", {})}
    return obj("DataVolume", name, version="cdi.kubevirt.io/v1beta1", spec=spec, **more)


def claim(name: str, **more: Any) -> Tree:
    spec = {
        "accessModes": ["ReadWriteMany"],
        "volumeMode": "Block",
        "storageClassName": "block-rwx",
        "resources": {"requests": {"storage": "1Gi"}},
        **more.pop("spec", {}),
    }
    return obj("PersistentVolumeClaim", name, version="v1", spec=spec, **more)


def kubevirt_vm(name: str, of: str = "", **metadata: Any) -> Tree:
    """One that is off and on no network, made by himself; with a claim as its disk."""
    attached = [{"name": DISK, "disk": {"bus": "virtio"}}] if of else []
    devices: Tree = {"autoattachPodInterface": False, "disks": attached}
    volumes = [{"name": DISK, "persistentVolumeClaim": {"claimName": of}}] if of else []
    template = {"domain": {"memory": {"guest": "64Mi"}, "devices": devices}, "volumes": volumes}
    spec = {"runStrategy": "Halted", "template": {"spec": template}}
    return obj("VirtualMachine", name, version="kubevirt.io/v1", spec=spec, metadata=metadata)


def definition(name: str, **metadata: Any) -> Tree:
    spec = {"config": '{"cniVersion":"0.3.1","type":"macvlan","master":"eth0"}'}
    return obj("NetworkAttachmentDefinition", name, version="k8s.cni.cncf.io/v1", spec=spec, metadata=metadata)


def instancetype(kind: str, name: str, **spec: Any) -> Tree:
    return obj(kind, name, version="instancetype.kubevirt.io/v1beta1", spec=spec)


GPU = "nvidia.com/TU104GL_Tesla_T4"
SCHEMA = "the CRD"
RBAC = "RBAC"
LABEL = "must be at most 63 lower-case letters"
OBJECT = "must be the name of a Kubernetes object"
PATHS = "must be one of the paths that may be overridden"
MARKS = "only vdcos sets them"
OURS = {"app.kubernetes.io/managed-by": "vdcos"}
ESCAPES = 'evil\n{"level":"error","message":"forged"}\x1b[2J\u202e'
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n" + "".join(
    f"{after}: &{after} [{','.join([f'*{before}'] * 9)}]\n" for before, after in zip("bcdefgh", "cdefghi", strict=True)
)


def _no_role_of_ours(stage: Stage) -> None:
    binding = obj("RoleBinding", stage.name, version="rbac.authorization.k8s.io/v1")
    group = "rbac.authorization.k8s.io"
    binding["roleRef"] = {"apiGroup": group, "kind": "ClusterRole", "name": "vdcos"}
    binding["subjects"] = [{"kind": "ServiceAccount", "name": "owner", "namespace": RED}]
    stage.create(binding)


def _own_instancetype(**spec: Any) -> Act:
    def act(stage: Stage) -> None:
        kind = "VirtualMachineInstancetype"
        stage.create(instancetype(kind, stage.name, cpu={"guest": 1}, memory={"guest": "64Mi"}, **spec))
        stage.create(vm(stage, {"powerState": "PoweredOff", "instancetype": {"name": stage.name, "kind": kind}}))

    return act


def _taken_disk(stage: Stage) -> None:
    stage.create(claim(disks.name(stage.name, DISK)))
    stage.create(vm(stage, {**SMALL, **disk()}))


def _taken_definition(stage: Stage) -> None:
    stage.create(definition("taken"))
    stage.create(vm(stage, {**SMALL, **nic("taken")}))


def _marked_disk(stage: Stage) -> None:
    """Takes the marks off the claim of a disk that is there."""
    stage.create(vm(stage, {**SMALL, **disk()}))
    name = disks.name(stage.name, DISK)
    eventually(lambda: stage.exists("pvc", name), SOON)
    stage.patch("pvc", name, {"metadata": {"labels": {disks.DATASTORE: None}}})


MUCH = "9999000m/9999999999999"
"""More CPU and memory than all hosts have, as ``vdcos.dev/admitted`` says it."""
SNAPSHOTS = "snapshot.kubevirt.io/v1beta1"


def snapshot(stage: Stage, source: str) -> None:
    """A snapshot of a KubeVirt VM of his own that is off, and ready to be restored."""
    group = {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": source}
    stage.create(obj("VirtualMachineSnapshot", stage.name, version=SNAPSHOTS, spec={"source": group}))
    eventually(lambda: stage.get("virtualmachinesnapshots")["status"]["readyToUse"], SOON)


def restore(stage: Stage, to: str, **more: Any) -> None:
    target = {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": to}
    spec = {"target": target, "virtualMachineSnapshotName": stage.name, **more}
    stage.create(obj("VirtualMachineRestore", stage.name, version=SNAPSHOTS, spec=spec))


def _forged_by_restore(stage: Stage) -> None:
    """Has KubeVirt write the annotation that nobody but the operator may."""
    source = f"{stage.name}-source"
    stage.create(kubevirt_vm(source))
    snapshot(stage, source)
    path = f"/metadata/annotations/{ownership.ADMITTED.replace('/', '~1')}"
    restore(stage, stage.name, patches=[json.dumps({"op": "add", "path": path, "value": MUCH})])
    eventually(lambda: stage.child()["metadata"]["annotations"][ownership.ADMITTED] == MUCH, SOON)


def _owner(stage: Stage) -> Tree:
    """A VirtualMachine of his own that waits for a Datastore, as the owner of something."""
    stage.create(obj("VirtualMachine", stage.name, spec={**ON, **disk(None, "nowhere")}))
    uid = stage.get("vdcvm")["metadata"]["uid"]
    reference = {"apiVersion": api.API_VERSION, "kind": "VirtualMachine", "name": stage.name, "uid": uid}
    return {**reference, "controller": True}


def _own_restored(stage: Stage) -> None:
    """The forged annotation counts as soon as the KubeVirt VM seems to be the operator's."""
    _forged_by_restore(stage)
    stage.patch("virtualmachines.kubevirt.io", stage.name, {"metadata": {"ownerReferences": [_owner(stage)]}})


def _named_owner(stage: Stage) -> None:
    """The API server takes a group where a version should be for a version."""
    _forged_by_restore(stage)
    owner = {"apiVersion": api.GROUP, "kind": "VirtualMachine", "name": stage.name, "uid": "any", "controller": True}
    stage.patch("virtualmachines.kubevirt.io", stage.name, {"metadata": {"ownerReferences": [owner]}})


def _grown_claim(stage: Stage) -> None:
    stage.create(vm(stage, {**SMALL, **disk()}))
    name = disks.name(stage.name, DISK)
    eventually(lambda: stage.get("pvc", name)["status"]["phase"] == "Bound", SOON)
    stage.patch("pvc", name, {"spec": {"resources": {"requests": {"storage": "64Ti"}}}})


def _take_over_restored(stage: Stage) -> None:
    _forged_by_restore(stage)
    stage.patch(
        "virtualmachines.kubevirt.io", stage.name, {"metadata": {"annotations": {"vdcos.dev/adoptable": "true"}}}
    )
    stage.create(vm(stage, SMALL))


def _marked_restore(stage: Stage) -> None:
    source = f"{stage.name}-source"
    stage.create(claim(source), kubevirt_vm(source, source))
    snapshot(stage, source)
    marks = {disks.DATASTORE: "gold", disks.VM: "db", disks.DISK: DISK}
    restore(stage, stage.name, volumeRestoreOverrides=[{"volumeName": DISK, "labels": marks}])


def _marked_content(stage: Stage) -> None:
    """Edits what a snapshot says of his own claim."""
    source = f"{stage.name}-source"
    stage.create(claim(source), kubevirt_vm(source, source))
    snapshot(stage, source)
    name = stage.get("virtualmachinesnapshots")["status"]["virtualMachineSnapshotContentName"]
    path = "/spec/volumeBackups/0/persistentVolumeClaim/metadata/labels"
    marks = {disks.DATASTORE: "gold", disks.VM: "db", disks.DISK: DISK}
    stage.patch("virtualmachinesnapshotcontents", name, [{"op": "add", "path": path, "value": marks}], how="json")


def _large_claim(stage: Stage) -> None:
    """Brings along a claim that nobody has filled yet."""
    theirs = f"{stage.name}-theirs"
    stage.create(
        claim(theirs, spec={"resources": {"requests": {"storage": "64Ti"}}}),
        kubevirt_vm(stage.name, theirs, annotations={"vdcos.dev/adoptable": "true"}),
        vm(stage, {**SMALL, **disk(size="64Ti", claimName=theirs)}),
    )


def _derived_definition(stage: Stage) -> None:
    """Changes the definition that a Network has made in his namespace."""
    stage.create(vm(stage, {**SMALL, **nic("shared")}))
    eventually(lambda: stage.exists("net-attach-def", "shared"), SOON)
    stage.patch("net-attach-def", "shared", {"spec": {"config": '{"type":"host-device","device":"eth0"}'}})


def _deep(stage: Stage) -> None:
    """JSON deeper than a decoder of ours goes; no encoder of ours makes it either."""
    text = json.dumps(vm(stage, {**SMALL, **override(f"{SPEC}/domain/clock/timer", "here")}))
    stage.run("create", "-f", "-", stdin=text.replace('"here"', '{"a":' * 2000 + "1" + "}" * 2000))


def _two_names(stage: Stage) -> None:
    """Two VMs whose names and disks' names join to the same words."""
    for name, root in ((f"{stage.name}-a", "b-c"), (f"{stage.name}-a-b", "c")):
        stage.create(obj("VirtualMachine", name, spec={**SMALL, **disk(None, "shared", name=root)}))


def _two_disks(stage: Stage) -> bool:
    names = {disks.name(f"{stage.name}-a", "b-c"), disks.name(f"{stage.name}-a-b", "c")}
    return len(names) == 2 and all(stage.exists("dv", name) for name in names)


def _circle(stage: Stage) -> None:
    others = (stage.name, f"{stage.name}-2")
    for name, other in zip(others, reversed(others), strict=True):
        stage.create(obj("VirtualMachine", name, spec={**SMALL, "availability": {"dependsOn": [{"name": other}]}}))


CROWD = 60


def _crowd(stage: Stage) -> None:
    """Many VMs that all depend on each other, by labels and by name."""
    everybody = {"selector": {"matchLabels": {"crowd": "yes"}}}
    names = [f"crowd-{number}" for number in range(CROWD)]
    stage.create(
        *(
            obj(
                "VirtualMachine",
                name,
                metadata={"labels": {"crowd": "yes"}},
                spec={
                    **SMALL,
                    "availability": {
                        "restartPriority": "Highest",
                        "readyWhen": {"condition": "GuestAgent", "timeoutSeconds": 7200, "delaySeconds": 3600},
                        "dependsOn": [everybody, *({"name": names[(at + step) % CROWD]} for step in range(1, 16))],
                    },
                },
            )
            for at, name in enumerate(names)
        )
    )


def _others_are_served(stage: Stage) -> bool:
    """A change of somebody else's VM is carried out meanwhile."""
    patch = json.dumps({"metadata": {"labels": {"seen": stage.name}}})
    stage.cluster.kubectl("patch", "vdcvm", "db", "-n", BLUE, "--type=merge", "-p", patch)
    labels = stage.get("virtualmachines.kubevirt.io", "db", BLUE)["spec"]["template"]["metadata"]["labels"]
    return bool(labels.get("seen") == stage.name)


def _is_clean(text: object, longest: int) -> bool:
    return isinstance(text, str) and bool(text) and text.isprintable() and len(text) <= longest


def _forged_event(stage: Stage) -> None:
    event = obj("Event", stage.name, version="v1", reason="FailedMount", message=ESCAPES, type="Warning")
    event["involvedObject"] = {"kind": "Pod", "namespace": BLUE, "name": "virt-launcher-db"}
    stage.create(event)


def _imports(stage: Stage) -> bool:
    """The pod that fetches for this disk was made in the tenant's own namespace."""
    claim_uid = stage.get("pvc", disks.name(stage.name, DISK))["metadata"]["uid"]
    made = stage.cluster.writes("system:serviceaccount:cdi:")
    return {each.namespace for each in made if each.name == f"importer-prime-{claim_uid}"} == {RED}


def _is_small(stage: Stage) -> bool:
    """What is kept of a message is short, and on one line."""
    _, reason, message = stage.says("Stalled")
    return reason == "OverrideConflict" and _is_clean(message, 1024)


def _labels(stage: Stage) -> Mapping[str, str]:
    found: Mapping[str, str] = stage.template()["metadata"]["labels"]
    return found


OF_CHILDREN = {
    "vdcos.dev/applied",
    "kubevirt.io/latest-observed-api-version",
    "kubevirt.io/storage-observed-api-version",
}
"""Annotations that the operator and KubeVirt put on every KubeVirt VM."""


def _no_annotations(stage: Stage) -> bool:
    of_child, of_pods = (each["metadata"].get("annotations", {}) for each in (stage.child(), stage.template()))
    return set(of_child) <= OF_CHILDREN and set(of_pods) <= {"kubevirt.io/pci-topology-version"}


def _may(stage: Stage, resource: str, namespace: str) -> bool:
    """Whether the operator may read a resource there."""
    account = "system:serviceaccount:vdcos-system:vdcos"
    try:
        stage.cluster.kubectl("auth", "can-i", "get", resource, "-n", namespace, f"--as={account}")
    except KubectlError:
        return False
    return True


def _paths(*paths: tuple[str, str]) -> Iterator[Attempt]:
    for what, path in paths:
        yield Attempt(f"override of {what}", declare(**override(path)), Refused(SCHEMA, PATHS))


SECTIONS: Mapping[str, tuple[Attempt, ...]] = {
    "Rights": (
        Attempt(
            "read VMs of another namespace", lambda s: s.run("get", "vdcvm", "-n", BLUE), Refused(RBAC, "forbidden")
        ),
        Attempt(
            "declare a VM in another namespace",
            lambda s: s.create(vm(s, SMALL, BLUE)),
            Refused(RBAC, 'cannot create resource "virtualmachines"'),
        ),
        Attempt(
            "declare a VM in the operator's namespace, beside its Secrets",
            lambda s: s.create(vm(s, SMALL, "vdcos-system")),
            Refused(RBAC, 'cannot create resource "virtualmachines"'),
            OWNER,
        ),
        Attempt(
            "see whom Networks serve, and who uses them",
            lambda s: s.run("get", "networks.vdcos.dev,datastores.vdcos.dev"),
            Refused(RBAC, "forbidden"),
            OWNER,
        ),
        Attempt(
            "declare a Network for himself",
            lambda s: s.create(obj("Network", s.name, "", spec={"pod": {}, "allowedNamespaces": {"from": "All"}})),
            Refused(RBAC, 'cannot create resource "networks"'),
            OWNER,
        ),
        Attempt(
            "open a Datastore for himself",
            lambda s: s.send(obj("Datastore", "gold", "", spec={"allowedNamespaces": {"from": "All"}})),
            Refused(RBAC, 'cannot patch resource "datastores"'),
            OWNER,
        ),
        Attempt(
            "confirm that a host is down, which lets its VMs start elsewhere",
            lambda s: s.create(
                obj("HostFailure", s.name, "", spec={"host": "host-1", "incarnation": "i", "policy": "all"})
            ),
            Refused(RBAC, 'cannot create resource "hostfailures"'),
            OWNER,
        ),
        Attempt(
            "name a host's power switch",
            lambda s: s.create(obj("Host", "host-1", "", spec={})),
            Refused(RBAC, 'cannot create resource "hosts"'),
            OWNER,
        ),
        Attempt(
            "forge a sign of life of a host",
            lambda s: s.create(obj("Lease", "host-1", "kube-node-lease", version="coordination.k8s.io/v1", spec={})),
            Refused(RBAC, 'cannot create resource "leases"'),
            OWNER,
        ),
        Attempt(
            "act as the operator",
            lambda s: s.run("get", "vdcvm", "-A", "--as=system:serviceaccount:vdcos-system:vdcos"),
            Refused(RBAC, "cannot impersonate"),
            OWNER,
        ),
        Attempt(
            "ask for a token of the operator",
            lambda s: s.run("create", "token", "vdcos", "-n", "vdcos-system"),
            Refused(RBAC, 'cannot create resource "serviceaccounts/token"'),
            OWNER,
        ),
        Attempt("bind the operator's role to himself", _no_role_of_ours, Refused(RBAC, "not currently held"), OWNER),
        Attempt(
            "label his namespace, so that a Network's selector finds it",
            lambda s: s.run("label", "namespace", RED, "tier=blue"),
            Refused(RBAC, 'cannot patch resource "namespaces"'),
            OWNER,
        ),
        Attempt(
            "allow his namespace a device",
            lambda s: s.run("annotate", "namespace", RED, f"{api.ALLOWED_DEVICES}=*"),
            Refused(RBAC, 'cannot patch resource "namespaces"'),
            OWNER,
        ),
        Attempt(
            "forge the status of his VM",
            lambda s: s.send(
                {**obj("VirtualMachine", "resident"), "status": {"host": "host-1"}}, "--subresource=status"
            ),
            Refused(RBAC, 'cannot patch resource "virtualmachines/status"'),
        ),
        Attempt(
            "create a VM with a status",
            lambda s: s.create({**vm(s, SMALL), "status": {"observedGeneration": 1, "host": "host-1"}}),
            Harmless(
                "the API server drops it, and the operator says what is",
                lambda s: "host" not in s.get("vdcvm")["status"] and s.says("Ready")[0] == "True",
            ),
        ),
        Attempt(
            "apply as the operator's field manager",
            lambda s: s.send(vm(s, SMALL), "--field-manager=vdcos-virtualmachine"),
            Harmless(
                "the name gives no rights: the operator writes the status, and nothing of what is declared",
                lambda s: s.says("Ready")[0] == "True" and s.get("vdcvm")["spec"]["powerState"] == "PoweredOff",
            ),
        ),
    ),
    "Networks": (
        Attempt(
            "a NIC on a Network of another tenant",
            declare(**nic("front")),
            Undone("NetworkReady", "NamespaceNotAllowed", "serves other namespaces"),
        ),
        Attempt("a NIC on namespace/name", declare(**nic("blue/front")), Refused(SCHEMA, LABEL)),
        Attempt(
            "a NIC whose Network has a namespace",
            declare(nics=[{"name": "eth0", "network": "front", "namespace": BLUE}]),
            Refused(SCHEMA, "unknown field"),
        ),
        Attempt(
            "under the name of a Network of others, a definition of his own",
            both(lambda s: s.create(definition("front")), declare(**nic("front"))),
            Undone("NetworkReady", "NamespaceNotAllowed"),
            OWNER,
        ),
        Attempt(
            "under the name of a Network that serves him, a definition",
            _taken_definition,
            Undone("NetworkReady", "AttachmentNotOurs", "does not belong to Network"),
            OWNER,
        ),
        Attempt(
            "a definition with the operator's mark",
            lambda s: s.create(definition(s.name, labels=OURS)),
            Refused("an admission policy", "derived from a Network of vdcos"),
            OWNER,
        ),
        Attempt(
            "a definition that a Network seems to own",
            lambda s: s.create(
                definition(
                    s.name,
                    ownerReferences=[{"apiVersion": api.API_VERSION, "kind": "Network", "name": "front", "uid": "u"}],
                )
            ),
            Refused("an admission policy", "derived from a Network of vdcos"),
            OWNER,
        ),
        Attempt(
            "change the definition that a Network made for him",
            _derived_definition,
            Refused("an admission policy", "derived from a Network of vdcos"),
            OWNER,
        ),
        *_paths(
            ("the network of a NIC", f"{SPEC}/networks/0/multus/networkName"),
            ("the binding of a NIC", f"{SPEC}/domain/devices/interfaces/eth0/bridge"),
        ),
        Attempt(
            "hold a Network of others from being deleted, by naming it",
            declare(**nic("front")),
            Harmless(
                "only VMs of namespaces that it serves count",
                lambda s: (
                    s.says("NetworkReady")[1] == "NamespaceNotAllowed"
                    and s.cluster.get("networks.vdcos.dev", "front")["status"]["virtualMachines"]["names"]
                    == ["blue/db"]
                ),
            ),
        ),
    ),
    "Disks": (
        Attempt(
            "a disk on a Datastore of another tenant",
            declare(**disk(None, "gold")),
            Undone("StorageReady", "NamespaceNotAllowed", "serves other namespaces"),
        ),
        Attempt(
            "a copy of namespace/claim", declare(**disk({"pvc": {"name": "blue/golden"}})), Refused(SCHEMA, OBJECT)
        ),
        Attempt(
            "a copy of a claim with a namespace",
            declare(**disk({"pvc": {"name": "golden", "namespace": BLUE}})),
            Refused(SCHEMA, "unknown field"),
        ),
        Attempt(
            "the same, unchecked by kubectl",
            lambda s: s.create(vm(s, {**SMALL, **disk({"pvc": {"name": "golden", "namespace": BLUE}})}), strict=False),
            Undone("StorageReady", "SourceMissing", f"in namespace {RED}"),
        ),
        Attempt(
            "a copy of a claim that only another namespace has",
            declare(**disk({"pvc": {"name": "golden"}})),
            Undone("StorageReady", "SourceMissing", f"in namespace {RED}"),
        ),
        Attempt(
            "a copy of a snapshot that only another namespace has",
            declare(**disk({"snapshot": {"name": "golden"}})),
            Undone("StorageReady", "SourceMissing", f"in namespace {RED}"),
        ),
        Attempt(
            "a DataVolume that copies another namespace's claim",
            lambda s: s.create(data_volume(s.name, {"pvc": {"namespace": BLUE, "name": "golden"}})),
            Refused("CDI", f"insufficient permissions in clone source namespace {BLUE}"),
            OWNER,
        ),
        Attempt(
            "a claim filled from another namespace's",
            lambda s: s.create(
                claim(
                    s.name,
                    spec={"dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "golden", "namespace": BLUE}},
                )
            ),
            Harmless(
                "Kubernetes drops the reference unless an administrator turns on CrossNamespaceVolumeDataSource",
                lambda s: "dataSourceRef" not in s.get("pvc")["spec"],
            ),
            OWNER,
        ),
        Attempt(
            "a claim that counts on a Datastore of others",
            lambda s: s.create(claim(s.name, metadata={"labels": {disks.DATASTORE: "gold"}})),
            Refused("an admission policy", MARKS),
            OWNER,
        ),
        Attempt(
            "a DataVolume that counts for nothing",
            lambda s: s.create(data_volume(s.name, {"blank": {}}, metadata={"annotations": {disks.REQUESTED: "1"}})),
            Refused("an admission policy", MARKS),
            OWNER,
        ),
        Attempt(
            "take the marks off a disk, so that it counts for nothing",
            _marked_disk,
            Refused("an admission policy", MARKS),
            OWNER,
        ),
        Attempt(
            "a restore whose claim counts on a Datastore of others",
            _marked_restore,
            Refused("an admission policy", "nobody changes them"),
            OWNER,
        ),
        Attempt(
            "an edited snapshot, so that what is restored counts on a Datastore of others",
            _marked_content,
            Refused("an admission policy", "nobody changes them"),
            OWNER,
        ),
        Attempt(
            "let the claim of a disk grow beyond its Datastore",
            _grown_claim,
            Refused("an admission policy", MARKS),
            OWNER,
        ),
        Attempt(
            "a disk larger than what is left of a Datastore",
            declare(**disk(size="64Ti")),
            Undone("StorageReady", "DatastoreFull"),
        ),
        Attempt(
            "a claim larger than what is left of a Datastore, taken over with its KubeVirt VM",
            _large_claim,
            Undone("StorageReady", "DatastoreFull", made=True),
            OWNER,
        ),
        Attempt(
            "a claim under the name that a disk will have",
            _taken_disk,
            Undone("StorageReady", "DiskNotOurs", "it is left alone"),
            OWNER,
        ),
        Attempt(
            "two VMs and disks whose names join to the same",
            _two_names,
            Harmless("names of disks carry a digest of both", _two_disks),
        ),
        Attempt(
            "a name that is reserved for the operator's volumes",
            declare(**disk(name="vdcos-cloudinit")),
            Refused(SCHEMA, "names that begin with vdcos- are reserved"),
        ),
        Attempt(
            "import a file of a host",
            declare(**disk({"http": {"url": "file:///etc/shadow"}})),
            Refused(SCHEMA, "must be an http:// or https:// URL"),
        ),
        Attempt(
            "an image from a folder of a host",
            declare(**disk({"image": {"reference": "oci-archive:/var/lib/images/a"}})),
            Refused(SCHEMA, "must be a container image"),
        ),
        Attempt(
            "import from an address inside the cloud, as the metadata service",
            declare(**disk({"http": {"url": "http://169.254.169.254/latest/meta-data/"}})),
            Harmless(
                "CDI fetches from a pod in the tenant's own namespace, as far as its NetworkPolicies let it",
                _imports,
            ),
        ),
        *_paths(
            ("volumes, to a host's disk", f"{SPEC}/volumes/-"),
            ("file systems", f"{SPEC}/domain/devices/filesystems/-"),
        ),
        *_paths(("a disk to a LUN", f"{SPEC}/domain/devices/disks/{DISK}/lun/reservation")),
    ),
    "Secrets": (
        Attempt(
            "user data from namespace/Secret",
            declare(guest={"cloudInit": {"userDataSecretName": "blue/passwords"}}),
            Refused(SCHEMA, OBJECT),
        ),
        Attempt(
            "user data from a Secret that only another namespace has",
            declare(ON, guest={"cloudInit": {"userDataSecretName": "passwords"}}),
            Undone("CustomizationReady", "SecretMissing", f"which namespace {RED} lacks", made=True),
        ),
        Attempt(
            "keys from the operator's Secret of a power switch",
            declare(ON, guest={"sshKeySecretNames": ["bmc"]}),
            Undone("CustomizationReady", "SecretMissing", f"which namespace {RED} lacks", made=True),
        ),
        Attempt(
            "credentials of a registry from namespace/Secret",
            declare(**disk({"image": {"reference": "quay.io/a/b:1", "secretName": "blue/registry"}})),
            Refused(SCHEMA, OBJECT),
        ),
        Attempt(
            "let the operator read a Secret for him",
            declare(guest={"cloudInit": {"userDataSecretName": "passwords"}}),
            Harmless(
                "the operator may read no Secret of a tenant, and passes on the name",
                lambda s: (
                    not any(_may(s, "secrets", where) for where in (RED, BLUE))
                    and s.template()["spec"]["volumes"][0]["cloudInitNoCloud"] == {"secretRef": {"name": "passwords"}}
                ),
            ),
        ),
    ),
    "Hosts and devices": (
        Attempt(
            "a GPU that nobody allowed",
            declare(devices=[{"name": "gpu", "resourceName": GPU, "type": "GPU"}]),
            Undone("HardwareReady", "DeviceNotAllowed"),
        ),
        Attempt(
            "KubeVirt's own device as a host device",
            declare(devices=[{"name": "kvm", "resourceName": "devices.kubevirt.io/kvm"}]),
            Undone("HardwareReady", "DeviceNotAllowed"),
        ),
        Attempt(
            "a GPU through an instance type of his own",
            _own_instancetype(gpus=[{"name": "gpu", "deviceName": GPU}]),
            Undone("HardwareReady", "DeviceNotAllowed"),
            OWNER,
        ),
        Attempt(
            "a hook sidecar through an instance type of his own",
            _own_instancetype(annotations={"hooks.kubevirt.io/hookSidecars": '[{"image":"evil"}]'}),
            Undone("HardwareReady", "InstancetypeNotAllowed"),
            OWNER,
        ),
        Attempt(
            "another scheduler through an instance type of his own",
            _own_instancetype(schedulerName="mine"),
            Undone("HardwareReady", "InstancetypeNotAllowed"),
            OWNER,
        ),
        Attempt(
            "put up with the taint of a host that is kept for others",
            declare(**tolerate(TAINT)),
            Undone("HardwareReady", "TolerationNotAllowed"),
        ),
        Attempt(
            "use a host that is kept for failover",
            declare(**tolerate("vdcos.dev/failover-only")),
            Refused(SCHEMA, "no VM puts up with them"),
        ),
        Attempt(
            "start on a host that is cordoned",
            declare(**tolerate("node.kubernetes.io/unschedulable")),
            Refused(SCHEMA, "no VM puts up with them"),
        ),
        Attempt(
            "stay on a host that was proved to be down",
            declare(**tolerate("node.kubernetes.io/out-of-service", "NoExecute")),
            Refused(SCHEMA, "no VM puts up with them"),
        ),
        Attempt(
            "ask for a host that is kept for others by its name",
            declare(ON, placement={"nodeSelector": {"kubernetes.io/hostname": RESERVED}}),
            Undone("PlacementReady", "NoHostFits", "untolerated taint", made=True),
        ),
        Attempt(
            "keep others' VMs away by a rule",
            declare(
                placement={
                    "affinity": [{"name": "a", "type": "Apart", "strength": "Must", "matchLabels": {"app": "db"}}]
                }
            ),
            Harmless(
                "rules count within their own namespace",
                lambda s: all(
                    not {"namespaces", "namespaceSelector"} & term.keys()
                    for term in s.template()["spec"]["affinity"]["podAntiAffinity"][
                        "requiredDuringSchedulingIgnoredDuringExecution"
                    ]
                ),
            ),
        ),
        Attempt(
            "more than any host has",
            declare(ON, cpu={"sockets": 512}, memory={"size": "16Ti"}),
            Undone("PlacementReady", "NoHostFits", made=True),
        ),
        *_paths(
            ("the node", f"{SPEC}/nodeName"),
            ("the node selector", f"{SPEC}/nodeSelector/kubernetes.io~1hostname"),
            ("tolerations", f"{SPEC}/tolerations/-"),
            ("affinity to other namespaces", f"{SPEC}/affinity/podAntiAffinity"),
            ("host devices", f"{SPEC}/domain/devices/hostDevices/-"),
            ("GPUs", f"{SPEC}/domain/devices/gpus/-"),
            ("annotations, to run a sidecar", "/spec/template/metadata/annotations/hooks.kubevirt.io~1hookSidecars"),
            ("the owner of the KubeVirt VM", "/metadata/ownerReferences/0/uid"),
            ("the priority class, to push others out", f"{SPEC}/priorityClassName"),
            ("the scheduler", f"{SPEC}/schedulerName"),
            ("the eviction strategy, to hold a drain", f"{SPEC}/evictionStrategy"),
            ("the kernel to boot, from any image", f"{SPEC}/domain/firmware/kernelBoot"),
            ("a probe, by which kubelets call any address", f"{SPEC}/readinessProbe/httpGet"),
            ("metrics of the host", f"{SPEC}/domain/devices/downwardMetrics"),
            ("what is allowed, by climbing", f"{SPEC}/domain/clock/../../volumes"),
            ("what is allowed, by an escape", f"{SPEC}/domain/clock~1..~1volumes"),
        ),
        Attempt(
            "hold a drain by a grace period of years",
            declare(**override(f"{SPEC}/terminationGracePeriodSeconds", 10**9)),
            Undone("Stalled", "OverrideConflict", "at most 3600"),
        ),
        Attempt(
            "a channel from the guest to its host",
            declare(**override(f"{SPEC}/domain/devices/autoattachVSOCK", True)),
            Undone("Stalled", "Refused", "VSOCK"),
        ),
    ),
    "Labels, annotations and owners": (
        Attempt(
            "labels by which KubeVirt and the operator know pods of VMs",
            declare(
                metadata={
                    "labels": {
                        "kubevirt.io": "virt-launcher",
                        "vm.kubevirt.io/name": "db",
                        "kubevirt.io/created-by": "u",
                        "cdi.kubevirt.io/storage.import.source": "none",
                    }
                }
            ),
            Harmless(
                "labels of KubeVirt and CDI stay on the VirtualMachine",
                lambda s: set(_labels(s)) == {disks.VM},
            ),
        ),
        Attempt(
            "room on hosts that nobody else may have, by an annotation of a KubeVirt VM",
            lambda s: s.create(kubevirt_vm(s.name, annotations={ownership.ADMITTED: MUCH})),
            Refused("an admission policy", MARKS),
            OWNER,
        ),
        Attempt(
            "a KubeVirt VM that a VirtualMachine of his seems to own",
            lambda s: s.create(kubevirt_vm(s.name, ownerReferences=[_owner(s)])),
            Refused("an admission policy", MARKS),
            OWNER,
        ),
        Attempt(
            "the same room by a restore, which KubeVirt writes, made to seem a VirtualMachine's",
            _own_restored,
            Refused("an admission policy", MARKS),
            OWNER,
        ),
        Attempt(
            "the same, by an owner whose version is our group",
            _named_owner,
            Refused("an admission policy", MARKS),
            OWNER,
        ),
        Attempt(
            "the same room by a restore, taken over with the KubeVirt VM",
            _take_over_restored,
            Harmless(
                "what was there before is taken off with the first step that makes the VM the operator's",
                lambda s: (
                    s.says("Ready")[0] == "True"
                    and s.child()["metadata"]["annotations"].get(ownership.ADMITTED, "") == ""
                ),
            ),
            OWNER,
        ),
        Attempt(
            "labels by which the operator knows its own",
            declare(metadata={"labels": {**OURS, disks.VM: "db", disks.DATASTORE: "gold"}}),
            Harmless(
                "the VM's own name is put over them, and pods count on no Datastore",
                lambda s: _labels(s)[disks.VM] == s.name,
            ),
        ),
        Attempt(
            "annotations that the operator, KubeVirt and CDI read",
            declare(
                metadata={
                    "annotations": {
                        "vdcos.dev/admitted": "cpu=0",
                        "vdcos.dev/allowed-devices": "*",
                        "hooks.kubevirt.io/hookSidecars": '[{"image":"evil"}]',
                        "cdi.kubevirt.io/storage.clone.token": "x",
                    }
                }
            ),
            Harmless(
                "no annotation of a VirtualMachine is copied or read",
                _no_annotations,
            ),
        ),
        Attempt(
            "an owner in another namespace",
            lambda s: s.create(
                vm(
                    s,
                    SMALL,
                    ownerReferences=[
                        {
                            "apiVersion": api.API_VERSION,
                            "kind": "VirtualMachine",
                            "name": "db",
                            "uid": s.get("vdcvm", "db", BLUE)["metadata"]["uid"],
                            "controller": True,
                        }
                    ],
                )
            ),
            Harmless(
                "the garbage collector looks for it in the tenant's namespace, and removes the tenant's own VM",
                lambda s: not s.exists("vdcvm") and s.exists("vdcvm", "db", BLUE),
            ),
        ),
        Attempt(
            "a finalizer of the operator's on his VM",
            both(
                declare(metadata={"finalizers": ["vdcos.dev/in-use"]}),
                lambda s: s.run("delete", "vdcvm", s.name, "-n", RED, "--wait=false"),
            ),
            Harmless(
                "his VM stays until he takes it off, and says so; nothing else waits for it",
                lambda s: s.says("Deleting")[0] == "True" and "vdcos.dev/in-use" in s.says("Deleting")[2],
            ),
        ),
    ),
    "Sizes and words": (
        Attempt(
            "user data of a megabyte",
            declare(guest={"cloudInit": {"userData": "x" * 1_000_000}}),
            Refused(SCHEMA, "may not be more than 2048 bytes"),
        ),
        Attempt(
            "a YAML bomb as user data",
            declare(guest={"cloudInit": {"userData": BOMB}}),
            Harmless(
                "user data is text to the operator and to KubeVirt, and the guest's own business",
                lambda s: s.template()["spec"]["volumes"][0]["cloudInitNoCloud"]["userData"] == BOMB,
            ),
        ),
        Attempt(
            "an override of two megabytes",
            declare(**override(f"{SPEC}/domain/chassis/asset", "x" * 2_000_000)),
            Refused("the API server", "too large"),
        ),
        Attempt(
            "an override of half a megabyte",
            declare(**override(f"{SPEC}/domain/chassis/asset", "x" * 500_000)),
            Harmless("the VM gets it, or KubeVirt says no; others are served", _others_are_served),
        ),
        Attempt(
            "an override 2,000 levels deep",
            _deep,
            Undone("Stalled", "Malformed", "nested too deeply"),
        ),
        Attempt(
            "a thousand dependencies",
            declare(availability={"dependsOn": [{"name": f"vm-{number}"} for number in range(1000)]}),
            Refused(SCHEMA, "must have at most 16 items"),
        ),
        Attempt(
            "a thousand overrides",
            declare(overrides=[{"op": "remove", "path": f"{SPEC}/domain/clock/x{n}"} for n in range(1000)]),
            Refused(SCHEMA, "must have at most 32 items"),
        ),
        Attempt("line breaks in a host name", declare(guest={"hostname": "a\nb"}), Refused(SCHEMA, LABEL)),
        Attempt(
            "line breaks in an image's name",
            declare(**disk({"image": {"reference": "quay.io/a\nEVIL: yes"}})),
            Refused(SCHEMA, "must be a container image"),
        ),
        Attempt(
            "escape sequences in a URL",
            declare(**disk({"http": {"url": "http://example.org/\x1b[2J"}})),
            Refused(SCHEMA, "must be an http:// or https:// URL"),
        ),
        Attempt(
            "escape sequences in an annotation of 200 kB",
            declare(metadata={"annotations": {"note": ESCAPES * 4000}}),
            Harmless("annotations are neither read nor logged", lambda s: s.says("Ready")[0] == "True"),
        ),
        Attempt(
            "escape sequences and 100 kB in what a message repeats",
            declare(
                **override(
                    f"{SPEC}/domain/clock/timezone",
                    ESCAPES + "x" * 100_000,
                    {"op": "add", "path": f"{SPEC}/domain/clock/timezone/x", "value": 1},
                )
            ),
            Harmless("messages are one line of at most 1,024 characters that print", _is_small),
        ),
        Attempt(
            "escape sequences in what KubeVirt's refusal repeats",
            declare(**override(f"{SPEC}/subdomain", ESCAPES)),
            Undone("Stalled", "Refused", "subdomain"),
        ),
        Attempt(
            "an Event about a pod of another namespace",
            _forged_event,
            Refused("the API server", "does not match event.namespace"),
            OWNER,
        ),
    ),
    "High availability": (
        Attempt(
            "depend on a VM of another namespace",
            declare(availability={"dependsOn": [{"name": "blue/db"}]}),
            Refused(SCHEMA, LABEL),
        ),
        Attempt(
            "depend on all VMs by labels",
            declare(availability={"dependsOn": [{"selector": {"matchLabels": {"app": "db"}}}]}),
            Harmless(
                "dependencies are those of the own namespace",
                lambda s: s.says("RestartOrder")[1] == "InOrder",
            ),
        ),
        Attempt(
            "VMs that depend on each other in a circle",
            _circle,
            Harmless(
                "one of them restarts without waiting, and a condition says so",
                lambda s: s.says("RestartOrder")[1] == "DependencyCircle",
            ),
        ),
        Attempt(
            f"{CROWD} VMs that depend on each other {CROWD * 16} times, all Highest and slow to be ready",
            _crowd,
            Harmless(
                "a look at one of them looks at 100 others at most, and others are served; nobody waits for them after "
                "a failure for longer than `spec.restart.longestHoldSeconds` of the HAPolicy",
                _others_are_served,
            ),
        ),
    ),
}

ATTEMPTS: tuple[Attempt, ...] = tuple(attempt for section in SECTIONS.values() for attempt in section)

HEAD = """<!-- Generated by `python -m tests.devcluster.attempts --write docs/security/tenants.md`. Do not edit. -->

# What tenants tried

{count} attempts of somebody in namespace `red` to reach what belongs to namespace `blue`, to hosts, or to the operator.
A test makes each of them on a real API server, with KubeVirt's and CDI's real controllers and webhooks and the operator
under its generated rights (`tests/devcluster/test_tenants.py`), and fails if it ends in another way than it says here.
After all of them the VM of `blue` is still the same and still runs, and the operator has met no error of its own.

A *tenant* may do what ClusterRole `vdcos:edit` lets him, in his namespace. The *namespace admin* has ClusterRole
`admin` there, with what Kubernetes, KubeVirt, CDI, Multus and vdcos add to it: he can forge what others than the
operator write. What either may do by design is in the [threat model](README.md).
"""


def page() -> str:
    """docs/security/tenants.md."""
    parts = [HEAD.format(count=len(ATTEMPTS))]
    number = 0
    for title, section in SECTIONS.items():
        parts.append(f"\n## {title}\n\n| # | Attempt | By | How it ends |\n| --- | --- | --- | --- |\n")
        for attempt in section:
            number += 1
            parts.append(f"| {number} | {attempt.what} | {attempt.who} | {attempt.ends.told()} |\n")
    return "".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, required=True, metavar="FILE")
    parser.parse_args().write.write_text(page())


if __name__ == "__main__":
    main()
