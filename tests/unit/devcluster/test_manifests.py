"""What is installed into a cluster, as far as it depends on the cluster."""

import base64
from typing import Any

import pytest

from devcluster import kube, manifests


def definition(kind: str) -> dict[str, Any]:
    return {"kind": "CustomResourceDefinition", "metadata": {"name": kind}, "spec": {"names": {"kind": kind}}}


def webhook(kind: str, service: str) -> dict[str, Any]:
    client = {"service": {"name": service, "namespace": "x", "path": "/judge", "port": 443}}
    return {"kind": kind, "metadata": {"name": kind}, "webhooks": [{"name": "one", "clientConfig": client}]}


PRINTED = [
    definition("VirtualMachine"),
    webhook("MutatingWebhookConfiguration", "virt-api"),
    definition("KubeVirt"),
    webhook("ValidatingWebhookConfiguration", "cdi-api"),
    {"kind": "APIService", "metadata": {"name": "v1.x"}, "spec": {"version": "v1", "service": {"name": "cdi-api"}}},
    {"kind": "ClusterRole", "metadata": {"name": "role"}},
]


@pytest.fixture
def waves() -> manifests.Waves:
    return manifests.waves(PRINTED, manifests.Endpoints(1111, 2222), b"authority", b"private", b"public")


def test_webhooks_call_the_loopback_address_and_trust_our_authority(waves: manifests.Waves) -> None:
    bundle = base64.b64encode(b"authority").decode()
    clients = [each["webhooks"][0]["clientConfig"] for each in waves.registrations if "webhooks" in each]
    assert clients == [
        {"url": "https://127.0.0.1:1111/judge", "caBundle": bundle},
        {"url": "https://127.0.0.1:2222/judge", "caBundle": bundle},
    ]
    assert "service" in PRINTED[1]["webhooks"][0]["clientConfig"], "the printed manifests serve other clusters, too"


def test_apiservices_keep_their_service_and_get_its_port(waves: manifests.Waves) -> None:
    (service,) = (each for each in waves.registrations if each["kind"] == "APIService")
    assert service["spec"]["service"] == {"name": "cdi-api", "port": 2222}
    assert service["spec"]["version"] == "v1"


def test_what_the_objects_need_is_defined_first(waves: manifests.Waves) -> None:
    kinds = [each["metadata"]["name"] for each in waves.definitions if each["kind"] == "CustomResourceDefinition"]
    assert kinds == ["KubeVirt", "VirtualMachine"]
    assert {each["metadata"]["name"] for each in waves.definitions if each["kind"] == "Namespace"} == {
        "kubevirt",
        "cdi",
    }


def test_objects_are_printed_ones_and_our_own(waves: manifests.Waves) -> None:
    objects = {(each["kind"], each["metadata"]["name"]): each for each in waves.objects}
    assert len(objects) == len(waves.objects), "two objects of one name"
    assert ("ClusterRole", "role") in objects
    key = objects["Secret", "cdi-api-signing-key"]["data"]
    assert {name: base64.b64decode(value) for name, value in key.items()} == {
        "id_rsa": b"private",
        "id_rsa.pub": b"public",
    }


def test_each_storage_class_has_a_driver_and_a_profile_and_one_is_the_default(waves: manifests.Waves) -> None:
    by_kind: dict[str, dict[str, Any]] = {}
    for each in waves.objects:
        by_kind.setdefault(each["kind"], {})[each["metadata"]["name"]] = each
    classes = by_kind["StorageClass"]
    assert by_kind["StorageProfile"].keys() == classes.keys()
    assert by_kind["CSIDriver"].keys() == {each["provisioner"] for each in classes.values()}
    assert {each["driver"] for each in by_kind["VolumeSnapshotClass"].values()} < by_kind["CSIDriver"].keys()
    default = "storageclass.kubernetes.io/is-default-class"
    assert [name for name, each in classes.items() if each["metadata"]["annotations"].get(default) == "true"] == [
        "block-rwx"
    ]


@pytest.mark.parametrize(
    ("kind", "resource"),
    [
        ("VirtualMachine", "virtualmachines"),
        ("StorageClass", "storageclasses"),
        ("MigrationPolicy", "migrationpolicies"),
        ("APIService", "apiservices"),
        ("CDI", "cdis"),
    ],
)
def test_plural(kind: str, resource: str) -> None:
    assert kube.plural(kind) == resource


@pytest.mark.parametrize(
    ("api_version", "namespace", "path"),
    [
        ("v1", "", "/api/v1/secrets"),
        ("v1", "a", "/api/v1/namespaces/a/secrets"),
        ("g.dev/v1", "a", "/apis/g.dev/v1/namespaces/a/secrets"),
    ],
)
def test_collection(api_version: str, namespace: str, path: str) -> None:
    metadata = {"name": "x"} | ({"namespace": namespace} if namespace else {})
    assert kube.collection({"apiVersion": api_version, "kind": "Secret", "metadata": metadata}) == path
