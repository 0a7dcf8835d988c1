"""Kubernetes quantities as integers of their smallest useful unit."""

import functools
import math
import re
from decimal import Decimal
from typing import Any

# Longer ones mean nothing, and others can write them: the largest that Kubernetes keeps has 19 digits.
PATTERN = re.compile(r"([0-9]{1,24}(?:\.[0-9]{1,24})?)(Ki|Mi|Gi|Ti|Pi|Ei|m|k|M|G|T|P|E)?")
_FACTORS: dict[str | None, Decimal] = {
    None: Decimal(1),
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** n for n, unit in enumerate("kMGTPE", 1)},
    **{f"{unit}i": Decimal(1024) ** n for n, unit in enumerate("KMGTPE", 1)},
}


@functools.lru_cache(maxsize=1024)
def parse(text: str | int) -> Decimal:
    """The value of a quantity. Signs, exponents and the n and u suffixes, which no field of ours allows, are refused.

    Raises ValueError.
    """
    match = PATTERN.fullmatch(str(text))
    if not match or not str(text).isascii():
        raise ValueError(f"{text!r} is not a quantity: write for example 10Gi, 512Mi or 2")
    return Decimal(match[1]) * _FACTORS[match[2]]


def whole(text: str | int) -> int:
    """A quantity of bytes or pieces, rounded up to a whole one. Raises ValueError."""
    return math.ceil(parse(text))


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same quantity, however they are written. False when either is none."""
    if (
        isinstance(one, bool)
        or isinstance(other, bool)
        or not isinstance(one, str | int)
        or not isinstance(other, str | int)
    ):
        return False
    try:
        return parse(one) == parse(other)
    except ValueError:
        return False


def human(size: int) -> str:
    """Bytes for people and for manifests, exact: the largest binary unit that divides them ("10Gi", "1536Mi")."""
    for power, unit in ((60, "Ei"), (50, "Pi"), (40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")):
        if size and size % (1 << power) == 0:
            return f"{size >> power}{unit}"
    return str(size)
