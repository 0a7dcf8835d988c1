"""Stored objects are parsed, whatever version wrote them; malformed ones raise one error that names the field."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from vdcos import api
from vdcos.api.virtualmachine import VirtualMachineStatus

EXAMPLES = Path(__file__).parents[3] / "docs/reference/examples"
KINDS = sorted(api.KINDS)


def example(kind: str) -> dict[str, Any]:
    manifest: dict[str, Any] = yaml.safe_load((EXAMPLES / f"{kind.lower()}.yaml").read_text())
    return manifest


def machine(**spec: Any) -> dict[str, Any]:
    sized = {"cpu": {}, "memory": {"size": "1Gi"}}
    return {
        "apiVersion": api.API_VERSION,
        "kind": "VirtualMachine",
        "metadata": {"name": "vm", "namespace": "ns"},
        "spec": {key: value for key, value in (sized | spec).items() if value is not None},
    }


def network(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": api.API_VERSION, "kind": "Network", "metadata": {"name": "net"}, "spec": spec}


def disk(**fields: Any) -> dict[str, Any]:
    return {"name": "root", "size": "1Gi", "datastore": "gold"} | fields


@pytest.mark.parametrize("kind", KINDS)
def test_examples_parse_and_come_out_as_they_were(kind: str) -> None:
    parsed = api.parse(api.KINDS[kind], example(kind))
    assert api.parse(api.KINDS[kind], parsed.manifest()) == parsed


@pytest.mark.parametrize("kind", KINDS)
def test_fields_of_newer_versions_are_ignored(kind: str) -> None:
    newer = example(kind)
    newer["spec"]["fromTheFuture"] = {"a": [1]}
    newer["metadata"]["managedFields"] = [{"manager": "kubectl"}]
    newer["future"] = True
    assert api.parse(api.KINDS[kind], newer) == api.parse(api.KINDS[kind], example(kind))


def test_text_bytes_and_data_are_the_same() -> None:
    data = example("Network")
    text = json.dumps(data)
    assert api.parse(api.Network, data) == api.parse(api.Network, text) == api.parse(api.Network, text.encode())


def test_defaults() -> None:
    vm = api.parse(api.VirtualMachine, machine(disks=[disk()], nics=[{"name": "eth0", "network": "front"}]))
    assert (vm.spec.power_state, vm.spec.on_guest_shutdown) == ("PoweredOn", "Restart")
    assert (vm.spec.disks[0].source.choice, vm.spec.disks[0].deletion_policy, vm.spec.disks[0].bus) == (
        "blank",
        "Retain",
        "virtio",
    )
    assert (vm.spec.nics[0].model, vm.spec.nics[0].link_state) == ("virtio", "Up")
    assert vm.status == VirtualMachineStatus()
    assert vm.status.observed_generation == -1
    assert api.parse(api.Network, network(pod={})).spec.allowed_namespaces.from_ == "None"


def test_models_cannot_be_changed() -> None:
    vm = api.parse(api.VirtualMachine, machine())
    with pytest.raises(ValidationError, match="frozen"):
        vm.spec.power_state = "PoweredOff"  # type: ignore[misc]


def test_the_choice_of_a_union() -> None:
    assert api.parse(api.Network, network(sriov={"resourceName": "a.b/c"})).spec.choice == "sriov"


def test_cpus_are_counted() -> None:
    cpu = api.parse(api.VirtualMachine, machine(cpu={"sockets": 2, "cores": 3, "threads": 2})).spec.cpu
    assert cpu is not None
    assert cpu.count == 12


MALFORMED = [
    ("not JSON", "VirtualMachine", "{", "", "Invalid JSON"),
    ("not an object", "VirtualMachine", "[]", "", "an object"),
    ("a thousand levels", "VirtualMachine", '{"a":' * 1000 + "1" + "}" * 1000, "", "nested too deeply"),
    ("another kind", "Network", machine(), "kind", "'Network'"),
    ("no spec", "Network", {"kind": "Network", "metadata": {"name": "a"}}, "spec", "required"),
    ("a number as text", "VirtualMachine", machine(cpu={"cores": "2"}), "spec.cpu.cores", "valid integer"),
    ("text as a number", "VirtualMachine", machine(memory={"size": 5}), "spec.memory.size", "must be a size"),
    ("a bad quantity", "VirtualMachine", machine(disks=[disk(size="1GB")]), "spec.disks[0].size", "must be a size"),
    ("an unknown word", "VirtualMachine", machine(powerState="On"), "spec.powerState", "'PoweredOn' or 'PoweredOff'"),
    ("out of range", "VirtualMachine", machine(cpu={"cores": 0}), "spec.cpu.cores", "greater than or equal to 1"),
    ("no size at all", "VirtualMachine", machine(cpu=None), "spec", "give cpu and memory, or an instancetype"),
    ("size twice", "VirtualMachine", machine(instancetype={"name": "a"}), "spec", "give cpu and memory, or"),
    ("two of one name", "VirtualMachine", machine(disks=[disk(), disk()]), "spec.disks", "have the same name"),
    (
        "two sources",
        "VirtualMachine",
        machine(disks=[disk(source={"blank": {}, "pvc": {"name": "a"}})]),
        "spec.disks[0].source",
        "set exactly one of blank, image, http, pvc, snapshot",
    ),
    (
        "a forbidden override",
        "VirtualMachine",
        machine(overrides=[{"op": "add", "path": "/spec/template/spec/volumes", "value": []}]),
        "spec.overrides[0].path",
        "one of the paths that may be overridden",
    ),
    (
        "an override without a value",
        "VirtualMachine",
        machine(overrides=[{"op": "add", "path": "/spec/template/spec/domain/devices/rng"}]),
        "spec.overrides[0]",
        "add needs a value",
    ),
    ("two switches", "Network", network(pod={}, bridge={"name": "b"}), "spec", "set exactly one of pod, bridge"),
    ("no switch", "Network", network(), "spec", "set exactly one of pod, bridge"),
    ("VLAN 4095", "Network", network(bridge={"name": "b", "vlan": 4095}), "spec.bridge.vlan", "less than or equal"),
    ("no storage class", "Datastore", {"metadata": {"name": "a"}, "spec": {}}, "spec.storageClassName", "required"),
]


@pytest.mark.parametrize(
    ("kind", "stored", "path", "reason"), [row[1:] for row in MALFORMED], ids=[row[0] for row in MALFORMED]
)
def test_malformed_objects(kind: str, stored: Any, path: str, reason: str) -> None:
    with pytest.raises(api.InvalidObject) as raised:
        api.parse(api.KINDS[kind], stored)
    assert raised.value.path == path
    assert reason in raised.value.reason
    assert str(raised.value) == (f"{path}: {raised.value.reason}" if path else raised.value.reason)


@pytest.mark.parametrize(
    ("annotation", "allowed"),
    [
        ("nvidia.com/T4", True),
        ("a.b/c, nvidia.com/T4 ,", True),
        ("*", True),
        ("", False),
        ("nvidia.com/T40", False),
        ("nvidia.com/*", False),
    ],
)
def test_allowed_devices(annotation: str, allowed: bool) -> None:
    assert api.allows_device(annotation, "nvidia.com/T4") is allowed
