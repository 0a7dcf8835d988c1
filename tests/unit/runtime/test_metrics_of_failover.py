"""What metrics tell of high availability: who is protected, what is kept free, and what would come of failures."""

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.unit.cli.test_ha import VMS, store
from tests.unit.providers.failover import cluster as c
from tests.unit.services import datacenter as d
from vdcos.providers.failover.outlook import OUTLOOK
from vdcos.runtime.availability import Foretold
from vdcos.runtime.metrics import Metrics

STATUS: dict[str, Any] = {
    "waiting": {"count": 3, "names": []},
    "failoverCapacity": {
        "promised": {"cpu": "7500m", "memory": "1Gi"},
        "available": {"cpu": "2", "memory": "0"},
        "missing": {"cpu": "0", "memory": "0"},
    },
}


def scraped(metrics: Metrics) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(metrics.scrape().decode())
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith("vdcos_ha_")
    }


def test_what_is_told() -> None:
    broken = {**d.policy("broken"), "spec": {"stormBrake": {"maxHosts": "many"}}}
    there = store(c.host("host-1"), c.host("host-2", cpu="7"), {**d.policy(), "status": STATUS}, broken, *VMS)
    there.derived(OUTLOOK)
    metrics = Metrics()
    Foretold(metrics.registry, there)
    found = scraped(metrics)
    assert found["vdcos_ha_vms", d.POLICY, "true"] == 2
    assert found["vdcos_ha_vms", d.POLICY, "false"] == 2
    assert found["vdcos_ha_failure_plan_vms", "host-1", "restarts"] == 2
    assert found["vdcos_ha_failure_plan_vms", "host-1", "stays"] == 2
    assert found["vdcos_ha_failure_plan_vms", "host-2", "stays"] == 0
    assert found["vdcos_ha_unprotected_vm", "host-1", "batch", "shop", d.POLICY, "NoCapacity"] == 1
    assert sum(name[0] == "vdcos_ha_unprotected_vm" for name in found) == 2
    assert found["vdcos_ha_failover_capacity", d.POLICY, "cpu", "promised"] == 7.5
    assert found["vdcos_ha_failover_capacity", d.POLICY, "memory", "promised"] == 1 << 30
    assert found["vdcos_ha_failover_capacity", d.POLICY, "cpu", "available"] == 2
    assert found["vdcos_ha_waiting_vms", d.POLICY] == 3


def test_before_there_is_an_outlook_nothing_is_told() -> None:
    metrics = Metrics()
    Foretold(metrics.registry, store(c.host("host-1"), *VMS))
    assert scraped(metrics) == {}
