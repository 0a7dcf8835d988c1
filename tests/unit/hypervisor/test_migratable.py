"""LiveMigratable: which reason wins, in virt-handler's order."""

from typing import Any

import pytest

from tests.unit.hypervisor.given import vmi
from vdcos.testing.hypervisor.migratable import live_migratable, migration_method, storage_live_migratable

POD_BRIDGE = {
    "networks": [{"name": "default", "pod": {}}],
    "domain": {"devices": {"interfaces": [{"name": "default", "bridge": {}}]}},
}
GPU = {"domain": {"devices": {"gpus": [{"name": "g", "deviceName": "x/y"}]}}}
SEV: dict[str, Any] = {"domain": {"launchSecurity": {"sev": {}}}}
TDX: dict[str, Any] = {"domain": {"launchSecurity": {"tdx": {}}}}
LUN = {"domain": {"devices": {"disks": [{"name": "d", "lun": {"reservation": True}}]}}}
HYPERV = {"domain": {"features": {"hypervPassthrough": {"enabled": True}}}}
DISK = {"volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "pvc"}}]}


def status(*modes: str, **more: Any) -> dict[str, Any]:
    return {"volumeStatus": [{"name": "d", "persistentVolumeClaimInfo": {"accessModes": list(modes)}}], **more}


@pytest.mark.parametrize(
    ("reason", "spec", "status"),
    [
        ("", {}, {}),
        ("InterfaceNotLiveMigratable", POD_BRIDGE, {}),
        ("HostDeviceNotLiveMigratable", GPU, {}),
        ("SEVNotLiveMigratable", SEV, {}),
        ("TDXNotLiveMigratable", TDX, {}),
        ("PersistentReservationNotLiveMigratable", LUN, {}),
        ("HypervPassthroughNotLiveMigratable", HYPERV, {}),
        ("DisksNotLiveMigratable", DISK, {}),
        ("DisksNotLiveMigratable", DISK, status("ReadWriteOnce")),
        ("", DISK, status("ReadWriteMany")),
        ("", DISK, status("ReadWriteOnce", migratedVolumes=[{"volumeName": "d"}])),
        ("DisksNotLiveMigratable", {"volumes": [{"name": "d", "hostDisk": {"path": "/d"}}]}, {}),
        ("", {"volumes": [{"name": "d", "hostDisk": {"path": "/d", "shared": True}}]}, {}),
        # Interfaces come before devices, devices before disks.
        ("InterfaceNotLiveMigratable", POD_BRIDGE | DISK, {}),
        ("HostDeviceNotLiveMigratable", GPU | DISK, {}),
    ],
)
def test_reason(reason: str, spec: dict[str, Any], status: dict[str, Any]) -> None:
    condition = live_migratable(vmi(spec=spec, status=status))
    assert condition.get("reason", "") == reason
    assert condition["status"] == ("False" if reason else "True")
    assert ("message" in condition) is bool(reason)


def test_a_bridge_on_the_pod_network_may_be_allowed() -> None:
    annotations = {"kubevirt.io/allow-pod-bridge-network-live-migration": ""}
    assert live_migratable(vmi(spec=POD_BRIDGE, metadata={"annotations": annotations}))["status"] == "True"


def test_storage_migration_minds_everything_but_disks_and_says_it_all() -> None:
    devices = {**POD_BRIDGE["domain"]["devices"], **GPU["domain"]["devices"]}  # type: ignore[index]
    both = vmi(spec={**POD_BRIDGE, "domain": {"devices": devices}, **DISK})
    condition = storage_live_migratable(both)
    assert condition["reason"] == "NotMigratable"
    assert [part.split(":")[0] for part in condition["message"].split(", ")] == [
        "InterfaceNotLiveMigratable",
        "HostDeviceNotLiveMigratable",
    ]
    assert storage_live_migratable(vmi(spec=DISK))["status"] == "True"


@pytest.mark.parametrize(
    ("method", "spec", "seen"),
    [
        ("LiveMigration", {}, {}),
        ("LiveMigration", DISK, status("ReadWriteMany")),
        ("BlockMigration", DISK, status("ReadWriteOnce")),
        ("BlockMigration", DISK, status("ReadWriteMany", migratedVolumes=[{"volumeName": "d"}])),
        ("BlockMigration", {"volumes": [{"name": "i", "cloudInitNoCloud": {}}]}, {}),
        (
            "LiveMigration",
            {
                "volumes": [{"name": "i", "cloudInitNoCloud": {}}],
                "domain": {"devices": {"disks": [{"name": "i", "cdrom": {"bus": "sata"}}]}},
            },
            {},
        ),
    ],
)
def test_method(method: str, spec: dict[str, Any], seen: dict[str, Any]) -> None:
    assert migration_method(vmi(spec=spec, status=seen)) == method
