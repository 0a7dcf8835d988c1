"""The table of causes: complete against what services and providers say, and it invents nothing."""

from pathlib import Path

import pytest

from tests.unit.devcluster.test_documents import complaints
from vdcos import api
from vdcos.cli.vdc import causes
from vdcos.cli.vdc.causes import CAUSES
from vdcos.cli.vdc.why import _BEHIND

ROOT = Path(__file__).resolve().parents[4]
SOURCES = ROOT / "operator" / "vdcos"

FOLDERS = {
    "VirtualMachine": ("services/virtualmachine", "providers/networks", "core"),
    "Network": ("services/network", "providers/networks"),
    "Datastore": ("services/datastore",),
    "Host": ("services/host",),
    "HAPolicy": ("services/hapolicy",),
    "HostFailure": ("services/hostfailure",),
}
"""Where the reasons of each kind come from."""
SELDOM = {
    "VirtualMachine": {"Disabled", "Paused", "NoCapacity", "LocalDisk", "Selector", "Taint", "Device", "Affinity",
                       "AntiAffinity", "InsufficientFailoverCapacity", "DatastoreFull", "CannotSee", "PolicyPaused"},
    "Host": {"Dead", "ApiTrouble", "Suspect"},
    "HostFailure": {"NoProof", "StormBrake", "PolicyGone", "Paused", "GivenUp", "Fencing", "Quarantined"},
}  # fmt: skip
"""Reasons that reach a condition by way of a variable, which ``complaints`` does not see."""


@pytest.mark.parametrize("kind", CAUSES)
def test_every_complaint_has_its_cause(kind: str) -> None:
    said = {reason for folder in FOLDERS[kind] for reason in complaints(SOURCES / folder)} | SELDOM.get(kind, set())
    assert len(said) > 5
    assert said <= CAUSES[kind].keys(), said - CAUSES[kind].keys()


@pytest.mark.parametrize("kind", CAUSES)
def test_no_cause_is_invented(kind: str) -> None:
    sources = "".join(path.read_text() for path in SOURCES.rglob("*.py") if "cli" not in path.parts)
    unknown = {reason for reason in CAUSES[kind] if f'"{reason}"' not in sources}
    # Some are put together from a word and its ending, such as Secret and Missing.
    assert all(
        reason.endswith(("Missing", "Unreadable")) or reason == "BackendStorageNotReady" for reason in unknown
    ), unknown


def test_every_kind_has_causes() -> None:
    assert CAUSES.keys() == api.KINDS.keys()


@pytest.mark.parametrize(("kind", "reason"), [(kind, reason) for kind in CAUSES for reason in CAUSES[kind]])
def test_a_cause_is_a_clause_and_leads_somewhere(kind: str, reason: str) -> None:
    cause = CAUSES[kind][reason]
    assert cause.means
    assert not cause.means.endswith(".")
    assert not cause.then.endswith(".")
    assert cause.leads in _BEHIND


def test_a_reason_of_somebody_else_has_a_cause_as_well() -> None:
    assert causes.cause("VirtualMachine", "SomethingOfKubeVirts").leads == "KubeVirt"
    assert causes.cause("Network", "Malformed").then
    assert causes.cause("Host", "Whatever").means
