"""Numbers from measurements: what they are of measurements whose answer is known."""

import math

import pytest

from tests.bench import figures
from tests.bench.contenders import named
from tests.bench.figures import Target, between, exponent, median, percentile


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1.0)) == (50.0, 99.0, 100.0)
    assert percentile([3.0], 0.01) == 3.0
    assert math.isnan(percentile([], 0.5))


def test_a_median_is_in_the_middle() -> None:
    assert median([5.0, 1.0, 3.0]) == 3.0
    assert median([4.0, 1.0, 3.0, 2.0]) == 2.5
    assert math.isnan(median([]))


@pytest.mark.parametrize("power", [0.0, 1.0, 1.7])
def test_growth_is_the_exponent_of_the_cost(power: float) -> None:
    sizes = [500.0, 1000.0, 2000.0, 10000.0]
    assert exponent(sizes, [3.0 * size**power for size in sizes]) == pytest.approx(power)


def test_a_ratio_holds_on_a_machine_that_slows_down() -> None:
    measured = [("wall", 100.0), ("ours", 72.0), ("peer", 60.0), ("wall", 80.0), ("ours", 54.0), ("wall", 40.0)]
    assert between(measured, "ours", "wall") == pytest.approx([0.8, 0.9])
    assert between(measured, "ours", "peer") == pytest.approx([1.2, 0.9])
    assert between(measured, "ours", "nobody") == []


def test_a_target_is_a_floor_or_a_ceiling() -> None:
    assert Target(0.9, at_least=True).met(0.9)
    assert not Target(0.9, at_least=True).met(0.89)
    assert Target(0).met(0)
    assert not Target(0).met(1)


def test_a_missed_target_is_said_to_be() -> None:
    shown = str(figures.verdicts({"efficiency": 0.5, "writes_at_rest": 0, "of no interest": 1})).splitlines()
    assert [line.split("|")[-2].strip() for line in shown[2:]] == ["missed", "met"]
    assert len({len(line) for line in shown}) == 1


def test_what_the_api_server_writes_for_itself_is_nobodys() -> None:
    counted = {
        ("APPLY", "kubevirt.io", "virtualmachines", ""): 3,
        ("PATCH", "vdcos.dev", "virtualmachines", "status"): 3,
        ("POST", "", "events", ""): 1,
        ("PUT", "coordination.k8s.io", "leases", ""): 9,
        ("POST", "", "namespaces", ""): 1,
    }
    assert named(counted) == {
        "POST events.": 1,
        "APPLY virtualmachines.kubevirt.io": 3,
        "PATCH virtualmachines.vdcos.dev/status": 3,
    }
