"""Short random sequences over two or three objects. A seed always gives the same one.

Preconditions, patches and applies name what earlier answers said, mostly the last and sometimes an older one.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tests.conformance.catalogue import BASE, FINALIZER, op
from tests.conformance.play import SENTINELS, Do, Play, Step

Json = Any

_SPECS: dict[str, tuple[Json, ...]] = {
    "net": ({"mtu": 9000}, {"mtu": None}, {"mtu": 1}, {"bridge": {"vlan": 7}}, {"unknown": 1}),
    "ds": ({"capacity": "1Ti"}, {"capacity": None}, {"maintenance": True}, {"storageClassName": 3}, {"unknown": 1}),
    "vm": ({"powerState": "PoweredOn"}, {"powerState": "Asleep"}, {"cpu": {"sockets": 2}}, {"cpu": {"sockets": 0}}),
    "kv": (
        {"runStrategy": "Always"},
        {"runStrategy": "Halted"},
        {"template": {"spec": {"hostname": "a"}}},
        {"template": {"spec": {"hostname": None}}},
    ),
    "dv": ({"storage": {"storageClassName": "gold"}}, {"storage": {"accessModes": ["ReadWriteOnce"]}}),
    "nad": ({"config": "{1}"}, {"config": None}, {"config": "{}"}),
    "lease": ({"holderIdentity": "two"}, {"holderIdentity": "one"}, {"leaseDurationSeconds": 9}),
}
"""Changes of a spec, right and wrong ones."""

_STATUS: dict[str, tuple[Json, ...]] = {
    "net": ({"provider": "x"}, {"provider": None}, {"observedGeneration": 2}, {"observedGeneration": "x"}),
    "ds": ({"observedGeneration": 2}, {"unknown": 1}),
    "vm": ({"observedGeneration": 2}, {"powerState": "PoweredOff"}),
    "kv": ({"printableStatus": "Running"}, {"ready": True}, {"ready": None}),
    "dv": ({"phase": "Pending"}, {"progress": "1%"}, {"phase": None}),
}


def _owner(name: str) -> Json:
    uid = f"00000000-0000-0000-0000-00000000000{name}"
    return {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid}


def generated(seeds: Iterable[int]) -> Iterator[Play]:
    """The sequences of seeds."""
    return (Play(f"seed {seed}", _Author(seed).steps()) for seed in seeds)


class _Author:
    """Writes one sequence: knows which step was last about which object."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._objects = [(self._dice.choice(sorted(_SPECS)), name) for name in "abc"[: self._dice.randint(2, 3)]]
        self._last: dict[tuple[str, str], list[int]] = {}

    def steps(self) -> tuple[Step, ...]:
        written: list[Step] = []
        for number in range(self._dice.randint(6, 10)):
            which = self._dice.choice(self._objects)
            step = self._create(*which) if which not in self._last else self._dice.choice(_MOVES)(self, *which)
            if step.do != "delete":
                self._last.setdefault(which, []).append(number)
            written.append(step)
        return (*written, *(Step("get", *which) for which in self._objects), *self._watch())

    def _watch(self) -> Iterator[Step]:
        """What a watch says of all that has happened, where somebody of these kinds watches."""
        seen = {kind: numbers[0] for (kind, _), numbers in reversed(self._last.items()) if kind in SENTINELS}
        for kind, number in seen.items():
            yield Step("watch", kind, since=f"<version {number}>")

    def _manager(self) -> str:
        return self._dice.choice(("me", "me", "other"))

    def _step(self, kind: str, name: str) -> int:
        """One of the steps about this object: mostly the last, so that preconditions hold and fail."""
        known = self._last.get((kind, name), [0])
        return known[-1] if self._dice.random() < 0.7 else self._dice.choice(known)

    def _metadata(self) -> Json:
        dice = self._dice
        kinds: tuple[Callable[[], Json], ...] = (
            lambda: {"labels": {dice.choice("ab"): dice.choice("12")}},
            lambda: {"annotations": {dice.choice("ab"): dice.choice("12")}},
            lambda: {"finalizers": [FINALIZER]},
            lambda: {"ownerReferences": [dice.choice((_owner("b"), _owner("c")))]},
            dict,
        )
        return dice.choice(kinds)()

    def _create(self, kind: str, name: str) -> Step:
        if self._dice.random() < 0.5:
            return self._apply(kind, name)
        return Step("create", kind, name, {**BASE[kind], "metadata": self._metadata()}, by=self._manager())

    def _apply(self, kind: str, name: str) -> Step:
        body = {**BASE[kind], "metadata": self._metadata()}
        if self._dice.random() < 0.5:
            body["spec"] = _laid(body["spec"], self._dice.choice(_SPECS[kind]))
        if (kind, name) in self._last and self._dice.random() < 0.3:
            body["metadata"]["uid"] = f"<uid {self._step(kind, name)}>"
            if self._dice.random() < 0.5:
                body["metadata"]["resourceVersion"] = f"<version {self._step(kind, name)}>"
        return Step("apply", kind, name, body, by=self._manager(), force=self._dice.random() < 0.4)

    def _merge(self, kind: str, name: str) -> Step:
        body: Json = {"metadata": self._metadata()}
        if self._dice.random() < 0.6:
            body = {"spec": self._dice.choice(_SPECS[kind])}
        elif self._dice.random() < 0.2:
            body = {"metadata": {self._dice.choice(("labels", "annotations", "finalizers", "ownerReferences")): None}}
        return Step("merge", kind, name, self._expecting(body, kind, name), by=self._manager())

    def _status(self, kind: str, name: str) -> Step:
        if kind not in _STATUS:
            return self._merge(kind, name)
        body = {"status": self._dice.choice(_STATUS[kind])}
        return Step("merge", kind, name, self._expecting(body, kind, name), by=self._manager(), status=True)

    def _expecting(self, body: Json, kind: str, name: str) -> Json:
        if self._dice.random() < 0.4:
            expected = {"uid": f"<uid {self._step(kind, name)}>"}
            if self._dice.random() < 0.6:
                expected["resourceVersion"] = f"<version {self._step(kind, name)}>"
            body = {**body, "metadata": {**body.get("metadata", {}), **expected}}
        return body

    def _json(self, kind: str, name: str) -> Step:
        fields = [each for spec in _SPECS[kind] for each in spec.items()]
        # Others' schemas are not modelled: half a template is none.
        field, value = self._dice.choice([each for each in fields if each[0] != "template"])
        change = self._dice.choice(
            (
                [op("add", "/metadata/labels", {"a": "1"})],
                [op("add", "/metadata/labels/b", "2")],
                [op("remove", "/metadata/labels/a")],
                [op("test", "/metadata/labels/a", "1"), op("replace", "/metadata/labels/a", "2")],
                [op("test", "/metadata/finalizers", None), op("add", "/metadata/finalizers", [FINALIZER])],
                [op("test", "/metadata/finalizers/0", FINALIZER), op("remove", "/metadata/finalizers/0")],
                [op("remove", "/metadata/finalizers")],
                [op("remove", "/metadata/ownerReferences/0")],
                [op("remove", f"/spec/{field}") if value is None else op("replace", f"/spec/{field}", value)],
            )
        )
        tested = [op("test", "/metadata/uid", f"<uid {self._step(kind, name)}>")]
        if self._dice.random() < 0.3:
            tested.append(op("test", "/metadata/resourceVersion", f"<version {self._step(kind, name)}>"))
        return Step("json", kind, name, [*tested, *change], by=self._manager())

    def _put(self, kind: str, name: str) -> Step:
        """An elector replaces its Lease. Nobody replaces anything else."""
        if kind != "lease":
            return self._merge(kind, name)
        return Step("put", kind, name, {"spec": self._dice.choice(_SPECS[kind])}, of=self._last[kind, name][0])

    def _delete(self, kind: str, name: str) -> Step:
        expected = {}
        if self._dice.random() < 0.7:
            expected["uid"] = f"<uid {self._step(kind, name)}>"
        if self._dice.random() < 0.3:
            expected["resourceVersion"] = f"<version {self._step(kind, name)}>"
        return Step("delete", kind, name, {"preconditions": expected} if expected else None)

    def _other(self, kind: str, name: str) -> Step:
        do: Do = self._dice.choice(("get", "list"))
        if do == "list" and kind in ("net", "ds"):
            do = "get"  # others' objects are in a list of the whole cluster
        return Step(do, kind, name)


_MOVES: tuple[Callable[[_Author, str, str], Step], ...] = (
    _Author._apply,
    _Author._apply,
    _Author._merge,
    _Author._merge,
    _Author._status,
    _Author._json,
    _Author._json,
    _Author._put,
    _Author._delete,
    _Author._create,
    _Author._other,
)


def _laid(tree: Json, changes: Json) -> Json:
    """An object with fields set, and without those that are None."""
    laid = dict(tree)
    for name, value in changes.items():
        if value is None:
            laid.pop(name, None)
        else:
            laid[name] = _laid(laid.get(name, {}), value) if isinstance(value, dict) else value
    return laid
