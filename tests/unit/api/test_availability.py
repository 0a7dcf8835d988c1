"""Hosts, HA policies, host failures and what a VM says about its availability: what is read, and what is refused."""

import typing
from typing import Any

import pytest

from vdcos import api
from vdcos.api import availability, fencing, hapolicy, hostfailure
from vdcos.api.availability import Monitoring, MonitoringOverride, ReadyWhen, ReadyWhenOverride
from vdcos.generate import crds
from vdcos.providers.fencing import fence
from vdcos.providers.placement.model import Priority

SELECTOR = {"matchLabels": {"role": "db"}}
FAILURE = {"host": "host-1.example.org", "incarnation": "boot-1", "policy": "production"}


def stored(kind: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": api.API_VERSION, "kind": kind, "metadata": {"name": "a"}, "spec": spec}


def policy(**spec: Any) -> hapolicy.HAPolicySpec:
    return api.parse(api.HAPolicy, stored("HAPolicy", **spec)).spec


def machine(**said: Any) -> dict[str, Any]:
    return stored("VirtualMachine", cpu={}, memory={"size": "1Gi"}, availability=said)


# What holds when nothing is said


def test_a_policy_needs_to_say_nothing() -> None:
    spec = policy()
    assert spec.hosts is None, "all hosts"
    assert spec.detection.manifest() == {
        "leaseSeconds": 15,
        "probe": {"port": 10250, "intervalSeconds": 2, "timeoutSeconds": 1, "failures": 3},
        "heartbeatSeconds": 180,
        "witnesses": [],
        "agree": 1,
    }
    assert spec.fencing == fencing.Fencing()
    assert spec.restart.manifest() == {
        "priority": "Medium",
        "readyWhen": {"condition": "PoweredOn", "timeoutSeconds": 600, "delaySeconds": 0},
        "retries": {"limit": 5, "firstSeconds": 10, "longestSeconds": 300},
        "longestHoldSeconds": 3600,
    }
    assert spec.vm_rules == ()
    assert (spec.admission_control.mode, spec.admission_control.promise) == ("Enforce", hapolicy.HostFailures())
    assert spec.monitoring.enabled is False
    assert spec.recovery.manifest() == {"quietSeconds": 60, "quarantineAfter": 3, "windowSeconds": 86400}
    assert spec.paused is None


def test_a_dead_host_with_default_kubelets_is_found_within_20_seconds_and_a_live_one_is_not() -> None:
    renewal, jitter = 10, 0.4
    detection = policy().detection
    probe = detection.probe
    silent = (probe.failures - 1) * probe.interval_seconds + probe.timeout_seconds
    assert renewal + jitter < detection.lease_seconds
    assert detection.lease_seconds + silent <= 20


def test_a_host_and_a_failure_need_little() -> None:
    host = api.parse(api.Host, stored("Host"))
    assert (host.spec.bmc, host.spec.failover_only, host.spec.maintenance) == (None, False, False)
    failure = api.parse(api.HostFailure, stored("HostFailure", **FAILURE))
    assert (failure.spec.confirmed_down, failure.spec.approved) == (None, False)
    assert (failure.spec.provider_id, failure.spec.renewed) == ("", "")


def test_a_machine_leaves_it_to_the_policy() -> None:
    assert (
        api.parse(api.VirtualMachine, stored("VirtualMachine", cpu={}, memory={"size": "1Gi"})).spec.availability
        is None
    )
    said = api.parse(api.VirtualMachine, machine()).spec.availability
    assert said is not None
    assert (said.restart_priority, said.depends_on, said.ready_when, said.monitoring) == (None, (), None, None)


# What is read


def test_names_in_json() -> None:
    spec = policy(rules=[{"name": "db", "selector": SELECTOR, "priority": "High"}])
    assert [rule.priority for rule in spec.vm_rules] == ["High"]
    assert "rules" in spec.manifest()
    failure = api.parse(api.HostFailure, stored("HostFailure", **FAILURE, providerID="aws:///i-1"))
    assert failure.spec.manifest()["providerID"] == "aws:///i-1"


@pytest.mark.parametrize(
    ("said", "promise"),
    [
        ({}, hapolicy.HostFailures(tolerated=1)),
        ({"mode": "Warn", "hostFailures": {"tolerated": 2}}, hapolicy.HostFailures(tolerated=2)),
        ({"percentage": {"cpu": 25, "memory": 34}}, hapolicy.Percentage(cpu=25, memory=34)),
        ({"dedicatedHosts": {}}, hapolicy.DedicatedHosts()),
    ],
)
def test_what_is_promised(said: dict[str, Any], promise: object) -> None:
    assert policy(admissionControl=said).admission_control.promise == promise


@pytest.mark.parametrize(("hosts", "most"), [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2), (30, 2)])
def test_a_storm_is_more_than_two_hosts_or_half_of_them(hosts: int, most: int) -> None:
    assert policy().storm_brake.most(hosts) == most
    assert policy(stormBrake={"maxHosts": 5}).storm_brake.most(30) == 5


def test_the_machine_says_the_last_word_then_the_rule_then_the_policy() -> None:
    base = ReadyWhen(condition="PoweredOn", timeout_seconds=600, delay_seconds=1)
    rule = ReadyWhenOverride(condition="GuestAgent", timeout_seconds=300)
    own = ReadyWhenOverride(timeout_seconds=60)
    assert availability.overlaid(base, rule, None, own) == ReadyWhen(
        condition="GuestAgent", timeout_seconds=60, delay_seconds=1
    )
    assert availability.overlaid(Monitoring(enabled=True), MonitoringOverride(enabled=False)).enabled is False
    assert availability.overlaid(base, None) == base


@pytest.mark.parametrize(
    ("policy_wide", "override"), [(ReadyWhen, ReadyWhenOverride), (Monitoring, MonitoringOverride)]
)
def test_whatever_a_policy_says_can_be_overridden(policy_wide: Any, override: Any) -> None:
    assert set(policy_wide.model_fields) == set(override.model_fields)
    assert override() == override(**dict.fromkeys(override.model_fields))


def test_what_the_operator_writes_can_be_read() -> None:
    at = "2026-01-01T12:00:00Z"
    amounts = {"cpu": "64", "memory": "512Gi"}
    stays = [{"namespace": "shop", "name": "db", "reason": "LocalDisk"}]
    statuses: dict[str, dict[str, Any]] = {
        "Host": {
            "state": "Isolated",
            "incarnation": "boot-1",
            "machine": "uuid",
            "policy": "production",
            "evidence": [{"witness": "lease", "says": "not renewed", "since": at}],
            "verdict": "Isolated",
            "vms": 3,
            "capacity": {**amounts, "pods": 110},
            "reserved": {**amounts, "pods": 40},
            "failurePlan": {"restarts": 2, "stays": 1, "reasons": stays},
            "failure": "host-1-5f0c2e91",
        },
        "HAPolicy": {
            "hosts": {"count": 2, "names": ["host-1", "host-2"]},
            "connected": 1,
            "failed": 1,
            "suspects": [{"host": "host-1", "verdict": "Suspect", "why": "it does not renew its Lease"}],
            "failoverCapacity": {"promised": amounts, "available": amounts, "missing": {}},
            "failurePlan": {"hosts": 2, "worstHost": "host-1", "restarts": 5, "stays": 1},
            "waiting": {"count": 1, "names": ["shop/web"]},
            "countedAt": at,
        },
        "HostFailure": {
            "phase": "Restarting",
            "incarnation": "boot-1",
            "bmc": {"redfish": {"address": "https://bmc", "credentials": "bmc"}},
            "asked": ["power-off/redfish/1"],
            "tried": [{"provider": "redfish", "why": "no answer"}],
            "receipt": {"provider": "ipmi", "how": "PoweredOff", "proof": "Off", "incarnation": "boot-1", "at": at},
            "cordoned": True,
            "tainted": True,
            "failover": True,
            "stillAlive": {"word": "Ada: unplugged", "renewed": "2026-01-01T12:00:00.000000Z"},
            "storm": 3,
            "released": True,
            "vms": {"total": 3, "running": 1, "starting": 0, "held": 1, "failed": 1, "notRestarted": stays},
            "backSince": at,
            "machines": [
                {
                    "namespace": "shop",
                    "name": "web",
                    "uid": "u",
                    "instance": "i",
                    "tier": 1,
                    "state": "Down",
                    "since": at,
                    "reason": "Deleted",
                }
            ],
            "timeline": [{"at": at, "what": "suspect"}],
        },
    }
    for kind, status in statuses.items():
        spec = FAILURE if kind == "HostFailure" else {}
        parsed = api.parse(api.KINDS[kind], stored(kind, **spec) | {"status": status})
        written = parsed.status.manifest()
        assert set(status) <= set(written)
        assert set(written) - {"observedGeneration", "conditions", "outcome"} <= set(status), "the example is complete"
        assert api.parse(api.KINDS[kind], stored(kind, **spec) | {"status": written}).status == parsed.status


def test_words_are_the_same_on_every_floor() -> None:
    assert typing.get_args(hostfailure.How) == typing.get_args(fence.How)
    assert [word.upper() for word in typing.get_args(availability.RestartPriority)] == [each.name for each in Priority]


# What is refused


MALFORMED = [
    ("no window for the lease", stored("HAPolicy", detection={"leaseSeconds": 1}), "spec.detection.leaseSeconds"),
    ("no port", stored("HAPolicy", detection={"probe": {"port": 0}}), "spec.detection.probe.port"),
    (
        "two witnesses of a name",
        stored("HAPolicy", detection={"witnesses": [{"provider": "a"}, {"provider": "a"}]}),
        "spec.detection.witnesses",
    ),
    ("an unknown priority", stored("HAPolicy", restart={"priority": "Urgent"}), "spec.restart.priority"),
    (
        "an unknown readiness",
        stored("HAPolicy", restart={"readyWhen": {"condition": "Heartbeat"}}),
        "spec.restart.readyWhen.condition",
    ),
    ("a rule for nobody", stored("HAPolicy", rules=[{"name": "a", "priority": "High"}]), "spec.rules[0].selector"),
    (
        "two promises",
        stored("HAPolicy", admissionControl={"hostFailures": {}, "dedicatedHosts": {}}),
        "spec.admissionControl",
    ),
    (
        "no percent",
        stored("HAPolicy", admissionControl={"percentage": {"cpu": 0, "memory": 10}}),
        "spec.admissionControl.percentage.cpu",
    ),
    (
        "percent of the CPU alone",
        stored("HAPolicy", admissionControl={"percentage": {"cpu": 10}}),
        "spec.admissionControl.percentage.memory",
    ),
    ("a brake that never lets go", stored("HAPolicy", stormBrake={"maxHosts": 0}), "spec.stormBrake.maxHosts"),
    ("a pause without a reason", stored("HAPolicy", paused={}), "spec.paused.reason"),
    ("a BMC as text", stored("Host", bmc="bmc-1"), "spec.bmc"),
    ("a failure of no host", stored("HostFailure", incarnation="b", policy="p"), "spec.host"),
    (
        "nobody's word",
        stored("HostFailure", **FAILURE, confirmedDown={"incarnation": "boot-1", "by": "", "why": "x"}),
        "spec.confirmedDown.by",
    ),
    ("a reason of two lines", stored("HAPolicy", paused={"reason": "a\nb"}), "spec.paused.reason"),
    (
        "a time without a zone",
        stored("HostFailure", **FAILURE, evidence=[{"witness": "a", "says": "b", "since": "2026-01-01T12:00:00"}]),
        "spec.evidence[0].since",
    ),
    (
        "a dependency on nothing",
        machine(dependsOn=[{}]),
        "spec.availability.dependsOn[0]",
    ),
    (
        "a dependency by name and labels",
        machine(dependsOn=[{"name": "a", "selector": SELECTOR}]),
        "spec.availability.dependsOn[0]",
    ),
    ("an unknown priority of a VM", machine(restartPriority="Never"), "spec.availability.restartPriority"),
    ("no patience", machine(readyWhen={"timeoutSeconds": 0}), "spec.availability.readyWhen.timeoutSeconds"),
]


@pytest.mark.parametrize(("manifest", "path"), [row[1:] for row in MALFORMED], ids=[row[0] for row in MALFORMED])
def test_what_is_wrong_is_named(manifest: dict[str, Any], path: str) -> None:
    with pytest.raises(api.InvalidObject) as raised:
        api.parse(api.KINDS[manifest["kind"]], manifest)
    assert raised.value.path == path


RULES = [
    ("HAPolicy", "metadata.name", "a policy's name has at most 63 characters and no dots"),
    ("HAPolicy", "spec.hosts", "an empty selector would select everything: give labels"),
    ("HAPolicy", "spec.detection.probe.timeoutSeconds", "one question ends before the next begins"),
    ("HAPolicy", "spec.detection.witnesses[].timeoutSeconds", "one question ends before the next begins"),
    ("HAPolicy", "spec.detection.witnesses[].provider", "lease, node, heartbeat, probe and bmc are heard in any case"),
    ("HAPolicy", "spec.detection.agree", "no more can agree"),
    ("HAPolicy", "spec.restart.retries.longestSeconds", "no shorter than the first (firstSeconds)"),
    ("HAPolicy", "spec.rules[]", "set priority, readyWhen or monitoring"),
    ("HAPolicy", "spec.admissionControl", "set at most one of hostFailures, percentage, dedicatedHosts"),
    ("HAPolicy", "spec.monitoring.windowSeconds", "or the limit never takes effect"),
    ("Host", "spec.bmc", "set at least one of redfish, ipmi, fenceAgent, plugin"),
    ("HostFailure", "spec.host", "which failure this is"),
    ("HostFailure", "spec.incarnation", "which failure this is"),
    ("HostFailure", "spec.policy", "which failure this is"),
    ("HostFailure", "spec.machine", "which failure this is"),
    ("HostFailure", "spec.providerID", "which failure this is"),
    ("HostFailure", "spec.renewed", "which failure this is"),
    ("HostFailure", "spec.evidence", "which failure this is"),
    ("HostFailure", "spec.confirmedDown.incarnation", "confirm the incarnation that failed"),
    ("VirtualMachine", "spec.availability.dependsOn", "a VM cannot wait for itself"),
    ("VirtualMachine", "spec.availability.dependsOn[]", "set exactly one of name, selector"),
]


def words(node: crds.Schema, path: str = "") -> list[tuple[str, str]]:
    """Where rules point, and what they say."""
    found = [(path + rule.get("fieldPath", ""), rule["message"]) for rule in node.get("x-kubernetes-validations", ())]
    for name, field in node.get("properties", {}).items():
        found += words(field, f"{path}.{name}")
    return found + (words(node["items"], f"{path}[]") if "items" in node else [])


@pytest.mark.parametrize(("kind", "path", "says"), RULES)
def test_rules_say_what_is_wrong(kind: str, path: str, says: str) -> None:
    root = crds.crd(api.KINDS[kind])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert any(at == f".{path}" and says in message for at, message in words(root))


def test_names_of_hosts_have_dots_and_fit_into_labels() -> None:
    """A failure is named after its host, and has eight characters and a dash more."""
    longest = {
        kind: crds.crd(model)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["metadata"]
        for kind, model in api.KINDS.items()
    }
    assert longest["Host"]["properties"]["name"]["maxLength"] == 63
    assert longest["HostFailure"]["properties"]["name"]["maxLength"] == 72
    assert not any("dots" in message for at, message in words(longest["Host"], ".metadata"))
