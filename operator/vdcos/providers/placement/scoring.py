"""The contract of a placement scorer, and those that come with vdcos. A third party imports nothing but this module.

Of the hosts that can take a machine, a scorer says which is best. It is pure arithmetic on what is asked for, what is
free and what there is, and is written once for two uses: with numbers for one host, and with arrays for many at a time.
``+ - * /``, ``abs`` and comparisons that are multiplied do for both. The same numbers must give the same score in
either use, so that a plan is the same whichever way it was found.

A distribution announces its scorer in the entry point group ``vdcos.placement_scorers``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

Column = TypeVar("Column", float, "NDArray[numpy.float64]")

CONTRACT = 1
"""Version of this contract. It changes only when an existing scorer would have to change."""

ENTRY_POINTS = "vdcos.placement_scorers"


class Scorer(Protocol):
    """What makes a host a good one."""

    @property
    def contract(self) -> int:
        """The ``CONTRACT`` that it was written for; a class attribute will do."""

    def score(self, asked: Sequence[float], free: Sequence[Column], allocatable: Sequence[Column]) -> Column:
        """A finite number for each host, the highest being the best; hosts with equal scores are taken by name.

        ``asked``, ``free`` (before the machine is there) and ``allocatable`` hold CPU in thousandths of a core first
        and memory in bytes second; other resources that some machine asks for may follow. A host has at least what is
        asked for free; ``allocatable`` is at least 1.
        """


@dataclass(frozen=True, slots=True)
class LeastAllocated:
    """The emptiest host: mean of the fractions of CPU and memory that stay free (kube-scheduler's LeastAllocated)."""

    contract: int = CONTRACT

    def score(self, asked: Sequence[float], free: Sequence[Column], allocatable: Sequence[Column]) -> Column:
        cpu = (free[0] - asked[0]) / allocatable[0]
        memory = (free[1] - asked[1]) / allocatable[1]
        return (cpu + memory) / 2


@dataclass(frozen=True, slots=True)
class Balanced:
    """Emptiest, and using CPU and memory evenly, so that neither is left over where the other has run out.

    kube-scheduler's default: LeastAllocated and BalancedAllocation with equal weights, without their rounding.
    """

    contract: int = CONTRACT

    def score(self, asked: Sequence[float], free: Sequence[Column], allocatable: Sequence[Column]) -> Column:
        cpu = (free[0] - asked[0]) / allocatable[0]
        memory = (free[1] - asked[1]) / allocatable[1]
        return (cpu + memory - abs(cpu - memory)) / 2


@dataclass(frozen=True, slots=True)
class Broken:
    """Stands in for a scorer that is installed but cannot be loaded; ``why`` says so where placements are shown."""

    why: str
    contract: int = CONTRACT

    def score(self, asked: Sequence[float], free: Sequence[Column], allocatable: Sequence[Column]) -> Column:
        raise RuntimeError(self.why)


BUILTIN: Mapping[str, Scorer] = {"balanced": Balanced(), "least-allocated": LeastAllocated()}
DEFAULT: Scorer = BUILTIN["balanced"]
