"""Bad input is refused by the API server, with the field's path and a reason that a person understands.

The cases are tables, one per kind, in bad_input/. Everything is a server-side dry run; only the base of each kind is
stored, for the updates.
"""

import copy
import http.client
import json
import re
import ssl
import urllib.parse
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.cluster import Cluster
from vdcos import api

TABLES = Path(__file__).parent / "bad_input"
ROOT = Path(__file__).parents[2]

Object = dict[str, Any]

STORED = f"bad-input-{uuid.uuid4().hex[:6]}"
"""Name of the stored base of each kind, and of the namespace."""


@dataclass(frozen=True)
class Case:
    """An object to create, or to update the stored base with, and the refusal to expect (none: accepted)."""

    kind: str
    name: str
    manifest: Object
    update: bool
    at: str | None = None
    says: str | None = None


@dataclass(frozen=True)
class Cause:
    field: str
    message: str


def steps(path: str) -> list[str | int]:
    return [int(step[1:-1]) if step.startswith("[") else step for step in re.findall(r"\[\d+\]|[^.\[]+", path)]


def parent_of(manifest: Any, path: str) -> tuple[Any, str | int]:
    """The container in which `path` ends, made on the way, and the last step."""
    *way, last = steps(path)
    for step in way:
        if isinstance(step, str):
            manifest = manifest.setdefault(step, {})
        else:
            manifest = manifest[step]
    return manifest, last


def put(manifest: Object, path: str, value: Any) -> None:
    container, last = parent_of(manifest, path)
    if isinstance(container, list) and last == len(container):
        container.append(value)
    else:
        container[last] = value


def numbered(template: Any, number: int) -> Any:
    match template:
        case str():
            return template.replace("{}", str(number))
        case dict():
            return {numbered(key, number): numbered(value, number) for key, value in template.items()}
        case _:
            return template


def many(count: int, template: Any) -> Any:
    """`count` numbered copies: a list, or a map when the template is one of numbered keys."""
    copies = [numbered(template, number) for number in range(count)]
    if isinstance(template, dict) and "{}" in "".join(template):
        return {key: value for item in copies for key, value in item.items()}
    return copies


def changed(base: Object, row: Object) -> Object:
    manifest = copy.deepcopy(base)
    for path, value in row.get("set", {}).items():
        put(manifest, path, value)
    for path, (piece, times) in row.get("repeat", {}).items():
        put(manifest, path, piece * times)
    for path, (count, template) in row.get("many", {}).items():
        put(manifest, path, many(count, template))
    for path in row.get("drop", ()):
        container, last = parent_of(manifest, path)
        del container[last]
    return manifest


def cases() -> Iterator[Case]:
    for file in sorted(TABLES.glob("*.yaml")):
        table = yaml.load(file.read_text(), yaml.CSafeLoader)
        base = table["base"]
        for section in ("refused", "changeRefused", "accepted", "changeAccepted"):
            for row in table[section]:
                manifest = changed(base, row)
                update = section.startswith("change")
                if update:
                    manifest["metadata"]["name"] = STORED
                yield Case(base["kind"], row["case"], manifest, update, row.get("at"), row.get("says"))


CASES = tuple(cases())


class Server:
    """Server-side dry runs with strict field validation, as kubectl does them."""

    def __init__(self, cluster: Cluster) -> None:
        url = urllib.parse.urlsplit(cluster.server)
        tls = ssl.create_default_context(cafile=str(cluster.ca))
        self._connection = http.client.HTTPSConnection(url.hostname or "", url.port, context=tls, timeout=30)
        self._headers = {"Authorization": f"Bearer {cluster.token}", "Content-Type": "application/json"}

    def send(self, method: str, manifest: Object, dry_run: bool = True) -> tuple[int, Object]:
        definition = api.KINDS[manifest["kind"]].definition
        path = f"/apis/{api.API_VERSION}/"
        path += f"namespaces/{STORED}/" if definition.scope == "Namespaced" else ""
        path += definition.plural
        path += f"/{manifest['metadata']['name']}" if method != "POST" else ""
        query = "fieldValidation=Strict" + ("&dryRun=All" if dry_run else "")
        self._connection.request(method, f"{path}?{query}", json.dumps(manifest), self._headers)
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())


def causes(status: Object) -> list[Cause]:
    """Why the API server refused: its causes, or the unknown fields of a strict decoding error."""
    unknown = re.findall(r'unknown field "([^"]+)"', status["message"])
    listed = status.get("details", {}).get("causes", ())
    return [Cause(field, "unknown field") for field in unknown] + [
        Cause(cause.get("field", ""), cause.get("message", "")) for cause in listed
    ]


@pytest.fixture(scope="module")
def server(cluster: Cluster) -> Iterator[Server]:
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "crds"))
    for model in api.KINDS.values():
        cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{model.definition.name}")
    cluster.kubectl("create", "namespace", STORED)
    server = Server(cluster)
    bases = [case.manifest | {"metadata": {"name": STORED}} for case in CASES if case.name == "base"]
    for base in bases:
        code, answer = server.send("POST", base, dry_run=False)
        assert code == 201, answer["message"]
    yield server
    for base in bases:
        server.send("DELETE", base, dry_run=False)
    cluster.kubectl("delete", "namespace", STORED, "--wait=false")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.name}".replace(" ", "-"))
def test_input(server: Server, case: Case) -> None:
    manifest = case.manifest
    if case.update:
        code, live = server.send("GET", manifest)
        assert code == 200
        metadata = live["metadata"] | manifest["metadata"]
        code, answer = server.send("PUT", manifest | {"metadata": metadata})
    else:
        code, answer = server.send("POST", manifest)
    if case.at is None or case.says is None:
        assert code in (200, 201), answer["message"]
        assert answer["status"] == {"observedGeneration": -1}, "nobody has seen it: kstatus must say InProgress"
        api.parse(api.KINDS[case.kind], answer)
        return
    assert code in (400, 422), f"accepted, but should say at {case.at}: {case.says}"
    found = causes(answer)
    assert any(cause.field == case.at and case.says in cause.message for cause in found), answer["message"]


def test_there_are_enough_cases() -> None:
    assert sum(case.at is not None for case in CASES) >= 120
    assert {case.kind for case in CASES} == set(api.KINDS)


def test_nothing_is_stored_when_refused(server: Server) -> None:
    """Not a dry run: what is refused leaves no trace."""
    refused = next(case for case in CASES if case.name == "no cores")
    manifest = refused.manifest | {"metadata": {"name": "refused"}}
    assert server.send("POST", manifest, dry_run=False)[0] == 422
    assert server.send("GET", manifest)[0] == 404
