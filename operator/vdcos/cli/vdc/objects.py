"""What the commands read: whole lists, with the rights of whoever asks, and what could not be read and why."""

import asyncio
import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vdcos.core import kinds
from vdcos.core.foreign import cdi, kubernetes, kubevirt, multus
from vdcos.core.objects import Key, Resource
from vdcos.runtime.credentials import Origin
from vdcos.runtime.port import Port
from vdcos.runtime.requests import ApiError

Tree = dict[str, Any]

VM = kinds.VIRTUAL_MACHINE
NETWORK, DATASTORE, HOST = kinds.NETWORK, kinds.DATASTORE, kinds.HOST
POLICY, FAILURE = kinds.HA_POLICY, kinds.HOST_FAILURE
INFRASTRUCTURE = (NETWORK, DATASTORE, HOST, POLICY, FAILURE)
"""What administrators declare; ClusterRole vdcos:infrastructure-view lets somebody read it."""
NAMED: Mapping[str, Resource] = {
    "vm": VM,
    "network": NETWORK,
    "datastore": DATASTORE,
    "host": HOST,
    "hapolicy": POLICY,
    "hostfailure": FAILURE,
}
"""Our kinds by the names that they have on the command line."""
CHILD = kubevirt.VirtualMachine.resource
INSTANCE = kubevirt.VirtualMachineInstance.resource
KUBEVIRT = kubevirt.KubeVirt.resource
VOLUME = cdi.DataVolume.resource
CLAIM = kubernetes.PersistentVolumeClaim.resource
DEFINITION = multus.NetworkAttachmentDefinition.resource
POD = kubernetes.LauncherPod.resource


class Wanted(NamedTuple):
    """A list: all of a kind, of one namespace or of all, with certain labels or with any."""

    resource: Resource
    namespace: str = ""
    labels: str = ""


LAUNCHERS = "kubevirt.io=virt-launcher"
"""Labels of the pods in which VMs run."""


def around_vms(namespace: str) -> tuple[Wanted, ...]:
    """What VMs of a namespace are made of."""
    parts = (Wanted(each, namespace) for each in (VM, CHILD, INSTANCE, VOLUME, CLAIM))
    return (*parts, Wanted(POD, namespace, LAUNCHERS))


DATACENTER = tuple(Wanted(each) for each in INFRASTRUCTURE)
"""What administrators declare."""


@dataclass
class Objects:
    """What was read. ``missing`` says of each list that could not be read why, in a sentence."""

    shelves: dict[Resource, dict[Key, Tree]] = field(default_factory=dict)
    missing: dict[Resource, str] = field(default_factory=dict)

    @classmethod
    def of(cls, *objects: Mapping[str, Any]) -> "Objects":
        """From manifests, by their kinds."""
        found = cls()
        known = {(each.api_version, each.kind): each for each in KINDS}
        for each in objects:
            found.put(known[each["apiVersion"], each["kind"]], dict(each))
        return found

    def put(self, resource: Resource, tree: Tree) -> None:
        self.shelves.setdefault(resource, {})[key_of(tree)] = tree

    def get(self, resource: Resource, name: str, namespace: str = "") -> Tree | None:
        return self.shelves.get(resource, {}).get(Key(namespace if resource.namespaced else "", name))

    def all(self, resource: Resource, namespace: str = "") -> list[Tree]:
        """In the order of their keys; of a namespace if one is named."""
        shelf = self.shelves.get(resource, {})
        return [shelf[key] for key in sorted(shelf) if namespace in ("", key.namespace)]

    def owned(self, resource: Resource, owner: Tree) -> list[Tree]:
        """Those that an object owns."""
        uid, namespace = owner["metadata"].get("uid"), owner["metadata"].get("namespace", "")
        found = self.all(resource, namespace)
        return [each for each in found if uid and any(ref["uid"] == uid for ref in references(each))]


KINDS = (VM, *INFRASTRUCTURE, CHILD, INSTANCE, KUBEVIRT, VOLUME, CLAIM, DEFINITION, POD)


def key_of(tree: Tree) -> Key:
    meta = tree["metadata"]
    return Key(meta.get("namespace", ""), meta["name"])


def references(tree: Tree) -> Sequence[Tree]:
    """Its owners."""
    found: Sequence[Tree] = tree["metadata"].get("ownerReferences") or ()
    return found


def at(tree: Any, path: str, default: Any = "") -> Any:
    """What is at ``status.host``; ``default`` where nothing is."""
    for step in path.split("."):
        tree = tree.get(step) if isinstance(tree, dict) else None
    return default if tree is None else tree


def condition(tree: Tree, kind: str) -> Tree:
    """A condition by its type; empty when it is not there."""
    return next((each for each in conditions(tree) if each.get("type") == kind), {})


def conditions(tree: Tree) -> list[Tree]:
    found = at(tree, "status.conditions", [])
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


async def read(origin: Origin, wanted: Iterable[Wanted]) -> Objects:
    """All lists at once. What one may not read, or is not installed, is ``missing``. Raises NoCluster and ApiError."""
    found = Objects()
    async with Port.open(origin) as port:
        await asyncio.gather(*(_list(port, each, found) for each in dict.fromkeys(wanted)))
    return found


async def _list(port: Port, wanted: Wanted, found: Objects) -> None:
    resource = wanted.resource
    query = {"labelSelector": wanted.labels} if wanted.labels else {}
    shelf = found.shelves.setdefault(resource, {})
    try:
        async with contextlib.aclosing(port.pages(resource.path(wanted.namespace), query)) as pages:
            async for page in pages:
                for raw in page.items or ():
                    tree = json.loads(bytes(raw))
                    tree |= {"apiVersion": resource.api_version, "kind": resource.kind}
                    shelf[key_of(tree)] = tree
    except ApiError as error:
        if error.status not in (403, 404):
            raise
        found.missing[resource] = lacking(wanted, error.status)


def lacking(wanted: Wanted, status: int) -> str:
    """Why a list could not be read, and what helps."""
    resource = wanted.resource
    name = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
    if status == 404:
        return f"{name}: not installed in this cluster"
    where = f" in namespace {wanted.namespace}" if wanted.namespace else " in all namespaces" * resource.namespaced
    helps = ""
    if resource in INFRASTRUCTURE:
        helps = "; an administrator can bind ClusterRole vdcos:infrastructure-view to you"
    elif not wanted.namespace and resource.namespaced:
        helps = "; name a namespace with -n"
    return f"{name}: you have no right to list them{where}{helps}"
