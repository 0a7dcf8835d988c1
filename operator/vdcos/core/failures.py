"""HostFailures, as several vServices see them: which are open, whose VMs they are about, which of these are held."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import msgspec

from vdcos import api
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.objects import Index, Own


class _Spec(msgspec.Struct, frozen=True):
    host: str = ""
    policy: str = ""


class _Machine(msgspec.Struct, frozen=True):
    namespace: str = ""
    name: str = ""
    uid: str = ""
    state: str = ""
    tried_at: str | None = msgspec.field(name="triedAt", default=None)

    @property
    def restarts(self) -> bool:
        """It waits for its turn, starts, or was given up and may start yet."""
        return self.state in ("Held", "Released") or (self.state == "Down" and self.tried_at is not None)


class _Condition(msgspec.Struct, frozen=True):
    type: str = ""
    reason: str = ""


class _Receipt(msgspec.Struct, frozen=True):
    provider: str = ""
    how: str = ""


class _Status(msgspec.Struct, frozen=True):
    phase: str = ""
    outcome: str | None = None
    receipt: _Receipt | None = None
    conditions: tuple[_Condition, ...] = ()
    machines: tuple[_Machine, ...] = ()
    failover: bool = False


class Slim(msgspec.Struct, frozen=True):
    """As much of a HostFailure as says what it is about."""

    spec: _Spec = _Spec()
    status: _Status = _Status()

    @property
    def open(self) -> bool:
        return self.status.phase != "Completed"

    @property
    def waits_for(self) -> str:
        """The reason why it is not over, in one word."""
        return next((known.reason for known in self.status.conditions if known.type == "Ready"), "")


class _Evidence(msgspec.Struct, frozen=True):
    witness: str = ""
    says: str = ""


class _Suspect(msgspec.Struct, frozen=True):
    host: str = ""
    verdict: str = ""
    why: str = ""
    evidence: tuple[_Evidence, ...] = ()


class _PolicyStatus(msgspec.Struct, frozen=True):
    suspects: tuple[_Suspect, ...] = ()
    conditions: tuple[_Condition, ...] = ()


class _Policy(msgspec.Struct, frozen=True):
    status: _PolicyStatus = _PolicyStatus()


_policy = msgspec.json.Decoder(_Policy).decode


def suspects(policy: bytes) -> tuple[_Suspect, ...]:
    """The hosts that an HAPolicy suspects, of its JSON."""
    return _policy(policy).status.suspects


def is_blind(policy: bytes) -> bool:
    """Whether an HAPolicy says that nothing is heard of hosts, of its JSON."""
    return any(known.reason == "Blind" for known in _policy(policy).status.conditions)


# Five indexes and three services ask the same of each version, and its machines may be a thousand.
slim = lru_cache(maxsize=8)(msgspec.json.Decoder(Slim).decode)


def _of_host(own: Own) -> Iterable[str]:
    return (slim(own.raw).spec.host,)


def _open_on(own: Own) -> Iterable[str]:
    failure = slim(own.raw)
    return (failure.spec.host,) if failure.open else ()


def _open_under(own: Own) -> Iterable[str]:
    failure = slim(own.raw)
    return (failure.spec.policy,) if failure.open else ()


def _machines(own: Own) -> Iterable[str]:
    failure = slim(own.raw)
    return {f"{each.namespace}/{each.name}" for each in failure.status.machines} if failure.open else ()


def _held(own: Own) -> Iterable[str]:
    failure = slim(own.raw)
    held = {each.uid for each in failure.status.machines if each.state == "Held"}
    return held - {""} if failure.open else ()


def on_failover_hosts(failure: Slim) -> frozenset[str]:
    """The uids of VirtualMachines that may start on hosts that are kept for failover."""
    if not (failure.open and failure.status.failover):
        return frozenset()
    return frozenset(each.uid for each in failure.status.machines if each.restarts) - {""}


def died(instance: VirtualMachineInstance, uid: str, host: str) -> bool:
    """Whether an instance is the one of this uid that died with the host. A live migration keeps the uid: one that is
    on another host by now had moved away, or had only been meant for the one that failed."""
    return instance.metadata.uid == uid and instance.status.node_name in ("", host)


OF_HOST: Index[Any] = Index(api.HostFailure, _of_host)
"""All failures by host."""
OPEN_ON: Index[Any] = Index(api.HostFailure, _open_on)
"""Those that are not completed, by host."""
OPEN_UNDER: Index[Any] = Index(api.HostFailure, _open_under)
"""Those that are not completed, by policy."""
MACHINES: Index[Any] = Index(api.HostFailure, _machines)
"""Those that are not completed, by ``namespace/name`` of the VMs that ran on the host."""
SUSPECTING: Index[Any] = Index(api.HAPolicy, lambda own: {each.host for each in suspects(own.raw)})
"""Policies by the hosts that are silent: the next sign of life is news for them."""
HELD: Index[Any] = Index(api.HostFailure, _held)
"""Those that hold VMs off until it is their turn, by the uid of the VirtualMachine."""
FAILOVER: Index[Any] = Index(api.HostFailure, lambda own: on_failover_hosts(slim(own.raw)))
"""Those whose VMs may start on hosts that are kept for failover, by the uid of the VirtualMachine."""
