"""Instance types, preferences, devices and networks: what must be known or permitted before a VM gets them."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.services.virtualmachine import builders as b
from vdcos import api
from vdcos.core.foreign import kubevirt
from vdcos.core.foreign.kubernetes import Namespace
from vdcos.core.foreign.multus import NetworkAttachmentDefinition
from vdcos.core.objects import Key
from vdcos.testing.world import World

Tree = dict[str, Any]
NVME = {"name": "disk0", "resourceName": "example.org/nvme"}
TYPE = {"name": "small"}


def nothing(_: World) -> None:
    """Nothing happens."""


def typed(kind: str, plural_namespace: str = "", **spec: Any) -> Callable[[World], None]:
    def put(there: World) -> None:
        meta = {"name": "small"} | ({"namespace": plural_namespace} if plural_namespace else {})
        there.put({"apiVersion": "instancetype.kubevirt.io/v1beta1", "kind": kind, "metadata": meta, "spec": spec})

    return put


def allowed(names: str) -> Callable[[World], None]:
    return lambda there: there.change(
        Namespace, Key("", "shop"), metadata={"annotations": {api.ALLOWED_DEVICES: names}}
    )


def taints(keys: str) -> Callable[[World], None]:
    return lambda there: there.change(Namespace, Key("", "shop"), metadata={"annotations": {api.ALLOWED_TAINTS: keys}})


def kubevirt_cr(**configuration: Any) -> Callable[[World], None]:
    return lambda there: there.change(
        kubevirt.KubeVirt, Key("kubevirt", "kubevirt"), spec={"configuration": configuration}
    )


def both(*steps: Callable[[World], None]) -> Callable[[World], None]:
    def run(there: World) -> None:
        for step in steps:
            step(there)

    return run


NO_SIZE: Tree = {"cpu": None, "memory": None}
CLUSTER_TYPE, OWN_TYPE = "VirtualMachineClusterInstancetype", "VirtualMachineInstancetype"
KEPT: Tree = {"placement": {"tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}]}}
SPARE: Tree = {
    "placement": {"tolerations": [{"key": "vdcos.dev/failover-only", "operator": "Exists", "effect": "NoSchedule"}]}
}
CASES: list[tuple[str, Tree, Callable[[World], None], str]] = [
    ("a taint that nobody allowed", KEPT, nothing, "TolerationNotAllowed"),
    ("another taint is allowed", KEPT, taints("dedicated-to-lab"), "TolerationNotAllowed"),
    ("the taint is allowed", KEPT, taints("gpu, dedicated"), "HardwareReady"),
    ("all taints are allowed", KEPT, taints("*"), "HardwareReady"),
    ("a taint of the system, stored under a laxer schema", SPARE, taints("*"), "TolerationNotAllowed"),
    (
        "who allows taints cannot be read",
        KEPT,
        lambda there: there.unavailable(Namespace, "no"),
        "NamespaceUnknown",
    ),
    ("nothing is asked for", {}, nothing, "HardwareReady"),
    ("instance type missing", {**NO_SIZE, "instancetype": TYPE}, nothing, "InstancetypeMissing"),
    ("instance type there", {**NO_SIZE, "instancetype": TYPE}, typed(CLUSTER_TYPE), "HardwareReady"),
    (
        "instance type of the namespace",
        {**NO_SIZE, "instancetype": {**TYPE, "kind": OWN_TYPE}},
        typed(OWN_TYPE, "shop"),
        "HardwareReady",
    ),
    (
        "instance type of another namespace",
        {**NO_SIZE, "instancetype": {**TYPE, "kind": OWN_TYPE}},
        typed(OWN_TYPE, "lab"),
        "InstancetypeMissing",
    ),
    (
        "instance types cannot be read",
        {**NO_SIZE, "instancetype": TYPE},
        lambda there: there.unavailable(kubevirt.ClusterInstancetype, "no"),
        "InstancetypeUnreadable",
    ),
    *(
        (f"{field} of {kind}", {**NO_SIZE, "instancetype": {**TYPE, "kind": kind}}, given, reason)
        for field in ("gpus", "hostDevices")
        for kind, namespace in ((CLUSTER_TYPE, ""), (OWN_TYPE, "shop"))
        for device in (typed(kind, namespace, **{field: [{"name": "d", "deviceName": "example.org/gpu"}]}),)
        for given, reason in (
            (device, "DeviceNotAllowed"),
            (both(device, allowed("example.org/gpu")), "HardwareReady"),
        )
    ),
    *(
        (
            f"{kind} with {field}",
            {**fields, where: {**TYPE, "kind": kind}},
            typed(kind, namespace, **{field: value}),
            reason,
        )
        for field, value in (("annotations", {"a": "b"}), ("schedulerName", "mine"))
        for kind, namespace, fields, where, reason in (
            (OWN_TYPE, "shop", NO_SIZE, "instancetype", "InstancetypeNotAllowed"),
            (CLUSTER_TYPE, "", NO_SIZE, "instancetype", "HardwareReady"),
            ("VirtualMachinePreference", "shop", {}, "preference", "PreferenceNotAllowed"),
        )
    ),
    ("preference missing", {"preference": TYPE}, nothing, "PreferenceMissing"),
    ("preference there", {"preference": TYPE}, typed("VirtualMachineClusterPreference"), "HardwareReady"),
    ("device not allowed", {"devices": [NVME]}, nothing, "DeviceNotAllowed"),
    ("another device allowed", {"devices": [NVME]}, allowed("example.org/gpu"), "DeviceNotAllowed"),
    ("device allowed", {"devices": [NVME]}, allowed("a/b, example.org/nvme"), "HardwareReady"),
    ("all devices allowed", {"devices": [NVME]}, allowed("*"), "HardwareReady"),
    (
        "namespaces cannot be read",
        {"devices": [NVME]},
        lambda there: there.unavailable(Namespace, "no"),
        "NamespaceUnknown",
    ),
    (
        "the gate for host devices is off",
        {"devices": [NVME]},
        both(allowed("*"), kubevirt_cr(developerConfiguration={"featureGates": []})),
        "FeatureDisabled",
    ),
    (
        "GPUs need no gate",
        {"devices": [{**NVME, "type": "GPU"}]},
        both(allowed("*"), kubevirt_cr(developerConfiguration={"featureGates": []})),
        "HardwareReady",
    ),
    (
        "KubeVirt does not permit it",
        {"devices": [{**NVME, "resourceName": "example.org/x"}]},
        allowed("*"),
        "DeviceNotPermitted",
    ),
    (
        "nobody can say what KubeVirt permits",
        {"devices": [NVME]},
        both(allowed("*"), lambda there: there.remove(kubevirt.KubeVirt, Key("kubevirt", "kubevirt"))),
        "HardwareReady",
    ),
]


@pytest.mark.parametrize(("spec", "given", "reason"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_hardware(spec: Tree, given: Callable[[World], None], reason: str) -> None:
    machine = b.vm(**spec)
    machine["spec"] = {field: value for field, value in machine["spec"].items() if value is not None}
    there = b.world(machine)
    given(there)
    b.settle(there)
    assert b.says(there, "HardwareReady")[1] == reason
    assert b.says(there, "HardwareReady")[0] == (
        "True" if reason == "HardwareReady" else "Unknown" if reason.endswith(("Unreadable", "Unknown")) else "False"
    )
    assert there.has(b.CHILD, b.KEY) == (reason == "HardwareReady"), "created only with its hardware"
    if reason != "HardwareReady":
        assert b.says(there, "Applied")[1] == "Waiting"


def test_an_instance_type_replaces_cpu_and_memory() -> None:
    machine = b.vm(instancetype=TYPE, preference={**TYPE, "kind": "VirtualMachinePreference"})
    del machine["spec"]["cpu"], machine["spec"]["memory"]
    there = b.world(machine)
    typed(CLUSTER_TYPE)(there)
    typed("VirtualMachinePreference", "shop")(there)
    b.settle(there)
    spec = there.tree(b.CHILD, b.KEY)["spec"]
    assert spec["instancetype"] == {"name": "small", "kind": CLUSTER_TYPE}
    assert spec["preference"] == {"name": "small", "kind": "VirtualMachinePreference"}
    assert not {"cpu", "memory", "resources"} & b.template(there)["domain"].keys()


# Gates by version


@pytest.mark.parametrize(
    ("version", "listed", "disabled", "on"),
    [
        ("v1.8.2", [], [], False),
        ("v1.8.2", ["ExpandDisks"], [], True),
        ("v1.8.2", ["ExpandDisks"], ["ExpandDisks"], False),
        ("v1.9.0", [], [], True),
        ("1.10.0-rc.1", [], [], True),
        ("v1.9.0", [], ["ExpandDisks"], False),
        ("", [], [], False),
        ("v2.0.0", [], [], True),
        ("v1.x", [], [], False),
    ],
)
def test_gates(version: str, listed: list[str], disabled: list[str], on: bool) -> None:
    there = b.world()
    kubevirt_cr(developerConfiguration={"featureGates": listed, "disabledFeatureGates": disabled})(there)
    there.change(kubevirt.KubeVirt, Key("kubevirt", "kubevirt"), status={"observedKubeVirtVersion": version})
    found = there.view(b.SERVICE).get(kubevirt.KubeVirt, Key("kubevirt", "kubevirt"))
    assert isinstance(found, kubevirt.KubeVirt)
    assert found.gate("ExpandDisks") is on
    assert found.gate("HostDevices") is False, "on only where listed, in every version"


# Networks


LAN = {"name": "a", "network": "lan"}
INTERNET = {"name": "i", "network": "internet"}


def network(**changes: Any) -> Callable[[World], None]:
    return lambda there: there.change(api.Network, Key("", "lan"), **changes)


def leaving(there: World) -> None:
    meta = there.tree(api.Network, Key("", "lan"))["metadata"]
    network(metadata={**meta, "deletionTimestamp": "2026-01-01T00:00:00Z"})(there)


def definition(**changes: Any) -> Callable[[World], None]:
    return lambda there: there.change(NetworkAttachmentDefinition, Key("shop", "lan"), **changes)


NETWORKS: list[tuple[str, Callable[[World], None], str]] = [
    ("all is there", nothing, "NetworksReady"),
    ("no such network", lambda there: there.remove(api.Network, Key("", "lan")), "NetworkMissing"),
    ("networks cannot be read", lambda there: there.unavailable(api.Network, "no"), "NetworkUnreadable"),
    ("namespaces cannot be read", lambda there: there.unavailable(Namespace, "no"), "NamespaceUnknown"),
    ("not for this namespace", network(spec={"allowedNamespaces": {"from": "None"}}), "NamespaceNotAllowed"),
    ("it is being deleted", leaving, "NetworkDeleting"),
    (
        "its provider is not installed",
        network(spec={"bridge": None, "plugin": {"provider": "acme"}}),
        "ProviderMissing",
    ),
    (
        "not yet in this namespace",
        lambda there: there.remove(NetworkAttachmentDefinition, Key("shop", "lan")),
        "AttachmentPending",
    ),
    (
        "definitions cannot be read",
        lambda there: there.unavailable(NetworkAttachmentDefinition, "no"),
        "AttachmentUnreadable",
    ),
    ("somebody's definition", definition(metadata={"ownerReferences": []}), "AttachmentNotOurs"),
    ("its definition goes", definition(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}), "AttachmentPending"),
]


@pytest.mark.parametrize(("given", "reason"), [n[1:] for n in NETWORKS], ids=[n[0] for n in NETWORKS])
def test_network(given: Callable[[World], None], reason: str) -> None:
    there = b.world(b.vm(nics=[LAN]))
    b.bridged(there)
    given(there)
    b.settle(there)
    assert b.says(there, "NetworkReady")[1] == reason
    assert there.has(b.CHILD, b.KEY) == (reason == "NetworksReady")
    if reason != "NetworksReady":
        assert b.says(there, "Ready")[1] == reason
        assert b.says(there, "NetworkReady")[2].startswith("NIC a: ")


def test_a_card_that_is_attached_keeps_its_network_while_that_is_being_deleted() -> None:
    there = b.world(b.vm(nics=[LAN]))
    b.bridged(there)
    b.settle(there)
    leaving(there)
    b.settle(there)
    assert b.says(there, "NetworkReady")[0] == "True"


def test_one_pod_network_at_most() -> None:
    there = b.world(b.vm(nics=[INTERNET, {"name": "j", "network": "internet"}]))
    b.settle(there)
    assert b.says(there, "NetworkReady")[:2] == ("False", "PodNetworkTwice")
    assert there.log == [], "KubeVirt would refuse it"


def test_the_link_of_an_sriov_card_cannot_be_pulled() -> None:
    there = b.world(b.vm(nics=[{**LAN, "linkState": "Down"}]))
    b.bridged(there)
    network(spec={"bridge": None, "sriov": {"resourceName": "example.org/vf"}})(there)
    b.settle(there)
    assert b.says(there, "NetworkReady")[:2] == ("False", "LinkStateUnsupported")
    assert "state" not in b.template(there)["domain"]["devices"]["interfaces"][0]
