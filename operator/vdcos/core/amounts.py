"""Amounts of several resources at once, such as CPU and memory, that add up."""

from collections.abc import Mapping
from functools import lru_cache

CPU, MEMORY = "cpu", "memory"


class Amounts(dict[str, int]):
    """Quantities by resource name: ``cpu`` in thousandths of a core, memory in bytes, everything else in pieces. What
    is absent is 0. Sums and differences are new ones: no value ever changes."""

    def __add__(self, other: Mapping[str, int] | int) -> "Amounts":
        return self._with(other, 1)

    def __radd__(self, other: Mapping[str, int] | int) -> "Amounts":
        return self._with(other, 1)

    def __sub__(self, other: Mapping[str, int] | int) -> "Amounts":
        return self._with(other, -1)

    def _with(self, other: Mapping[str, int] | int, sign: int) -> "Amounts":
        if not isinstance(other, Mapping):
            return self  # the 0 that sums begin with
        total = Amounts(self)
        for name, amount in other.items():
            if left := total.get(name, 0) + sign * amount:
                total[name] = left
            else:
                total.pop(name, None)
        return total

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(sorted(self.items())))

    @property
    def cpu(self) -> int:
        return self.get(CPU, 0)

    @property
    def memory(self) -> int:
        return self.get(MEMORY, 0)

    def beyond(self, available: Mapping[str, int]) -> "Amounts":
        """By how much it is more than what is available; empty when it is not."""
        return Amounts({name: more for name, has in self.items() if (more := has - available.get(name, 0)) > 0})


NOTHING = Amounts()


def of(cpu: int, memory: int) -> Amounts:
    """CPU in thousandths of a core, and bytes of memory."""
    return Amounts({name: amount for name, amount in ((CPU, cpu), (MEMORY, memory)) if amount})


def written(amounts: Mapping[str, int]) -> str:
    """For an annotation: ``1100m/4563402752``, CPU and memory."""
    return f"{amounts.get(CPU, 0)}m/{amounts.get(MEMORY, 0)}"


@lru_cache(maxsize=1024)
def read(text: str) -> Amounts | None:
    """What ``written`` wrote; None for anything else, since others can write annotations, too."""
    cpu, slash, memory = text.partition("m/")
    digits = cpu.isascii() and cpu.isdigit() and memory.isascii() and memory.isdigit()
    return of(int(cpu), int(memory)) if slash and digits and len(text) <= 48 else None
