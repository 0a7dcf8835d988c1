"""Objects as the store holds them: slim, immutable, decoded straight from the API server's JSON."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import msgspec

T = TypeVar("T")

MARKS = ("vdcos.dev/", "app.kubernetes.io/managed-by")
"""How the labels and annotations begin that say whose an object is."""


@dataclass(frozen=True, slots=True)
class Resource:
    """An API resource: what Kubernetes calls group, version and resource, and the kind it serves."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    def __hash__(self) -> int:
        # A key of many dictionaries; the hash of a string is kept in it, that of five fields would be made each time.
        return hash(self.plural)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of the collection (no name), of one object, or of one of its subresources."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


class Key(NamedTuple):
    """Which object; never what happened to it. The namespace of a cluster-scoped object is ""."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class OwnerReference(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False


class Meta(msgspec.Struct, frozen=True, rename="camel"):
    """The part of metadata that decisions read; managedFields and the rest are never kept."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerReference, ...] = ()

    @property
    def key(self) -> Key:
        return Key(self.namespace, self.name)

    def label(self, name: str) -> str:
        return (self.labels or {}).get(name, "")

    def annotation(self, name: str) -> str:
        return (self.annotations or {}).get(name, "")

    def owned_by(self, uid: str) -> bool:
        """Whether the object with this uid is the controlling owner."""
        return any(ref.controller and ref.uid == uid for ref in self.owner_references)

    @property
    def controlled(self) -> bool:
        """Whether any object is the controlling owner."""
        return any(ref.controller for ref in self.owner_references)

    def only(self, prefixes: tuple[str, ...]) -> "Meta":
        """With the labels and annotations that begin so. No annotations and none that are kept stay different."""
        return msgspec.structs.replace(
            self, labels=_starting(self.labels, prefixes), annotations=_starting(self.annotations, prefixes)
        )


def _starting(texts: dict[str, str] | None, prefixes: tuple[str, ...]) -> dict[str, str] | None:
    return None if texts is None else {name: text for name, text in texts.items() if name.startswith(prefixes)}


class Object(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A foreign object. A subclass names its resource and holds just the fields that plans read.

    One subclass is one source and one store: the selectors narrow what the API server sends us.
    """

    resource: ClassVar[Resource]
    label_selector: ClassVar[str] = ""
    field_selector: ClassVar[str] = ""
    marks: ClassVar[tuple[str, ...]] = MARKS
    """How the labels and annotations begin that plans read; others are not kept."""
    spell: ClassVar[float] = 90.0
    """After so many seconds without a word from the kind's source, nothing is known to have been silent before.
    Bookmarks come once a minute; kinds that are never as quiet as that say less."""
    packed: ClassVar[bool] = False
    """Whether objects at rest are packed although they are of no namespace, because there are as many as disks."""
    partial: ClassVar[bool] = False
    """Another struct has the same resource, and answers to our writes are for that one: here is some of what others
    write."""
    metadata: Meta

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "metadata", self.metadata.only(self.marks))


class Own(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One of our own kinds as stored: the header, and the whole object as JSON bytes, parsed when it is planned."""

    metadata: Meta
    raw: bytes


Stored = Object | Own


def declared(held: Stored) -> tuple[str, int, str | None]:
    """What users say of an object of ours (for ``Watch.sees``); its status is its own service's business."""
    return held.metadata.uid, held.metadata.generation, held.metadata.deletion_timestamp


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What is asked for could not be read: neither there nor absent. A plan must not take it for either.

    ``why`` is a sentence for a condition, for example that an API is not installed. ``forbidden`` when it may well be
    there, and we may not read it.
    """

    why: str
    forbidden: bool = False


@dataclass(frozen=True, eq=False)
class Index(Generic[T]):
    """A way to find stored objects of one kind, kept up to date by the store.

    ``keys`` gives the strings under which an object is found; ``amount`` a number (or ``Amounts``) that the store adds
    up per string (bytes of a disk, say), so that budgets cost nothing to read. ``value`` is what is kept of each object
    beside it, unpacked, so that all of them can be looked at at once; None for nothing.
    """

    kind: type[T]
    keys: Callable[[T], Iterable[str]] = lambda _: ()
    amount: Callable[[T], Any] = lambda _: 0
    value: Callable[[T], Any] = lambda _: None


@dataclass(frozen=True, eq=False)
class Without:
    """What one index holds under strings under which none of the others holds anything. The store keeps the sum of its
    amounts, so that what is promised and not there yet costs nothing to read."""

    index: Index[Any]
    others: tuple[Index[Any], ...]


@dataclass(frozen=True, slots=True)
class Total:
    """What an index holds under one string: how many objects, and the sum of their amounts."""

    count: int
    amount: Any
