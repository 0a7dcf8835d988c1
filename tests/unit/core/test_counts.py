"""Counts in a status."""

from typing import Any

import pytest

from vdcos.core import counts
from vdcos.core.plan import Instant

NOON = 1_767_268_800.0  # 2026-01-01T12:00:00Z
OLD, NEW = {"disks": 1}, {"disks": 2}


@pytest.mark.parametrize(
    "reason, stored, counted, seconds, want, after",
    [
        ("first", {}, OLD, 0, {**OLD, "countedAt": "2026-01-01T12:00:00Z"}, None),
        (
            "unchanged",
            {**OLD, "countedAt": "2026-01-01T11:00:00Z"},
            OLD,
            0,
            {**OLD, "countedAt": "2026-01-01T11:00:00Z"},
            None,
        ),
        (
            "due",
            {**OLD, "countedAt": "2026-01-01T12:00:00Z"},
            NEW,
            5,
            {**NEW, "countedAt": "2026-01-01T12:00:05Z"},
            None,
        ),
        (
            "too early",
            {**OLD, "countedAt": "2026-01-01T12:00:00Z"},
            NEW,
            2,
            {**OLD, "countedAt": "2026-01-01T12:00:00Z"},
            3,
        ),
        (
            "back again",
            {**OLD, "countedAt": "2026-01-01T12:00:00Z"},
            OLD,
            2,
            {**OLD, "countedAt": "2026-01-01T12:00:00Z"},
            None,
        ),
        (
            "clock set back",
            {**OLD, "countedAt": "2026-01-01T13:00:00Z"},
            NEW,
            0,
            {**NEW, "countedAt": "2026-01-01T12:00:00Z"},
            None,
        ),
        (
            "a count that is new",
            {"countedAt": "2026-01-01T12:00:00Z"},
            NEW,
            1,
            {"countedAt": "2026-01-01T12:00:00Z"},
            4,
        ),
    ],
)
def test_paced(
    reason: str,
    stored: dict[str, Any],
    counted: dict[str, Any],
    seconds: float,
    want: dict[str, Any],
    after: float | None,
) -> None:
    status, wait = counts.paced(stored, counted, Instant(NOON + seconds, seconds))
    assert status == want
    assert wait == (after if after is None else pytest.approx(after))


def test_names_are_bounded_and_counts_are_not() -> None:
    names = [f"vm{number}" for number in range(12)]
    assert counts.usage(12, names) == {"count": 12, "names": names[:10]}
    assert counts.listed(12, names).endswith("vm9 and 2 more")
    assert [counts.some(number, "disk") for number in (0, 1, 2)] == ["0 disks", "1 disk", "2 disks"]
    assert counts.listed(2, names[:2]) == "vm0, vm1"


@pytest.mark.parametrize(
    ("seconds", "age", "begun"), [(90.5, 90.5, "12:00:00"), (0, 0, "12:00:00"), (-90, 0, "11:58:30")]
)
def test_no_wait_begins_in_the_future(seconds: float, age: float, begun: str) -> None:
    now = Instant(NOON + seconds, 0.0)
    assert counts.age("2026-01-01T12:00:00Z", now) == age
    assert counts.begun("2026-01-01T12:00:00Z", now) == f"2026-01-01T{begun}Z"
