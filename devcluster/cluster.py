"""The library: a handle on the cluster in a directory, for tests and for the command line."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from devcluster import build, layout, supervisor
from devcluster.processes import StartError, die_with_parent, is_running, python_path
from devcluster.reader import Reader, ReadError, Unsaid

_POLL = 0.1
_STOP_SECONDS = 30.0
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback is never behind a proxy


class KubectlError(Exception):
    """kubectl ended with an error; the message is what it printed."""


class FaultError(Exception):
    """The simulated hosts refused a fault or do not answer."""


@dataclass(frozen=True)
class Write:
    """One write request that the API server has answered, from its audit log. ``at`` is RFC 3339 text."""

    user: str
    verb: str
    group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int
    user_agent: str
    at: str


class Cluster:
    """A devcluster that has been started in ``directory``. Raises :class:`StartError` where there is none."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.files = layout.Layout(self.directory)
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._reader: Reader | None = None
        if layout.read_record(self.files) is None:
            raise StartError(f"no cluster in {self.directory}")

    @classmethod
    def start(
        cls, settings: supervisor.Settings, *, report: build.Report = build.console_report, tied: bool = False
    ) -> Self:
        """Start a cluster in the background, or find the one that runs in that directory, and wait until it is ready.

        ``tied``: it ends when the calling process ends, however that happens. Raises :class:`build.BuildError` and
        :class:`StartError`.
        """
        build.ensure(report)
        directory = settings.directory.resolve()
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        files = layout.Layout(directory)
        process = None
        if _running_supervisor(files) is None:
            process = _spawn(settings, files, tied=tied)
            while (record := layout.read_record(files)) is None or record.supervisor != process.pid:
                if process.poll() is not None:
                    raise StartError(f"the supervisor ended:\n{_tail(files.supervisor_log)}")
                time.sleep(_POLL)
        cluster = cls(directory)
        cluster._supervisor = process
        cluster._wait_until_ready(settings.start_timeout)
        return cluster

    @classmethod
    @contextlib.contextmanager
    def running(cls, *, hosts: int, directory: Path | None = None, bare: bool = False) -> Iterator[Self]:
        """A cluster for the length of a block; without a directory it leaves nothing behind.

        ``bare``: only an API server that knows all kinds.
        """
        with contextlib.ExitStack() as stack:
            if directory is None:
                temporary = tempfile.TemporaryDirectory(prefix="devcluster-", ignore_cleanup_errors=True)
                directory = Path(stack.enter_context(temporary))
            cluster = cls.start(supervisor.Settings(directory, hosts, bare=bare), tied=True)
            stack.callback(cluster.stop)
            yield cluster

    def stop(self) -> None:
        """End the cluster and return when every process of it is gone. The data stay: it can be started again."""
        record = self.record
        _signal(record.supervisor, self.directory, signal.SIGTERM)
        pids = [record.supervisor, *(process.pid for process in record.processes if process.pid)]
        deadline = time.monotonic() + _STOP_SECONDS
        while alive := [pid for pid in pids if is_running(pid, self.directory)]:
            if time.monotonic() > deadline:
                for pid in alive:
                    _signal(pid, self.directory, signal.SIGKILL)
            time.sleep(_POLL)
        if self._supervisor:
            self._supervisor.wait()

    # What it is

    @property
    def record(self) -> layout.Record:
        """The current state."""
        record = layout.read_record(self.files)
        assert record, "checked when this handle was made"
        return record

    @property
    def is_up(self) -> bool:
        return self.record.phase == "ready" and _running_supervisor(self.files) is not None

    @property
    def server(self) -> str:
        return self.record.server

    @property
    def kubeconfig(self) -> Path:
        """Of the administrator."""
        return self.files.kubeconfig()

    @property
    def ca(self) -> Path:
        return self.files.pki / "ca.crt"

    @property
    def token(self) -> str:
        """Of the administrator."""
        return layout.ensure_tokens(self.files)[layout.ADMIN]

    @property
    def hosts_url(self) -> str:
        """Where faults are asked for and the ledger is read."""
        return self.record.hosts_url

    def bmc(self, host: str) -> dict[str, Any]:
        """How the BMC of a host is reached: ``address``, ``system``, ``username``, ``password`` and ``ca.crt``."""
        return {
            "address": self.record.bmc_url,
            "system": f"/redfish/v1/Systems/{host}",
            "username": "admin",
            "password": layout.ensure_bmc_password(self.files),
            "ca.crt": self.ca.read_text(),
        }

    def power_switch(self, host: str, namespace: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The Secret with what it takes to use a host's BMC, and what ``spec.bmc`` of its Host says then."""
        bmc, name = self.bmc(host), f"bmc-{host}"
        known = {key: bmc[key] for key in ("username", "password", "ca.crt")}
        metadata = {"name": name, "namespace": namespace}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": known}
        return secret, {"redfish": {"address": bmc["address"], "system": bmc["system"], "credentials": name}}

    # What one does with it

    def kubectl(self, *arguments: str, stdin: str | None = None, kubeconfig: Path | None = None) -> str:
        """Run the built kubectl as administrator, or as somebody else; returns what it prints."""
        result = subprocess.run(
            [self.record.kubectl, *arguments],
            env=self.environment(kubeconfig),
            input=stdin,
            check=False,
            capture_output=True,
            text=True,
        )
        if result.returncode:
            raise KubectlError(result.stderr.strip() or result.stdout.strip())
        return result.stdout

    def environment(self, kubeconfig: Path | None = None) -> dict[str, str]:
        """For programs that use the cluster, kubectl above all."""
        # kubectl caches what an address serves, and the next cluster may have the address of this one.
        cache = str(self.directory / "kubectl-cache")
        return {**os.environ, "KUBECONFIG": str(kubeconfig or self.kubeconfig), "KUBECACHEDIR": cache}

    def get(self, *arguments: str) -> dict[str, Any]:
        """``kubectl get ... -o json``, decoded; mostly without kubectl, whose every start costs a quarter of a second
        of CPU time with what it asks the API server."""
        if self._reader is None or self._reader.server != self.server:
            self._reader = Reader(self.server, self.token, self.ca)
        try:
            return self._reader.get(*arguments)
        except ReadError as error:
            raise KubectlError(str(error)) from None
        except Unsaid:
            answer: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "-o", "json"))
            return answer

    def apply(self, *objects: dict[str, Any]) -> None:
        """``kubectl apply`` of objects, on the server's side."""
        document = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(document))

    def service_account_kubeconfig(self, namespace: str, name: str, *, duration: str = "24h") -> Path:
        """A kubeconfig for a ServiceAccount that exists: its holder may do what RBAC gives it and no more."""
        token = self.kubectl("create", "token", name, "--namespace", namespace, "--duration", duration).strip()
        path = self.directory / f"serviceaccount-{namespace}-{name}.kubeconfig"
        return layout.write_kubeconfig(path, self.server, self.ca, {"token": token}, namespace)

    def audit_mark(self) -> int:
        """The present end of the audit log, for ``since`` of :meth:`writes`."""
        return self.files.audit.stat().st_size

    def writes(self, user_prefix: str = "", *, since: int = 0) -> list[Write]:
        """The answered writes of all users whose name begins so, in the order of their ends, without dry runs.

        Writes of leases by the cluster's own parts are not recorded; access reviews are questions, and no writes.
        """
        with self.files.audit.open("rb") as log:
            log.seek(since)
            content = log.read()
        complete = content[: content.rfind(b"\n") + 1]
        return [write for line in complete.splitlines() if (write := parse_audit(line, user_prefix))]

    def fault(self, kind: str, *, clear: bool = False, **body: Any) -> dict[str, Any]:
        """Let something go wrong on the hosts, or right again: ``fault("power-off", host="host-1")``. See README.md.

        Raises :class:`FaultError` for a host, VM or kind that does not exist.
        """
        return self._control("DELETE" if clear else "POST", f"/faults/{kind}", body)

    def hosts(self, path: str) -> dict[str, Any]:
        """What the hosts say of themselves: ``state`` or ``ledger``."""
        return self._control("GET", f"/{path}")

    def _control(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.hosts_url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with _direct.open(request, timeout=30) as response:
                answer: dict[str, Any] = json.loads(response.read() or b"{}")
                return answer
        except urllib.error.HTTPError as error:
            raise FaultError(f"{path}: {error.code} {error.read().decode(errors='replace').strip()}") from error
        except urllib.error.URLError as error:
            raise FaultError(f"the hosts do not answer on {self.hosts_url}: {error.reason}") from error

    def _wait_until_ready(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds + _STOP_SECONDS
        while not self.is_up:
            record = self.record
            if _running_supervisor(self.files) is None or time.monotonic() > deadline:
                reason = record.error or f"it stands at step '{record.step}'"
                raise StartError(f"the cluster in {self.directory} did not come up: {reason}")
            time.sleep(_POLL)


def parse_audit(line: bytes, user_prefix: str = "") -> Write | None:
    """One line of an audit log; None when it is no completed write of such a user."""
    if user_prefix.encode() not in line:
        return None
    event = json.loads(line)
    user = event["user"]["username"]
    if event["stage"] != "ResponseComplete" or not user.startswith(user_prefix) or "dryRun=" in event["requestURI"]:
        return None
    target = event.get("objectRef", {})
    if target.get("apiGroup") == "authorization.k8s.io":
        return None
    return Write(
        user=user,
        verb=event["verb"],
        group=target.get("apiGroup", ""),
        resource=target.get("resource", ""),
        subresource=target.get("subresource", ""),
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        code=event["responseStatus"]["code"],
        user_agent=event.get("userAgent", ""),
        at=event["stageTimestamp"],
    )


def _running_supervisor(files: layout.Layout) -> int | None:
    record = layout.read_record(files)
    return record.supervisor if record and is_running(record.supervisor, files.directory) else None


def _spawn(settings: supervisor.Settings, files: layout.Layout, *, tied: bool) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "devcluster", "up", "--foreground", "--dir", str(files.directory)]
    command += ["--hosts", str(settings.hosts), "--node-monitor-grace", str(settings.node_monitor_grace)]
    command += ["--timeout", str(settings.start_timeout), *(["--bare"] if settings.bare else [])]
    files.supervisor_log.parent.mkdir(exist_ok=True)
    with files.supervisor_log.open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=files.directory,
            env={**os.environ, **python_path()},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGTERM) if tied else None,
        )


def _signal(pid: int, directory: Path, sent: signal.Signals) -> None:
    if is_running(pid, directory):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sent)


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-15:])
