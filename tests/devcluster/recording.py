"""Recordings of what happens to objects: as facts that can be compared between a real cluster and a devcluster.

A fact is a path and the value it took on, such as ``status.conditions[Ready].status`` = ``"False"``. What differs from
run to run (times, uids, addresses, host names, generated names) is replaced by a word in angle brackets. A moment is
the set of facts of one watch event; a trace is the list of an object's moments in order.
"""

import http.client
import itertools
import json
import re
import socket
import ssl
import threading
import urllib.parse
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from devcluster.cluster import Cluster

Fact = tuple[str, str]
Moment = list[Fact]
Occurrence = tuple[str, str, int]
"""A fact, and how many times it has been true by then."""

ABSENT = "<absent>"
CREATED = ("", "<created>")
DELETED = ("", "<deleted>")
_UNTOLD = (
    "apiVersion",
    "kind",
    "metadata.resourceVersion",
    "metadata.generation",
    "metadata.managedFields",
    "metadata.creationTimestamp",
)
_TOLD_AT_BIRTH = ("metadata.labels", "metadata.annotations", "metadata.finalizers", "status")
_WORDS = [
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| \+0000 UTC)", "<time>"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uid>"),
    (r"\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b", "<mac>"),
    (r"\b\d+\.\d+\.\d+\.\d+\b", "<ip>"),
    (r"\b(virt-launcher-\w+|hp-volume|mig|kubevirt-evacuation|kubevirt-workload-update)-\w{5}\b", r"<\1>"),
    (r"[\w.:]+(/[\w.-]+)+((@sha256:[0-9a-f]{64})|(:[\w.]+))", "<image>"),
    (r"containerd://[0-9a-f]{64}", "<container>"),
    (r"\b(n[12]|host-\d+)\b", "<host>"),
    (r"(Ports\.)\d+", r"\1<port>"),
]
_RULES = [(re.compile(pattern), word) for pattern, word in _WORDS]


def normal(text: str) -> str:
    """A path or value without what differs from run to run."""
    for pattern, word in _RULES:
        text = pattern.sub(word, text)
    return text


def flatten(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """An object's leaves; items of a list are named by their type, phase or name, if they have one."""
    match value:
        case dict():
            for key, item in value.items():
                yield from flatten(item, f"{path}.{key}" if path else key)
        case list():
            for number, item in enumerate(value):
                key = next((item[k] for k in ("type", "phase", "name") if item.get(k)), number) if _is(item) else number
                yield from flatten(item, f"{path}[{key}]")
        case _:
            yield path, json.dumps(value)


def _is(item: Any) -> bool:
    return isinstance(item, dict)


def moment(before: dict[str, Any], after: dict[str, Any], *, created: bool) -> Moment:
    """What changed. Of a new object only what others say about it; of a condition only what it says now."""
    old, new = dict(flatten(before)), dict(flatten(after))
    facts = {(p, v) for p, v in new.items() if old.get(p) != v and not p.startswith(_UNTOLD)}
    if created:
        told = {(p, v) for p, v in facts if p.startswith(_TOLD_AT_BIRTH)}
        return [CREATED, *sorted({normal_fact(*fact) for fact in told})]
    gone = {(p, ABSENT) for p in old.keys() - new.keys() if ".conditions[" not in p and not p.startswith(_UNTOLD)}
    return sorted({normal_fact(*fact) for fact in facts | gone})


def normal_fact(path: str, value: str) -> Fact:
    return normal(path), "<int>" if path.endswith(".checksum") and value != ABSENT else normal(value)


@dataclass
class Recorder:
    """Watches some resources of a namespace (or of the cluster) from now on. Use as a context manager."""

    cluster: Cluster
    paths: dict[str, str]
    """Where to watch, by the name that the trace gets: a collection's path below the server's root."""
    traces: dict[str, dict[str, list[Moment]]] = field(default_factory=dict)
    """By watch and by object name, in order."""
    seen: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self._connections = [self._watch(name, path) for name, path in self.paths.items()]
        return self

    def __exit__(self, *_: object) -> None:
        for connection, response, thread in self._connections:
            if connection.sock is not None:
                connection.sock.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            response.close()
            connection.close()

    def _watch(
        self, name: str, path: str
    ) -> tuple[http.client.HTTPSConnection, http.client.HTTPResponse, threading.Thread]:
        """List for the state before, then follow. Returns once the state before is known."""
        server = urllib.parse.urlsplit(self.cluster.server)
        tls = ssl.create_default_context(cafile=str(self.cluster.ca))
        headers = {"Authorization": f"Bearer {self.cluster.token}"}
        connection = http.client.HTTPSConnection(server.netloc, context=tls)
        connection.request("GET", path, headers=headers)
        listed = json.loads(connection.getresponse().read())
        for item in listed["items"]:
            self.seen[name, item["metadata"]["name"]] = item
        self.traces[name] = {}
        connection.request(
            "GET", f"{path}?watch=1&resourceVersion={listed['metadata']['resourceVersion']}", headers=headers
        )
        response = connection.getresponse()
        thread = threading.Thread(target=self._follow, args=(name, response), daemon=True)
        thread.start()
        return connection, response, thread

    def _follow(self, name: str, response: http.client.HTTPResponse) -> None:
        for line in _lines(response):
            event = json.loads(line)
            kind, obj = event["type"], event["object"]
            key = (name, obj["metadata"]["name"])
            if kind in ("BOOKMARK", "ERROR"):
                continue
            if kind == "DELETED":
                facts: Moment = [DELETED]
            else:
                facts = moment(self.seen.get(key, {}), obj, created=kind == "ADDED")
                self.seen[key] = obj
            self.traces[name].setdefault(obj["metadata"]["name"], []).append(facts)


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while line := response.readline():
            yield line
    except (OSError, http.client.HTTPException, ValueError):
        return  # the recorder has hung up


def load(path: Path) -> dict[str, list[Moment]]:
    """Recorded traces by name, as written in traces/*.yaml: one list of "path=value" per moment."""
    document: dict[str, list[list[str]]] = yaml.safe_load(path.read_text())
    return {name: [[_fact(line) for line in facts] for facts in moments] for name, moments in document.items()}


def _fact(line: str) -> Fact:
    path, _, value = line.partition("=")
    return path, value


@dataclass(frozen=True)
class Allowed:
    """A difference that we accept, and why. Patterns are regular expressions for "path=value"."""

    why: str
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    reordered: tuple[str, ...] = ()


def differences(recorded: list[Moment], played: list[Moment], allowed: Iterable[Allowed]) -> list[str]:
    """What is not as recorded: facts that are missing or new, and facts that come in another order.

    Two facts of one moment may come in two, and the reverse; but nothing may come before what preceded it.
    """
    allowed = list(allowed)
    want, have = _occurrences(recorded), _occurrences(played)
    # A record of a creation only has what differs from the object that had the name before.
    born = {at for at, facts in enumerate(played) if CREATED in facts}
    missing = [f for f in want.keys() - have.keys() if not _matches(f, (a.missing for a in allowed))]
    new = [f for f in have.keys() - want.keys() if have[f] not in born]
    extra = [f for f in new if not _matches(f, (a.extra for a in allowed))]
    ordered = [f for f in want if f in have and not _matches(f, (a.reordered for a in allowed))]
    return sorted(
        [
            *(f"missing: {_show(fact)}" for fact in missing),
            *(f"extra: {_show(fact)}" for fact in extra),
            *_too_early(ordered, want, have),
        ]
    )


def _too_early(facts: list[Occurrence], want: dict[Occurrence, int], have: dict[Occurrence, int]) -> Iterator[str]:
    """Facts that were played before a fact of an earlier recorded moment."""
    latest: Occurrence | None = None
    for _, group in itertools.groupby(sorted(facts, key=want.__getitem__), key=want.__getitem__):
        moment_facts = list(group)
        for fact in moment_facts:
            if latest is not None and have[fact] < have[latest]:
                yield f"too early: {_show(fact)} before {_show(latest)}"
        latest = max([*moment_facts, *([latest] if latest else [])], key=have.__getitem__)


def _occurrences(trace: list[Moment]) -> dict[Occurrence, int]:
    """The moment of each occurrence of each fact; of times and the like only the first occurrence counts."""
    counts: Counter[Fact] = Counter()
    found: dict[Occurrence, int] = {}
    for at, facts in enumerate(trace):
        for fact in facts:
            counts[fact] += 1
            if counts[fact] > 1 and ("<" in fact[1] or fact[1] == "null"):
                continue
            found[(*fact, counts[fact])] = at
    return found


def _show(fact: Occurrence) -> str:
    path, value, number = fact
    return f"{path}={value}" + (f" (time {number})" if number > 1 else "")


def _matches(fact: Occurrence, patterns: Iterable[tuple[str, ...]]) -> bool:
    text = f"{fact[0]}={fact[1]}"
    return any(re.search(pattern, text) for group in patterns for pattern in group)
