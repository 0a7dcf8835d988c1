"""Random runs: other orders, delays, several faults, and steps at any time."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vdcos.testing.drivers import Case, Report
from vdcos.testing.replica import Violation

FAILED = Path(__file__).with_name("failed-seeds.txt")
BATCHES = 20
SEEDS = 25
"""Per batch, in `make test`; `make sim` runs as many as there is time for."""

Count = Callable[[Report, float], None]


def remembered() -> list[int]:
    """Seeds that broke a law once."""
    lines = (line.partition("#")[0].strip() for line in FAILED.read_text().splitlines())
    return [int(line) for line in lines if line]


def broken(seeds: list[int]) -> list[str]:
    found = []
    for seed in seeds:
        try:
            Case.of(seed).run()
        except Violation as violation:
            found.append(f"{violation}; replay: vdcos sim --seed {seed}")
    return found


@pytest.mark.parametrize("batch", range(BATCHES))
def test_seeds(batch: int, count: Count) -> None:
    began = time.process_time()
    assert not broken(list(range(batch * SEEDS, (batch + 1) * SEEDS)))
    count(Report(SEEDS, distinct=SEEDS), time.process_time() - began)


def test_what_failed_once() -> None:
    assert not broken(remembered())
