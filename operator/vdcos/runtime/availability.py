"""Metrics of high availability: states of hosts, phases of failures, how long their stages take, what proved them, what
would come of further ones, and what is kept free for that.

All of it is read from what the store holds. Durations are by this process's own clock, of what it has seen begin: who
has taken over in the middle of a stage says nothing about that one.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import prometheus_client
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from vdcos import api
from vdcos.core import failures, hosts
from vdcos.core.foreign.kubernetes import NODE_LEASES, Lease
from vdcos.core.foreign.workloads import amounts_of
from vdcos.core.objects import Key, Own
from vdcos.providers.failover.outlook import NO_OUTLOOK, OUTLOOK, RESTARTS
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


class Availability(Collector):
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
        self._stages = prometheus_client.Histogram(
            "vdcos_failover_stage_seconds",
            "From the last sign of life to the failure (detect), to its proof (fence), until nothing keeps VMs from "
            "restarting (release), until all are up or given up (restart).",
            ("stage",),
            buckets=SECONDS,
            registry=registry,
        )
        self._receipts = prometheus_client.Counter(
            "vdcos_fence_receipts", "Proofs that a host is down.", ("provider", "how"), registry=registry
        )
        registry.register(self)
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

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """What there is now."""
        yield _counted("vdcos_hosts", "Hosts by state.", "state", map(hosts.state_of, self._raw(api.Host)))
        phases = (failures.slim(raw).status.phase or "Suspect" for raw in self._raw(api.HostFailure))
        yield _counted("vdcos_host_failures", "Failures of hosts by phase, those that are over too.", "phase", phases)

    def _raw(self, kind: type[Any]) -> Iterator[bytes]:
        yield from (own.raw for own in list(self._store.shelf(kind).objects.values()) if isinstance(own, Own))


class Foretold(Collector):
    """The outlook as it was made last, and policies as they say themselves."""

    def __init__(self, registry: prometheus_client.CollectorRegistry, store: Store) -> None:
        self._store = store
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        outlook = self._store.derived_last(OUTLOOK) or NO_OUTLOOK
        by_policy = Counter((fate.policy, fate.reason == RESTARTS) for fate in outlook.vms.values())
        protected = GaugeMetricFamily(
            "vdcos_ha_vms", "Running VMs of hosts that an HAPolicy covers.", labels=("policy", "protected")
        )
        for (policy, restarts), number in sorted(by_policy.items()):
            protected.add_metric((policy, str(restarts).lower()), number)
        yield protected
        plans = GaugeMetricFamily(
            "vdcos_ha_failure_plan_vms",
            "VMs of a host that would restart if it died now, and that would stay down.",
            labels=("host", "outcome"),
        )
        for name, plan in sorted(outlook.hosts.items()):
            plans.add_metric((name, "restarts"), plan.restarts)
            plans.add_metric((name, "stays"), plan.stays)
        yield plans
        down = GaugeMetricFamily(
            "vdcos_ha_unprotected_vm",
            "1 for each VM that would stay down if its host died now.",
            labels=("namespace", "name", "host", "policy", "reason"),
        )
        for key, fate in sorted(outlook.vms.items()):
            if fate.reason != RESTARTS:
                down.add_metric((key.namespace, key.name, fate.host, fate.policy, fate.reason), 1)
        yield down
        yield from self._policies()

    def _policies(self) -> Iterator[GaugeMetricFamily]:
        capacity = GaugeMetricFamily(
            "vdcos_ha_failover_capacity",
            "What an HAPolicy promises to keep free, what is left beside it, what is missing of it: CPUs and bytes.",
            labels=("policy", "resource", "what"),
        )
        waiting = GaugeMetricFamily("vdcos_ha_waiting_vms", "VMs that wait for failover capacity.", labels=("policy",))
        held: Mapping[Any, Any] = self._store.shelf(api.HAPolicy).objects
        for key in sorted(held):
            try:
                status = self._store.parse(api.HAPolicy, held[key]).status
            except api.InvalidObject:
                continue
            waiting.add_metric((key.name,), status.waiting.count if status.waiting is not None else 0)
            if status.failover_capacity is None:
                continue
            for what, amount in status.failover_capacity.manifest().items():
                found = amounts_of(amount)
                capacity.add_metric((key.name, "cpu", what), found.cpu / 1000)
                capacity.add_metric((key.name, "memory", what), found.memory)
        yield capacity
        yield waiting


def _counted(name: str, about: str, label: str, values: Iterable[str]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, about, labels=[label])
    for value, count in sorted(Counter(values).items()):
        family.add_metric([value or "Unknown"], count)
    return family
