"""Where machines can run: placement, what becomes of a host's machines if it dies, and admission control.

Pure functions over ``Host`` and ``Machine`` values. numpy is imported when ``place`` or ``failure_plans`` is first
called, not before. What is decided, and what is not modelled, is told in docs/failure-plan.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vdcos.providers.placement.admission import (
    Admission,
    DedicatedHosts,
    HostFailures,
    Percentage,
    Policy,
    Promise,
    Share,
    admission,
    promise,
)
from vdcos.providers.placement.checked import Checked, ScorerFailed
from vdcos.providers.placement.labels import matches
from vdcos.providers.placement.launcher import launcher_requests, memory_overhead
from vdcos.providers.placement.model import (
    CPU,
    LIMIT,
    MEMORY,
    PODS,
    Amounts,
    Host,
    Machine,
    Placement,
    Priority,
    Reason,
    Requirement,
    Rule,
    Selector,
    Shortage,
    Taint,
    Toleration,
    Unplaced,
    restart_rank,
    with_labels,
)
from vdcos.providers.placement.scoring import BUILTIN, CONTRACT, DEFAULT, ENTRY_POINTS, Broken, Scorer

if TYPE_CHECKING:
    from vdcos.providers.placement.engine import Basis

__all__ = [
    "BUILTIN",
    "CONTRACT",
    "CPU",
    "DEFAULT",
    "ENTRY_POINTS",
    "LIMIT",
    "MEMORY",
    "PODS",
    "Admission",
    "Amounts",
    "Broken",
    "DedicatedHosts",
    "FailurePlans",
    "Host",
    "HostFailures",
    "Machine",
    "Percentage",
    "Placement",
    "Policy",
    "Priority",
    "Promise",
    "Reason",
    "Requirement",
    "Rule",
    "Scorer",
    "Selector",
    "Share",
    "Shortage",
    "Taint",
    "Toleration",
    "Unplaced",
    "admission",
    "failure_plans",
    "launcher_requests",
    "matches",
    "memory_overhead",
    "place",
    "promise",
    "restart_rank",
    "with_labels",
]


@dataclass(frozen=True, slots=True)
class FailurePlans:
    """What becomes of the machines of each host, by its name, if it died now and no other did."""

    by_host: Mapping[str, Placement]
    problem: str = ""
    """Why the scorer that was asked for was not used, or empty."""
    _basis: "Basis | None" = field(default=None, repr=False, compare=False)


def place(
    hosts: Iterable[Host],
    machines: Iterable[Machine],
    order: Sequence[str],
    *,
    restart: bool = False,
    scorer: Scorer = DEFAULT,
) -> Placement:
    """Find a host for each machine that ``order`` names (``namespace/name``), one after the other. Pure.

    A machine in ``order`` leaves its host before the first is placed, and what it held there is free; all others stay.
    ``restart``: these are restarts after a failure, so that failover hosts are open, and machines whose priority is
    Disabled are not restarted. Neither the order of ``hosts`` nor that of ``machines`` matters. A scorer that fails is
    replaced by the default, and ``problem`` says why. Raises ValueError when a host or machine is there twice, or
    ``order`` names one twice or one that is not there.
    """
    from vdcos.providers.placement import engine

    hosts, machines = tuple(hosts), tuple(machines)
    try:
        return engine.place(hosts, machines, order, restart=restart, scorer=Checked.of(scorer))
    except ScorerFailed as failure:
        found = engine.place(hosts, machines, order, restart=restart, scorer=DEFAULT)
        return Placement(found.placed, found.unplaced, str(failure))


def failure_plans(
    hosts: Iterable[Host],
    machines: Iterable[Machine],
    *,
    scorer: Scorer = DEFAULT,
    previous: FailurePlans | None = None,
) -> FailurePlans:
    """For every host, what ``place`` says if it is gone and its machines restart by ``restart_rank``. Pure.

    ``previous`` are plans made of an earlier state: what still stands of them is not made again, which changes the time
    it takes and nothing else. Objects that are the same (``is``) as before are compared fastest. Raises ValueError when
    a host or machine is there twice.
    """
    from vdcos.providers.placement import engine

    hosts, machines = tuple(hosts), tuple(machines)
    problem, basis = "", previous._basis if previous else None
    try:
        made = engine.failure_plans(hosts, machines, Checked.of(scorer), basis)
    except ScorerFailed as failure:
        problem = str(failure)
        made = engine.failure_plans(hosts, machines, DEFAULT, basis)
    return FailurePlans({name: trail.placement for name, trail in made.trails.items()}, problem, made)
