"""Kubernetes quantities, as far as sizes need them."""

from fractions import Fraction

_SUFFIXES = {
    "": Fraction(1), "m": Fraction(1, 1000), "k": Fraction(10**3), "M": Fraction(10**6), "G": Fraction(10**9),
    "T": Fraction(10**12), "P": Fraction(10**15), "Ki": Fraction(2**10), "Mi": Fraction(2**20), "Gi": Fraction(2**30),
    "Ti": Fraction(2**40), "Pi": Fraction(2**50),
}  # fmt: skip


def to_bytes(quantity: str | int) -> int:
    """A quantity as a whole number, rounded up. Raises ValueError for what is not a quantity."""
    if isinstance(quantity, int):
        return quantity
    number = quantity.rstrip("KMGTPikm")
    value = Fraction(number) * _SUFFIXES[quantity[len(number) :]]
    return -int(-value // 1)
