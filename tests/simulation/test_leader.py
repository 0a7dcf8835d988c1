"""Two replicas: whatever happens to the one that leads, only the Lease's holder writes, and the end is the same."""

import time
from collections.abc import Callable

import pytest

from vdcos.testing import replica
from vdcos.testing.drivers import Explorer, Report, by_name
from vdcos.testing.faults import LEADER

SCENARIOS = ("create", "delete and re-create", "policy to Delete and back", "grow a disk", "full datastore, then room")
FAULTS = [(fault, "none") for fault in (*LEADER, "outage 503")]

Count = Callable[[Report, float], None]


@pytest.mark.parametrize("name", SCENARIOS)
def test_only_the_holder_of_the_lease_writes(name: str, count: Count) -> None:
    began = time.process_time()
    report = Explorer(by_name(name), replicas=2).explore(FAULTS)
    count(report, time.process_time() - began)
    assert not report.failures, "\n".join(map(str, report.failures[:20]))


def test_a_leader_that_does_not_look_at_its_lease_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "seconds_for_request", lambda remaining: 10.0)
    report = Explorer(by_name("create"), replicas=2).explore(FAULTS)
    assert {failure.violation.law for failure in report.failures} >= {"only the leader writes"}
