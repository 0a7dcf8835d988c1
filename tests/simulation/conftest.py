"""Counts scenarios over all workers, for the closing line; begins with what takes longest, so that no worker is
alone at the end; and keeps the garbage collector from being in the way."""

import gc
from collections import Counter, defaultdict
from typing import Any

import pytest

from vdcos.testing.drivers import Report

OTHERS = 10
"""What a test counts for that has no scenario, in writes of a scenario of the catalogue."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first: they are handed out one by one (``--maxschedchunk 1``)."""
    items.sort(key=_weight, reverse=True)


def _weight(item: pytest.Item) -> int:
    from tests.simulation import test_budget, test_hosts

    scenario = getattr(item, "callspec", None) and item.callspec.params.get("scenario")  # type: ignore[attr-defined]
    if scenario is None or item.name.startswith("test_no_more"):
        return OTHERS
    return {**test_budget.BUDGETS, **test_hosts.BUDGETS}.get(scenario.name, OTHERS)


def pytest_collection_finish() -> None:
    """What is imported by now stays. A world is taken apart at its end, so that a collection finds next to nothing,
    and going through all that the memos hold would cost more than it frees."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many scenarios ran in each part, how fast, and in how many each fault went wrong."""
    parts: dict[str, Counter[str]] = defaultdict(Counter)
    faults: Counter[str] = Counter()
    for report in terminalreporter.stats.get("passed", []):
        part = parts["hosts that fail" if "test_hosts" in report.nodeid else "the catalogue"]
        for name, value in report.user_properties:
            kind, _, fault = name.partition(": ")
            if fault:
                faults[fault] += value
            else:
                part[kind] += value
    for name, part in parts.items():
        if part["cpu_seconds"]:
            terminalreporter.write_line(
                f"{name}: {part['scenarios']:,.0f} scenarios, {part['distinct']:,.0f} distinct "
                f"({part['merged']:,.0f} joined a known path), {part['cpu_seconds']:.0f} s of CPU: "
                f"{part['scenarios'] / part['cpu_seconds']:.0f} scenarios/s/core"
            )
    if faults:
        terminalreporter.write_line(", ".join(f"{fault} {count:,}" for fault, count in faults.most_common()))


@pytest.fixture
def count(record_property: Any) -> Any:
    """``count(report, cpu_seconds)`` adds to the closing lines."""

    def add(report: Report, cpu_seconds: float) -> None:
        for name in ("scenarios", "distinct", "merged"):
            record_property(name, getattr(report, name))
        for fault, times in report.faults.items():
            record_property(f"fault: {fault}", times)
        record_property("cpu_seconds", cpu_seconds)

    return add
