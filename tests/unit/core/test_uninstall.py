"""What an uninstallation undoes: children are detached first, finalizers go, the guard last, and that is all."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from vdcos import api
from vdcos.core import finalizers, hosts, kinds, ownership
from vdcos.core.foreign.cdi import DataVolume
from vdcos.core.foreign.kubernetes import Node
from vdcos.core.foreign.kubevirt import VirtualMachine
from vdcos.core.foreign.multus import NetworkAttachmentDefinition
from vdcos.core.objects import Key, Object, Own, Resource, Unreadable
from vdcos.core.plan import Delete, Patch
from vdcos.core.uninstall import GUARD, PolicyBinding, Undoing, undo
from vdcos.runtime.store import decoder

Tree = dict[str, Any]

OWN: dict[type[Any], Resource] = {
    api.VirtualMachine: kinds.VIRTUAL_MACHINE,
    api.Network: kinds.NETWORK,
    api.HostFailure: kinds.HOST_FAILURE,
}
WRITTEN: list[type[Object]] = [VirtualMachine, DataVolume, NetworkAttachmentDefinition, Node]


def there(name: str, namespace: str = "", **fields: Any) -> Tree:
    meta = fields.pop("metadata", {})
    return {"metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}", **meta}, **fields}


def owner(kind: str, uid: str = "o", group: str = "vdcos.dev", version: str = "v1alpha1") -> Tree:
    return {"apiVersion": f"{group}/{version}", "kind": kind, "name": "web", "uid": uid, "controller": True}


def owned(*owners: Tree) -> Tree:
    return {"metadata": {"ownerReferences": list(owners)}}


def undone(given: Mapping[type[Any], list[Tree]]) -> Undoing:
    def read(kind: type[Any]) -> Mapping[Key, Any] | Unreadable:
        if kind not in given:
            return Unreadable("not installed")
        typed = {"apiVersion": "vdcos.dev/v1alpha1", "kind": kind.__name__} if kind in OWN else {}
        found: list[Object | Own] = [decoder(kind)(json.dumps({**typed, **tree}).encode()) for tree in given[kind]]
        return {held.metadata.key: held for held in found}

    return undo(read, OWN, WRITTEN)


def test_in_a_cluster_without_vdcos_there_is_nothing_to_undo() -> None:
    assert undone({}) == Undoing((), ())
    plain: dict[type[Any], list[Tree]] = {
        VirtualMachine: [there("web", "shop", **owned(owner("App", group="example.org")))],
        Node: [there("host-1", spec={"unschedulable": True})],
        PolicyBinding: [there("somebody-elses")],
    }
    assert undone(plain) == Undoing((), ())


def test_children_first_then_finalizers_and_the_guard_last() -> None:
    found = undone(
        {
            VirtualMachine: [there("web", "shop", **owned(owner("VirtualMachine")))],
            DataVolume: [there("disk", "shop", **owned(owner("VirtualMachine"))), there("kept", "shop")],
            NetworkAttachmentDefinition: [there("lan", "shop", **owned(owner("Network")))],
            api.Network: [there("lan", spec={}, metadata={"finalizers": [finalizers.IN_USE]}), there("free", spec={})],
            api.VirtualMachine: [there("web", "shop", spec={})],
            PolicyBinding: [there(GUARD)],
        }
    )
    told = [(type(action).__name__, action.resource.plural, action.key.name) for action in found.actions]  # type: ignore[union-attr]
    assert told == [
        ("Patch", "virtualmachines", "web"),
        ("Patch", "datavolumes", "disk"),
        ("Patch", "network-attachment-definitions", "lan"),
        ("Patch", "networks", "lan"),
        ("Delete", "validatingadmissionpolicybindings", GUARD),
    ]
    assert found.notes == ()


def test_only_owners_of_ours_are_taken_out_and_each_is_tested() -> None:
    owners = (owner("VirtualMachine", "a"), owner("App", "b", "example.org"), owner("Network", "c", version="v1"))
    [patch] = undone({VirtualMachine: [there("web", "shop", **owned(*owners))]}).actions
    assert isinstance(patch, Patch)
    assert patch.uid == "uid-web"
    assert patch.operations == (
        {"op": "test", "path": "/metadata/ownerReferences/2/uid", "value": "c"},
        {"op": "remove", "path": "/metadata/ownerReferences/2"},
        {"op": "test", "path": "/metadata/ownerReferences/0/uid", "value": "a"},
        {"op": "remove", "path": "/metadata/ownerReferences/0"},
    )


def test_finalizers_of_others_stay() -> None:
    meta = {"finalizers": ["example.org/hold", finalizers.IN_USE], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    [patch] = undone({api.Network: [there("lan", spec={}, metadata=meta)]}).actions
    assert isinstance(patch, Patch)
    assert [each["path"] for each in patch.operations] == ["/metadata/finalizers/1"] * 2


def test_what_is_not_ours_of_the_guard_stays() -> None:
    [delete] = undone({PolicyBinding: [there(GUARD), there("other")]}).actions
    assert isinstance(delete, Delete)
    assert (delete.key.name, delete.uid) == (GUARD, f"uid-{GUARD}")


def node(*taints: Tree, **annotations: str) -> Tree:
    cordoned = {hosts.CORDONED_BY: "host/host-1"} if annotations else {}
    return there(
        "host-1", metadata={"annotations": cordoned}, spec={"taints": list(taints), "unschedulable": bool(annotations)}
    )


def test_a_host_that_was_kept_for_failover_may_be_used() -> None:
    taints = ({"key": "other", "effect": "NoSchedule"}, {"key": hosts.FAILOVER_ONLY, "effect": "NoSchedule"})
    [patch] = undone({Node: [node(*taints)]}).actions
    assert isinstance(patch, Patch)
    assert patch.operations[-1] == {"op": "remove", "path": "/spec/taints/1"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({Node: [node({"key": hosts.OUT_OF_SERVICE, "value": "nodeshutdown", "effect": "NoExecute"})]}, "taint node"),
        ({Node: [node(cordoned="yes")]}, "kubectl uncordon host-1"),
        ({api.HostFailure: [there("f", spec={}, status={"phase": "Fencing"})]}, "under way (Fencing)"),
        ({api.HostFailure: [there("f", spec={})]}, "under way (New)"),
        (
            {
                api.VirtualMachine: [there("web", "shop", spec={})],
                VirtualMachine: [there("web", "shop", spec={"runStrategy": "Halted"})],
            },
            "stay off (virtctl start NAME -n NAMESPACE): shop/web",
        ),
    ],
)
def test_what_stays_as_it_is_is_told(given: Mapping[type[Any], list[Tree]], says: str) -> None:
    found = undone(given)
    assert found.actions == ()
    [note] = found.notes
    assert says in note


@pytest.mark.parametrize(
    "given",
    [
        {api.HostFailure: [there("f", spec={}, status={"phase": "Completed"})]},
        {
            api.VirtualMachine: [there("web", "shop", spec={"powerState": "PoweredOff"})],
            VirtualMachine: [there("web", "shop", spec={"runStrategy": "Halted"})],
        },
        {
            api.VirtualMachine: [there("web", "shop", spec={})],
            VirtualMachine: [there("web", "shop", spec={"runStrategy": "Always"})],
        },
    ],
    ids=["over", "declared off", "on"],
)
def test_what_is_as_it_should_be_is_not(given: Mapping[type[Any], list[Tree]]) -> None:
    assert undone(given) == Undoing((), ())


def test_a_malformed_object_is_no_obstacle() -> None:
    assert undone({api.VirtualMachine: [there("web", "shop", spec={"powerState": 7})]}) == Undoing((), ())


def test_the_mark_by_which_children_are_found_again_stays() -> None:
    labels = {ownership.MANAGED_BY: ownership.MANAGER}
    meta = {"labels": labels, "ownerReferences": [owner("VirtualMachine")]}
    [patch] = undone({VirtualMachine: [there("web", "shop", metadata=meta)]}).actions
    assert isinstance(patch, Patch)
    assert all("labels" not in each["path"] for each in patch.operations)
