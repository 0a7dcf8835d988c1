"""Admission control by example, with the numbers that an administrator would check by hand."""

from typing import Any

import pytest

from vdcos.providers import placement as p


def host(name: str, cpu: int, memory: int, used: tuple[int, int] = (0, 0), **fields: Any) -> p.Host:
    return p.Host(name, {"cpu": cpu, "memory": memory}, {"cpu": used[0], "memory": used[1]}, **fields)


def machine(name: str, cpu: int = 0, memory: int = 0, on: str = "", **fields: Any) -> p.Machine:
    return p.Machine("a", name, {"cpu": cpu, "memory": memory}, on, **fields)


def pair(amounts: p.Amounts) -> tuple[int, int]:
    return amounts["cpu"], amounts["memory"]


THREE = [host("h1", 10, 100, (4, 40)), host("h2", 10, 200, (4, 40)), host("h3", 20, 100, (4, 40))]


@pytest.mark.parametrize(
    "policy, promised, missing, available",
    [
        (p.HostFailures(0), (0, 0), (0, 0), (28, 280)),
        (p.HostFailures(1), (20, 200), (0, 0), (8, 80)),
        (p.HostFailures(2), (30, 300), (2, 20), (0, 0)),
        (p.HostFailures(9), (40, 400), (12, 120), (0, 0)),
        (p.Percentage(25, 33), (10, 132), (0, 0), (18, 148)),
        (p.Percentage(0, 100), (0, 400), (0, 120), (28, 0)),
        (p.Percentage(1, 0), (1, 0), (0, 0), (27, 280)),
    ],
)
def test_the_promise_in_numbers(
    policy: p.Policy, promised: tuple[int, int], missing: tuple[int, int], available: tuple[int, int]
) -> None:
    found = p.admission(policy, THREE, [], [])
    assert (pair(found.capacity), pair(found.used)) == ((40, 400), (12, 120))
    assert (pair(found.promised), pair(found.missing)) == (promised, missing)
    assert pair(found.available) == available


def test_dedicated_hosts_promise_what_daemons_leave_of_them() -> None:
    """20 of 30 cores are machines' that restarted there, 1 is a daemon's."""
    spare = host("spare", 30, 300, (21, 110), failover_only=True)
    restarted = [machine("one", 15, 60, "spare"), machine("two", 5, 40, "spare"), machine("three", 4, 40, "h1")]
    found = p.admission(p.DedicatedHosts(), [*THREE, spare], restarted, [machine("new", 28, 1), machine("big", 29, 1)])
    assert (pair(found.promised), pair(found.missing)) == ((29, 290), (20, 100))
    assert found.admitted == ("a/new",)
    assert dict(found.held) == {"a/big": {"cpu": 1}}


def test_those_who_wait_go_in_the_order_of_restart_and_do_not_hold_up_each_other() -> None:
    waiting = [
        machine("low", 1, 1, priority=p.Priority.LOW),
        machine("huge", 9, 10, priority=p.Priority.HIGHEST),
        machine("high", 3, 40, priority=p.Priority.HIGH),
        machine("medium", 6, 10),
    ]
    found = p.admission(p.HostFailures(1), THREE, [], waiting)
    assert found.admitted == ("a/high", "a/low")
    assert dict(found.held) == {"a/huge": {"cpu": 1}, "a/medium": {"cpu": 1}}
    assert pair(found.available) == (4, 39)


def test_capacity_that_becomes_free_lets_the_first_in_line_go() -> None:
    waiting = [machine("one", 8, 80), machine("two", 8, 80)]
    assert p.admission(p.HostFailures(1), THREE, [], waiting).admitted == ("a/one",)
    emptier = [host("h1", 10, 100), host("h2", 10, 200), THREE[2]]
    assert p.admission(p.HostFailures(1), emptier, [], waiting).admitted == ("a/one", "a/two")


def test_who_needs_none_of_what_is_missing_may_go() -> None:
    full = [host("h1", 10, 100, (10, 10)), host("h2", 10, 100, (9, 10))]
    found = p.admission(p.HostFailures(1), full, [], [machine("no-cpu", 0, 80), machine("some", 1, 1)])
    assert pair(found.missing) == (9, 0)
    assert (found.admitted, dict(found.held)) == (("a/no-cpu",), {"a/some": {"cpu": 1, "memory": 1}})


def test_a_cordoned_host_offers_nothing_and_its_machines_still_count() -> None:
    hosts = [host("h1", 10, 100, (4, 40)), host("h2", 10, 100, (4, 40), schedulable=False)]
    found = p.admission(p.HostFailures(1), hosts, [], [])
    assert (pair(found.capacity), pair(found.promised), pair(found.missing)) == ((14, 140), (10, 100), (4, 40))


def test_no_hosts_admit_nobody() -> None:
    for policy in (p.HostFailures(1), p.Percentage(25, 25), p.DedicatedHosts()):
        found = p.admission(policy, [], [], [machine("vm", 1, 1)])
        assert (found.admitted, pair(found.capacity)) == ((), (0, 0))
        assert dict(found.held) == {"a/vm": {"cpu": 1, "memory": 1}}
