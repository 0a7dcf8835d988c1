"""Served schemas of another release: which fields are dropped, ignored, or have other defaults."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from vdcos import api
from vdcos.generate import crds
from vdcos.runtime import definitions
from vdcos.runtime.requests import ApiError

Tree = dict[str, Any]
ROOT = Path(__file__).parents[3]


def schema(kind: str) -> Tree:
    found: Tree = crds.crd(api.KINDS[kind])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return copy.deepcopy(found)


OURS = {kind: definitions.fields(schema(kind)) for kind in api.KINDS}


def served(change: Callable[[Tree], Any] = lambda _: None, kind: str = "VirtualMachine") -> dict[str, Tree]:
    """What an API server serves, when one kind is not as we know it."""
    schemas = {kind: schema(kind) for kind in api.KINDS}
    change(schemas[kind]["properties"])
    return schemas


def test_our_own_definitions_are_what_we_know() -> None:
    """The generated files, as they are installed."""
    there = {}
    for path in (ROOT / "crds").glob("*.yaml"):
        if path.name != "kustomization.yaml":
            document = yaml.safe_load(path.read_text())
            version = document["spec"]["versions"][0]
            there[document["spec"]["names"]["kind"]] = version["schema"]["openAPIV3Schema"]
    check = definitions.verdict(OURS, there)
    assert (check.state, check.limits) == ("OK", ())
    assert sum(map(len, OURS.values())) > 400


def test_an_older_definition_drops_fields() -> None:
    def older(properties: Tree) -> None:
        del properties["spec"]["properties"]["availability"]
        del properties["status"]["properties"]["monitoring"]

    check = definitions.verdict(OURS, served(older))
    assert (check.state, check.found, check.limits) == ("Limited", "older than the operator", ("VirtualMachine",))
    assert check.cost == "the API server drops: VirtualMachine spec.availability, VirtualMachine status.monitoring", (
        "without what is below them"
    )
    assert "crds" in check.remedy


def test_a_newer_definition_has_fields_that_we_ignore() -> None:
    def newer(properties: Tree) -> None:
        properties["spec"]["properties"]["turbo"] = {"type": "object", "properties": {"boost": {"type": "integer"}}}

    check = definitions.verdict(OURS, served(newer))
    assert (check.state, check.found) == ("Limited", "newer than the operator")
    assert check.cost == "this operator ignores: VirtualMachine spec.turbo"


def test_another_default_is_told() -> None:
    def other(properties: Tree) -> None:
        properties["spec"]["properties"]["powerState"]["default"] = "PoweredOff"

    check = definitions.verdict(OURS, served(other))
    assert (check.state, check.found) == ("Limited", "other than the operator")
    assert check.cost == "their defaults are others: VirtualMachine spec.powerState"


def test_kinds_that_are_not_served_are_missing() -> None:
    there = served()
    del there["Host"], there["Network"]
    check = definitions.verdict(OURS, there)
    assert (check.state, check.required, check.limits) == ("Missing", True, ("Host", "Network"))


class Publisher:
    def __init__(self, answer: bytes | ApiError) -> None:
        self.answer = answer

    async def call(self, verb: str, method: str, path: str) -> bytes:
        assert path == "/openapi/v3/apis/vdcos.dev/v1alpha1"
        if isinstance(self.answer, ApiError):
            raise self.answer
        return self.answer


def document() -> bytes:
    gvk = {"group": "vdcos.dev", "version": "v1alpha1"}
    schemas = {
        f"dev.vdcos.v1alpha1.{kind}": {**each, "x-kubernetes-group-version-kind": [{**gvk, "kind": kind}]}
        for kind, each in served().items()
    }
    lists: Tree = {"dev.vdcos.v1alpha1.Lists": {"properties": {}}}
    return json.dumps({"components": {"schemas": schemas | lists}}).encode()


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (document(), "OK"),
        (ApiError(404, "NotFound", "no"), "Missing"),
        (ApiError(403, "Forbidden", "no"), "Unknown"),
        (b"<html>", "Unknown"),
        (b"[" * 100_000, "Unknown"),
        (b"[]", "Unknown"),
        (b'{"components": {"schemas": ["VirtualMachine"]}}', "Unknown"),
    ],
    ids=["all", "not installed", "forbidden", "no JSON", "too deep", "a list", "no schemas"],
)
async def test_what_the_api_server_publishes(answer: bytes | ApiError, state: str) -> None:
    assert (await definitions.check(Publisher(answer), "vdcos.dev/v1alpha1", OURS)).state == state


async def test_no_answer_is_an_error() -> None:
    with pytest.raises(ApiError):
        await definitions.check(Publisher(ApiError(0, "Unreachable", "no")), "vdcos.dev/v1alpha1", OURS)
