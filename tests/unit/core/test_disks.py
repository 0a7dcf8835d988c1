"""How disks count against a datastore, whatever others write into them."""

from typing import Any

import msgspec
import pytest

from vdcos.core import disks
from vdcos.core.foreign.cdi import DataVolume
from vdcos.core.foreign.kubernetes import PersistentVolumeClaim
from vdcos.services.datastore.service import rounded

GIB = 1 << 30


def claim(size: Any, requested: str = "", **metadata: Any) -> PersistentVolumeClaim:
    return msgspec.convert(
        {
            "metadata": {"name": "x", "annotations": {disks.REQUESTED: requested}, **metadata},
            "spec": {"resources": {"requests": {"storage": size}}},
        },
        PersistentVolumeClaim,
    )


def volume(size: Any, field: str = "storage", requested: str = "") -> DataVolume:
    return msgspec.convert(
        {
            "metadata": {"name": "x", "annotations": {disks.REQUESTED: requested}},
            "spec": {field: {"resources": {"requests": {"storage": size}}}},
        },
        DataVolume,
    )


@pytest.mark.parametrize("unit", ["", "Ei"])
@pytest.mark.parametrize("digits", [19, 24, 40, 400, 5000])
def test_no_number_is_too_large_to_be_counted(digits: int, unit: str) -> None:
    text = "9" * digits + unit
    held = claim(text, text)
    for size in (disks.requested(held.metadata), disks.claimed(held), disks.asked(volume(text))):
        assert size in (0, disks.MOST)
        assert rounded(1000 * size)


@pytest.mark.parametrize("text", ["", "x", "-1", "1e3", "١"])
def test_what_is_no_number_counts_nothing(text: str) -> None:
    held = claim(text, text)
    assert (disks.requested(held.metadata), disks.claimed(held), disks.asked(volume(text))) == (0, 0, 0)


def test_ordinary_numbers_are_counted_exactly() -> None:
    held = claim("1.5Gi", str(10 * GIB))
    assert (disks.requested(held.metadata), disks.claimed(held)) == (10 * GIB, 3 * GIB // 2)


def test_a_volume_counts_what_its_spec_asks_for_and_not_what_an_annotation_says() -> None:
    assert disks.CREATED.amount(volume("10Gi", requested=str(1 << 60))) == 10 * GIB
    assert disks.CREATED.amount(volume("10Gi", "pvc")) == 10 * GIB
    assert disks.CREATED.amount(volume(10 * GIB)) == 10 * GIB, "custom resources keep numbers"
    assert disks.CREATED.amount(msgspec.convert({"metadata": {"name": "x"}}, DataVolume)) == 0
