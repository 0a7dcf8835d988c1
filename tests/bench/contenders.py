"""Who does the job, how each is started, and how long it takes: every run is measured by the same watcher."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from devcluster.processes import die_with_parent
from devcluster.waiting import until
from tests.bench import load
from tests.bench.plane import ROOT, BenchError, Json, Meter, Plane, Write, environment
from vdcos.core import kinds
from vdcos.core.foreign.cdi import DataVolume
from vdcos.core.foreign.kubevirt import VirtualMachine
from vdcos.core.objects import Resource

_AGGREGATES = re.compile(r" (networks|datastores|events)\.")
PATIENCE = 900.0
"""Seconds after which a run that does not end is given up."""


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    uid: str = ""
    generation: int = 0
    resource_version: str = ""


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    observed_generation: int = -1


class _Slim(msgspec.Struct, frozen=True):
    metadata: _Meta
    status: _Status = _Status()


class _Event(msgspec.Struct, frozen=True):
    type: str
    object: _Slim


_decode = msgspec.json.Decoder(_Event).decode


class Watcher:
    """Sees what becomes of a namespace's VirtualMachines: when the first child was there, when the last status."""

    def __init__(self, plane: Plane, namespace: str, wanted: int) -> None:
        self._plane = plane
        self._namespace = namespace
        self._wanted = wanted
        self._told: set[str] = set()
        self.first = 0.0
        self.last = 0.0
        self.cpu_at_first: dict[str, float] = {}
        self.began = asyncio.Event()
        self.finished = asyncio.Event()

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator["Watcher"]:
        resources = (kinds.VIRTUAL_MACHINE, VirtualMachine.resource, DataVolume.resource)
        tasks = [asyncio.create_task(self._follow(resource, await self._version(resource))) for resource in resources]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _version(self, resource: Resource) -> str:
        listed = await self._plane.request("GET", f"{resource.path(self._namespace)}?limit=1")
        return str(listed["metadata"]["resourceVersion"])

    async def _follow(self, resource: Resource, version: str) -> None:
        url = f"{self._plane.server}{resource.path(self._namespace)}"
        query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "3600"}
        own = resource == kinds.VIRTUAL_MACHINE
        async with self._plane.session.get(url, params=query) as response:
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._see(own, line)

    def _see(self, own: bool, line: bytes) -> None:
        if not own:
            if not self.first:
                self.first = time.time()
                self.cpu_at_first = self._plane.cpu()
                self.began.set()
            return
        seen = _decode(line).object
        if seen.status.observed_generation == seen.metadata.generation:
            self._told.add(seen.metadata.name)
            self.last = time.time()
            if len(self._told) >= self._wanted:
                self.finished.set()


@dataclass
class Run:
    """One contender's run over ``count`` VirtualMachines."""

    name: str
    count: int
    seconds: float
    """From the first child to the last status."""
    plane_cpu: dict[str, float]
    """Seconds in that time, by program of the control plane."""
    client_cpu: float = 0.0
    first_write: float = 0.0
    """Seconds from the start of the process to the first child."""
    rss_peak: float = 0.0
    rss_steady: float = 0.0
    writes: dict[str, int] = field(default_factory=dict)
    """By ``verb resource/subresource``, as the API server counted them."""

    @property
    def rate(self) -> float:
        return self.count / self.seconds

    @property
    def all_cpu(self) -> float:
        """Seconds of processor time of all that took part."""
        return sum(self.plane_cpu.values()) + self.client_cpu

    @property
    def writes_per_vm(self) -> float:
        """Of the VM, its child and its disk. What is said of networks and datastores does not grow with VMs."""
        of_vms = (number for name, number in self.writes.items() if not _AGGREGATES.search(name))
        return sum(of_vms) / self.count

    @property
    def other_writes(self) -> int:
        return sum(number for name, number in self.writes.items() if _AGGREGATES.search(name))

    def figures(self) -> Json:
        """For people and for JSON."""
        return {
            "contender": self.name,
            "vms": self.count,
            "vms_per_s": round(self.rate, 1),
            "writes_per_vm": round(self.writes_per_vm, 3),
            "other_writes": self.other_writes,
            "apiserver_cpu_ms_per_vm": round(self.plane_cpu.get("kube-apiserver", 0) * 1000 / self.count, 2),
            "etcd_cpu_ms_per_vm": round(self.plane_cpu.get("etcd", 0) * 1000 / self.count, 2),
            "client_cpu_ms_per_vm": round(self.client_cpu * 1000 / self.count, 2),
            "all_cpu_ms_per_vm": round(self.all_cpu * 1000 / self.count, 2),
            "first_write_s": round(self.first_write, 2),
            "rss_peak_mb": round(self.rss_peak, 1),
            "rss_steady_mb": round(self.rss_steady, 1),
            "writes": self.writes,
        }


@dataclass(frozen=True)
class Contender:
    """A program that converges VirtualMachines. ``{trace}`` in its environment is a file of its own."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]

    @contextlib.asynccontextmanager
    async def running(self, plane: Plane) -> AsyncIterator["Operator"]:
        log = plane.directory / f"{self.name}.log"
        trace = self.environment.get("VDCOS_BENCH_TRACE", "")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{trace}.now")  # it tells of the one before
        with log.open("wb") as output:
            started = time.time()
            process = await asyncio.create_subprocess_exec(
                *self.command,
                cwd=plane.directory,
                env={**environment(), **self.environment},
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent(),
            )
        operator = Operator(process, log, started, trace)
        try:
            yield operator
        finally:
            await operator.stop()


class Operator:
    """A contender that runs."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, started: float, trace: str) -> None:
        self._process = process
        self._trace = trace
        self.log = log
        self.started = started
        self.meter = Meter(process.pid)

    def check(self) -> None:
        """Raises BenchError when it has ended."""
        if self._process.returncode is not None:
            raise BenchError(f"the operator ended with {self._process.returncode}: see {self.log}")

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), 20)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()

    def trace(self) -> Json:
        """What ``tests.bench.operator`` saw; after ``stop``."""
        said: Json = json.loads(Path(self._trace).read_text())
        return said

    def looks(self) -> tuple[int, int]:
        """How many looks there were, and how many are due or under way (vdcos only)."""
        try:
            had, unfinished = map(int, Path(f"{self._trace}.now").read_text().split())
        except (FileNotFoundError, ValueError):  # it has not said anything yet
            return 0, 1
        return had, unfinished

    async def quiet(self, *, looks: int = 0) -> float:
        """Wait until nothing is due or under way (vdcos only), and ``looks`` looks were had. Returns the Unix time."""
        calm = 0
        since = 0.0

        async def rests() -> bool:
            nonlocal calm, since
            self.check()
            had, unfinished = self.looks()
            if unfinished or had < looks:
                calm = 0
            else:
                since = since if calm else time.time()
                calm += 1
            return calm == 4

        try:
            await until(rests, PATIENCE, every=0.25)
        except TimeoutError:
            raise BenchError(f"the operator does not come to rest: see {self.log}") from None
        return since


def vdcos(plane: Plane, directory: Path) -> Contender:
    command = [sys.executable, "-m", "tests.bench.operator", "--kubeconfig", str(plane.operator_kubeconfig)]
    trace = str(directory / "trace.json")
    return Contender("vdcos", [*command, "--standalone", "--listen", "127.0.0.1:0"], {"VDCOS_BENCH_TRACE": trace})


def controller_runtime(plane: Plane, templates: Path, workers: int) -> Contender:
    options = ["-config", str(plane.kubeconfig), "-template", str(templates), "-workers", str(workers)]
    return Contender(f"controller-runtime-{workers}", [plane.artifacts["bench-peer"], *options], {})


def kopf(plane: Plane, templates: Path) -> Contender:
    script = str(ROOT / "tests" / "bench" / "kopf_peer.py")
    command = [sys.executable, "-m", "kopf", "run", "--standalone", "--all-namespaces", script]
    return Contender("kopf", command, {"KUBECONFIG": str(plane.kubeconfig), "BENCH_TEMPLATE": str(templates)})


async def measure(plane: Plane, contender: Contender, namespace: str, count: int) -> Run:
    """Declare VirtualMachines, start the contender, and wait until all is written; check it, and remove it again."""
    await load.make_namespace(plane, namespace)
    await load.declare(plane, namespace, range(count))
    before = await plane.writes()
    async with Watcher(plane, namespace, count).watching() as watcher, contender.running(plane) as operator:
        await _event(watcher.began, operator)
        cpu = operator.meter.cpu()
        await _event(watcher.finished, operator)
        run = Run(contender.name, count, watcher.last - watcher.first, _spent(plane, watcher))
        run.client_cpu = operator.meter.cpu() - cpu
        run.first_write = watcher.first - operator.started
        await _written(plane)
        run.rss_peak, run.rss_steady = operator.meter.peak(), operator.meter.rss()
    run.writes = named(await plane.writes() - before)
    await verify(plane, namespace, count)
    await load.clear(plane, namespace)
    return run


async def wall(plane: Plane, namespace: str, count: int, parallel: int) -> Run:
    """The same writes as vdcos makes, by the fastest client."""
    await load.make_namespace(plane, namespace)
    await load.declare(plane, namespace, range(count))
    chains = [load.chain(requests) for requests in await load.rehearse(plane)]
    before = await plane.writes()
    async with Watcher(plane, namespace, count).watching() as watcher:
        sent = await load.send(plane, chains, parallel, as_operator=True)
        async with asyncio.timeout(60):
            await watcher.finished.wait()
        run = Run(f"wall-{parallel}", count, watcher.last - watcher.first, _spent(plane, watcher), sent.cpu)
    run.writes = named(await plane.writes() - before)
    await verify(plane, namespace, count)
    await load.clear(plane, namespace)
    return run


async def verify(plane: Plane, namespace: str, count: int) -> None:
    """Read back: every VirtualMachine has its status, its child, owned by it, and its disk. Raises BenchError."""
    resources = (kinds.VIRTUAL_MACHINE, VirtualMachine.resource, DataVolume.resource)
    own, children, volumes = [(await plane.request("GET", resource.path(namespace)))["items"] for resource in resources]
    uids = {item["metadata"]["uid"] for item in own}
    owners = {ref["uid"] for item in children for ref in item["metadata"]["ownerReferences"]}
    told = [item for item in own if item["status"]["observedGeneration"] == item["metadata"]["generation"]]
    applied = [
        item
        for item in told
        if any(c["type"] == "Applied" and c["status"] == "True" for c in item["status"]["conditions"])
    ]
    machines = {item["metadata"]["name"] for item in own}
    filled = {
        name for item in volumes for name in machines if item["metadata"]["name"].startswith(f"{name}-{load.DISK}-")
    }
    found = (len(own), len(applied), len(children), len(owners & uids), len(volumes), len(filled))
    if found != (count,) * 6:
        raise BenchError(
            f"{namespace}: VMs, statuses, children, owned, disks, disks of VMs are {found}, not {count} each"
        )


def named(counted: Mapping[Write, int]) -> dict[str, int]:
    """Writes by name, without those that users and the API server itself made. Reviews are questions, and no writes."""
    return {
        f"{verb} {resource}.{group}{'/' + subresource if subresource else ''}": number
        for (verb, group, resource, subresource), number in sorted(counted.items())
        if group
        not in (
            "coordination.k8s.io",
            "apiregistration.k8s.io",
            "flowcontrol.apiserver.k8s.io",
            "apiextensions.k8s.io",
            "authorization.k8s.io",
        )
        and (group or resource not in ("configmaps", "services", "endpoints", "namespaces"))
    }


async def _written(plane: Plane) -> None:
    """Wait for whoever writes more than once: until nothing was written for a second. Raises TimeoutError."""
    last: dict[str, int] | None = None

    async def stood_still() -> bool:
        nonlocal last
        before, last = last, named(await plane.writes())
        return before == last

    await until(stood_still, PATIENCE, every=1.0)


async def _event(happened: asyncio.Event, operator: Operator) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(happened.wait(), 0.5)
            return
        operator.check()
        if time.monotonic() > deadline:
            raise BenchError(f"not all was written after {PATIENCE:.0f} s: see {operator.log}")


def _spent(plane: Plane, watcher: Watcher) -> dict[str, float]:
    now = plane.cpu()
    return {name: now[name] - before for name, before in watcher.cpu_at_first.items()}


def of(runs: Sequence[Run], name: str) -> list[Run]:
    return [run for run in runs if run.name == name]


def sequence(runs: Sequence[Run]) -> list[tuple[str, float]]:
    """Names and rates in the order in which they were measured."""
    return [(run.name, run.rate) for run in runs]
