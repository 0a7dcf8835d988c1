"""Which policy covers a host, what failures are called, and how hosts, VMs and failures are found by each other."""

from typing import Any

import msgspec
import pytest

from vdcos import api
from vdcos.core import failures, hosts
from vdcos.core.foreign.kubernetes import Node
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.objects import Index, Key, Meta, Own
from vdcos.services.hapolicy import HAPolicyService
from vdcos.testing.world import World

Tree = dict[str, Any]


def node(**labels: str) -> Node:
    return Node(metadata=Meta(name="host-1", labels=labels or None))


def policy(name: str, created: str = "2026-01-01T00:00:00Z", deleted: str | None = None, **hosts_: Any) -> api.HAPolicy:
    metadata = {"name": name, "creationTimestamp": created, **({"deletionTimestamp": deleted} if deleted else {})}
    spec = {"hosts": hosts_} if hosts_ else {}
    manifest = {"apiVersion": api.API_VERSION, "kind": "HAPolicy", "metadata": metadata, "spec": spec}
    return api.parse(api.HAPolicy, manifest)


ALL, LATER = policy("z"), policy("a", "2026-01-02T00:00:00Z")
SAME_AGE = policy("b")
RACK = policy("rack", "2025-01-01T00:00:00Z", matchLabels={"rack": "1"})
GOING = policy("going", "2024-01-01T00:00:00Z", "2026-01-03T00:00:00Z")

COVERS: list[tuple[str, list[api.HAPolicy], Node, str | None]] = [
    ("none", [], node(), None),
    ("one for all", [ALL], node(), "z"),
    ("the older", [LATER, ALL], node(), "z"),
    ("of two of an age the first by name", [ALL, SAME_AGE], node(), "b"),
    ("the oldest that selects it", [ALL, RACK], node(rack="1"), "rack"),
    ("not one that does not select it", [ALL, RACK], node(rack="2"), "z"),
    ("a node without labels", [RACK], node(), None),
    ("not one that is being deleted", [GOING, LATER], node(), "a"),
]


@pytest.mark.parametrize("reason, policies, host, want", COVERS, ids=[row[0] for row in COVERS])
def test_which_policy_covers_a_host(reason: str, policies: list[api.HAPolicy], host: Node, want: str | None) -> None:
    found = hosts.covering(policies, host)
    assert (found.metadata.name if found else None) == want


@pytest.mark.parametrize(("labels", "runs"), [({}, False), ({hosts.SCHEDULABLE: "false"}, True)])
def test_which_nodes_run_vms(labels: dict[str, str], runs: bool) -> None:
    assert hosts.runs_vms(node(**labels)) is runs


def test_a_failure_has_one_name_whoever_makes_it() -> None:
    first = hosts.failure_name("host-1", "boot-1", 0)
    assert first == hosts.failure_name("host-1", "boot-1", 0)
    others = {hosts.failure_name("host-1", "boot-2", 0), hosts.failure_name("host-1", "boot-1", 1)}
    assert len({first, *others}) == 3
    assert len(first) == len("host-1") + 9
    assert first.startswith("host-1-")


def test_only_objects_that_can_be_read_are_parsed() -> None:
    there = World(ALL.manifest())
    there.put({**LATER.manifest(), "spec": {"paused": 1}})
    service = HAPolicyService()
    assert [each.metadata.name for each in hosts.parsed(there.view(service), api.HAPolicy)] == ["z"]


@pytest.mark.parametrize(
    ("status", "want"),
    [
        ({}, set()),
        ({"nodeName": "host-1"}, {"host-1"}),
        ({"nodeName": "host-1", "activePods": {"a": "host-1", "b": "host-2"}}, {"host-1", "host-2"}),
        ({"activePods": {"a": ""}}, set()),
    ],
)
def test_where_an_instance_is(status: Tree, want: set[str]) -> None:
    instance = msgspec.convert({"metadata": {"name": "web"}, "status": status}, VirtualMachineInstance)
    assert set(hosts.INSTANCES_ON.keys(instance)) == want


def failure(phase: str, *machines: Tree) -> Own:
    raw = {"spec": {"host": "host-1", "policy": "p"}, "status": {"phase": phase, "machines": machines}}
    return Own(metadata=Meta(name="f"), raw=msgspec.json.encode(raw))


WEB = {"namespace": "shop", "name": "web", "uid": "u-web", "state": "Held", "tier": 1}
DB = {"namespace": "shop", "name": "db", "uid": "u-db", "state": "Up"}
BARE = {"namespace": "shop", "name": "bare", "uid": "", "state": "Held"}
OPEN, OVER = failure("Restarting", WEB, DB, BARE), failure("Completed", WEB, DB, BARE)

INDEXED: list[tuple[str, Index[Any], Own, set[str]]] = [
    ("open by host", failures.OPEN_ON, OPEN, {"host-1"}),
    ("over by host", failures.OPEN_ON, OVER, set()),
    ("all by host", failures.OF_HOST, OVER, {"host-1"}),
    ("open by policy", failures.OPEN_UNDER, OPEN, {"p"}),
    ("over by policy", failures.OPEN_UNDER, OVER, set()),
    ("whose VMs", failures.MACHINES, OPEN, {"shop/web", "shop/db", "shop/bare"}),
    ("over, whose VMs", failures.MACHINES, OVER, set()),
    ("held", failures.HELD, OPEN, {"u-web"}),
    ("over, held", failures.HELD, OVER, set()),
    ("new", failures.OPEN_ON, failure(""), {"host-1"}),
]


@pytest.mark.parametrize("reason, index, held, want", INDEXED, ids=[row[0] for row in INDEXED])
def test_how_failures_are_found(reason: str, index: Index[Any], held: Own, want: set[str]) -> None:
    assert set(index.keys(held)) == want


def test_how_policies_are_found_by_silent_hosts() -> None:
    suspects = [{"host": "host-1", "verdict": "Suspect", "why": "x"}, {"host": "host-2"}]
    raw = msgspec.json.encode({"status": {"suspects": suspects}})
    assert set(failures.SUSPECTING.keys(Own(metadata=Meta(name="p"), raw=raw))) == {"host-1", "host-2"}
    assert set(failures.SUSPECTING.keys(Own(metadata=Meta(name="p"), raw=b"{}"))) == set()
    assert Key("", "host-1").name == failures.suspects(raw)[0].host
