"""What is known of a host, and what it means: one ordered table. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from vdcos import api
from vdcos.core.foreign.kubernetes import Lease

Says = Literal["Alive", "Dead", "Unknown"]

BLIND_SECONDS = Lease.spell
"""Without a word from the source of Leases for so long, nothing is known of any host."""


class Testimony(NamedTuple):
    """What one witness says of a host besides its Lease, and how it knows, for people."""

    witness: str
    says: Says
    how: str


@dataclass(frozen=True, slots=True)
class Thresholds:
    """As the policy declares them, in seconds."""

    lease: float
    """So long after the last renewal a host may be dead."""
    agree: int
    """So many witnesses must say so, besides the Lease."""
    power_off: float | None = None
    """So long after the last renewal it is enough that the BMC says Off and the probe is not answered."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one host at one moment. Ages are in seconds of our own clock."""

    deaf: float
    """For how long nothing was heard of any Lease."""
    silent: float
    """For how long it is known that the Lease was not renewed."""
    stale_hosts: int
    """How many hosts of all have not renewed their Leases for longer than the policy allows."""
    hosts: int
    testimony: tuple[Testimony, ...] = ()

    def says(self, witness: str) -> Says:
        return next((said.says for said in self.testimony if said.witness == witness), "Unknown")


class Verdict(NamedTuple):
    """What the evidence means, and why, for people."""

    name: api.host.Verdict
    why: str


PROBE, POWER, READY, HEARTBEAT = "probe", "bmc", "node", "heartbeat"
"""The built-in witnesses: kubelet's port, the BMC, the Node's condition Ready, and virt-handler."""


def verdict(evidence: Evidence, thresholds: Thresholds) -> Verdict:
    """The first row of the table that applies."""
    return next(found for row in TABLE if (found := row(evidence, thresholds)) is not None)


def _blind(evidence: Evidence, _: Thresholds) -> Verdict | None:
    """We see nothing ourselves: that says nothing about hosts."""
    if evidence.deaf < BLIND_SECONDS:
        return None
    return Verdict("Blind", "the API server has said nothing about Leases: nothing is known of any host")


def _power_cut(evidence: Evidence, thresholds: Thresholds) -> Verdict | None:
    """A host whose BMC says Off, and that does not answer: nobody has to wait for its Lease."""
    if thresholds.power_off is None or evidence.silent < thresholds.power_off:
        return None
    if evidence.says(POWER) != "Dead" or evidence.says(PROBE) != "Dead" or _alive(evidence):
        return None
    return Verdict("Dead", _listed("Dead", evidence))


def _connected(evidence: Evidence, thresholds: Thresholds) -> Verdict | None:
    """It renews its Lease."""
    return Verdict("Connected", "it renews its Lease") if evidence.silent < thresholds.lease else None


def _isolated(evidence: Evidence, _: Thresholds) -> Verdict | None:
    """It lives, and does not reach the API server, or its kubelet has stopped. Its VMs run: nothing is fenced."""
    if not _alive(evidence):
        return None
    return Verdict("Isolated", f"it does not renew its Lease, but lives: {_listed('Alive', evidence)}")


def _api_trouble(evidence: Evidence, _: Thresholds) -> Verdict | None:
    """Most hosts fell silent at once, and nobody has knocked at this one in vain: the trouble is in between."""
    if evidence.stale_hosts < 2 or evidence.stale_hosts * 2 <= evidence.hosts or evidence.says(PROBE) == "Dead":
        return None
    return Verdict(
        "ApiTrouble",
        f"{evidence.stale_hosts} of {evidence.hosts} hosts do not renew their Leases: hosts and API server may not "
        "reach each other",
    )


def _dead(evidence: Evidence, thresholds: Thresholds) -> Verdict | None:
    """Enough witnesses agree."""
    if sum(said.says == "Dead" for said in evidence.testimony) < thresholds.agree:
        return None
    return Verdict("Dead", f"it does not renew its Lease; {_listed('Dead', evidence)}")


def _suspect(evidence: Evidence, thresholds: Thresholds) -> Verdict:
    """It may be dead, and not enough witnesses say so."""
    said = _listed("Dead", evidence) or "no witness says more"
    return Verdict("Suspect", f"it does not renew its Lease; {said}; {thresholds.agree} must agree")


def _alive(evidence: Evidence) -> bool:
    return any(said.says == "Alive" for said in evidence.testimony)


def _listed(says: Says, evidence: Evidence) -> str:
    return "; ".join(f"{said.witness}: {said.how}" for said in evidence.testimony if said.says == says)


Row = Callable[[Evidence, Thresholds], Verdict | None]

TABLE: Sequence[Row] = (_blind, _power_cut, _connected, _isolated, _api_trouble, _dead, _suspect)
