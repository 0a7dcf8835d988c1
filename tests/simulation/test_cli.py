"""``vdcos sim``: what replays a failure prints, and what it returns."""

from typing import Any

import pytest

from vdcos import cli
from vdcos.testing import drivers
from vdcos.testing.faults import AtWrite
from vdcos.testing.replica import Violation


def test_a_fault_is_replayed_with_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sim", "--scenario", "create", "--write", "3", "--api", "crash after"]) == 0
    said = capsys.readouterr().out
    assert "crash after/none at write 3" in said
    assert "operator crashes" in said
    assert said.endswith("create: all laws hold\n")


def test_a_seed_is_replayed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sim", "--seed", "1"]) == 0
    assert "all laws hold" in capsys.readouterr().out


def test_seeds_run_for_as_long_as_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sim", "--seconds", "0.5", "--first", "10"]) == 0
    assert capsys.readouterr().out.startswith("seeds 10 to ")


def test_an_unknown_scenario_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sim", "--scenario", "no such thing"]) == 2
    assert "there is no scenario 'no such thing'" in capsys.readouterr().err


def test_a_fault_is_judged_as_where_it_was_found(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """Nothing may end otherwise than without the fault: a replay knows how it ends without."""
    monkeypatch.setattr(drivers, "SLACK", -100)
    assert cli.main(["sim", "--scenario", "create", "--write", "3", "--api", "conflict"]) == 1
    assert "create: write budget: " in capsys.readouterr().out


def test_what_leads_elsewhere_may_end_elsewhere() -> None:
    assert cli.main(["sim", "--scenario", "create", "--write", "3", "--api", "replaced"]) == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["--write", "3", "--api", "nonsense"],
            "there is no fault 'nonsense' of a request; there are: none, lost before",
        ),
        (["--write", "3", "--view", "bogus"], "there is no fault 'bogus' of the watches; there are: none, late"),
        (["--api", "conflict"], "a fault needs --write"),
        (["--write", "300", "--api", "conflict"], "'create' has no write 300 of the operator"),
        (["--write", "3", "--api", "paused"], "'paused' is about who leads: it needs --replicas 2"),
    ],
)
def test_a_fault_that_cannot_happen_is_said(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sim", "--scenario", "create", *words]) == 2
    assert says in capsys.readouterr().err


def test_a_failure_says_how_to_replay_it() -> None:
    failure = drivers.Failure("create", AtWrite(3, "paused", "none"), Violation("quiet", "it wrote"), 2)
    assert 'vdcos sim --scenario "create" --write 3 --api "paused" --view "none" --replicas 2' in str(failure)


def test_failures_of_hosts_are_replayed_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sim", "--scenario", "host dies"]) == 0
    assert cli.main(["sim", "--scenario", "host dies", "--write", "3", "--api", "conflict"]) == 0
    said = capsys.readouterr().out
    assert "fault: conflict/none at write 3" in said
    assert said.count("host dies: all laws hold") == 2
    assert cli.main(["sim", "--hosts", "--seed", "0"]) == 0
    assert "all laws hold" in capsys.readouterr().out
