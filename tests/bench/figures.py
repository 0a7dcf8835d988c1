"""Numbers from measurements, and the table that shows them. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the smallest value that at least this share of all values does not exceed.

    ``share`` is in (0, 1]. Of nothing, it is not a number.
    """
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two middle ones. Of nothing, it is not a number."""
    if not values:
        return math.nan
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The b of cost = a · size^b, by least squares over the logarithms: 1 is a flat cost per object."""
    xs, ys = [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread


def between(values: Sequence[tuple[str, float]], name: str, other: str) -> list[float]:
    """Each value of ``name`` over the mean of the nearest values of ``other`` before and after it in the sequence.

    A machine that slows down in between slows both, so that ratios hold where absolute figures do not.
    """
    ratios = []
    for position, (who, value) in enumerate(values):
        if who != name:
            continue
        before = [v for w, v in values[:position] if w == other][-1:]
        after = [v for w, v in values[position + 1 :] if w == other][:1]
        if near := [*before, *after]:
            ratios.append(value * len(near) / sum(near))
    return ratios


@dataclass(frozen=True)
class Target:
    """What a figure should be: at least, or at most, a limit."""

    limit: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


TARGETS: Mapping[str, Target] = {
    "efficiency": Target(0.90, at_least=True),
    "ratio_controller_runtime": Target(1.2, at_least=True),
    "writes_per_vm": Target(3.0),
    "writes_at_rest": Target(0),
    "rss_mb_10k": Target(150),
    "sync_s_10k": Target(3.0),
    "storm_events_per_s": Target(5000, at_least=True),
    "loop_lag_p99_ms": Target(50),
    "growth_exponent": Target(1.1),
    "ha_detect_s": Target(20),
    "ha_detect_tuned_s": Target(8),
    "ha_fence_s": Target(3),
    "ha_release_100_s": Target(1.5),
    "ha_last_vmi_ratio": Target(1.1),
    "ha_total_minus_boot_s": Target(30),
    "failure_plan_cold_s": Target(1.0),
    "failure_plan_incremental_s": Target(0.2),
}


@dataclass
class Table:
    """Rows of text under a head, first column to the left, the others to the right."""

    head: Sequence[str]
    rows: list[Sequence[Any]] = field(default_factory=list)

    def __str__(self) -> str:
        texts = [list(map(str, self.head)), *([shown(cell) for cell in row] for row in self.rows)]
        widths = [max(len(row[column]) for row in texts) for column in range(len(self.head))]
        lines = []
        for number, row in enumerate(texts):
            cells = [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
            lines.append(f"| {' | '.join(cells)} |")
            if number == 0:
                lines.append(
                    f"|{'|'.join('-' * (width + 1) + (':' if column else '-') for column, width in enumerate(widths))}|"
                )
        return "\n".join(lines)


def shown(value: Any) -> str:
    """A number with as many digits as mean something."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return str(value)


def verdicts(results: Mapping[str, float]) -> Table:
    """The figures that have targets, and whether they meet them."""
    table = Table(("figure", "measured", "target", ""))
    for name, target in TARGETS.items():
        if name in results:
            table.rows.append((name, results[name], target, "met" if target.met(results[name]) else "missed"))
    return table
