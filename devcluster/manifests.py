"""What a cluster holds before anybody uses it: what virt-operator, cdi-operator and an administrator would make.

Pure: ports, certificates and the printed manifests go in, objects come out, in the three waves in which they can be
created.
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from devcluster import build

Object = dict[str, Any]

NAMESPACES = ("kubevirt", "cdi")
HOST_DEVICES = {"10DE:1EB8": "nvidia.com/TU104GL_Tesla_T4", "144D:A824": "vdcos.dev/nvme"}
"""PCI vendor and device of what may be passed through, and the resource by which nodes offer it."""

_DEFINITIONS = ("CustomResourceDefinition",)
_REGISTRATIONS = ("APIService", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


@dataclass(frozen=True)
class StorageClass:
    """A class of storage and what CDI's StorageProfile says of it. The first claim property set is the default one.

    ``parameters`` are for the simulated arrays, see :mod:`vdcos.testing.hypervisor.storage`.
    """

    name: str
    provisioner: str
    claim_property_sets: tuple[tuple[str, str], ...]  # (access mode, volume mode)
    binding: str = "Immediate"
    expansion: bool = True
    snapshots: bool = False
    clone_strategy: str = "copy"
    default: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def annotations(self) -> dict[str, str]:
        if not self.default:
            return {}
        return {
            "storageclass.kubernetes.io/is-default-class": "true",
            "storageclass.kubevirt.io/is-default-virt-class": "true",
        }


_BLOCK = (("ReadWriteMany", "Block"), ("ReadWriteOnce", "Block"), ("ReadWriteOnce", "Filesystem"))
_SHARED_FILES = (("ReadWriteMany", "Filesystem"), ("ReadWriteOnce", "Filesystem"))
_LOCAL_FILES = (("ReadWriteOnce", "Filesystem"),)

STORAGE_CLASSES = (
    StorageClass("block-rwx", "block.csi.vdcos.dev", _BLOCK, snapshots=True, clone_strategy="csi-clone", default=True),
    StorageClass("nfs-rwx", "nfs.csi.vdcos.dev", _SHARED_FILES, parameters={"snapshot": "false"}),
    StorageClass(
        "file-rwo",
        "file.csi.vdcos.dev",
        _LOCAL_FILES,
        binding="WaitForFirstConsumer",
        expansion=False,
        parameters={"snapshot": "false", "expand": "none", "topology": "node"},
    ),
    StorageClass("small-rwx", "small.csi.vdcos.dev", _BLOCK, parameters={"capacityBytes": "8Gi", "expand": "offline"}),
)


@dataclass(frozen=True)
class Endpoints:
    """Where the servers listen that the API server calls."""

    virt_api: int
    cdi_api: int


@dataclass(frozen=True)
class Waves:
    """Each wave needs what the one before it created; the last also needs its servers to listen."""

    definitions: list[Object]
    objects: list[Object]
    registrations: list[Object]


def waves(printed: Iterable[Object], endpoints: Endpoints, ca: bytes, clone_key: bytes, clone_public: bytes) -> Waves:
    """Sort the printed manifests and our own objects into waves; ``ca`` and the keys are PEM."""
    definitions: list[Object] = [_object("v1", "Namespace", name) for name in NAMESPACES]
    objects: list[Object] = []
    registrations: list[Object] = []
    for item in printed:
        if item["kind"] in _DEFINITIONS:
            definitions.append(item)
        elif item["kind"] in _REGISTRATIONS:
            registrations.append(_registered(item, endpoints, _text64(ca)))
        else:
            objects.append(item)
    objects += [
        *_authorities(ca.decode()),
        _secret("cdi", "cdi-api-signing-key", {"id_rsa": clone_key, "id_rsa.pub": clone_public}),
        *(_external_name(namespace, name) for namespace, name in (("kubevirt", "virt-api"), ("cdi", "cdi-api"))),
        kubevirt(),
        *_cdi(),
        *_storage(),
        _virt_handler(),
    ]
    # What the next wave needs is defined first, and thus served when the last of the others is created.
    used = {item["kind"] for item in objects}
    definitions.sort(key=lambda item: item.get("spec", {}).get("names", {}).get("kind") not in used)
    return Waves(definitions, objects, registrations)


def _object(api_version: str, kind: str, name: str, namespace: str = "", **content: Any) -> Object:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}


def _text64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _secret(namespace: str, name: str, data: Mapping[str, bytes]) -> Object:
    return _object("v1", "Secret", name, namespace, data={key: _text64(value) for key, value in data.items()})


def _authorities(ca: str) -> list[Object]:
    wanted = (
        ("kubevirt", "kubevirt-ca", "ca-bundle"),
        ("kubevirt", "kubevirt-export-ca", "ca-bundle"),
        ("kubevirt", "kubevirt-backup-ca", "ca-bundle"),
        ("cdi", "cdi-uploadserver-signer-bundle", "ca-bundle.crt"),
        ("cdi", "cdi-uploadserver-client-signer-bundle", "ca-bundle.crt"),
    )
    return [_object("v1", "ConfigMap", name, namespace, data={key: ca}) for namespace, name, key in wanted]


def _external_name(namespace: str, name: str) -> Object:
    # An APIService takes no URL, a ClusterIP has no kube-proxy here and EndpointSlices refuse loopback addresses:
    # an ExternalName is what the aggregator dials as https://localhost:<port of the APIService>.
    return _object("v1", "Service", name, namespace, spec={"type": "ExternalName", "externalName": "localhost"})


def _registered(item: Object, endpoints: Endpoints, ca_bundle: str) -> Object:
    """Put the loopback address and the authority into a webhook configuration or an APIService."""
    ports = {"virt-api": endpoints.virt_api, "cdi-api": endpoints.cdi_api}
    if item["kind"] == "APIService":
        service = item["spec"]["service"]
        port = ports[service["name"]]
        return item | {"spec": item["spec"] | {"service": service | {"port": port}, "caBundle": ca_bundle}}
    webhooks = []
    for webhook in item["webhooks"]:
        service = webhook["clientConfig"]["service"]
        url = f"https://127.0.0.1:{ports[service['name']]}{service['path']}"
        webhooks.append(webhook | {"clientConfig": {"url": url, "caBundle": ca_bundle}})
    return item | {"webhooks": webhooks}


def kubevirt() -> Object:
    """The KubeVirt resource as an administrator of a live-updating datacenter writes it."""
    configuration = {
        "evictionStrategy": "LiveMigrate",
        "vmRolloutStrategy": "LiveUpdate",
        "developerConfiguration": {
            "featureGates": ["Snapshot", "DeclarativeHotplugVolumes", "HostDevices", "ExpandDisks"]
        },
        "permittedHostDevices": {
            "pciHostDevices": [
                {"pciVendorSelector": selector, "resourceName": resource} for selector, resource in HOST_DEVICES.items()
            ]
        },
    }
    update = {"workloadUpdateMethods": ["LiveMigrate"], "batchEvictionInterval": "10s"}
    spec = {"configuration": configuration, "workloadUpdateStrategy": update}
    return _object("kubevirt.io/v1", "KubeVirt", "kubevirt", "kubevirt", spec=spec, status=kubevirt_status())


def kubevirt_status() -> Object:
    """What virt-operator reports. Without the architecture virt-api refuses every VMI."""
    return {
        "phase": "Deployed",
        "defaultArchitecture": "amd64",
        "observedKubeVirtVersion": build.KUBEVIRT,
        "targetKubeVirtVersion": build.KUBEVIRT,
        "operatorVersion": build.KUBEVIRT,
        "conditions": [
            {"type": "Available", "status": "True", "reason": "AllComponentsReady"},
            {"type": "Progressing", "status": "False", "reason": "AllComponentsReady"},
            {"type": "Degraded", "status": "False", "reason": "AllComponentsReady"},
        ],
    }


def _cdi() -> list[Object]:
    version = {"operatorVersion": build.CDI, "targetVersion": build.CDI, "observedVersion": build.CDI}
    cdi = _object("cdi.kubevirt.io/v1beta1", "CDI", "cdi", spec={}, status={"phase": "Deployed", **version})
    config = _object(
        "cdi.kubevirt.io/v1beta1", "CDIConfig", "config", spec={"featureGates": ["HonorWaitForFirstConsumer"]}
    )
    return [cdi, config]


def _storage() -> list[Object]:
    made: list[Object] = []
    for storage in STORAGE_CLASSES:
        storage_class = _object(
            "storage.k8s.io/v1",
            "StorageClass",
            storage.name,
            provisioner=storage.provisioner,
            reclaimPolicy="Delete",
            volumeBindingMode=storage.binding,
            allowVolumeExpansion=storage.expansion,
        )
        storage_class["metadata"]["annotations"] = storage.annotations
        if storage.parameters:  # immutable, and an empty map is not what the API server gives back for none
            storage_class["parameters"] = dict(storage.parameters)
        claims = [{"accessModes": [access], "volumeMode": mode} for access, mode in storage.claim_property_sets]
        made += [
            storage_class,
            _object("storage.k8s.io/v1", "CSIDriver", storage.provisioner, spec={"attachRequired": False}),
            _object(
                "cdi.kubevirt.io/v1beta1",
                "StorageProfile",
                storage.name,
                spec={"claimPropertySets": claims, "cloneStrategy": storage.clone_strategy},
            ),
        ]
        if storage.snapshots:
            snapshot_class = _object(
                "snapshot.storage.k8s.io/v1",
                "VolumeSnapshotClass",
                storage.name,
                driver=storage.provisioner,
                deletionPolicy="Delete",
            )
            made.append(snapshot_class)
    return made


def _virt_handler() -> Object:
    """Only its pods matter: virt-api finds the handler of a host through them. The hosts play what is inside."""
    labels = {"kubevirt.io": "virt-handler"}
    pod = {
        "serviceAccountName": "kubevirt-handler",
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "virt-handler", "image": f"quay.io/kubevirt/virt-handler:{build.KUBEVIRT}"}],
    }
    spec = {
        "selector": {"matchLabels": labels},
        "updateStrategy": {"type": "RollingUpdate"},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    return _object("apps/v1", "DaemonSet", "virt-handler", "kubevirt", spec=spec)
