"""A running VM: what changes live, what needs a restart, what its guest was given, and what is reported."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.services.virtualmachine import builders as b
from vdcos import api
from vdcos.core import disks
from vdcos.core.foreign.kubernetes import Namespace
from vdcos.core.foreign.kubevirt import KubeVirt, VirtualMachineInstance
from vdcos.core.objects import Key
from vdcos.services.virtualmachine import pods
from vdcos.testing.world import World

Tree = dict[str, Any]
LAN = {"name": "lan", "network": "lan"}
FLAGGED = [{"type": "RestartRequired", "status": "True", "message": "a non-live-updatable field was changed"}]


def nothing(_: World) -> None:
    """Nothing happens."""


def volumes(there: World) -> dict[str, bool]:
    """Volumes of the child, and whether they are hot-plugged."""
    return {
        volume["name"]: next(iter(volume.values())).get("hotpluggable", False)
        if isinstance(next(iter(volume.values())), dict)
        else volume.get("dataVolume", {}).get("hotpluggable", False)
        for volume in b.template(there).get("volumes", [])
    }


# Hot-plug of disks


def added(**fields: Any) -> list[Tree]:
    return [b.disk("root"), b.disk("extra", **fields)]


def without_gate(there: World) -> None:
    there.put({**b.KUBEVIRT, "spec": {}})


def with_old_gate(there: World) -> None:
    gates = ["DeclarativeHotplugVolumes", "HotplugVolumes"]
    there.change(
        KubeVirt,
        Key("kubevirt", "kubevirt"),
        spec={"configuration": {"developerConfiguration": {"featureGates": gates}}},
    )


def stopped(there: World) -> None:
    there.remove(VirtualMachineInstance, b.KEY)
    b.notice(there)


def stopping(there: World) -> None:
    meta = there.tree(VirtualMachineInstance, b.KEY)["metadata"]
    there.change(VirtualMachineInstance, b.KEY, metadata={**meta, "deletionTimestamp": "2026-01-01T00:00:00Z"})


@pytest.mark.parametrize(
    ("reason", "given", "fields", "hot"),
    [
        ("added while it runs", nothing, {}, True),
        ("on a SCSI bus too", nothing, {"bus": "scsi"}, True),
        ("no other bus can", nothing, {"bus": "sata"}, False),
        ("a boot disk is there at boot", nothing, {"bootOrder": 1}, False),
        ("KubeVirt cannot", without_gate, {}, False),
        ("KubeVirt does it the old way", with_old_gate, {}, False),
        ("it is off", stopped, {}, False),
        ("it is going down", stopping, {}, False),
    ],
)
def test_hot_add(reason: str, given: Callable[[World], None], fields: Tree, hot: bool) -> None:
    there = b.running(b.vm(disks=[b.disk("root")]))
    given(there)
    b.edit(there, disks=added(**fields))
    b.settle(there)
    assert volumes(there) == {"root": False, "extra": hot}, reason


def test_disks_of_a_new_vm_are_there_at_boot() -> None:
    there = b.world(b.vm(disks=added()))
    b.settle(there)
    assert volumes(there) == {"root": False, "extra": False}


def test_a_hot_added_disk_stays_one_until_power_off() -> None:
    """Any change to a volume of a running VM would be a reason to restart."""
    there = b.running(b.vm(disks=[b.disk("root")]))
    b.edit(there, disks=added())
    b.settle(there)
    stopped(there)
    b.settle(there)
    assert volumes(there)["extra"] is True, "KubeVirt is about to start it again"
    b.edit(there, powerState="PoweredOff")
    b.settle(there)
    assert volumes(there)["extra"] is False, "from now on it is there at boot"


@pytest.mark.parametrize(
    ("reported", "told"),
    [
        ([], "Attaching"),
        ([{"name": "extra", "phase": "Bound"}], "Attaching"),
        ([{"name": "extra", "phase": "AttachedToNode"}], "Attaching"),
        ([{"name": "extra", "phase": "MountedToPod"}], "DisksReady"),
        ([{"name": "extra", "phase": "Ready"}], "DisksReady"),
    ],
)
def test_a_hot_added_disk_is_ready_when_it_is_in_the_vm(reported: list[Tree], told: str) -> None:
    there = b.running(b.vm(disks=[b.disk("root")]))
    b.edit(there, disks=added())
    b.settle(there)
    b.fill(there)
    there.change(VirtualMachineInstance, b.KEY, status={"volumeStatus": reported})
    b.settle(there)
    assert b.says(there, "StorageReady")[1] == told
    stopping(there)
    b.settle(there)
    assert b.says(there, "StorageReady")[1] == "DisksReady", "nothing is attached to a VM that goes down"


# Hot-plug of cards


def with_lan(**fields: Any) -> World:
    there = b.world(b.vm(nics=[LAN]))
    b.bridged(there)
    if fields:
        there.change(api.Network, Key("", "lan"), spec={"bridge": None, **fields})
    b.settle(there)
    b.start(there, interfaces=[{"name": "lan", "mac": "02:AA:00:00:00:01", "linkState": "up"}])
    b.settle(there)
    there.log.clear()
    return there


def interfaces(there: World) -> dict[str, str]:
    found = b.template(there)["domain"]["devices"].get("interfaces", [])
    return {interface["name"]: interface.get("state", "") for interface in found}


def test_a_card_is_taken_from_a_running_vm() -> None:
    there = with_lan()
    b.edit(there, nics=[])
    b.settle(there)
    assert interfaces(there) == {"lan": "absent"}
    assert [network["name"] for network in b.template(there)["networks"]] == ["lan"]
    there.change(VirtualMachineInstance, b.KEY, spec={"domain": {"devices": {"interfaces": []}}})
    b.settle(there)
    assert interfaces(there) == {"lan": "absent"}, "the guest still has it"
    there.change(VirtualMachineInstance, b.KEY, status={"interfaces": []})
    meta = there.tree(VirtualMachineInstance, b.KEY)["metadata"]
    there.change(VirtualMachineInstance, b.KEY, metadata={**meta, "annotations": {"kubevirt.io/vm-generation": "1"}})
    b.settle(there)
    assert interfaces(there) == {}
    assert b.template(there)["domain"]["devices"]["autoattachPodInterface"] is False
    assert "networks" not in b.template(there)


@pytest.mark.parametrize("given", [stopped, stopping])
def test_a_card_of_a_vm_that_stops_is_just_left_out(given: Callable[[World], None]) -> None:
    there = with_lan()
    given(there)
    b.edit(there, nics=[])
    b.settle(there)
    assert interfaces(there) == {}


def test_only_cards_on_a_bridge_can_leave() -> None:
    there = with_lan(sriov={"resourceName": "example.org/vf"})
    b.edit(there, nics=[])
    b.settle(there)
    assert interfaces(there) == {}


def test_pull_the_cable() -> None:
    there = with_lan()
    b.edit(there, nics=[{**LAN, "linkState": "Down"}])
    b.settle(there)
    assert interfaces(there) == {"lan": "down"}


# RestartRequired


def edited(there: World, **spec: Any) -> None:
    """The spec is changed, and KubeVirt says that it needs a restart."""
    b.edit(there, **spec)
    b.settle(there)
    b.notice(there, conditions=FLAGGED)
    b.settle(there)


FIRMWARE = {"firmware": {"bootloader": "UEFI"}}
RESTARTS: list[tuple[Tree, str]] = [
    ({"cpu": {"cores": 4}}, "spec.cpu.cores (declared 4, running 1)"),
    ({"cpu": {"model": "host-model"}}, "spec.cpu.model (declared host-model, running without)"),
    ({"cpu": {"dedicated": True}}, "spec.cpu.dedicated (declared True, running without)"),
    ({"memory": {"size": "512Mi"}}, "spec.memory.size (declared 512Mi, running 1Gi)"),
    ({"memory": {"size": "1Gi", "hugepages": "2Mi"}}, "spec.memory.hugepages (not there yet)"),
    ({"reservations": {"cpu": "1"}}, "spec.reservations (not there yet)"),
    ({"disks": [b.disk("root", bus="sata")]}, "spec.disks[root] (declared sata, running virtio)"),
    ({"disks": []}, "spec.disks[root] (no longer declared, still there)"),
    ({"disks": [b.disk("root"), b.disk("x", bus="sata")]}, "spec.disks[x] (not there yet)"),
    ({"nics": []}, "spec.nics[i] (no longer declared, still there)"),
    (
        {"nics": [{"name": "i", "network": "internet", "model": "e1000"}]},
        "spec.nics[i] (declared e1000, running virtio)",
    ),
    (FIRMWARE, "spec.firmware (not there yet)"),
    ({"guest": {"hostname": "shop"}}, "spec.guest (declared shop, running without)"),
    ({"guest": {"cloudInit": {"userData": "#cloud-config\n"}}}, "spec.guest (not there yet)"),
]


@pytest.mark.parametrize(
    ("spec", "want"), RESTARTS, ids=[want.split(" ")[0] + str(n) for n, (_, want) in enumerate(RESTARTS)]
)
def test_restart_required_names_the_field_and_what_runs(spec: Tree, want: str) -> None:
    there = b.running(b.vm(disks=[b.disk("root")], nics=[{"name": "i", "network": "internet"}]))
    edited(there, **spec)
    status, reason, message = b.says(there, "RestartRequired")
    assert (status, reason) == ("True", "RestartRequired")
    assert message == (
        f"takes effect at the next start: {want}. To restart: virtctl restart web -n shop, or set powerState to "
        "PoweredOff and then to PoweredOn"
    )
    assert b.status(there)["restartRequired"] is True
    assert b.says(there, "PowerStateSynced")[0] == "True", "it runs all the same"


GUESTS: list[tuple[Tree, str]] = [
    ({"userData": "password: new"}, "changed"),
    ({"userData": "password: old", "networkData": "psk: new"}, "not there yet"),
    ({"userDataSecretName": "new"}, "not there yet"),
]


@pytest.mark.parametrize(("data", "want"), GUESTS)
def test_what_a_guest_is_given_is_not_told(data: Tree, want: str) -> None:
    there = b.running(b.vm(guest={"cloudInit": {"userData": "password: old"}}))
    edited(there, guest={"cloudInit": {"userData": None, **data}})
    assert f"takes effect at the next start: spec.guest ({want}). To" in b.says(there, "RestartRequired")[2]


def test_only_short_words_are_told() -> None:
    there = b.running()
    serial = "a" * 256
    edited(there, firmware={"serial": serial})
    assert "spec.firmware (changed)" in b.says(there, "RestartRequired")[2]


def test_devices_are_named() -> None:
    from vdcos.core.foreign.kubernetes import Namespace

    there = b.running()
    there.change(Namespace, Key("", "shop"), metadata={"annotations": {api.ALLOWED_DEVICES: "*"}})
    edited(there, devices=[{"name": "nvme", "resourceName": "example.org/nvme"}])
    assert "spec.devices (not there yet)" in b.says(there, "RestartRequired")[2]
    stopped(there)
    b.start(there)
    edited(there, devices=[])
    assert "spec.devices (no longer declared, still there)" in b.says(there, "RestartRequired")[2]


def test_overrides_are_named() -> None:
    there = b.running()
    path = "/spec/template/spec/domain/ioThreadsPolicy"
    edited(there, overrides=[{"op": "add", "path": path, "value": "auto"}])
    assert "spec.overrides (declared auto, running without)" in b.says(there, "RestartRequired")[2]


def test_placement_follows_without_a_restart() -> None:
    there = b.running()
    edited(there, cpu={"cores": 2}, placement={"nodeSelector": {"zone": "a"}})
    assert "placement" not in b.says(there, "RestartRequired")[2]


def test_kubevirt_s_own_words_where_we_have_none() -> None:
    there = b.running()
    b.notice(there, conditions=FLAGGED)
    b.settle(there)
    assert "KubeVirt says: a non-live-updatable field was changed" in b.says(there, "RestartRequired")[2]


def test_many_fields_are_cut() -> None:
    there = b.running(b.vm(disks=[b.disk(f"d{n}") for n in range(10)]))
    edited(there, disks=[])
    assert " and 2 more." in b.says(there, "RestartRequired")[2]


def test_what_was_said_stands_until_kubevirt_has_looked() -> None:
    there = b.running()
    edited(there, cpu={"cores": 2})
    said = b.says(there, "RestartRequired")
    b.edit(there, cpu={"cores": 1})
    b.settle(there)
    assert b.says(there, "RestartRequired") == said
    b.notice(there, conditions=[])
    b.settle(there)
    assert b.says(there, "RestartRequired")[:2] == ("False", "UpToDate")
    assert b.status(there)["restartRequired"] is False


def test_no_restart_is_called_for_before_kubevirt_has_looked() -> None:
    there = b.running()
    b.edit(there, cpu={"sockets": 2})
    b.settle(there)
    assert b.says(there, "RestartRequired")[:2] == ("False", "UpToDate")


def test_a_card_that_kubevirt_forgets() -> None:
    """Cards of a binding plugin are neither plugged in live nor called a reason to restart."""
    there = b.running()
    there.put(b.own("Network", "acme", {"plugin": {"provider": "acme"}, **b.OPEN}))
    uid = there.tree(api.Network, Key("", "acme"))["metadata"]["uid"]
    there.put(b.attachment_definition("acme", uid))
    b.edit(there, nics=[{"name": "x", "network": "acme"}])

    class Acme:
        contract = 1

        def wire(self, request: Any) -> Any:
            from vdcos.providers.networks import Wiring

            return Wiring({"binding": {"name": "acme"}}, {"type": "acme"})

    service = type(b.SERVICE)({"acme": Acme()})
    there.settle(service, b.KEY)
    b.notice(there)
    there.settle(service, b.KEY)
    assert "spec.nics[x]" in b.says(there, "RestartRequired")[2]


def test_a_card_that_waits_for_something_else_does_not_come_by_a_restart() -> None:
    """KubeVirt's VM keeps what it has until the namespace may put up with the taint."""
    there = b.running()
    there.put(b.own("Network", "pods", {"pod": {}, **b.OPEN}))
    keeps = {"tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}]}
    b.edit(there, nics=[{"name": "x", "network": "pods"}], placement=keeps)
    b.settle(there)
    assert b.says(there, "HardwareReady")[1] == "TolerationNotAllowed"
    assert b.says(there, "RestartRequired")[0] == "False"
    there.change(Namespace, Key("", "shop"), metadata={"annotations": {api.ALLOWED_TAINTS: "dedicated"}})
    b.settle(there)
    b.notice(there)
    b.settle(there)
    assert "spec.nics[x]" in b.says(there, "RestartRequired")[2]


def live_change(**fields: Any) -> Callable[[World], None]:
    def change(there: World) -> None:
        conditions = [
            {"type": "Ready", "status": "True"},
            {"type": "HotVCPUChange", "status": "True"},
            {"type": "LiveMigratable", "status": "True", **fields},
        ]
        there.change(VirtualMachineInstance, b.KEY, status={"conditions": conditions})

    return change


def no_updater(there: World) -> None:
    live_change()(there)
    there.change(KubeVirt, Key("kubevirt", "kubevirt"), spec={"workloadUpdateStrategy": None})


@pytest.mark.parametrize(
    ("given", "want"),
    [
        (live_change(), ("False", "LiveUpdate")),
        (live_change(status="False", message="local disk"), ("True", "NotMigratable")),
        (no_updater, ("True", "MigrationNeeded")),
    ],
)
def test_live_changes_need_a_migration(given: Callable[[World], None], want: tuple[str, str]) -> None:
    there = b.running()
    given(there)
    b.settle(there)
    assert b.says(there, "RestartRequired")[:2] == want


def test_a_vm_that_is_off_takes_everything_at_its_next_start() -> None:
    there = b.running()
    stopped(there)
    b.edit(there, cpu={"cores": 2}, powerState="PoweredOff")
    b.settle(there)
    assert b.says(there, "RestartRequired")[:2] == ("False", "NotRunning")


# Placement and customisation


def pending(there: World, *conditions: Tree) -> None:
    there.change(VirtualMachineInstance, b.KEY, status={"phase": "Scheduling", "conditions": list(conditions)})


def complaint(message: str, name: str = "e", uid: str = "pod-1") -> Tree:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": "shop"},
        "involvedObject": {"uid": uid, "name": "virt-launcher-web-x"},
        "message": message,
    }


SECRET = 'MountVolume.SetUp failed for volume "vdcos-cloudinit-udata" : secret "nope" not found'
MOUNTS: list[tuple[str, str, str, str]] = [
    ("a Secret is missing", SECRET, "CustomizationReady", "SecretMissing"),
    ("a ConfigMap is missing", 'volume "s" : configmap "nope" not found', "CustomizationReady", "ConfigMapMissing"),
    ("a key is missing", 'volume "s" : references non-existent secret key: nope', "CustomizationReady", "KeyMissing"),
    ("storage is in trouble", "MountVolume.MountDevice failed: nope", "PowerStateSynced", "VolumeMountFailed"),
]


@pytest.mark.parametrize(("message", "condition", "reason"), [m[1:] for m in MOUNTS], ids=[m[0] for m in MOUNTS])
def test_what_kubelets_complain_about(message: str, condition: str, reason: str) -> None:
    there = b.running()
    pending(there)
    there.put(complaint(message))
    there.put(complaint('secret "of-another-pod" not found', "f", "other"))
    forged = complaint('secret "forged" not found', "a")
    there.put({**forged, "metadata": {**forged["metadata"], "namespace": "another"}})
    b.settle(there)
    assert b.says(there, condition)[:2] == ("False", reason)
    assert "nope" in b.says(there, condition)[2]
    assert b.says(there, "Ready")[1] == reason
    there.change(
        VirtualMachineInstance, b.KEY, status={"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    )
    b.settle(there)
    assert b.says(there, "Ready")[0] == "True", "a VM that runs has what it needs"


def test_the_missing_secret_is_found_among_other_complaints() -> None:
    there = b.running()
    pending(there)
    there.put(complaint("Unable to attach or mount volumes: timed out", "a"))
    there.put(complaint(SECRET, "b"))
    b.settle(there)
    assert b.says(there, "CustomizationReady")[1] == "SecretMissing"


@pytest.mark.parametrize(
    ("message", "want"),
    [
        (
            "0/4 nodes are available: 1 Insufficient memory, 3 node(s) were unschedulable. preemption: 0/4 nodes ...",
            "none of 4 hosts fits: 1 Insufficient memory, 3 node(s) were unschedulable",
        ),
        (
            "0/3 nodes are available: 3 Insufficient memory. no new claims to deallocate, preemption: 0/3 ...",
            "none of 3 hosts fits: 3 Insufficient memory",
        ),
        ("pod has unbound immediate PersistentVolumeClaims.", "pod has unbound immediate PersistentVolumeClaims"),
        ("", "no host fits"),
    ],
)
def test_the_scheduler_s_words_are_shortened(message: str, want: str) -> None:
    assert pods.shortened(message) == want


def test_no_host_fits() -> None:
    there = b.running()
    pending(there, {"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available: 2 Too many pods."})
    b.settle(there)
    assert b.says(there, "PlacementReady")[:2] == ("False", "NoHostFits")
    assert "none of 2 hosts fits: 2 Too many pods. Free capacity" in b.says(there, "PlacementReady")[2]


@pytest.mark.parametrize(
    "said",
    [
        "PVC shop/web-root does not exist, waiting for it to appear",
        '0/2 nodes are available: persistentvolumeclaim "web-root" not found. preemption: 0/2 nodes ...',
        '0/2 nodes are available: persistentvolumeclaim "web-root" is being deleted. preemption: 0/2 nodes ...',
        '0/2 nodes are available: persistentvolumeclaim "web-root" bound to non-existent persistentvolume "pv-1".',
    ],
)
def test_for_a_claim_that_is_gone_nobody_is_told_to_free_capacity(said: str) -> None:
    there = b.running()
    pending(there, {"type": "PodScheduled", "status": "False", "message": said})
    b.settle(there)
    message = b.says(there, "PlacementReady")[2]
    assert "web-root" in message
    assert "Restore the claim, or remove its disk" in message
    assert "capacity" not in message


def test_a_claim_that_is_not_bound_yet_is_no_matter_of_hosts() -> None:
    there = b.running()
    said = "0/4 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"
    pending(there, {"type": "PodScheduled", "status": "False", "message": said})
    b.settle(there)
    assert b.says(there, "PlacementReady")[1] != "NoHostFits"


def test_starting_is_told_once() -> None:
    """From the first write until the VM is up, no phase on the way changes the status."""
    there = b.world(b.vm(disks=[b.disk("root")]))
    b.settle(there)
    b.fill(there)
    b.settle(there)
    stored = there.tree(b.VM, b.KEY)
    for phase in ("Pending", "Scheduling", "Scheduled"):
        b.start(there, phase=phase)
        b.settle(there)
        assert there.tree(b.VM, b.KEY) == stored, phase
    b.start(there)
    b.settle(there)
    assert there.tree(b.VM, b.KEY) != stored


def out_of_sync(there: World, since: str | None) -> None:
    failing = {"type": "Synchronized", "status": "False", "message": "no such file", "lastTransitionTime": since}
    there.change(VirtualMachineInstance, b.KEY, status={"conditions": [{"type": "Ready", "status": "True"}, failing]})


def test_a_host_that_fails_for_long_is_told() -> None:
    there = b.running()
    assert b.says(there, "Synchronized")[0] == "True"
    out_of_sync(there, "2023-11-14T22:13:00Z")
    plan = b.settle(there)
    assert b.says(there, "Synchronized")[0] == "True", "20 s is what a migration may take"
    assert plan.after == 40
    there.now = there.now._replace(wall=there.now.wall + 40)
    b.settle(there)
    assert b.says(there, "Synchronized")[:2] == ("False", "HostFails")
    assert "no such file" in b.says(there, "Synchronized")[2]
    assert b.says(there, "Ready")[0] == "True", "the VM runs"
    out_of_sync(there, None)
    b.settle(there)
    assert b.says(there, "Synchronized")[0] == "False"


# What is reported


def test_status_of_a_running_vm() -> None:
    there = b.running(b.vm(nics=[{"name": "i", "network": "internet"}], disks=[b.disk("root")]))
    there.change(
        VirtualMachineInstance,
        b.KEY,
        status={
            "interfaces": [
                {"name": "z", "ipAddresses": ["10.0.0.9"]},
                {
                    "name": "i",
                    "mac": "02:AB:00:00:00:01",
                    "linkState": "up",
                    "ipAddresses": ["fe80::1", "10.0.0.2", "10.0.0.1", "10.0.0.2", "127.0.0.1", "::1", "169.254.0.1"],
                },
            ],
            "guestOSInfo": {"name": "Fedora", "version": "43", "prettyName": "Fedora Linux 43"},
            "conditions": [
                {"type": "Ready", "status": "True"},
                {"type": "AgentConnected", "status": "True"},
                {"type": "LiveMigratable", "status": "True"},
            ],
        },
    )
    b.settle(there)
    status = b.status(there)
    assert status["host"] == "host-1"
    assert status["addresses"] == ["10.0.0.1", "10.0.0.2", "10.0.0.9"]
    assert status["guestOs"] == "Fedora Linux 43"
    assert status["nics"] == [
        {
            "name": "i",
            "macAddress": "02:ab:00:00:00:01",
            "addresses": ["10.0.0.1", "10.0.0.2"],
            "linkState": "Up",
        }
    ]
    assert status["disks"] == [
        {"name": "root", "phase": "Ready", "claimName": disks.name("web", "root"), "size": "10Gi", "made": True}
    ]
    assert b.says(there, "GuestAgentConnected")[:2] == ("True", "Connected")
    assert b.says(there, "Migratable")[:2] == ("True", "Migratable")
    assert b.says(there, "PlacementReady")[:2] == ("True", "Placed")


def test_the_order_of_reports_changes_nothing() -> None:
    there = b.running(b.vm(nics=[{"name": "i", "network": "internet"}]))
    reports = [{"name": "i", "ipAddresses": ["10.0.0.1", "10.0.0.2"]}, {"name": "j", "ipAddresses": ["10.0.0.3"]}]
    there.change(VirtualMachineInstance, b.KEY, status={"interfaces": reports})
    b.settle(there)
    stored = there.tree(b.VM, b.KEY)
    there.change(
        VirtualMachineInstance,
        b.KEY,
        status={"interfaces": [reports[1], {"name": "i", "ipAddresses": ["10.0.0.2", "10.0.0.1"]}]},
    )
    b.settle(there)
    assert there.tree(b.VM, b.KEY) == stored


def test_status_is_bounded() -> None:
    there = b.running(b.vm(nics=[{"name": "i", "network": "internet"}]))
    addresses = [f"10.0.{n // 250}.{n % 250 + 1}" for n in range(500)]
    there.change(
        VirtualMachineInstance,
        b.KEY,
        status={"interfaces": [{"name": "i", "ipAddresses": addresses}], "guestOSInfo": {"prettyName": "x" * 500}},
    )
    b.settle(there)
    status = b.status(there)
    assert (len(status["addresses"]), len(status["nics"][0]["addresses"]), len(status["guestOs"])) == (32, 16, 128)


@pytest.mark.parametrize(
    "address", ["x" * 65, "2001:db8::1%" + "x" * 65, "10.0.0.1\n", "", "169.254.9.9", "fe80::2%eth0"]
)
def test_a_guest_cannot_make_its_status_unwritable(address: str) -> None:
    there = b.running(b.vm(nics=[{"name": "i", "network": "internet"}]))
    report = {"name": "i", "mac": "m" * 100, "ipAddresses": [address, "2001:db8::1"]}
    there.change(VirtualMachineInstance, b.KEY, status={"interfaces": [report]})
    b.settle(there)
    assert b.status(there)["addresses"] == ["2001:db8::1"]
    assert b.status(there)["nics"] == [{"name": "i", "addresses": ["2001:db8::1"]}]


def test_a_guest_os_by_name_and_version() -> None:
    there = b.running()
    there.change(VirtualMachineInstance, b.KEY, status={"guestOSInfo": {"name": "Debian", "version": "13"}})
    b.settle(there)
    assert b.status(there)["guestOs"] == "Debian 13"


def test_a_pulled_cable_is_reported() -> None:
    there = b.running(b.vm(nics=[{"name": "i", "network": "internet"}]))
    there.change(VirtualMachineInstance, b.KEY, status={"interfaces": [{"name": "i", "linkState": "down"}]})
    b.settle(there)
    assert b.status(there)["nics"] == [{"name": "i", "linkState": "Down"}]


def test_a_vm_that_is_off_reports_neither_host_nor_addresses() -> None:
    there = b.running(b.vm(nics=[{"name": "i", "network": "internet"}]))
    b.edit(there, powerState="PoweredOff")
    stopped(there)
    b.settle(there)
    assert not {"host", "addresses", "guestOs"} & b.status(there).keys()
    assert b.status(there)["nics"] == [{"name": "i"}]
    assert b.says(there, "GuestAgentConnected")[1] == "NotRunning"
    assert b.says(there, "Migratable")[:2] == ("Unknown", "NotRunning")
    assert b.says(there, "PlacementReady")[:2] == ("True", "PoweredOff")


@pytest.mark.parametrize(
    ("reason", "want"), [("DisksNotLiveMigratable", "DisksNotLiveMigratable"), ("", "NotMigratable")]
)
def test_not_migratable_for_kubevirt_s_reason(reason: str, want: str) -> None:
    there = b.running()
    verdict = {"type": "LiveMigratable", "status": "False", "reason": reason, "message": "a local disk"}
    there.change(VirtualMachineInstance, b.KEY, status={"conditions": [{"type": "Ready", "status": "True"}, verdict]})
    b.settle(there)
    assert b.says(there, "Migratable") == ("False", want, "a local disk")
    assert b.says(there, "Ready")[0] == "True", "a VM that cannot be migrated is ready"
    assert b.says(there, "GuestAgentConnected")[:2] == ("False", "NotConnected")
