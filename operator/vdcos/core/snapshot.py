"""What a service may look at while it decides."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from vdcos.core.objects import Index, Key, Total, Unreadable, Without
from vdcos.core.plan import Answer

T = TypeVar("T")


class UndeclaredRead(Exception):
    """A service read a kind or an index that it does not declare: a bug, found on the first read."""


class Snapshot(Protocol):
    """The world at one instant. Copies nothing; values never change under the reader.

    Kinds are the classes themselves: a subclass of ``Object`` for a foreign kind, the pydantic model for one of ours.
    Our own kinds come parsed; one that does not parse (stored under an older schema) is ``Unreadable``.
    """

    def get(self, kind: type[T], key: Key) -> T | Unreadable | None:
        """The object, None if it does not exist, Unreadable if its API is missing, forbidden or it is malformed."""

    def all(self, kind: type[T]) -> Sequence[Any]:
        """Every stored object of a kind (``Own`` headers for our own kinds). Costs one pass: prefer an index."""

    def by(self, index: Index[T], value: str, most: int | None = None) -> Sequence[T]:
        """The objects that an index holds under a value, or the first ``most``, in order of namespace and name."""

    def keys(self, index: Index[T], value: str) -> Sequence[Key]:
        """The keys of the objects that an index holds under a value, in order."""

    def total(self, index: Index[T], value: str) -> Total:
        """Count and summed amount under a value: one dictionary look-up."""

    def values(self, index: Index[T]) -> Mapping[Key, Any]:
        """What an index keeps of each object, of those of which it keeps anything. Do not hold on to it."""

    def without(self, pair: Without) -> Total:
        """How many strings one index has and another has not, and the sum of their amounts: one look-up."""

    def derived(self, view: "Derived[T]") -> T:
        """What follows from many objects at once. It may be behind by ``view.every`` seconds."""

    def derived_in(self, view: "Derived[Any]") -> float | None:
        """In how many seconds it may be made anew; None when it is not behind."""

    def missing(self, kind: type[Any]) -> Unreadable | None:
        """Why a whole kind cannot be read (API not installed, not allowed), or None when it can."""

    def answers(self, key: Key) -> Mapping[str, Answer]:
        """What was answered to the asks of one of the service's own objects, by id."""

    def changed_at(self, kind: type[Any], key: Key) -> float | None:
        """When an object was last seen to change, in what is kept of it, or was first seen; None if it is not there.

        In monotonic seconds of this process: what the object itself says about time decides nothing. After a restart
        everything is new: ages that decide begin at zero, later and never wrong.
        """

    def silent_since(self, kind: type[Any], key: Key) -> float | None:
        """When its silence began: when it last changed, or when its source was last heard again after a long pause, in
        which it may have changed, or may not have been able to (an API server that was away takes no renewals)."""

    def gone_since(self, kind: type[Any], key: Key) -> float | None:
        """Since when an object is known not to be there, in monotonic seconds: when its deletion was heard of, or since
        when its source is heard without a long pause, if that is later. None if it is there."""

    def heard_at(self, kind: type[Any]) -> float:
        """When the API server last said anything about a kind, be it that nothing is new, in monotonic seconds.

        What has happened since then is not known: an object that has not changed may only not have been heard of.
        """


@dataclass(frozen=True, eq=False)
class Derived(Generic[T]):
    """What follows from many objects at once, made once for all who read it, and again only when what one of
    ``indexes`` holds or keeps has changed, but not more often than every so many seconds.

    ``make`` is pure. It gets the world, in which it may read ``indexes`` and ``kinds`` (of these, only what some index
    tells of), and what it made before, so that it need not make all anew; the result must be the same without. Whoever
    reads it declares it (``derives``), and looks again when it may be made anew (``derived_in``).
    """

    name: str
    indexes: tuple[Index[Any], ...]
    make: Callable[[Snapshot, T | None], T]
    kinds: tuple[type[Any], ...] = ()
    every: float = 0.0
