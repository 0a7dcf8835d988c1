"""What the API server does with a manifest before the operator sees it, as far as schemas say: nulls mean "left out",
and a field that does not exist is a mistake. Its CEL rules are not evaluated here."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from vdcos import api
from vdcos.generate import crds
from vdcos.runtime.rehearsal import Unfit

Json = dict[str, Any]


def admitted(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """The manifest as it would be stored. Raises Unfit for fields that do not exist; other kinds pass as they are."""
    kind = str(manifest.get("kind"))
    if manifest.get("apiVersion") != api.API_VERSION or kind not in api.KINDS:
        return manifest
    schema = _schema(kind)
    # metadata has many more fields than we read
    unknown = [*_unknown(schema, {**manifest, "metadata": None}, "")]
    if unknown:
        raise Unfit(", ".join(f"{path}: unknown field" for path in unknown))
    return {**manifest, "spec": _without_nulls(schema["properties"]["spec"], manifest.get("spec"))}


@functools.cache
def _schema(kind: str) -> Json:
    schema: Json = crds.crd(api.KINDS[kind])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def _below(schema: Mapping[str, Any], value: Any) -> Iterator[tuple[str | int, Any, Any]]:
    """The known parts of a value, with their schemas."""
    if isinstance(value, Mapping):
        known = schema.get("properties", {})
        every = schema.get("additionalProperties")
        yield from ((name, known.get(name, every), item) for name, item in value.items() if name in known or every)
    elif isinstance(value, list) and "items" in schema:
        yield from ((number, schema["items"], item) for number, item in enumerate(value))


def _unknown(schema: Mapping[str, Any], value: Any, path: str) -> Iterator[str]:
    if isinstance(value, Mapping) and "properties" in schema:
        yield from (f"{path}.{name}".lstrip(".") for name in value if name not in schema["properties"])
    for step, below, item in _below(schema, value):
        yield from _unknown(below, item, f"{path}[{step}]" if isinstance(step, int) else f"{path}.{step}".lstrip("."))


def _without_nulls(schema: Mapping[str, Any], value: Any) -> Any:
    parts = {step: _without_nulls(below, item) for step, below, item in _below(schema, value)}
    if isinstance(value, Mapping) and "properties" in schema:
        return {name: item for name, item in {**value, **parts}.items() if item is not None}
    if isinstance(value, list) and "items" in schema:
        return [parts[number] for number in range(len(value))]
    return value
