"""The plan of a VirtualMachine: its phases in order, each a paragraph of the user guide."""

from collections.abc import Callable, Sequence

from vdcos import api
from vdcos.core import conditions
from vdcos.core.conditions import Condition
from vdcos.core.plan import Instant, Plan
from vdcos.providers.failover.order import NOT_UP
from vdcos.providers.networks import Problem, Providers
from vdcos.services.virtualmachine import (
    child,
    dependencies,
    disks,
    guest,
    monitoring,
    networks,
    overrides,
    power,
    restart,
    status,
)
from vdcos.services.virtualmachine.case import Case, Said
from vdcos.services.virtualmachine.kubevirt_vm import Card
from vdcos.services.virtualmachine.observe import APPLIED, Seen

STORAGE = "StorageReady"
NETWORK = "NetworkReady"
HARDWARE = "HardwareReady"
DELETING = "Deleting"

NEEDED = (STORAGE, NETWORK, HARDWARE, guest.CUSTOMIZED, APPLIED, power.SYNCED, guest.PLACED)
"""What Ready is made of, most telling first. A VM that is declared off and is off has all of it."""

# How many complaints a message holds; status.disks has the rest.
_LISTED = 3


def plan(cr: api.VirtualMachine, seen: Seen, now: Instant, providers: Providers) -> Plan:
    """Decide. A VM that is being deleted only lets go what is to outlive it: owner references take the rest along. What
    it is, is said for as long as somebody's finalizer holds it."""
    case = Case(cr, seen, now, providers)
    watched = monitoring.watch(case)
    said = [*(phase(case) for phase in PHASES), watched.said]
    going = cr.metadata.deletion_timestamp is not None
    return Plan(
        actions=case.released if going else tuple(action for part in said for action in part.actions),
        conditions=(
            *(condition for part in said for condition in part.conditions),
            *((_deleting(cr),) if going else ()),
        ),
        status=status.fields(case, case.power.state, _restart(said), watched.watch),
        after=min((part.after for part in said if part.after is not None), default=None),
    )


def _refused(case: Case) -> Said:
    """Where no retry can help, somebody has to change something first."""
    if case.taken:
        return Said(conditions=(conditions.stalled("NameTaken", case.taken),))
    for decision in case.disks:
        if decision.reason == disks.NOT_OURS:
            return Said(conditions=(conditions.stalled(disks.NOT_OURS, _of_disk(decision)),))
    if isinstance(case.wanted, overrides.Conflict):
        return Said(conditions=(conditions.stalled("OverrideConflict", f"spec.overrides: {case.wanted}"),))
    return Said()


def _storage(case: Case) -> Said:
    """Every declared disk has its DataVolume, is as large as declared, and goes with the VM only if declared so."""
    actions = tuple(action for decision in case.disks for action in decision.actions) + case.released
    off = case.cr.spec.power_state == "PoweredOff"
    complaints = [d for d in case.disks if d.reason and not (off and d.reason == disks.FIRST_POWER_ON)]
    notes = [f"disk {d.disk.name}: {d.note}" for d in case.disks if d.note]
    if complaints:
        first = complaints[0]
        said = Condition(STORAGE, _status(first.reason), first.reason, _listed([_of_disk(d) for d in complaints]))
    elif case.attaching:
        words = [f"disk {name}: it is being attached to the running VM" for name in case.attaching]
        said = conditions.false(STORAGE, "Attaching", _listed(words))
    elif any(decision.reason for decision in case.disks):
        said = conditions.true(STORAGE, disks.FIRST_POWER_ON, "disks are made where the VM first runs")
    elif notes:
        said = conditions.true(STORAGE, "RetainedDisks", _listed(notes))
    else:
        said = conditions.true(STORAGE, "DisksReady", "all disks are there")
    return Said(actions, (said,))


def _network(case: Case) -> Said:
    """Every declared card has a Network that this namespace may use, and that is available in it."""
    problems = {name: card for name, card in case.cards.items() if isinstance(card, Problem)}
    cards = [card for card in case.cards.values() if isinstance(card, Card)]
    if problems:
        first = next(iter(problems.values()))
        words = _listed([f"NIC {name}: {problem.message}" for name, problem in problems.items()])
        return Said(conditions=(Condition(NETWORK, _status(first.reason), first.reason, words),))
    if len(case.on_pod_network) > 1:
        names = _listed(case.on_pod_network, ", ")
        words = f"KubeVirt connects one NIC at most to the pod network, not {names}; remove one"
        return Said(conditions=(conditions.false(NETWORK, "PodNetworkTwice", words),))
    if unsupported := [words for card in cards if (words := networks.unsupported(card))]:
        return Said(conditions=(conditions.false(NETWORK, "LinkStateUnsupported", _listed(unsupported)),))
    return Said(conditions=(conditions.true(NETWORK, "NetworksReady", "all networks are there"),))


def _hardware(case: Case) -> Said:
    """The instance type and the preference exist, and devices are permitted to this namespace and by KubeVirt."""
    if not case.hardware:
        return Said(conditions=(conditions.true(HARDWARE, "HardwareReady", "nothing stands against the hardware"),))
    reason = case.hardware[0][0]
    words = _listed([message for _, message in case.hardware])
    return Said(conditions=(Condition(HARDWARE, _status(reason), reason, words),))


def _guest(case: Case) -> Said:
    """What the guest is to be given is there, a host is found, and the guest and KubeVirt report back."""
    instance = case.instance if case.facts.up else None
    synchronized, after = guest.synchronized(instance, case.now)
    reports = (guest.agent(instance), guest.migratable(instance), synchronized)
    return Said(conditions=(guest.customization(case), guest.placement(case), *reports), after=after)


def _power(case: Case) -> Said:
    """The VM runs, or does not, as declared."""
    protected = case.seen.protected if case.power.state not in NOT_UP else None
    return Said(conditions=(case.power.condition,) if protected is None else (case.power.condition, protected))


def _running(case: Case) -> Said:
    """What runs is what is declared, or a restart is called for."""
    return Said(conditions=(restart.condition(case),))


def _deleting(cr: api.VirtualMachine) -> Condition:
    """The operator has no finalizer on VMs: it is others who hold one."""
    message = (
        f"being deleted, and held by finalizers of others: {_listed(cr.metadata.finalizers, ', ')}. Nothing is changed "
        "any more; the KubeVirt VM, and disks that are to go with it, go when those are removed"
    )
    return conditions.true(DELETING, "FinalizersRemain", message)


def _order(case: Case) -> Said:
    """It restarts after those that it depends on, and nobody stands in the way of that."""
    found = dependencies.condition(case.seen.order)
    return Said(conditions=(found,) if found is not None else ())


Phase = Callable[[Case], Said]

PHASES: tuple[Phase, ...] = (_refused, _storage, _network, _hardware, child.converge, _guest, _power, _running, _order)


def _restart(said: Sequence[Said]) -> bool:
    return any(c.type == restart.REQUIRED and c.status == "True" for part in said for c in part.conditions)


def _status(reason: str) -> conditions.Status:
    """What cannot be read is unknown; all else is so."""
    return "Unknown" if reason.endswith(("Unreadable", "Unknown")) else "False"


def _of_disk(decision: disks.Decision) -> str:
    return f"disk {decision.disk.name}: {decision.message}"


def _listed(words: Sequence[str], separator: str = "; ") -> str:
    more = len(words) - _LISTED
    return separator.join(words[:_LISTED]) + (f"{separator}and {more} more" if more > 0 else "")
