"""What counts as proof that a host is down, and what is tried next: tables over one look each."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from vdcos.api.fencing import Bmc, Fencing
from vdcos.core.foreign.medik8s import FenceAgentsRemediation, FenceAgentsRemediationTemplate
from vdcos.core.objects import Unreadable
from vdcos.core.plan import Answer, Instant
from vdcos.providers.fencing.fence import (
    ATTEMPT,
    FAILURE,
    HEARD,
    INCARNATION,
    Confirmation,
    Host,
    Progress,
    Signs,
    Step,
    Tried,
    fence,
)

REDFISH = {"address": "https://bmc-1.test", "credentials": "bmc-1"}
IPMI = {"address": "192.0.2.7", "credentials": "bmc-1"}
OFF_1, OFF_2, IPMI_1 = "power-off/redfish/1", "power-off/redfish/2", "power-off/ipmi/1"
NOW = 1_000.0
HOST = Host("host-1", "boot-a", "machine-1", "failure-2")
QUIET = Signs(last_sign=NOW - 60, known_until=NOW, boot_id="boot-a", machine="machine-1", renewal="12:00")


def bmc(**switches: Mapping[str, Any]) -> Bmc:
    return Bmc.model_validate(switches)


DEFAULT = Fencing()
BOTH = bmc(redfish=REDFISH, ipmi=IPMI)
ONE = bmc(redfish=REDFISH)


def fencing(*providers: str | Mapping[str, Any], **more: Any) -> Fencing:
    listed = tuple({"provider": each} if isinstance(each, str) else dict(each) for each in providers)
    return Fencing.model_validate({"providers": listed, **more})


def ok(asked: float, **value: Any) -> Answer:
    return Answer(True, asked, asked + 0.1, value)


def bad(asked: float, error: str = "no route") -> Answer:
    return Answer(False, asked, asked + 0.1, {}, error)


ACCEPTED = ok(NOW - 4)
OFF_TWICE = {"power/redfish/1/1": ok(NOW - 3, power="Off"), "power/redfish/1/2": ok(NOW - 2, power="Off")}


def look(
    asked: Sequence[str] = (),
    answers: Mapping[str, Answer] | None = None,
    signs: Signs = QUIET,
    switches: Bmc | None = ONE,
    config: Fencing = DEFAULT,
    **host: Any,
) -> Step:
    known = replace(HOST, bmc=switches, **host)
    return fence(known, signs, config, Progress(tuple(asked)), answers or {}, Instant(0.0, NOW))


def ids(step: Step) -> list[str]:
    return [ask.id for ask in step.asks]


def test_the_first_look_states_an_intention_and_asks_with_it() -> None:
    step = look()
    assert step.receipt is None
    assert step.progress.asked == (OFF_1,)
    [ask] = step.asks
    assert (ask.id, ask.provider, ask.target, ask.effect, ask.deadline) == (OFF_1, "redfish", "host-1", True, 10.0)
    assert ask.request == {
        "operation": "off",
        "host": "host-1",
        "parameters": {**REDFISH, "insecureSkipVerify": False},
    }
    assert "spec.confirmedDown with incarnation boot-a" in step.why


def test_a_power_off_that_was_accepted_is_read_back_twice_and_then_proves_it() -> None:
    step = look([OFF_1], {OFF_1: ACCEPTED})
    assert ids(step) == [OFF_1, "power/redfish/1/1"]
    assert not step.asks[1].effect
    assert step.receipt is None
    first = {"power/redfish/1/1": ok(NOW - 3, power="Off")}
    step = look([OFF_1], {OFF_1: ACCEPTED, **first})
    assert ids(step) == [OFF_1, "power/redfish/1/1", "power/redfish/1/2"]
    assert step.receipt is None
    step = look([OFF_1], {OFF_1: ACCEPTED, **OFF_TWICE})
    assert step.receipt is not None
    assert (step.receipt.provider, step.receipt.incarnation, step.receipt.how) == ("redfish", "boot-a", "PoweredOff")
    assert step.asks == ()


NO_PROOF = [
    ("one reading is not two", {"power/redfish/1/1": ok(NOW - 3, power="Off")}, QUIET),
    (
        "On is not Off",
        {"power/redfish/1/1": ok(NOW - 3, power="Off"), "power/redfish/1/2": ok(NOW - 2, power="On")},
        QUIET,
    ),
    (
        "Off, then a failure",
        {"power/redfish/1/1": ok(NOW - 3, power="Off"), "power/redfish/1/2": bad(NOW - 2)},
        QUIET,
    ),
    (
        "something else is not Off",
        {"power/redfish/1/1": ok(NOW - 3, power="Other"), "power/redfish/1/2": ok(NOW - 2, power="Other")},
        QUIET,
    ),
    (
        "the first was begun before the power-off was accepted",
        {"power/redfish/1/1": ok(NOW - 4, power="Off"), "power/redfish/1/2": ok(NOW - 3, power="Off")},
        QUIET,
    ),
    (
        "both in one breath",
        {"power/redfish/1/1": ok(NOW - 3, power="Off"), "power/redfish/1/2": ok(NOW - 2.7, power="Off")},
        QUIET,
    ),
    (
        "not one after the other",
        {"power/redfish/1/1": ok(NOW - 3, power="Off"), "power/redfish/1/3": ok(NOW - 2, power="Off")},
        QUIET,
    ),
    (
        "of another attempt",
        {"power/redfish/2/1": ok(NOW - 3, power="Off"), "power/redfish/2/2": ok(NOW - 2, power="Off")},
        QUIET,
    ),
    ("the host renewed its Lease after the first", OFF_TWICE, replace(QUIET, last_sign=NOW - 2.5)),
    ("the host has not been silent for long", OFF_TWICE, replace(QUIET, last_sign=NOW - 11)),
    ("we have been deaf ourselves", OFF_TWICE, replace(QUIET, last_sign=NOW - 60, known_until=NOW - 50)),
]


@pytest.mark.parametrize("reason, readings, signs", NO_PROOF, ids=[case[0] for case in NO_PROOF])
def test_no_proof(reason: str, readings: Mapping[str, Answer], signs: Signs) -> None:
    step = look([OFF_1], {OFF_1: ACCEPTED, **readings}, signs)
    assert step.receipt is None
    assert step.progress.asked == (OFF_1,), "and nothing is done twice"


def test_silence_that_is_too_short_is_waited_for_and_the_readings_stand() -> None:
    step = look([OFF_1], {OFF_1: ACCEPTED, **OFF_TWICE}, replace(QUIET, last_sign=NOW - 10))
    assert ids(step) == [OFF_1, *OFF_TWICE]
    assert step.after == 2.0
    assert "silent for long enough" in step.why


@pytest.mark.parametrize("answer", [bad(NOW - 4, "timeout"), Answer(False, NOW - 4, NOW - 4, {}, "nobody knows")])
def test_a_failed_or_unknown_power_off_is_looked_at_before_the_next(answer: Answer) -> None:
    step = look([OFF_1], {OFF_1: answer})
    assert ids(step) == [OFF_1, "power/redfish/1/1"]
    assert step.progress.asked == (OFF_1,)
    for power in ("On", "Off"):
        step = look([OFF_1], {OFF_1: answer, "power/redfish/1/1": ok(NOW - 3, power=power)})
        assert step.receipt is None, "Off alone proves nothing: it must have been accepted"
        assert step.progress.asked == (OFF_2,)
        assert step.progress.tried == (Tried("redfish", answer.error),)
        assert ids(step) == [OFF_2]


def test_two_offs_without_an_accepted_power_off_are_no_proof() -> None:
    step = look([OFF_1], {OFF_1: bad(NOW - 4), **OFF_TWICE})
    assert step.receipt is None


def test_a_deaf_switch_makes_room_for_the_next_and_its_reason_is_kept() -> None:
    answers = {OFF_1: bad(NOW - 4, "no route to bmc-1"), "power/redfish/1/1": bad(NOW - 3, "no route to bmc-1")}
    step = look([OFF_1], answers, switches=BOTH)
    assert step.progress.asked == (OFF_1, IPMI_1)
    why = "no route to bmc-1; and its power cannot be read: no route to bmc-1"
    assert step.progress.tried == (Tried("redfish", why),)
    assert ids(step) == [IPMI_1]
    assert why in step.why


def test_attempts_are_counted_before_the_next_provider() -> None:
    refused = {"power/redfish/2/1": ok(NOW - 3, power="On"), OFF_2: bad(NOW - 4, "403")}
    assert look([OFF_2], refused, switches=BOTH).progress.asked == (OFF_2, IPMI_1)
    config = fencing({"provider": "redfish", "attempts": 3}, "ipmi")
    assert look([OFF_2], refused, switches=BOTH, config=config).progress.asked == ("power-off/redfish/3",)


def test_after_the_last_provider_there_is_a_pause_and_then_the_first() -> None:
    answers = {IPMI_1: bad(NOW - 30), "power/ipmi/1/1": bad(NOW - 20)}
    step = look([OFF_2, IPMI_1], answers, switches=BOTH)
    assert step.progress.asked == (OFF_2, IPMI_1)
    assert ids(step) == [IPMI_1, "power/ipmi/1/1"], "or the failure would be forgotten"
    assert step.after == pytest.approx(10.1)
    assert "No provider could prove that the host is down" in step.why
    answers = {IPMI_1: bad(NOW - 50), "power/ipmi/1/1": bad(NOW - 40)}
    assert look([OFF_2, IPMI_1], answers, switches=BOTH).progress.asked == (IPMI_1, "power-off/redfish/3")


STUCK = [
    ("still On", "On", QUIET, "it accepted a power-off, and 30 s later it still says On"),
    (
        "a liar",
        "Off",
        replace(QUIET, last_sign=NOW - 0.5),
        "it says Off and the host gives signs of life: it lies, or is wired to another host",
    ),
]


@pytest.mark.parametrize("reason, power, signs, why", STUCK, ids=[case[0] for case in STUCK])
def test_an_accepted_power_off_without_effect_fails_in_time(reason: str, power: str, signs: Signs, why: str) -> None:
    answers = {
        OFF_1: ok(NOW - 31),
        "power/redfish/1/7": ok(NOW - 2, power=power),
        "power/redfish/1/8": ok(NOW - 1, power=power),
    }
    step = look([OFF_1], answers, signs, switches=BOTH, config=fencing({"provider": "redfish", "attempts": 1}, "ipmi"))
    assert step.progress.tried == (Tried("redfish", why),)
    assert step.progress.asked == (OFF_1, IPMI_1)


def test_readings_are_spaced_and_only_the_last_is_kept() -> None:
    answers = {
        OFF_1: ok(NOW - 4),
        "power/redfish/1/3": ok(NOW - 1, power="On"),
        "power/redfish/1/4": ok(NOW - 0.2, power="On"),
    }
    step = look([OFF_1], answers)
    assert ids(step) == [OFF_1, "power/redfish/1/4"]
    assert step.after == pytest.approx(0.4)
    answers["power/redfish/1/4"] = ok(NOW - 0.6, power="On")
    assert ids(look([OFF_1], answers)) == [OFF_1, "power/redfish/1/4", "power/redfish/1/5"]


REBOOTED = [
    ("the same machine booted", {"boot_id": "boot-b"}, "Rebooted"),
    ("another machine took the name", {"boot_id": "boot-b", "machine": "machine-2"}, None),
    ("the same boot", {}, None),
    ("no Node", {"boot_id": "", "node": "Gone"}, None),
    ("a Node that cannot be read", {"boot_id": "boot-b", "node": "Unknown"}, None),
]


@pytest.mark.parametrize("reason, signs, how", REBOOTED, ids=[case[0] for case in REBOOTED])
def test_a_host_that_booted_by_itself_is_not_powered_off(reason: str, signs: dict[str, Any], how: str | None) -> None:
    step = look(signs=replace(QUIET, last_sign=NOW, **signs))
    assert (step.receipt.how if step.receipt else None) == how
    assert bool(step.asks) == (how is None)


def test_somebodys_word_counts_for_the_incarnation_that_failed_and_while_the_host_is_silent() -> None:
    word = Confirmation("boot-a", "ada", "pulled the plug")
    step = look(switches=None, signs=replace(QUIET, confirmed=word))
    assert step.receipt is not None
    assert (step.receipt.provider, step.receipt.how) == ("manual", "Confirmed")
    assert step.receipt.proof == "the word of ada (pulled the plug)"
    earlier = look(switches=None, signs=replace(QUIET, confirmed=word._replace(incarnation="boot-0")))
    assert earlier.receipt is None
    assert "boot-0, which is not the one that failed" in earlier.why
    alive = look(switches=None, signs=replace(QUIET, confirmed=word, last_sign=NOW - 1))
    assert alive.receipt is None
    assert "signs of life" in alive.why


CLOUD = [
    ("deleted by its cloud", "gce://x", {"node": "Gone"}, True),
    ("not of a cloud", "", {"node": "Gone"}, False),
    ("still there", "gce://x", {}, False),
    ("cannot be read", "gce://x", {"node": "Unknown"}, False),
    ("deleted by hand, and alive", "gce://x", {"node": "Gone", "last_sign": NOW - 3}, False),
]


@pytest.mark.parametrize("reason, provider_id, signs, proved", CLOUD, ids=[case[0] for case in CLOUD])
def test_a_node_deleted_by_its_cloud(reason: str, provider_id: str, signs: dict[str, Any], proved: bool) -> None:
    known = replace(QUIET, **signs)
    step = look(switches=None, signs=known, config=fencing("cloud"), provider_id=provider_id)
    assert bool(step.receipt) == proved
    undeclared = look(switches=None, signs=known, provider_id=provider_id)
    assert undeclared.receipt is None, "only if the administrator says so"


def test_a_watchdog_counts_only_when_it_is_declared_and_after_its_time() -> None:
    config = fencing({"provider": "watchdog", "afterSeconds": 60})
    step = look(switches=None, config=config)
    assert step.receipt is not None
    assert (step.receipt.provider, step.receipt.how) == ("watchdog", "StoppedItself")
    assert look(switches=None, config=config, signs=replace(QUIET, last_sign=NOW - 59)).receipt is None
    assert look(switches=None, config=config, signs=replace(QUIET, known_until=NOW - 1)).receipt is None
    assert look(switches=None, signs=replace(QUIET, last_sign=NOW - 10_000)).receipt is None


def test_without_any_way_it_says_what_would_help() -> None:
    step = look(switches=None, config=fencing("redfish", "cloud"))
    assert step.asks == ()
    assert step.why == (
        "Nothing can power this host off. Cloud: the Node has no providerID, so no cloud looks after it. "
        "Redfish: the Host declares no such power switch in spec.bmc. "
        "If you are certain that host-1 is down and stays down, confirm it: "
        "spec.confirmedDown with incarnation boot-a."
    )


def test_a_third_partys_switch_is_asked_by_its_name() -> None:
    acme = bmc(plugin={"provider": "acme", "parameters": {"outlet": "7"}, "credentials": "acme"})
    step = look(switches=acme)
    assert step.progress.asked == ("power-off/acme/1",)
    assert step.asks[0].request["parameters"]["parameters"] == {"outlet": "7"}
    assert step.asks[0].deadline == 30.0
    impostor = bmc(plugin={"provider": "manual"})
    assert look(switches=impostor).asks == ()


# medik8s

MEDIK8S = fencing({"provider": "medik8s", "template": {"namespace": "far", "name": "default"}})


def template() -> FenceAgentsRemediationTemplate:
    tree = {"metadata": {"name": "default"}, "spec": {"template": {"spec": {"agent": "fence_ipmilan"}}}}
    return msgspec.convert(tree, FenceAgentsRemediationTemplate)


MADE = {INCARNATION: "boot-a", FAILURE: "failure-2", ATTEMPT: "remediate/medik8s/1", HEARD: "12:00"}


def remediation(
    made: Mapping[str, str] = MADE, ends: str | None = None, message: str = "", **said: str
) -> FenceAgentsRemediation:
    meta = {"name": "host-1", "namespace": "far", "uid": "far-1", "annotations": dict(made)}
    conditions = [{"type": kind, "status": status, "message": message} for kind, status in said.items()]
    tree = {"metadata": {**meta, "deletionTimestamp": ends}, "status": {"conditions": conditions}}
    return msgspec.convert(tree, FenceAgentsRemediation)


FAR = ["remediate/medik8s/1"]


def test_medik8s_is_asked_by_a_remediation_once_the_intention_is_stored() -> None:
    signs = replace(QUIET, template=template())
    step = look(switches=None, config=MEDIK8S, signs=signs)
    assert (step.progress.asked, step.remediation, step.after) == (tuple(FAR), None, 0.0)
    step = look(FAR, switches=None, config=MEDIK8S, signs=signs)
    assert step.remediation is not None
    assert step.remediation["metadata"]["name"] == "host-1"
    assert step.remediation["metadata"]["namespace"] == "far"
    assert step.remediation["metadata"]["annotations"] == MADE
    assert step.remediation["spec"] == {"agent": "fence_ipmilan"}


REMEDIATED = [
    ("its fence agent has run", remediation(FenceAgentActionSucceeded="True"), 0.0, True),
    ("it has not", remediation(FenceAgentActionSucceeded="Unknown"), 0.0, False),
    ("it only began", remediation(Processing="True"), 0.0, False),
    ("the host lives", remediation(FenceAgentActionSucceeded="True"), 55.0, False),
]


@pytest.mark.parametrize("reason, found, later, proved", REMEDIATED, ids=[case[0] for case in REMEDIATED])
def test_a_remediation_proves(reason: str, found: FenceAgentsRemediation, later: float, proved: bool) -> None:
    signs = replace(
        QUIET,
        template=template(),
        remediation=found,
        remediation_since=NOW - 5,
        last_sign=QUIET.last_sign + later,
    )
    step = look(FAR, switches=None, config=MEDIK8S, signs=signs)
    assert bool(step.receipt) == proved
    if not proved:
        assert step.after == (7.0 if later else 25.0), "somebody must look when it is late, or silent for long enough"


def test_a_remediation_that_takes_too_long_makes_room_for_the_next() -> None:
    signs = replace(QUIET, template=template(), remediation=remediation(), remediation_since=NOW - 31)
    medik8s = {"provider": "medik8s", "attempts": 1, "template": {"namespace": "far", "name": "default"}}
    step = look(FAR, config=fencing(medik8s, "redfish"), signs=signs)
    assert step.progress.asked == (*FAR, OFF_1)
    assert step.progress.tried[0].why.startswith("the remediation takes longer than 30 s")


@pytest.mark.parametrize(
    "found, held, why",
    [
        (Unreadable("the API is not installed"), None, "the API is not installed"),
        (None, Unreadable("forbidden"), "forbidden"),
        (None, None, "its template does not exist"),
        (remediation({}), template(), "kubectl delete fenceagentsremediations -n far host-1"),
        (remediation(ends="2026-01-01T12:00:00Z"), template(), "see that medik8s' operator runs"),
    ],
)
def test_without_what_it_needs_medik8s_is_passed_over(found: Any, held: Any, why: str) -> None:
    medik8s = {"provider": "medik8s", "template": {"namespace": "far", "name": "default"}}
    signs = replace(QUIET, remediation=found, template=held)
    step = look(config=fencing(medik8s, "redfish"), signs=signs)
    assert step.progress.asked == (OFF_1,)
    assert why in step.why


OLD = [
    ("of another life", {**MADE, INCARNATION: "boot-0"}, "12:00", "True"),
    ("of an earlier failure of the same life", {**MADE, FAILURE: "failure-1"}, "12:00", "True"),
    ("of before it was known for what", {INCARNATION: "boot-a"}, "12:00", "True"),
    ("from before the host was heard", MADE, "12:01", "True"),
    ("of an attempt that came to nothing", {**MADE, ATTEMPT: "remediate/medik8s/0"}, "12:00", "False"),
]


@pytest.mark.parametrize("reason, made, renewal, succeeded", OLD, ids=[case[0] for case in OLD])
def test_a_remediation_of_ours_that_proves_nothing_is_withdrawn_and_made_anew(
    reason: str, made: Mapping[str, str], renewal: str, succeeded: str
) -> None:
    found = remediation(made, FenceAgentActionSucceeded=succeeded)
    signs = replace(QUIET, template=template(), remediation=found, remediation_since=NOW - 86400, renewal=renewal)
    first = look(switches=None, config=MEDIK8S, signs=signs)
    assert (first.progress.asked, first.withdrawn, first.receipt) == (tuple(FAR), None, None)
    step = look(FAR, switches=None, config=MEDIK8S, signs=signs)
    assert (step.receipt, step.withdrawn, step.remediation) == (None, found, None)
    ends = remediation(made, ends="2026-01-01T12:00:00Z", FenceAgentActionSucceeded=succeeded)
    ending = replace(signs, remediation=ends, remediation_since=NOW - 1)
    step = look(FAR, switches=None, config=MEDIK8S, signs=ending)
    assert (step.receipt, step.withdrawn, step.remediation, step.after) == (None, None, None, 29.0)
    step = look(FAR, switches=None, config=MEDIK8S, signs=replace(ending, remediation=None))
    assert step.remediation is not None
    assert step.remediation["metadata"]["annotations"][HEARD] == renewal


def test_a_remediation_that_succeeded_late_proves_in_every_attempt() -> None:
    """A Lease that is gone with its Node was not renewed."""
    found = remediation(FenceAgentActionSucceeded="True")
    signs = replace(QUIET, remediation=found, remediation_since=NOW - 600, renewal="")
    step = look(["remediate/medik8s/2"], switches=None, config=MEDIK8S, signs=signs)
    assert step.receipt is not None


def test_a_remediation_that_comes_to_nothing_is_tried_again_once_in_a_pause() -> None:
    """Not at each look: an attempt that finds the remediation of the one before begins with another."""
    found = remediation(FenceAgentActionSucceeded="False", message="no route")
    asked, steps = FAR, []
    signs = replace(QUIET, template=template(), remediation=found, remediation_since=NOW - 31)
    step = look(asked, switches=None, config=MEDIK8S, signs=signs)
    assert (step.progress.asked, step.after) == (tuple(FAR), 29.0)
    assert step.progress.tried[0].why == "the remediation takes longer than 30 s: no route"
    later = replace(signs, remediation_since=NOW - 61)
    for _ in range(5):
        step = look(asked, switches=None, config=MEDIK8S, signs=later)
        steps.append(step)
        asked = list(step.progress.asked)
    assert asked == ["remediate/medik8s/2"]
    assert steps[-1].withdrawn == found


def test_no_power_is_cut_by_who_hears_nothing() -> None:
    deaf = replace(QUIET, known_until=NOW - 10)
    first = look(signs=deaf)
    assert (first.progress.asked, first.asks, first.after) == ((), (), 1.0)
    assert "nothing is heard of hosts" in first.why.lower()
    again = {OFF_1: bad(NOW - 40), "power/redfish/1/1": ok(NOW - 39, power="On")}
    later = look([OFF_1], again, signs=deaf)
    assert later.progress.asked == (OFF_1,)
    assert [ask.id for ask in later.asks] == [OFF_1, "power/redfish/1/1"], "its answers are kept"
    assert look([OFF_1], again).progress.asked == (OFF_2,), "once it hears, it goes on"


def test_no_remediation_is_made_by_who_hears_nothing() -> None:
    """It was stated when the host was heard of, and may have booted since."""
    signs = replace(QUIET, template=template())
    deaf = look(FAR, switches=None, config=MEDIK8S, signs=replace(signs, known_until=NOW - 10))
    assert (deaf.progress.asked, deaf.remediation, deaf.after) == (tuple(FAR), None, 1.0)
    assert "nothing is heard of hosts" in deaf.why.lower()
    old = replace(signs, known_until=NOW - 10, remediation=remediation({**MADE, FAILURE: "failure-1"}))
    assert look(FAR, switches=None, config=MEDIK8S, signs=old).withdrawn == old.remediation
    assert look(FAR, switches=None, config=MEDIK8S, signs=signs).remediation is not None


def test_a_word_that_comes_too_early_counts_as_soon_as_it_may() -> None:
    early = replace(QUIET, last_sign=NOW - 2, confirmed=Confirmation("boot-a", "Ada", "unplugged"))
    step = look(signs=early, switches=None)
    assert step.receipt is None
    assert step.after == 10.0, "nothing else may happen that makes anybody look again"
    known = replace(QUIET, confirmed=early.confirmed)
    assert look(signs=known, switches=None).receipt is not None


def test_a_watchdog_is_looked_for_when_it_is_due() -> None:
    config = fencing({"provider": "watchdog", "afterSeconds": 90})
    assert look(switches=None, config=config).after == 30.0
    assert look(signs=replace(QUIET, last_sign=NOW - 90), switches=None, config=config).receipt is not None
