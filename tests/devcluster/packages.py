"""The two ways in which vdcos is installed, by the real tools: Helm, and kubectl's kustomize."""

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from devcluster import build

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "manifests"
CHART = MANIFESTS / "helm" / "vdcos"
OVERLAYS = sorted(path.name for path in (MANIFESTS / "overlays").iterdir())
NAMESPACE = "vdcos-system"

Object = dict[str, Any]
Objects = dict[tuple[str, str, str], Object]
"""By kind, namespace and name."""


class HelmError(Exception):
    """helm ended with an error; the message is what it printed."""


class Helm:
    """The built helm, with caches and settings of its own. Without a kubeconfig it reaches no cluster."""

    def __init__(self, program: Path, directory: Path, kubeconfig: Path | None = None) -> None:
        self._program = program
        homes = {f"HELM_{what}_HOME": str(directory / what.lower()) for what in ("CACHE", "CONFIG", "DATA")}
        self._environment = {**os.environ, **homes, "KUBECONFIG": str(kubeconfig or os.devnull)}

    def __call__(self, *arguments: str) -> str:
        """Run a command; returns what it prints. Raises HelmError."""
        process = self.start(*arguments)
        out, errors = process.communicate()
        if process.returncode:
            raise HelmError(f"{errors.strip()}\n{out.strip()}")
        return out

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin a command whose course somebody else has a part in."""
        return subprocess.Popen(
            [self._program, *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def template(self, *options: str, namespace: str = NAMESPACE) -> Objects:
        """What the chart would install, without tests."""
        return objects(self("template", "vdcos", str(CHART), "--namespace", namespace, "--skip-tests", *options))


def version() -> str:
    """Of the application in the chart."""
    return str(yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"])


def programs() -> Mapping[str, Path]:
    """helm and kubectl, among others; built if they are not yet."""
    return build.ensure(build.console_report, more=[build.HELM]).programs


def kustomize(kubectl: Path, directory: Path) -> Objects:
    """What a kustomization gives."""
    return objects(subprocess.run([kubectl, "kustomize", directory], check=True, capture_output=True, text=True).stdout)


def kustomization(kubectl: Path, component: Path, *theirs: Object) -> Objects:
    """What a kustomization gives that somebody else wrote: a component of ours, and objects of his own."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name).resolve()
        content: Object = {"components": [os.path.relpath(component, directory)]}
        if theirs:
            (directory / "theirs.yaml").write_text(yaml.safe_dump_all(theirs))
            content["resources"] = ["theirs.yaml"]
        (directory / "kustomization.yaml").write_text(yaml.safe_dump(content))
        return kustomize(kubectl, directory)


def objects(text: str) -> Objects:
    """The manifests of a text. Raises ValueError when one is there twice."""
    found: Objects = {}
    for document in yaml.safe_load_all(text):
        if document:
            metadata = document["metadata"]
            identity = (document["kind"], metadata.get("namespace", ""), metadata["name"])
            if identity in found:
                raise ValueError(f"{identity} is there twice")
            found[identity] = document
    return found
