"""Prometheus metrics: a registry of our own, values that are cheap to keep or computed when they are scraped."""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_args

import prometheus_client
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vdcos import __version__
from vdcos.core import metrics as declared
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.objects import Meta, Resource
from vdcos.core.plan import Action, Apply, Delete
from vdcos.runtime.engine import Outcome, Result
from vdcos.runtime.logs import qualified
from vdcos.runtime.queue import Item, Queue
from vdcos.runtime.reflector import Reflector
from vdcos.runtime.requests import ApiError, Request
from vdcos.runtime.store import Store

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


# When a counter began is asked by nobody, and would be a series beside each of them.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


class Scraped(Collector):
    """Gauges that are read whenever they are scraped, as long as ``tells`` says so.

    Otherwise they are not there: a replica that does not lead, or has not seen everything yet, would tell zeros that
    look like the truth.
    """

    def __init__(
        self,
        registry: prometheus_client.CollectorRegistry,
        tells: Callable[[], bool],
        read: Callable[[], Iterable[GaugeMetricFamily]],
    ) -> None:
        self._tells, self._read = tells, read
        registry.register(self)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        return self._read() if self._tells() else ()


class _AsRead(Collector):
    """What a registry told, for a writer in another thread."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def gauge(metric: declared.Metric, samples: Iterable[tuple[tuple[str, ...], float]] = ()) -> GaugeMetricFamily:
    """A gauge with the samples that it has now: the values of its labels, and its own."""
    family = GaugeMetricFamily(metric.name, metric.about, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


def counter(metric: declared.Metric, registry: prometheus_client.CollectorRegistry) -> prometheus_client.Counter:
    return prometheus_client.Counter(metric.name, metric.about, metric.labels, registry=registry)


def histogram(
    metric: declared.Metric, registry: prometheus_client.CollectorRegistry, buckets: Sequence[float] = SECONDS
) -> prometheus_client.Histogram:
    return prometheus_client.Histogram(metric.name, metric.about, metric.labels, buckets=buckets, registry=registry)


class Metrics:
    """Listens to the engine, the sources, the port, the shell and asks."""

    def __init__(self) -> None:
        self.registry = registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=registry)
        self._reconciles = counter(declared.RECONCILES, registry)
        self._seconds = histogram(declared.RECONCILE_SECONDS, registry)
        self._writes = counter(declared.WRITES, registry)
        self._repairs = counter(declared.REPAIRS, registry)
        self._errors = counter(declared.API_ERRORS, registry)
        self._lists = counter(declared.LISTS, registry)
        self._undecodable = counter(declared.UNDECODABLE, registry)
        self._events = counter(declared.EVENTS, registry)
        self._asks = counter(declared.ASKS, registry)
        self._ask_seconds = histogram(declared.ASK_SECONDS, registry)
        self._resets = counter(declared.RESETS, registry)
        Scraped(registry, lambda: True, lambda: [gauge(declared.BUILD, [((__version__,), 1)])])

    def watch(
        self,
        vservices: Iterable[str],
        queue: Queue,
        store: Store,
        sources: Sequence[Reflector],
        leading: Callable[[], bool],
        in_flight: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        """Read these at every scrape. ``clock`` is in monotonic seconds, as the queue's times are."""
        by_kind: dict[str, list[Reflector]] = {}
        for source in sources:
            by_kind.setdefault(qualified(source.resource), []).append(source)
        # From 0 on: to Prometheus a counter that begins with 1 has not increased.
        for kind in by_kind:
            self._undecodable.labels(kind)
        for vservice, result in itertools.product(vservices, get_args(Result)):
            self._reconciles.labels(vservice, result)

        def here() -> Iterable[GaugeMetricFamily]:
            ages = ((kind, max(source.age() for source in group)) for kind, group in by_kind.items())
            held = ((kind, sum(store.count(source.kind) for source in group)) for kind, group in by_kind.items())
            yield gauge(declared.LEADER, [((), leading())])
            yield gauge(declared.IN_FLIGHT, [((), in_flight())])
            yield gauge(declared.WATCH_AGE, [((kind,), age) for kind, age in ages])
            yield gauge(declared.STORED, [((kind,), number) for kind, number in held])

        def waiting() -> Iterable[GaugeMetricFamily]:
            yield gauge(declared.QUEUE_DEPTH, [((), queue.depth(clock()))])
            yield gauge(declared.QUEUE_AGE, [((), queue.oldest_age(clock()))])

        Scraped(self.registry, lambda: True, here)
        # Whoever does not lead takes nothing off its queue.
        Scraped(self.registry, leading, waiting)

    async def scrape(self) -> bytes:
        """All metrics in Prometheus' text format. They are read here and now; with a thousand hosts to write the text
        takes a twentieth of a second, so that is done beside the loop."""
        return await asyncio.to_thread(prometheus_client.generate_latest, _AsRead(list(self.registry.collect())))

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
