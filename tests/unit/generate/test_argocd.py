"""Every reason for which an object is not Ready has a verdict, and the health script knows it."""

import re
from pathlib import Path

import pytest
import yaml

from tests.unit.generate import reasons
from vdcos import api
from vdcos.generate import argocd

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.parametrize("kind", api.KINDS)
def test_every_reason_has_a_verdict(kind: str) -> None:
    assert reasons.of(kind) - argocd.ATTENTION - argocd.PASSING == set(), (
        "decide in vdcos/generate/argocd.py: has anybody to act?"
    )


def test_every_verdict_is_of_a_reason() -> None:
    said = {reason for kind in api.KINDS for reason in reasons.of(kind)}
    assert (argocd.ATTENTION | argocd.PASSING) - said == frozenset()
    assert not argocd.ATTENTION & argocd.PASSING


def test_there_is_a_key_for_every_kind_and_the_script_is_the_same() -> None:
    patch = yaml.safe_load((REPOSITORY / "manifests/argocd/argocd-cm.yaml").read_text())
    assert patch["metadata"] == {"name": "argocd-cm"}
    assert list(patch["data"]) == [f"resource.customizations.health.vdcos.dev_{kind}" for kind in api.KINDS]
    assert set(patch["data"].values()) == {argocd.health()}


@pytest.mark.parametrize("kind", api.KINDS)
def test_the_guide_says_what_to_do_about_every_reason(kind: str) -> None:
    _, *sections = re.split(r"(?m)^## ", (REPOSITORY / "docs/guide/troubleshooting.md").read_text())
    told = [section for section in sections if section.splitlines()[0] in (kind, "Any object")]
    assert len(told) == 2
    assert reasons.of(kind) - set(re.findall(r"`([A-Za-z]+)`", "".join(told))) == set()
