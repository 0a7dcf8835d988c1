"""Diff: what is asked of the API server, and what is made of its answer."""

import copy
import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.unit.cli.vdc import shop as s
from vdcos.cli.vdc import diff
from vdcos.cli.vdc import objects as o
from vdcos.runtime.requests import ApiError
from vdcos.services.virtualmachine.changes import Running

Tree = dict[str, Any]


class Server:
    """Stands in for the port: stores what it is sent, in its own way, or refuses."""

    def __init__(self, refusal: ApiError | None = None) -> None:
        self.refusal = refusal
        self.asked: list[tuple[str, str, Mapping[str, str], Tree]] = []

    async def call(
        self, verb: str, method: str, path: str, query: Mapping[str, str], body: bytes, content_type: str = ""
    ) -> bytes:
        sent = json.loads(body)
        self.asked.append((method, path, query, sent))
        if self.refusal is not None:
            raise self.refusal
        return body


def edited(tree: Tree, **spec: Any) -> Tree:
    found = copy.deepcopy(tree)
    found["spec"] |= spec
    return {part: found[part] for part in ("apiVersion", "kind", "metadata", "spec")}


async def compared(server: Server, *manifests: Tree, found: o.Objects | None = None) -> list[Tree]:
    return await diff.compare(server, manifests, found or s.datacenter())  # type: ignore[arg-type]


async def test_what_was_applied_by_the_client_is_put_in_its_place() -> None:
    server = Server()
    (report,) = await compared(server, edited(s.WEB, cpu={"sockets": 2, "cores": 2}))
    method, path, query, sent = server.asked[0]
    assert (method, path) == ("PUT", "/apis/vdcos.dev/v1alpha1/namespaces/shop/virtualmachines/web-1")
    assert query["dryRun"] == "All"
    assert query["fieldValidation"] == "Strict"
    assert sent["metadata"] == s.WEB["metadata"], "with the version that was read, if there is one"
    assert report["result"] == "changed"
    assert report["changes"] == [
        {"field": "spec.cpu.cores", "before": 1, "after": 2, "takesEffect": "at the next start"}
    ]


async def test_what_was_applied_on_the_server_is_applied_under_the_same_name() -> None:
    live = copy.deepcopy(s.WEB)
    live["metadata"]["managedFields"] = [
        {"manager": "argocd-controller", "operation": "Apply", "fieldsV1": {"f:spec": {"f:cpu": {}, "f:memory": {}}}},
        {"manager": "night-shift", "operation": "Apply", "fieldsV1": {"f:spec": {"f:powerState": {}}}},
        {"manager": "vdcos", "operation": "Apply", "subresource": "status", "fieldsV1": {"f:spec": {"f:x": {}} }},
    ]  # fmt: skip
    server = Server()
    await compared(server, edited(live), found=s.datacenter(live))
    method, _, query, sent = server.asked[0]
    assert (method, query["fieldManager"], query["dryRun"]) == ("PATCH", "argocd-controller", "All")
    assert "managedFields" not in sent["metadata"]


async def test_a_new_object_would_be_created() -> None:
    server = Server()
    (report,) = await compared(server, edited(s.vm("new")))
    assert (report["result"], server.asked[0][0]) == ("created", "PATCH")


async def test_what_may_be_written_but_not_read_is_not_taken_for_new() -> None:
    found = s.datacenter()
    found.shelves[o.NETWORK] = {}
    found.missing[o.NETWORK] = "networks.vdcos.dev: you have no right to list them"
    (report,) = await compared(Server(), edited(s.FRONT), found=found)
    assert (report["result"], report["changes"]) == ("unknown", [])
    text = s.drawn(lambda screen: diff.show([report], screen))
    assert text == "Network front  cannot be compared\n  networks.vdcos.dev: you have no right to list them\n"


async def test_what_is_refused_is_told_in_the_servers_words() -> None:
    refusal = ApiError(422, "Invalid", "spec.disks[0].size: a disk can grow but not shrink")
    (report,) = await compared(Server(refusal), edited(s.WEB))
    assert (report["result"], report["message"]) == ("refused", refusal.message)
    text = s.drawn(lambda screen: diff.show([report], screen))
    assert text == (
        "VirtualMachine shop/web-1  would be refused\n  spec.disks[0].size: a disk can grow but not shrink\n"
    )


async def test_an_api_server_that_does_not_answer_is_an_error() -> None:
    with pytest.raises(ApiError):
        await compared(Server(ApiError(0, "Unreachable", "no")), edited(s.WEB))


async def test_what_is_being_deleted_cannot_be_changed() -> None:
    live = copy.deepcopy(s.WEB)
    live["metadata"]["deletionTimestamp"] = s.NOW
    (report,) = await compared(Server(), edited(live), found=s.datacenter(live))
    assert (report["result"], report["reason"]) == ("refused", "Deleting")


async def test_a_change_of_a_network_concerns_those_who_use_it() -> None:
    (report,) = await compared(Server(), edited(s.FRONT, bridge={"name": "br-front", "vlan": 111}))
    assert report["changes"] == [
        {
            "field": "spec.bridge.vlan",
            "before": 110,
            "after": 111,
            "takesEffect": "at once",
            "why": "VMs that run keep what it said before until they move or restart: 4 use it",
        }
    ]
    (report,) = await compared(Server(), edited(s.FRONT, allowedNamespaces={"from": "None"}))
    assert "why" not in report["changes"][0]


def test_what_people_see() -> None:
    reports: list[Tree] = [
        {"kind": "VirtualMachine", "namespace": "shop", "name": "web-1", "result": "changed", "changes": [
            {"field": "spec.cpu.sockets", "before": 2, "after": 4, "takesEffect": "by live migration"},
            {"field": "spec.memory.size", "before": "4Gi", "after": "2Gi", "takesEffect": "at the next start",
             "why": "memory is taken away at a start only"},
            {"field": "spec.disks[data]", "before": None, "after": {"size": "1Gi", "datastore": "gold"},
             "takesEffect": "live"},
            {"field": "spec.guest.cloudInit.userData", "takesEffect": "at the next start"},
        ]},
        {"kind": "Network", "name": "front", "result": "unchanged", "changes": []},
        {"kind": "Datastore", "name": "gold", "result": "created", "changes": []},
    ]  # fmt: skip
    assert s.drawn(lambda screen: diff.show(reports, screen), 110) == (
        "VirtualMachine shop/web-1  would be changed\n"
        "  FIELD                          TAKES EFFECT       CHANGE\n"
        "  spec.cpu.sockets               by live migration  2 -> 4\n"
        "  spec.memory.size               at the next start  4Gi -> 2Gi (memory is taken away at a start only)\n"
        "  spec.disks[data]               live               none -> 1Gi on gold\n"
        "  spec.guest.cloudInit.userData  at the next start  changed\n"
        "Network front  would stay as it is\n"
        "Datastore gold  would be created\n"
    )


def test_what_a_forecast_depends_on_is_read_from_what_runs() -> None:
    child, instance, *_ = s.running("web-1", "host-1")
    instance["spec"] = {"domain": {"cpu": {"maxSockets": 8}, "memory": {"maxGuest": "16Gi"}}}
    instance["status"] |= {"memory": {"guestAtBoot": "4Gi"}, "conditions": s.told(("LiveMigratable", "False", "no"))}
    child["spec"]["template"]["spec"]["volumes"] = [{"name": "hot", "dataVolume": {"name": "x", "hotpluggable": True}}]
    child["status"]["conditions"] = s.told(("RestartRequired", "True", ""))
    kubevirt = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "KubeVirt",
        "metadata": {"name": "kubevirt", "namespace": "kubevirt"},
        "spec": {
            "configuration": {
                "vmRolloutStrategy": "Stage",
                "developerConfiguration": {"featureGates": ["ExpandDisks"]},
            },
            "workloadUpdateStrategy": {"workloadUpdateMethods": ["LiveMigrate"]},
        },
    }
    found = diff.running(s.WEB, s.datacenter(child, instance, kubevirt))
    assert found == Running(
        up=True,
        staged=True,
        migrates=True,
        migratable=False,
        restart_pending=True,
        most_sockets=8,
        most_memory=16 * 2**30,
        booted_memory=4 * 2**30,
        hotplugs_disks=False,
        expands_disks=True,
        hot_disks=frozenset({"hot"}),
        switches={"front": "bridge"},
    )
    assert diff.running(s.vm("off"), s.datacenter()).migrates is None
