"""``vdcos check``: a line for each, what it costs below it, and an exit status for scripts."""

import io
import json

import pytest
import yaml

from vdcos import cli
from vdcos.cli import check, ha
from vdcos.core import preflight
from vdcos.core.preflight import Check

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


@pytest.mark.parametrize("command", ["check", "uninstall"])
def test_without_a_cluster_it_says_so(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/none")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert cli.main([command]) == check.FAILED
    assert capsys.readouterr().err.startswith(f"vdcos {command}: ")
