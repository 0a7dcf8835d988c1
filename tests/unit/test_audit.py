"""What of pip-audit's report is a failure: known vulnerabilities, and whatever nobody could be asked about."""

from typing import Any

import pytest

from tests import audit

CLEAN = {"name": "kopf", "version": "1.45.2", "vulns": []}
BAD = {"name": "old", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]}
SKIPPED = {"name": "private", "skip_reason": "Dependency not found on PyPI and could not be audited"}


@pytest.mark.parametrize(
    "why, report, vulnerable, unknown, says",
    [
        ("nothing is known against any", [CLEAN], 0, 0, "no known vulnerability in 1 packages"),
        ("one is vulnerable", [CLEAN, BAD], 1, 0, "old 1.0: PYSEC-1, fixed in 1.1"),
        ("a mirror without advisories", [SKIPPED], 0, 1, "nobody could be asked about 1 of 1"),
        ("one of many was skipped", [CLEAN, SKIPPED], 0, 1, "nobody could be asked about 1 of 2"),
        ("vulnerable, and not all were asked", [BAD, SKIPPED], 1, 1, "known vulnerabilities"),
    ],
)
def test_verdict(why: str, report: list[dict[str, Any]], vulnerable: int, unknown: int, says: str) -> None:
    found = audit.verdict({"dependencies": report})
    assert (len(found.vulnerable), len(found.unknown)) == (vulnerable, unknown), why
    assert says in found.told("requirements.lock"), why


@pytest.mark.parametrize(
    "reports, want",
    [
        ([audit.Verdict(asked=3), audit.Verdict(asked=2)], 0),
        ([audit.Verdict(asked=3), audit.Verdict(asked=0)], 1),
        ([audit.Verdict(asked=3), audit.Verdict(unknown=("a",), asked=2)], 1),
        ([audit.Verdict(vulnerable=("a",), asked=3), audit.Verdict(asked=2)], 1),
    ],
)
def test_only_what_was_asked_passes(monkeypatch: pytest.MonkeyPatch, reports: list[audit.Verdict], want: int) -> None:
    answers = iter(reports)
    monkeypatch.setattr(audit, "audit", lambda _: next(answers))
    monkeypatch.delenv("OFFLINE", raising=False)
    assert audit.dependencies() == want


def test_whoever_goes_without_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFLINE", "1")
    assert audit.dependencies() == audit.SKIPPED
