"""Models to CustomResourceDefinitions with structural schemas, and the rules that such schemas must keep.

The rules are Kubernetes' (apiextensions-apiserver, pkg/apiserver/schema/validation.go) and ours: every string, list and
map has a bound, so that the API server can estimate the cost of CEL rules, and every list says how its items merge.
"""

import ast
import collections.abc
import functools
import inspect
import itertools
import re
import sys
import typing

import pydantic.json_schema
from pydantic_core import core_schema

from vdcos import api
from vdcos.api import schema

Schema = dict[str, typing.Any]
Kind = type[api.Resource]

_KEYWORDS = {
    "additionalProperties", "anyOf", "default", "description", "enum", "format", "items", "maxItems", "maxLength",
    "maxProperties", "maximum", "minItems", "minLength", "minProperties", "minimum", "properties", "required", "type",
    "x-kubernetes-list-map-keys", "x-kubernetes-list-type", "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
}  # fmt: skip
_NESTED_KEYWORDS = {"enum", "properties", "required", "maximum", "minimum", "not"}
_SCALARS = {"boolean", "integer", "string"}


KEPT: typing.Final = {
    "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
    "helm.sh/resource-policy": "keep",
    "kustomize.toolkit.fluxcd.io/prune": "disabled",
}
"""What has Argo CD, Helm and Flux leave a definition when they remove the rest: all declared VMs would go with it."""


class NotStructural(ValueError):
    """A model does not give a schema that the API server, or our own rules, would accept. One line per violation."""


def crd(model: Kind) -> Schema:
    """The CustomResourceDefinition of a kind. Raises NotStructural."""
    definition = model.definition
    root = _root(model)
    problems = [*violations(root), *_column_violations(definition.columns, root)]
    if problems:
        raise NotStructural("\n".join(f"{definition.kind}{problem}" for problem in problems))
    version = {
        "name": schema.VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [_column(column) for column in definition.columns],
        "schema": {"openAPIV3Schema": root},
        "subresources": {"status": {}},
    }
    names = {
        "kind": definition.kind,
        "listKind": f"{definition.kind}List",
        "plural": definition.plural,
        "singular": definition.singular,
        "shortNames": list(definition.short_names),
        "categories": list(definition.categories),
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": definition.name,
            "labels": {"app.kubernetes.io/part-of": "vdcos"},
            "annotations": dict(KEPT),
        },
        "spec": {"group": schema.GROUP, "names": names, "scope": definition.scope, "versions": [version]},
    }


def _column(column: schema.Column) -> Schema:
    shown = {"name": column.name, "type": column.type, "jsonPath": column.json_path}
    return shown | ({"priority": 1} if column.wide else {})


class _Generator(pydantic.json_schema.GenerateJsonSchema):
    """Adds to pydantic's JSON schema of a model its rules and the docstrings below its fields."""

    def model_schema(self, schema: core_schema.ModelSchema) -> Schema:
        node = super().model_schema(schema)
        model = schema["cls"]
        rules = [*model.rules, *([model.one_of()] if hasattr(model, "one_of") else [])]
        if rules:
            node["x-kubernetes-validations"] = [rule.as_schema() for rule in rules]
        for alias, text in _field_docs(model).items():
            node["properties"][alias]["description"] = text
        return node


def _field_docs(model: type[pydantic.BaseModel]) -> dict[str, str]:
    """The string below each field in the source, by alias. Pydantic can do this itself, but at every import."""
    docs: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if not issubclass(base, schema.Model) or base in (schema.Model, schema.OneOf):
            continue
        for field, text in itertools.pairwise(_class_bodies(base.__module__)[base.__name__]):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(doc))):
                    docs[model.model_fields[name].alias or name] = inspect.cleandoc(doc)
    return docs


@functools.cache
def _class_bodies(module: str) -> dict[str, list[ast.stmt]]:
    source = inspect.getsource(sys.modules[module])
    return {node.name: node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}


def _root(model: Kind) -> Schema:
    generated = model.model_json_schema(schema_generator=_Generator)
    definitions = generated.pop("$defs")
    properties: dict[str, Schema] = generated["properties"]
    longest = model.definition.longest_name
    properties["apiVersion"] = {"type": "string", "description": f"{schema.API_VERSION}."}
    properties["kind"] = {"type": "string", "description": f"{model.definition.kind}."}
    properties["metadata"] = {"type": "object", "properties": {"name": {"type": "string", "maxLength": longest}}}
    root = _structural(generated, definitions)
    root["required"] = ["spec"]
    _without_defaults(root["properties"]["status"])
    # An object that no operator has seen must not look finished: kstatus takes one without status for Current.
    root["properties"]["status"]["default"] = {"observedGeneration": -1}
    return root


def _structural(node: Schema, definitions: collections.abc.Mapping[str, Schema]) -> Schema:
    """The node with references inlined, absence instead of null, and no defaults that say nothing."""
    node = dict(node)
    if reference := node.pop("$ref", None):
        return _structural(definitions[reference.removeprefix("#/$defs/")] | node, definitions)
    alternatives = [alternative for alternative in node.get("anyOf", ()) if alternative != {"type": "null"}]
    if len(alternatives) == 1:
        del node["anyOf"]
        return _structural(alternatives[0] | node, definitions)
    node.pop("title", None)
    if "const" in node:
        node["enum"] = [node.pop("const")]
    if "default" in node:
        default = _pruned(node.pop("default"))
        if default not in (None, [], {}):
            node["default"] = default
    if "properties" in node:
        node["properties"] = {name: _structural(field, definitions) for name, field in node["properties"].items()}
    for keyword in ("items", "additionalProperties"):
        if keyword in node:
            node[keyword] = _structural(node[keyword], definitions)
    first = {key: node[key] for key in ("description", "type") if key in node}
    return first | node


def _pruned(value: typing.Any) -> typing.Any:
    if isinstance(value, dict):
        return {key: _pruned(item) for key, item in value.items() if item not in (None, [])}
    return value


def _without_defaults(node: Schema) -> None:
    """Status is written whole by the operator: defaults would make what is read differ from what was written."""
    for name, field in node.get("properties", {}).items():
        if name != "observedGeneration":
            field.pop("default", None)
        _without_defaults(field)
    if "items" in node:
        _without_defaults(node["items"])


def violations(node: Schema, path: str = "", correlated: bool = True) -> collections.abc.Iterator[str]:
    """What is wrong with a schema, as "path: what".

    `correlated` says whether the API server can find the old value of this node, which rules with `oldSelf` need.
    """
    for keyword in sorted(set(node) - _KEYWORDS):
        yield f"{path}: keyword {keyword} is not structural"
    for alternative in node.get("anyOf", ()):
        yield from _nested_violations(alternative, path)
    if not node.get("description") and not path.endswith(("]", "{}")) and not path.startswith(".metadata"):
        yield f"{path}: no description"
    for rule in node.get("x-kubernetes-validations", ()):
        yield from _rule_violations(rule, node, path, correlated)
    match node.get("type"):
        case "object":
            yield from _object_violations(node, path, correlated)
        case "array":
            yield from _array_violations(node, path, correlated)
        case "string":
            bounded = "enum" in node or "maxLength" in node or path in (".apiVersion", ".kind")
            if not bounded:
                yield f"{path}: a string without maxLength"
        case "integer":
            if "minimum" not in node:
                yield f"{path}: a number without minimum"
        case "boolean":
            pass
        case other:
            if not node.get("x-kubernetes-preserve-unknown-fields"):
                yield f"{path}: type is {other!r}"


def _object_violations(node: Schema, path: str, correlated: bool) -> collections.abc.Iterator[str]:
    if "additionalProperties" in node:
        if "properties" in node:
            yield f"{path}: additionalProperties beside properties"
        if "maxProperties" not in node:
            yield f"{path}: a map without maxProperties"
        yield from violations(node["additionalProperties"], f"{path}{{}}", correlated)
    for name in node.get("required", ()):
        if name not in node.get("properties", {}):
            yield f"{path}: required {name} is not a property"
    for name, field in node.get("properties", {}).items():
        yield from violations(field, f"{path}.{name}", correlated)


def _array_violations(node: Schema, path: str, correlated: bool) -> collections.abc.Iterator[str]:
    items = node.get("items", {})
    if "maxItems" not in node:
        yield f"{path}: a list without maxItems"
    match node.get("x-kubernetes-list-type"):
        case "map":
            for key in node.get("x-kubernetes-list-map-keys", ()):
                field = items.get("properties", {}).get(key)
                if field is None or field.get("type") not in _SCALARS:
                    yield f"{path}: list key {key} is not a scalar field of the items"
                elif key not in items.get("required", ()) and "default" not in field:
                    yield f"{path}: list key {key} is neither required nor defaulted"
            if not node.get("x-kubernetes-list-map-keys"):
                yield f"{path}: a list map without keys"
        case "set":
            correlated = False
            if items.get("type") not in _SCALARS:
                yield f"{path}: the items of a set must be scalars"
        case "atomic":
            correlated = False
        case other:
            yield f"{path}: list type is {other!r}"
    yield from violations(items, f"{path}[]", correlated)


def _nested_violations(node: Schema, path: str) -> collections.abc.Iterator[str]:
    for keyword in sorted(set(node) - _NESTED_KEYWORDS):
        yield f"{path}: {keyword} inside anyOf is not structural"
    for name, field in node.get("properties", {}).items():
        yield from _nested_violations(field, f"{path}.{name}")


def _rule_violations(rule: Schema, node: Schema, path: str, correlated: bool) -> collections.abc.Iterator[str]:
    if not rule.get("message") or "\n" in rule["message"]:
        yield f"{path}: a rule needs a message of one line"
    if "oldSelf" in rule["rule"] and not correlated:
        yield f"{path}: oldSelf needs lists with keys on the way here"
    target = node
    for step in rule.get("fieldPath", "").split(".")[1:]:
        target = target.get("properties", {}).get(step)
        if target is None:
            yield f"{path}: fieldPath {rule['fieldPath']} does not exist"
            break
    for pattern in re.findall(r"matches\(r'(.*?)'\)", rule["rule"]):
        if re.search(r"\(\?[=!<P]|\\[1-9]|[*+?}]\+", pattern):
            yield f"{path}: {pattern} is not RE2"
        if not (pattern.startswith("^") and pattern.endswith("$")):
            yield f"{path}: {pattern} is not anchored"


def _column_violations(columns: tuple[schema.Column, ...], root: Schema) -> collections.abc.Iterator[str]:
    for column in columns:
        node: Schema | None = root
        for step in re.sub(r"\[[^]]*\]", "[]", column.json_path).split(".")[1:]:
            node = (node or {}).get("properties", {}).get(step.removesuffix("[]"))
            if node and step.endswith("[]"):
                node = node["items"]
        if node is None and not column.json_path.startswith(".metadata."):
            yield f": column {column.name}: {column.json_path} does not exist"
