"""One replica of the operator under test: a process of its own, with the generated RBAC, and killable."""

import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import yaml

from devcluster.cluster import Cluster
from devcluster.processes import die_with_parent
from vdcos import api

ROOT = Path(__file__).parents[2]
NAMESPACE = "vdcos-system"
ACCOUNT = "vdcos"


def install(cluster: Cluster) -> Path:
    """Install CRDs and RBAC. Returns the kubeconfig of the operator's own ServiceAccount, with its generated rights."""
    cluster.kubectl("apply", "--server-side", "-k", str(ROOT / "crds"))
    cluster.kubectl("apply", "--server-side", "-k", str(ROOT / "manifests" / "rbac"))
    definitions = [f"crd/{kind.definition.plural}.vdcos.dev" for kind in api.KINDS.values()]
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", *definitions)
    return cluster.service_account_kubeconfig(NAMESPACE, ACCOUNT)


def through(kubeconfig: Path, url: str, directory: Path) -> Path:
    """A copy of a kubeconfig that goes to another address, for example a proxy."""
    document: dict[str, Any] = yaml.safe_load(kubeconfig.read_text())
    document["clusters"][0]["cluster"] = {"server": url}
    descriptor, name = tempfile.mkstemp(dir=directory, suffix=".kubeconfig")
    with os.fdopen(descriptor, "w") as file:
        yaml.safe_dump(document, file)
    return Path(name)


class Replica:
    """``vdcos run`` as a child process; its log is kept in a file."""

    def __init__(self, kubeconfig: Path, log: Path, *options: str) -> None:
        self._kubeconfig = kubeconfig
        self._options = options
        self.log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    async def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "vdcos",
            "run",
            "--kubeconfig",
            str(self._kubeconfig),
            "--namespace",
            NAMESPACE,
        ]
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                *("--listen", "127.0.0.1:0"),
                *self._options,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(),
            )

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def kill(self) -> None:
        """SIGKILL: no chance to finish anything."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM: in good order."""
        await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.send_signal(number)
        await asyncio.wait_for(self._process.wait(), 30)

    def usage(self) -> tuple[float, float]:
        """CPU seconds used so far, and the peak resident memory in MiB."""
        process = psutil.Process(self.pid)
        times = process.cpu_times()
        peak = next(
            int(line.split()[1]) / 1024
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines()
            if line.startswith("VmHWM:")
        )
        return times.user + times.system, peak
