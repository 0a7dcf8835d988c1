"""What a vService is: the kind it owns, what it may read and write, and two pure functions."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from vdcos.core.objects import Index, Key, Resource, Without
from vdcos.core.plan import Action, Instant, Plan
from vdcos.core.snapshot import Derived, Snapshot

T = TypeVar("T")
R = TypeVar("R")
O = TypeVar("O")  # noqa: E741  what a service observes
Seen = TypeVar("Seen", contravariant=True)


@dataclass(frozen=True, eq=False)
class Watch(Generic[T]):
    """A kind that a service reads. ``keys`` says which of the service's own objects look again when one changes.

    ``keys`` gets the object as stored (``Own`` for our own kinds) and the world, for look-ups by index. It is called
    for the old and for the new value, so that an object that moves from one owner to another wakes both.
    """

    kind: type[T]
    keys: Callable[[Any, Snapshot], Iterable[Key]]
    sees: Callable[[Any], Hashable] | None = None
    """The part of an object that matters to the service; a change elsewhere wakes nobody. None: every stored field."""
    patience: float = 0.0
    """Seconds that the look may wait, so that a burst of changes becomes one: for what is counted, not acted upon."""
    dated: bool = False
    """Whether the service asks when the kind's objects changed (``Snapshot.changed_at``)."""


@dataclass(frozen=True)
class Write:
    """What a service writes. RBAC is generated from it; a write that is not declared raises.

    ``verbs`` are Kubernetes' (create, patch, delete). Server-side apply needs create and patch.
    """

    resource: Resource
    verbs: tuple[str, ...]
    subresource: str = ""


class Service(Protocol[R, O]):
    """One vService. Its functions are pure: same input, same answer."""

    @property
    def name(self) -> str:
        """Short and lower case: the label of its metrics, and ``vdcos/<name>`` is its field manager."""

    @property
    def resource(self) -> Resource: ...

    @property
    def kind(self) -> type[R]:
        """The pydantic model of the kind that it owns."""

    @property
    def needed(self) -> tuple[str, ...]:
        """The condition types that Ready is computed from, most telling first."""

    @property
    def watches(self) -> tuple[Watch[Any], ...]:
        """Everything it reads besides its own kind."""

    @property
    def indexes(self) -> tuple[Index[Any] | Without, ...]: ...

    @property
    def writes(self) -> tuple[Write, ...]:
        """What it writes besides the status of its own kind."""

    def observe(self, key: Key, world: Snapshot) -> O:
        """Gather all that the plan may look at, in one frozen value."""

    def plan(self, cr: R, seen: O, now: Instant) -> Plan:
        """Decide. Deletion (``metadata.deletionTimestamp``) is a branch here, not another handler."""


def derives(service: Service[Any, Any]) -> tuple[Derived[Any], ...]:
    """What a service reads that follows from many objects at once; most read nothing of that kind."""
    found: tuple[Derived[Any], ...] = getattr(service, "derives", ())
    return found


@runtime_checkable
class Founder(Protocol[Seen]):
    """A service that makes objects of its own kind where nobody has declared one (a Host for each node). It never
    writes their specs after that."""

    def found(self, key: Key, seen: Seen) -> Sequence[Action]:
        """What creates the object ``key``, which does not exist; nothing when there is no need for it. Pure."""
