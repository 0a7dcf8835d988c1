"""``vdcos uninstall`` in words, and how it is carried out against an API server in which others write, too."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from vdcos.cli import uninstall
from vdcos.core import kinds
from vdcos.core.foreign.kubevirt import VirtualMachine
from vdcos.core.objects import Key, Resource
from vdcos.core.plan import Delete, Patch
from vdcos.core.uninstall import GUARD, PolicyBinding, Undoing
from vdcos.providers import networks
from vdcos.runtime.port import Page
from vdcos.runtime.requests import ApiError
from vdcos.services.catalogue import services

PROVIDERS: networks.Providers = {}
DETACH = Patch(
    VirtualMachine.resource,
    Key("shop", "web"),
    "u1",
    ({"op": "test", "path": "/metadata/ownerReferences/0/uid", "value": "o"},
     {"op": "remove", "path": "/metadata/ownerReferences/0"}),
    "it is to stay",
)  # fmt: skip
RELEASE = Patch(kinds.NETWORK, Key("", "lan"), "u2", ({"op": "remove", "path": "/metadata/finalizers"},), "let go")
GUARDED = Delete(PolicyBinding.resource, Key("", GUARD), "u3", "may go")
ALL = Undoing((DETACH, RELEASE, GUARDED), ("node host-1 stays cordoned",))


def test_what_would_be_done() -> None:
    shown = uninstall.table(ALL, done=False).splitlines()
    assert [line.split()[:3] for line in shown[:3]] == [
        ["detach", "VirtualMachine.kubevirt.io", "shop/web"],
        ["release", "Network.vdcos.dev", "lan"],
        ["delete", "ValidatingAdmissionPolicyBinding.admissionregistration.k8s.io", GUARD],
    ]
    assert "Note: node host-1 stays cordoned." in shown
    assert shown[-1] == "Nothing was changed. To do it (3 steps): vdcos uninstall --yes"


def test_what_was_done_and_what_is_next() -> None:
    shown = uninstall.table(ALL, done=True)
    assert "3 steps done, 1 VM detached." in shown
    assert "kubectl delete crd" in shown
    assert uninstall.table(Undoing((), ()), done=False).startswith("Nothing to do.\n")


def test_a_long_list_is_cut_for_people_and_whole_for_programs() -> None:
    many = Undoing((DETACH,) * 100, ())
    assert "... and 60 more (-o json shows all)" in uninstall.table(many, done=False)
    found = uninstall.data(many, done=False)
    assert len(found["steps"]) == 100
    assert found["steps"][0] == {
        "verb": "detach",
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "namespace": "shop",
        "name": "web",
        "why": "it is to stay",
    }


class Api:
    """Lists what there is, applies the removals of patches, and can be told to fail."""

    def __init__(self, *objects: tuple[Resource, dict[str, Any]]) -> None:
        self.objects = {self._path(resource, tree): tree for resource, tree in objects}
        self.resources = {resource.path() for resource, _ in objects}
        self.fail: list[ApiError] = []
        self.wrote: list[str] = []
        self.forbidden = ""

    @staticmethod
    def _path(resource: Resource, tree: dict[str, Any]) -> str:
        return resource.path(tree["metadata"].get("namespace", ""), tree["metadata"]["name"])

    async def pages(self, path: str, query: Mapping[str, str]) -> Any:
        if self.forbidden and self.forbidden in path:
            raise ApiError(403, "Forbidden", "no")
        plural = path.rpartition("/")[2]
        if path not in self.resources:
            raise ApiError(404, "NotFound", "no such kind")
        items = [tree for at, tree in self.objects.items() if f"/{plural}/" in at]
        yield msgspec.json.decode(json.dumps({"metadata": {"resourceVersion": "9"}, "items": items}), type=Page)

    async def call(
        self,
        verb: str,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "",
        seconds: float = 10.0,
    ) -> bytes:
        if self.fail:
            raise self.fail.pop(0)
        self.wrote.append(f"{verb} {path.rpartition('/')[2]}")
        operations = json.loads(body or b"[]")
        if verb == "delete":
            del self.objects[path]
        elif any("ownerReferences" in each["path"] for each in operations):
            del self.objects[path]["metadata"]["ownerReferences"]
        else:
            del self.objects[path]["metadata"]["finalizers"]
        return b"{}"


def api() -> Api:
    owner = {"apiVersion": "vdcos.dev/v1alpha1", "kind": "VirtualMachine", "name": "web", "uid": "o"}
    web = {"name": "web", "namespace": "shop", "uid": "u1", "resourceVersion": "5", "ownerReferences": [owner]}
    lan = {"name": "lan", "uid": "u2", "resourceVersion": "6", "finalizers": ["vdcos.dev/in-use"]}
    guard = {"name": GUARD, "uid": "u3", "resourceVersion": "7"}
    return Api(
        (VirtualMachine.resource, {"metadata": web, "spec": {}}),
        (kinds.NETWORK, {"apiVersion": "vdcos.dev/v1alpha1", "kind": "Network", "metadata": lan, "spec": {}}),
        (PolicyBinding.resource, {"metadata": guard}),
    )


async def test_it_is_done_in_order_and_once() -> None:
    there = api()
    done = await uninstall.carry_out(there, services(PROVIDERS), lambda: 9.0)  # type: ignore[arg-type]
    assert there.wrote == ["patch web", "patch lan", f"delete {GUARD}"]
    assert len(done.actions) == 3
    again = await uninstall.carry_out(there, services(PROVIDERS), lambda: 9.0)  # type: ignore[arg-type]
    assert again.actions == ()


@pytest.mark.parametrize("status", [404, 409, 422])
async def test_what_somebody_changed_meanwhile_is_looked_at_again(status: int) -> None:
    there = api()
    there.fail = [ApiError(status, "Conflict", "changed")]
    await uninstall.carry_out(there, services(PROVIDERS), lambda: 9.0)  # type: ignore[arg-type]
    assert sorted(there.wrote) == sorted(["patch web", "patch lan", f"delete {GUARD}"])


async def test_the_last_try_may_succeed() -> None:
    there = api()
    there.fail = [ApiError(409, "Conflict", "changed")] * (uninstall.ROUNDS - 1)
    done = await uninstall.carry_out(there, services(PROVIDERS), lambda: 9.0)  # type: ignore[arg-type]
    assert len(done.actions) == 3


async def test_who_fights_it_is_given_up_on() -> None:
    there = api()
    there.fail = [ApiError(409, "Conflict", "changed")] * 100
    with pytest.raises(uninstall.Unfinished, match="somebody keeps changing"):
        await uninstall.carry_out(there, services(PROVIDERS), lambda: 9.0)  # type: ignore[arg-type]


async def test_without_the_lease_nothing_is_written() -> None:
    there = api()
    with pytest.raises(uninstall.Unfinished, match="the Lease was lost after 0 steps"):
        await uninstall.carry_out(there, services(PROVIDERS), lambda: 0.0)  # type: ignore[arg-type]
    assert there.wrote == []


async def test_what_cannot_be_seen_cannot_be_kept() -> None:
    there = api()
    there.forbidden = "datavolumes"
    with pytest.raises(uninstall.Unfinished, match=r"cluster administrator.*datavolumes"):
        await uninstall.carry_out(there, services(PROVIDERS), lambda: 9.0)  # type: ignore[arg-type]
    assert there.wrote == []


def test_every_kind_that_services_change_is_looked_through() -> None:
    found = {kind.resource.plural for kind in uninstall._written(services(PROVIDERS))}
    assert {"virtualmachines", "datavolumes", "persistentvolumeclaims", "nodes"} <= found
    assert {"network-attachment-definitions", "nodenetworkconfigurationpolicies"} <= found
    assert "pods" not in found, "they are only deleted"
