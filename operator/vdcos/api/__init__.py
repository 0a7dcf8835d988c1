"""What users write and what they are told: the models of group vdcos.dev, one kind per file.

`parse` is the only way in for stored objects. Defaults, bounds and rules live in the models and reach the API server
through the generated CRDs, so that what passes admission also parses; what was stored under a laxer CRD may not, and
raises InvalidObject.
"""

import json
import typing

import pydantic

from vdcos.api.datastore import Datastore
from vdcos.api.hapolicy import HAPolicy
from vdcos.api.host import Host
from vdcos.api.hostfailure import HostFailure
from vdcos.api.network import Network
from vdcos.api.schema import API_VERSION, GROUP, VERSION, Model
from vdcos.api.virtualmachine import SYSTEM_TAINTS, VirtualMachine

__all__ = [
    "ALLOWED_DEVICES",
    "ALLOWED_TAINTS",
    "API_VERSION",
    "GROUP",
    "KINDS",
    "TOO_DEEP",
    "VERSION",
    "Datastore",
    "HAPolicy",
    "Host",
    "HostFailure",
    "InvalidObject",
    "Network",
    "Resource",
    "VirtualMachine",
    "allows_device",
    "allows_taint",
    "parse",
]

Resource = VirtualMachine | Network | Datastore | Host | HAPolicy | HostFailure

KINDS: typing.Final[dict[str, type[Resource]]] = {
    model.definition.kind: model for model in (VirtualMachine, Network, Datastore, Host, HAPolicy, HostFailure)
}
"""All kinds by name."""

ALLOWED_DEVICES: typing.Final = f"{GROUP}/allowed-devices"
"""Annotation of a Namespace: the resource names its VMs may use as devices, separated by commas; "*" allows all."""

ALLOWED_TAINTS: typing.Final = f"{GROUP}/allowed-taints"
"""Annotation of a Namespace: the keys of taints that its VMs may put up with, separated by commas; "*" allows all but
those of the system."""

TOO_DEEP: typing.Final = "it is nested too deeply; nothing that KubeVirt knows has more than a few levels"
"""What is wrong with an object of some hundred objects within each other: free JSON may be that (`overrides`)."""

Kind = typing.TypeVar("Kind", bound=Model)


class InvalidObject(ValueError):
    """A stored object does not have the shape of its kind, for example because it was stored under an older, laxer CRD.

    No retry can help: its owner must correct it. `path` names the first offending field, as in "spec.disks[0].size";
    `reason` says what is wrong with it. Both are deterministic.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason


def parse(kind: type[Kind], raw: bytes | str | typing.Mapping[str, typing.Any]) -> Kind:
    """The object of `kind` in `raw`: JSON text, or the data of a manifest. Raises InvalidObject."""
    try:
        return kind.model_validate_json(raw if isinstance(raw, bytes | str) else json.dumps(raw))
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "json_invalid" and "recursion" in first["msg"]:
            raise InvalidObject("", TOO_DEEP) from error
        raise InvalidObject(_path(first["loc"]), first["msg"].removeprefix("Value error, ")) from error


def _path(location: tuple[int | str, ...]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location).removeprefix(".")


def allows_device(annotation: str, resource_name: str) -> bool:
    """Whether a Namespace whose `ALLOWED_DEVICES` annotation has this value lets its VMs use the device."""
    return _lists(annotation, resource_name)


def allows_taint(annotation: str, key: str) -> bool:
    """Whether a Namespace whose `ALLOWED_TAINTS` annotation has this value lets its VMs put up with a taint. Those of
    the system are nobody's to put up with."""
    return not key.startswith(SYSTEM_TAINTS) and _lists(annotation, key)


def _lists(annotation: str, name: str) -> bool:
    listed = {each.strip() for each in annotation.split(",")}
    return name in listed or "*" in listed
