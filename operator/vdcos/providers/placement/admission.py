"""Admission control: how much capacity is kept free for restarts after a failure, and who may still start."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from vdcos.providers.placement.model import CPU, MEMORY, Amounts, Host, Machine, restart_rank


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


@dataclass(frozen=True, slots=True)
class Admission:
    """The promise in numbers, CPU and memory each, and who may start without breaking it."""

    capacity: Amounts
    """Of all hosts; a cordoned host counts with no more than what is used of it."""
    used: Amounts
    promised: Amounts
    """What is to be kept free."""
    missing: Amounts
    """How much of the promise is not free now; nothing that needs more of that resource may start."""
    available: Amounts
    """What may still be used once those that are admitted have started."""
    admitted: tuple[str, ...]
    """Machines that may start, in the order in which they were looked at."""
    held: Mapping[str, Amounts]
    """Machines that may not, and what they need beyond what was available to them."""


def admission(
    policy: Policy, hosts: Iterable[Host], machines: Iterable[Machine], waiting: Iterable[Machine]
) -> Admission:
    """Who of ``waiting`` may start under a policy for ``hosts``, on which ``machines`` run. Pure.

    Those who wait are looked at in the order of restart (``restart_rank``); one that is held does not hold up those
    after it. A machine that only grows waits with the difference as its requests. Restarts after a failure are not to
    wait here: they use what is kept for them.
    """
    known = sorted(hosts, key=lambda host: host.name)
    used = _sums(known, lambda host, name: host.used.get(name, 0))
    capacity = _sums(known, _counts)
    if isinstance(policy, DedicatedHosts):
        kept = {host.name: host for host in known if host.failover_only}
        others = [host for host in known if not host.failover_only]
        on_kept = [machine for machine in machines if machine.host in kept]
        missing = {name: sum(machine.requests.get(name, 0) for machine in on_kept) for name in (CPU, MEMORY)}
        free_of_others = _sums(others, lambda host, name: _counts(host, name) - host.used.get(name, 0))
        # What daemons use of these hosts was never promised; what machines use of them is promised, and missing.
        not_machines = {
            name: sum(host.used.get(name, 0) for host in kept.values()) - missing[name] for name in (CPU, MEMORY)
        }
        promised = {
            name: max(0, sum(_counts(host, name) for host in kept.values()) - not_machines[name])
            for name in (CPU, MEMORY)
        }
        available = {name: max(0, free_of_others[name]) for name in (CPU, MEMORY)}
    else:
        promised = _promised(policy, known, capacity)
        left = {name: capacity[name] - used[name] - promised[name] for name in (CPU, MEMORY)}
        missing = {name: max(0, -left[name]) for name in (CPU, MEMORY)}
        available = {name: max(0, left[name]) for name in (CPU, MEMORY)}
    admitted: list[str] = []
    held: dict[str, Amounts] = {}
    for machine in sorted(waiting, key=restart_rank):
        needs = {name: machine.requests.get(name, 0) for name in (CPU, MEMORY)}
        lacks = {name: needs[name] - available[name] for name in (CPU, MEMORY) if needs[name] > available[name]}
        if lacks:
            held[machine.key] = lacks
        else:
            admitted.append(machine.key)
            available = {name: available[name] - needs[name] for name in (CPU, MEMORY)}
    return Admission(capacity, used, promised, missing, available, tuple(admitted), held)


def _counts(host: Host, name: str) -> int:
    has = host.allocatable.get(name, 0)
    return has if host.schedulable else min(has, host.used.get(name, 0))


def _sums(hosts: Iterable[Host], amount: Callable[[Host, str], int]) -> dict[str, int]:
    known = tuple(hosts)
    return {name: sum(amount(host, name) for host in known) for name in (CPU, MEMORY)}


def _promised(policy: HostFailures | Percentage, hosts: Iterable[Host], capacity: Amounts) -> dict[str, int]:
    if isinstance(policy, Percentage):
        shares = {CPU: policy.cpu, MEMORY: policy.memory}
        return {name: -(-capacity[name] * shares[name] // 100) for name in (CPU, MEMORY)}
    known = tuple(hosts)
    return {
        name: sum(sorted((_counts(host, name) for host in known), reverse=True)[: max(0, policy.tolerated)])
        for name in (CPU, MEMORY)
    }
