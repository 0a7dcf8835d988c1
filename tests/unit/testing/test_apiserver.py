"""The model of the API server: what it must have in common with the real one, as far as the operator uses it."""

from typing import Any

import pytest

from vdcos.core import kinds
from vdcos.core.foreign.kubevirt import VirtualMachine
from vdcos.core.objects import Key
from vdcos.runtime.requests import ApiError
from vdcos.testing import builders
from vdcos.testing.apiserver import NAMESPACE, ApiServer
from vdcos.testing.trees import Tree

VM = VirtualMachine.resource
WEB = Key("shop", "web")


@pytest.fixture
def api() -> ApiServer:
    api = ApiServer()
    api.create(NAMESPACE, builders.namespace("shop"))
    return api


def vm(spec: Tree, **metadata: Any) -> Tree:
    meta = {"name": "web", "namespace": "shop", **metadata}
    return {"apiVersion": VM.api_version, "kind": VM.kind, "metadata": meta, "spec": spec}


def refused(status: int, reason: str) -> Any:
    return pytest.raises(ApiError, match=f"^{status} {reason}")


def test_an_apply_removes_what_it_no_longer_says(api: ApiServer) -> None:
    api.apply(VM, WEB, vm({"running": "a", "cpu": {"sockets": 1, "cores": 2}}), "ours", False)
    api.json_patch(VM, WEB, [{"op": "add", "path": "/spec/theirs", "value": 1}], "theirs")
    held = api.apply(VM, WEB, vm({"cpu": {"sockets": 1}}), "ours", False)
    assert held.tree["spec"] == {"cpu": {"sockets": 1}, "theirs": 1}


def test_an_apply_of_the_same_changes_nothing(api: ApiServer) -> None:
    first = api.apply(VM, WEB, vm({"a": 1}), "ours", False)
    assert api.apply(VM, WEB, vm({"a": 1}), "ours", False) is first


def test_fields_of_others_are_a_conflict_unless_forced_or_equal(api: ApiServer) -> None:
    api.create(VM, vm({"a": 1, "b": 1}), "theirs")
    api.apply(VM, WEB, vm({"a": 1}), "ours", False)
    with refused(409, "Conflict"):
        api.apply(VM, WEB, vm({"a": 2}), "ours", False)
    assert api.apply(VM, WEB, vm({"a": 2}), "ours", True).tree["spec"] == {"a": 2, "b": 1}
    with refused(409, "Conflict"):
        api.apply(VM, WEB, vm({"a": 1}), "theirs", False)


def test_what_two_apply_stays_until_both_let_go(api: ApiServer) -> None:
    api.apply(VM, WEB, vm({"a": 1, "b": 1}), "ours", False)
    api.apply(VM, WEB, vm({"a": 1}), "theirs", False)
    api.apply(VM, WEB, vm({"b": 1}), "ours", False)
    assert api.read(VM, WEB).tree["spec"] == {"a": 1, "b": 1}
    api.apply(VM, WEB, vm({"c": 1}), "theirs", False)
    assert api.read(VM, WEB).tree["spec"] == {"b": 1, "c": 1}


def test_owner_references_merge_by_uid_and_other_lists_are_one_value(api: ApiServer) -> None:
    theirs, ours = ({"apiVersion": "v1", "kind": "X", "name": n, "uid": n} for n in ("theirs", "ours"))
    api.create(VM, vm({"list": [1, 2]}, ownerReferences=[theirs]))
    held = api.apply(VM, WEB, vm({"list": [3]}, ownerReferences=[ours]), "ours", True)
    assert held.meta["ownerReferences"] == [theirs, ours]
    assert held.tree["spec"]["list"] == [3]


def test_an_apply_for_an_object_that_is_gone_creates_none(api: ApiServer) -> None:
    with refused(409, "Conflict"):
        api.apply(VM, WEB, vm({}, uid="of before"), "ours", True)
    api.create(VM, vm({}))
    with refused(422, "Invalid"):
        api.apply(VM, WEB, vm({}, uid="of before"), "ours", True)


def test_generation_follows_the_spec_and_deletion(api: ApiServer) -> None:
    held = api.create(VM, vm({"a": 1}, finalizers=["x"]))
    assert held.meta["generation"] == 1
    assert api.merge_patch(VM, WEB, {"metadata": {"labels": {"a": "b"}}}).meta["generation"] == 1
    assert api.merge_patch(VM, WEB, {"status": {"ready": True}}, "somebody", True).meta["generation"] == 1
    assert api.merge_patch(VM, WEB, {"spec": {"a": 2}}).meta["generation"] == 2
    assert api.delete(VM, WEB).meta["generation"] == 3


def test_status_and_the_rest_are_written_apart(api: ApiServer) -> None:
    api.create(VM, vm({"a": 1}))
    both = {"spec": {"a": 2}, "status": {"ready": True}}
    assert api.merge_patch(VM, WEB, both, "somebody", True).tree["spec"] == {"a": 1}
    held = api.merge_patch(VM, WEB, {**both, "status": {"ready": False}}, "somebody")
    assert held.tree["spec"] == {"a": 2}
    assert held.tree["status"] == {"ready": True}


def test_finalizers_hold_a_deletion_and_the_last_one_lets_it_go(api: ApiServer) -> None:
    api.create(VM, vm({}, finalizers=["x"]))
    assert api.delete(VM, WEB).deleting
    api.merge_patch(VM, WEB, {"metadata": {"finalizers": None}})
    assert api.get(VM, WEB) is None
    assert [change.type for change in api.changes(VM)] == ["ADDED", "MODIFIED", "DELETED"]


def test_preconditions(api: ApiServer) -> None:
    held = api.create(VM, vm({}))
    with refused(409, "Conflict"):
        api.delete(VM, WEB, {"uid": "another"})
    with refused(409, "Conflict"):
        api.merge_patch(VM, WEB, {"metadata": {"resourceVersion": "1"}, "spec": {"a": 1}})
    with refused(422, "Invalid"):
        api.json_patch(VM, WEB, [{"op": "test", "path": "/metadata/uid", "value": "another"}])
    api.delete(VM, WEB, {"uid": held.meta["uid"]})
    with refused(404, "NotFound"):
        api.delete(VM, WEB)


def test_a_re_created_object_is_another(api: ApiServer) -> None:
    first = api.create(VM, vm({})).meta["uid"]
    api.delete(VM, WEB)
    assert api.create(VM, vm({})).meta["uid"] != first
    with refused(409, "AlreadyExists"):
        api.create(VM, vm({}))


def test_a_namespace_must_exist_and_stay(api: ApiServer) -> None:
    with refused(404, "NotFound"):
        api.create(VM, vm({}, namespace="nowhere"))
    api.delete(NAMESPACE, Key("", "shop"))
    with refused(403, "Forbidden"):
        api.create(VM, vm({}))


def test_our_kinds_are_defaulted_and_validated(api: ApiServer) -> None:
    held = api.create(kinds.VIRTUAL_MACHINE, builders.machine("shop/web", stores={"root": "gold"}), "user", True)
    assert held.tree["spec"]["powerState"] == "PoweredOn"
    assert held.tree["spec"]["disks"][0]["deletionPolicy"] == "Retain"
    with refused(422, "Invalid.*spec.powerState"):
        api.merge_patch(kinds.VIRTUAL_MACHINE, WEB, {"spec": {"powerState": "Sideways"}}, "user")
    wrong = builders.machine("shop/db")
    with refused(400, "BadRequest.*spec.colour"):
        api.create(kinds.VIRTUAL_MACHINE, {**wrong, "spec": {**wrong["spec"], "colour": "red"}}, "user", True)


def test_the_mark_tells_states_apart_and_not_the_ways_to_them(api: ApiServer) -> None:
    api.create(VM, vm({"a": 1}))
    before = api.mark
    api.merge_patch(VM, WEB, {"metadata": {"labels": {"a": "b"}}})
    assert api.mark != before
    api.merge_patch(VM, WEB, {"metadata": {"labels": {"a": None}}})
    assert api.mark == before
