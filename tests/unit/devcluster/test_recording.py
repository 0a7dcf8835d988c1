"""The comparison of recordings finds every kind of difference, and accepts only what it was told to."""

import pytest

from tests.devcluster.recording import ABSENT, CREATED, Allowed, Moment, differences, moment, normal

A, B, C = ("a", "1"), ("b", "1"), ("c", "1")


@pytest.mark.parametrize(
    ("played", "found"),
    [
        ([[A], [B], [C]], []),
        ([[A, B], [C]], []),
        ([[A], [B]], ["missing: c=1"]),
        ([[A], [B], [C], [("d", "1")]], ["extra: d=1"]),
        ([[B], [A], [C]], ["too early: b=1 before a=1"]),
        ([[A], [B], [C], [A]], ["extra: a=1 (time 2)"]),
        ([[CREATED, ("x", "1")], [A], [B], [C]], []),
    ],
)
def test_differences(played: list[Moment], found: list[str]) -> None:
    assert differences([[A], [B], [C]], played, []) == found


def test_a_moment_may_fall_apart() -> None:
    assert differences([[A, B], [C]], [[B], [A], [C]], []) == []
    assert differences([[A, B], [C]], [[B], [C], [A]], []) == ["too early: c=1 before a=1"]


def test_accepted_differences() -> None:
    allowed = [Allowed("why", missing=("^c=",), extra=("^d=",), reordered=("^b=",))]
    assert differences([[A], [B], [C]], [[B], [A], [("d", "1")]], allowed) == []
    assert differences([[A], [B], [C]], [[B], [C], [A]], allowed) == ["too early: c=1 before a=1"]


def test_times_count_only_once() -> None:
    time = ("t", '"<time>"')
    assert differences([[time]], [[time], [time]], []) == []


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('"2026-11-23T08:17:26Z"', '"<time>"'),
        ('"host-2"', '"<host>"'),
        ('"n1"', '"<host>"'),
        ('"10.78.1.4"', '"<ip>"'),
        ('"0e:c2:89:4f:e3:26"', '"<mac>"'),
        ('"virt-launcher-vm1-r477w"', '"<virt-launcher-vm1>"'),
        ('"registry.local/virt-launcher:v1.8.2"', '"<image>"'),
        ("status.activePods.3c7aebc4-f64a-4887-9a95-8c7b9b7cd26f", "status.activePods.<uid>"),
        ("Ports.36185", "Ports.<port>"),
        ('"Running"', '"Running"'),
        ('"0.055"', '"0.055"'),
    ],
)
def test_what_differs_from_run_to_run_is_a_word(text: str, word: str) -> None:
    assert normal(text) == word


def test_a_moment_has_what_is_new_and_what_is_gone() -> None:
    before = {
        "status": {"phase": "Pending", "gone": 1, "conditions": [{"type": "Ready", "status": "False", "reason": "x"}]}
    }
    after = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    assert moment(before, after, created=False) == [
        ("status.conditions[Ready].status", '"True"'),
        ("status.gone", ABSENT),
        ("status.phase", '"Running"'),
    ]
