"""Metrics of high availability, read from what the store is told."""

from typing import Any

import msgspec
import prometheus_client
import pytest

from tests.unit.services import datacenter as d
from vdcos import api
from vdcos.core.foreign.kubernetes import Lease
from vdcos.runtime.availability import Availability
from vdcos.runtime.store import Store

RECEIPT = {"provider": "redfish", "how": "PoweredOff", "proof": "", "incarnation": d.BOOT, "at": "", "renewed": ""}


class Watched:
    """A store, what listens to it, and a clock."""

    def __init__(self, leads: bool = True) -> None:
        self.now, self.leads, self.version = 100.0, leads, 0
        self.registry = prometheus_client.CollectorRegistry()
        self.store = Store((api.Host, api.HostFailure, Lease), (), (Lease,), lambda: self.now)
        Availability(self.registry, self.store, lambda: self.leads, lambda: self.now)
        self.hear(Lease, d.lease())

    def hear(self, kind: type[Any], tree: dict[str, Any]) -> None:
        self.version += 1
        meta = {"uid": "failure-1", **tree["metadata"], "resourceVersion": str(self.version)}
        self.store.put(kind, self.store.decoder(kind)(msgspec.json.encode({**tree, "metadata": meta})))

    def comes_to(self, phase: str, after: float, **status: Any) -> None:
        self.now += after
        self.hear(api.HostFailure, d.failure(status={"phase": phase, **status} if phase else status))

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def took(self, stage: str) -> Any:
        """How often, and how long in all."""
        name = "vdcos_failover_stage_seconds"
        return self.value(f"{name}_count", stage=stage), self.value(f"{name}_sum", stage=stage)


def whole(watched: Watched) -> None:
    watched.comes_to("", 15.0)
    watched.comes_to("Fencing", 0.1)
    watched.comes_to("Fencing", 1.0)
    watched.comes_to("Releasing", 0.9, receipt=RECEIPT)
    watched.comes_to("Restarting", 1.5, receipt=RECEIPT)
    watched.comes_to("Recovering", 20.0, receipt=RECEIPT)
    watched.comes_to("Completed", 500.0, receipt=RECEIPT, outcome="Recovered")


def test_each_stage_is_measured_once() -> None:
    watched = Watched()
    whole(watched)
    assert watched.took("detect") == (1.0, 15.0)
    assert watched.took("fence") == (1.0, pytest.approx(2.0))
    assert watched.took("release") == (1.0, pytest.approx(1.5))
    assert watched.took("restart") == (1.0, pytest.approx(20.0))
    assert watched.value("vdcos_fence_receipts_total", provider="redfish", how="PoweredOff") == 1.0


def test_who_does_not_lead_counts_nothing() -> None:
    watched = Watched(leads=False)
    whole(watched)
    assert watched.took("detect") == watched.took("restart") == (0.0, 0.0)
    assert watched.value("vdcos_fence_receipts_total", provider="redfish", how="PoweredOff") is None


def test_who_comes_in_the_middle_says_nothing_about_a_stage_that_it_has_not_seen_begin() -> None:
    watched = Watched()
    watched.comes_to("Fencing", 3.0)
    watched.comes_to("Releasing", 5.0, receipt=RECEIPT)
    watched.comes_to("Restarting", 2.0, receipt=RECEIPT)
    assert watched.took("detect") == watched.took("fence") == (0.0, 0.0)
    assert watched.took("release") == (1.0, pytest.approx(2.0))


def test_a_false_alarm_is_no_fence() -> None:
    watched = Watched()
    watched.comes_to("", 15.0)
    watched.comes_to("Fencing", 0.1)
    watched.comes_to("Completed", 9.0, outcome="FalseAlarm")
    assert watched.took("fence") == (0.0, 0.0)
