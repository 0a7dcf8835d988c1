"""The generated bad input reaches every field, and finds what a schema forgets.

A small validator stands in for the API server: with the whole schema nothing is found, and with any one constraint
taken out of it something is.
"""

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.devcluster import generated_input as generated
from vdcos import api
from vdcos.testing.badinput import verdict
from vdcos.testing.badinput.cases import GONE, Case, cases, fields

Tree = dict[str, Any]
KINDS = sorted(api.KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_complete_objects_are_good(kind: str) -> None:
    for base in generated.complete(kind):
        api.parse(api.KINDS[kind], base)


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_reached(kind: str) -> None:
    crd = generated.crd(kind)
    root = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    reached = {case.field for case in cases(crd, generated.complete(kind))}
    assert set(fields(root["properties"]["spec"])) <= reached


def test_there_are_thousands_and_always_the_same() -> None:
    every = generated.every_case()
    assert len(every) >= 5_000
    assert every == generated.every_case()
    assert {case.kind for case in every} == set(api.KINDS)


def test_a_sample_has_all_kinds_and_groups() -> None:
    every = generated.every_case()
    chosen = generated.sample(every, 2)
    groups = {(case.kind, case.group) for case in every}
    assert {(case.kind, case.group) for case in chosen} == groups
    assert len(chosen) <= 2 * len(groups) < 200


def test_cases_do_not_spoil_the_complete_objects() -> None:
    before = copy.deepcopy(generated.complete("VirtualMachine"))
    cases(generated.crd("VirtualMachine"), generated.complete("VirtualMachine"))
    assert generated.complete("VirtualMachine") == before


# A schema with one of everything, and a validator for it

NAME = {
    "type": "string",
    "maxLength": 8,
    "x-kubernetes-validations": [{"rule": "...", "message": "must be a name"}],
}
DISK = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": NAME,
        "bus": {"type": "string", "enum": ["virtio", "scsi"]},
        "source": {
            "type": "object",
            "default": {"blank": {}},
            "properties": {"blank": {"type": "object", "properties": {}}, "pvc": {"type": "object", "properties": {}}},
            "x-kubernetes-validations": [
                {"rule": "...", "message": "exactly one"},
                {"rule": "self == oldSelf", "message": "the source cannot change"},
            ],
        },
    },
}
SPEC: Tree = {
    "type": "object",
    "required": ["disks"],
    "properties": {
        "disks": {
            "type": "array",
            "maxItems": 4,
            "minItems": 1,
            "items": DISK,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
        "order": {"type": "integer", "minimum": 1, "maximum": 8},
        "nodeSelector": {
            "type": "object",
            "additionalProperties": {"type": "string", "maxLength": 5},
            "maxProperties": 3,
            "x-kubernetes-validations": [{"rule": "...", "message": "must be labels"}],
        },
    },
}
BASES: list[Tree] = [
    {
        "metadata": {"name": "one"},
        "spec": {
            "disks": [{"name": "a", "bus": "virtio", "source": {"pvc": {}}}, {"name": "b"}],
            "order": 2,
            "nodeSelector": {"zone": "a"},
        },
    },
    {"metadata": {"name": "two"}, "spec": {"disks": [{"name": "a", "source": {"blank": {}}}]}},
]

Rule = Callable[[Any, Any], bool]
RULES: dict[str, Rule] = {
    "must be a name": lambda value, _: re.fullmatch("[a-z0-9]([-a-z0-9]*[a-z0-9])?", value) is not None,
    "exactly one": lambda value, _: len(value) == 1,
    "the source cannot change": lambda value, old: old is None or value == old,
    "must be labels": lambda value, _: all(
        re.fullmatch("[A-Za-z0-9]([-A-Za-z0-9._]{0,61}[A-Za-z0-9])?", key) and re.fullmatch("[a-z]*", item)
        for key, item in value.items()
    ),
}
TYPES: dict[str, tuple[type, ...]] = {"object": (dict,), "array": (list,), "string": (str,), "integer": (int,)}
BOUNDS: tuple[tuple[str, Callable[[Any], Any], int], ...] = (
    ("maxLength", len, 1), ("maxItems", len, 1), ("maxProperties", len, 1), ("maximum", lambda value: value, 1),
    ("minItems", len, -1), ("minimum", lambda value: value, -1),
)  # fmt: skip


def wrong(schema: Tree, value: Any, path: str, old: Any) -> Iterator[tuple[str, str]]:
    """Field and message of everything that is wrong with a value."""
    if "type" in schema and (not isinstance(value, TYPES[schema["type"]]) or isinstance(value, bool)):
        yield path, f"must be of type {schema['type']}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield path, "supported values: ..."
    for keyword, measure, sign in BOUNDS if "type" in schema else ():
        if keyword in schema and sign * measure(value) > sign * schema[keyword]:
            yield path, f"beyond {keyword}"
    if isinstance(value, dict) and ("properties" in schema or "additionalProperties" in schema):
        yield from ((f"{path}.{name}", "Required value") for name in schema.get("required", ()) if name not in value)
        defaults = {
            name: field["default"] for name, field in schema.get("properties", {}).items() if "default" in field
        }
        for name, item in {**defaults, **value}.items():
            below = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
            before = {**defaults, **old}.get(name) if isinstance(old, dict) else None
            if below is None and not schema.get("lenient"):
                yield f"{path}.{name}", "unknown field"
            elif below is not None and (item is not None or name in schema.get("required", ())):
                yield from wrong(below, item, f"{path}.{name}", before)
    if isinstance(value, list) and "items" in schema:
        keys = [item["name"] if isinstance(item, dict) and "name" in item else repr(item) for item in value]
        if schema.get("x-kubernetes-list-type") == "map" and len(set(map(str, keys))) < len(keys):
            yield path, "Duplicate value"
        befores = {item["name"]: item for item in old or () if "name" in item}
        for number, item in enumerate(value):
            yield from wrong(schema["items"], item, f"{path}[{number}]", befores.get(str(keys[number])))
    for rule in schema.get("x-kubernetes-validations", ()):
        try:
            fine = RULES[rule["message"]](value, old)
        except (TypeError, AttributeError):
            fine = True  # something else is wrong with it
        if not fine:
            yield path, rule["message"]


def found(spec: Tree) -> list[str]:
    """What there is to mend when a validator with this schema answers the cases that are made from it."""
    name = {"type": "string", "maxLength": 63}
    whole = {"properties": {"metadata": {"properties": {"name": name}}, "spec": spec}}
    crd = {"spec": {"names": {"kind": "Toy"}, "versions": [{"schema": {"openAPIV3Schema": whole}}]}}
    complaints, said = [], set()
    for case in cases(crd, BASES):
        if case.field == "metadata.name":
            continue
        old = next((base["spec"] for base in BASES if base["metadata"]["name"] == case.stored), None)
        manifest = case.manifest
        causes = [("spec", "Required value")]
        if manifest.get("spec") is not None:
            causes = list(wrong(spec, manifest["spec"], "spec", old))
        said |= {message for _, message in causes}
        answer = {"message": str(causes), "details": {"causes": [{"field": f, "message": m} for f, m in causes]}}
        seen = verdict.judge(case, 422 if causes else 201, answer if causes else manifest)
        complaints += [f"{case}: {complaint}" for complaint in seen.complaints]
    return complaints + verdict.unmet(crd, said)


def without(*path: str) -> Tree:
    """The schema without one keyword."""
    spec = copy.deepcopy(SPEC)
    node: Any = spec
    for step in path[:-1]:
        node = node[int(step)] if isinstance(node, list) else node[step]
    del node[int(path[-1]) if isinstance(node, list) else path[-1]]
    return spec


def test_a_good_schema() -> None:
    assert found(SPEC) == []


DISKS = ("properties", "disks")
ITEM = (*DISKS, "items", "properties")
RULE = "x-kubernetes-validations"


@pytest.mark.parametrize(
    "path",
    [
        ("properties", "order", "minimum"),
        ("properties", "order", "maximum"),
        ("properties", "order", "type"),
        (*DISKS, "maxItems"),
        (*DISKS, "x-kubernetes-list-type"),
        (*ITEM, "name", "maxLength"),
        (*ITEM, "name", "type"),
        (*ITEM, "name", RULE),
        (*ITEM, "bus", "enum"),
        (*ITEM, "source", RULE, "0"),
        (*ITEM, "source", RULE, "1"),
        ("properties", "nodeSelector", "additionalProperties", "maxLength"),
        ("properties", "nodeSelector", "maxProperties"),
        ("properties", "nodeSelector", RULE),
    ],
    ids=".".join,
)
def test_a_schema_that_forgets_something(path: tuple[str, ...]) -> None:
    """The cases are made from the whole schema: what is forgotten there is still tried."""
    assert found(without(*path))


def test_a_schema_that_takes_fields_it_does_not_know() -> None:
    assert any("unknown" in complaint for complaint in found(SPEC | {"lenient": True}))


def test_a_rule_that_never_speaks() -> None:
    spec = copy.deepcopy(SPEC)
    spec[RULE] = [{"rule": "true", "message": "exactly one at the top"}]
    RULES["exactly one at the top"] = lambda value, _: True
    assert found(spec) == ["spec: exactly one at the top"]


# Answers

BAD = Case("Toy", "spec.disks[].size", "spec.disks[0].size", "above", "too large", "9Ei", {})


def refusal(*causes: tuple[str, str], message: str = "no") -> Tree:
    listed = [{"field": field, "message": text} for field, text in causes]
    return {"message": message, "details": {"causes": listed}}


@pytest.mark.parametrize(
    ("case", "code", "answer", "complaint"),
    [
        (BAD, 422, refusal(("spec.disks[0].size", "must be less")), ""),
        (BAD, 422, refusal(("spec.disks[0]", "must be less")), ""),
        (BAD, 422, refusal(("spec", "give another size")), ""),
        (BAD, 422, refusal(("spec", "must be less")), "does not name spec.disks[0].size"),
        (BAD, 422, refusal(("spec.nics", "must be less")), "does not name"),
        (BAD, 422, refusal(), "does not name"),
        (BAD, 500, refusal(("spec.disks[0].size", "must be less")), "refused with 500"),
        (BAD, 422, refusal(("spec.disks[0].size", "should match '^[0-9]+$'")), "a bare expression"),
        (BAD, 422, refusal(("spec.disks[0].size", "failed rule: self > 1")), "a bare expression"),
        (BAD, 422, refusal(("spec.disks[0].size", "x"), message="x" * 5_000), "a message of 5,000 characters"),
        (BAD, 201, {}, "accepted, and no class"),
        (Case("Toy", "spec.a", "spec.a", "unknown", "x", 1, {}), 400, {"message": 'unknown field "spec.a"'}, ""),
        (Case("Toy", "spec.a", "spec.a", "missing", "left out", GONE, {}), 201, {}, "accepted, and no class"),
        (Case("Toy", "spec.a", "spec.a", "missing", "left out (optional)", GONE, {}), 201, {}, ""),
        (Case("Toy", "spec.guest.sysprep", "", "union", "beside cloudInit", 1, {}), 201, {}, "accepted, and no class"),
        (Case("Toy", "spec.guest.hostname", "", "union", "beside cloudInit", 1, {}), 201, {}, ""),
        (Case("Toy", "spec.disks[].source.pvc", "", "transition", "x", 1, {}, "a"), 200, {}, "accepted, and no class"),
        (Case("Toy", "spec.nics[].name", "", "syntax", "x", "a-1", {}), 201, {}, ""),
        (Case("Toy", "spec.nics[].name", "", "syntax", "x", "a\n", {}), 201, {}, "accepted, and no class"),
        (Case("Toy", "spec.nics[].name", "", "unicode", "x", "é", {}), 201, {}, "accepted, and no class"),
        (Case("Toy", "spec.nics[].name", "", "huge", "x", "aa", {}), 201, {}, "accepted, and no class"),
    ],
)  # fmt: skip
def test_verdicts(case: Case, code: int, answer: Tree, complaint: str) -> None:
    complaints = verdict.judge(case, code, answer).complaints
    assert [complaint in found for found in complaints] == ([True] if complaint else [])
