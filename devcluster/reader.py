"""Reads objects as ``kubectl get -o json`` does, without a process for each look: tests look often."""

import http.client
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

Object = dict[str, Any]

_DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_SECONDS = 30.0


class ReadError(Exception):
    """The API server refused; the message is what kubectl would print."""


class Unsaid(Exception):
    """This is not for us to answer: kubectl knows more options, and more words for kinds."""


class Kind(NamedTuple):
    """A kind as the API server serves it."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    words: frozenset[str]
    """What it is called, in small letters."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str, name: str = "") -> str:
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        space = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{root}{space}/{self.plural}" + (f"/{name}" if name else "")


class Asked(NamedTuple):
    """What is to be read; of all namespaces where ``namespace`` is ""."""

    kinds: Sequence[str]
    name: str
    namespace: str
    selector: str


def asked(arguments: Sequence[str]) -> Asked:
    """The arguments of ``kubectl get``. Raises Unsaid."""
    words: list[str] = []
    namespace, selector = "default", ""
    rest = iter(arguments)
    for argument in rest:
        if argument in ("-n", "--namespace"):
            namespace = next(rest)
        elif argument in ("-l", "--selector"):
            selector = next(rest)
        elif argument in ("-A", "--all-namespaces"):
            namespace = ""
        elif argument.startswith("-") or "/" in argument:
            raise Unsaid
        else:
            words.append(argument)
    kinds = words[0].split(",") if words else []
    if not kinds or len(words) > 2 or (len(words) == 2 and len(kinds) > 1):
        raise Unsaid
    return Asked(kinds, words[1] if len(words) == 2 else "", namespace, selector)


class Reader:
    """Of one API server, as the holder of a token."""

    def __init__(self, server: str, token: str, ca: Path) -> None:
        self.server = server
        self._token = token
        context = ssl.create_default_context(cafile=str(ca))
        no_proxy = urllib.request.ProxyHandler({})
        self._opener = urllib.request.build_opener(no_proxy, urllib.request.HTTPSHandler(context=context))
        self._kinds: tuple[Kind, ...] = ()

    def get(self, *arguments: str) -> Object:
        """An object, or a List of them, without managedFields. Raises ReadError, and Unsaid."""
        what = asked(arguments)
        kinds = [self._find(word) for word in what.kinds]
        if what.name:
            return _shown(self._read(kinds[0].path(what.namespace, what.name)))
        query = f"?{urllib.parse.urlencode({'labelSelector': what.selector})}" if what.selector else ""
        items = [
            _shown({"apiVersion": kind.api_version, "kind": kind.kind, **item})
            for kind in kinds
            for item in self._read(kind.path(what.namespace) + query)["items"]
        ]
        return {"apiVersion": "v1", "kind": "List", "items": items}

    def _find(self, word: str) -> Kind:
        """Raises Unsaid when there is no such kind, or more than one that is not in the core group."""
        for _ in range(2):
            found = [kind for kind in self._kinds if word.lower() in kind.words]
            core = [kind for kind in found if not kind.group]
            if len(found) == 1 or core:
                return (core or found)[0]
            if found:
                break
            self._kinds = self._discover()
        raise Unsaid

    def _discover(self) -> tuple[Kind, ...]:
        """In the version that each group prefers."""
        groups = [group for path in ("/api", "/apis") for group in self._read(path, _DISCOVERY)["items"]]
        return tuple(
            _kind(group, resource)
            for group in groups
            for resource in group["versions"][0].get("resources") or ()
            if {"get", "list"} <= set(resource.get("verbs") or ())
        )

    def _read(self, path: str, accept: str = "application/json") -> Object:
        headers = {"Authorization": f"Bearer {self._token}", "Accept": accept}
        try:
            with self._opener.open(
                urllib.request.Request(self.server + path, headers=headers), timeout=_SECONDS
            ) as answer:
                read: Object = json.load(answer)
                return read
        except urllib.error.HTTPError as error:
            raise self._refused(error.read()) from None
        except (OSError, http.client.HTTPException) as error:
            raise ReadError(f"Unable to connect to the server: {error}") from None

    def _refused(self, body: bytes) -> Exception:
        try:
            status = json.loads(body)
        except ValueError:
            status = {}
        if status.get("kind") != "Status" or "reason" not in status:
            self._kinds = ()  # what was discovered is not there any more
            return Unsaid()
        return ReadError(f"Error from server ({status['reason']}): {status.get('message')}")


def _kind(group: Object, resource: Object) -> Kind:
    name = group["metadata"].get("name", "")
    singular = resource.get("singularResource", "")
    bare = {resource["resource"], singular, resource["responseKind"]["kind"].lower(), *resource.get("shortNames", [])}
    full = {f"{word}.{name}" for word in (resource["resource"], singular) if name}
    return Kind(
        name,
        group["versions"][0]["version"],
        resource["resource"],
        resource["responseKind"]["kind"],
        resource["scope"] == "Namespaced",
        frozenset(word for word in bare | full if word),
    )


def _shown(item: Object) -> Object:
    item["metadata"].pop("managedFields", None)
    return item
