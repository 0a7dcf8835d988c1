"""What metrics tell of high availability: who is protected, what is kept free, and what would come of failures."""

from typing import Any

from tests.unit.cli.test_ha import VMS, store
from tests.unit.providers.failover import cluster as c
from tests.unit.services import datacenter as d
from vdcos.providers.failover.outlook import OUTLOOK
from vdcos.runtime.availability import foretold
from vdcos.runtime.store import Store

STATUS: dict[str, Any] = {
    "waiting": {"count": 3, "names": []},
    "failoverCapacity": {
        "promised": {"cpu": "7500m", "memory": "1Gi"},
        "available": {"cpu": "2", "memory": "0"},
        "missing": {"cpu": "0", "memory": "0"},
    },
}


def scraped(there: Store) -> dict[tuple[str, ...], float]:
    """The values, by name and the values of their labels."""
    samples = (sample for family in foretold(there) for sample in family.samples)
    return {(sample.name, *sample.labels.values()): sample.value for sample in samples}


def test_what_is_told() -> None:
    broken = {**d.policy("broken"), "spec": {"stormBrake": {"maxHosts": "many"}}}
    there = store(c.host("host-1"), c.host("host-2", cpu="7"), {**d.policy(), "status": STATUS}, broken, *VMS)
    there.derived(OUTLOOK)
    assert scraped(there) == {
        ("vdcos_ha_vms", d.POLICY, "RestartsElsewhere"): 2,
        ("vdcos_ha_vms", d.POLICY, "NoCapacity"): 1,
        ("vdcos_ha_vms", d.POLICY, "Disabled"): 1,
        ("vdcos_ha_failure_plan_vms", "host-1", "restarts"): 2,
        ("vdcos_ha_failure_plan_vms", "host-1", "stays"): 2,
        ("vdcos_ha_failure_plan_vms", "host-2", "restarts"): 0,
        ("vdcos_ha_failure_plan_vms", "host-2", "stays"): 0,
        ("vdcos_ha_waiting_vms", d.POLICY): 3,
        ("vdcos_ha_failover_promised_cpu_cores", d.POLICY): 7.5,
        ("vdcos_ha_failover_promised_memory_bytes", d.POLICY): 1 << 30,
        ("vdcos_ha_failover_available_cpu_cores", d.POLICY): 2,
        ("vdcos_ha_failover_available_memory_bytes", d.POLICY): 0,
        ("vdcos_ha_failover_missing_cpu_cores", d.POLICY): 0,
        ("vdcos_ha_failover_missing_memory_bytes", d.POLICY): 0,
    }


def test_a_policy_whose_hosts_run_nothing_says_so() -> None:
    there = store(c.host("host-1"), d.policy())
    there.derived(OUTLOOK)
    assert scraped(there)["vdcos_ha_vms", d.POLICY, "RestartsElsewhere"] == 0


def test_before_there_is_an_outlook_nothing_is_told() -> None:
    assert scraped(store(c.host("host-1"), d.policy(), *VMS)) == {}
