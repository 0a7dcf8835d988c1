"""Every single fault at every write of every scenario: all laws hold, and it ends as it does without the fault."""

import time
from collections.abc import Callable

import pytest

from vdcos.testing.drivers import Explorer
from vdcos.testing.scenarios import Scenario, catalogue

Count = Callable[[int, int, float], None]


@pytest.mark.parametrize("scenario", catalogue(), ids=lambda scenario: scenario.name)
def test_every_fault_at_every_write(scenario: Scenario, count: Count) -> None:
    began = time.process_time()
    report = Explorer(scenario).explore()
    count(report.scenarios, report.merged, time.process_time() - began)
    assert not report.failures, "\n".join(map(str, report.failures[:20]))
    assert report.scenarios > 100


def test_the_catalogue_is_wide() -> None:
    names = [scenario.name for scenario in catalogue()]
    assert len(names) == len(set(names)) >= 20
