"""Whatever services say in any test here, Argo CD's health script knows why."""

from collections.abc import Sequence

import pytest

from vdcos.core import conditions
from vdcos.core.conditions import READY, Condition
from vdcos.generate import argocd

SUMMARISE = conditions.summarise


@pytest.fixture(autouse=True)
def _every_reason_has_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def summarise(said: Sequence[Condition], needed: Sequence[str], ready: str = "Ready") -> tuple[Condition, ...]:
        summed = SUMMARISE(said, needed, ready)
        of_all = next(condition for condition in summed if condition.type == READY)
        known = of_all.status == "True" or of_all.reason in argocd.ATTENTION | argocd.PASSING
        assert known, f"{of_all.reason} has no verdict: decide in vdcos/generate/argocd.py"
        return summed

    monkeypatch.setattr(conditions, "summarise", summarise)
