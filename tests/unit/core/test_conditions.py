"""Conditions as kstatus reads them."""

from typing import Any

import pytest

from vdcos.core import conditions
from vdcos.core.conditions import Condition, false, stalled, true, unknown

STORAGE, NETWORK = true("StorageReady", "Bound"), true("NetworkReady", "Attached")
NEEDED = ("StorageReady", "NetworkReady")


def kstatus(said: tuple[Condition, ...], generation: int = 1, observed: int = 1) -> str:
    """The rules of kstatus' generic status, in its order (cli-utils pkg/kstatus/status/generic.go)."""
    by_type = {c.type: c.status for c in said}
    if observed != generation or by_type.get("Reconciling") == "True":
        return "InProgress"
    if by_type.get("Stalled") == "True":
        return "Failed"
    return "Current" if by_type.get("Ready", "True") == "True" else "InProgress"


CASES: list[tuple[str, tuple[Condition, ...], tuple[str, str], str, str]] = [
    ("all is well", (STORAGE, NETWORK), ("True", "Ready"), "", "Current"),
    (
        "more than needed is no matter",
        (STORAGE, NETWORK, false("Agent", "Off", "no agent")),
        ("True", "Ready"),
        "",
        "Current",
    ),
    (
        "the first in order of need speaks",
        (false("NetworkReady", "NoNet", "n"), false("StorageReady", "Full", "s")),
        ("False", "Full"),
        "s",
        "InProgress",
    ),
    (
        "unknown stays unknown",
        (STORAGE, unknown("NetworkReady", "Unread", "?")),
        ("Unknown", "Unread"),
        "?",
        "InProgress",
    ),
    (
        "what was not said is unknown",
        (STORAGE,),
        ("Unknown", "NotEvaluated"),
        "NetworkReady is not known yet",
        "InProgress",
    ),
    (
        "stalled speaks first",
        (false("StorageReady", "Full", "s"), NETWORK, stalled("NotOurs", "x")),
        ("False", "NotOurs"),
        "x",
        "Failed",
    ),
]
"""What it is about; what is said; status and reason of Ready, its message; the verdict of kstatus."""


@pytest.mark.parametrize("reason, said, ready, message, verdict", CASES)
def test_ready_sums_up(
    reason: str, said: tuple[Condition, ...], ready: tuple[str, str], message: str, verdict: str
) -> None:
    summed = conditions.summarise(said, NEEDED)
    sum_ = next(c for c in summed if c.type == "Ready")
    assert (sum_.status, sum_.reason, sum_.message) == (*ready, message), reason
    assert kstatus(summed) == verdict, reason
    assert kstatus(summed, generation=2) == "InProgress"


def test_a_kind_that_needs_nothing_is_ready() -> None:
    assert conditions.summarise((), (), ready="NoMatches") == (true("Ready", "NoMatches"),)


def test_times_move_only_with_the_status() -> None:
    first = conditions.merge([], [true("A", "X"), true("Ready", "Y")], 1, 0.0)
    assert [c["type"] for c in first] == ["Ready", "A"]
    assert first[0]["lastTransitionTime"] == "1970-01-01T00:00:00Z"
    later = conditions.merge(first, [true("A", "Other", "said otherwise"), false("Ready", "Z", "z")], 2, 60.0)
    assert [c["lastTransitionTime"] for c in later] == ["1970-01-01T00:01:00Z", "1970-01-01T00:00:00Z"]
    assert {c["observedGeneration"] for c in later} == {2}


def test_merging_what_is_stored_changes_nothing() -> None:
    said = [true("A", "X", "m"), false("B", "Y", "n")]
    stored = conditions.merge([], said, 3, 0.0)
    assert conditions.merge(stored, reversed(said), 3, 99.0) == stored


@pytest.mark.parametrize("length", [conditions.MESSAGE_LIMIT, conditions.MESSAGE_LIMIT + 1, 40_000])
def test_messages_are_bounded(length: int) -> None:
    merged: list[dict[str, Any]] = conditions.merge([], [true("A", "X", "m" * length)], 1, 0.0)
    assert len(merged[0]["message"]) == conditions.MESSAGE_LIMIT
    assert merged[0]["message"].endswith("…") == (length > conditions.MESSAGE_LIMIT)


LINES = [
    ("plain words", "the disk is full", "the disk is full"),
    ("letters of any language, and signs", "große Bäckerei – 日本 ✓", "große Bäckerei – 日本 ✓"),
    ("a second line", "well\nlevel=error forged", "well level=error forged"),
    ("an escape sequence", "\x1b[2J\x1b[31mred", " [2J [31mred"),
    ("an escape sequence in one character", "\x9b2J", " 2J"),
    ("the direction of writing", "safe\u202etxt.exe", "safe txt.exe"),
    ("a carriage return", "False\rTrue ", "False True "),
]


@pytest.mark.parametrize("why, text, want", LINES, ids=[row[0] for row in LINES])
def test_a_line_has_nothing_that_a_terminal_obeys(why: str, text: str, want: str) -> None:
    assert conditions.line(text) == want
    (written,) = conditions.merge([], [conditions.false("Ready", "Odd", text)], 1, 0.0)
    assert written["message"] == want
