"""A silence wakes who waits for it once, and an object that keeps changing wakes nobody."""

from collections.abc import Iterable

import pytest

from vdcos.core.foreign.kubernetes import Lease
from vdcos.core.objects import Key
from vdcos.core.plan import Silence
from vdcos.runtime.queue import Item
from vdcos.runtime.silences import Silences

A, B = Key("kube-node-lease", "a"), Key("kube-node-lease", "b")
POLICY, OTHER = Item("hapolicy", Key("", "one")), Item("hapolicy", Key("", "two"))


@pytest.fixture
def changed() -> dict[Key, float]:
    return {A: 100.0, B: 104.0}


@pytest.fixture
def silences(changed: dict[Key, float]) -> Silences:
    return Silences(lambda kind, key: changed.get(key))


def of(*keys: Key, seconds: float = 15.0) -> Iterable[Silence]:
    return [Silence(Lease, key, seconds) for key in keys]


def test_it_is_over_when_nothing_has_changed_for_so_long(silences: Silences) -> None:
    silences.settle(POLICY, of(A, B), 105.0)
    assert silences.next_due() == 115.0
    assert silences.over(114.9) == []
    assert silences.over(115.0) == [POLICY]
    assert silences.next_due() == 119.0
    assert silences.over(130.0) == [POLICY]
    assert silences.next_due() is None


def test_a_change_puts_it_off(silences: Silences, changed: dict[Key, float]) -> None:
    silences.settle(POLICY, of(A), 105.0)
    changed[A] = 110.0
    assert silences.over(120.0) == []
    assert silences.next_due() == 125.0


def test_what_is_silent_already_was_seen(silences: Silences) -> None:
    silences.settle(POLICY, of(A), 115.0)
    assert silences.next_due() is None


def test_what_is_not_there_cannot_be_silent(silences: Silences, changed: dict[Key, float]) -> None:
    silences.settle(POLICY, of(Key("", "none"), A), 105.0)
    del changed[A]
    assert silences.next_due() is None


def test_the_last_look_counts(silences: Silences) -> None:
    silences.settle(POLICY, of(A, B), 105.0)
    silences.settle(POLICY, of(B, seconds=20.0), 105.0)
    assert silences.next_due() == 124.0
    silences.settle(POLICY, of(), 105.0)
    assert silences.next_due() is None


def test_the_same_again_is_not_entered_twice(silences: Silences) -> None:
    silences.settle(POLICY, of(A), 105.0)
    silences.settle(POLICY, of(A), 106.0)
    assert silences.over(115.0) == [POLICY]
    assert silences.over(200.0) == []


def test_longer_and_shorter_again(silences: Silences) -> None:
    silences.settle(POLICY, of(A, seconds=15.0), 105.0)
    silences.settle(POLICY, of(A, seconds=30.0), 105.0)
    silences.settle(POLICY, of(A, seconds=15.0), 105.0)
    assert silences.over(115.0) == [POLICY]
    assert silences.over(200.0) == []


def test_everybody_who_waits_is_woken_and_who_is_gone_is_not(silences: Silences) -> None:
    silences.settle(POLICY, of(A), 105.0)
    silences.settle(OTHER, of(A, B), 105.0)
    assert silences.over(115.0) == [POLICY, OTHER]
    silences.drop(OTHER)
    assert silences.over(200.0) == []
