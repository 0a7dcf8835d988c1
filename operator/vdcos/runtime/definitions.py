"""Whether the API server knows our kinds as we do. It publishes its schemas to everybody (OpenAPI v3): that takes no
right to read definitions.

A definition of another release is no reason to stop: the API server drops fields that it does not know, and we ignore
those that we do not.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import msgspec

from vdcos.core.preflight import Check, listed
from vdcos.runtime.depth import bounded
from vdcos.runtime.requests import ApiError

Tree = Mapping[str, Any]
Fields = Mapping[str, Any]
"""The default of every field (None: it has none) by its path, as ``spec.cpu.sockets``."""

_PARTS = ("spec", "status")
_GVK = "x-kubernetes-group-version-kind"
_APPLY = "apply the definitions of the operator's own release: kubectl apply --server-side -k crds"


class _Components(msgspec.Struct, frozen=True):
    schemas: dict[str, dict[str, Any]] = {}


class Document(msgspec.Struct, frozen=True):
    """The part of an OpenAPI document that is needed here."""

    components: _Components = _Components()


_decode = bounded(msgspec.json.Decoder(Document).decode)


class Caller(Protocol):
    """The part of the Kubernetes port that is needed here."""

    async def call(self, verb: str, method: str, path: str) -> bytes: ...


async def check(port: Caller, api_version: str, ours: Mapping[str, Fields]) -> Check:
    """Compare what is served of our kinds with what we know, by kind. Raises ApiError when there is no answer."""
    try:
        document = _decode(await port.call("get", "GET", f"/openapi/v3/apis/{api_version}"))
    except ApiError as error:
        if error.status == 404:
            return verdict(ours, {})
        if error.status != 403:
            raise
        return _check("Unknown", "the API server does not publish its schemas to us")
    except msgspec.MsgspecError as error:
        return _check("Unknown", f"what the API server publishes cannot be read: {error}")
    return verdict(ours, published(document))


def published(document: Document) -> dict[str, Tree]:
    """The schemas of an OpenAPI document by kind."""
    schemas = document.components.schemas.values()
    return {gvk["kind"]: schema for schema in schemas for gvk in schema.get(_GVK, ())}


def verdict(ours: Mapping[str, Fields], served: Mapping[str, Tree]) -> Check:
    """What it comes to that the API server serves these schemas, by kind."""
    if missing := sorted(kind for kind in ours if kind not in served):
        return _check("Missing", f"not served: {listed(missing)}", "nothing can be declared of them", _APPLY, missing)
    dropped: list[str] = []
    ignored: list[str] = []
    others: list[str] = []
    limited: list[str] = []
    for kind, known in ours.items():
        there = fields(served[kind])
        before = len(dropped) + len(ignored) + len(others)
        dropped += [f"{kind} {path}" for path in _topmost(known, there)]
        ignored += [f"{kind} {path}" for path in _topmost(there, known)]
        others += [f"{kind} {path}" for path in sorted(known.keys() & there.keys()) if known[path] != there[path]]
        if len(dropped) + len(ignored) + len(others) > before:
            limited.append(kind)
    if not limited:
        return _check("OK", f"all {len(ours)} kinds are served as this release knows them")
    costs = [
        f"{words}: {listed(names)}"
        for words, names in (
            ("the API server drops", dropped),
            ("this operator ignores", ignored),
            ("their defaults are others", others),
        )
        if names
    ]
    older = "older than" if dropped and not ignored else "newer than" if ignored and not dropped else "other than"
    return _check("Limited", f"{older} the operator", "; ".join(costs), _APPLY, limited)


def fields(schema: Tree) -> Fields:
    """What of a kind users and we may write."""
    properties = schema.get("properties", {})
    return dict(item for part in _PARTS if part in properties for item in _below(properties[part], part))


def _below(schema: Tree, path: str) -> Iterator[tuple[str, Any]]:
    yield path, schema.get("default")
    for name, below in schema.get("properties", {}).items():
        yield from _below(below, f"{path}.{name}")
    for part in ("items", "additionalProperties"):
        if isinstance(below := schema.get(part), Mapping):
            yield from _below(below, f"{path}[]")


def _topmost(fields: Fields, others: Fields) -> list[str]:
    """What the others lack, without what is below something that they lack."""
    lacking = {path for path in fields if path not in others}
    return sorted(path for path in lacking if not any(path.startswith((f"{top}.", f"{top}[")) for top in lacking))


def _check(state: Any, found: str, cost: str = "", remedy: str = "", limits: Any = ()) -> Check:
    return Check("Definitions", state, found, cost, remedy, tuple(limits), required=True)
