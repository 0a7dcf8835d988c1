"""What a Host may say about its power switches and a policy about fencing, before any kind carries them."""

import re
from typing import Any, ClassVar, Literal

import pydantic
import pytest

from vdcos import api
from vdcos.api.fencing import Bmc, Fencing
from vdcos.api.meta import ObjectMeta, Status
from vdcos.api.schema import AGE, Definition, Model
from vdcos.generate import crds

REDFISH = {"address": "https://bmc-1.example.com", "credentials": "bmc-1"}


class Spec(Model):
    """Holds both."""

    bmc: Bmc | None = None
    """The host's."""
    fencing: Fencing = Fencing()
    """The policy's."""


class Carrier(Model):
    """A kind that carries them."""

    api_version: Literal["vdcos.dev/v1alpha1"] = "vdcos.dev/v1alpha1"
    kind: Literal["Carrier"] = "Carrier"
    metadata: ObjectMeta
    spec: Spec
    """What is said."""
    status: Status = Status()
    """Nothing."""

    definition: ClassVar = Definition("Carrier", "carriers", "Cluster", ("carr",), (AGE,))


def read(**spec: Any) -> Spec:
    return api.parse(Carrier, {"metadata": {"name": "x"}, "spec": spec}).spec


def test_they_fit_into_a_structural_schema_with_bounds() -> None:
    version = crds.crd(Carrier)["spec"]["versions"][0]  # type: ignore[arg-type]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert spec["fencing"]["properties"]["quietSeconds"]["default"] == 12
    assert spec["fencing"]["properties"]["providers"]["x-kubernetes-list-map-keys"] == ["provider"]
    assert {"redfish", "ipmi", "fenceAgent", "plugin"} == set(spec["bmc"]["properties"])


GOOD = [
    {"redfish": REDFISH},
    {"redfish": {**REDFISH, "address": "https://[2001:db8::1]:8443", "system": "/redfish/v1/Systems/437XR1138R2"}},
    {"redfish": REDFISH, "ipmi": {"address": "192.0.2.1", "credentials": "bmc-1"}},
    {"ipmi": {"address": "2001:db8::1", "credentials": "bmc-1"}},
    {"ipmi": {"address": "::ffff:192.0.2.1", "credentials": "bmc-1"}},
    {"fenceAgent": {"agent": "fence_apc", "parameters": {"ip": "192.0.2.9", "plug": "3", "ssl_insecure": "1"}}},
    {"plugin": {"provider": "acme", "parameters": {"outlet": "7"}}},
]


@pytest.mark.parametrize("bmc", GOOD)
def test_a_host_says_how_it_is_powered_off(bmc: dict[str, Any]) -> None:
    assert read(bmc=bmc).bmc is not None


BAD = [
    ("plain text", {"redfish": {**REDFISH, "address": "http://bmc-1"}}, "spec.bmc.redfish.address"),
    ("a password in the address", {"redfish": {**REDFISH, "address": "https://a:b@bmc"}}, "spec.bmc.redfish.address"),
    ("a path in the address", {"redfish": {**REDFISH, "address": "https://bmc/x"}}, "spec.bmc.redfish.address"),
    ("a path out of Systems", {"redfish": {**REDFISH, "system": "/redfish/v1/Chassis/1"}}, "spec.bmc.redfish.system"),
    ("a way up", {"redfish": {**REDFISH, "system": "/redfish/v1/Systems/.."}}, "spec.bmc.redfish.system"),
    ("a port", {"ipmi": {"address": "192.0.2.1:623", "credentials": "bmc-1"}}, "spec.bmc.ipmi.address"),
    ("no credentials", {"redfish": {"address": "https://bmc"}}, "spec.bmc.redfish.credentials"),
    ("a path for an agent", {"fenceAgent": {"agent": "../bin/sh"}}, "spec.bmc.fenceAgent.agent"),
    ("a program that is no agent", {"fenceAgent": {"agent": "sh"}}, "spec.bmc.fenceAgent.agent"),
]


@pytest.mark.parametrize("reason, bmc, path", BAD, ids=[case[0] for case in BAD])
def test_what_is_wrong_is_named(reason: str, bmc: dict[str, Any], path: str) -> None:
    with pytest.raises(api.InvalidObject) as error:
        read(bmc=bmc)
    assert error.value.path == path


PARAMETERS = Bmc.model_json_schema()["$defs"]["FenceAgent"]["properties"]["parameters"]["x-kubernetes-validations"]


@pytest.mark.parametrize(
    "name, allowed",
    [
        ("ip", True),
        ("systems_uri", True),
        ("lanplus", True),
        ("action", False),
        ("password", False),
        ("passwd_script", False),
        ("ipmitool_path", False),
        ("ssh_options", False),
        ("identity_file", False),
        ("debug_file", False),
        ("kubeconfig", False),
    ],
)
def test_the_rule_on_parameters_keeps_agents_from_running_other_programs(name: str, allowed: bool) -> None:
    [pattern] = [m[1] for rule in PARAMETERS if (m := re.search(r"!k\.matches\(r'(.*)'\)", rule["rule"]))]
    assert (re.match(pattern, name) is None) == allowed


def test_defaults() -> None:
    fencing = Fencing()
    assert (fencing.providers, fencing.quiet_seconds, fencing.retry_seconds) == ((), 12, 30)
    with pytest.raises(pydantic.ValidationError, match="two items have the same provider"):
        Fencing.model_validate({"providers": ({"provider": "ipmi"}, {"provider": "ipmi"})})
