"""What kube-apiserver makes of an object by a structural schema: unknown fields, defaults, and what is wrong with it.

CEL rules (``x-kubernetes-validations``) are not evaluated.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

CRDS = Path(__file__).resolve().parents[3] / "crds"

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


@lru_cache(maxsize=1)
def generated() -> Mapping[tuple[str, str], Mapping[str, Any]]:
    """The schemas of our own kinds, as generated, by group and plural."""
    found = {}
    for file in sorted(CRDS.glob("*.yaml")):
        for document in yaml.load_all(file.read_text(), yaml.CSafeLoader):
            if document.get("kind") == "CustomResourceDefinition":
                spec = document["spec"]
                version = spec["versions"][0]
                found[spec["group"], spec["names"]["plural"]] = version["schema"]["openAPIV3Schema"]
    return found


def defaulted(schema: Mapping[str, Any], value: Any) -> Any:
    """The value with the schema's defaults where nothing is said, at every depth that exists."""
    if isinstance(value, dict):
        filled = dict(value)
        properties = schema.get("properties", {})
        extra = schema.get("additionalProperties")
        for field, rules in properties.items():
            if field not in filled and "default" in rules:
                filled[field] = rules["default"]
        for field, inner in filled.items():
            rules = properties.get(field) or (extra if isinstance(extra, dict) else {})
            if isinstance(inner, dict | list):
                filled[field] = defaulted(rules, inner)
        return filled
    if isinstance(value, list):
        return [defaulted(schema.get("items", {}), item) for item in value]
    return value


def pruned(schema: Mapping[str, Any], value: Any) -> Any:
    """The value without the fields that the schema does not know."""
    if isinstance(value, dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        properties, extra = schema.get("properties", {}), schema.get("additionalProperties")
        if isinstance(extra, dict):
            return {field: pruned(extra, inner) for field, inner in value.items()}
        if not extra and schema.get("type") == "object" and properties:
            return {field: pruned(properties[field], inner) for field, inner in value.items() if field in properties}
    if isinstance(value, list):
        return [pruned(schema.get("items", {}), item) for item in value]
    return value


def unknown(schema: Mapping[str, Any], value: Any, path: str = "") -> Iterator[str]:
    """The paths of fields that the schema does not know: kept with 'Ignore', refused with 'Strict'."""
    if isinstance(value, dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        properties, extra = schema.get("properties", {}), schema.get("additionalProperties")
        for field, inner in value.items():
            here = f"{path}.{field}" if path else field
            if field in properties:
                yield from unknown(properties[field], inner, here)
            elif isinstance(extra, dict):
                yield from unknown(extra, inner, here)
            elif not extra and schema.get("type") == "object" and path != "metadata":
                yield here
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from unknown(schema.get("items", {}), item, f"{path}[{number}]")


def errors(schema: Mapping[str, Any], value: Any, path: str = "") -> Iterator[str]:
    """What is wrong with a value, as ``path: what``."""
    if value is None and schema.get("nullable"):
        return
    kind = schema.get("type", "")
    if kind and (not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind in ("integer", "number"))):
        yield f"{path}: Invalid value: must be of type {kind}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: Unsupported value: {value!r}"
    yield from _bounds(schema, value, path)
    if isinstance(value, dict):
        yield from (
            f"{path}.{field}: Required value".lstrip(".") for field in schema.get("required", ()) if field not in value
        )
        properties, extra = schema.get("properties", {}), schema.get("additionalProperties")
        for field, inner in value.items():
            rules = properties.get(field, extra if isinstance(extra, dict) else None)
            if rules is not None:
                yield from errors(rules, inner, f"{path}.{field}" if path else field)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from errors(schema.get("items", {}), item, f"{path}[{number}]")
        if keys := schema.get("x-kubernetes-list-map-keys"):
            seen = [tuple(item.get(key) for key in keys) for item in value if isinstance(item, dict)]
            yield from (f"{path}: Duplicate value: {each}" for each in seen if seen.count(each) > 1)


def _bounds(schema: Mapping[str, Any], value: Any, path: str) -> Iterator[str]:
    if isinstance(value, str):
        if len(value) > schema.get("maxLength", len(value)) or len(value) < schema.get("minLength", 0):
            yield f"{path}: Invalid value: length {len(value)}"
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"{path}: Invalid value: {value!r} does not match {schema['pattern']}"
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if value > schema.get("maximum", value) or value < schema.get("minimum", value):
            yield f"{path}: Invalid value: {value} is out of range"
    elif isinstance(value, list):
        if len(value) > schema.get("maxItems", len(value)) or len(value) < schema.get("minItems", 0):
            yield f"{path}: Invalid value: {len(value)} items"
    elif isinstance(value, dict) and len(value) > schema.get("maxProperties", len(value)):
        yield f"{path}: Too many: {len(value)}"
