"""Counts in a status: bounded in size, and in how often they are written."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from vdcos.core.plan import Instant

SECONDS_BETWEEN = 5.0
"""Counts over many objects change all the time in a burst; they are written at most this often."""

NAMED = 10
"""How many objects a status or a message names; the rest is counted."""

COUNTED_AT = "countedAt"


def usage(count: int, names: Iterable[object]) -> dict[str, Any]:
    """How many, and the first ten by name, as ``api.meta.Usage``."""
    return {"count": count, "names": [str(name) for name in islice(names, NAMED)]}


def listed(count: int, names: Iterable[object], most: int = NAMED) -> str:
    """The first names for a message, ``most`` of them, and how many more there are."""
    named = [str(name) for name in islice(names, most)]
    return ", ".join(named) + (f" and {count - len(named)} more" if count > len(named) else "")


def some(count: int, what: str, does: str = "") -> str:
    """A number and its noun, and what that does: 1 disk, 2 disks; 1 VM runs, 2 VMs run."""
    words = [str(count), what, f"{does}s"] if count == 1 else [str(count), f"{what}s", does]
    return " ".join(words if does else words[:2])


def stamp(now: Instant) -> str:
    """A moment as Kubernetes writes it."""
    return datetime.fromtimestamp(now.wall, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def age(stamped: str, now: Instant) -> float:
    """How many seconds ago a moment was that ``stamp`` wrote; 0 when it lies ahead, because a clock was set back."""
    return max(0.0, _elapsed(stamped, now))


def begun(stamped: str, now: Instant) -> str:
    """When a wait has begun, as it is to be stored. What lies ahead of our clock, which was set back, is now: so a wait
    becomes longer by itself at most, and not by what the clock was set back."""
    return stamp(now) if _elapsed(stamped, now) < 0 else stamped


def _elapsed(stamped: str, now: Instant) -> float:
    return now.wall - datetime.fromisoformat(stamped).timestamp()


def paced(stored: Mapping[str, Any], counted: Mapping[str, Any], now: Instant) -> tuple[dict[str, Any], float | None]:
    """The counts to put into a status, and in how many seconds to look again, if that matters.

    ``stored`` is the status as it stands. When its counts differ from ``counted`` and were written less than
    ``SECONDS_BETWEEN`` ago by its own ``countedAt``, they stand until then. So the pace follows from what is stored,
    survives a restart, and an unchanged world changes nothing. A ``countedAt`` from the future (a clock was set) does
    not hold anything up.
    """
    known = {field: stored.get(field) for field in counted}
    counted_at = stored.get(COUNTED_AT)
    if known == counted and counted_at is not None:
        return {**counted, COUNTED_AT: counted_at}, None
    if counted_at is not None:
        since = _elapsed(counted_at, now)
        if 0 <= since < SECONDS_BETWEEN:
            standing = {field: value for field, value in known.items() if value is not None}
            return {**standing, COUNTED_AT: counted_at}, SECONDS_BETWEEN - since
    return {**counted, COUNTED_AT: stamp(now)}, None
