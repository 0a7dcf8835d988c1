"""A third party's scorer, whose answers are checked and never trusted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vdcos.providers.placement.scoring import BUILTIN, CONTRACT, Broken, Column, Scorer


class ScorerFailed(Exception):
    """A scorer raised or answered nonsense. The text is shown: it says what happened, never what the scorer said."""


@dataclass(frozen=True, slots=True)
class Checked:
    """Raises ScorerFailed when the scorer raises anything, or answers with something that is no finite score."""

    scorer: Scorer
    contract: int = CONTRACT

    @classmethod
    def of(cls, scorer: Scorer) -> Scorer:
        """The scorer itself if it is one of ours. Raises ScorerFailed on another version of the contract."""
        if any(scorer is ours for ours in BUILTIN.values()):
            return scorer
        if isinstance(scorer, Broken):
            raise ScorerFailed(scorer.why)
        version = getattr(scorer, "contract", None)
        if version != CONTRACT:
            raise ScorerFailed(
                f"the scorer speaks version {version!r} of the contract, this operator version {CONTRACT}"
            )
        return cls(scorer)

    def score(self, asked: Sequence[float], free: Sequence[Column], allocatable: Sequence[Column]) -> Column:
        try:
            answer: Any = self.scorer.score(asked, free, allocatable)
        except Exception as error:
            raise ScorerFailed(f"the scorer failed with {type(error).__name__}") from error
        if isinstance(free[0], float):
            if isinstance(answer, (int, float)) and math.isfinite(answer):
                return float(answer)
            raise ScorerFailed(f"the scorer answered {type(answer).__name__} instead of a finite number")
        import numpy

        if getattr(answer, "shape", None) != free[0].shape or answer.dtype.kind not in "iuf":
            raise ScorerFailed(f"the scorer answered {type(answer).__name__} instead of one number for each host")
        if not numpy.isfinite(answer).all():
            raise ScorerFailed("the scorer answered a number that is not finite")
        scores: Column = answer.astype(numpy.float64)
        return scores
