"""From a VirtualMachine and what its references resolved to, the KubeVirt VM that we want.

Pure, and in KubeVirt's words. Values that Go leaves out when it writes JSON (false, 0, "") are never put in: a
controller of KubeVirt that writes the object back would drop them, and we would see drift. What is left out is
KubeVirt's decision.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from vdcos import api
from vdcos.api import virtualmachine as words
from vdcos.core import disks, hosts, ownership
from vdcos.core.kinds import VIRTUAL_MACHINE
from vdcos.core.objects import Key, Meta

Tree = dict[str, Any]
RunStrategy = Literal["Always", "RerunOnFailure", "Halted"]

CLOUD_INIT = "vdcos-cloudinit"
SYSPREP = "vdcos-sysprep"

SHUTDOWN_SECONDS = 180
"""How long a guest may take to shut down before it is cut off; what KubeVirt's own templates give."""

_IDENTITY = uuid.UUID("6f1c8f9e-6a43-5b0e-9c55-1d0b6f0a7a11")
_KUBEVIRT_DOMAIN = "kubevirt.io"


@dataclass(frozen=True, slots=True)
class Volume:
    """A disk and what stands behind it. ``hotplugged``: it came to a running VM and can leave it."""

    disk: words.Disk
    claim: str
    source: Literal["dataVolume", "persistentVolumeClaim"] = "dataVolume"
    hotplugged: bool = False


@dataclass(frozen=True, slots=True)
class Card:
    """A network card and how it is attached."""

    nic: words.Nic
    binding: Mapping[str, Any]
    source: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Leaving:
    """A card that is no longer declared, while the running VM still has it: KubeVirt's interface and network."""

    interface: Mapping[str, Any]
    network: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the spec's references resolved to."""

    run_strategy: str
    volumes: Sequence[Volume]
    cards: Sequence[Card]
    leaving: Sequence[Leaving] = ()
    cluster: str = ""
    failover: bool = False
    """It may start on hosts that are kept for failover."""


def build(cr: api.VirtualMachine, owner: Meta, parts: Parts) -> Tree:
    """The manifest, before overrides."""
    spec = cr.spec
    manifest: Tree = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": ownership.metadata(Key(owner.namespace, owner.name), {disks.VM: owner.name})
        | {"ownerReferences": [ownership.owner_reference(VIRTUAL_MACHINE, owner)]},
        "spec": {
            "runStrategy": parts.run_strategy,
            "template": {"metadata": {"labels": _pod_labels(cr)}, "spec": _template(cr, parts)},
        },
    }
    for matcher in ("instancetype", "preference"):
        if (chosen := getattr(spec, matcher)) is not None:
            manifest["spec"][matcher] = {"name": chosen.name, "kind": chosen.kind}
    return manifest


def mac_address(cluster: str, vm: Meta, nic: str) -> str:
    """A card's address when none is declared: locally administered, and the same after a restart and a re-creation.

    Guests tie their network configuration to it. The cluster is part of it, since two clusters may share a wire.
    """
    digits = ownership.digest(f"{cluster}/{vm.namespace}/{vm.name}/{nic}", 10)
    return ":".join(["02", *(digits[i : i + 2] for i in range(0, 10, 2))])


def firmware_uuid(vm: Meta, purpose: str = "uuid") -> str:
    """The VM's identity for its guest, the same after re-creation: licences and backup tools hold on to it."""
    return _derived_uuid(f"{purpose}/{vm.namespace}/{vm.name}")


@lru_cache(maxsize=4096)
def _derived_uuid(name: str) -> str:
    return str(uuid.uuid5(_IDENTITY, name))


def _pod_labels(cr: api.VirtualMachine) -> dict[str, str]:
    """The VM's own labels, so that Services and placement rules select its pods; KubeVirt's are reserved."""
    mine = {
        label: value
        for label, value in cr.metadata.labels.items()
        if not label.partition("/")[0].endswith(_KUBEVIRT_DOMAIN)
    }
    return {**mine, disks.VM: cr.metadata.name}


def _template(cr: api.VirtualMachine, parts: Parts) -> Tree:
    spec, guest = cr.spec, _guest_volume(cr.spec.guest)
    extra = [guest] if guest else []
    template: Tree = {
        "domain": _domain(cr, parts, [disk for disk, _ in extra]),
        "evictionStrategy": "LiveMigrateIfPossible",
        "terminationGracePeriodSeconds": SHUTDOWN_SECONDS,
    }
    if volumes := [_volume(volume) for volume in parts.volumes] + [volume for _, volume in extra]:
        template["volumes"] = volumes
    if networks := [
        *({"name": card.nic.name, **card.source} for card in parts.cards),
        *(dict(card.network) for card in parts.leaving),
    ]:
        template["networks"] = networks
    if spec.guest:
        template |= _identity_in_guest(spec.guest)
    if spec.placement:
        template |= _placement(cr.metadata.name, spec.placement)
    if parts.failover:
        template["tolerations"] = [*template.get("tolerations", ()), _FAILOVER]
    return template


def _domain(cr: api.VirtualMachine, parts: Parts, guest_disks: Sequence[Tree]) -> Tree:
    spec = cr.spec
    domain: Tree = {"devices": _devices(cr, parts, guest_disks), "firmware": _firmware(cr)}
    if spec.cpu:
        domain["cpu"] = {"sockets": spec.cpu.sockets, "cores": spec.cpu.cores, "threads": spec.cpu.threads}
        if spec.cpu.model:
            domain["cpu"]["model"] = spec.cpu.model
        if spec.cpu.dedicated:
            domain["cpu"]["dedicatedCpuPlacement"] = True
    if spec.memory:
        domain["memory"] = {"guest": spec.memory.size}
        if spec.memory.hugepages:
            domain["memory"]["hugepages"] = {"pageSize": spec.memory.hugepages}
    if spec.reservations and (requests := spec.reservations.manifest()):
        domain["resources"] = {"requests": requests}
    if spec.firmware and spec.firmware.secure_boot:
        domain["features"] = {"smm": {"enabled": True}}
    return domain


def _firmware(cr: api.VirtualMachine) -> Tree:
    said, meta = cr.spec.firmware, cr.metadata
    owner = Meta(name=meta.name, namespace=meta.namespace)
    firmware: Tree = {
        "uuid": (said.uuid.lower() if said and said.uuid else None) or firmware_uuid(owner),
        "serial": (said.serial if said else None) or firmware_uuid(owner, "serial"),
    }
    if said and said.bootloader == "UEFI":
        # Said even when it is off: KubeVirt's default is on.
        firmware["bootloader"] = {"efi": {"secureBoot": said.secure_boot}}
    elif said and said.bootloader == "BIOS":
        firmware["bootloader"] = {"bios": {}}
    return firmware


def _devices(cr: api.VirtualMachine, parts: Parts, guest_disks: Sequence[Tree]) -> Tree:
    spec = cr.spec
    owner = Meta(name=cr.metadata.name, namespace=cr.metadata.namespace)
    devices: Tree = {"rng": {}}
    if drives := [*(_disk(volume.disk) for volume in parts.volumes), *guest_disks]:
        devices["disks"] = drives
    interfaces = [_interface(card, owner, parts.cluster) for card in parts.cards]
    interfaces += [{**card.interface, "state": "absent"} for card in parts.leaving]
    if interfaces:
        devices["interfaces"] = interfaces
    else:
        devices["autoattachPodInterface"] = False
    for field, kind in (("hostDevices", "HostDevice"), ("gpus", "GPU")):
        if chosen := [d for d in spec.devices if d.type == kind]:
            devices[field] = [{"name": device.name, "deviceName": device.resource_name} for device in chosen]
    if spec.firmware and spec.firmware.tpm:
        # Never empty: an apply that empties what it filled before is refused (structured-merge-diff makes it null).
        devices["tpm"] = {"persistent": spec.firmware.tpm == "Persistent"}
    return devices


def _disk(disk: words.Disk) -> Tree:
    drive: Tree = {"name": disk.name, "disk": {"bus": disk.bus}}
    if disk.boot_order:
        drive["bootOrder"] = disk.boot_order
    return drive


def _volume(volume: Volume) -> Tree:
    named = {"name": volume.claim} if volume.source == "dataVolume" else {"claimName": volume.claim}
    if volume.hotplugged:
        return {"name": volume.disk.name, volume.source: {**named, "hotpluggable": True}}
    return {"name": volume.disk.name, volume.source: named}


def _interface(card: Card, owner: Meta, cluster: str) -> Tree:
    nic = card.nic
    interface: Tree = {
        "name": nic.name,
        **card.binding,
        "macAddress": (nic.mac_address or mac_address(cluster, owner, nic.name)).lower(),
    }
    if "sriov" not in card.binding:
        # The guest sees the physical function's model, and its link state is the switch's.
        interface["model"] = nic.model
        interface["state"] = "down" if nic.link_state == "Down" else "up"
    return interface


def _guest_volume(guest: words.Guest | None) -> tuple[Tree, Tree] | None:
    """The disk that carries cloud-init or sysprep data, and its volume."""
    if guest is None:
        return None
    if guest.sysprep:
        kind = "secret" if guest.sysprep.secret_name else "configMap"
        name = guest.sysprep.secret_name or guest.sysprep.config_map_name
        return {"name": SYSPREP, "cdrom": {"bus": "sata"}}, {"name": SYSPREP, "sysprep": {kind: {"name": name}}}
    data = _cloud_init_data(guest)
    if not data:
        return None
    kind = "cloudInitConfigDrive" if _is_config_drive(guest) else "cloudInitNoCloud"
    return {"name": CLOUD_INIT, "disk": {"bus": "virtio"}}, {"name": CLOUD_INIT, kind: data}


def _is_config_drive(guest: words.Guest) -> bool:
    return guest.cloud_init is not None and guest.cloud_init.type == "ConfigDrive"


def _cloud_init_data(guest: words.Guest) -> Tree:
    said = guest.cloud_init
    data: Tree = {}
    if said and said.user_data:
        data["userData"] = said.user_data
    elif said and said.user_data_secret_name:
        data["secretRef"] = {"name": said.user_data_secret_name}
    elif guest.ssh_authorized_keys:
        # Quoted, since a comment such as "me: laptop" would make a map of the key: JSON's strings are YAML's.
        keys = "".join(f"  - {json.dumps(key, ensure_ascii=False)}\n" for key in guest.ssh_authorized_keys)
        data["userData"] = f"#cloud-config\nssh_authorized_keys:\n{keys}"
    elif guest.ssh_key_secret_names:
        # Keys from Secrets travel as metadata, and KubeVirt makes no cloud-init disk without some data.
        data["userData"] = "#cloud-config\n"
    if said and said.network_data:
        data["networkData"] = said.network_data
    elif said and said.network_data_secret_name:
        data["networkDataSecretRef"] = {"name": said.network_data_secret_name}
    return data


def _identity_in_guest(guest: words.Guest) -> Tree:
    fields: Tree = {}
    if guest.hostname:
        fields["hostname"] = guest.hostname
    if guest.ssh_key_secret_names:
        way = "configDrive" if _is_config_drive(guest) else "noCloud"
        fields["accessCredentials"] = [
            {"sshPublicKey": {"source": {"secret": {"secretName": name}}, "propagationMethod": {way: {}}}}
            for name in guest.ssh_key_secret_names
        ]
    return fields


_FAILOVER: Tree = {"key": hosts.FAILOVER_ONLY, "operator": "Exists", "effect": "NoSchedule"}


def on_failover_hosts(template: Mapping[str, Any]) -> bool:
    """Whether a template lets its VM start on hosts that are kept for failover."""
    return _FAILOVER in template.get("tolerations", ())


def _placement(vm: str, placement: words.Placement) -> Tree:
    fields: Tree = {}
    if placement.node_selector:
        fields["nodeSelector"] = dict(placement.node_selector)
    if placement.tolerations:
        fields["tolerations"] = [_toleration(toleration) for toleration in placement.tolerations]
    affinity: Tree = {}
    for rule in placement.affinity:
        side = affinity.setdefault("podAffinity" if rule.type == "Together" else "podAntiAffinity", {})
        term = {"labelSelector": _others(vm, rule), "topologyKey": rule.topology_key}
        if rule.strength == "Must":
            side.setdefault("requiredDuringSchedulingIgnoredDuringExecution", []).append(term)
        else:
            weighted = {"weight": 100, "podAffinityTerm": term}
            side.setdefault("preferredDuringSchedulingIgnoredDuringExecution", []).append(weighted)
    if affinity:
        fields["affinity"] = affinity
    return fields


def _others(vm: str, rule: words.VmAffinity) -> Tree:
    """Other VMs' pods. Not this VM's: while it migrates, it has two."""
    if rule.names:
        return {"matchExpressions": [{"key": disks.VM, "operator": "In", "values": list(rule.names)}]}
    return {
        "matchLabels": dict(rule.match_labels or {}),
        "matchExpressions": [{"key": disks.VM, "operator": "NotIn", "values": [vm]}],
    }


def _toleration(toleration: words.Toleration) -> Tree:
    fields: Tree = {"key": toleration.key, "operator": toleration.operator, "effect": toleration.effect}
    if toleration.value:
        fields["value"] = toleration.value
    if toleration.toleration_seconds is not None:
        fields["tolerationSeconds"] = toleration.toleration_seconds
    return fields
