"""Whether a VMI can be migrated live, with the reasons in virt-handler's order (KubeVirt 1.8.2, virt-handler/vm.go)."""

from collections.abc import Iterator

from vdcos.testing.hypervisor.objects import Json, Vmi

POD_NETWORK = "cannot migrate VMI which does not use masquerade or a migratable plugin to connect to the pod network"
BRIDGE_ALLOWED = "kubevirt.io/allow-pod-bridge-network-live-migration"


def known(vmi: Vmi) -> bool:
    """Whether virt-controller has described every volume yet.

    A real virt-handler looks at a hot-plugged volume too late to notice that for a moment it has not.
    """
    described = {s["name"] for s in vmi.status.volume_status or []}
    return all(v.name in described for v in vmi.spec.volumes if v.claim)


def live_migratable(vmi: Vmi) -> Json:
    """The LiveMigratable condition: the first reason against it wins."""
    blockers = _blockers(vmi)
    reason, message = next(blockers, ("", ""))
    if not reason and (disks := disk_blocker(vmi)):
        reason, message = "DisksNotLiveMigratable", disks
    return _condition("LiveMigratable", reason, message)


def storage_live_migratable(vmi: Vmi) -> Json:
    """The StorageLiveMigratable condition: all reasons but the disks', which would be copied."""
    blockers = list(_blockers(vmi))
    message = ", ".join(f"{reason}: {message}" for reason, message in blockers)
    return _condition("StorageLiveMigratable", "NotMigratable" if blockers else "", message)


def migration_method(vmi: Vmi) -> str:
    return "BlockMigration" if _copies_disks(vmi) else "LiveMigration"


def _condition(kind: str, reason: str, message: str) -> Json:
    condition: Json = {"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": None}
    if reason:
        condition |= {"status": "False", "reason": reason, "message": message}
    return condition


def _blockers(vmi: Vmi) -> Iterator[tuple[str, str]]:
    domain = vmi.spec.domain
    if not _pod_network_migrates(vmi):
        yield "InterfaceNotLiveMigratable", POD_NETWORK
    if domain.devices.host_devices or domain.devices.gpus:
        yield "HostDeviceNotLiveMigratable", "VMI uses a PCI host devices"
    if domain.launch_security is not None:
        if "tdx" in domain.launch_security:
            yield "TDXNotLiveMigratable", "VMI uses TDX"
        elif {"sev", "snp"} & domain.launch_security.keys():
            yield "SEVNotLiveMigratable", "VMI uses SEV"
    if any((d.lun or {}).get("reservation") for d in domain.devices.disks):
        yield "PersistentReservationNotLiveMigratable", "VMI uses SCSI persistent reservation"
    if (domain.features.get("hypervPassthrough") or {}).get("enabled"):
        yield "HypervPassthroughNotLiveMigratable", "VMI uses hyperv passthrough"


def _pod_network_migrates(vmi: Vmi) -> bool:
    pod_network = next((n.name for n in vmi.spec.networks if n.pod is not None), None)
    interfaces = vmi.spec.domain.devices.interfaces
    if pod_network is None or not interfaces:
        return True
    primary = next((i for i in interfaces if i.name == pod_network), None)
    if primary is None:
        return False
    if primary.masquerade is not None or primary.passt_binding is not None:
        return True
    return primary.bridge is not None and BRIDGE_ALLOWED in vmi.metadata.annotations


def disk_blocker(vmi: Vmi) -> str:
    """Why the disks cannot be shared with the target, or nothing."""
    statuses = {s["name"]: s for s in vmi.status.volume_status or []}
    migrated = {m["volumeName"] for m in vmi.status.migrated_volumes or []}
    for volume in vmi.spec.volumes:
        info = statuses.get(volume.name, {}).get("persistentVolumeClaimInfo")
        if volume.claim:
            if info is None:
                return (
                    f"cannot migrate VMI: Unable to determine if PVC {volume.claim} is shared, live migration requires"
                    " that all PVCs must be shared (using ReadWriteMany access mode)"
                )
            if "ReadWriteMany" not in info.get("accessModes", []) and volume.name not in migrated:
                return (
                    f"cannot migrate VMI: PVC {volume.claim} is not shared, live migration requires that all PVCs must"
                    " be shared (using ReadWriteMany access mode)"
                )
        elif volume.host_disk is not None and not volume.host_disk.shared:
            return "cannot migrate VMI with non-shared HostDisk"
    return ""


def _copies_disks(vmi: Vmi) -> bool:
    """Whether something of the VMI's disks has to be copied: a migrated volume, or one that is local to the node."""
    if vmi.status.migrated_volumes or disk_blocker(vmi):
        return True
    shared = {f.get("name") for f in vmi.spec.domain.devices.filesystems}
    read_only = {d.name for d in vmi.spec.domain.devices.disks if d.read_only_cdrom}
    return any(
        not v.claim and v.host_disk is None and v.name not in shared and v.name not in read_only
        for v in vmi.spec.volumes
    )
