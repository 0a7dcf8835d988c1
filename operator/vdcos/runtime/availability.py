"""Metrics of high availability: how long the stages of failures take, what proved them, what would come of further
ones, and what is kept free for that.

All of it is read from what the store holds. Durations are by this process's own clock, of what it has seen begin: who
has taken over in the middle of a stage says nothing about that one.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import prometheus_client
from prometheus_client.core import GaugeMetricFamily

from vdcos import api
from vdcos.core import failures, metrics
from vdcos.core.foreign.kubernetes import NODE_LEASES, Lease
from vdcos.core.foreign.workloads import amounts_of
from vdcos.core.objects import Key, Own
from vdcos.providers.failover.outlook import NO_OUTLOOK, OUTLOOK, RESTARTS
from vdcos.runtime.metrics import counter, gauge, histogram
from vdcos.runtime.store import Store

SECONDS = (0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)

STAGES = {
    "Suspect": "fence",
    "Held": "fence",
    "Fencing": "fence",
    "Releasing": "release",
    "Restarting": "restart",
}
"""What a failure is at, by its phase. Before it is declared, its host is being detected."""


class Availability:
    """``leading`` says whether this replica acts: others see the same failures, and do not count them once more."""

    def __init__(
        self,
        registry: prometheus_client.CollectorRegistry,
        store: Store,
        leading: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._store, self._leading, self._clock = store, leading, clock
        self._began: dict[str, tuple[str, float]] = {}
        """By the uid of a failure: its stage, and when that was seen to begin."""
        self._stages = histogram(metrics.STAGES, registry, SECONDS)
        for stage in ("detect", *STAGES.values()):
            self._stages.labels(stage)  # from 0 on: the first of what is rare must be an increase
        self._receipts = counter(metrics.RECEIPTS, registry)
        store.subscribe(self.heard)

    def heard(self, kind: type[Any], old: Any, new: Any) -> None:
        """A listener of the store."""
        if kind is not api.HostFailure:
            return
        if not isinstance(new, Own):
            if isinstance(old, Own):
                self._began.pop(old.metadata.uid, None)
            return
        before = failures.slim(old.raw) if isinstance(old, Own) else None
        after, now, leading = failures.slim(new.raw), self._clock(), self._leading()
        uid = new.metadata.uid
        if leading and before is not None and before.status.receipt is None and after.status.receipt is not None:
            self._receipts.labels(after.status.receipt.provider, after.status.receipt.how).inc()
        if before is None and not after.status.phase:
            since = self._store.silent_since(Lease, Key(NODE_LEASES, after.spec.host))
            if leading and since is not None and since > -float("inf"):
                self._stages.labels("detect").observe(max(0.0, now - since))
            self._began[uid] = "fence", now
            return
        stage = STAGES.get(after.status.phase, "" if after.status.phase else "fence")
        known = self._began.get(uid)
        if known is not None and known[0] == stage:
            return
        false_alarm = after.status.outcome == "FalseAlarm"
        if known is not None and known[0] and leading and not false_alarm:
            self._stages.labels(known[0]).observe(now - known[1])
        if known is not None or before is not None:
            self._began[uid] = stage, now
        if after.status.phase == "Completed":
            self._began.pop(uid, None)


def foretold(store: Store) -> Iterator[GaugeMetricFamily]:
    """What would come of failures, as the outlook was made last, and policies as they say themselves."""
    made, policies = store.derived_last(OUTLOOK), list(_readable(store))
    outlook = made or NO_OUTLOOK
    fates = Counter((fate.policy, fate.reason) for fate in outlook.vms.values())
    if made is not None:
        fates.update({(policy.metadata.name, RESTARTS): 0 for policy in policies})  # none is a number, too
    yield gauge(metrics.HA_VMS, sorted(fates.items()))
    plans = gauge(metrics.HA_PLANS)
    for name, plan in sorted(outlook.hosts.items()):
        plans.add_metric((name, "restarts"), plan.restarts)
        plans.add_metric((name, "stays"), plan.stays)
    yield plans
    yield from _policies(policies)


def _readable(store: Store) -> Iterator[api.HAPolicy]:
    held: Mapping[Any, Any] = store.shelf(api.HAPolicy).objects
    for key in sorted(held):
        with contextlib.suppress(api.InvalidObject):
            yield store.parse(api.HAPolicy, held[key])


_CAPACITY = {
    "promised": (metrics.HA_PROMISED_CPU, metrics.HA_PROMISED_MEMORY),
    "available": (metrics.HA_AVAILABLE_CPU, metrics.HA_AVAILABLE_MEMORY),
    "missing": (metrics.HA_MISSING_CPU, metrics.HA_MISSING_MEMORY),
}
"""By the fields of ``HAPolicy.status.failoverCapacity``."""


def _policies(policies: Iterable[api.HAPolicy]) -> Iterator[GaugeMetricFamily]:
    waiting = gauge(metrics.HA_WAITING)
    capacity = {what: (gauge(cpu), gauge(memory)) for what, (cpu, memory) in _CAPACITY.items()}
    for policy in policies:
        name, status = policy.metadata.name, policy.status
        if status.waiting is not None:
            waiting.add_metric((name,), status.waiting.count)
        if status.failover_capacity is None:
            continue
        for what, amount in status.failover_capacity.manifest().items():
            found = amounts_of(amount)
            cpu, memory = capacity[what]
            cpu.add_metric((name,), found.cpu / 1000)
            memory.add_metric((name,), found.memory)
    yield waiting
    for pair in capacity.values():
        yield from pair
