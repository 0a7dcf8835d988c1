"""Admission control: how much capacity is kept free for restarts after a failure, and who may still start."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from vdcos.providers.placement.model import CPU, MEMORY, Amounts, Host, Machine, restart_rank

_BOTH = (0, 1)
"""CPU and memory, where they are counted as pairs."""


@dataclass(frozen=True, slots=True)
class HostFailures:
    """Any ``tolerated`` hosts may fail: of each resource, as much is kept free as the largest hosts have together."""

    tolerated: int


@dataclass(frozen=True, slots=True)
class Percentage:
    """A share of the capacity of all hosts is kept free, in whole percent."""

    cpu: int
    memory: int


@dataclass(frozen=True, slots=True)
class DedicatedHosts:
    """The hosts that are ``failover_only`` are kept free."""


Policy = HostFailures | Percentage | DedicatedHosts


class Share(NamedTuple):
    """What one host adds to the sums. Pairs of CPU in thousandths of a core and memory in bytes."""

    has: tuple[int, int]
    used: tuple[int, int] = (0, 0)
    """What all its pods request."""
    by_machines: tuple[int, int] = (0, 0)
    """What machines request of that; matters only where it is ``failover_only``."""
    schedulable: bool = True
    """False: cordoned. Then it counts with no more than what is used of it."""
    failover_only: bool = False


@dataclass(frozen=True, slots=True)
class Promise:
    """What is kept free, in numbers, CPU and memory each."""

    capacity: Amounts
    """Of all hosts; a cordoned host counts with no more than what is used of it."""
    used: Amounts
    promised: Amounts
    """What is to be kept free."""
    missing: Amounts
    """How much of the promise is not free now; nothing that needs more of that resource may start."""
    available: Amounts
    """What may still be used beside it."""


@dataclass(frozen=True, slots=True)
class Admission(Promise):
    """And who may start without breaking it; ``available`` is what is left once they have."""

    admitted: tuple[str, ...]
    """Machines that may start, in the order in which they were looked at."""
    held: Mapping[str, Amounts]
    """Machines that may not, and what they need beyond what was available to them."""


def promise(policy: Policy, hosts: Iterable[Share], underway: Amounts | None = None) -> Promise:
    """What a policy promises for some hosts, and what is left beside it. Pure.

    ``underway`` is what was admitted and is on no host yet: it counts as used. What daemons use of dedicated failover
    hosts was never promised; what machines use of them was, and is missing.
    """
    dedicated = isinstance(policy, DedicatedHosts)
    pending = _of(underway or {})
    counted: tuple[list[int], list[int]] = ([], [])
    used, free, kept, on_kept = [0, 0], [0, 0], [0, 0], [0, 0]
    for share in hosts:
        for each in _BOTH:
            has = share.has[each] if share.schedulable else min(share.has[each], share.used[each])
            counted[each].append(has)
            used[each] += share.used[each]
            if dedicated and share.failover_only:
                kept[each] += has - share.used[each] + share.by_machines[each]
                on_kept[each] += share.by_machines[each]
            else:
                free[each] += has - share.used[each]
    if dedicated:
        promised, missing = [max(0, each) for each in kept], on_kept
        left = [free[each] - pending[each] for each in _BOTH]
    else:
        promised = _promised(policy, counted)
        left = [free[each] - pending[each] - promised[each] for each in _BOTH]
        missing = [max(0, -each) for each in left]
    return Promise(
        capacity=_pair([sum(each) for each in counted]),
        used=_pair([used[each] + pending[each] for each in _BOTH]),
        promised=_pair(promised),
        missing=_pair(missing),
        available=_pair([max(0, each) for each in left]),
    )


def admission(
    policy: Policy, hosts: Iterable[Host], machines: Iterable[Machine], waiting: Iterable[Machine]
) -> Admission:
    """Who of ``waiting`` may start under a policy for ``hosts``, on which ``machines`` run. Pure.

    Those who wait are looked at in the order of restart (``restart_rank``); one that is held does not hold up those
    after it. A machine that only grows waits with the difference as its requests. Restarts after a failure are not to
    wait here: they use what is kept for them.
    """
    on: dict[str, list[int]] = {}
    for machine in machines:
        requests = on.setdefault(machine.host, [0, 0])
        for each, amount in enumerate(_of(machine.requests)):
            requests[each] += amount
    shares = [
        Share(
            _of(host.allocatable),
            _of(host.used),
            (on[host.name][0], on[host.name][1]) if host.name in on else (0, 0),
            host.schedulable,
            host.failover_only,
        )
        for host in hosts
    ]
    found = promise(policy, shares)
    available = dict(found.available)
    admitted: list[str] = []
    held: dict[str, Amounts] = {}
    for machine in sorted(waiting, key=restart_rank):
        needs = _pair(_of(machine.requests))
        lacks = {name: needs[name] - available[name] for name in (CPU, MEMORY) if needs[name] > available[name]}
        if lacks:
            held[machine.key] = lacks
        else:
            admitted.append(machine.key)
            available = {name: available[name] - needs[name] for name in (CPU, MEMORY)}
    return Admission(found.capacity, found.used, found.promised, found.missing, available, tuple(admitted), held)


def _promised(policy: HostFailures | Percentage | DedicatedHosts, counted: tuple[list[int], list[int]]) -> list[int]:
    if isinstance(policy, Percentage):
        return [-(-sum(counted[each]) * share // 100) for each, share in enumerate((policy.cpu, policy.memory))]
    tolerated = policy.tolerated if isinstance(policy, HostFailures) else 0
    return [sum(sorted(amounts, reverse=True)[: max(0, tolerated)]) for amounts in counted]


def _of(amounts: Amounts) -> tuple[int, int]:
    return amounts.get(CPU, 0), amounts.get(MEMORY, 0)


def _pair(amounts: Iterable[int]) -> dict[str, int]:
    return dict(zip((CPU, MEMORY), amounts, strict=True))
