"""A real API server as a server of sequences."""

import contextlib
import http.client
import json
import socket
import ssl
import threading
import urllib.parse
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from devcluster.cluster import Cluster
from tests.conformance.play import owned_fields
from tests.conformance.traces import FOLLOWED, Event
from vdcos import api
from vdcos.core.objects import Key, Resource
from vdcos.runtime.requests import Request
from vdcos.testing.apiserver import NAMESPACE

Json = Any
ROOT = Path(__file__).parents[2]
WATCH_SECONDS = 300


def some_space() -> str:
    """A name for a namespace that nobody has."""
    return f"c-{uuid.uuid4().hex[:8]}"


def connected(cluster: Cluster) -> "Real":
    """The API server of a devcluster, which knows our kinds from then on."""
    cluster.kubectl("apply", "--server-side", "-k", str(ROOT / "crds"))
    names = [f"crd/{model.definition.name}" for model in api.KINDS.values()]
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)
    return Real(cluster.server, cluster.token, cluster.ca)


class Watcher:
    """Follows the kinds of scenes in all namespaces, from when the block is entered until it ends."""

    def __init__(self, real: "Real") -> None:
        self._real = real
        self._events: list[Event] = []
        self._news = threading.Condition()
        self._followed: list[tuple[http.client.HTTPSConnection, http.client.HTTPResponse, threading.Thread]] = []

    def __enter__(self) -> Self:
        for kind, resource in FOLLOWED.items():
            since = self._real.get(resource.path())["metadata"]["resourceVersion"]
            connection, response = self._real.follow(resource.path(), since)
            thread = threading.Thread(target=self._read, args=(kind, response), daemon=True)
            self._followed.append((connection, response, thread))
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for connection, response, thread in self._followed:
            if connection.sock is not None:
                connection.sock.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            response.close()
            connection.close()

    def _read(self, kind: str, response: http.client.HTTPResponse) -> None:
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):  # hung up
            for line in response:
                said = json.loads(line)
                if said["type"] in ("ADDED", "MODIFIED", "DELETED"):
                    version = int(said["object"]["metadata"]["resourceVersion"])
                    with self._news:
                        self._events.append(Event(version, kind, said["type"] == "DELETED", said["object"]))
                        self._news.notify_all()

    def events(self, space: str) -> list[Event]:
        """What has happened in a namespace so far."""
        with self._news:
            return self._of(space)

    def _of(self, space: str) -> list[Event]:
        found = [event for event in self._events if event.tree["metadata"]["namespace"] == space]
        return sorted(found, key=lambda event: event.version)

    def until(self, space: str, holds: Callable[[list[Event]], bool], seconds: float) -> bool:
        """Whether it comes to hold of what has happened in a namespace."""
        with self._news:
            return self._news.wait_for(lambda: holds(self._of(space)), seconds)


class Real:
    """One connection for requests, and one more for each watch."""

    def __init__(self, server: str, token: str, ca: Path) -> None:
        url = urllib.parse.urlsplit(server)
        self._where = (url.hostname or "", url.port)
        self._tls = ssl.create_default_context(cafile=str(ca))
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self._connection = self._connect()

    def _connect(self) -> http.client.HTTPSConnection:
        host, port = self._where
        return http.client.HTTPSConnection(host, port, context=self._tls, timeout=2 * WATCH_SECONDS)

    def namespace(self, name: str) -> None:
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        body = json.dumps(manifest).encode()
        key = Key("", name)
        code, answer = self.call(Request("conformance", "create", NAMESPACE, key, "POST", NAMESPACE.path(), body))
        assert code == 201, answer

    def forget(self, name: str) -> None:
        path = NAMESPACE.path(name=name)
        self.call(Request("conformance", "delete", NAMESPACE, Key("", name), "DELETE", path))

    def call(self, request: Request) -> tuple[int, Json]:
        where = f"{request.path}?{urllib.parse.urlencode(request.query)}"
        self._connection.request(
            request.method, where, request.body, {**self._headers, "Content-Type": request.content_type}
        )
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def watch(self, resource: Resource, namespace: str, since: str, until: Request) -> list[Json]:
        code, answer = self.call(until)
        assert code == 201, answer
        connection, response = self.follow(resource.path(namespace), since)
        events: list[Json] = []
        for line in response:
            event = json.loads(line)
            if event["type"] == "ERROR":
                events.append(event)
                break
            if event["object"]["metadata"]["name"] == until.key.name:
                break
            if event["type"] != "BOOKMARK":
                events.append(event)
        else:
            raise AssertionError(f"the watch of {resource.plural} ended without {until.key}")
        response.close()
        connection.close()
        return events

    def get(self, path: str) -> Json:
        self._connection.request("GET", path, headers=self._headers)
        return json.loads(self._connection.getresponse().read())

    def follow(self, path: str, since: str) -> tuple[http.client.HTTPSConnection, http.client.HTTPResponse]:
        """A watch, a line per event."""
        query = {"watch": "true", "resourceVersion": since, "timeoutSeconds": str(WATCH_SECONDS)}
        query["allowWatchBookmarks"] = "true"
        connection = self._connect()
        connection.request("GET", f"{path}?{urllib.parse.urlencode(query)}", headers=self._headers)
        return connection, connection.getresponse()

    def close(self) -> None:
        self._connection.close()

    def managers(self, resource: Resource, key: Key, answer: Json) -> dict[str, list[str]]:
        return owned_fields(answer)
