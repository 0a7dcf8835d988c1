"""``vdcos sim``: what replays a failure prints, and what it returns."""

import shlex
from typing import Any

import pytest

from vdcos import cli
from vdcos.testing import drivers
from vdcos.testing.faults import AtWrite, at_write
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


def test_a_case_is_replayed(capsys: pytest.CaptureFixture[str]) -> None:
    case = '{"scenario":"create","faults":[[3,"conflict","late"]]}'
    assert cli.main(["sim", "--case", case]) == 0
    assert "conflict/late at write 3" in capsys.readouterr().out
    assert cli.main(["sim", "--case", '{"scenario":"host dies"}']) == 0
    assert cli.main(["sim", "--case", '{"scenario":"nowhere"}']) == 2
    assert "this is no case: there is no scenario 'nowhere'" in capsys.readouterr().err
    assert cli.main(["sim", "--case", "nonsense"]) == 2


def test_what_seeds_find_is_said_as_a_case(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def run(case: drivers.Case, **rest: Any) -> None:
        raise Violation("never two", "always")

    monkeypatch.setattr(drivers.Case, "run", run)
    assert cli.main(["sim", "--seconds", "60", "--first", "3"]) == 1
    said = capsys.readouterr().out
    assert "seed 3: never two: always" in said
    assert drivers.Case.read(shlex.split(said.partition("--case ")[2])[0]).faults == ()


def test_two_faults_are_replayed(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--write", "3", "--api", "lost after", "--then", "crash before"]
    assert cli.main(["sim", "--scenario", "create", *words]) == 0
    said = capsys.readouterr().out
    assert "fault: lost after/none at write 3\nfault: crash before/none at write 4\n" in said
    assert cli.main(["sim", "--scenario", "create", *words[:-1], "nonsense"]) == 2
    failure = drivers.Failure("create", at_write(3, "failed", "late", "conflict"), Violation("quiet", "it wrote"))
    assert '--write 3 --api "failed" --view "late" --then "conflict"' in str(failure)


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
