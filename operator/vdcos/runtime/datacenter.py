"""Metrics of the datacenter by state, read from what the store holds: objects by their conditions, VMs, hosts,
datastores, networks. What is said of an object is kept beside it in a few words when it is heard of, so that a scrape
never looks at ten thousand objects; of datastores and networks, which are few, it reads the statuses.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from prometheus_client.core import GaugeMetricFamily

from vdcos import api
from vdcos.core import metrics, quantity
from vdcos.core.foreign.workloads import amounts_of
from vdcos.core.objects import Index, Own
from vdcos.runtime.metrics import gauge
from vdcos.runtime.store import Store

MOST_REASONS = 20
"""So many reasons of one condition have a series of their own; some are in the words of others."""
SHARED = 4096
"""So many different things that objects say are kept once for all who say the same."""
UNKNOWN, OTHER = "Unknown", "Other"


class _Condition(msgspec.Struct, frozen=True):
    type: str = ""
    status: str = ""
    reason: str = ""


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    power_state: str | None = None
    state: str | None = None
    phase: str | None = None
    conditions: tuple[_Condition, ...] = ()


class _Object(msgspec.Struct, frozen=True):
    status: _Status = _Status()


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What an object says: its state (power state, phase), and its conditions. Who says the same shares one value, so
    that they can be counted by identity."""

    state: str
    conditions: tuple[_Condition, ...]


_decode = msgspec.json.Decoder(_Object).decode
_shared = lru_cache(maxsize=SHARED)(Told)


def _told(own: Own) -> Told:
    try:
        status = _decode(own.raw).status
    except msgspec.MsgspecError:  # stored under a laxer schema; it is there all the same
        status = _Status()
    return _shared(status.power_state or status.state or status.phase or UNKNOWN, status.conditions)


TOLD: Mapping[type[Any], Index[Any]] = {kind: Index(kind, value=_told) for kind in api.KINDS.values()}
"""What objects of our kinds say."""


class _Amounts(msgspec.Struct, frozen=True):
    cpu: str = "0"
    memory: str = "0"


class _HostStatus(msgspec.Struct, frozen=True):
    state: str | None = None
    policy: str = ""
    vms: int | None = None
    capacity: _Amounts | None = None
    reserved: _Amounts | None = None


class _Host(msgspec.Struct, frozen=True):
    status: _HostStatus = _HostStatus()


_decode_host = msgspec.json.Decoder(_Host).decode


class _Figures(NamedTuple):
    """What is told of one host; CPUs in cores, memory in bytes."""

    state: str
    policy: str
    vms: int | None
    allocatable: tuple[float, float] | None
    reserved: tuple[float, float] | None


def _figures(own: Own) -> _Figures:
    status = _decode_host(own.raw).status
    return _Figures(
        status.state or UNKNOWN, status.policy, status.vms, _cores(status.capacity), _cores(status.reserved)
    )


def _cores(amounts: _Amounts | None) -> tuple[float, float] | None:
    if amounts is None:
        return None
    found = amounts_of({"cpu": amounts.cpu, "memory": amounts.memory})
    return found.cpu / 1000, found.memory


FIGURES: Index[Any] = Index(api.Host, value=_figures)
INDEXES = (*TOLD.values(), FIGURES)
"""All that a store needs for ``read``."""


def read(store: Store) -> Iterator[GaugeMetricFamily]:
    """All of it, as it is now. What nothing is said about yet has no sample: 0 would be an answer."""
    counted = {kind: Counter(store.indexed(index).values.values()) for kind, index in TOLD.items()}
    yield gauge(metrics.VMS, _by_state(counted[api.VirtualMachine]))
    yield gauge(metrics.CONDITIONS, _conditions(counted))
    yield gauge(metrics.HOSTS, _by_state(counted[api.Host]))
    yield gauge(metrics.HOST_FAILURES, _by_state(counted[api.HostFailure], unsaid="Suspect"))
    yield from _hosts(store)
    yield from _datastores(store)
    yield from _networks(store)


Samples = list[tuple[tuple[str, ...], float]]


def _by_state(counted: Mapping[Told, int], unsaid: str = UNKNOWN) -> Samples:
    states: Counter[str] = Counter()
    for told, number in counted.items():
        states[unsaid if told.state == UNKNOWN else told.state] += number
    return [((state,), number) for state, number in sorted(states.items())]


def _conditions(counted: Mapping[type[Any], Mapping[Told, int]]) -> Samples:
    samples: Samples = []
    for kind, by_told in counted.items():
        reasons: dict[str, Counter[tuple[str, str]]] = {}
        for told, number in by_told.items():
            for each in told.conditions:
                reasons.setdefault(each.type, Counter())[each.status, each.reason] += number
        for condition, found in sorted(reasons.items()):
            kept: Counter[tuple[str, str]] = Counter()
            for place, ((status, reason), number) in enumerate(found.most_common()):
                kept[status, reason if place < MOST_REASONS else OTHER] += number
            name = kind.__name__
            samples += [((name, condition, *said), number) for said, number in sorted(kept.items())]
    return samples


def _hosts(store: Store) -> Iterator[GaugeMetricFamily]:
    about, vms, cpu, cpu_reserved, memory, memory_reserved = families = [
        gauge(metric)
        for metric in (
            metrics.HOST,
            metrics.HOST_VMS,
            metrics.HOST_CPU,
            metrics.HOST_CPU_RESERVED,
            metrics.HOST_MEMORY,
            metrics.HOST_MEMORY_RESERVED,
        )
    ]
    for key, figures in sorted(store.indexed(FIGURES).values.items()):
        name = (key.name,)
        about.add_metric((key.name, figures.state, figures.policy), 1)
        if figures.vms is not None:
            vms.add_metric(name, figures.vms)
        if figures.allocatable is not None:
            cpu.add_metric(name, figures.allocatable[0])
            memory.add_metric(name, figures.allocatable[1])
        if figures.reserved is not None:
            cpu_reserved.add_metric(name, figures.reserved[0])
            memory_reserved.add_metric(name, figures.reserved[1])
    yield from families


def _datastores(store: Store) -> Iterator[GaugeMetricFamily]:
    capacity, provisioned, disks, retained = families = [
        gauge(metric)
        for metric in (
            metrics.DATASTORE_CAPACITY,
            metrics.DATASTORE_PROVISIONED,
            metrics.DATASTORE_DISKS,
            metrics.DATASTORE_RETAINED,
        )
    ]
    for name, datastore in _parsed(store, api.Datastore):
        if datastore.spec.capacity is not None:
            capacity.add_metric((name,), quantity.whole(datastore.spec.capacity))
        if datastore.status.provisioned:
            provisioned.add_metric((name,), quantity.whole(datastore.status.provisioned))
        if datastore.status.disks is not None:
            disks.add_metric((name,), datastore.status.disks)
        if datastore.status.retained is not None:
            retained.add_metric((name,), datastore.status.retained.count)
    yield from families


def _networks(store: Store) -> Iterator[GaugeMetricFamily]:
    vms, namespaces = families = [gauge(metric) for metric in (metrics.NETWORK_VMS, metrics.NETWORK_NAMESPACES)]
    for name, network in _parsed(store, api.Network):
        if network.status.virtual_machines is not None:
            vms.add_metric((name,), network.status.virtual_machines.count)
        if network.status.namespaces is not None:
            namespaces.add_metric((name,), network.status.namespaces.count)
    yield from families


def _parsed(store: Store, kind: type[Any]) -> Iterable[tuple[str, Any]]:
    """Objects of a cluster-scoped kind that can be read."""
    for key, own in sorted(store.shelf(kind).objects.items()):
        try:
            yield key.name, store.parse(kind, own)  # type: ignore[arg-type]
        except api.InvalidObject:
            continue
