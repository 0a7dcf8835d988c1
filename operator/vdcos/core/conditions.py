"""Conditions by the rules of kstatus: one meaning each, a message that says what is wrong and what to do."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

Status = Literal["True", "False", "Unknown"]

READY = "Ready"
RECONCILING = "Reconciling"
STALLED = "Stalled"

# A message is cut so that a status never grows with what a third party says (Kubernetes allows 32,768).
MESSAGE_LIMIT = 1024


@dataclass(frozen=True, slots=True)
class Condition:
    """What a plan says about one aspect. Times and generations are added when it is written.

    Messages are deterministic: no times, no counters that run, or every pass would write.
    """

    type: str
    status: Status
    reason: str
    message: str = ""


def line(text: str) -> str:
    """The text on one line, without what a terminal would obey or hide: guests, tenants and others put words into ours.

    Line breaks, escape sequences and marks that turn the direction of writing become blanks.
    """
    return text if text.isprintable() else "".join(letter if letter.isprintable() else " " for letter in text)


def true(kind: str, reason: str, message: str = "") -> Condition:
    return Condition(kind, "True", reason, message)


def false(kind: str, reason: str, message: str) -> Condition:
    return Condition(kind, "False", reason, message)


def unknown(kind: str, reason: str, message: str) -> Condition:
    return Condition(kind, "Unknown", reason, message)


def stalled(reason: str, message: str) -> Condition:
    """No retry can help: somebody must change something first. kstatus calls the object Failed."""
    return Condition(STALLED, "True", reason, message)


def summarise(conditions: Sequence[Condition], needed: Sequence[str], ready: str = "Ready") -> tuple[Condition, ...]:
    """Add Ready, and Reconciling while it is not there yet, to what a plan says.

    Ready is True when all ``needed`` conditions are True; else it takes reason and message of Stalled if there is one,
    or of the first needed condition, in the order of ``needed``, that is not. ``ready`` is the reason when all is well.
    """
    by_type = {condition.type: condition for condition in conditions}
    said = [by_type.get(kind) or unknown(kind, "NotEvaluated", f"{kind} is not known yet") for kind in needed]
    stall = by_type.get(STALLED)
    unmet = stall or next((condition for condition in said if condition.status != "True"), None)
    if unmet is None:
        return (*conditions, true(READY, ready))
    not_ready = Condition(READY, "Unknown" if unmet.status == "Unknown" else "False", unmet.reason, unmet.message)
    if stall:
        return (*conditions, not_ready)
    return (*conditions, not_ready, true(RECONCILING, unmet.reason, unmet.message))


def merge(
    stored: Iterable[Mapping[str, Any]], said: Iterable[Condition], generation: int, now: float
) -> list[dict[str, Any]]:
    """The list to store: Ready first, then by type; a transition time changes only when the status does.

    ``stored`` is the list as the API server holds it, ``now`` seconds since the epoch.
    """
    before = {str(c.get("type")): c for c in stored}
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    merged = []
    for condition in sorted(said, key=lambda c: (c.type != READY, c.type)):
        old = before.get(condition.type, {})
        since = old.get("lastTransitionTime") if old.get("status") == condition.status else None
        message = line(condition.message)
        if len(message) > MESSAGE_LIMIT:
            message = message[: MESSAGE_LIMIT - 1] + "…"
        merged.append(
            {
                "type": condition.type,
                "status": condition.status,
                "reason": condition.reason,
                "message": message,
                "lastTransitionTime": since or stamp,
                "observedGeneration": generation,
            }
        )
    return merged
