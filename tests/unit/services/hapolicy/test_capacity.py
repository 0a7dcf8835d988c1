"""What an HAPolicy keeps free, who waits for it, what would happen if hosts died, and who is told to look again."""

from typing import Any

from tests.unit.providers.failover import cluster as c
from tests.unit.services import datacenter as d
from vdcos import api
from vdcos.core.foreign.kubernetes import LauncherPod, OtherPod
from vdcos.core.objects import Key
from vdcos.core.plan import Plan
from vdcos.services.hapolicy import HAPolicyService
from vdcos.testing.world import World

Tree = dict[str, Any]

SERVICE = HAPolicyService()
KEY = Key("", d.POLICY)


def two(*more: Tree, **control: Any) -> World:
    """Two hosts of 8 CPUs and 16Gi, of which one is kept free."""
    leases = [d.lease("host-1"), d.lease("host-2")]
    return World(c.host("host-1"), c.host("host-2"), *leases, d.policy(admissionControl=control), *more)


def settle(there: World) -> Plan:
    d.later(there, 6.0)
    for name in ("host-1", "host-2"):
        d.renew(there, name)
    return there.settle(SERVICE, KEY)


def status(there: World) -> Tree:
    found: Tree = there.tree(api.HAPolicy, KEY)["status"]
    return found


def says(there: World) -> tuple[str, str, str]:
    said = next(each for each in status(there)["conditions"] if each["type"] == "FailoverCapacity")
    return said["status"], said["reason"], said["message"]


def waiting(name: str, gi: int, priority: str = "Medium") -> Tree:
    tree = d.vm(name, {"restartPriority": priority})
    return {**tree, "status": {"waitsFor": {"cpu": "1", "memory": f"{gi}Gi"}}}


def test_the_promise_in_numbers() -> None:
    there = two(c.pod("web", cpu="2", memory="4Gi"))
    settle(there)
    assert status(there)["failoverCapacity"] == {
        "promised": {"cpu": "8", "memory": "16Gi"},
        "available": {"cpu": "6", "memory": "12Gi"},
        "missing": {"cpu": "0", "memory": "0"},
    }
    assert status(there)["waiting"] == {"count": 0, "names": []}
    assert says(there)[:2] == ("True", "Kept")


def test_a_promise_that_is_not_kept_is_told_and_stops_nothing() -> None:
    there = two(c.pod("web", cpu="7", memory="4Gi"), c.pod("db", "host-2", cpu="2500m"))
    settle(there)
    assert status(there)["failoverCapacity"]["missing"] == {"cpu": "1500m", "memory": "0"}
    assert says(there)[:2] == ("False", "CapacityMissing")
    assert "1500m cpu are not free: nothing that needs more of it starts or grows" in says(there)[2]
    assert next(each["status"] for each in status(there)["conditions"] if each["type"] == "Ready") == "True"


def test_a_policy_that_only_warns_says_so() -> None:
    there = two(c.pod("web", cpu="7"), c.pod("db", "host-2", cpu="2"), mode="Warn")
    settle(there)
    assert "VMs start all the same" in says(there)[2]


def test_a_policy_that_promises_nothing() -> None:
    there = two(mode="Disabled")
    settle(there)
    assert says(there)[:2] == ("True", "Disabled")
    assert "failoverCapacity" not in status(there)


def test_who_waits_and_who_may_go() -> None:
    there = two(waiting("low", 10, "Low"), waiting("high", 10, "High"), waiting("huge", 17, "Highest"))
    plan = settle(there)
    assert status(there)["waiting"] == {"count": 2, "names": ["shop/huge", "shop/low"]}
    assert says(there)[:2] == ("True", "Waiting")
    assert "2 VMs that would use it wait" in says(there)[2]
    assert (api.VirtualMachine, Key("shop", "high")) in plan.wakes
    assert (api.VirtualMachine, Key("shop", "low")) not in plan.wakes
    there.put(c.pod("web", cpu="7", memory="16Gi"))
    there.put(c.pod("db", "host-2", memory="1Gi"))
    settle(there)
    assert "3 VMs wait" in says(there)[2]


def test_what_would_happen_if_hosts_died() -> None:
    there = two(c.pod("web", cpu="6"), c.pod("db", "host-2", cpu="6"))
    plan = settle(there)
    assert status(there)["failurePlan"] == {
        "hosts": 2,
        "worstHost": "host-1",
        "incomplete": 2,
        "restarts": 0,
        "stays": 2,
    }
    assert {(api.Host, Key("", "host-1")), (api.Host, Key("", "host-2"))} <= set(plan.wakes)


def test_counts_are_written_at_most_every_five_seconds() -> None:
    there = two()
    settle(there)
    there.put(c.pod("web", cpu="7"))
    d.later(there, 1.0)
    plan = there.settle(SERVICE, KEY)
    assert status(there)["failoverCapacity"]["available"]["cpu"] == "8"
    assert plan.after is not None
    assert plan.after <= 4.0
    settle(there)
    assert status(there)["failoverCapacity"]["available"]["cpu"] == "1"


def test_while_pods_cannot_be_seen_hosts_are_watched_and_the_numbers_stand() -> None:
    for kind in (LauncherPod, OtherPod):
        there = two(c.pod("web"), waiting("small", 1))
        settle(there)
        before = status(there)
        there.unavailable(kind, "pods may not be listed")
        there.remove(LauncherPod, c.key("virt-launcher-web"))
        plan = settle(there)
        for field in ("failoverCapacity", "failurePlan", "waiting"):
            assert status(there)[field] == before[field]
        assert says(there)[:2] == ("Unknown", "CannotCount")
        assert plan.wakes == ()
        assert status(there)["connected"] == 2


def test_what_wakes_a_policy() -> None:
    there = two(c.pod("web"))
    pod = there.held(LauncherPod, c.key("virt-launcher-web"))
    by_kind = {watch.kind: watch for watch in SERVICE.watches if watch.patience}
    watch = by_kind[LauncherPod]
    assert watch.sees is not None
    assert list(watch.keys(pod, c.view(there))) == [KEY]
    before = watch.sees(pod)
    there.change(LauncherPod, c.key("virt-launcher-web"), metadata={"labels": {"touched": "x"}})
    assert watch.sees(there.held(LauncherPod, c.key("virt-launcher-web"))) == before
    there.change(LauncherPod, c.key("virt-launcher-web"), status={"phase": "Failed"})
    assert watch.sees(there.held(LauncherPod, c.key("virt-launcher-web"))) != before
