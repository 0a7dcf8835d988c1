"""What is asked about a silent host and when, and what the answers mean."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.services import datacenter as d
from vdcos import api
from vdcos.api.hapolicy import Detection
from vdcos.core.foreign.kubernetes import Heartbeat, Lease, Node
from vdcos.core.objects import Key
from vdcos.core.plan import Answer, Ask, Silence
from vdcos.services.hapolicy import HAPolicyService
from vdcos.services.hapolicy.judge import AGAIN_SECONDS, DEAF_SECONDS, Judged, asked_after, judge_all
from vdcos.services.hapolicy.seen import look
from vdcos.testing.world import World

Tree = dict[str, Any]

SERVICE = HAPolicyService()
KEY = Key("", d.POLICY)
WITNESS = {"provider": "ping", "parameters": {"from": "rack-1"}, "intervalSeconds": 4, "timeoutSeconds": 3}


def there(silent: float = 20.0, bmc: Tree | None = d.REDFISH, **detection: Any) -> World:
    """Four hosts, of which the first has been silent for so long; it has a heartbeat of before."""
    others = [d.node(f"host-{n}") for n in (2, 3, 4)] + [d.lease(f"host-{n}") for n in (2, 3, 4)]
    world = d.world(*others, d.host(bmc=bmc), d.policy(detection=detection))
    d.beat(world)
    d.later(world, silent)
    for n in (2, 3, 4):
        d.renew(world, f"host-{n}")
    return world


def judged(world: World, name: str = d.HOST) -> Judged:
    detection = api.parse(api.HAPolicy, world.tree(api.HAPolicy, KEY)).spec.detection
    found = judge_all(detection, look(KEY, world.view(SERVICE)), world.now)
    return next(each for each in found if each.name == name)


def asked(world: World) -> dict[str, Ask]:
    return {ask.id: ask for ask in judged(world).asks}


def says(world: World, witness: str) -> str:
    return next(said.says for said in judged(world).testimony if said.witness == witness)


def answer(world: World, **answers: Answer) -> None:
    world.answers[KEY] = {f"{name}/{d.HOST}".replace("ping/", "witness/ping/"): each for name, each in answers.items()}


# When witnesses are asked


@pytest.mark.parametrize(
    ("detection", "want"),
    [
        ({}, 10.5),
        ({"leaseSeconds": 60}, 54.0),
        ({"leaseSeconds": 60, "probe": {"failures": 1, "intervalSeconds": 1}}, 59.0),
        ({"leaseSeconds": 60, "probe": {"failures": 20, "intervalSeconds": 60}}, 42.0),
        ({"powerOffSeconds": 10}, 6.0),
        ({"powerOffSeconds": 100}, 10.5),
    ],
)
def test_after_how_much_silence(detection: Tree, want: float) -> None:
    assert asked_after(Detection.model_validate(detection)) == pytest.approx(want)


def test_a_kubelet_that_renews_in_time_is_never_asked_about() -> None:
    assert 10.4 < asked_after(Detection()) < Detection().lease_seconds


def test_a_host_that_is_heard_is_not_asked_about_and_wakes_nobody_but_by_its_silence() -> None:
    found = judged(there(10.0))
    assert (found.verdict.name, found.asks, found.testimony, found.after) == ("Connected", (), (), None)
    assert found.silence == Silence(Lease, d.LEASE, asked_after(Detection()))


def test_a_host_that_is_late_is_asked_about_before_its_lease_is_stale() -> None:
    found = judged(there(10.5))
    assert found.verdict.name == "Connected"
    assert [ask.id for ask in found.asks] == ["probe/host-1", "power/host-1"]
    assert (found.silence, found.after) == (None, 4.5)


def test_with_a_power_off_time_it_looks_again_at_that_time_first() -> None:
    assert judged(there(6.0, powerOffSeconds=10)).after == 4.0
    assert judged(there(10.0, powerOffSeconds=10)).after == 5.0


def test_a_stale_host_is_looked_at_again_when_its_heartbeat_becomes_old() -> None:
    assert judged(there(20.0)).after == 160.0
    assert judged(there(180.0)).after is None
    world = there(20.0)
    world.remove(Lease, d.LEASE)
    assert judged(world).verdict.name == "Connected", "a host whose Lease is not there has never been silent"


def test_what_is_heard_lags_behind_the_clock_and_is_waited_for() -> None:
    """The silence is over by our clock, and waking on it comes once; not all of it has been heard of yet."""
    world = there(11.0)
    world.silence[Lease] = 1.0
    found = judged(world)
    assert (found.verdict.name, found.asks) == ("Connected", ())
    assert found.after == 0.5
    world.silence[Lease] = 0.6
    assert judged(world).after == AGAIN_SECONDS, "and not a thousand times a second"


def test_whoever_was_deaf_looks_again() -> None:
    world = there(20.0)
    world.silence[Lease] = 10.0
    found = judged(world)
    assert (found.verdict.name, found.asks, found.testimony) == ("Blind", (), ())
    assert found.after == DEAF_SECONDS
    world.silence[Lease] = 9.0
    assert judged(world).verdict.name != "Blind"


def test_silence_of_which_nothing_was_heard_is_none() -> None:
    world = there(20.0)
    world.silence[Lease] = 8.0
    assert judged(world).verdict.name == "Connected"


# What is asked


def test_the_probe() -> None:
    ask = asked(there(probe={"failures": 4, "intervalSeconds": 3, "timeoutSeconds": 2}))["probe/host-1"]
    assert (ask.provider, ask.target, ask.effect) == ("probe", d.HOST, False)
    assert ask.request == {"address": "192.0.2.1", "port": 10250, "attempts": 4, "interval": 3, "timeout": 2}
    assert (ask.deadline, ask.fresh) == (15.0, 3.0)


def test_the_probe_takes_the_port_of_the_policy_where_the_node_names_none() -> None:
    world = there(probe={"port": 12345})
    world.change(Node, d.NODE, status={"daemonEndpoints": None})
    assert asked(world)["probe/host-1"].request["port"] == 12345


def test_the_power_switch() -> None:
    ask = asked(there())["power/host-1"]
    assert (ask.provider, ask.target, ask.effect) == ("redfish", d.HOST, False)
    assert ask.request["operation"] == "state"
    assert ask.request["parameters"]["address"] == "https://bmc-1.test"
    assert (ask.deadline, ask.fresh) == (5.0, 5.0)


def test_a_third_party() -> None:
    ask = asked(there(witnesses=[WITNESS]))["witness/ping/host-1"]
    assert (ask.provider, ask.request) == ("ping", {"host": d.HOST, "parameters": {"from": "rack-1"}})
    assert (ask.deadline, ask.fresh, ask.target) == (3.0, 4.0, d.HOST)


def test_who_cannot_be_asked_is_not() -> None:
    world = there(bmc=None)
    world.change(Node, d.NODE, status={"addresses": []})
    assert asked(world) == {}
    world.remove(api.Host, d.NODE)
    assert asked(world) == {}


# What the answers mean

OFF: Mapping[str, Any] = {"power": "Off"}
ANSWERS: list[tuple[str, str, bool, Mapping[str, Any], str]] = [
    ("its port answers", "probe", True, {"answered": True, "how": "refuses"}, "Alive"),
    ("its port does not answer", "probe", True, {"answered": False}, "Dead"),
    ("nobody could knock", "probe", False, {}, "Unknown"),
    ("it has no power", "power", True, OFF, "Dead"),
    ("it has power", "power", True, {"power": "On"}, "Unknown"),
    ("it is being powered off", "power", True, {"power": "PoweringOff"}, "Unknown"),
    ("its bmc does not answer", "power", False, OFF, "Unknown"),
    ("somebody says alive", "ping", True, {"says": "Alive"}, "Alive"),
    ("somebody says dead", "ping", True, {"says": "Dead"}, "Dead"),
    ("somebody does not know", "ping", True, {"says": "Unknown"}, "Unknown"),
    ("somebody says nonsense", "ping", True, {"says": ["Dead"]}, "Unknown"),
    ("somebody fails", "ping", False, {"says": "Dead"}, "Unknown"),
]


@pytest.mark.parametrize("reason, whom, ok, value, want", ANSWERS, ids=[row[0] for row in ANSWERS])
def test_what_an_answer_means(reason: str, whom: str, ok: bool, value: Mapping[str, Any], want: str) -> None:
    witness = {"power": "bmc"}.get(whom, whom)
    world = there(witnesses=[WITNESS])
    assert says(world, witness) == "Unknown", "nobody has answered"
    at = world.now.mono
    answer(world, **{whom: Answer(ok, at - 1.0, at, value, "" if ok else "no route")})
    assert says(world, witness) == want
    for stale in (20.0, 21.0):
        answer(world, **{whom: Answer(ok, at - stale, at, value)})
        assert says(world, witness) == "Unknown", "it was asked before the host fell silent"


def test_what_people_are_told_of_it() -> None:
    world = there(witnesses=[WITNESS])
    answer(
        world,
        probe=d.ok(world, 1.0, answered=True, how="refuses connections"),
        power=d.bad(world, "no route", 1.0),
        ping=d.ok(world, 1.0, says="Dead"),
    )
    assert [(said.witness, said.how) for said in judged(world).testimony] == [
        ("node", "Kubernetes has not noticed yet (Ready is True)"),
        ("heartbeat", "virt-handler is not due yet"),
        ("probe", "port of its kubelet refuses connections"),
        ("bmc", "its BMC does not say: no route"),
        ("ping", "says Dead"),
    ]


@pytest.mark.parametrize(
    ("ready", "want"), [("True", "Unknown"), ("False", "Unknown"), ("", "Unknown"), ("Unknown", "Dead")]
)
def test_kubernetes_says_that_it_hears_nothing_and_a_kubelet_that_it_is_not_ready(ready: str, want: str) -> None:
    world = there()
    d.say(world, ready)
    assert says(world, "node") == want


def test_a_heartbeat_since_the_silence_is_a_sign_of_life() -> None:
    world = there(15.0)
    d.beat(world)
    assert says(world, "heartbeat") == "Unknown", "it may have died just after it"
    world = there(15.1)
    d.beat(world)
    assert says(world, "heartbeat") == "Alive"
    assert judged(world).verdict.name == "Isolated"


def test_a_heartbeat_that_is_old_is_no_sign_of_life_any_more() -> None:
    """The kubelet stopped first, and the host died later."""
    world = there(60.0)
    d.beat(world)
    assert judged(world).verdict.name == "Isolated"
    d.later(world, 179.0)
    assert says(world, "heartbeat") == "Alive"
    d.later(world, 1.0)
    for n in (2, 3, 4):
        d.renew(world, f"host-{n}")
    assert says(world, "heartbeat") == "Dead"
    assert judged(world).verdict.name == "Dead"


def test_a_heartbeat_is_old_only_as_far_as_somebody_listened() -> None:
    world = there(200.0)
    assert says(world, "heartbeat") == "Dead"
    world.silence[Heartbeat] = 21.0
    assert says(world, "heartbeat") == "Unknown"


def test_a_host_of_which_no_heartbeat_is_known() -> None:
    world = there(200.0)
    seen = look(KEY, world.view(SERVICE))
    bare = replace(seen, hosts=tuple(replace(each, beaten=None, heart_silent=0.0) for each in seen.hosts))
    [first, *_] = judge_all(Detection(), bare, world.now)
    assert [said.says for said in first.testimony if said.witness == "heartbeat"] == ["Unknown"]
    assert first.after is None


# All of it


def test_how_many_hosts_are_stale_is_counted_over_all() -> None:
    world = there(20.0)
    for n in (2, 3):
        world.change(Lease, Key(d.LEASE.namespace, f"host-{n}"), spec={"renewTime": d.RENEWED})
    assert judged(world).verdict.name == "Suspect"
    d.later(world, 14.9)
    assert judged(world).verdict.name == "Suspect"
    d.later(world, 0.1)
    assert judged(world).verdict.name == "ApiTrouble"


@pytest.mark.parametrize(
    ("detection", "silent", "off", "want"),
    [
        ({}, 14.9, True, "Connected"),
        ({}, 15.0, True, "Dead"),
        ({"agree": 2}, 15.0, True, "Dead"),
        ({"agree": 3}, 15.0, True, "Suspect"),
        ({"agree": 2}, 15.0, False, "Suspect"),
        ({"powerOffSeconds": 12}, 12.0, True, "Dead"),
        ({"powerOffSeconds": 12}, 12.0, False, "Connected"),
        ({"leaseSeconds": 30}, 29.0, True, "Connected"),
    ],
)
def test_the_thresholds_of_the_policy(detection: Tree, silent: float, off: bool, want: str) -> None:
    world = there(silent, **detection)
    answer(world, probe=d.ok(world, 1.0, answered=False), power=d.ok(world, 1.0, power="Off" if off else "On"))
    assert judged(world).verdict.name == want
