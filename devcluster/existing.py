"""A cluster that is there already, reached through a kubeconfig's current context: what it is and what it lacks."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from devcluster import layout
from devcluster.cluster import KubectlError
from vdcos.core import preflight
from vdcos.core.objects import Key, Resource, Unreadable
from vdcos.core.preflight import Check

_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_DEFAULT_VIRT_CLASS = "storageclass.kubevirt.io/is-default-virt-class"


class Existing:
    """The cluster behind the current context, pinned: a later ``kubectl config use-context`` does not move us.

    Raises KubectlError where there is no kubectl, no current context, or no answer.
    """

    def __init__(self, directory: Path) -> None:
        found = shutil.which("kubectl")
        if not found:
            raise KubectlError("CLUSTER=current needs kubectl on the PATH")
        self._program = found
        self._directory = directory
        view = json.loads(self._run(None, "config", "view", "--minify", "--flatten", "--raw", "-o", "json"))
        self.context = str(view.get("current-context", ""))
        if not self.context or not view.get("clusters"):
            raise KubectlError("the kubeconfig has no current context: choose one with kubectl config use-context")
        self._cluster: dict[str, Any] = view["clusters"][0]["cluster"]
        self.kubeconfig = directory / "kubeconfig"
        layout.replace(self.kubeconfig, yaml.safe_dump(view))

    @property
    def server(self) -> str:
        return str(self._cluster["server"])

    @property
    def program(self) -> str:
        """The kubectl in use."""
        return self._program

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl; returns what it prints. Raises KubectlError."""
        return self._run(self.kubeconfig, *arguments, stdin=stdin)

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """A kubeconfig for a ServiceAccount that exists: its holder may do what RBAC gives it and no more."""
        token = self.kubectl("create", "token", name, "--namespace", namespace, "--duration", "24h").strip()
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [{"name": name, "cluster": self._cluster}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": namespace}}],
        }
        path = self._directory / f"serviceaccount-{namespace}-{name}.kubeconfig"
        layout.replace(path, yaml.safe_dump(document))
        return path

    def _run(self, kubeconfig: Path | None, *arguments: str, stdin: str | None = None) -> str:
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig)} if kubeconfig else dict(os.environ)
        result = subprocess.run(
            [self._program, *arguments], env=environment, input=stdin, check=False, capture_output=True, text=True
        )
        if result.returncode:
            raise KubectlError(result.stderr.strip() or result.stdout.strip())
        return result.stdout


def inspect(cluster: Existing) -> list[Check]:
    """What the cluster has and lacks of what vdcos builds on. Reads only. Raises KubectlError."""
    groups = {group["name"] for group in json.loads(cluster.kubectl("get", "--raw", "/apis"))["groups"]}

    def read(kind: type[Any]) -> Mapping[Key, Any] | Unreadable:
        resource: Resource = kind.resource
        name = f"{resource.plural}.{resource.group}"
        absent = Unreadable(f"the API {name} is not installed in this cluster")
        if resource.group not in groups:
            return absent
        try:
            items = json.loads(cluster.kubectl("get", name, "-A", "-o", "json"))["items"]
        except KubectlError as error:
            if "the server doesn't have a resource type" in str(error):
                return absent
            if "(Forbidden)" not in str(error):
                raise
            return Unreadable(str(error), forbidden=True)
        found: list[Any] = [msgspec.convert(item, kind) for item in items]
        return {held.metadata.key: held for held in found}

    found = {kind: read(kind) for kind in preflight.KINDS}  # once: each answer is a kubectl
    return preflight.look(found.__getitem__)


def with_classes_of(documents: list[dict[str, Any]], classes: list[dict[str, Any]]) -> list[str]:
    """Let what asks for a storage class that the cluster lacks use its default one; returns what was changed, in words.

    ``documents`` are changed in place. Raises KubectlError when a class is missing and none is the default.
    """
    present = {item["metadata"]["name"] for item in classes}
    default = _default(classes)
    changes = []
    for document in documents:
        spec = document.get("spec", {})
        holder = spec if document["kind"] == "Datastore" else spec.get("storage", {})
        wanted = holder.get("storageClassName")
        if not wanted or wanted in present:
            continue
        if not default:
            raise KubectlError(f"there is no storage class {wanted}, and none is marked as the default one")
        holder["storageClassName"] = default
        changes.append(f"{document['kind']} {document['metadata']['name']} uses {default}: there is no {wanted}")
    return changes


def _default(classes: list[dict[str, Any]]) -> str:
    for annotation in (_DEFAULT_VIRT_CLASS, _DEFAULT_CLASS):
        for item in classes:
            if item["metadata"].get("annotations", {}).get(annotation) == "true":
                return str(item["metadata"]["name"])
    return ""
