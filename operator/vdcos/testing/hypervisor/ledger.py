"""The ledger: which VM process ran on which host with which disks, from when to when.

It is written by the hosts themselves, not read from the API server, so it also knows of processes that the API server
believes dead. The law "never two" is `overlaps(...) == []`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations

from vdcos.testing.hypervisor.values import Entry, Happening


@dataclass(frozen=True, slots=True)
class Interval:
    """A process held `disks` on `host` from `start` up to, not including, `end` (None: still does)."""

    vmi: str
    vm: str
    namespace: str
    name: str
    host: str
    disks: frozenset[str]
    start: float
    end: float | None = None
    why: str = ""
    """Why it ended, if it did."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two processes that could write to the same disk at the same time."""

    disk: str
    first: Interval
    second: Interval


def intervals(entries: Iterable[Entry]) -> list[Interval]:
    """Fold entries, in the order in which they happened, into intervals with a constant set of disks."""
    running: dict[tuple[str, str], Interval] = {}
    ended: list[Interval] = []

    def close(entry: Entry) -> None:
        interval = running.pop((entry.host, entry.vmi), None)
        if interval is not None:
            ended.append(replace(interval, end=entry.at, why=entry.why))

    for entry in entries:
        if entry.what in (Happening.STARTED, Happening.DISKS, Happening.STOPPED):
            close(entry)
        if entry.what in (Happening.STARTED, Happening.DISKS):
            running[(entry.host, entry.vmi)] = Interval(
                entry.vmi, entry.vm, entry.namespace, entry.name, entry.host, entry.disks, entry.at
            )
    return sorted([*ended, *running.values()], key=lambda i: (i.start, i.host, i.vmi))


def overlaps(history: Iterable[Interval], shareable: frozenset[str] = frozenset()) -> list[Overlap]:
    """Every pair of intervals that held a disk at once, except disks that are meant to be shared."""
    holders: dict[str, list[Interval]] = {}
    for interval in history:
        for disk in interval.disks - shareable:
            holders.setdefault(disk, []).append(interval)
    return [
        Overlap(disk, first, second)
        for disk, holding in sorted(holders.items())
        for first, second in combinations(holding, 2)
        if _meet(first, second)
    ]


def _meet(a: Interval, b: Interval) -> bool:
    return (b.end is None or a.start < b.end) and (a.end is None or b.start < a.end)
