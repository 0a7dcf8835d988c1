"""What plans have asked outside the cluster, and what was answered; nothing here talks to anybody."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vdcos.core.plan import Answer, Ask
from vdcos.runtime.queue import Item

Reply = Callable[[bool, Mapping[str, Any], str], None]
"""Is told once what came of an ask: whether it went well, its value, and the error where it did not."""

UNKNOWN = "asked by another process, or in a write whose answer was lost: nobody knows what became of it"


class Asker(Protocol):
    """Carries asks out. Neither method waits or raises."""

    def start(self, item: Item, ask: Ask, reply: Reply) -> None:
        """Begin an ask. ``reply`` is called later and at most once, in the thread of the caller."""

    def stop(self, item: Item, ask: Ask) -> None:
        """Nobody waits for an ask any more. Its reply is not missed."""


class _Nobody:
    """An Asker that leaves everything unanswered, for rehearsals."""

    def start(self, item: Item, ask: Ask, reply: Reply) -> None:
        """It is never begun."""

    def stop(self, item: Item, ask: Ask) -> None:
        """It was never begun."""


NOBODY: Asker = _Nobody()


class UnstatedEffect(Exception):
    """A plan asks for an effect whose id is not in the status that it says, or uses an id twice: a bug."""


@dataclass(slots=True, eq=False)
class _Held:
    """An ask that a plan still names. ``asked`` is when it was last begun, in monotonic seconds."""

    ask: Ask
    asked: float
    running: bool = True
    answer: Answer | None = None


class Answers:
    """By object, and forgotten with it. ``woken`` is called when an answer has come. ``clock`` is monotonic seconds."""

    def __init__(self, asker: Asker, woken: Callable[[Item], None], clock: Callable[[], float]) -> None:
        self._asker = asker
        self._woken = woken
        self._clock = clock
        self._held: dict[Item, dict[str, _Held]] = {}
        self._uids: dict[Item, str] = {}

    def of(self, item: Item, uid: str) -> Mapping[str, Answer]:
        """The answers to what the object with this uid has asked, by id."""
        if self._uids.get(item) != uid:
            return {}
        return {id_: held.answer for id_, held in self._held[item].items() if held.answer is not None}

    def settle(self, item: Item, uid: str, asks: Sequence[Ask], stated: Collection[str], new: Collection[str]) -> None:
        """Begin what is new or no longer fresh, and forget what is not asked any more.

        ``stated`` are the ids of effects in the stored status, ``new`` those that our own write has just put there:
        only these are begun. Raises UnstatedEffect.
        """
        if not asks and item not in self._held:
            return
        named = {ask.id: ask for ask in asks}
        if len(named) != len(asks):
            raise UnstatedEffect(f"an id is used twice: {', '.join(ask.id for ask in asks)}")
        if unstated := [ask.id for ask in asks if ask.effect and ask.id not in stated]:
            raise UnstatedEffect(f"status.asked lacks {', '.join(unstated)}")
        if self._uids.get(item) != uid:
            self.drop(item)
        self._uids[item] = uid
        held = self._held.setdefault(item, {})
        for known in [known for id_, known in held.items() if id_ not in named or self._outdated(known, named[id_])]:
            self._forget(item, known)
        for ask in asks:
            self._begin(item, ask, ask.id in new)
        if not held:
            self.drop(item)

    def after(self, item: Item) -> float | None:
        """In how many seconds an answer of the object ceases to be fresh; None for never."""
        now = self._clock()
        due = [
            held.answer.at + held.ask.fresh - now
            for held in self._held.get(item, {}).values()
            if held.answer is not None and held.ask.fresh is not None and not held.ask.effect and not held.running
        ]
        return max(0.0, min(due)) if due else None

    def drop(self, item: Item) -> None:
        """The object is gone."""
        for known in list(self._held.get(item, {}).values()):
            self._forget(item, known)
        self._held.pop(item, None)
        self._uids.pop(item, None)

    def _begin(self, item: Item, ask: Ask, new: bool) -> None:
        known, now = self._held[item].get(ask.id), self._clock()
        if known is None:
            known = self._held[item][ask.id] = _Held(ask, now)
            if ask.effect and not new:
                self._answered(item, known, False, {}, UNKNOWN)
                return
        elif known.running or not self._stale(known, now):
            return
        known.running, known.asked = True, now
        self._asker.start(item, ask, lambda ok, value, error: self._answered(item, known, ok, value, error))

    def _answered(self, item: Item, held: _Held, ok: bool, value: Mapping[str, Any], error: str) -> None:
        if not held.running or self._held.get(item, {}).get(held.ask.id) is not held:
            return
        held.running = False
        held.answer = Answer(ok, held.asked, self._clock(), value, error)
        self._woken(item)

    def _forget(self, item: Item, held: _Held) -> None:
        del self._held[item][held.ask.id]
        if held.running:
            self._asker.stop(item, held.ask)

    @staticmethod
    def _stale(known: _Held, now: float) -> bool:
        fresh = None if known.ask.effect else known.ask.fresh
        return fresh is not None and known.answer is not None and now - known.answer.at >= fresh

    @staticmethod
    def _outdated(known: _Held, ask: Ask) -> bool:
        """Whether the answer would be to another question. An effect is never asked for again under the same id."""
        return not ask.effect and (known.ask.provider, known.ask.request) != (ask.provider, ask.request)
