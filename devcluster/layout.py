"""Where a cluster keeps what, and the record by which others find it."""

import csv
import dataclasses
import json
import os
import secrets
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

Phase = Literal["starting", "ready", "stopping", "stopped", "failed"]

ADMIN = "admin"
PORTS = ("apiserver", "virt-api", "virt-controller", "cdi-api", "handler", "control", "bmc")

_CONTROLLER = "system:serviceaccount:kubevirt:kubevirt-controller"
_IDENTITIES = {
    # file: user, groups. KubeVirt's webhooks let only these names change what virt-controller changes.
    ADMIN: ("admin", ("system:masters",)),
    "virt-controller": (_CONTROLLER, ("system:serviceaccounts", "system:serviceaccounts:kubevirt")),
    "virt-api": (
        "system:serviceaccount:kubevirt:kubevirt-apiserver",
        ("system:serviceaccounts", "system:serviceaccounts:kubevirt"),
    ),
    "cdi-controller": ("system:serviceaccount:cdi:cdi-sa", ("system:serviceaccounts", "system:serviceaccounts:cdi")),
    "cdi-apiserver": (
        "system:serviceaccount:cdi:cdi-apiserver",
        ("system:serviceaccounts", "system:serviceaccounts:cdi"),
    ),
    "hosts": (_CONTROLLER, ("system:masters",)),
}


@dataclass(frozen=True)
class Layout:
    """The files of the cluster in one directory."""

    directory: Path

    @property
    def record(self) -> Path:
        return self.directory / "cluster.json"

    @property
    def lock(self) -> Path:
        return self.directory / "lock"

    @property
    def pki(self) -> Path:
        return self.directory / "pki"

    @property
    def tokens(self) -> Path:
        return self.directory / "tokens.csv"

    @property
    def bmc_password(self) -> Path:
        return self.directory / "bmc-password"

    @property
    def audit_policy(self) -> Path:
        return self.directory / "audit-policy.yaml"

    @property
    def audit(self) -> Path:
        return self.directory / "audit.log"

    @property
    def ledger(self) -> Path:
        return self.directory / "ledger.jsonl"

    @property
    def supervisor_log(self) -> Path:
        return self.directory / "logs" / "supervisor.log"

    def kubeconfig(self, identity: str = ADMIN) -> Path:
        return self.directory / ("kubeconfig" if identity == ADMIN else f"{identity}.kubeconfig")


@dataclass
class ProcessRecord:
    """One process as its supervisor last saw it."""

    name: str
    pid: int | None
    port: int | None
    restarts: int
    log: str


@dataclass
class Record:
    """What ``cluster.json`` says: written by the supervisor alone, whole, whenever something changes."""

    phase: Phase
    step: str
    hosts: int
    supervisor: int
    ports: dict[str, int]
    versions: dict[str, str]
    kubectl: str = ""
    started: float = 0.0
    seconds_to_ready: float | None = None
    error: str = ""
    processes: list[ProcessRecord] = field(default_factory=list)

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.ports['apiserver']}"

    @property
    def hosts_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['control']}"

    @property
    def bmc_url(self) -> str:
        return f"https://127.0.0.1:{self.ports['bmc']}"

    def write(self, layout: Layout) -> None:
        document = dataclasses.asdict(self)
        document |= {"server": self.server, "hostsControl": self.hosts_url, "kubeconfig": str(layout.kubeconfig())}
        document |= {"bmc": self.bmc_url}
        replace(layout.record, json.dumps(document, indent=2) + "\n")


def read_record(layout: Layout) -> Record | None:
    """The record, or None where no cluster has been yet."""
    try:
        document = json.loads(layout.record.read_text())
    except FileNotFoundError:
        return None
    processes = [ProcessRecord(**process) for process in document.pop("processes")]
    known = {name.name for name in dataclasses.fields(Record)}
    return Record(**{key: value for key, value in document.items() if key in known}, processes=processes)


def ensure_tokens(layout: Layout) -> dict[str, str]:
    """The bearer token of each identity, made once; the file is what ``--token-auth-file`` reads."""
    if not layout.tokens.exists():
        lines = [
            f'{secrets.token_urlsafe(24)},{user},{name},"{",".join(groups)}"'
            for name, (user, groups) in _IDENTITIES.items()
        ]
        replace(layout.tokens, "\n".join(lines) + "\n")
    with layout.tokens.open(newline="") as file:
        return {name: token for token, _user, name, _groups in csv.reader(file)}


def ensure_bmc_password(layout: Layout) -> str:
    """The password of the hosts' BMCs, made once."""
    if not layout.bmc_password.exists():
        replace(layout.bmc_password, secrets.token_urlsafe(18) + "\n")
    return layout.bmc_password.read_text().strip()


def write_kubeconfig(path: Path, server: str, ca: Path, user: dict[str, Any], namespace: str = "default") -> Path:
    """``user`` is a kubeconfig user: a token, or the paths of a client certificate and its key."""
    name = "devcluster"
    context = {"cluster": name, "user": name, "namespace": namespace}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority": str(ca)}}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": context}],
    }
    replace(path, yaml.safe_dump(document))
    return path


def replace(path: Path, text: str) -> None:
    """Write a private file so that a reader sees the old or the new content, never a part."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    os.replace(temporary, path)
