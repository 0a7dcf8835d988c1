"""kstatus and Argo CD, asked themselves: every kind in every state is judged as the guide says."""

import re
from typing import Any

import pytest

from tests.devcluster import verdicts
from tests.devcluster.verdicts import GUIDE, Judges, state, states
from tests.unit.core import test_conditions as unit
from vdcos import api
from vdcos.core import conditions


@pytest.fixture(scope="session")
def judges() -> Judges:
    return Judges.built()


@pytest.mark.parametrize("kind", api.KINDS)
def test_every_state_is_judged_as_the_guide_says(judges: Judges, kind: str) -> None:
    named = [(name, item) for name, item in states() if item["kind"] == kind]
    found = judges.judge(item for _, item in named)
    wrong = {
        name: (verdict.words, GUIDE[state(item)])
        for (name, item), verdict in zip(named, found, strict=True)
        if verdict.words != GUIDE[state(item)]
    }
    assert not wrong
    assert {state(item) for _, item in named} == set(GUIDE), "there is an object in every state"


def test_the_table_in_the_guide_is_what_the_libraries_say() -> None:
    page = (verdicts.ROOT / "docs" / "guide" / "gitops.md").read_text()
    rows = re.findall(r"^\| (.+?) \| `(\w+)` \| `(\w+)` \|$", page, re.MULTILINE)
    assert {words: (flux, argo) for words, flux, argo in rows} == GUIDE


def test_argo_cd_shows_why(judges: Judges) -> None:
    """Its user interface shows the message of an object's health, and not our conditions."""
    said = {
        "passing": conditions.false("StorageReady", "Importing", "disk system: the source is being copied"),
        "deleting": conditions.true("Deleting", "InUse", "Waits for 1 VM."),
        "restart": conditions.true("RestartRequired", "RestartRequired", "cores change at the next start"),
        "well": conditions.true("StorageReady", "DisksReady"),
    }
    items = [_vm(said["passing"]), _vm(said["restart"]), _vm(said["well"]), _vm(said["deleting"], going=True), _vm()]
    items[-1]["status"] = {"observedGeneration": -1}
    assert [verdict.argocd_message for verdict in judges.judge(items)] == [
        "Importing: disk system: the source is being copied",
        "RestartRequired: cores change at the next start",
        "",
        "InUse: Waits for 1 VM.",
        "NotSeenYet: no operator has seen this spec yet: does one run?",
    ]


def _vm(*said: conditions.Condition, going: bool = False) -> dict[str, Any]:
    merged = conditions.merge(
        (), conditions.summarise(said, [each.type for each in said if each.type == "StorageReady"]), 1, 0.0
    )
    meta: dict[str, Any] = {"name": "web", "namespace": "shop", "generation": 1}
    if going:
        meta["deletionTimestamp"] = "2026-01-01T12:00:00Z"
    status = {"observedGeneration": 1, "conditions": merged}
    return {"apiVersion": api.API_VERSION, "kind": "VirtualMachine", "metadata": meta, "status": status}


@pytest.mark.parametrize("case", unit.CASES, ids=[case[0] for case in unit.CASES])
def test_our_own_rules_of_kstatus_are_those_of_the_library(judges: Judges, case: tuple[Any, ...]) -> None:
    """The unit tests play kstatus in ten lines; the library says the same of the same conditions."""
    _, said, _, _, verdict = case
    summed = conditions.summarise(said, unit.NEEDED)
    merged = conditions.merge((), summed, 1, 0.0)
    item = _vm()
    item["status"] = {"observedGeneration": 1, "conditions": merged}
    behind = {**item, "metadata": {**item["metadata"], "generation": 2}}
    found = judges.judge([item, behind])
    assert [each.kstatus for each in found] == [verdict, "InProgress"]
    assert [each.kstatus for each in found] == [unit.kstatus(summed), unit.kstatus(summed, generation=2)]


def test_a_kind_of_somebody_else_is_not_ours_to_judge(judges: Judges) -> None:
    """A script that does not apply says nothing; one that breaks is an error, and not a verdict."""
    other = {"apiVersion": "example.com/v1", "kind": "VirtualMachine", "metadata": {"name": "x", "generation": 1}}
    assert [each.argocd for each in judges.judge([other])] == [""]
