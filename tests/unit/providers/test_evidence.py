"""What is known of a host and what it means: the evidence table row by row, and which row comes before which."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdcos import api
from vdcos.providers.witnesses.evidence import (
    BLIND_SECONDS,
    HEARTBEAT,
    POWER,
    PROBE,
    READY,
    TABLE,
    Evidence,
    Says,
    Thresholds,
    verdict,
)
from vdcos.providers.witnesses.evidence import Testimony as Said  # pytest takes Test... for tests

Name = api.host.Verdict
DEFAULT = Thresholds(lease=15.0, agree=1)
CAREFUL = replace(DEFAULT, agree=2)
FAST = replace(DEFAULT, power_off=5.0)
ALONE: Mapping[str, Says] = {}


def evidence(
    silent: float = 20.0, said: Mapping[str, Says] = ALONE, deaf: float = 0.0, stale: int = 1, hosts: int = 4
) -> Evidence:
    testimony = tuple(Said(witness, says, f"{witness} speaks") for witness, says in said.items())
    return Evidence(deaf, silent, stale, hosts, testimony)


ROWS: list[tuple[str, Evidence, Thresholds, Name]] = [
    ("we hear nothing ourselves", evidence(deaf=BLIND_SECONDS), DEFAULT, "Blind"),
    ("however sure witnesses are", evidence(said={PROBE: "Dead", POWER: "Dead"}, deaf=60.0), FAST, "Blind"),
    ("however fresh the lease is", evidence(0.0, deaf=60.0), DEFAULT, "Blind"),
    ("almost deaf is not deaf", evidence(deaf=BLIND_SECONDS - 0.1), DEFAULT, "Suspect"),
    ("it renews its lease", evidence(0.0), DEFAULT, "Connected"),
    ("almost late", evidence(14.9, {PROBE: "Dead", READY: "Dead"}), DEFAULT, "Connected"),
    ("just late", evidence(15.0, {PROBE: "Dead"}), DEFAULT, "Dead"),
    ("late, and nobody knows", evidence(said={PROBE: "Unknown"}), DEFAULT, "Suspect"),
    ("late, and nobody is asked", evidence(), DEFAULT, "Suspect"),
    ("the probe agrees", evidence(said={PROBE: "Dead"}), DEFAULT, "Dead"),
    ("the node agrees", evidence(said={READY: "Dead"}), DEFAULT, "Dead"),
    ("the heartbeat agrees", evidence(said={HEARTBEAT: "Dead"}), DEFAULT, "Dead"),
    ("the bmc agrees", evidence(said={POWER: "Dead"}), DEFAULT, "Dead"),
    ("a third party agrees", evidence(said={"ping": "Dead"}), DEFAULT, "Dead"),
    ("one of two", evidence(said={PROBE: "Dead", READY: "Unknown"}), CAREFUL, "Suspect"),
    ("two of two", evidence(said={PROBE: "Dead", READY: "Dead"}), CAREFUL, "Dead"),
    ("one that says alive outweighs all", evidence(said={PROBE: "Dead", POWER: "Dead", "ping": "Alive"}), FAST,
     "Isolated"),
    ("its port answers", evidence(said={PROBE: "Alive", READY: "Dead"}), DEFAULT, "Isolated"),
    ("alive and in time", evidence(3.0, {PROBE: "Alive"}), DEFAULT, "Connected"),
    ("no power and no answer", evidence(5.0, {POWER: "Dead", PROBE: "Dead"}), FAST, "Dead"),
    ("no power and no answer, and too soon", evidence(4.9, {POWER: "Dead", PROBE: "Dead"}), FAST, "Connected"),
    ("no power and no answer, and not declared", evidence(14.0, {POWER: "Dead", PROBE: "Dead"}), DEFAULT, "Connected"),
    ("no power, and nobody knocked", evidence(5.0, {POWER: "Dead", PROBE: "Unknown"}), FAST, "Connected"),
    ("no answer, and the bmc does not say", evidence(5.0, {POWER: "Unknown", PROBE: "Dead"}), FAST, "Connected"),
    ("no power and no answer, and a heartbeat", evidence(5.0, {POWER: "Dead", PROBE: "Dead", HEARTBEAT: "Alive"}), FAST,
     "Connected"),
    ("early is enough even if two must agree", evidence(5.0, {POWER: "Dead", PROBE: "Dead"}),
     replace(FAST, agree=3), "Dead"),
    ("most hosts at once", evidence(said={READY: "Dead"}, stale=3), DEFAULT, "ApiTrouble"),
    ("half of the hosts at once", evidence(said={READY: "Dead"}, stale=2), DEFAULT, "Dead"),
    ("most hosts, and this one was asked in vain", evidence(said={PROBE: "Dead"}, stale=3), DEFAULT, "Dead"),
    ("most hosts, and this one answers", evidence(said={PROBE: "Alive"}, stale=3), DEFAULT, "Isolated"),
    ("the only host", evidence(said={READY: "Dead"}, stale=1, hosts=1), DEFAULT, "Dead"),
    ("both of two hosts", evidence(said={READY: "Dead"}, stale=2, hosts=2), DEFAULT, "ApiTrouble"),
    ("most hosts, and no power early", evidence(6.0, {POWER: "Dead", PROBE: "Dead"}, stale=3), FAST, "Dead"),
]  # fmt: skip


@pytest.mark.parametrize("reason, known, thresholds, want", ROWS, ids=[row[0] for row in ROWS])
def test_what_it_means(reason: str, known: Evidence, thresholds: Thresholds, want: Name) -> None:
    assert verdict(known, thresholds).name == want


def test_the_order_of_the_table() -> None:
    assert [row.__name__ for row in TABLE] == [
        "_blind",
        "_power_cut",
        "_connected",
        "_isolated",
        "_api_trouble",
        "_dead",
        "_suspect",
    ]


WHY: list[tuple[Evidence, Thresholds, str]] = [
    (evidence(deaf=60.0), DEFAULT, "the API server has said nothing about Leases: nothing is known of any host"),
    (evidence(0.0), DEFAULT, "it renews its Lease"),
    (
        evidence(said={PROBE: "Dead", HEARTBEAT: "Alive"}),
        DEFAULT,
        "it does not renew its Lease, but lives: heartbeat: heartbeat speaks",
    ),
    (
        evidence(stale=3),
        DEFAULT,
        "3 of 4 hosts do not renew their Leases: hosts and API server may not reach each other",
    ),
    (
        evidence(said={PROBE: "Dead", READY: "Unknown", HEARTBEAT: "Dead"}),
        CAREFUL,
        "it does not renew its Lease; probe: probe speaks; heartbeat: heartbeat speaks",
    ),
    (evidence(5.0, {POWER: "Dead", PROBE: "Dead"}), FAST, "bmc: bmc speaks; probe: probe speaks"),
    (evidence(), CAREFUL, "it does not renew its Lease; no witness says more; 2 must agree"),
    (
        evidence(said={PROBE: "Dead"}),
        CAREFUL,
        "it does not renew its Lease; probe: probe speaks; 2 must agree",
    ),
]


@pytest.mark.parametrize(("known", "thresholds", "want"), WHY)
def test_what_people_are_told(known: Evidence, thresholds: Thresholds, want: str) -> None:
    assert verdict(known, thresholds).why == want


def test_who_has_not_spoken_says_nothing() -> None:
    assert evidence().says(PROBE) == "Unknown"
    assert evidence(said={PROBE: "Dead"}).says(PROBE) == "Dead"


SAYS = st.sampled_from(["Alive", "Dead", "Unknown"])
SAID = st.dictionaries(st.sampled_from([PROBE, POWER, READY, HEARTBEAT, "ping"]), SAYS)
KNOWN = st.builds(
    evidence, st.floats(0.0, 60.0), SAID, st.floats(0.0, 20.0), st.integers(0, 6), st.integers(1, 6)
)  # fmt: skip
WANTED = st.builds(Thresholds, st.floats(2.0, 30.0), st.integers(1, 5), st.none() | st.floats(1.0, 30.0))


@given(KNOWN, WANTED)
def test_nobody_is_dead_who_gives_a_sign_of_life_or_while_we_see_nothing(known: Evidence, wanted: Thresholds) -> None:
    found = verdict(known, wanted).name
    if any(said.says == "Alive" for said in known.testimony) or known.deaf >= BLIND_SECONDS:
        assert found not in ("Dead", "Suspect")
    if known.silent < min(wanted.lease, wanted.power_off or wanted.lease):
        assert found in ("Blind", "Connected")


@given(KNOWN, WANTED, st.sampled_from([PROBE, POWER, READY, HEARTBEAT, "ping"]))
def test_one_more_who_says_dead_brings_nobody_to_life(known: Evidence, wanted: Thresholds, witness: str) -> None:
    if verdict(known, wanted).name == "Dead" and known.says(witness) == "Unknown":
        others = [said for said in known.testimony if said.witness != witness]
        more = replace(known, testimony=(*others, Said(witness, "Dead", "")))
        assert verdict(more, wanted).name == "Dead"
