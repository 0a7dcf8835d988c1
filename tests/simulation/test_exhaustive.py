"""Every fault at every write of every scenario: all laws hold, and it ends as it does without.

``make test`` plays every single fault at every write, and a share of the combinations of two; ``EVERYTHING=1``, all.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence

import pytest

from vdcos.testing.drivers import Explorer, Report, by_name
from vdcos.testing.faults import combined, outages, pairs, single
from vdcos.testing.scenarios import Scenario, catalogue

Count = Callable[[Report, float], None]

EVERYTHING = bool(os.environ.get("VDCOS_EVERYTHING"))
PARTS: Mapping[Callable[[], Sequence[tuple[str, ...]]], tuple[int, int]] = {combined: (2, 3), pairs: (1, 32)}
"""How many of how many parts of all combinations are played at each write; at the next write, others."""


@pytest.mark.parametrize("scenario", catalogue(), ids=lambda scenario: scenario.name)
def test_every_fault_at_every_write(scenario: Scenario, count: Count) -> None:
    began = time.process_time()
    explorer = Explorer(scenario)
    report = explorer.explore(single())
    for combinations, (played, parts) in PARTS.items():
        for part in range(parts if EVERYTHING else played):
            report = explorer.explore(combinations(), (part, parts))
    count(report, time.process_time() - began)
    assert not report.failures, "\n".join(map(str, report.failures[:20]))
    assert report.scenarios > 100


OUTAGES = (
    "create", "delete with its disk", "policy to Delete and back", "grow a disk", "full datastore, then room",
    "host loses power and is fenced", "somebody deletes the child", "room for one of two disks",
    "network in use is deleted", "a write war",
)  # fmt: skip


@pytest.mark.parametrize("name", OUTAGES)
def test_outages_at_every_write(name: str, count: Count) -> None:
    """They last longer than any path that is known, so that each goes to its end."""
    began = time.process_time()
    report = Explorer(by_name(name)).explore(outages())
    count(report, time.process_time() - began)
    assert not report.failures, "\n".join(map(str, report.failures[:20]))


def test_the_catalogue_is_wide() -> None:
    names = [scenario.name for scenario in catalogue()]
    assert len(names) == len(set(names)) >= 20
