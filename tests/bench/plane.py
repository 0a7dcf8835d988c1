"""The control plane to measure against: etcd and kube-apiserver with all definitions, and no controllers."""

import asyncio
import contextlib
import json
import os
import re
import signal
import ssl
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import yaml

from devcluster import build, kube, layout, manifests, pki, supervisor
from devcluster.processes import Program, die_with_parent, free_ports, python_path
from devcluster.waiting import until

ROOT = Path(__file__).parents[2]
ACCOUNT = ("vdcos-system", "vdcos")
READY_SECONDS = 120.0
TOOLS = tuple(
    build.Program(f"bench-{name}", str(Path(__file__).parent / "go"), f"./{name}") for name in ("wall", "peer")
)
_COUNTER = re.compile(r"^apiserver_request_total\{(?P<labels>[^}]*)\} (?P<value>\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_WRITES = {"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"}

Json = dict[str, Any]
Write = tuple[str, str, str, str]
"""Verb, group, resource, subresource."""


class BenchError(Exception):
    """Something did not happen that had to; no figure is better than a wrong one."""


class Meter:
    """What a process has used."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._files = Path(f"/proc/{pid}")

    def cpu(self) -> float:
        """Seconds so far, of the process and those that it has ended."""
        times = self._process.cpu_times()
        return times.user + times.system + times.children_user + times.children_system

    def rss(self) -> float:
        """MB that are resident now."""
        return self._process.memory_info().rss / 1e6

    def peak(self) -> float:
        """MB that were resident at most since the start, or since ``forget_peak``."""
        lines = (self._files / "status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:"))

    def forget_peak(self) -> None:
        (self._files / "clear_refs").write_text("5")


@dataclass
class Plane:
    """A control plane that runs. ``meters`` are by program."""

    directory: Path
    server: str
    ca: Path
    kubeconfig: Path
    operator_kubeconfig: Path
    token_file: Path
    operator_token_file: Path
    artifacts: build.Artifacts
    meters: Mapping[str, Meter]
    session: aiohttp.ClientSession

    async def request(self, method: str, path: str, body: Json | None = None, content_type: str = "") -> Json:
        """One call as administrator. Raises BenchError when refused."""
        headers = {"Content-Type": content_type or "application/json"} if body is not None else {}
        data = None if body is None else json.dumps(body).encode()
        async with self.session.request(method, self.server + path, data=data, headers=headers) as response:
            text = await response.text()
            if response.status >= 300:
                raise BenchError(f"{method} {path}: {response.status} {text[:300]}")
            answer: Json = json.loads(text)
            return answer

    async def writes(self) -> Counter[Write]:
        """The writes that the API server has carried out so far, by its own count."""
        async with self.session.get(f"{self.server}/metrics") as response:
            text = await response.text()
        counted: Counter[Write] = Counter()
        for match in _COUNTER.finditer(text):
            labels = dict(_LABEL.findall(match["labels"]))
            if labels["verb"] in _WRITES and labels["code"].startswith("2") and not labels.get("dry_run"):
                key = (labels["verb"], labels["group"], labels["resource"], labels["subresource"])
                counted[key] += int(float(match["value"]))
        return counted

    def cpu(self) -> dict[str, float]:
        return {name: meter.cpu() for name, meter in self.meters.items()}


@contextlib.asynccontextmanager
async def running(directory: Path, *, webhooks: bool = False) -> AsyncIterator[Plane]:
    """A control plane for the length of a block, in a new directory; ``webhooks`` adds virt-api's admission."""
    artifacts = await asyncio.to_thread(build.ensure, build.console_report, more=TOOLS)
    files = layout.Layout(directory)
    files.directory.mkdir(parents=True, mode=0o700)
    (files.directory / "tmp").mkdir()
    keys, tokens = pki.ensure(files.pki), layout.ensure_tokens(files)
    ports = free_ports(layout.PORTS, {})
    server = f"https://127.0.0.1:{ports['apiserver']}"
    for identity, token in tokens.items():
        layout.write_kubeconfig(files.kubeconfig(identity), server, keys.ca, {"token": token})
    programs = supervisor.Programs(supervisor.Settings(files.directory, hosts=0), files, artifacts, keys, ports)
    with contextlib.ExitStack() as children:
        # An audit log would cost everybody the same, and the API server counts its requests anyway.
        meters = {
            program.name: Meter(children.enter_context(_child(program, files.directory)))
            for program in (programs.etcd(), _without(programs.apiserver(), "--audit-"))
        }
        waves = manifests.waves(
            artifacts.objects(),
            manifests.Endpoints(ports["virt-api"], ports["cdi-api"]),
            keys.ca.read_bytes(),
            keys.clone_tokens.read_bytes(),
            pki.public_key(keys.clone_tokens),
        )
        async with asyncio.timeout(READY_SECONDS), kube.Api(server, tokens[layout.ADMIN], keys.ca) as api:
            await until(api.is_ready, READY_SECONDS)
            await api.put_all(waves.definitions)
            await api.put_all(waves.objects)
            for folder in ("crds", "manifests/rbac"):
                for document in _documents(ROOT / folder):
                    await api.put(document)
            if webhooks:
                meters["virt-api"] = Meter(children.enter_context(_child(programs.virt_api(), files.directory)))
                await _register(api, waves.registrations)
            account = f"/api/v1/namespaces/{ACCOUNT[0]}/serviceaccounts/{ACCOUNT[1]}/token"
            wish = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}}
            issued = await api.request("POST", account, wish | {"spec": {"expirationSeconds": 24 * 3600}})
        token = issued["status"]["token"]
        operator = layout.write_kubeconfig(files.directory / "operator.kubeconfig", server, keys.ca, {"token": token})
        plain = {"admin": tokens[layout.ADMIN], "operator": token}
        for name, secret in plain.items():
            layout.replace(files.directory / f"{name}.token", secret)
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(keys.ca))),
            headers={"Authorization": f"Bearer {tokens[layout.ADMIN]}"},
            timeout=aiohttp.ClientTimeout(total=600),
        ) as session:
            yield Plane(
                directory=files.directory,
                server=server,
                ca=keys.ca,
                kubeconfig=files.kubeconfig(),
                operator_kubeconfig=operator,
                token_file=files.directory / "admin.token",
                operator_token_file=files.directory / "operator.token",
                artifacts=artifacts,
                meters=meters,
                session=session,
            )


@contextlib.asynccontextmanager
async def elsewhere(directory: Path, server: str, keys: pki.Pki) -> AsyncIterator[Plane]:
    """A handle on something else that speaks like an API server and has the same certificate."""
    admin = layout.write_kubeconfig(directory / "elsewhere.kubeconfig", server, keys.ca, {"token": "unasked"})
    tls = ssl.create_default_context(cafile=str(keys.ca))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session:
        yield Plane(directory, server, keys.ca, admin, admin, admin, admin, build.Artifacts({}, admin), {}, session)


@contextlib.contextmanager
def _child(program: Program, directory: Path) -> Iterator[int]:
    """Run a program inside the block; yields its process id."""
    log = directory / f"{program.name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            program.arguments,
            cwd=directory,
            env={**os.environ, "TMPDIR": str(directory / "tmp"), **program.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=die_with_parent(),
        )
    try:
        yield process.pid
        if process.poll() is not None:
            raise BenchError(f"{program.name} ended by itself: see {log}")
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _without(program: Program, prefix: str) -> Program:
    kept = tuple(argument for argument in program.arguments if not argument.startswith(prefix))
    return Program(program.name, kept, program.port, program.environment)


def _documents(folder: Path) -> Iterable[Json]:
    files = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    for file in files:
        yield from (document for document in yaml.safe_load_all((folder / file).read_text()) if document)


async def _register(api: kube.Api, registrations: Iterable[Json]) -> None:
    """Register virt-api's admission webhooks, and wait until a VM that only they find wrong is refused."""
    for item in registrations:
        if item["kind"] != "APIService" and item["metadata"]["name"].startswith("virt-api"):
            await api.put(item)
    wrong = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "refused", "namespace": "default"},
        "spec": {
            "runStrategy": "Halted",
            "template": {"spec": {"domain": {"devices": {}}, "volumes": [{"name": "x"}]}},
        },
    }

    async def refused() -> bool:
        try:
            await api.request("POST", f"{kube.collection(wrong)}?dryRun=All", wrong)
        except kube.ApiError as error:
            return "denied the request" in str(error)
        return False

    await until(refused, READY_SECONDS)


def environment() -> dict[str, str]:
    """In which our own programs find the source roots."""
    return {**os.environ, **python_path()}
