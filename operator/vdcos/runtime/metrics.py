"""Prometheus metrics: a registry of our own, values that are cheap to keep or computed when they are scraped."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import prometheus_client

from vdcos import __version__
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.objects import Meta, Resource
from vdcos.core.plan import Action, Apply, Delete
from vdcos.runtime.engine import Outcome
from vdcos.runtime.logs import qualified
from vdcos.runtime.queue import Item, Queue
from vdcos.runtime.reflector import Reflector
from vdcos.runtime.requests import ApiError, Request

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Listens to the engine, the sources, the port, the shell and asks."""

    def __init__(self) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self.registry)

        def counter(name: str, about: str, *labels: str) -> prometheus_client.Counter:
            return prometheus_client.Counter(f"vdcos_{name}", about, labels, registry=self.registry)

        self._reconciles = counter("reconciles", "Looks at an object, by how they ended.", "service", "result")
        self._seconds = prometheus_client.Histogram(
            "vdcos_reconcile_seconds",
            "Duration of one look, requests included.",
            ("service",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._writes = counter("writes", "Writes that the API server carried out.", "service", "kind", "verb")
        self._repairs = counter("drift_repairs", "Fields that somebody changed and we set again.", "service", "kind")
        self._errors = counter("api_errors", "Requests that failed; code 0 is no answer.", "verb", "code")
        self._lists = counter("lists", "Complete lists of a kind, by what made them necessary.", "kind", "reason")
        self._undecodable = counter("undecodable_objects", "Objects that did not fit their struct.", "kind")
        self._events = counter("events", "Kubernetes Events, by what became of them.", "result")
        self._asks = counter("asks", "Asks outside the cluster, by how they ended.", "provider", "effect", "result")
        self._ask_seconds = prometheus_client.Histogram(
            "vdcos_ask_seconds",
            "Duration of one ask, the wait for its turn included.",
            ("provider", "effect"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._resets = counter("guest_resets", "VMs that were reset because their guest agent was silent.")
        build = prometheus_client.Info("vdcos_build", "What runs here.", registry=self.registry)
        build.info({"version": __version__})

    def watch(
        self,
        queue: Queue,
        sources: Sequence[Reflector],
        leading: Callable[[], bool],
        in_flight: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        """Read these at every scrape. ``clock`` is in monotonic seconds, as the queue's times are."""

        def gauge(name: str, about: str, value: Callable[[], float]) -> None:
            prometheus_client.Gauge(f"vdcos_{name}", about, registry=self.registry).set_function(value)

        gauge("queue_depth", "Objects that are due and not looked at yet.", lambda: queue.depth(clock()))
        gauge("queue_oldest_age_seconds", "How long the first of them has waited.", lambda: queue.oldest_age(clock()))
        gauge("reconciles_in_flight", "Looks that are under way.", in_flight)
        gauge("leader", "1 while this replica may write.", leading)
        ages = prometheus_client.Gauge(
            "vdcos_watch_age_seconds",
            "Seconds since the API server last said anything about a kind; about 60 at most when all is well.",
            ("kind",),
            registry=self.registry,
        )
        for source in sources:
            ages.labels(qualified(source.resource)).set_function(source.age)

    def scrape(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return prometheus_client.generate_latest(self.registry)

    # The shell

    def reconciled(self, item: Item, outcome: Outcome, seconds: float) -> None:
        self._reconciles.labels(item.service, outcome.result).inc()
        self._seconds.labels(item.service).observe(seconds)

    def wrote(self, request: Request) -> None:
        self._writes.labels(request.service, qualified(request.resource), request.verb).inc()

    # The port

    def failed(self, verb: str, status: int) -> None:
        self._errors.labels(verb, str(status)).inc()

    # The sources

    def listed(self, resource: Resource, why: str) -> None:
        self._lists.labels(qualified(resource), why).inc()

    def undecodable(self, resource: Resource) -> None:
        self._undecodable.labels(qualified(resource)).inc()

    # Asks

    def answered(self, provider: str, effect: bool, result: str, seconds: float) -> None:
        self._asks.labels(provider, str(effect).lower(), result).inc()
        self._ask_seconds.labels(provider, str(effect).lower()).observe(seconds)

    # Events

    def event(self, result: str) -> None:
        self._events.labels(result).inc()

    # The engine

    def acted(self, item: Item, action: Action) -> None:
        if isinstance(action, Delete) and action.resource == VirtualMachineInstance.resource:
            self._resets.inc()
        if isinstance(action, Apply) and action.repairs:
            self._repairs.labels(item.service, qualified(action.resource)).inc(len(action.repairs))

    def said(
        self, item: Item, owner: Meta, before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]
    ) -> None:
        """Counted as a write already."""

    def refused(self, item: Item, error: ApiError) -> None:
        """Counted by the port already."""

    def bug(self, item: Item, error: Exception) -> None:
        """Counted by its outcome already."""
