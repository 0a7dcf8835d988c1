"""Import: what becomes of a KubeVirt VM, and why one stays as it is."""

import copy
import io
import json
from typing import Any

import pytest
import yaml

from tests.unit.cli.vdc import shop as s
from vdcos import api
from vdcos.cli.vdc import importing
from vdcos.cli.vdc import objects as o
from vdcos.cli.vdc.objects import Objects
from vdcos.core.objects import Key
from vdcos.services.virtualmachine import adoption
from vdcos.testing.trees import merge

Tree = dict[str, Any]

INTERNET = s.own("Network", "internet", {"pod": {}, "allowedNamespaces": {"from": "All"}})


def claim(name: str, size: str = "10Gi", **metadata: Any) -> Tree:
    meta = {"name": name, "namespace": "shop", **metadata}
    spec = {"storageClassName": "block-rwx", "resources": {"requests": {"storage": size}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}


def definition(name: str, config: Tree) -> Tree:
    return {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"config": json.dumps(config)},
    }


def machine(**changes: Any) -> Tree:
    """A KubeVirt VM, with ``changes`` merged into its template's spec."""
    template: Tree = {
        "domain": {
            "cpu": {"cores": 2},
            "memory": {"guest": "2Gi"},
            "devices": {
                "disks": [{"name": "rootdisk", "disk": {"bus": "virtio"}}],
                "interfaces": [{"name": "default", "masquerade": {}}],
            },
            "firmware": {"uuid": "5d307ca9-b3ef-428c-8861-06e72d69f223"},
            "machine": {"type": "q35"},
        },
        "architecture": "amd64",
        "networks": [{"name": "default", "pod": {}}],
        "volumes": [{"name": "rootdisk", "persistentVolumeClaim": {"claimName": "old-root"}}],
    }
    labels = {"app": "old", "kubevirt.io/x": "y"}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "old", "namespace": "shop", "uid": "old"},
        "spec": {
            "runStrategy": "Always",
            "template": {
                "metadata": {"labels": labels},
                "spec": merge(template, changes),
            },
        },
    }


def cluster(*more: Tree) -> Objects:
    return Objects.of(s.GOLD, s.FRONT, INTERNET, claim("old-root"), *more)


def draft(tree: Tree, *more: Tree) -> importing.Draft:
    return importing.draft(cluster(tree, *more), tree)


def spec_of(tree: Tree, *more: Tree) -> Tree:
    found = draft(tree, *more)
    assert not found.refused, found.refused
    api.parse(api.VirtualMachine, found.manifest)
    spec: Tree = found.manifest["spec"]
    return spec


def test_a_manifest_as_people_see_it() -> None:
    stream = io.StringIO()
    importing.write([draft(machine())], "yaml", stream)
    assert stream.getvalue() == (
        "---\n"
        "# KubeVirt VM shop/old, taken over as it runs.\n"
        "# Agree first: kubectl annotate vm.kubevirt.io old -n shop vdcos.dev/adoptable=true\n"
        "# At its next start, and not before, these change:\n"
        "#   cpu.sockets, cpu.threads, devices.interfaces[default].macAddress, devices.interfaces[default].model,\n"
        "#   devices.interfaces[default].state, devices.rng, evictionStrategy, firmware.serial,\n"
        "#   terminationGracePeriodSeconds\n"
        "apiVersion: vdcos.dev/v1alpha1\n"
        "kind: VirtualMachine\n"
        "metadata:\n"
        "  name: old\n"
        "  namespace: shop\n"
        "  labels:\n"
        "    app: old\n"
        "spec:\n"
        "  powerState: PoweredOn\n"
        "  cpu:\n"
        "    sockets: 1\n"
        "    cores: 2\n"
        "    threads: 1\n"
        "  memory:\n"
        "    size: 2Gi\n"
        "  disks:\n"
        "  - name: rootdisk\n"
        "    size: 10Gi\n"
        "    datastore: gold\n"
        "    claimName: old-root\n"
        "  nics:\n"
        "  - name: default\n"
        "    network: internet\n"
        "  firmware:\n"
        "    uuid: 5d307ca9-b3ef-428c-8861-06e72d69f223\n"
    )


def test_what_is_refused_is_a_comment_and_what_is_data_a_list() -> None:
    bad = importing.Draft(Key("shop", "bad"), refused=["a reason"])
    stream = io.StringIO()
    importing.write([bad, draft(machine())], "yaml", stream)
    assert stream.getvalue().startswith(
        "# KubeVirt VM shop/bad stays as it is, because it cannot be taken over:\n#   - a reason\n---\n"
    )
    assert len(list(yaml.safe_load_all(stream.getvalue()))) == 1
    stream = io.StringIO()
    importing.write([bad, draft(machine())], "json", stream)
    assert [each["metadata"]["name"] for each in json.loads(stream.getvalue())["items"]] == ["old"]


@pytest.mark.parametrize(
    ("strategy", "runs", "power"),
    [
        ({"runStrategy": "Always"}, True, {"powerState": "PoweredOn"}),
        ({"runStrategy": "Halted"}, False, {"powerState": "PoweredOff"}),
        ({"running": True}, True, {"powerState": "PoweredOn"}),
        ({"running": False}, False, {"powerState": "PoweredOff"}),
        ({"runStrategy": "RerunOnFailure"}, True, {"powerState": "PoweredOn", "onGuestShutdown": "StayOff"}),
        ({"runStrategy": "RerunOnFailure"}, False, {"powerState": "PoweredOff"}),
        ({"runStrategy": "Manual"}, True, {"powerState": "PoweredOn", "onGuestShutdown": "StayOff"}),
        ({"runStrategy": "Manual"}, False, {"powerState": "PoweredOff"}),
    ],
)
def test_its_power_stays_as_it_is(strategy: Tree, runs: bool, power: Tree) -> None:
    tree = machine()
    tree["spec"] = {**{part: tree["spec"][part] for part in ("template",)}, **strategy}
    instance = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": "old", "namespace": "shop"},
        "status": {"phase": "Running", "interfaces": [{"name": "default", "mac": "02:00:00:00:00:AA"}]},
    }
    spec = spec_of(tree, *([instance] if runs else []))
    assert {part: spec[part] for part in ("powerState", "onGuestShutdown") if part in spec} == power
    if runs:
        assert spec["nics"][0]["macAddress"] == "02:00:00:00:00:aa", "the address that its guest knows"


@pytest.mark.parametrize(
    ("domain", "size"),
    [
        ({"cpu": {"sockets": 2, "cores": 2, "model": "host-model", "dedicatedCpuPlacement": True}},
         {"cpu": {"sockets": 2, "cores": 2, "threads": 1, "model": "host-model", "dedicated": True}}),
        ({"cpu": None, "resources": {"requests": {"cpu": "1500m"}}},
         {"cpu": {"sockets": 2, "cores": 1, "threads": 1}, "reservations": {"cpu": "1500m"}}),
        ({"cpu": None}, {"cpu": {"sockets": 1, "cores": 1, "threads": 1}}),
        ({"memory": None, "resources": {"requests": {"memory": "1Gi"}}},
         {"memory": {"size": "1Gi"}, "reservations": {"memory": "1Gi"}}),
        ({"memory": {"guest": "2Gi", "hugepages": {"pageSize": "2Mi"}}, "resources": {"requests": {"memory": "2Gi"}}},
         {"memory": {"size": "2Gi", "hugepages": "2Mi"}}),
        ({"resources": {"limits": {"memory": "4Gi"}}}, {"memory": {"size": "2Gi"}}),
    ],
)  # fmt: skip
def test_its_size(domain: Tree, size: Tree) -> None:
    spec = spec_of(machine(domain=domain))
    assert {part: spec[part] for part in size} == size
    assert ("reservations" in spec) == ("reservations" in size)


def test_an_instance_type_and_a_preference() -> None:
    tree = machine(domain={"cpu": None, "memory": None})
    tree["spec"] |= {
        "instancetype": {"name": "u1.small", "kind": "virtualmachineclusterinstancetype", "revisionName": "r"},
        "preference": {"name": "fedora"},
    }
    spec = spec_of(tree)
    assert spec["instancetype"] == {"name": "u1.small", "kind": "VirtualMachineClusterInstancetype"}
    assert spec["preference"] == {"name": "fedora", "kind": "VirtualMachineClusterPreference"}
    assert "cpu" not in spec


def test_a_disk_has_the_size_that_its_datavolume_asked_for() -> None:
    """The claim may be larger by what a filesystem needs."""
    volume = {
        "apiVersion": "cdi.kubevirt.io/v1beta1",
        "kind": "DataVolume",
        "metadata": {"name": "old-root", "namespace": "shop"},
        "spec": {"storage": {"resources": {"requests": {"storage": "10Gi"}}}},
    }
    assert spec_of(machine(), claim("old-root", "11381663335"), volume)["disks"][0]["size"] == "10Gi"


def test_cards_find_the_networks_that_lead_where_theirs_lead() -> None:
    devices = {"interfaces": [{"name": "lan", "bridge": {}, "macAddress": "02:00:5E:00:00:01", "model": "e1000",
                               "state": "down"}]}  # fmt: skip
    tree = machine(domain={"devices": devices}, networks=[{"name": "lan", "multus": {"networkName": "shop/old-lan"}}])
    config = {"type": "cnv-bridge", "bridge": "br-front", "vlan": 110}
    nics = spec_of(tree, definition("old-lan", config))["nics"]
    assert nics == [
        {"name": "lan", "network": "front", "model": "e1000", "macAddress": "02:00:5e:00:00:01", "linkState": "Down"}
    ]
    chained = {"plugins": [{**config, "type": "bridge"}, {"type": "tuning"}]}
    assert spec_of(tree, definition("old-lan", chained))["nics"][0]["network"] == "front"
    for other in ({**config, "vlan": 111}, {**config, "bridge": "br1"}, {"type": "macvlan"}, {}, {"plugins": 7}):
        (reason,) = draft(tree, definition("old-lan", other)).refused
        assert (
            "no Network that this namespace may use leads to where NetworkAttachmentDefinition shop/old-lan" in reason
        )


def test_a_card_that_is_being_unplugged_is_left_out() -> None:
    """And the operator does not ask for it either."""
    gone = {"name": "gone", "bridge": {}, "state": "absent"}
    tree = machine(domain={"devices": {"interfaces": [{"name": "default", "masquerade": {}}, gone]}})
    declared = api.parse(api.VirtualMachine, draft(tree).manifest).spec
    assert [nic.name for nic in declared.nics] == ["default"]
    assert adoption.left_out("old", declared, tree["spec"]) == ()


def test_what_the_guest_is_given() -> None:
    volumes = [
        {"name": "rootdisk", "persistentVolumeClaim": {"claimName": "old-root"}},
        {"name": "cloud", "cloudInitConfigDrive": {
            "userDataBase64": "I2Nsb3VkLWNvbmZpZwo=", "networkDataSecretRef": {"name": "net"}}},
    ]  # fmt: skip
    credentials = [
        {"sshPublicKey": {"source": {"secret": {"secretName": "keys"}}, "propagationMethod": {"configDrive": {}}}}
    ]
    spec = spec_of(machine(volumes=volumes, hostname="web", accessCredentials=credentials))
    assert spec["guest"] == {
        "hostname": "web",
        "cloudInit": {"type": "ConfigDrive", "userData": "#cloud-config\n", "networkDataSecretName": "net"},
        "sshKeySecretNames": ["keys"],
    }


def test_what_this_api_does_not_model_is_an_override_or_is_said_to_stay() -> None:
    disks = [{"name": "rootdisk", "disk": {"bus": "virtio"}, "cache": "none"}]
    clock = {"timezone": "Europe/Berlin"}
    affinity = {"nodeAffinity": {"x": 1}}
    found = draft(
        machine(domain={"clock": clock, "devices": {"disks": disks}, "resources": {"limits": {"memory": "4Gi"}}},
                affinity=affinity, terminationGracePeriodSeconds=30)
    )  # fmt: skip
    prefix = "/spec/template/spec"
    assert found.manifest["spec"]["overrides"] == [
        {"op": "add", "path": f"{prefix}/domain/clock", "value": clock},
        {"op": "add", "path": f"{prefix}/domain/devices/disks/rootdisk/cache", "value": "none"},
        {"op": "add", "path": f"{prefix}/terminationGracePeriodSeconds", "value": 30},
    ]
    assert found.kept == ["affinity", "resources"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"volumes": [{"name": "rootdisk", "containerDisk": {"image": "x"}}]}, "is of kind containerDisk"),
        ({"volumes": [{"name": "rootdisk", "persistentVolumeClaim": {"claimName": "none"}}]}, "there is no claim none"),
        ({"domain": {"devices": {"disks": [{"name": "rootdisk", "cdrom": {}}]}}}, "disk rootdisk is a cdrom"),
        ({"domain": {"devices": {"interfaces": [{"name": "default", "bridge": {}}]}}}, "by binding bridge"),
        ({"domain": {"memory": None}}, "nowhere how much memory"),
        ({"domain": {"resources": {"requests": {"memory": "2e9"}}}}, "'2e9' is not a quantity"),
        ({"domain": {"firmware": {"bootloader": {"efi": {"persistent": True}}}}}, "EFI variables are persistent"),
        (
            {"networks": [{"name": "default", "multus": {"networkName": "gone"}}]},
            "there is no NetworkAttachmentDefinition gone",
        ),
    ],
)
def test_what_cannot_be_declared_refuses_the_vm(changes: Tree, reason: str) -> None:
    found = draft(machine(**changes))
    assert any(reason in each for each in found.refused), found.refused
    assert not found.manifest


def test_whose_it_is_decides_as_well() -> None:
    pooled = machine()
    pooled["metadata"]["ownerReferences"] = [
        {
            "apiVersion": "pool.kubevirt.io/v1beta1",
            "kind": "VirtualMachinePool",
            "name": "p",
            "uid": "p",
            "controller": True,
        }
    ]
    assert draft(pooled).refused == ["it is controlled by VirtualMachinePool p"]
    assert (
        "claim old-root is a disk of VirtualMachine web"
        in draft(machine(), claim("old-root", labels={"vdcos.dev/vm": "web"})).refused[0]
    )
    silver = {**s.GOLD, "spec": {**s.GOLD["spec"], "allowedNamespaces": {"from": "Names", "names": ["other"]}}}
    assert "no Datastore allows this namespace" in draft(machine(), silver).refused[0]
    assert "there is a VirtualMachine of its name" in draft(machine(), s.vm("old")).refused[0]


def test_what_may_not_be_read_is_the_reason() -> None:
    found = cluster(machine())
    found.missing[o.DATASTORE] = "datastores.vdcos.dev: you have no right to list them"
    assert "you have no right" in importing.draft(found, machine()).refused[0]


def test_all_that_are_not_ours_are_imported_and_who_agreed_is_known() -> None:
    ours, agreed = copy.deepcopy(machine()), copy.deepcopy(machine())
    ours["metadata"] |= {"name": "ours", "ownerReferences": [
        {"apiVersion": "vdcos.dev/v1alpha1", "kind": "VirtualMachine", "name": "ours", "uid": "u", "controller": True}
    ]}  # fmt: skip
    agreed["metadata"] |= {"name": "agreed", "annotations": {"vdcos.dev/adoptable": "true"}}
    found = cluster(machine(), ours, agreed)
    told = [importing.draft(found, each) for each in importing.strangers(found)]
    assert [(each.key.name, each.agreed) for each in told] == [("agreed", True), ("old", False)]


def test_nobody_has_to_agree_to_what_was_ours_and_was_detached() -> None:
    marks = {"app.kubernetes.io/managed-by": "vdcos", "vdcos.dev/vm": "old"}
    for labels, agreed in ((marks, True), ({**marks, "vdcos.dev/vm": "other"}, False)):
        tree = machine()
        tree["metadata"]["labels"] = labels
        assert draft(tree).agreed is agreed
