"""A real API server as a server of sequences."""

import http.client
import json
import ssl
import urllib.parse
import uuid
from pathlib import Path
from typing import Any

from devcluster.cluster import Cluster
from tests.conformance.play import owned_fields
from vdcos import api
from vdcos.core.objects import Key, Resource
from vdcos.runtime.requests import Request
from vdcos.testing.apiserver import NAMESPACE

Json = Any
ROOT = Path(__file__).parents[2]
WATCH_SECONDS = 30


def some_space() -> str:
    """A name for a namespace that nobody has."""
    return f"c-{uuid.uuid4().hex[:8]}"


def connected(cluster: Cluster) -> "Real":
    """The API server of a devcluster, which knows our kinds from then on."""
    cluster.kubectl("apply", "--server-side", "-k", str(ROOT / "crds"))
    names = [f"crd/{model.definition.name}" for model in api.KINDS.values()]
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)
    return Real(cluster.server, cluster.token, cluster.ca)


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
        query = {"watch": "true", "resourceVersion": since, "timeoutSeconds": str(WATCH_SECONDS)}
        query["allowWatchBookmarks"] = "true"
        connection = self._connect()
        connection.request("GET", f"{resource.path(namespace)}?{urllib.parse.urlencode(query)}", headers=self._headers)
        events: list[Json] = []
        for line in connection.getresponse():
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
        connection.close()
        return events

    def managers(self, resource: Resource, key: Key, answer: Json) -> dict[str, list[str]]:
        return owned_fields(answer)
