"""Manifests for tests, with just what a test wants to say."""

from collections.abc import Mapping, Sequence
from typing import Any

from vdcos.core import disks, quantity

Tree = dict[str, Any]

VDCOS = "vdcos.dev/v1alpha1"


def _object(api_version: str, kind: str, name: str, namespace: str = "", **fields: Any) -> Tree:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {}), **fields.pop("metadata", {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}


def namespace(name: str, labels: Mapping[str, str] | None = None, **metadata: Any) -> Tree:
    return _object("v1", "Namespace", name, metadata={"labels": dict(labels or {}), **metadata})


def node(name: str, *devices: str) -> Tree:
    """A host that has ten of each device."""
    return _object("v1", "Node", name, status={"allocatable": {"cpu": "8", **dict.fromkeys(devices, "10")}})


def network(name: str, allowed: str = "All", metadata: Mapping[str, Any] | None = None, **spec: Any) -> Tree:
    spec.setdefault("allowedNamespaces", {"from": allowed})
    return _object(VDCOS, "Network", name, metadata=dict(metadata or {}), spec=spec)


def datastore(name: str, storage_class: str = "block", metadata: Mapping[str, Any] | None = None, **spec: Any) -> Tree:
    spec = {"storageClassName": storage_class, "allowedNamespaces": {"from": "All"}, **spec}
    return _object(VDCOS, "Datastore", name, metadata=dict(metadata or {}), spec=spec)


def machine(where: str, *, networks: Sequence[str] = (), stores: Mapping[str, str] | None = None) -> Tree:
    """A VirtualMachine, ``namespace/name``, with a NIC on each network and disks by name on their datastores."""
    space, _, name = where.partition("/")
    spec: Tree = {"cpu": {"sockets": 1}, "memory": {"size": "1Gi"}}
    spec["nics"] = [{"name": f"nic{number}", "network": network} for number, network in enumerate(networks)]
    spec["disks"] = [
        {"name": disk, "size": "1Gi", "datastore": datastore} for disk, datastore in (stores or {}).items()
    ]
    return _object(VDCOS, "VirtualMachine", name, space, spec=spec)


def instance(where: str, *definitions: str, created: str = "2026-01-01T00:00:00Z", **status: Any) -> Tree:
    """A running VM, ``namespace/name``, whose interfaces were made from these definitions."""
    space, _, name = where.partition("/")
    networks = [{"name": f"nic{n}", "multus": {"networkName": used}} for n, used in enumerate(definitions)]
    return _object(
        "kubevirt.io/v1",
        "VirtualMachineInstance",
        name,
        space,
        metadata={"creationTimestamp": created},
        spec={"networks": [{"name": "default", "pod": {}}, *networks]},
        status={"phase": "Running", **status},
    )


def definition(where: str, config: str = "{}", **metadata: Any) -> Tree:
    """A NetworkAttachmentDefinition, ``namespace/name``, that somebody else wrote."""
    space, _, name = where.partition("/")
    return _object(
        "k8s.cni.cncf.io/v1",
        "NetworkAttachmentDefinition",
        name,
        space,
        metadata=metadata,
        spec={"config": config},
    )


def disk(where: str, vm: str, name: str, datastore: str, size: str = "1Gi", claim: str = "") -> tuple[Tree, ...]:
    """A disk's DataVolume in namespace ``where``, and its claim when that requests a size."""
    requested = {disks.REQUESTED: str(quantity.whole(size))}
    metadata = {"labels": disks.labels(vm, name, datastore), "annotations": requested}
    asked = {"storage": {"resources": {"requests": {"storage": size}}}}
    volume = _object(
        "cdi.kubevirt.io/v1beta1", "DataVolume", disks.name(vm, name), where, metadata=metadata, spec=asked
    )
    if not claim:
        return (volume,)
    owner = {
        "apiVersion": volume["apiVersion"],
        "kind": volume["kind"],
        "name": volume["metadata"]["name"],
        "uid": "",
        "controller": True,
    }
    spec = {"resources": {"requests": {"storage": claim}}}
    owned = {**metadata, "ownerReferences": [owner]}
    return volume, _object("v1", "PersistentVolumeClaim", disks.name(vm, name), where, metadata=owned, spec=spec)


def storage_class(name: str, driver: str = "csi.example", expansion: bool = True) -> Tree:
    return _object("storage.k8s.io/v1", "StorageClass", name, provisioner=driver, allowVolumeExpansion=expansion)


def snapshot_class(name: str, driver: str = "csi.example") -> Tree:
    return _object("snapshot.storage.k8s.io/v1", "VolumeSnapshotClass", name, driver=driver)


def storage_profile(name: str, *sets: tuple[str, Sequence[str]], clone: str = "") -> Tree:
    """What CDI knows about a storage class; ``sets`` are volume modes with their access modes."""
    properties = [{"volumeMode": mode, "accessModes": list(access)} for mode, access in sets]
    status = {"claimPropertySets": properties, **({"cloneStrategy": clone} if clone else {})}
    return _object("cdi.kubevirt.io/v1beta1", "StorageProfile", name, status=status)
