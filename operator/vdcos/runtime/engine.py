"""The engine: take a key, observe, plan, act, say so once. It never touches a socket or a clock of its own."""

import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Literal, Protocol

import msgspec

from vdcos import api
from vdcos.core import conditions, ownership
from vdcos.core.conditions import Condition
from vdcos.core.objects import Key, Meta, Object, Own, Resource, Stored
from vdcos.core.plan import Action, Apply, Create, Delete, Instant, Patch, Plan
from vdcos.core.service import Founder, Service, Watch
from vdcos.runtime.answers import NOBODY, Answers, Asker
from vdcos.runtime.depth import bounded
from vdcos.runtime.queue import Item, Queue
from vdcos.runtime.requests import APPLY, JSON, JSON_PATCH, MERGE_PATCH, ApiError, Request, Verb
from vdcos.runtime.silences import Silences
from vdcos.runtime.store import Store, View, same, version

Clock = Callable[[], Instant]
Conversation = Generator[Request, bytes, "Outcome"]
"""Yields requests; is sent the body of each answer, or has ApiError thrown in."""


@dataclass(frozen=True, slots=True)
class Together:
    """Requests that do not depend on each other. What is sent is a list: the body of each answer, or ApiError."""

    requests: tuple[Request, ...]


Colloquy = Generator[Request | Together, Any, "Outcome"]
"""A conversation in which some requests may be made at the same time."""

# A plan whose actions are done must come out empty. Creating, and reacting to what the answers say, takes two or
# three rounds; more is a plan that fights itself.
ROUNDS = 6

# What the API server says, with 422, of a JSON patch that does not apply (a test failed); of a bad result it says more.
PATCH_TEST_FAILED = "the server rejected our request due to an error in our request"

# What it says, with 422, of server-side apply with the uid of an object whose name another has by now (where nobody has
# it, that is a conflict).
ANOTHER_UID = "metadata.uid: Invalid value"

# What it says, with 500, of server-side apply of a field that the schema does not know, or of a wrong type.
NOT_IN_SCHEMA = "failed to create typed patch object"

# What it says, with 422, of server-side apply that drops the last fields of a map which somebody else had made: the map
# becomes null, by a flaw of structured-merge-diff, and null is no map.
EMPTIED = re.compile(
    r'(?:^|[\s[])([A-Za-z]\w*(?:\.\w+)*): Invalid value: "null": (?:\1 in body )?must be of type object'
)

# Seconds after which a refused request is tried again although nobody changed the object: the cause may have been a
# feature gate or a policy of the cluster.
REFUSAL_STANDS = 300.0

# Failures in a row after which a back-off is worth telling the user about: about 0.3 s of trying.
WORTH_TELLING = 5


Result = Literal["done", "gone", "conflict", "backoff", "refused", "bug"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a look ended: ``done``, ``gone``, ``conflict`` (look again now), ``backoff``, ``refused`` or ``bug``.

    ``after`` is in seconds: when to look again at the latest (done), or at the earliest (backoff).
    """

    result: Result
    after: float | None = None


@dataclass(frozen=True, slots=True)
class _Refusal:
    """What the API server said to a request, and until when it is not repeated for the same generation."""

    generation: int
    until: float
    error: ApiError


@dataclass(frozen=True, slots=True)
class _Failed:
    """Why not all actions were carried out: what is to be told, and what says when to look again."""

    first: ApiError
    urgent: ApiError
    """The first, or one that passes: what was refused for long must not keep waiting what was not."""


class Observer(Protocol):
    """What metrics, logs and Events want to know."""

    def acted(self, item: Item, action: Action) -> None:
        """An action was carried out."""

    def said(
        self, item: Item, owner: Meta, before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]
    ) -> None:
        """The conditions of an object were stored."""

    def refused(self, item: Item, error: ApiError) -> None:
        """The API server did not carry out a request."""

    def bug(self, item: Item, error: Exception) -> None:
        """A service raised. Other objects go on."""


class UndeclaredWrite(Exception):
    """A service writes what it does not declare, or more of its own object than status and finalizers: a bug."""


class Unsettled(Exception):
    """A plan still has actions after they were carried out: a bug."""


@dataclass(slots=True)
class _Writing:
    """A write under way: whose it is, and the newest version of its object that a source has told meanwhile."""

    item: Item
    newest: float = 0


class _OwnStatus(msgspec.Struct, frozen=True):
    status: dict[str, Any] = {}


class _Version(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""


class _Versioned(msgspec.Struct, frozen=True):
    metadata: _Version = _Version()


class _StatusAsked(msgspec.Struct, frozen=True):
    asked: tuple[str, ...] = ()


class _OwnAsked(msgspec.Struct, frozen=True):
    status: _StatusAsked = _StatusAsked()


_decode_status = msgspec.json.Decoder(_OwnStatus).decode
_decode_version = bounded(msgspec.json.Decoder(_Versioned).decode)
_decode_asked = msgspec.json.Decoder(_OwnAsked).decode


class Engine:
    """Runs services over a store. One per process; its conversations may interleave, its plans do not."""

    def __init__(
        self,
        services: Iterable[Service[Any, Any]],
        store: Store,
        queue: Queue,
        observer: Observer,
        clock: Clock,
        asker: Asker = NOBODY,
    ) -> None:
        self._services = {service.name: service for service in services}
        self._answers = Answers(asker, lambda item: queue.add(item, clock().mono), lambda: clock().mono)
        self._silences = Silences(store.silent_since)
        self._views = {service.name: View(store, service, self._answers) for service in self._services.values()}
        self._kinds: dict[Resource, type[Any]] = {
            **{kind.resource: kind for kind in store.kinds if issubclass(kind, Object) and not kind.partial},
            **{service.resource: service.kind for service in self._services.values()},
        }
        self._watchers: dict[type[Any], list[tuple[str, Watch[Any] | None]]] = {kind: [] for kind in store.kinds}
        for service in self._services.values():
            self._watchers[service.kind].append((service.name, None))
            for watch in service.watches:
                self._watchers[watch.kind].append((service.name, watch))
        self._store = store
        self._queue = queue
        self._observer = observer
        self._clock = clock
        self._speaking: Item | None = None
        self._writing: dict[tuple[type[Any], Key], _Writing] = {}
        self._refused: dict[Item, dict[str, _Refusal]] = {}
        self._unsure: dict[Item, list[tuple[type[Any], Key]]] = {}
        """What is assumed of writes that may have happened or not, until who made them looks again."""
        self._doubted: dict[Item, list[Request]] = {}
        """Changes of which nobody knows what is there since: who made them reads that before he plans again."""
        self._unkept: dict[Item, tuple[str, Mapping[str, Any]]] = {}
        """What the API server keeps nothing of, and of which version of the object: fields of statuses that the
        definition of an older release does not have. They are not said again and again."""
        store.subscribe(self._wake)

    def reconcile(self, item: Item) -> Conversation:
        """One look at one object, one request after the other."""
        return one_by_one(self.converse(item))

    def converse(self, item: Item) -> Colloquy:
        """One look at one object."""
        service = self._services[item.service]
        for kind, key in self._unsure.pop(item, ()):
            self._withdraw(item, kind, key)
        own = self._store.heard(service.kind, item.key)
        if not isinstance(own, Own):
            self._refused.pop(item, None)
            self._doubted.pop(item, None)
            self._unkept.pop(item, None)
            self._answers.drop(item)
            self._silences.drop(item)
            return (yield from self._found(item, service))
        try:
            return (yield from self._look(item, service))
        except ApiError as error:
            # Only the write of the status itself ends here.
            self._observer.refused(item, error)
            return self._after(item, error)
        except Exception as error:  # noqa: BLE001  a bug in one service must not stop the others
            self._observer.bug(item, error)
            try:
                yield from self._say(item, service, own, Plan(), _bug(error))
            except ApiError as failure:
                self._observer.refused(item, failure)
            return Outcome("bug")

    def _found(self, item: Item, service: Service[Any, Any]) -> Colloquy:
        """Nobody has declared the object. Some services make those that are needed."""
        if not isinstance(service, Founder):
            return Outcome("gone")
        try:
            actions = service.found(item.key, service.observe(item.key, self._views[item.service]))
            failed = (yield from self._act(item, service, 0, actions)) if actions else None
        except Exception as error:  # noqa: BLE001  a bug in one service must not stop the others
            self._observer.bug(item, error)
            return Outcome("bug")
        if failed is None:
            # What was created is heard of as any other object, and looked at then.
            return Outcome("conflict" if actions else "gone")
        return self._after(item, failed.urgent)

    def next_silence(self) -> float | None:
        """When something will have been silent for as long as somebody waits for, in monotonic seconds."""
        return self._silences.next_due()

    def listen(self) -> None:
        """Whoever waited for a silence that is over by now looks again."""
        now = self._clock().mono
        for item in self._silences.over(now):
            self._queue.add(item, now)

    def _look(self, item: Item, service: Service[Any, Any]) -> Colloquy:
        while doubted := self._doubted.get(item):
            yield from self._read(item, doubted[-1])
            doubted.pop()
        self._doubted.pop(item, None)
        plan, failed = Plan(), None
        for _ in range(ROUNDS):
            own = self._store.heard(service.kind, item.key)
            if not isinstance(own, Own):
                return Outcome("gone")
            try:
                cr = self._store.parse(service.kind, own)
            except api.InvalidObject as error:
                yield from self._say(item, service, own, Plan(status={}), _malformed(error))
                return Outcome("refused")
            now = self._clock()
            plan = service.plan(cr, service.observe(item.key, self._views[item.service]), now)
            if not plan.actions:
                break
            failed = yield from self._act(item, service, own.metadata.generation, plan.actions)
            if failed is not None:
                break
        else:
            raise Unsettled(f"still wants: {'; '.join(action.why for action in plan.actions)}")
        if failed is None:
            self._refused.pop(item, None)
            told = yield from self._tell(item, service, own, plan, None)
            self._silences.settle(item, plan.silences, now.mono)
            for kind, key in plan.wakes:
                for woken in self._services.values():
                    if woken.kind is kind:
                        self._queue.add(Item(woken.name, key), self._clock().mono)
            return Outcome("done", _sooner(plan.after, self._answers.after(item))) if told else Outcome("conflict")
        failure = failed.first
        refusal = _refusal(failure)
        passing = failure.status in (0, 429) or (failure.status >= 500 and not _is_refusal(failure))
        if refusal is not None and (not passing or self._queue.failures(item) >= WORTH_TELLING):
            yield from self._tell(item, service, own, plan, refusal)
        return self._after(item, failed.urgent)

    def _act(
        self, item: Item, service: Service[Any, Any], generation: int, actions: Sequence[Action]
    ) -> Generator[Request | Together, Any, _Failed | None]:
        """Carry out actions in order. Returns the failures that matter. All are counted from the start.

        When the API server refuses one for good, what exists already is still brought up to date (a VM is powered off
        although its disk may not grow), but nothing new is created. Any other failure ends the round. What nobody knows
        to have happened or not counts until the next look, which finds out.
        """
        requests = [self._request(service, item, action) for action in actions]
        assumed: dict[int, tuple[type[Any], Key]] = {}
        first: ApiError | None = None
        passing: ApiError | None = None
        try:
            for number, (action, request) in enumerate(zip(actions, requests, strict=True)):
                if (known := self._assume(action, request)) is not None:
                    assumed[number] = known
            for numbers in _batches(actions):
                if first is not None and _creates(actions[numbers[0]]):
                    continue
                tries = [self._try(item, generation, actions[number], requests[number]) for number in numbers]
                failures = (yield from _all(tries)) if len(tries) > 1 else [(yield from tries[0])]
                over = False
                for number, failure in zip(numbers, failures, strict=True):
                    first = first or failure
                    if failure is None or _is_refusal(failure):
                        continue
                    passing = failure
                    if failure.status == 403 or _is_unfounded(actions[number], failure):
                        continue
                    over = True
                    if _is_doubtful(actions[number], failure):
                        self._doubted.setdefault(item, []).append(requests[number])
                    if _may_have_happened(failure) and number in assumed:
                        self._unsure.setdefault(item, []).append(assumed.pop(number))
                if over:
                    break
        finally:
            for kind, key in assumed.values():
                self._withdraw(item, kind, key)
        return _Failed(first, passing or first) if first is not None else None

    def _try(
        self, item: Item, generation: int, action: Action, request: Request
    ) -> Generator[Request, bytes, ApiError | None]:
        refused = self._refused.get(item)
        known = refused.get(self._fingerprint(item, action)) if refused else None
        if known is not None and known.generation == generation and self._clock().mono < known.until:
            return known.error
        try:
            yield from self._carry_out(item, action, request)
        except ApiError as error:
            self._observer.refused(item, error)
            if _is_refusal(error):
                refusal = _Refusal(generation, self._clock().mono + REFUSAL_STANDS, error)
                self._refused.setdefault(item, {})[self._fingerprint(item, action)] = refusal
            return error
        self._observer.acted(item, action)
        return None

    def _carry_out(self, item: Item, action: Action, request: Request) -> Generator[Request, bytes, None]:
        kind = self._kinds.get(request.resource)
        if isinstance(action, Delete) and action.because is not None:
            yield from self._unchanged(item, action.because)
        try:
            answer = yield from self._write(item, kind, request)
        except ApiError as error:
            if isinstance(action, Create) and error.reason == "AlreadyExists":
                answer = yield _get(request)
            elif isinstance(action, Delete) and error.status == 404:
                if kind is not None and (known := self._store.heard(kind, request.key)) is not None:
                    self._hear(item, lambda: self._store.remove(kind, request.key, known.metadata.resource_version))
                return
            elif isinstance(action, Patch) and error.status == 422 and error.message.startswith(PATCH_TEST_FAILED):
                raise ApiError(409, "Conflict", "the object is not what the patch was made for") from error
            elif isinstance(action, Apply) and error.status == 422 and ANOTHER_UID in error.message:
                raise ApiError(409, "Conflict", "another object has the name of the one to change") from error
            elif isinstance(action, Apply) and error.status == 422 and (emptied := EMPTIED.findall(error.message)):
                answer = yield from self._emptied(item, action, request, emptied)
            else:
                raise
        if kind is not None and not (
            isinstance(action, Delete) and msgspec.json.decode(answer).get("kind") == "Status"
        ):
            heard = self._store.decoder(kind)(answer)
            if isinstance(action, Delete) and action.now and not heard.metadata.finalizers:
                self._hear(item, lambda: self._store.remove(kind, request.key, heard.metadata.resource_version))
            else:
                self._hear(item, lambda: self._store.put(kind, heard))

    def _read(self, item: Item, request: Request) -> Generator[Request, bytes, None]:
        """What a request may have changed, as the API server has it now. Its source may tell of it much later, and a
        plan that goes by what was before would say that all is as it should be. Raises ApiError."""
        kind = self._kinds.get(request.resource)
        if kind is None:
            return
        try:
            heard = self._store.decoder(kind)((yield _get(request)))
        except ApiError as error:
            if error.status != 404:
                raise
            if (known := self._store.heard(kind, request.key)) is not None:
                self._hear(item, lambda: self._store.remove(kind, request.key, known.metadata.resource_version))
            return
        self._hear(item, lambda: self._store.put(kind, heard))

    def _unchanged(self, item: Item, seen: Object) -> Generator[Request, bytes, None]:
        """An object is what it was when it was planned by: its source may have been silent for a minute, and nobody
        knows. Raises ApiError."""
        resource, key = seen.resource, seen.metadata.key
        path = resource.path(key.namespace, key.name)
        yield from self._read(item, Request(item.service, "get", resource, key, "GET", path))
        now = self._store.heard(type(seen), key)
        if now is None or now.metadata.resource_version != seen.metadata.resource_version:
            raise ApiError(409, "Conflict", f"{resource.kind} {key} has changed meanwhile")

    def _emptied(
        self, item: Item, action: Apply, request: Request, fields: Sequence[str]
    ) -> Generator[Request, bytes, bytes]:
        """Make an apply that leaves nothing in some maps, after taking these away. Nobody has put anything into them
        since: the object must be the one that is known. Raises ApiError."""
        kind = self._kinds.get(request.resource)
        known = self._store.heard(kind, request.key) if kind is not None else None
        if kind is None or known is None:
            raise ApiError(409, "Conflict", "the object to change is not known")
        operations = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": known.metadata.resource_version},
            *({"op": "remove", "path": f"/{field.replace('.', '/')}"} for field in fields),
        ]
        query = {"fieldManager": request.query["fieldManager"]}
        patch = replace(request, verb="patch", body=_json(operations), content_type=JSON_PATCH, query=query)
        try:
            heard = self._store.decoder(kind)((yield from self._write(item, kind, patch)))
        except ApiError as error:
            if error.status == 422 and error.message.startswith(PATCH_TEST_FAILED):
                raise ApiError(409, "Conflict", "the object was changed meanwhile") from error
            raise
        self._hear(item, lambda: self._store.put(kind, heard))
        again = replace(action, resource_version=heard.metadata.resource_version)
        return (yield from self._write(item, kind, self._request(self._services[item.service], item, again)))

    def _write(self, item: Item, kind: type[Any] | None, request: Request) -> Generator[Request, bytes, bytes]:
        """Make a request. A source may tell of what it changes before the answer comes: that is no news for the writer,
        who looks again anyway, unless it is more than the answer says, or the write failed."""
        if kind is None or request.verb == "delete" or (kind, request.key) in self._writing:
            return (yield request)
        writing = self._writing[kind, request.key] = _Writing(item)
        written = 0
        try:
            answer = yield request
            written = version(_decode_version(answer).metadata.resource_version)
            return answer
        finally:
            del self._writing[kind, request.key]
            if writing.newest > written:
                if kind is self._services[item.service].kind:
                    self._queue.forget(item)
                self._queue.add(item, self._clock().mono)

    def _tell(
        self, item: Item, service: Service[Any, Any], seen: Own, plan: Plan, failure: Condition | None
    ) -> Generator[Request, bytes, bool]:
        """Store what the plan says, then ask what it asks. Returns as ``_say`` does."""
        before = self._asked(item, service, plan)
        told = yield from self._say(item, service, seen, plan, failure)
        if told:
            stated = self._asked(item, service, plan)
            self._answers.settle(item, seen.metadata.uid, plan.asks, stated, stated - before)
        return told

    def _say(
        self, item: Item, service: Service[Any, Any], seen: Own, plan: Plan, failure: Condition | None
    ) -> Generator[Request, bytes, bool]:
        """Store what the plan says, if it differs from what is stored. ``failure`` is why not all of it was done.

        Returns False, and says nothing, when the spec is not the one that was ``seen`` any more: the verdict would be
        about another generation than the one that it is stored with.
        """
        own = self._store.heard(service.kind, item.key)
        if not isinstance(own, Own) or own.metadata.uid != seen.metadata.uid:
            return False
        if own.metadata.generation != seen.metadata.generation:
            return False
        if plan.status is None and failure is None:
            return True
        stored = _decode_status(own.raw).status
        said = [condition for condition in plan.conditions if failure is None or condition.type != failure.type]
        needed = service.needed
        if failure is not None:
            said, needed = [*said, failure], (failure.type, *needed)
        before = [c for c in stored.get("conditions", []) if isinstance(c, dict)]
        if plan.status is None or not plan.conditions:
            # Nothing could be planned: what was last known about single aspects stands, as old as it is.
            known = {condition.type for condition in said}
            said += [_stored(c) for c in before if c["type"] not in known | {"Ready", "Reconciling", "Stalled"}]
        merged = conditions.merge(
            before, conditions.summarise(said, needed), own.metadata.generation, self._clock().wall
        )
        wanted = {**(stored if plan.status is None or not plan.conditions else {}), **(plan.status or {})}
        wanted |= {"observedGeneration": own.metadata.generation, "conditions": merged}
        difference = merge_patch(stored, wanted)
        if not difference or self._unkept.get(item) == (own.metadata.resource_version, difference):
            return True
        body = {
            "metadata": {"uid": own.metadata.uid, "resourceVersion": own.metadata.resource_version},
            "status": difference,
        }
        path = service.resource.path(item.key.namespace, item.key.name, "status")
        found = self._store.entries(service.kind, item.key)
        request = Request(service.name, "status", service.resource, item.key, "PATCH", path, _json(body), MERGE_PATCH)
        answer = yield from self._write(item, service.kind, request)
        heard = self._store.decoder(service.kind)(answer)
        if heard.metadata.resource_version == own.metadata.resource_version:
            self._unkept[item] = own.metadata.resource_version, difference
            return True
        self._hear(item, lambda: self._store.put(service.kind, heard))
        self._observer.said(item, own.metadata, before, merged)
        if self._store.entries(service.kind, item.key) != found:
            # Others find it by other words now ("waits for room"). One more look sees what happened before they could.
            self._queue.add(item, self._clock().mono)
        return True

    def _asked(self, item: Item, service: Service[Any, Any], plan: Plan) -> frozenset[str]:
        """The ids in the status as it is stored, if the plan asks for an effect."""
        own = self._store.heard(service.kind, item.key)
        if not isinstance(own, Own) or not any(ask.effect for ask in plan.asks):
            return frozenset()
        return frozenset(_decode_asked(own.raw).status.asked)

    def _request(self, service: Service[Any, Any], item: Item, action: Action) -> Request:
        """The request for an action, if the service declared that it may make it."""

        def build(verb: Verb, key: Key, method: str, path: str, **rest: Any) -> Request:
            needed = {"apply": {"create", "patch"}}.get(verb, {verb})
            subresource = getattr(action, "subresource", "")
            if not any(
                w.resource == action.resource and w.subresource == subresource and needed <= set(w.verbs)
                for w in service.writes
            ):
                raise UndeclaredWrite(f"{service.name} may not {verb} {action.resource.plural}/{subresource}")
            return Request(service.name, verb, action.resource, key, method, path, **rest)

        match action:
            case Create(resource, manifest):
                key = _key(manifest)
                query = {"fieldManager": f"{ownership.MANAGER}/{service.name}", "fieldValidation": "Strict"}
                return build("create", key, "POST", resource.path(key.namespace), body=_json(manifest), query=query)
            case Apply(resource, manifest, force=force):
                key = _key(manifest)
                query = {
                    "fieldManager": f"{ownership.MANAGER}/{service.name}",
                    "fieldValidation": "Strict",
                    "force": "true" if force else "false",
                }
                return build(
                    "apply",
                    key,
                    "PATCH",
                    resource.path(key.namespace, key.name),
                    body=_json(action.guarded),
                    content_type=APPLY,
                    query=query,
                )
            case Patch(resource, key, _, operations, subresource=subresource):
                if resource == service.resource and not all(
                    op["path"].startswith("/metadata/finalizers") for op in operations
                ):
                    raise UndeclaredWrite(f"{service.name} may write only finalizers and status of its own objects")
                return build(
                    "patch",
                    key,
                    "PATCH",
                    resource.path(key.namespace, key.name, subresource),
                    body=_json(action.guarded),
                    content_type=JSON_PATCH,
                    query={"fieldManager": f"{ownership.MANAGER}/{service.name}"},
                )
            case Delete(resource, key, uid, resource_version=resource_version, now=now):
                preconditions = {"uid": uid} | ({"resourceVersion": resource_version} if resource_version else {})
                options = {
                    "apiVersion": "v1",
                    "kind": "DeleteOptions",
                    "preconditions": preconditions,
                    "propagationPolicy": "Background",
                    **({"gracePeriodSeconds": 0} if now else {}),
                }
                return build("delete", key, "DELETE", resource.path(key.namespace, key.name), body=_json(options))

    def _fingerprint(self, item: Item, action: Action) -> str:
        """What an action says. A change that is refused is refused of the next version, too: most are refused for what
        they say."""
        said = replace(action, resource_version="") if isinstance(action, Apply | Patch) else action
        request = self._request(self._services[item.service], item, said)
        return ownership.digest(f"{request.method} {request.path} {request.body!r}", 32)

    def _assume(self, action: Action, request: Request) -> tuple[type[Any], Key] | None:
        """Let a planned write count in the store, where that is a kind that somebody reads."""
        kind = self._kinds.get(action.resource)
        assumed: Stored | None = None
        if isinstance(action, Create) and kind is not None and request.body is not None:
            assumed = self._store.decoder(kind)(request.body)
        elif isinstance(action, Apply | Patch):
            assumed = action.assumed
        if kind is None or assumed is None:
            return None
        self._store.assume(kind, assumed)
        return kind, assumed.metadata.key

    def _withdraw(self, item: Item, kind: type[Any], key: Key) -> None:
        """What was heard counts again. Where that is less or other than was assumed, others may have gone by it."""
        planned, before = self._store.shelf(kind).view(key), self._store.entries(kind, key)
        self._store.withdraw(kind, key)
        if self._store.entries(kind, key) != before:
            self._hear(item, lambda: self._wake(kind, planned, self._store.heard(kind, key)))

    def _after(self, item: Item, error: ApiError) -> Outcome:
        if error.status in (404, 409, 410, 412):
            return Outcome("conflict")
        if _is_refusal(error):
            # Counted from the refusal: the looks since then do not put off the next try.
            now = self._clock().mono
            left = [known.until - now for known in self._refused.get(item, {}).values() if known.until > now]
            return Outcome("refused", min(left, default=REFUSAL_STANDS))
        return Outcome("backoff", error.retry_after)

    def _hear(self, item: Item, change: Callable[[], None]) -> None:
        """Enter the answer to our own write: it wakes everybody but the one who wrote, who looks again anyway."""
        self._speaking = item
        try:
            change()
        finally:
            self._speaking = None

    def _wake(self, kind: type[Any], old: Stored | None, new: Stored | None) -> None:
        if old is not None and new is not None and same(old, new):
            return
        due = self._clock().mono
        # Until every kind is known nobody looks, and then every object of a service has yet to: it was heard of as new.
        begun = self._store.complete()
        changed = new or old
        writing = self._writing.get((kind, changed.metadata.key)) if changed is not None else None
        for name, watch in self._watchers[kind]:
            if old is None and new is None:
                keys: Iterable[Key] = self._store.shelf(self._services[name].kind).objects
            elif watch is None:
                keys = {(new or old).metadata.key}  # type: ignore[union-attr]
            else:
                keys = self._keys(name, watch, old, new) if begun else ()
            for key in keys:
                item = Item(name, key)
                if writing is not None and item == writing.item:
                    writing.newest = version(new.metadata.resource_version) if new is not None else inf
                elif item != self._speaking:
                    if watch is None:
                        self._queue.forget(item)
                    self._queue.add(item, due + (watch.patience if watch else 0.0))

    def _keys(self, name: str, watch: Watch[Any], old: Stored | None, new: Stored | None) -> set[Key]:
        """Which of a service's objects look again. One that it cannot read must not stop the source it came by."""
        keys: set[Key] = set()
        try:
            if watch.sees and old is not None and new is not None and watch.sees(old) == watch.sees(new):
                return keys
            for value in (old, new):
                if value is not None:
                    keys.update(watch.keys(value, self._views[name]))
        except (msgspec.MsgspecError, ValueError):
            return keys  # stored under a laxer schema: its own service calls it Stalled
        except Exception as error:  # noqa: BLE001  a bug in one service must not stop the others
            self._observer.bug(Item(name, (new or old).metadata.key), error)  # type: ignore[union-attr]
        return keys


def one_by_one(colloquy: Colloquy) -> Conversation:
    """The same with one request after the other, for who makes them so."""
    try:
        asked = next(colloquy)
        while True:
            if isinstance(asked, Together):
                answers: list[bytes | ApiError] = []
                for request in asked.requests:
                    try:
                        answers.append((yield request))
                    except ApiError as error:
                        answers.append(error.with_traceback(None))
                asked = colloquy.send(answers)
                continue
            try:
                answer = yield asked
            except ApiError as error:
                asked = colloquy.throw(error)
            else:
                asked = colloquy.send(answer)
    except StopIteration as stop:
        outcome: Outcome = stop.value
        return outcome
    finally:
        colloquy.close()


def _batches(actions: Sequence[Action]) -> Iterable[Sequence[int]]:
    """The numbers of actions in order, those together that need no order: pods of a dead host, which are many."""
    batch: list[int] = []
    for number, action in enumerate(actions):
        hurries = isinstance(action, Delete) and action.now
        if batch and not hurries:
            yield batch
            batch = []
        if hurries:
            batch.append(number)
        else:
            yield (number,)
    if batch:
        yield batch


def _all(
    tries: Sequence[Generator[Request, bytes, ApiError | None]],
) -> Generator[Request | Together, Any, Sequence[ApiError | None]]:
    """Carry out several, each of which makes one request at most, at the same time."""
    failures: list[ApiError | None] = [None] * len(tries)
    asked: list[tuple[int, Request]] = []
    for number, attempt in enumerate(tries):
        try:
            asked.append((number, next(attempt)))
        except StopIteration as stop:
            failures[number] = stop.value
    answers = (yield Together(tuple(request for _, request in asked))) if asked else []
    for (number, _), answer in zip(asked, answers, strict=True):
        try:
            if isinstance(answer, ApiError):
                tries[number].throw(answer)
            else:
                tries[number].send(answer)
        except StopIteration as stop:
            failures[number] = stop.value
    return failures


def merge_patch(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The RFC 7386 patch that turns one object into the other; empty when they are equal."""
    patch: dict[str, Any] = {field: None for field in stored if field not in wanted}
    for field, value in wanted.items():
        known = stored.get(field)
        if isinstance(value, Mapping) and isinstance(known, Mapping):
            if inner := merge_patch(known, value):
                patch[field] = inner
        elif field not in stored or known != value:
            patch[field] = value
    return patch


def _sooner(first: float | None, second: float | None) -> float | None:
    return min((seconds for seconds in (first, second) if seconds is not None), default=None)


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)


def _key(manifest: Mapping[str, Any]) -> Key:
    return Key(manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"])


def _get(request: Request) -> Request:
    path = request.resource.path(request.key.namespace, request.key.name)
    return Request(request.service, "get", request.resource, request.key, "GET", path, content_type=JSON)


def _stored(condition: Mapping[str, Any]) -> Condition:
    return Condition(condition["type"], condition["status"], condition.get("reason", ""), condition.get("message", ""))


def _creates(action: Action) -> bool:
    return isinstance(action, Create) or (isinstance(action, Apply) and not action.force)


def _may_have_happened(error: ApiError) -> bool:
    """Whether a request that failed may have been carried out all the same: no answer came, or the server broke."""
    return error.status == 0 or error.status >= 500


def _is_doubtful(action: Action, failure: ApiError) -> bool:
    """Whether nobody knows what is there after a change that failed: it may have happened, or the object is not what it
    was planned for, of which its source may not tell for long."""
    return isinstance(action, Apply | Patch) and (_may_have_happened(failure) or failure.status == 409)


def _is_unfounded(action: Action, failure: ApiError) -> bool:
    """Whether a deletion was left because what it went by has changed. Others do not wait for that."""
    return failure.status == 409 and isinstance(action, Delete) and action.because is not None


def _is_refusal(error: ApiError) -> bool:
    """Whether a repetition would be refused again: it is invalid, or an admission webhook or policy says no."""
    if error.status == 500:
        return error.message.startswith(NOT_IN_SCHEMA)
    return error.status in (400, 422) or (error.status == 403 and "denied the request" in error.message)


def _refusal(error: ApiError) -> Condition | None:
    """What a user should know about a failed request; None when the next look will sort it out."""
    if error.status in (404, 409, 410, 412):
        return None
    if _is_refusal(error):
        return conditions.stalled(
            "Refused",
            f"The API server refuses what this object asks for: {error.message}. "
            "Change the spec; nothing is retried before.",
        )
    if error.status == 403:
        return Condition(
            "Applied",
            "False",
            "Forbidden",
            f"The API server forbids the write: {error.message}. "
            "If it is a quota, raise it; if it is a missing right, install the current RBAC of vdcos.",
        )
    return Condition(
        "Applied",
        "False",
        "ApiUnavailable",
        f"The API server does not carry out the write ({error.reason}): {error.message}. "
        "It is retried with growing pauses of up to a minute.",
    )


def _malformed(error: Exception) -> Condition:
    return conditions.stalled(
        "Malformed",
        f"The stored object does not fit the schema: {error}. Correct it with kubectl edit; nothing is done before.",
    )


def _bug(error: Exception) -> Condition:
    return Condition(
        "Applied",
        "False",
        "InternalError",
        f"vdcos failed on this object ({type(error).__name__}); other objects go on. "
        "It is retried; please report it with the operator's log.",
    )
