"""One replica of the operator under test: a process of its own, with the generated RBAC, and killable; what it says of
itself, and what the API server says that it wrote.
"""

import asyncio
import json
import os
import re
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import yaml

from devcluster.cluster import Cluster, Write
from devcluster.processes import die_with_parent
from devcluster.waiting import eventually
from vdcos import api

ROOT = Path(__file__).parents[2]
NAMESPACE = "vdcos-system"
ACCOUNT = "vdcos"
USER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
"""As whom the API server knows it."""
CALM = 7.0
"""Seconds: aggregated counts follow what happens by up to 5 s."""
PATIENCE = 240.0
"""Seconds, on a machine that has much else to do."""


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


def writes(cluster: Cluster, since: int) -> list[Write]:
    """What the operator wrote, by the API server's audit log, but for its Lease and its Events."""
    found = cluster.writes(USER, since=since)
    return [write for write in found if write.resource not in ("leases", "events")]


async def quiet(cluster: Cluster) -> None:
    """The operator has written nothing for ``CALM`` seconds."""
    mark, began = cluster.audit_mark(), time.time()

    def calm() -> bool:
        found = writes(cluster, mark)
        last = max([began, *(datetime.fromisoformat(write.at).timestamp() for write in found)])
        assert time.time() - last >= CALM, f"the operator does not come to rest: {found[-3:]}"
        return True

    await _soon(calm)


async def _soon(condition: Callable[[], object]) -> None:
    """Leaves the loop to proxies."""
    await asyncio.to_thread(eventually, condition, PATIENCE)


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
        """By the kernel: asyncio hears of an end only while its loop runs."""
        try:
            return self._process is not None and psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

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

    def said(self, message: str) -> list[dict[str, Any]]:
        """The lines of its log with this message, from its first start on. What is not JSON there fails the test."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in map(json.loads, lines) if line["message"] == message]

    @property
    def address(self) -> str:
        """Host and port of its metrics. Raises IndexError before it listens."""
        return str(self.said("listening")[-1]["address"])

    def scraped(self) -> str:
        """Its metrics, as Prometheus reads them."""
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=10) as response:
            text: str = response.read().decode()
        return text

    def metrics(self) -> dict[str, float]:
        """Samples by name and labels as Prometheus writes them."""
        found = re.findall(r"^([^#\s]+(?:\{.*\})?) (\S+)$", self.scraped(), re.MULTILINE)
        return {name: float(value) for name, value in found}

    def total(self, name: str, *labels: str) -> float:
        """The sum of a metric's samples that have all of these labels."""
        samples = self.metrics().items()
        return sum(v for key, v in samples if key.partition("{")[0] == name and all(label in key for label in labels))

    async def at_rest(self, looks: int) -> None:
        """It has looked at objects so many times since its start, and nothing is due."""
        await _soon(lambda: self.said("listening"))
        await _soon(lambda: self.total("vdcos_reconciles_total") >= looks)
        await _soon(lambda: not self.total("vdcos_queue_depth") and not self.total("vdcos_reconciles_in_flight"))

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
