"""What a service decides: actions as data, what to ask outside, what to say, and when to look again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vdcos.core.conditions import Condition
from vdcos.core.objects import Key, Object, Resource

Manifest = Mapping[str, Any]


class Instant(NamedTuple):
    """A moment on two clocks, in seconds: ``wall`` since the epoch, for people; ``mono`` for ages that decide."""

    wall: float
    mono: float


# A resource version that no object has: etcd counts from 1, with nothing stored. Server-side apply with it creates, and
# is a conflict where there is something already.
NOTHING_YET = "1"


@dataclass(frozen=True, slots=True)
class Create:
    """POST of a child whose spec is immutable. That it exists already is success: the next pass reads it."""

    resource: Resource
    manifest: Manifest
    why: str


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply of a child that we own, with the service's field manager.

    ``force`` takes fields back from other managers. The apply that is to create a child goes without: it creates, and
    changes nothing that is there by then, be it a namesake or the child itself. ``repairs`` names the drifted fields
    when the apply undoes somebody's change; it is counted as a repair. ``assumed`` and ``resource_version`` are as
    those of a Patch.
    """

    resource: Resource
    manifest: Manifest
    why: str
    repairs: tuple[str, ...] = ()
    force: bool = True
    assumed: Object | None = None
    resource_version: str = ""

    @property
    def guarded(self) -> Manifest:
        """The manifest for the version that it is meant for, if it is meant for one."""
        version = self.resource_version or ("" if self.force else NOTHING_YET)
        if not version:
            return self.manifest
        return {**self.manifest, "metadata": {**self.manifest["metadata"], "resourceVersion": version}}


@dataclass(frozen=True, slots=True)
class Patch:
    """JSON patch. ``uid`` is tested first, so that a re-created namesake is never touched.

    ``assumed`` is the object as it will be, counted in indexes until the API server answers. With ``resource_version``
    it is carried out on this version only: a request may arrive seconds late, after another process has gone on.
    """

    resource: Resource
    key: Key
    uid: str
    operations: tuple[Mapping[str, Any], ...]
    why: str
    subresource: str = ""
    assumed: Object | None = None
    resource_version: str = ""

    @property
    def guarded(self) -> list[Mapping[str, Any]]:
        """The operations, after tests that the object is the one that they are meant for."""
        expected = {"uid": self.uid, **({"resourceVersion": self.resource_version} if self.resource_version else {})}
        tests = [{"op": "test", "path": f"/metadata/{field}", "value": value} for field, value in expected.items()]
        return [*tests, *self.operations]


@dataclass(frozen=True, slots=True)
class Delete:
    """Deletion, never of a namesake (``uid``), nor on a stale view where ``resource_version`` is given.

    ``now`` lets a pod no time to end: nobody is there any more who could end it. ``because`` is another object that
    says why: it is read first, and nothing is deleted if it has changed since.
    """

    resource: Resource
    key: Key
    uid: str
    why: str
    resource_version: str = ""
    now: bool = False
    because: Object | None = None


Action = Create | Apply | Patch | Delete


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of, or done to, something outside the cluster. A plan names it again for as long as it needs the
    answer; one that it does not name any more is called off and forgotten.

    ``id`` is unique within the object, and deterministic. ``request`` is JSON data without secrets: credentials are
    referred to by the name of their Secret. ``target`` is what is asked (a BMC, say), one of many of a provider:
    failures are counted by it. ``deadline`` is in seconds, for everything, and hard.

    An ``effect`` is begun only by the process whose write has just put its id into the stored status (``asked``):
    intent first, and never twice. Whoever finds an id there that he did not put there himself is answered that nobody
    knows what became of it, and must find out by an ask without effect before he tries again under another id. An ask
    without effect is repeated when its answer is older than ``fresh`` seconds (None: never).
    """

    id: str
    provider: str
    request: Mapping[str, Any]
    deadline: float
    target: str = ""
    effect: bool = False
    fresh: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an ask. ``asked`` and ``at`` are monotonic seconds: when it was begun, and when it was answered.

    ``value`` is JSON data. Where ``ok`` is false, ``error`` says why, and an effect may or may not have happened.
    """

    ok: bool
    asked: float
    at: float
    value: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, slots=True)
class Silence:
    """Look again when an object of a ``dated`` kind has not changed for so many seconds. One that keeps changing, as
    a Lease does, costs no look."""

    kind: type[Any]
    key: Key
    seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The outcome of one look. An empty plan for an unchanged world means zero writes.

    ``status`` holds the fields of the kind's status except conditions and observedGeneration, in their JSON form;
    None leaves the stored status as it is (an object that is about to vanish). ``after`` is seconds until the next look
    when nothing changes. ``asks`` are begun once there are no actions left and the status is stored; those with an
    effect stand in ``status["asked"]``, a list of ids. ``silences`` are what makes it look again before that.
    ``wakes`` are objects of ours, by kind, that are to look again because what they say is not what they would say now.
    """

    actions: tuple[Action, ...] = ()
    conditions: tuple[Condition, ...] = ()
    status: Mapping[str, Any] | None = None
    after: float | None = None
    asks: tuple[Ask, ...] = ()
    silences: tuple[Silence, ...] = ()
    wakes: tuple[tuple[type[Any], Key], ...] = ()
