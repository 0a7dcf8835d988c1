"""Alerts, by Prometheus' own test tool: each fires when it should, not before its time, and never when all is well.

Rules see time series that are written down here; that the operator exports such series is tested in test_monitoring.py.
"""

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster import build

pytestmark = pytest.mark.packaging

Tree = dict[str, Any]
RULES = Path(__file__).parents[2] / "manifests" / "monitoring" / "rules.yaml"
GROUPS: list[Tree] = yaml.safe_load(RULES.read_text())["spec"]["groups"]
ALERTS: dict[str, Tree] = {rule["alert"]: rule for group in GROUPS for rule in group["rules"] if "alert" in rule}

REPLICA = 'pod="vdcos-0", instance="10.0.0.1:8080", job="vdcos"'
STANDBY = 'pod="vdcos-1", instance="10.0.0.2:8080", job="vdcos"'
LASTS = "x1600"
"""Samples a minute apart: more than a day of them."""


def told(kind: str, condition: str, status: str, reason: str) -> str:
    """A series of ``vdcos_object_conditions``, without the labels of the replica."""
    return f'vdcos_object_conditions{{kind="{kind}", condition="{condition}", status="{status}", reason="{reason}"}}'


HEALTHY: dict[str, str] = {
    "vdcos_leader": "1",
    'vdcos_watch_age_seconds{kind="Node"}': "60",
    "vdcos_queue_oldest_age_seconds": "0.2",
    'vdcos_reconciles_total{vservice="host", result="done"}': "0+30",
    'vdcos_reconciles_total{vservice="host", result="bug"}': "0",
    'vdcos_api_errors_total{verb="update", code="409"}': "0+30",
    'vdcos_api_errors_total{verb="list", code="404"}': "0+2",
    'vdcos_api_errors_total{verb="watch", code="0"}': "0+1",
    'vdcos_drift_repairs_total{vservice="virtualmachine", kind="VirtualMachine.kubevirt.io"}': "0+0.1",
    'vdcos_undecodable_objects_total{kind="Node"}': "0",
    # Off as declared is Ready, and so are a host in maintenance and one that no policy covers.
    'vdcos_vms{power_state="PoweredOff"}': "7",
    told("VirtualMachine", "Ready", "True", "Ready"): "40",
    # What owners of VMs have to correct.
    told("VirtualMachine", "Ready", "False", "DatastoreMissing"): "1",
    told("VirtualMachine", "Ready", "False", "SecretMissing"): "1",
    told("VirtualMachine", "GuestHeartbeat", "True", "Beating"): "30",
    told("HAPolicy", "Ready", "True", "Ready"): "1",
    told("HAPolicy", "HostsVisible", "True", "Watching"): "1",
    told("HAPolicy", "HostsFenceable", "True", "Declared"): "1",
    told("HAPolicy", "Active", "True", "Watching"): "1",
    told("Network", "Ready", "True", "Ready"): "3",
    told("Datastore", "Ready", "True", "Ready"): "2",
    told("Datastore", "AcceptsDisks", "False", "Maintenance"): "1",
    # A failure that is over is kept as history, whatever was given up then.
    told("HostFailure", "Ready", "True", "Recovered"): "2",
    told("HostFailure", "Restarted", "True", "GivenUp"): "1",
    'vdcos_host_failures{phase="Completed"}': "2",
    'vdcos_host_info{host="host-1", state="Connected", policy="ha"}': "1",
    'vdcos_host_info{host="host-2", state="Maintenance", policy="ha"}': "1",
    'vdcos_host_info{host="host-3", state="Unmanaged", policy=""}': "1",
    'vdcos_ha_vms{policy="ha", outcome="RestartsElsewhere"}': "30",
    # As their owners declared.
    'vdcos_ha_vms{policy="ha", outcome="LocalDisk"}': "2",
    'vdcos_ha_vms{policy="ha", outcome="Disabled"}': "1",
    'vdcos_ha_waiting_vms{policy="ha"}': "0",
    'vdcos_ha_failover_missing_cpu_cores{policy="ha"}': "0",
    'vdcos_ha_failover_missing_memory_bytes{policy="ha"}': "0",
    'vdcos_datastore_provisioned_bytes{datastore="gold"}': "800",
    'vdcos_datastore_capacity_bytes{datastore="gold"}': "1000",
    'vdcos_datastore_provisioned_bytes{datastore="endless"}': "5000",
}
"""What the replica that leads tells when all is well, with whatever is normal."""

ON_STANDBY: dict[str, str] = {
    "vdcos_leader": "0",
    'vdcos_watch_age_seconds{kind="Node"}': "60",
    'vdcos_reconciles_total{vservice="host", result="bug"}': "0",
    'vdcos_undecodable_objects_total{kind="Node"}': "0",
}
"""What the other tells."""


@dataclass(frozen=True)
class Case:
    """What makes an alert fire, and what it says."""

    series: dict[str, str | None]
    """What the leader tells in place of what is healthy, or beside it; None for what it does not tell."""
    summary: str
    labels: dict[str, str] = field(default_factory=dict)
    """Those of the alert, besides the severity."""
    standby: dict[str, str | None] = field(default_factory=dict)
    """What the other replica tells instead."""
    sees: str = "0m"
    """What it looks back on has to be so old before it is true."""


def said(condition: str, summary: str, /, *, number: int = 1, **labels: str) -> Case:
    """So many objects have a condition: its kind, type, status and reason."""
    kind, type_, status, reason = condition.split()
    return Case({told(kind, type_, status, reason): str(number)}, summary, labels)


def host_is(state: str, summary: str, /, **labels: str) -> Case:
    """A host more, in this state."""
    known = f'vdcos_host_info{{host="host-4", state="{state}", policy="ha"}}'
    return Case({known: "1"}, summary, {"host": "host-4", **labels})


CASES: dict[str, Case] = {
    "VdcosNoLeader": Case({"vdcos_leader": "0"}, "No replica of vdcos leads: nothing is reconciled."),
    "VdcosTwoLeaders": Case({}, "2 replicas of vdcos say that they lead.", standby={"vdcos_leader": "1"}),
    "VdcosWatchSilent": Case(
        {'vdcos_watch_age_seconds{kind="Node"}': "200"}, "vdcos hears nothing of Node any more.", {"kind": "Node"}
    ),
    "VdcosQueueStuck": Case(
        {"vdcos_queue_oldest_age_seconds": "61"}, "Objects wait longer than a minute for vdcos to look at them."
    ),
    "VdcosBug": Case(
        {'vdcos_reconciles_total{vservice="host", result="bug"}': "0+1"},
        "vdcos fails on objects of its vService host.",
        {"vservice": "host"},
        sees="1m",
    ),
    "VdcosApiErrors": Case(
        {'vdcos_api_errors_total{verb="patch", code="500"}': "0+30"},
        "The API server does not answer vdcos, or not in time (code 500).",
        {"code": "500"},
        sees="1m",
    ),
    "VdcosRepairsNeverEnd": Case(
        {'vdcos_drift_repairs_total{vservice="virtualmachine", kind="VirtualMachine.kubevirt.io"}': "0+2"},
        "Somebody keeps changing objects of kind VirtualMachine.kubevirt.io that vdcos sets.",
        {"vservice": "virtualmachine", "kind": "VirtualMachine.kubevirt.io"},
        sees="11m",
    ),
    "VdcosUndecodableObjects": Case(
        {'vdcos_undecodable_objects_total{kind="Node"}': "0+1"},
        "Objects of kind Node do not fit what vdcos knows of it.",
        {"kind": "Node"},
        sees="1m",
    ),
    "VdcosHostFailureWaits": said(
        "HostFailure Ready False NoProof",
        "A host has failed, and its VMs stay down until somebody acts: NoProof.",
        reason="NoProof",
    ),
    "VdcosHostStillAlive": said(
        "HostFailure Ready False HostStillAlive", "A host that was proved to be down is alive: VMs may run twice."
    ),
    "VdcosFencingSlow": said(
        "HostFailure Ready False Fencing", "A dead host is not proved to be down after 5 minutes: its VMs stay down."
    ),
    "VdcosRestartsSlow": said(
        "HostFailure Ready False Restarting", "VMs of a failed host are not up again after 15 minutes."
    ),
    "VdcosRestartsGivenUp": said(
        "HostFailure Restarted False GivenUp", "VMs of a failed host were tried in vain, and stay down."
    ),
    "VdcosHostDown": host_is("Fenced", "Host host-4 is down.", policy="ha"),
    "VdcosHostSilent": host_is("Isolated", "Host host-4 is Isolated.", state="Isolated"),
    "VdcosHostQuarantined": host_is("Quarantined", "Host host-4 failed again and again, and is not used any more."),
    "VdcosHostsNotSeen": said(
        "HAPolicy HostsVisible Unknown Blind", "High availability is blind: Blind.", reason="Blind"
    ),
    "VdcosHostsNotFenceable": said(
        "HAPolicy HostsFenceable False NoFenceDevice", "Nothing can prove that some hosts are down."
    ),
    "VdcosAvailabilityPaused": said("HAPolicy Active False Paused", "High availability has been paused for a day."),
    "VdcosFailoverCapacityMissing": Case(
        {'vdcos_ha_failover_missing_memory_bytes{policy="ha"}': "4096"},
        "HAPolicy ha cannot keep its promise: room for restarts is missing.",
        {"policy": "ha"},
    ),
    "VdcosVmsWaitForCapacity": Case(
        {'vdcos_ha_waiting_vms{policy="ha"}': "3"},
        "3 VMs wait for the failover capacity of HAPolicy ha.",
        {"policy": "ha"},
    ),
    "VdcosVmsUnprotected": Case(
        {'vdcos_ha_vms{policy="ha", outcome="NoCapacity"}': "4"},
        "4 VMs under HAPolicy ha would stay down if their host died (NoCapacity).",
        {"policy": "ha", "outcome": "NoCapacity"},
    ),
    "VdcosGuestsGivenUp": said(
        "VirtualMachine GuestHeartbeat False GuestResetLimit",
        "2 VMs were reset as often as their HAPolicy lets, and their guests do not work.",
        number=2,
    ),
    "VdcosInfrastructureNotReady": said(
        "Datastore Ready False StorageClassMissing",
        "1 objects of kind Datastore are not Ready: StorageClassMissing.",
        kind="Datastore",
        reason="StorageClassMissing",
    ),
    "VdcosDatastoreAlmostFull": Case(
        {'vdcos_datastore_provisioned_bytes{datastore="gold"}': "950"},
        "Datastore gold is 95% full.",
        {"datastore": "gold"},
    ),
    "VdcosVmsBlocked": said(
        "VirtualMachine Ready False HostNotResponding",
        "5 VMs are not as declared, because of the datacenter: HostNotResponding.",
        number=5,
        reason="HostNotResponding",
    ),
}


@pytest.fixture(scope="module")
def promtool() -> str:
    return build.ensure(lambda *_: None, more=build.PROMETHEUS)["promtool"]


class Tool:
    """promtool in a folder, with the rules of the repository."""

    def __init__(self, promtool: str, folder: Path) -> None:
        self._promtool, self._folder = promtool, folder
        (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": GROUPS}))

    def check(self) -> subprocess.CompletedProcess[str]:
        return self._run("check", "rules", "--lint=all", "--lint-fatal", "rules.yaml")

    def test(self, *tests: Tree) -> subprocess.CompletedProcess[str]:
        document = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": list(tests)}
        (self._folder / "tests.json").write_text(json.dumps(document))
        return self._run("test", "rules", "tests.json")

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._promtool, *command], cwd=self._folder, check=False, capture_output=True, text=True, timeout=500
        )


@pytest.fixture
def tool(promtool: str, tmp_path: Path) -> Tool:
    return Tool(promtool, tmp_path)


def series(case: Case | None = None) -> list[Tree]:
    """The healthy datacenter, and what a case changes in it."""
    changed, on_standby = (case.series, case.standby) if case is not None else ({}, {})
    found = []
    for tells, replica in ((HEALTHY | changed, REPLICA), (ON_STANDBY | on_standby, STANDBY)):
        for name, value in tells.items():
            if value is not None:
                values = f"{value if '+' in value else value + '+0'}{LASTS}"
                found.append({"series": told_by(name, replica), "values": values})
    return found


def told_by(name: str, replica: str) -> str:
    """A series with the labels of a replica."""
    metric, _, labels = name.rstrip("}").partition("{")
    return f"{metric}{{{', '.join(filter(None, (labels, replica)))}}}"


def minutes(text: str) -> int:
    return int(text[:-1]) * {"m": 1, "h": 60}[text[-1]]


def fires(name: str, case: Case) -> Tree:
    """The alert as promtool expects it."""
    annotations = {**ALERTS[name]["annotations"], "summary": case.summary}
    return {"exp_labels": {**ALERTS[name]["labels"], **case.labels}, "exp_annotations": annotations}


def at(when: int, name: str, *alerts: Tree) -> Tree:
    return {"eval_time": f"{when}m", "alertname": name, "exp_alerts": list(alerts)}


def test_rules_are_what_prometheus_takes(tool: Tool) -> None:
    checked = tool.check()
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alert_has_a_case() -> None:
    assert CASES.keys() == ALERTS.keys()


def test_no_alert_fires_in_a_healthy_datacenter(tool: Tool) -> None:
    whole_day = [at(when, name) for name in ALERTS for when in (0, 10, 90, 1500)]
    tested = tool.test({"interval": "1m", "input_series": series(), "alert_rule_test": whole_day})
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires_after_its_time_and_not_before(tool: Tool, name: str) -> None:
    case = CASES[name]
    begins = minutes(case.sees)
    due = begins + minutes(ALERTS[name].get("for", "0m"))
    quiet = [at(when, name) for when in {max(0, begins - 1), due - 1} if 0 <= when < due]
    expected = at(due + 2, name, fires(name, case))
    tested = tool.test({"interval": "1m", "input_series": series(case), "alert_rule_test": [*quiet, expected]})
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_tool_notices_an_alert_that_is_not_expected(tool: Tool) -> None:
    name = "VdcosHostStillAlive"
    unexpected = {"interval": "1m", "input_series": series(CASES[name]), "alert_rule_test": [at(2, name)]}
    assert tool.test(unexpected).returncode != 0


def test_what_lasts_long_goes_on_when_another_replica_leads(tool: Tool) -> None:
    """A minute without a leader, after 12 hours, does not begin the day anew."""
    name = "VdcosAvailabilityPaused"
    condition = told("HAPolicy", "Active", "False", "Paused")
    paused = [
        {"series": told_by(condition, REPLICA), "values": "1x720 stale"},
        {"series": told_by(condition, STANDBY), "values": "_x722 1x900"},
    ]
    expected = at(1441, name, fires(name, CASES[name]))
    tested = tool.test({"interval": "1m", "input_series": paused, "alert_rule_test": [at(1439, name), expected]})
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_what_is_recorded(tool: Tool) -> None:
    tests = [
        {"expr": expr, "eval_time": "10m", "exp_samples": [{"labels": labels, "value": value}]}
        for expr, labels, value in (
            ("datacenter:vdcos_vms_ready:ratio", "datacenter:vdcos_vms_ready:ratio{}", 40 / 42),
            (
                "datastore:vdcos_datastore_provisioned:ratio",
                'datastore:vdcos_datastore_provisioned:ratio{datastore="gold"}',
                0.8,
            ),
            (
                'vservice_result:vdcos_reconciles:rate5m{result="done"}',
                'vservice_result:vdcos_reconciles:rate5m{vservice="host", result="done"}',
                0.5,
            ),
        )
    ]
    none_ready = Case({told("VirtualMachine", "Ready", "True", "Ready"): None}, "")
    zero = {"labels": "datacenter:vdcos_vms_ready:ratio{}", "value": 0}
    none = {"expr": "datacenter:vdcos_vms_ready:ratio", "eval_time": "10m", "exp_samples": [zero]}
    tested = tool.test(
        {"interval": "1m", "input_series": series(), "promql_expr_test": tests},
        {"interval": "1m", "input_series": series(none_ready), "promql_expr_test": [none]},
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr
