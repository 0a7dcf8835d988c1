"""Counts scenarios over all workers, for the closing line; and keeps the garbage collector from being in the way."""

import gc
from typing import Any

import pytest

SEEDS_FILE = "failed-seeds.txt"


def pytest_collection_finish() -> None:
    """What is imported by now stays. A world is taken apart at its end, so that a collection finds next to nothing,
    and going through all that the memos hold would cost more than it frees."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many scenarios ran, and how fast."""
    properties: list[tuple[str, float]] = [
        each for report in terminalreporter.stats.get("passed", []) for each in report.user_properties
    ]
    counted, merged, spent = (
        sum(value for name, value in properties if name == wanted) for wanted in ("scenarios", "merged", "cpu_seconds")
    )
    if counted and spent:
        terminalreporter.write_line(
            f"{counted:,.0f} scenarios ({merged:,.0f} of them joined a path that was known to the end), "
            f"{spent:.0f} s of CPU: {counted / spent:.0f} scenarios/s/core"
        )


@pytest.fixture
def count(record_property: Any) -> Any:
    """``count(scenarios, merged, cpu_seconds)`` adds to the closing line."""

    def add(scenarios: int, merged: int, cpu_seconds: float) -> None:
        for name, value in (("scenarios", scenarios), ("merged", merged), ("cpu_seconds", cpu_seconds)):
            record_property(name, value)

    return add
