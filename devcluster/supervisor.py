"""Brings a cluster up in the order that its parts need, keeps it running, and takes it down.

One supervisor runs per cluster directory. Everything that it starts dies with it, even when it is killed.
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import yaml

from devcluster import build, kube, layout, manifests, pki
from devcluster.processes import Child, PortTakenError, Program, StartError, free_ports, python_path

_POLL = 0.1
_ATTEMPTS = 5
_LEASE = 10.0  # seconds after which a kubelet renews its Lease, unless hosts count as silent sooner than usual
_RENEWALS = 4  # in the time after which a host counts as silent, at least
_GRACE = 1.5  # seconds that a process gets to end by itself


@dataclass(frozen=True)
class Settings:
    """What the user chose. Times in seconds."""

    directory: Path
    hosts: int = 4
    node_monitor_grace: int = (
        12  # Kubernetes' own default is 40 (50 from 1.32): use that when failover times are measured
    )
    start_timeout: float = 300.0
    bare: bool = False
    """Only etcd, the API server and the definitions: nobody but its clients writes anything."""


async def supervise(settings: Settings, artifacts: build.Artifacts) -> None:
    """Run a cluster until SIGTERM or SIGINT. Raises :class:`StartError` when it does not come up."""
    files = layout.Layout(settings.directory)
    settings.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    stop = asyncio.Event()
    for sent in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sent, stop.set)
    with _exclusive(files):
        previous = layout.read_record(files)
        ports = previous.ports if previous else {}
        for _ in range(_ATTEMPTS):
            supervisor = Supervisor(settings, artifacts, free_ports(layout.PORTS, ports), stop)
            try:
                await supervisor.run()
            except BaseExceptionGroup as group:
                taken = group.subgroup(PortTakenError)
                if taken is None:
                    raise
                ports = {}
            else:
                return
        raise StartError(f"no free ports after {_ATTEMPTS} attempts")


@contextlib.contextmanager
def _exclusive(files: layout.Layout) -> Iterator[None]:
    with files.lock.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(f"a cluster runs already in {files.directory}") from None
        yield


class Supervisor:
    """One attempt to run a cluster on the given ports."""

    def __init__(
        self, settings: Settings, artifacts: build.Artifacts, ports: dict[str, int], stop: asyncio.Event
    ) -> None:
        self._settings = settings
        self._artifacts = artifacts
        self._stop = stop
        self._files = layout.Layout(settings.directory)
        self._children: list[Child] = []
        versions = {"kubernetes": build.KUBERNETES, "etcd": build.ETCD, "kubevirt": build.KUBEVIRT, "cdi": build.CDI}
        self._record = layout.Record(
            phase="starting",
            step="certificates",
            hosts=settings.hosts,
            supervisor=os.getpid(),
            ports=ports,
            versions=versions,
            kubectl=artifacts["kubectl"],
            started=time.time(),
        )

    async def run(self) -> None:
        self._publish()
        try:
            async with asyncio.TaskGroup() as tasks:
                coming_up = tasks.create_task(self._bring_up(tasks))
                await self._stop.wait()
                coming_up.cancel()
                await self._end("stopping")
        except BaseException as error:
            await self._end("failed", _reason(error))
            raise
        self._publish("stopped")

    async def _end(self, phase: layout.Phase, error: str = "") -> None:
        """End users of the API server first, etcd last: nothing waits in vain and nothing logs a storm of errors."""
        self._publish(phase, error=error)
        last = ("kube-apiserver", "etcd")
        await asyncio.gather(*(child.stop(_GRACE) for child in self._children if child.program.name not in last))
        for name in last:
            for child in self._children:
                if child.program.name == name:
                    await child.stop(0.5 if name == "kube-apiserver" else _GRACE)
        self._publish(phase, error=error)

    def _publish(self, phase: layout.Phase | None = None, *, step: str | None = None, error: str = "") -> None:
        record = self._record
        record.phase = phase or record.phase
        record.step = step if step is not None else record.step
        record.error = error or record.error
        record.processes = [
            layout.ProcessRecord(child.program.name, child.pid, child.program.port, child.restarts, str(child.log))
            for child in self._children
        ]
        record.write(self._files)

    # Coming up

    async def _bring_up(self, tasks: asyncio.TaskGroup) -> None:
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._settings.start_timeout):
                await self._steps(lambda program: self._start(tasks, program))
        except TimeoutError:
            raise StartError(
                f"not up after {self._settings.start_timeout:.0f} s, in step '{self._record.step}';"
                f" see {self._files.directory / 'logs'}"
            ) from None
        for child in self._children:
            child.settled = True
        self._record.seconds_to_ready = round(time.monotonic() - started, 1)
        self._publish("ready", step="")

    def _start(self, tasks: asyncio.TaskGroup, program: Program) -> None:
        child = Child(program, self._files.directory, self._publish)
        self._children.append(child)
        tasks.create_task(child.run())

    async def _steps(self, start: Callable[[Program], None]) -> None:
        self._publish(step="certificates")
        keys = await asyncio.to_thread(pki.ensure, self._files.pki)
        tokens = self._identities(keys)
        plan = Programs(self._settings, self._files, self._artifacts, keys, self._record.ports)
        self._files.audit_policy.write_text(yaml.safe_dump(_AUDIT_POLICY))
        start(plan.etcd())
        start(plan.apiserver())

        self._publish(step="kube-apiserver")
        waves = manifests.waves(
            self._artifacts.objects(),
            manifests.Endpoints(self._record.ports["virt-api"], self._record.ports["cdi-api"]),
            keys.ca.read_bytes(),
            keys.clone_tokens.read_bytes(),
            pki.public_key(keys.clone_tokens),
        )
        async with kube.Api(self._record.server, tokens[layout.ADMIN], keys.ca) as api:
            await _until(api.is_ready)
            if self._settings.bare:
                self._publish(step="custom resource definitions")
                await api.put_all(waves.definitions)
                await _until(_discoverable(api, waves.definitions))
                return
            start(plan.controller_manager())
            start(plan.scheduler())
            start(plan.virt_api())  # computes for seconds before its first call: let it begin

            self._publish(step="custom resource definitions")
            await api.put_all(waves.definitions)
            self._publish(step="objects")
            await api.put_all(waves.objects)
            await _until(_discoverable(api, waves.definitions))
            start(plan.virt_controller())
            start(plan.cdi_apiserver())
            start(plan.cdi_controller())
            if hosts := plan.hosts():
                start(hosts)

            # Last: the aggregator backs off for seconds from an APIService whose server does not answer yet.
            self._publish(step="virt-api and cdi-apiserver")
            tls = ssl.create_default_context(cafile=str(keys.ca))
            await asyncio.gather(*(_until(_listens(self._record.ports[name], tls)) for name in ("virt-api", "cdi-api")))
            await api.put_all(waves.registrations)
            self._publish(step="APIServices and webhooks")
            names = [item["metadata"]["name"] for item in waves.registrations if item["kind"] == "APIService"]
            await asyncio.gather(*(_until(_available(api, name)) for name in names), _until(_webhooks_answer(api)))
            self._publish(step="virt-controller")
            await _until(_leads(self._record.ports["virt-controller"], tls))
            if hosts:
                self._publish(step="hosts")
                await _until(_nodes_ready(api, self._settings.hosts))

    def _identities(self, keys: pki.Pki) -> dict[str, str]:
        """Write the kubeconfig of every identity; they live as long as the cluster's directory."""
        tokens = layout.ensure_tokens(self._files)
        layout.ensure_bmc_password(self._files)
        server = self._record.server
        for identity, token in tokens.items():
            layout.write_kubeconfig(self._files.kubeconfig(identity), server, keys.ca, {"token": token})
        for identity in ("controller-manager", "scheduler"):
            user = {"client-certificate": str(keys.cert(identity)), "client-key": str(keys.key(identity))}
            layout.write_kubeconfig(self._files.kubeconfig(identity), server, keys.ca, user)
        return tokens


# What to run


_COMPONENTS = (
    "system:apiserver",
    "system:kube-controller-manager",
    "system:kube-scheduler",
    "system:serviceaccount:kubevirt:kubevirt-controller",
)
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "omitManagedFields": True,
    "rules": [
        # Leases of the cluster's own parts are most of an idle cluster's writes and tell nobody anything.
        {
            "level": "None",
            "users": list(_COMPONENTS),
            "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}],
        },
        {"level": "Metadata", "verbs": ["create", "update", "patch", "delete", "deletecollection"]},
        {"level": "None"},
    ],
}


@dataclass(frozen=True)
class Programs:
    """The command lines. All servers listen on 127.0.0.1 only; etcd on sockets in the cluster's private directory."""

    settings: Settings
    files: layout.Layout
    artifacts: build.Artifacts
    keys: pki.Pki
    ports: dict[str, int]

    def etcd(self) -> Program:
        return self._program(
            "etcd",
            "--name=devcluster",
            "--data-dir=etcd",
            "--listen-client-urls=unix://etcd.sock",
            "--listen-client-http-urls=unix://etcd-http.sock",
            "--listen-peer-urls=unix://etcd-peer.sock",
            # Nobody dials these two, but they must look like addresses.
            "--advertise-client-urls=http://localhost:1",
            "--initial-advertise-peer-urls=http://localhost:2",
            "--initial-cluster=devcluster=http://localhost:2",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )

    def apiserver(self) -> Program:
        keys = self.keys
        return self._program(
            "kube-apiserver",
            "--etcd-servers=unix://etcd.sock",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.ports['apiserver']}",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--tls-cert-file={keys.cert('apiserver')}",
            f"--tls-private-key-file={keys.key('apiserver')}",
            f"--client-ca-file={keys.ca}",
            f"--token-auth-file={self.files.tokens}",
            "--authorization-mode=RBAC",
            "--allow-privileged",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={keys.service_accounts}",
            f"--service-account-signing-key-file={keys.service_accounts}",
            f"--requestheader-client-ca-file={keys.ca}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={keys.cert('front-proxy')}",
            f"--proxy-client-key-file={keys.key('front-proxy')}",
            f"--audit-policy-file={self.files.audit_policy}",
            f"--audit-log-path={self.files.audit}",
            "--audit-log-maxsize=2000",  # MB: a rotated log would break off the counting of a test
            "--profiling=false",
            port="apiserver",
        )

    def controller_manager(self) -> Program:
        config = self.files.kubeconfig("controller-manager")
        return self._program(
            "kube-controller-manager",
            f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
            "--secure-port=0",
            "--leader-elect=false",
            "--use-service-account-credentials",
            f"--service-account-private-key-file={self.keys.service_accounts}",
            f"--root-ca-file={self.keys.ca}",
            "--node-monitor-period=2s",
            f"--node-monitor-grace-period={self.settings.node_monitor_grace}s",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            "--profiling=false",
        )

    def scheduler(self) -> Program:
        config = self.files.kubeconfig("scheduler")
        return self._program(
            "kube-scheduler",
            f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
            "--secure-port=0",
            "--leader-elect=false",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            "--profiling=false",
        )

    def virt_api(self) -> Program:
        return self._program(
            "virt-api",
            f"--kubeconfig={self.files.kubeconfig('virt-api')}",
            "--listen=127.0.0.1",
            f"--port={self.ports['virt-api']}",
            f"--tls-cert-file={self.keys.cert('virt-api')}",
            f"--tls-key-file={self.keys.key('virt-api')}",
            f"--handler-cert-file={self.keys.cert('virt-api-client')}",
            f"--handler-key-file={self.keys.key('virt-api-client')}",
            f"--console-server-port={self.ports['handler']}",
            port="virt-api",
        )

    def virt_controller(self) -> Program:
        return self._program(
            "virt-controller",
            f"--kubeconfig={self.files.kubeconfig('virt-controller')}",
            "--listen=127.0.0.1",
            f"--port={self.ports['virt-controller']}",
            f"--launcher-image=quay.io/kubevirt/virt-launcher:{build.KUBEVIRT}",
            f"--exporter-image=quay.io/kubevirt/virt-exportserver:{build.KUBEVIRT}",
            f"--prom-cert-file={self.keys.cert('virt-controller')}",
            f"--prom-key-file={self.keys.key('virt-controller')}",
            port="virt-controller",
        )

    def cdi_apiserver(self) -> Program:
        return self._program(
            "cdi",
            "apiserver",
            f"--kubeconfig={self.files.kubeconfig('cdi-apiserver')}",
            f"--port={self.ports['cdi-api']}",
            f"--tls-cert={self.keys.cert('cdi-api')}",
            f"--tls-key={self.keys.key('cdi-api')}",
            port="cdi-api",
            name="cdi-apiserver",
        )

    def cdi_controller(self) -> Program:
        return self._program(
            "cdi",
            "controller",
            f"--kubeconfig={self.files.kubeconfig('cdi-controller')}",
            f"--signer-cert={self.keys.ca}",
            f"--signer-key={self.keys.key('ca')}",
            f"--token-key={self.keys.clone_tokens}",
            name="cdi-controller",
        )

    def hosts(self) -> Program | None:
        """The simulated hosts; None when none are wanted."""
        if not self.settings.hosts:
            return None
        arguments = (
            *(sys.executable, "-m", "devcluster.hosts"),
            *("--kubeconfig", str(self.files.kubeconfig("hosts"))),
            *("--hosts", str(self.settings.hosts)),
            *("--handler-port", str(self.ports["handler"])),
            *("--control-port", str(self.ports["control"])),
            *("--bmc-port", str(self.ports["bmc"])),
            *("--bmc-cert", str(self.keys.cert("bmc"))),
            *("--bmc-key", str(self.keys.key("bmc"))),
            *("--bmc-password", str(self.files.bmc_password)),
            *("--tls-cert", str(self.keys.cert("virt-handler"))),
            *("--tls-key", str(self.keys.key("virt-handler"))),
            *("--client-ca", str(self.keys.ca)),
            *("--ledger", str(self.files.ledger)),
            *("--lease", f"{min(_LEASE, self.settings.node_monitor_grace / _RENEWALS):g}"),
        )
        environment = {**python_path(), "PYTHONUNBUFFERED": "1"}
        return Program("hosts", arguments, self.ports["control"], environment)

    def _program(self, executable: str, *arguments: str, port: str | None = None, name: str = "") -> Program:
        return Program(
            name or executable, (self.artifacts[executable], *arguments), self.ports[port] if port is not None else None
        )


# What to wait for


Check = Callable[[], Awaitable[bool]]


async def _until(check: Check) -> None:
    """Wait until a check holds; the caller's deadline ends it."""
    while not await check():  # noqa: ASYNC110 - it waits for other processes
        await asyncio.sleep(_POLL)


def _listens(port: int, tls: ssl.SSLContext) -> Check:
    async def check() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        except OSError:
            return False
        writer.close()
        return True

    return check


def _discoverable(api: kube.Api, definitions: list[manifests.Object]) -> Check:
    """Controllers look for their kinds once, at their start, and end or go without when one is missing."""
    missing = {
        (definition["spec"]["group"], version["name"], definition["spec"]["names"]["plural"])
        for definition in definitions
        if definition["kind"] == "CustomResourceDefinition"
        for version in definition["spec"]["versions"]
        if version["served"]
    }

    async def check() -> bool:
        for group, version in sorted({(group, version) for group, version, _ in missing}):
            try:
                served = await api.request("GET", f"/apis/{group}/{version}")
            except kube.ApiError:
                return False
            missing.difference_update((group, version, each["name"]) for each in served["resources"])
        return not missing

    return check


def _leads(port: int, tls: ssl.SSLContext) -> Check:
    """virt-controller says on /leader whether its controllers run."""

    async def check() -> bool:
        try:
            async with (
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session,
                session.get(f"https://127.0.0.1:{port}/leader") as response,
            ):
                return response.status == 200
        except aiohttp.ClientError:
            return False

    return check


def _available(api: kube.Api, name: str) -> Check:
    async def check() -> bool:
        service = await api.request("GET", f"/apis/apiregistration.k8s.io/v1/apiservices/{name}")
        conditions = service.get("status", {}).get("conditions", [])
        return any(condition["type"] == "Available" and condition["status"] == "True" for condition in conditions)

    return check


def _webhooks_answer(api: kube.Api) -> Check:
    """A VMI that only virt-api finds wrong must be refused, by virt-api."""
    vmi = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": "refused", "namespace": "kubevirt"},
        "spec": {"terminationGracePeriodSeconds": -1, "domain": {"devices": {}}},
    }

    async def check() -> bool:
        try:
            await api.request("POST", f"{kube.collection(vmi)}?dryRun=All", vmi)
        except kube.ApiError as error:
            return "admission webhook" in str(error) and "denied the request" in str(error)
        return False

    return check


def _nodes_ready(api: kube.Api, wanted: int) -> Check:
    async def check() -> bool:
        nodes = (await api.request("GET", "/api/v1/nodes"))["items"]
        ready = [
            node
            for node in nodes
            for condition in node.get("status", {}).get("conditions", [])
            if condition["type"] == "Ready" and condition["status"] == "True"
        ]
        return len(ready) >= wanted

    return check


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
