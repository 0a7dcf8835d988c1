"""``vdcos sim``: what replays a failure prints, and what it returns."""

import pytest

from vdcos import cli


def test_a_fault_is_replayed_with_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sim", "--scenario", "create", "--write", "3", "--api", "crash after"]) == 0
    said = capsys.readouterr().out
    assert "!!! crash after/none at write 3" in said
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
