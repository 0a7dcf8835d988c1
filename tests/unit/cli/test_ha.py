"""``vdcos ha``: the drill tells of every VM, and the screen of policies, hosts and failures."""

import io
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.providers.failover import cluster as c
from tests.unit.services import datacenter as d
from vdcos import cli
from vdcos.cli import ha
from vdcos.core.foreign.kubernetes import LauncherPod, OtherPod
from vdcos.runtime.store import Store
from vdcos.services import catalogue

Tree = dict[str, Any]

VMS = (
    c.pod("db", cpu="3"),
    c.pod("web", cpu="3"),
    c.pod("batch", cpu="3"),
    c.pod("never"),
    d.vm("db", {"restartPriority": "Highest"}),
    d.vm("web", {"restartPriority": "High"}),
    d.vm("batch", {"restartPriority": "Low"}),
    d.vm("never", {"restartPriority": "Disabled"}),
)


def store(*manifests: Mapping[str, Any]) -> Store:
    served = catalogue.services({})
    kinds = catalogue.kinds(served)
    found = Store(kinds, catalogue.indexes(served), catalogue.dated(served))
    for number, tree in enumerate(manifests, 1):
        meta = {"uid": f"u{number}", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z", **tree["metadata"]}
        whole = {**tree, "metadata": {**meta, "resourceVersion": str(number)}}
        for kind, resource in kinds.items():
            if kind in (LauncherPod, OtherPod) and (kind is LauncherPod) is not (
                "kubevirt.io" in meta.get("labels", {})
            ):
                continue
            if (resource.api_version, resource.kind) == (tree["apiVersion"], tree["kind"]):
                found.put(kind, found.decoder(kind)(json.dumps(whole).encode()))
    return found


def two(*more: Tree, **policy: Any) -> Store:
    return store(c.host("host-1"), c.host("host-2", cpu="7"), d.policy(**policy), *VMS, *more)


def test_a_drill_tells_of_each_vm_in_the_order_of_restart() -> None:
    found = ha.drill(two(), "host-1")
    assert (found["host"], found["restarts"], found["stays"]) == ("host-1", 2, 2)
    told = [(vm["name"], vm["tier"], vm["priority"], vm["target"], vm["reason"]) for vm in found["virtualMachines"]]
    assert told == [
        ("db", 0, "Highest", "host-2", "RestartsElsewhere"),
        ("web", 1, "High", "host-2", "RestartsElsewhere"),
        ("batch", 2, "Low", None, "NoCapacity"),
        ("never", None, "Disabled", None, "Disabled"),
    ]
    assert "lack cpu (3 needed, at most 1 free)" in found["virtualMachines"][2]["why"]


def test_under_a_paused_policy_nobody_restarts() -> None:
    found = ha.drill(two(paused={"reason": "works"}), "host-1")
    assert (found["restarts"], found["stays"]) == (0, 4)
    assert {vm["reason"] for vm in found["virtualMachines"]} == {"Paused"}
    assert {vm["target"] for vm in found["virtualMachines"]} == {None}


def test_a_drill_that_nothing_can_be_said_of() -> None:
    with pytest.raises(ha.NoPlan, match="there is no HAPolicy"):
        ha.drill(store(c.host("host-1")), "host-1")
    with pytest.raises(ha.NoPlan, match=r"host host-9.*covered: host-1, host-2"):
        ha.drill(two(), "host-9")


def test_a_drill_for_people_and_for_programs() -> None:
    found = ha.drill(two(), "host-1")
    said: dict[str, str] = {}
    for output in ("table", "json", "yaml"):
        stream = io.StringIO()
        ha.show(found, output, ha.drill_table, stream)
        said[output] = stream.getvalue()
    assert json.loads(said["json"]) == yaml.safe_load(said["yaml"]) == found
    lines = said["table"].splitlines()
    assert lines[0] == (
        "If host-1 died now, 2 of 4 VMs would restart, in this order, and 2 would not. Nothing was touched."
    )
    assert lines[2].split() == ["TIER", "VM", "PRIORITY", "TARGET", "REASON"]
    assert lines[3].split() == ["0", "shop/db", "Highest", "host-2", "RestartsElsewhere"]
    assert lines[6].split()[:5] == ["-", "shop/never", "Disabled", "-", "Disabled"]
    empty = ha.drill_table(ha.drill(two(), "host-2"))
    assert (
        empty == "If host-2 died now, 0 of 0 VMs would restart, in this order, and 0 would not. Nothing was touched.\n"
    )


READY = {"type": "Ready", "status": "False", "reason": "Fencing", "message": "it is to be proved down",
         "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}  # fmt: skip


def test_the_screen() -> None:
    host = {**d.host(), "status": {"state": "Connected", "policy": d.POLICY, "verdict": "Connected", "vms": 4,
                                   "failurePlan": {"restarts": 2, "stays": 2}}}  # fmt: skip
    over = d.failure("over", {"phase": "Completed"})
    open_one = d.failure(status={"phase": "Fencing", "conditions": [READY]})
    broken = {**d.host("host-3"), "spec": {"maintenance": "perhaps"}}
    found = ha.status(two(host, over, open_one, broken))
    assert found["hosts"] == [
        {
            "name": "host-1",
            "policy": d.POLICY,
            "state": "Connected",
            "verdict": "Connected",
            "fenceable": "Unknown",
            "vms": 4,
            "restarts": 2,
            "staysDown": 2,
        }
    ]
    assert [(each["name"], each["phase"], each["reason"]) for each in found["failures"]] == [
        (d.FAILURE, "Fencing", "Fencing")
    ]
    assert (found["policies"][0]["name"], found["policies"][0]["admission"]) == (d.POLICY, "Enforce")
    table = ha.status_table(found)
    assert "POLICIES\n  NAME" in table
    assert "STAYS-DOWN" in table
    assert "it is to be proved down" in table
    assert ha.status_table(ha.status(store())) == "POLICIES\n  none\n\nHOSTS\n  none\n\nFAILURES\n  none\n"


@pytest.mark.parametrize("arguments", [["drill"], ["status", "host-1"]])
def test_only_a_drill_takes_a_host(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ha", *arguments]) == 1
    assert "takes the name of a host" in capsys.readouterr().err


def test_a_cluster_that_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ha", "status", "--kubeconfig", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.startswith("vdcos ha: ")


def test_every_row_has_the_same_columns() -> None:
    found = ha.status(two(d.host(), d.host("host-2")))
    for rows in found.values():
        for one, other in itertools.pairwise(rows):
            assert one.keys() == other.keys()
