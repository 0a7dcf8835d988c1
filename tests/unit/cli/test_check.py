"""``vdcos check``: a line for each, what it costs below it, and an exit status for scripts."""

import io
import json

import pytest
import yaml

from vdcos import cli
from vdcos.cli import check, ha
from vdcos.core import preflight
from vdcos.core.preflight import Check
from vdcos.runtime.credentials import Origin

FINE = Check("KubeVirt", "OK", "v1.8.2", required=True)
GATE = Check(
    "ExpandDisks", "Limited", "feature gate ExpandDisks is off", "guests are blind", "add it", ("VirtualMachine",)
)
GONE = Check("CDI", "Missing", "not installed", "no disk", "install CDI", preflight.EVERYTHING, required=True)
OPTIONAL = Check("Multus", "Missing", "not installed", "pod networks only", "install Multus", ("Network",))
HIDDEN = Check("Rights", "Unknown", "nobody tells")


@pytest.mark.parametrize(
    ("checks", "status", "says"),
    [
        ([FINE], check.WELL, "All 1 are there."),
        ([FINE, GATE], check.LIMITED, "vdcos works here, with limits: 1 of 2 checks are not OK."),
        ([FINE, OPTIONAL], check.LIMITED, "with limits: 1 of 2 checks are not OK."),
        ([FINE, HIDDEN], check.LIMITED, "with limits: 1 of 2 checks are not OK."),
        ([FINE, GATE, GONE], check.FAILED, "vdcos cannot work here without CDI."),
    ],
)
def test_what_it_comes_to(checks: list[Check], status: int, says: str) -> None:
    assert check.status(checks) == status
    assert check.table(checks).splitlines()[-1].endswith(says)


def test_for_people() -> None:
    assert check.table([FINE, GATE, GONE, HIDDEN]) == (
        "CHECK        STATE    FOUND\n"
        "KubeVirt     OK       v1.8.2\n"
        "ExpandDisks  Limited  feature gate ExpandDisks is off\n"
        "    VirtualMachine: guests are blind. Add it.\n"
        "CDI          Missing  not installed\n"
        "    everything: no disk. Install CDI.\n"
        "Rights       Unknown  nobody tells\n"
        "\n"
        "vdcos cannot work here without CDI.\n"
    )


def test_colour_changes_no_width() -> None:
    plain, coloured = check.table([FINE, GATE]), check.table([FINE, GATE], colourful=True)
    assert "\x1b[32mOK\x1b[0m" in coloured
    assert "\x1b[33mLimited\x1b[0m" in coloured
    for code in ("\x1b[32m", "\x1b[33m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == plain


def test_costs_wrap_at_the_width_of_the_terminal() -> None:
    wide = Check("Multus", "Missing", "none", "word " * 40, "do it", ("Network",))
    lines = check.table([wide], width=60).splitlines()
    assert len(lines) > 5
    assert max(map(len, lines[2:-2])) <= 60
    assert all(line.startswith("    ") for line in lines[2:-2])


def test_for_programs_they_are_conditions() -> None:
    said = {}
    for output in ("json", "yaml"):
        stream = io.StringIO()
        ha.show(check.data([FINE, GATE]), output, check.table, stream)
        said[output] = stream.getvalue()
    assert json.loads(said["json"]) == yaml.safe_load(said["yaml"])
    assert json.loads(said["json"])["checks"][1] == {
        "type": "ExpandDisks",
        "status": "False",
        "reason": "Limited",
        "message": "feature gate ExpandDisks is off. Guests are blind. Add it",
        "required": False,
        "limits": ["VirtualMachine"],
    }


@pytest.mark.parametrize(
    ("only", "status", "shown"),
    [
        ((), check.LIMITED, ["KubeVirt", "ExpandDisks", "Definitions", "Rights"]),
        (("Rights", "Definitions"), check.WELL, ["Definitions", "Rights"]),
        (("ExpandDisks", "Rights"), check.LIMITED, ["ExpandDisks", "Rights"]),
    ],
)
def test_some_checks_count_alone(
    only: tuple[str, ...],
    status: int,
    shown: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert looked(monkeypatch, *(f"--only={name}" for name in only), "-o=json") == status
    assert [each["type"] for each in json.loads(capsys.readouterr().out)["checks"]] == shown


@pytest.mark.parametrize("more", [(), ("--only=Rights",)])
def test_a_check_that_there_is_not_is_not_well(
    more: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert looked(monkeypatch, "--only=Right", *more) == check.FAILED
    assert "there is no Right; there are KubeVirt, " in capsys.readouterr().err
    assert looked(monkeypatch, "--only=Definitions", "--before-install") == check.FAILED


def looked(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit status in a cluster where one thing is limited."""

    async def look(origin: object, namespace: str) -> list[Check]:
        return [FINE, GATE, Check("Definitions", "OK", "all 6", required=True), Check("Rights", "OK", "all 125")]

    monkeypatch.setattr(check, "look", look)
    monkeypatch.setattr(Origin, "find", lambda *_: None)
    return cli.main(["check", *arguments])


@pytest.mark.parametrize("command", ["check", "uninstall"])
def test_without_a_cluster_it_says_so(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/none")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert cli.main([command]) == check.FAILED
    assert capsys.readouterr().err.startswith(f"vdcos {command}: ")
