"""The builder: from what is declared to KubeVirt's words. The real webhooks check the whole in tests/devcluster."""

from typing import Any

import pytest

from tests.unit.services.virtualmachine import builders as b
from vdcos import api
from vdcos.api.virtualmachine import Override
from vdcos.core.foreign.kubernetes import Namespace
from vdcos.core.objects import Key, Meta
from vdcos.services.virtualmachine import kubevirt_vm, overrides

Tree = dict[str, Any]
KEY1 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJsYWNrIGJveCBvZiBhIHNhbXBsZSBrZXkgISEh one"


def template(**spec: Any) -> Tree:
    there = b.world(b.vm(**spec))
    there.change(
        Namespace, Key("", "shop"), metadata={"annotations": {api.ALLOWED_DEVICES: "*", api.ALLOWED_TAINTS: "*"}}
    )
    b.settle(there)
    return b.template(there)


def at(tree: Any, path: str) -> Any:
    for step in path.split("."):
        tree = tree[int(step)] if isinstance(tree, list) else tree.get(step) if isinstance(tree, dict) else None
    return tree


AFFINITY = "affinity.{}.{}DuringSchedulingIgnoredDuringExecution"
CASES: list[tuple[str, Tree, str, Any]] = [
    ("topology", {"cpu": {"sockets": 2, "threads": 2}}, "domain.cpu", {"sockets": 2, "cores": 1, "threads": 2}),
    ("model", {"cpu": {"model": "host-model"}}, "domain.cpu.model", "host-model"),
    ("own CPUs", {"cpu": {"dedicated": True}}, "domain.cpu.dedicatedCpuPlacement", True),
    ("shared CPUs are not mentioned", {}, "domain.cpu.dedicatedCpuPlacement", None),
    ("memory", {}, "domain.memory", {"guest": "1Gi"}),
    ("huge pages", {"memory": {"size": "2Gi", "hugepages": "1Gi"}}, "domain.memory.hugepages", {"pageSize": "1Gi"}),
    ("reservations", {"reservations": {"cpu": "1"}}, "domain.resources", {"requests": {"cpu": "1"}}),
    ("no reservations", {"reservations": {}}, "domain.resources", None),
    ("boot order", {"disks": [b.disk(bootOrder=2)]}, "domain.devices.disks.0.bootOrder", 2),
    ("bus", {"disks": [b.disk(bus="scsi")]}, "domain.devices.disks.0.disk", {"bus": "scsi"}),
    ("no NIC at all", {}, "domain.devices.autoattachPodInterface", False),
    ("drain moves it if possible", {}, "evictionStrategy", "LiveMigrateIfPossible"),
    ("time to shut down", {}, "terminationGracePeriodSeconds", 180),
    ("randomness", {}, "domain.devices.rng", {}),
    ("BIOS", {"firmware": {"bootloader": "BIOS"}}, "domain.firmware.bootloader", {"bios": {}}),
    (
        "UEFI says secure boot even when it is off, since KubeVirt's default is on",
        {"firmware": {"bootloader": "UEFI"}},
        "domain.firmware.bootloader",
        {"efi": {"secureBoot": False}},
    ),
    (
        "secure boot needs SMM",
        {"firmware": {"bootloader": "UEFI", "secureBoot": True}},
        "domain.features",
        {"smm": {"enabled": True}},
    ),
    ("no SMM without", {"firmware": {"bootloader": "UEFI"}}, "domain.features", None),
    ("the preference decides on the bootloader", {"firmware": {}}, "domain.firmware.bootloader", None),
    ("TPM", {"firmware": {"tpm": "Ephemeral"}}, "domain.devices.tpm", {"persistent": False}),
    ("TPM that remembers", {"firmware": {"tpm": "Persistent"}}, "domain.devices.tpm", {"persistent": True}),
    ("serial", {"firmware": {"serial": "S1"}}, "domain.firmware.serial", "S1"),
    (
        "UUID",
        {"firmware": {"uuid": "5D307CA9-B3EF-428C-8861-06E72D69F223"}},
        "domain.firmware.uuid",
        "5d307ca9-b3ef-428c-8861-06e72d69f223",
    ),
    (
        "device",
        {"devices": [{"name": "d", "resourceName": "example.org/nvme"}]},
        "domain.devices.hostDevices",
        [{"name": "d", "deviceName": "example.org/nvme"}],
    ),
    (
        "GPU",
        {"devices": [{"name": "d", "resourceName": "example.org/nvme", "type": "GPU"}]},
        "domain.devices.gpus",
        [{"name": "d", "deviceName": "example.org/nvme"}],
    ),
    ("host name", {"guest": {"hostname": "h"}}, "hostname", "h"),
    ("no guest data, no disk for it", {"guest": {"hostname": "h"}}, "volumes", None),
    (
        "cloud-init",
        {"guest": {"cloudInit": {"userData": "u", "networkData": "n"}}},
        "volumes.0",
        {"name": "vdcos-cloudinit", "cloudInitNoCloud": {"userData": "u", "networkData": "n"}},
    ),
    (
        "cloud-init from Secrets, as a config drive",
        {"guest": {"cloudInit": {"type": "ConfigDrive", "userDataSecretName": "u", "networkDataSecretName": "n"}}},
        "volumes.0.cloudInitConfigDrive",
        {"secretRef": {"name": "u"}, "networkDataSecretRef": {"name": "n"}},
    ),
    (
        "inline keys make user data",
        {"guest": {"sshAuthorizedKeys": [KEY1]}},
        "volumes.0.cloudInitNoCloud.userData",
        f'#cloud-config\nssh_authorized_keys:\n  - "{KEY1}"\n',
    ),
    (
        "inline keys with network data",
        {"guest": {"cloudInit": {"networkData": "n"}, "sshAuthorizedKeys": [KEY1]}},
        "volumes.0.cloudInitNoCloud.networkData",
        "n",
    ),
    (
        "keys from a Secret need a cloud-init disk",
        {"guest": {"sshKeySecretNames": ["k"]}},
        "volumes.0.cloudInitNoCloud",
        {"userData": "#cloud-config\n"},
    ),
    (
        "keys from a Secret",
        {"guest": {"sshKeySecretNames": ["k"]}},
        "accessCredentials.0.sshPublicKey",
        {"source": {"secret": {"secretName": "k"}}, "propagationMethod": {"noCloud": {}}},
    ),
    (
        "keys from a Secret on a config drive",
        {"guest": {"sshKeySecretNames": ["k"], "cloudInit": {"type": "ConfigDrive", "userData": "u"}}},
        "accessCredentials.0.sshPublicKey.propagationMethod",
        {"configDrive": {}},
    ),
    (
        "sysprep",
        {"guest": {"sysprep": {"secretName": "s"}}},
        "volumes.0",
        {"name": "vdcos-sysprep", "sysprep": {"secret": {"name": "s"}}},
    ),
    (
        "sysprep is a CD",
        {"guest": {"sysprep": {"configMapName": "s"}}},
        "domain.devices.disks.0",
        {"name": "vdcos-sysprep", "cdrom": {"bus": "sata"}},
    ),
    (
        "sysprep from a ConfigMap",
        {"guest": {"sysprep": {"configMapName": "s"}}},
        "volumes.0.sysprep",
        {"configMap": {"name": "s"}},
    ),
    ("node selector", {"placement": {"nodeSelector": {"a": "b"}}}, "nodeSelector", {"a": "b"}),
    ("no placement", {"placement": {}}, "affinity", None),
    (
        "toleration of everything",
        {"placement": {"tolerations": [{"key": "k", "operator": "Exists", "effect": "NoSchedule"}]}},
        "tolerations.0",
        {"key": "k", "operator": "Exists", "effect": "NoSchedule"},
    ),
    (
        "toleration for a while, even none",
        {"placement": {"tolerations": [{"key": "k", "value": "v", "effect": "NoExecute", "tolerationSeconds": 0}]}},
        "tolerations.0",
        {"key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute", "tolerationSeconds": 0},
    ),
    (
        "must be with a VM",
        {"placement": {"affinity": [{"name": "a", "type": "Together", "strength": "Must", "names": ["db"]}]}},
        AFFINITY.format("podAffinity", "required"),
        [
            {
                "labelSelector": {"matchExpressions": [{"key": "vdcos.dev/vm", "operator": "In", "values": ["db"]}]},
                "topologyKey": "kubernetes.io/hostname",
            }
        ],
    ),
    (
        "should be apart from others with a label, and never minds itself",
        {"placement": {"affinity": [{"name": "a", "type": "Apart", "matchLabels": {"t": "w"}, "topologyKey": "zone"}]}},
        AFFINITY.format("podAntiAffinity", "preferred"),
        [
            {
                "weight": 100,
                "podAffinityTerm": {
                    "labelSelector": {
                        "matchLabels": {"t": "w"},
                        "matchExpressions": [{"key": "vdcos.dev/vm", "operator": "NotIn", "values": ["web"]}],
                    },
                    "topologyKey": "zone",
                },
            }
        ],
    ),
]


@pytest.mark.parametrize(("spec", "path", "want"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_template(spec: Tree, path: str, want: Any) -> None:
    assert at(template(**spec), path) == want


def test_a_nic() -> None:
    found = template(nics=[{"name": "i", "network": "internet", "macAddress": "02:00:00:AA:BB:CC", "model": "e1000"}])
    assert found["networks"] == [{"name": "i", "pod": {}}]
    assert found["domain"]["devices"]["interfaces"] == [
        {"name": "i", "masquerade": {}, "macAddress": "02:00:00:aa:bb:cc", "model": "e1000", "state": "up"}
    ]
    assert "autoattachPodInterface" not in found["domain"]["devices"]


def test_identity_is_stable_and_unique() -> None:
    """The same after a re-creation; different for another VM, card or cluster."""
    web = Meta(name="web", namespace="shop", uid="one")
    again = Meta(name="web", namespace="shop", uid="two")
    other = Meta(name="web", namespace="lab", uid="one")
    mac = kubevirt_vm.mac_address("c", web, "a")
    assert mac == kubevirt_vm.mac_address("c", again, "a")
    assert mac.startswith("02:")
    assert len(mac) == 17
    macs = {mac, *(kubevirt_vm.mac_address(*way) for way in (("d", web, "a"), ("c", other, "a"), ("c", web, "b")))}
    assert len(macs) == 4
    assert kubevirt_vm.firmware_uuid(web) == kubevirt_vm.firmware_uuid(again) != kubevirt_vm.firmware_uuid(other)
    found = template()["domain"]["firmware"]
    assert found["uuid"] == kubevirt_vm.firmware_uuid(web) != found["serial"]


def test_pods_carry_the_vm_s_labels() -> None:
    machine = b.vm()
    machine["metadata"]["labels"] = {
        "tier": "web",
        "kubevirt.io/nodeName": "x",
        "vm.kubevirt.io/name": "x",
        "vdcos.dev/vm": "no",
    }
    there = b.world(machine)
    b.settle(there)
    labels = there.tree(b.CHILD, b.KEY)["spec"]["template"]["metadata"]["labels"]
    assert labels == {"tier": "web", "vdcos.dev/vm": "web"}
    assert there.tree(b.CHILD, b.KEY)["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "vdcos",
        "vdcos.dev/vm": "web",
    }


def zeroes(tree: Any, path: str = "") -> list[str]:
    """Where a manifest holds what Go would leave out: such a field would look like drift."""
    if isinstance(tree, dict):
        return [found for key, value in tree.items() for found in zeroes(value, f"{path}.{key}")]
    if isinstance(tree, list):
        return [found for item in tree for found in zeroes(item, f"{path}[]")]
    return [path] if tree is None or tree == "" or tree is False or (tree == 0 and tree is not False) else []


POINTERS = {
    ".domain.devices.autoattachPodInterface",
    ".domain.devices.tpm.persistent",
    ".domain.firmware.bootloader.efi.secureBoot",
    ".tolerations[].tolerationSeconds",
}
"""Fields that are pointers in Go, so that their zero values are kept."""


@pytest.mark.parametrize("spec", [c[1] for c in CASES], ids=[c[0] for c in CASES])
def test_nothing_that_go_would_leave_out(spec: Tree) -> None:
    assert set(zeroes(template(**spec))) <= POINTERS


# Overrides

PREFIX = "/spec/template/spec/"
BASE: Tree = {
    "spec": {
        "template": {
            "spec": {
                "domain": {
                    "devices": {"disks": [{"name": "root"}, {"name": "data"}]},
                    "cpu": {"features": [{"name": "vmx"}]},
                },
                "terminationGracePeriodSeconds": 180,
            }
        }
    }
}
OVERRIDES: list[tuple[str, str, str, Any, Any]] = [
    ("add", "add", "domain/ioThreadsPolicy", "auto", "auto"),
    ("add makes what is missing on the way", "add", "domain/clock/timer/hpet/present", True, True),
    ("replace", "replace", "terminationGracePeriodSeconds", 30, 30),
    ("remove", "remove", "terminationGracePeriodSeconds", None, None),
    ("remove what is not there", "remove", "domain/clock/utc", None, None),
    ("an item by its name", "add", "domain/devices/disks/data/cache", "none", "none"),
    ("an item by its index", "add", "domain/cpu/features/0/policy", "require", "require"),
    ("an empty string is nothing", "add", "subdomain", "", None),
    ("an empty list is nothing", "add", "dnsConfig/searches", [], None),
    ("an empty object is a choice", "add", "domain/devices/rng", {}, {}),
    ("a false that is the default", "add", "domain/cpu/isolateEmulatorThread", False, None),
    (
        "a zero that is the default",
        "add",
        "domain/devices/disks/data/blockSize",
        {"custom": {"logical": 0}},
        {"custom": {}},
    ),
    ("a false that is not the default", "add", "domain/devices/autoattachMemBalloon", False, False),
    ("a zero that is not the default", "replace", "terminationGracePeriodSeconds", 0, 0),
    (
        "deep inside",
        "add",
        "domain/features",
        {"kvm": {"hidden": False}, "acpi": {"enabled": False}},
        {"kvm": {}, "acpi": {"enabled": False}},
    ),
]


@pytest.mark.parametrize(("op", "path", "value", "want"), [o[1:] for o in OVERRIDES], ids=[o[0] for o in OVERRIDES])
def test_override(op: Any, path: str, value: Any, want: Any) -> None:
    changed = overrides.apply(BASE, [Override(op=op, path=PREFIX + path, value=value)])
    found: Any = changed["spec"]["template"]["spec"]
    for step in path.split("/"):
        if isinstance(found, list):
            found = found[int(step)] if step.isdigit() else next(item for item in found if item["name"] == step)
        else:
            found = (found or {}).get(step)
    assert found == want
    assert BASE["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 180, "the base is not changed"


def features(op: Any, path: str, value: Any = None) -> list[Any]:
    changed = overrides.apply(BASE, [Override(op=op, path=f"{PREFIX}domain/cpu/features/{path}", value=value)])
    return list(changed["spec"]["template"]["spec"]["domain"]["cpu"].get("features", []))


def test_lists_are_appended_to_changed_and_shortened() -> None:
    assert features("add", "-", {"name": "svm"}) == [{"name": "vmx"}, {"name": "svm"}]
    assert features("add", "0", {"name": "svm"}) == [{"name": "svm"}]
    assert features("replace", "vmx", {"name": "svm"}) == [{"name": "svm"}]
    assert features("remove", "vmx") == []
    assert features("remove", "7") == [{"name": "vmx"}]


def test_the_first_item_makes_the_list() -> None:
    changed = overrides.apply(BASE, [Override(op="add", path=f"{PREFIX}dnsConfig/nameservers/-", value="192.0.2.1")])
    assert changed["spec"]["template"]["spec"]["dnsConfig"] == {"nameservers": ["192.0.2.1"]}


@pytest.mark.parametrize("seconds", [3601, -1, True, "180", 1.5])
def test_a_guest_cannot_take_for_ever_to_shut_down(seconds: Any) -> None:
    with pytest.raises(overrides.Conflict, match="at most 3600"):
        overrides.apply(BASE, [Override(op="add", path=f"{PREFIX}terminationGracePeriodSeconds", value=seconds)])


CONFLICTS: list[tuple[str, str, str, str]] = [
    ("nothing to replace", "replace", "domain/ioThreadsPolicy", "nothing to replace"),
    ("nothing on the way to replace", "replace", "domain/clock/utc", "no clock"),
    ("no such disk", "add", "domain/devices/disks/nope/cache", "no nope"),
    ("no such item", "add", "domain/cpu/features/7", "no item 7"),
]


@pytest.mark.parametrize(("op", "path", "words"), [c[1:] for c in CONFLICTS], ids=[c[0] for c in CONFLICTS])
def test_override_conflict(op: Any, path: str, words: str) -> None:
    with pytest.raises(overrides.Conflict, match=words):
        overrides.apply(BASE, [Override(op=op, path=PREFIX + path, value=1)])


def test_a_value_has_nothing_below_it() -> None:
    given = [
        Override(op="add", path=f"{PREFIX}domain/clock/utc", value=1),
        Override(op="add", path=f"{PREFIX}domain/clock/utc/offsetSeconds", value=1),
    ]
    with pytest.raises(overrides.Conflict, match="utc is the value 1"):
        overrides.apply(BASE, given)


def test_what_the_schema_let_through_is_refused_again() -> None:
    smuggled = Override.model_construct(op="add", path="/metadata/annotations/x", value="y")
    with pytest.raises(overrides.Conflict, match="not among the paths"):
        overrides.apply(BASE, [smuggled])
