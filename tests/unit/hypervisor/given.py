"""Views for tests, made the way hosts get them: from what the API server would send."""

from typing import Any, TypeVar

import msgspec

from vdcos.testing.hypervisor.objects import Claim, Object, Pod, Vmi

Seen = TypeVar("Seen", bound=Object)

Json = dict[str, Any]


def view(kind: type[Seen], name: str, **parts: Any) -> Seen:
    """An object of a kind in namespace ns, with uid `uid-NAME`; `metadata` adds to its metadata."""
    metadata = {"name": name, "namespace": "ns", "uid": f"uid-{name}", "resourceVersion": "1"} | parts.pop(
        "metadata", {}
    )
    return msgspec.convert({"metadata": metadata, **parts}, kind)


def pod(name: str = "p", *, labels: dict[str, str] | None = None, annotations: Json | None = None, **parts: Any) -> Pod:
    spec = {"nodeName": "host-1", "containers": [{"name": "c", "image": "image:1"}]} | parts.pop("spec", {})
    metadata = {"labels": labels or {}, "annotations": annotations or {}} | parts.pop("metadata", {})
    return view(Pod, name, metadata=metadata, spec=spec, **parts)


def vmi(**parts: Any) -> Vmi:
    return view(Vmi, "vm", **({"spec": {}} | parts))


def claim(name: str, *, storage_class: str = "fast", size: str = "1Gi", **parts: Any) -> Claim:
    spec = {
        "storageClassName": storage_class,
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
    }
    annotations = {"volume.kubernetes.io/storage-provisioner": "fast.csi.vdcos.dev"}
    metadata = {"annotations": annotations} | parts.pop("metadata", {})
    return view(Claim, name, spec=spec | parts.pop("spec", {}), metadata=metadata, **parts)
