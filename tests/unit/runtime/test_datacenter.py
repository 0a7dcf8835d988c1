"""Metrics of the datacenter by state, and that all metrics are those that are declared."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.unit.services import datacenter as d
from vdcos import api
from vdcos.core import metrics as declared
from vdcos.core import preflight
from vdcos.core.objects import Key
from vdcos.runtime import datacenter
from vdcos.runtime.availability import Availability, foretold
from vdcos.runtime.metrics import Metrics, Scraped
from vdcos.runtime.preflight import Preflight
from vdcos.runtime.queue import Queue
from vdcos.runtime.store import Store

Tree = dict[str, Any]
KINDS = {kind.definition.kind: kind for kind in api.KINDS.values()}


class Watched:
    """A store that is told things, and what is scraped of it."""

    def __init__(self, *manifests: Tree) -> None:
        self.store = Store(api.KINDS.values(), datacenter.INDEXES)
        self.version = 0
        for manifest in manifests:
            self.hear(manifest)

    def hear(self, manifest: Tree) -> None:
        self.version += 1
        meta = {"uid": manifest["metadata"]["name"], **manifest["metadata"], "resourceVersion": str(self.version)}
        kind = KINDS[manifest["kind"]]
        self.store.put(kind, self.store.decoder(kind)(msgspec.json.encode({**manifest, "metadata": meta})))

    def scraped(self, *begins: str) -> dict[tuple[str, ...], float]:
        """The values, by name and the values of their labels, of metrics that begin so."""
        samples = [sample for family in datacenter.read(self.store) for sample in family.samples]
        found = {(sample.name, *sample.labels.values()): sample.value for sample in samples}
        assert len(found) == len(samples), "no sample comes twice"
        return {name: value for name, value in found.items() if name[0].startswith(begins)}


def vm(name: str, power: str | None, *conditions: tuple[str, str, str]) -> Tree:
    said = [{"type": kind, "status": status, "reason": reason} for kind, status, reason in conditions]
    status = {"conditions": said} | ({"powerState": power} if power else {})
    return {**d.vm(name), "status": status}


READY = ("Ready", "True", "Ready")
WAITS = ("Ready", "False", "NoHostFits")


def test_vms_are_counted_by_power_state_and_by_what_their_conditions_say() -> None:
    watched = Watched(
        vm("a", "PoweredOn", READY),
        vm("b", "PoweredOn", READY, ("RestartRequired", "True", "Memory")),
        vm("c", "PoweredOff", READY),
        vm("d", "PoweringOn", WAITS),
        d.vm("e"),
    )
    assert watched.scraped("vdcos_vms") == {
        ("vdcos_vms", "PoweredOff"): 1,
        ("vdcos_vms", "PoweredOn"): 2,
        ("vdcos_vms", "PoweringOn"): 1,
        ("vdcos_vms", "Unknown"): 1,
    }
    assert watched.scraped("vdcos_object_conditions") == {
        ("vdcos_object_conditions", "VirtualMachine", *READY): 3,
        ("vdcos_object_conditions", "VirtualMachine", *WAITS): 1,
        ("vdcos_object_conditions", "VirtualMachine", "RestartRequired", "True", "Memory"): 1,
    }


def test_counts_follow_what_changes_and_what_goes() -> None:
    watched = Watched(vm("a", "PoweringOn", WAITS), vm("b", "PoweringOn", WAITS))
    watched.hear(vm("a", "PoweredOn", READY))
    assert watched.scraped("vdcos_vms") == {("vdcos_vms", "PoweredOn"): 1, ("vdcos_vms", "PoweringOn"): 1}
    watched.store.remove(api.VirtualMachine, Key(d.vm("b")["metadata"]["namespace"], "b"), "99")
    assert watched.scraped("vdcos_vms") == {("vdcos_vms", "PoweredOn"): 1}
    assert watched.scraped("vdcos_object_conditions") == {("vdcos_object_conditions", "VirtualMachine", *READY): 1}


def test_what_cannot_be_understood_is_there_all_the_same() -> None:
    watched = Watched({**d.vm("a"), "status": {"conditions": "none"}})
    assert watched.scraped("vdcos_vms") == {("vdcos_vms", "Unknown"): 1}


def test_more_reasons_than_anybody_has_are_counted_as_one() -> None:
    many = datacenter.MOST_REASONS + 30
    vms = [vm(f"vm-{number}", "PoweredOn", ("Ready", "False", f"Reason{number}")) for number in range(many)]
    watched = Watched(*vms, vm("more", "PoweredOn", ("Ready", "False", "Reason7")))
    found = watched.scraped("vdcos_object_conditions")
    assert len(found) == datacenter.MOST_REASONS + 1
    assert found["vdcos_object_conditions", "VirtualMachine", "Ready", "False", "Reason7"] == 2, (
        "the most frequent stay"
    )
    assert found["vdcos_object_conditions", "VirtualMachine", "Ready", "False", datacenter.OTHER] == 30
    assert sum(found.values()) == many + 1


def test_a_name_of_an_object_of_tenants_is_in_no_label() -> None:
    watched = Watched(*(vm(f"secret-{number}", "PoweredOn", READY) for number in range(50)))
    assert not any("secret" in str(name) for name in watched.scraped("vdcos_"))


def test_hosts_by_state_and_with_their_amounts() -> None:
    full = {
        "state": "Connected",
        "policy": "ha",
        "vms": 3,
        "capacity": {"cpu": "8", "memory": "16Gi", "pods": 110},
        "reserved": {"cpu": "1500m", "memory": "2Gi", "pods": 4},
    }
    watched = Watched({**d.host("a"), "status": full}, {**d.host("b"), "status": {"state": "Fenced"}}, d.host("c"))
    assert watched.scraped("vdcos_host_", "vdcos_hosts") == {
        ("vdcos_hosts", "Connected"): 1,
        ("vdcos_hosts", "Fenced"): 1,
        ("vdcos_hosts", "Unknown"): 1,
        ("vdcos_host_info", "a", "Connected", "ha"): 1,
        ("vdcos_host_info", "b", "Fenced", ""): 1,
        ("vdcos_host_info", "c", "Unknown", ""): 1,
        ("vdcos_host_vms", "a"): 3,
        ("vdcos_host_allocatable_cpu_cores", "a"): 8,
        ("vdcos_host_reserved_cpu_cores", "a"): 1.5,
        ("vdcos_host_allocatable_memory_bytes", "a"): 16 << 30,
        ("vdcos_host_reserved_memory_bytes", "a"): 2 << 30,
    }


def test_failures_by_phase() -> None:
    watched = Watched(
        d.failure("one"), d.failure("two", {"phase": "Fencing"}), d.failure("three", {"phase": "Completed"})
    )
    assert watched.scraped("vdcos_host_failures") == {
        ("vdcos_host_failures", "Suspect"): 1,
        ("vdcos_host_failures", "Fencing"): 1,
        ("vdcos_host_failures", "Completed"): 1,
    }


def test_datastores_and_networks() -> None:
    status = {"provisioned": "1536Gi", "disks": 12, "retained": {"count": 2}}
    watched = Watched(
        {**d.own("Datastore", "gold", {"storageClassName": "fast", "capacity": "2Ti"}), "status": status},
        d.own("Datastore", "new", {"storageClassName": "fast"}),
        d.own("Datastore", "broken", {"storageClassName": 7}),
        {
            **d.own("Network", "front", {"pod": {}}),
            "status": {"virtualMachines": {"count": 5}, "namespaces": {"count": 2}},
        },
        d.own("Network", "new", {"pod": {}}),
    )
    assert watched.scraped("vdcos_datastore", "vdcos_network") == {
        ("vdcos_datastore_capacity_bytes", "gold"): 2 << 40,
        ("vdcos_datastore_provisioned_bytes", "gold"): 1536 << 30,
        ("vdcos_datastore_disks", "gold"): 12,
        ("vdcos_datastore_retained_disks", "gold"): 2,
        ("vdcos_network_vms", "front"): 5,
        ("vdcos_network_namespaces", "front"): 2,
    }, "what is not counted yet is not 0"


# All of them


def names(metrics: Metrics) -> Iterator[str]:
    """As they are declared."""
    for family in metrics.registry.collect():
        if family.name.startswith("vdcos_"):
            yield family.name + ("_total" if family.type == "counter" else "")


@pytest.mark.parametrize("leads", [True, False])
def test_all_metrics_are_there_and_who_does_not_lead_tells_nothing_of_the_datacenter(leads: bool) -> None:
    metrics, store = Metrics(), Store((*api.KINDS.values(), *preflight.KINDS), datacenter.INDEXES)
    metrics.watch(["host"], Queue(), store, [], lambda: leads, lambda: 0, lambda: 0.0)
    Availability(metrics.registry, store, lambda: leads, lambda: 0.0)
    Scraped(metrics.registry, lambda: leads, lambda: datacenter.read(store))
    Scraped(metrics.registry, lambda: leads, lambda: foretold(store))
    Preflight(metrics.registry, store, {}, lambda: True)
    found = list(names(metrics))
    assert len(found) == len(set(found))
    assert set(found) == {metric.name for metric in declared.ALL if leads or not metric.by_leader}


TARGET = {"namespace", "service", "pod", "container", "endpoint", "job", "instance", "node", "prometheus"}
"""Labels that the Prometheus Operator gives to targets: a metric's own of that name would become ``exported_…``."""


@pytest.mark.parametrize("metric", declared.ALL, ids=lambda metric: metric.name)
def test_names_follow_the_conventions(metric: declared.Metric) -> None:
    units = ("_seconds", "_bytes", "_cores", "_total", "_info")
    assert metric.name.startswith("vdcos_")
    assert metric.name.endswith("_total") is (metric.type == "counter")
    assert metric.name.endswith("_info") is (metric.type == "info")
    assert metric.type != "histogram" or metric.name.endswith(units)
    assert not TARGET & set(metric.labels)
    assert metric.about.endswith(".")
