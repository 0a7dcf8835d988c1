"""The outlook: what would become of the VMs of each host if it died now, and who is told."""

from typing import Any

import pytest

from tests.unit.providers.failover import cluster as c
from tests.unit.services import datacenter as d
from vdcos import api
from vdcos.core import hosts
from vdcos.core.foreign.kubernetes import LauncherPod, Node
from vdcos.core.objects import Key
from vdcos.providers.failover.outlook import NO_OUTLOOK, RESTARTS, make, outdated, protected
from vdcos.providers.failover.outlook import OUTLOOK as DERIVED
from vdcos.testing.world import View, World

Tree = dict[str, Any]


def three(*more: Tree, **spec: Any) -> World:
    return World(c.host("host-1"), c.host("host-2"), c.host("host-3"), d.policy(**spec), *more)


def test_without_a_policy_there_is_no_outlook() -> None:
    there = World(c.host("host-1"), c.pod("web"))
    assert c.outlook(there) is NO_OUTLOOK
    assert NO_OUTLOOK.plans == {}
    assert protected(NO_OUTLOOK, c.key("web")) is None


def test_vms_restart_where_there_is_room() -> None:
    there = three(
        c.pod("web", cpu="6"), c.pod("db", cpu="6"), c.pod("cache", cpu="6"), c.pod("free", "host-2", cpu="1")
    )
    found = c.outlook(there)
    assert found.hosts["host-1"][:2] == (2, 1)
    assert found.hosts["host-2"] == (1, 0, ())
    [(stays, why)] = found.hosts["host-1"].reasons
    assert why == "NoCapacity"
    assert sorted(found.plans["host-1"].placed.values()) == ["host-2", "host-3"]
    assert found.sum(["host-1", "host-2", "host-3", "unknown"]) == {
        "hosts": 3,
        "worstHost": "host-1",
        "incomplete": 1,
        "restarts": 3,
        "stays": 1,
    }
    condition = protected(found, stays)
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", "NoCapacity")
    assert condition.message.endswith("The numbers: vdcos ha drill host-1")
    assert (protected(found, c.key("free")) or condition).status == "True"


def test_all_is_well_when_nobody_stays_down() -> None:
    found = c.outlook(three(c.pod("web")))
    assert found.sum(found.hosts)["worstHost"] == ""
    assert found.hosts["host-1"].status() == {"restarts": 1, "stays": 0, "reasons": []}


def test_other_pods_take_their_share() -> None:
    there = three(c.pod("web", cpu="4"), c.other("a", "host-2", "5"), c.other("b", "host-3", "5"))
    assert c.reasons(there) == {"web": "NoCapacity"}
    there.change(LauncherPod, Key("kube-system", "a"), status={"phase": "Succeeded"})
    assert c.reasons(there) == {"web": RESTARTS}


def test_pods_that_have_ended_or_have_no_node_are_no_vms() -> None:
    there = three(
        c.pod("ended", phase="Failed"),
        c.pod("pending", on=""),
        c.pod("x", metadata={"labels": {"kubevirt.io": "hotplug-disk"}}),
    )
    assert c.reasons(there) == {}


WHY: list[tuple[str, Tree, str]] = [
    ("its labels", {"nodeSelector": {"zone": "moon"}}, "Selector"),
    ("labels that are not kept", {"nodeSelector": {"cpu-model.node.kubevirt.io/Haswell": "true"}}, RESTARTS),
    (
        "one term of node affinity",
        {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "Exists"}]}]}}}},
        "Selector",
    ),
    (
        "one of several terms",
        {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "Exists"}]}, {}]}}}},
        RESTARTS,
    ),
    (
        "a comparison of numbers",
        {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["9"]}]}]}}}},
        RESTARTS,
    ),
    (
        "apart from one that is everywhere else",
        {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "noisy"}}}]}}},
        "AntiAffinity",
    ),
    (
        "apart, by namespaces that are selected, which is not known",
        {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "namespaceSelector": {},
             "labelSelector": {"matchLabels": {"app": "noisy"}}}]}}},
        RESTARTS,
    ),
    (
        "rather apart",
        {"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 100, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname",
                                                "labelSelector": {"matchLabels": {"app": "noisy"}}}}]}}},
        RESTARTS,
    ),
    (
        "together with one that is nowhere else",
        {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "lonely"}}}]}}},
        "Affinity",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "want"), [row[1:] for row in WHY], ids=[row[0] for row in WHY])
def test_why_a_vm_would_stay_down(spec: Tree, want: str) -> None:
    noisy = [c.pod(f"noisy-{on}", on, metadata={"labels": {"app": "noisy"}}) for on in ("host-2", "host-3")]
    assert c.reasons(three(c.pod("web", **spec), *noisy))["web"] == want


def test_taints_cordons_and_what_is_kept_for_failover() -> None:
    ours = {"taints": [{"key": hosts.FAILOVER_ONLY, "effect": "NoSchedule"}]}
    there = three(c.pod("web"))
    there.change(Node, Key("", "host-2"), spec={"unschedulable": True, "taints": [
        {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]})  # fmt: skip
    there.change(Node, Key("", "host-3"), spec={"taints": [{"key": "theirs", "effect": "NoSchedule"}]})
    assert c.reasons(there) == {"web": "Taint"}
    there.change(LauncherPod, c.key("virt-launcher-web"), spec={"tolerations": [{"operator": "Exists"}]})
    assert c.reasons(there) == {"web": RESTARTS}
    there = three(c.pod("web"), d.host("host-3", failoverOnly=True))
    there.change(Node, Key("", "host-2"), spec={"unschedulable": True})
    there.change(Node, Key("", "host-3"), spec=ours)
    assert c.outlook(there).plans["host-1"].placed == {"shop/web": "host-3"}


def volume(claim: str, *names: str) -> Tree:
    terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": list(names)}]}]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"pv-{claim}"},
        "spec": {
            "claimRef": {"namespace": "shop", "name": claim},
            **({"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}} if names else {}),
        },
    }


@pytest.mark.parametrize(
    ("names", "want"),
    [
        ((), RESTARTS),
        (("host-1",), "LocalDisk"),
        (("host-1", "host-2"), RESTARTS),
        (("host-1", "host-2", "host-3"), RESTARTS),
    ],
)
def test_disks_tie_a_vm_to_hosts(names: tuple[str, ...], want: str) -> None:
    claims = [{"name": "d", "persistentVolumeClaim": {"claimName": claim}} for claim in ("data", "other")]
    there = three(c.pod("web", volumes=claims), volume("data", *names), volume("somebody's", "host-3"))
    assert c.reasons(there) == {"web": want}


def test_priorities_and_dependencies_decide_who_gets_the_room() -> None:
    large = {"cpu": "6", "memory": "1Gi"}
    there = three(
        c.pod("first", **large), c.pod("second", **large), c.pod("third", **large), c.pod("never"),
        d.vm("first", {"restartPriority": "Low", "dependsOn": [{"name": "third"}]}),
        d.vm("second", {"restartPriority": "Lowest"}),
        d.vm("third", {"restartPriority": "Lowest"}),
        d.vm("never", {"restartPriority": "Disabled"}),
    )  # fmt: skip
    assert c.reasons(there) == {"first": RESTARTS, "second": "NoCapacity", "third": RESTARTS, "never": "Disabled"}
    condition = protected(c.outlook(there), c.key("never"))
    assert condition is not None
    assert "vdcos ha drill" not in condition.message


def test_under_a_paused_policy_nobody_restarts() -> None:
    found = c.outlook(three(c.pod("web"), c.pod("huge", cpu="99"), paused={"reason": "works"}))
    assert found.hosts["host-1"][:2] == (0, 2)
    assert {fate.reason for fate in found.vms.values()} == {"Paused"}


def test_a_host_that_no_policy_covers_has_no_outlook_and_takes_vms_all_the_same() -> None:
    there = three(c.pod("web"), c.pod("other", "host-2"), hosts={"matchLabels": {"kubernetes.io/hostname": "host-1"}})
    found = c.outlook(there)
    assert set(found.hosts) == {"host-1"}
    assert set(found.vms) == {c.key("web")}


def test_a_vm_that_moves_counts_where_it_runs() -> None:
    moving = [c.pod("web", "host-1", suffix="-a"), c.pod("web", "host-2", suffix="-b")]
    there = three(*moving, d.instance("web", "host-2"))
    assert c.outlook(there).vms[c.key("web")].host == "host-2"
    there = three(*moving, d.instance("web", "host-1"))
    assert c.outlook(there).vms[c.key("web")].host == "host-1"
    assert c.outlook(three(*moving)).vms[c.key("web")].host == "host-1", "by name, where nobody knows"


def told(there: World) -> None:
    """Hosts and VirtualMachines say what is so."""
    found = c.outlook(there)
    for name, plan in found.hosts.items():
        if there.has(api.Host, Key("", name)):
            there.change(api.Host, Key("", name), status={"failurePlan": plan.status()})
    for vm, said in found.said.items():
        status, _, reason = said.partition("/")
        if there.has(api.VirtualMachine, vm):
            there.change(api.VirtualMachine, vm, status={"conditions": [
                {"type": "Protected", "status": status, "reason": reason, "message": "", "observedGeneration": 1,
                 "lastTransitionTime": "2026-01-01T00:00:00Z"}]})  # fmt: skip


def test_who_says_otherwise_is_to_look_again() -> None:
    there = three(c.pod("web"), c.pod("foreign"), d.vm("web"), d.vm("off"), d.host("host-1"), d.host("host-2"))
    for state in ("PoweringOn", "PoweredOff"):
        there.change(api.VirtualMachine, c.key("web"), status={"powerState": state})
        late = outdated(c.outlook(there), c.view(there))
        assert (api.VirtualMachine, c.key("web")) not in late, "it says so when it is up"
    there.change(api.VirtualMachine, c.key("web"), status={"powerState": "PoweredOn"})
    assert set(outdated(c.outlook(there), c.view(there))) == {
        (api.Host, Key("", "host-1")),
        (api.Host, Key("", "host-2")),
        (api.Host, Key("", "host-3")),
        (api.VirtualMachine, c.key("web")),
    }
    there.put(d.host("host-3"))
    told(there)
    assert outdated(c.outlook(there), c.view(there)) == ()
    there.put(c.pod("huge", cpu="7"))
    assert outdated(c.outlook(there), c.view(there)) == ((api.Host, Key("", "host-1")),)
    there.remove(LauncherPod, c.key("virt-launcher-web"))
    assert (api.VirtualMachine, c.key("web")) in outdated(c.outlook(there), c.view(there)), "it runs no more"
    there.remove(Node, Key("", "host-3"))
    assert (api.Host, Key("", "host-3")) in outdated(c.outlook(there), c.view(there)), "it is no host any more"


def test_what_is_kept_of_before_changes_nothing() -> None:
    there = three(c.pod("web", cpu="6"), c.pod("db", cpu="6"), d.vm("db", {"restartPriority": "High"}))
    before = c.outlook(there)
    for happens in (
        lambda: there.put(c.pod("cache", cpu="6")),
        lambda: there.change(Node, Key("", "host-2"), spec={"unschedulable": True}),
        lambda: there.change(api.VirtualMachine, c.key("db"), spec={"availability": {"restartPriority": "Lowest"}}),
        lambda: there.remove(Node, Key("", "host-3")),
        lambda: there.put(d.policy(restart={"priority": "Disabled"})),
    ):
        happens()
        window = View.of(there, DERIVED)
        before, fresh = make(window, before), make(window, None)
        assert before == fresh
        assert hash(before) == hash(fresh)
