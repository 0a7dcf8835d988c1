"""What an HAPolicy keeps free for restarts, in numbers, and who waits for it."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from vdcos import api
from vdcos.core import conditions, counts
from vdcos.core.conditions import Condition
from vdcos.core.objects import Key
from vdcos.providers.failover import room
from vdcos.services.hapolicy.seen import Seen

CAPACITY = "FailoverCapacity"
NAMED_WAITING = 100


def unseen(why: str) -> Condition:
    """Nobody knows whether the promise is kept."""
    message = f"What is free cannot be counted, the numbers are of before: {why}. VMs that would need it wait."
    return conditions.unknown(CAPACITY, "CannotCount", message)


class Admission:
    """The failover capacity of one policy."""

    def __init__(self, cr: api.HAPolicy, seen: Seen) -> None:
        self._cr, self._seen = cr, seen

    @property
    def _mode(self) -> str:
        return self._cr.spec.admission_control.mode

    @cached_property
    def _judged(self) -> Mapping[Key, room.Lack | None]:
        """Who waits, in order, and what each lacks."""
        account = self._seen.account
        return account.judged(account.waiting) if account is not None else {}

    @property
    def _held(self) -> list[Key]:
        return [key for key, lack in self._judged.items() if lack is not None and lack.policy == self._cr.metadata.name]

    @property
    def _blind(self) -> str:
        """Why it cannot be seen what pods use; then what was told before stands."""
        return self._seen.account.blind if self._seen.account is not None else ""

    def wakes(self) -> tuple[tuple[type[Any], Key], ...]:
        """VMs that wait, and may go now (each looks for itself; it finds the same), and whoever says of failures what
        is not so any more."""
        free = ((api.VirtualMachine, key) for key, lack in self._judged.items() if lack is None)
        return () if self._blind else (*self._seen.outdated, *free)

    def counted(self, names: Iterable[str]) -> dict[str, Any]:
        """For the status; ``names`` are those of the policy's hosts."""
        if self._blind:
            stored = self._cr.status.manifest()
            return {name: stored[name] for name in ("waiting", "failoverCapacity", "failurePlan") if name in stored}
        held = self._held
        counted: dict[str, Any] = {
            "waiting": {"count": len(held), "names": [str(key) for key in held[:NAMED_WAITING]]},
            "failurePlan": self._seen.outlook.sum(names),
        }
        rooms = self._seen.account.rooms if self._seen.account is not None else ()
        mine = next((each for each in rooms if each.name == self._cr.metadata.name), None)
        if mine is not None and self._mode != "Disabled":
            promise = mine.promise
            amounts = {"promised": promise.promised, "available": promise.available, "missing": promise.missing}
            counted["failoverCapacity"] = {name: room.status(amount) for name, amount in amounts.items()}
        return counted

    def condition(self, status: Mapping[str, Any]) -> Condition:
        """Whether the promise is kept, by the numbers that are in the status: these are not written all the time."""
        if self._mode == "Disabled":
            return conditions.true(CAPACITY, "Disabled", "Nothing is kept free for restarts, as declared.")
        if self._blind:
            return unseen(self._blind)
        told = status.get("failoverCapacity")
        if told is None:
            return conditions.unknown(CAPACITY, "NotCounted", "What is free has not been counted yet.")
        missing, waiting = told["missing"], (status.get("waiting") or {}).get("count", 0)
        lacking = [f"{amount} {name}" for name, amount in missing.items() if amount != "0"]
        if lacking:
            effect = (
                "nothing that needs more of it starts or grows"
                if self._mode == "Enforce"
                else "VMs start all the same (admissionControl.mode is Warn)"
            )
            waits = f"; {counts.some(waiting, 'VM')} wait" if waiting else ""
            message = (
                f"Of the promised failover capacity {' and '.join(lacking)} are not free: {effect}{waits}. "
                "Power off VMs, add hosts, or promise less (spec.admissionControl)."
            )
            return conditions.false(CAPACITY, "CapacityMissing", message)
        if waiting:
            message = (
                f"The promised failover capacity is free; {counts.some(waiting, 'VM')} that would use it wait "
                "(status.waiting). Power off VMs, add hosts, or promise less (spec.admissionControl)."
            )
            return conditions.true(CAPACITY, "Waiting", message)
        return conditions.true(CAPACITY, "Kept", "The promised failover capacity is free.")
