"""BMCs: what they say of their host, what they do to it, and how they fail."""

import math
from dataclasses import replace

import pytest

from vdcos.testing.hypervisor import bmc, node, step
from vdcos.testing.hypervisor.values import (
    ClearFault,
    Event,
    Fault,
    Hang,
    Host,
    Partition,
    PowerOff,
    Recover,
    SetFault,
)

ON = Host("host-1", 1, connected=True)
DARK = replace(ON, powered=False, connected=False)


def after(host: Host, *events: Event) -> Host:
    for event in events:
        host = step(host, event, 1_000.0).host
    return host


def test_it_says_whether_the_host_has_power() -> None:
    assert bmc.power(ON) == "On"
    assert bmc.power(after(ON, PowerOff())) == "Off"
    assert bmc.power(after(ON, Hang())) == bmc.power(after(ON, Partition())) == "On"


RESETS = [
    ("ForceOff", ON, (PowerOff(),)),
    ("ForceOff", DARK, ()),
    ("On", DARK, (Recover(),)),
    ("On", ON, ()),
    ("On", after(ON, Partition()), ()),
    ("On", after(ON, Hang()), ()),
    ("ForceRestart", ON, (PowerOff(), Recover())),
    ("ForceRestart", DARK, (Recover(),)),
]


@pytest.mark.parametrize("kind, host, events", RESETS)
def test_resets(kind: str, host: Host, events: tuple[Event, ...]) -> None:
    assert bmc.reset(host, kind) == events


@pytest.mark.parametrize("state", [(), (Partition(),), (Hang(),)])
def test_a_power_off_ends_the_incarnation_whatever_state_the_host_is_in(state: tuple[Event, ...]) -> None:
    host = after(ON, *state)
    off = after(host, *bmc.reset(host, "ForceOff"))
    assert (off.powered, off.hung, off.connected) == (False, False, False)
    booted = after(off, *bmc.reset(off, "On"))
    assert booted.powered
    assert node.boot_id(booted) != node.boot_id(host)
    assert node.system_uuid(booted) == node.system_uuid(host)


def test_a_liar_says_off_and_does_nothing() -> None:
    host = after(ON, SetFault(Fault.LIAR))
    assert bmc.power(host) == "Off"
    assert bmc.reset(host, "ForceOff") == bmc.reset(host, "ForceRestart") == ()
    assert bmc.power(after(host, ClearFault(Fault.LIAR))) == "On"


def test_how_long_it_takes() -> None:
    assert bmc.delay(ON) == 0
    assert bmc.delay(after(ON, SetFault(Fault.BMC_SLOW, seconds=4.0))) == 4.0
    assert bmc.delay(after(ON, SetFault(Fault.BMC_TIMEOUT))) == math.inf
    dying = after(ON, SetFault(Fault.BMC_DEAD))
    assert bmc.delay(dying) == 0
    dead = after(dying, PowerOff())
    assert bmc.delay(dead) == math.inf
    assert bmc.delay(after(dead, Recover())) == 0
