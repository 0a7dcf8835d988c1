"""Every single fault at every write of every scenario, and pairs of faults: all laws hold, and it ends as it does
without."""

import time
from collections.abc import Callable

import pytest

from vdcos.testing.drivers import Explorer, Report
from vdcos.testing.faults import pairs
from vdcos.testing.scenarios import Scenario, catalogue

Count = Callable[[Report, float], None]

SHARE = 4
"""Of so many pairs of faults, one is played at each write; at the next write, another one."""


@pytest.mark.parametrize("scenario", catalogue(), ids=lambda scenario: scenario.name)
def test_every_fault_at_every_write(scenario: Scenario, count: Count) -> None:
    began = time.process_time()
    explorer = Explorer(scenario)
    explorer.explore()
    report = explorer.explore(pairs(), (0, SHARE))
    count(report, time.process_time() - began)
    assert not report.failures, "\n".join(map(str, report.failures[:20]))
    assert report.scenarios > 100


def test_the_catalogue_is_wide() -> None:
    names = [scenario.name for scenario in catalogue()]
    assert len(names) == len(set(names)) >= 20
