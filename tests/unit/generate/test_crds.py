"""The generator refuses schemas that the API server, or our own rules, would refuse, and makes what kubectl shows."""

import copy
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import pytest
from pydantic import Field

from vdcos import api
from vdcos.api import meta, schema
from vdcos.generate import crds

Schema = dict[str, Any]
KINDS = list(api.KINDS.values())


def good() -> Schema:
    """A schema without fault, in which each test breaks one thing."""
    item = {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "maxLength": 5, "description": "Name."},
            "size": {
                "type": "string",
                "maxLength": 5,
                "description": "Size.",
                "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "stays"}],
            },
        },
    }
    return {
        "type": "object",
        "description": "Root.",
        "properties": {
            "items": {
                "type": "array",
                "description": "Items.",
                "maxItems": 3,
                "items": item,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
            },
            "labels": {
                "type": "object",
                "description": "Labels.",
                "maxProperties": 3,
                "additionalProperties": {"type": "string", "maxLength": 3},
            },
            "count": {"type": "integer", "minimum": 0, "description": "Count."},
            "tags": {
                "type": "array",
                "description": "Tags.",
                "maxItems": 3,
                "items": {"type": "string", "maxLength": 3},
                "x-kubernetes-list-type": "set",
            },
            "any": {"description": "Any.", "x-kubernetes-preserve-unknown-fields": True},
        },
        "x-kubernetes-validations": [
            {"rule": "self.count.matches(r'^[a-z]$')", "message": "is wrong", "fieldPath": ".count"}
        ],
    }


def test_a_good_schema_has_no_violations() -> None:
    assert list(crds.violations(good())) == []


def rule(node: Schema, **fields: str) -> None:
    node["x-kubernetes-validations"] = [{"rule": "true", "message": "m"} | fields]


BREAKS: list[tuple[Callable[[Schema], object], str]] = [
    (lambda p: p["count"].pop("type"), ".count: type is None"),
    (lambda p: p["count"].update(type="number"), ".count: type is 'number'"),
    (lambda p: p["count"].pop("minimum"), ".count: a number without minimum"),
    (lambda p: p["count"].pop("description"), ".count: no description"),
    (lambda p: p["count"].update(exclusiveMinimum=0), ".count: keyword exclusiveMinimum is not structural"),
    (lambda p: p["count"].update({"$ref": "#/a"}), ".count: keyword $ref is not structural"),
    (lambda p: p["count"].update(anyOf=[{"type": "null"}]), ".count: type inside anyOf is not structural"),
    (lambda p: p["count"].update(anyOf=[{"properties": {"a": {"default": 1}}}]), ".count.a: default inside anyOf"),
    (lambda p: p["labels"].pop("maxProperties"), ".labels: a map without maxProperties"),
    (lambda p: p["labels"].update(properties={}), ".labels: additionalProperties beside properties"),
    (lambda p: p["labels"]["additionalProperties"].pop("maxLength"), ".labels{}: a string without maxLength"),
    (lambda p: p["tags"].pop("maxItems"), ".tags: a list without maxItems"),
    (lambda p: p["tags"].pop("x-kubernetes-list-type"), ".tags: list type is None"),
    (lambda p: p["tags"].update(uniqueItems=True), ".tags: keyword uniqueItems is not structural"),
    (lambda p: p["tags"].update(items={"type": "object"}), ".tags: the items of a set must be scalars"),
    (lambda p: p["tags"].update(items={"type": "string"}), ".tags[]: a string without maxLength"),
    (
        lambda p: p["tags"]["items"].update(
            {"x-kubernetes-validations": [{"rule": "oldSelf != self", "message": "m"}]}
        ),
        ".tags[]: oldSelf needs lists with keys on the way here",
    ),
    (
        lambda p: p["items"].update({"x-kubernetes-list-type": "atomic"}),
        ".items[].size: oldSelf needs lists with keys on the way here",
    ),
    (lambda p: p["items"].pop("x-kubernetes-list-map-keys"), ".items: a list map without keys"),
    (lambda p: p["items"]["items"].update(required=[]), ".items: list key name is neither required nor defaulted"),
    (
        lambda p: p["items"].update({"x-kubernetes-list-map-keys": ["id"]}),
        ".items: list key id is not a scalar field of the items",
    ),
    (lambda p: p["items"]["items"].update(required=["name", "id"]), ".items[]: required id is not a property"),
    (lambda p: rule(p["count"], message=""), ".count: a rule needs a message of one line"),
    (lambda p: rule(p["count"], message="a\nb"), ".count: a rule needs a message of one line"),
    (lambda p: rule(p["items"]["items"], fieldPath=".id"), ".items[]: fieldPath .id does not exist"),
    (lambda p: rule(p["count"], rule="self.matches(r'^(?=a)$')"), ".count: ^(?=a)$ is not RE2"),
    (lambda p: rule(p["count"], rule="self.matches(r'^(?<!a)$')"), ".count: ^(?<!a)$ is not RE2"),
    (lambda p: rule(p["count"], rule=r"self.matches(r'^(a)\1$')"), r".count: ^(a)\1$ is not RE2"),
    (lambda p: rule(p["count"], rule="self.matches(r'^a++$')"), ".count: ^a++$ is not RE2"),
    (lambda p: rule(p["count"], rule="self.matches(r'[a-z]+')"), ".count: [a-z]+ is not anchored"),
]


@pytest.mark.parametrize(("break_it", "says"), BREAKS, ids=[says for _, says in BREAKS])
def test_each_rule_of_structural_schemas(break_it: Callable[[Schema], object], says: str) -> None:
    broken = good()
    break_it(broken["properties"])
    found = list(crds.violations(broken))
    assert len(found) == 1
    assert found[0].startswith(says)


def test_the_root_needs_a_description() -> None:
    assert list(crds.violations(good() | {"description": ""})) == [": no description"]


class Unbounded(schema.Model):
    """A spec."""

    text: str
    """Some text."""
    numbers: tuple[int, ...] = ()


class Faulty(schema.Model):
    """A kind with faults."""

    metadata: meta.ObjectMeta
    spec: Unbounded
    """Its spec."""
    status: meta.Status = meta.Status()
    """Its status."""
    definition: ClassVar = schema.Definition(
        "Faulty", "faulties", "Cluster", ("vdcf",), (schema.Column("Nothing", ".status.nothing"),)
    )


def test_a_faulty_model_is_refused_with_all_its_faults() -> None:
    with pytest.raises(crds.NotStructural) as raised:
        crds.crd(Faulty)  # type: ignore[arg-type]
    assert str(raised.value).splitlines() == [
        "Faulty.spec.text: a string without maxLength",
        "Faulty.spec.numbers: no description",
        "Faulty.spec.numbers: a list without maxItems",
        "Faulty.spec.numbers: list type is None",
        "Faulty.spec.numbers[]: a number without minimum",
        "Faulty: column Nothing: .status.nothing does not exist",
    ]


def root(model: crds.Kind) -> Schema:
    schema_: Schema = crds.crd(model)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema_


@pytest.mark.parametrize("model", KINDS)
def test_an_object_that_nobody_has_seen_is_in_progress(model: crds.Kind) -> None:
    assert root(model)["properties"]["status"]["default"] == {"observedGeneration": -1}


def defaults(node: Schema, path: str = "") -> dict[str, Any]:
    found = {path: node["default"]} if "default" in node else {}
    for name, field in node.get("properties", {}).items():
        found |= defaults(field, f"{path}.{name}")
    return found | defaults(node.get("items", {}), f"{path}[]") if "items" in node else found


@pytest.mark.parametrize("model", KINDS)
def test_the_status_is_read_as_it_was_written(model: crds.Kind) -> None:
    assert defaults(root(model)["properties"]["status"]) == {
        "": {"observedGeneration": -1},
        ".observedGeneration": -1,
    }


def test_defaults_of_a_machine_are_those_of_the_model() -> None:
    assert defaults(root(api.VirtualMachine)["properties"]["spec"]) == {
        ".powerState": "PoweredOn",
        ".onGuestShutdown": "Restart",
        ".cpu.sockets": 1,
        ".cpu.cores": 1,
        ".cpu.threads": 1,
        ".cpu.dedicated": False,
        ".instancetype.kind": "VirtualMachineClusterInstancetype",
        ".preference.kind": "VirtualMachineClusterPreference",
        ".disks[].bus": "virtio",
        ".disks[].source": {"blank": {}},
        ".disks[].deletionPolicy": "Retain",
        ".nics[].model": "virtio",
        ".nics[].linkState": "Up",
        ".guest.cloudInit.type": "NoCloud",
        ".firmware.secureBoot": False,
        ".devices[].type": "HostDevice",
        ".placement.affinity[].strength": "Should",
        ".placement.affinity[].topologyKey": "kubernetes.io/hostname",
        ".placement.tolerations[].operator": "Equal",
        ".placement.tolerations[].value": "",
    }


@pytest.mark.parametrize("model", KINDS)
def test_what_kubectl_shows(model: crds.Kind) -> None:
    crd = crds.crd(model)
    version = crd["spec"]["versions"][0]
    columns = version["additionalPrinterColumns"]
    narrow = [column["name"] for column in columns if "priority" not in column]
    assert narrow[:2] == ["Ready", "Reason"]
    assert narrow[-1] == "Age"
    assert columns[-1]["name"] == "Message"
    assert columns[-1]["priority"] == 1
    assert version["subresources"] == {"status": {}}
    assert crd["spec"]["names"]["categories"] == ["vdc"]
    assert crd["spec"]["names"]["shortNames"][0].startswith("vdc")
    assert crd["metadata"]["name"] == f"{crd['spec']['names']['plural']}.{crd['spec']['group']}"


def test_a_pattern_becomes_a_rule_with_a_message_for_people() -> None:
    size = root(api.VirtualMachine)["properties"]["spec"]["properties"]["memory"]["properties"]["size"]
    assert "pattern" not in size
    (rule_,) = size["x-kubernetes-validations"]
    assert rule_["rule"].startswith("self.matches(r'^[0-9]")
    assert "&& quantity(self)" in rule_["rule"]
    assert rule_["message"] == "must be a size from 1Mi to 16Ti, such as 512Mi or 20Gi"


def test_a_union_becomes_a_rule() -> None:
    rules = root(api.Network)["properties"]["spec"]["x-kubernetes-validations"]
    assert {
        "rule": "[has(self.pod), has(self.bridge), has(self.ovs), has(self.ovn), has(self.sriov), has(self.plugin)]"
        ".filter(x, x).size() == 1",
        "message": "set exactly one of pod, bridge, ovs, ovn, sriov, plugin",
        "reason": "FieldValueInvalid",
    } in rules


def test_the_same_model_gives_the_same_definition() -> None:
    once = crds.crd(api.VirtualMachine)
    assert copy.deepcopy(once) == crds.crd(api.VirtualMachine)


class Documented(schema.Model):
    """Two fields."""

    said: Annotated[int, Field(ge=0)] = 0
    """What it is.

    And more.
    """
    unsaid: int = 0


def test_field_docs_are_the_strings_below_the_fields() -> None:
    assert crds._field_docs(Documented) == {"said": "What it is.\n\nAnd more."}
