"""A scene is played again only when it differs from its recording, and not for ever."""

from collections.abc import Sequence
from typing import Any, cast

import pytest

from devcluster.cluster import Cluster
from tests.devcluster.test_hosts_conformance import PLAYS, DifferenceError, Vms, played


class Stage:
    """A cluster that only notes which namespaces come and go."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def kubectl(self, *arguments: str, **_: Any) -> str:
        self.asked.append(" ".join(arguments[:3]))
        return ""


def play(planned: Sequence[Exception]) -> tuple[list[str], Stage]:
    stage, seen, failures = Stage(), list[str](), list(planned)

    def scene(vms: Vms) -> None:
        seen.append(vms.namespace)
        if failures:
            raise failures.pop(0)

    played(scene)(cast(Cluster, stage), "ns")
    return seen, stage


def test_once_is_enough_when_it_is_as_recorded() -> None:
    seen, stage = play([])
    assert seen == ["ns"]
    assert stage.asked == []


def test_a_difference_is_played_again_elsewhere() -> None:
    seen, stage = play([DifferenceError("order")])
    assert seen == ["ns", "ns-2"]
    assert stage.asked == ["create namespace ns-2", "delete namespace ns-2"]


def test_what_differs_every_time_is_wrong() -> None:
    with pytest.raises(DifferenceError, match="third"):
        play([DifferenceError("first"), DifferenceError("second"), DifferenceError("third")][:PLAYS])


def test_anything_else_fails_at_once() -> None:
    with pytest.raises(AssertionError, match="no pod"):
        play([AssertionError("no pod"), DifferenceError("never reached")])
