"""`make run`: a virtual datacenter comes up from manifests, before your eyes.

``python -m devcluster.run`` builds what is missing, starts a devcluster of its own, installs the CRDs and the RBAC,
starts the operator as the ServiceAccount that the RBAC is for, applies ``manifests/samples`` and shows how they
converge. When it ends, however that happens, everything that it started ends with it.

``--cluster current`` does the same on the cluster of the current kubeconfig context, after asking. Without that option
no kubeconfig but its own is ever used.
"""

import argparse
import contextlib
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

import rich.console
import rich.live
import rich.status
import rich.table
import rich.text
import yaml

from devcluster import build, existing, layout, supervisor
from devcluster.cluster import Cluster, KubectlError
from devcluster.processes import StartError, die_with_parent
from vdcos.cli import check

ROOT = Path(__file__).resolve().parent.parent
CRDS, RBAC, SAMPLES = (ROOT / path for path in ("crds", "manifests/rbac", "manifests/samples"))
PART_OF = "app.kubernetes.io/part-of"
SAMPLE = "vdcos-samples"
KINDS = ("Network", "Datastore", "VirtualMachine")
_SHORT = {"VirtualMachine": "VM"}

_SERVED_SECONDS = 60  # for the API server to serve new definitions
_STOP_SECONDS = 10.0  # that the operator gets to end by itself
_GONE_SECONDS = 180  # for samples to be deleted from somebody's cluster
_LOOK_EVERY = 1.0  # seconds; a look by kubectl costs a quarter of a second of CPU time
_LOG_LINES = 12
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class RunError(Exception):
    """The run cannot go on; the message says why and what to do."""


class EndedBySignal(BaseException):
    """Somebody wants the run to end: an exception, so that everything is put away on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = 128 + number


class Target(Protocol):
    """A cluster to work on, through its kubectl. Errors are KubectlError."""

    @property
    def kubeconfig(self) -> Path: ...

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str: ...

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path: ...


# What is there


@dataclass(frozen=True)
class Row:
    """One object of ours, as the table shows it."""

    kind: str
    name: str
    ready: bool
    reason: str
    message: str
    host: str = ""
    address: str = ""
    complaints: tuple[str, ...] = ()
    """The conditions that explain why it is not ready, one line each."""

    @classmethod
    def of(cls, item: dict[str, Any]) -> "Row":
        """Ready means: the operator has seen this very spec (observedGeneration), and says so."""
        metadata, status = item["metadata"], item.get("status", {})
        conditions = status.get("conditions", [])
        summary: dict[str, Any] = next((condition for condition in conditions if condition["type"] == "Ready"), {})
        seen = status.get("observedGeneration") == metadata["generation"] == summary.get("observedGeneration")
        return cls(
            kind=item["kind"],
            name=f"{metadata['namespace']}/{metadata['name']}" if "namespace" in metadata else metadata["name"],
            ready=seen and summary.get("status") == "True",
            reason=summary.get("reason", "") if seen else "NotSeenYet",
            message=summary.get("message", "") if seen else "the operator has not seen this spec yet",
            host=status.get("host", ""),
            address=next(iter(status.get("addresses", [])), ""),
            complaints=tuple(
                f"{each['type']}={each['status']} {each['reason']}: {each.get('message', '')}".rstrip(": ")
                for each in conditions
                if (each["status"] == "True") == (each["type"] in ("Reconciling", "Stalled"))
            ),
        )


def standing(target: Target) -> list[Row]:
    """The samples as they stand, networks first."""
    kinds = ",".join(f"{kind.lower()}s.vdcos.dev" for kind in KINDS)
    answer = json.loads(target.kubectl("get", kinds, "-A", "-l", f"{PART_OF}={SAMPLE}", "-o", "json"))
    return sorted((Row.of(item) for item in answer["items"]), key=lambda row: (KINDS.index(row.kind), row.name))


def reasons(rows: Iterable[Row]) -> str:
    """Why the samples have not converged: every object that is not ready, with its conditions."""
    lines: list[str] = []
    for row in rows:
        if not row.ready:
            lines.append(f"{row.kind} {row.name} is not ready: {row.reason}: {row.message}".rstrip(": "))
            lines += [f"    {complaint}" for complaint in row.complaints]
    return "\n".join(lines)


# What is shown

Show = Callable[[Sequence[Row], float], None]
"""Shows the rows, and for how many seconds we have been waiting."""


class Screen:
    """Tells a person what happens: in place on a terminal, in plain lines elsewhere."""

    def __init__(self, console: rich.console.Console) -> None:
        self._console = console
        self._printed: dict[str, str] = {}
        self.phases: dict[str, float] = {}

    def say(self, text: str = "", style: str = "") -> None:
        self._console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def phase(self, title: str, doing: rich.console.RenderableType) -> Iterator[list[str]]:
        """Time a part of the run. The block adds to the list what it did, which is shown when it has ended."""
        done: list[str] = []
        started = time.monotonic()
        if self._console.is_terminal:
            with self._console.status(doing):
                yield done
        else:
            yield done
        self.phases[title] = time.monotonic() - started
        self.told(title, ", ".join(done))

    def told(self, title: str, done: str) -> None:
        """Show what a part of the run did, and how long it took."""
        line = rich.text.Text.assemble((f"{title:<10}", "bold"), done, (f"  {self.phases[title]:.1f} s", "dim"))
        self._console.print(line, soft_wrap=True)

    def built(self, name: str, state: str, seconds: float) -> None:
        """Report on a program being built: a line that counts on a terminal, one at its begin and end elsewhere."""
        if state != "cached":
            build.console_report(name, state, seconds)

    @contextlib.contextmanager
    def table(self) -> Iterator[Show]:
        """A table that is redrawn in place; off a terminal, a line per change."""
        if not self._console.is_terminal:
            yield self._print_changes
            return
        with rich.live.Live(console=self._console, auto_refresh=False, vertical_overflow="visible") as live:
            yield lambda rows, seconds: live.update(_drawn(rows, seconds), refresh=True)

    def _print_changes(self, rows: Sequence[Row], seconds: float) -> None:
        for row in rows:
            name = f"{row.kind:<14} {row.name:<16}"
            where = " ".join(filter(None, (row.host, row.address)))
            state = f"{'ready' if row.ready else 'not ready':<10}{row.reason:<21} {where if row.ready else row.message}"
            if self._printed.get(name) != state:
                self._printed[name] = state
                self.say(f"{seconds:6.1f} s  {name}{state}".rstrip())


def _drawn(rows: Sequence[Row], seconds: float) -> rich.table.Table:
    count = sum(row.ready for row in rows)
    table = rich.table.Table(box=None, pad_edge=False, caption=f"{count} of {len(rows)} ready after {seconds:.0f} s")
    table.caption_justify = "left"
    for title in ("KIND", "NAME", "READY", "REASON", "HOST", "IP", "MESSAGE"):
        # Only the message gives way on a narrow terminal: a column that may wrap, with cells that do not.
        table.add_column(title, no_wrap=title != "MESSAGE", header_style="dim")
    for row in rows:
        ready = rich.text.Text("● yes", "green") if row.ready else rich.text.Text("○ no", "yellow")
        # A machine that is ready says so by its host and address; the words are for those that are not.
        message = rich.text.Text("" if row.ready else row.message, "dim", no_wrap=True, overflow="ellipsis")
        table.add_row(
            _SHORT.get(row.kind, row.kind), row.name, ready, row.reason, row.host or "-", row.address or "-", message
        )
    return table


@dataclass(frozen=True)
class _Step:
    """What a starting cluster is doing, read from its record whenever it is drawn."""

    files: layout.Layout

    def __rich__(self) -> str:
        record = layout.read_record(self.files)
        return f"starting the control plane and its hosts: {record.step if record else 'processes'}"


# The parts of a run


@contextlib.contextmanager
def devcluster(screen: Screen, directory: Path, hosts: int) -> Iterator[Cluster]:
    """A devcluster with all its programs, for the length of the block. Raises BuildError and StartError."""
    built: set[str] = set()

    def report(name: str, state: str, seconds: float) -> None:
        if state == "built":
            built.add(name)
        screen.built(name, state, seconds)

    started = time.monotonic()
    artifacts = build.ensure(report)
    screen.phases["build"] = time.monotonic() - started
    new, all_of_them = len(built & artifacts.programs.keys()), len(artifacts.programs)
    screen.told("build", f"{new} of {all_of_them} programs built" if new else f"{all_of_them} programs from the cache")
    settings = supervisor.Settings(directory, hosts)
    try:
        with screen.phase("cluster", _Step(layout.Layout(directory))) as done:
            cluster = Cluster.start(settings, report=lambda *_: None, tied=True)
            done += [
                f"Kubernetes {build.KUBERNETES}",
                f"KubeVirt {build.KUBEVIRT}",
                f"CDI {build.CDI}",
                f"{hosts} hosts",
            ]
        yield cluster
    finally:
        with contextlib.suppress(StartError):  # it had not even begun
            Cluster(directory).stop()


def install(screen: Screen, target: Target) -> None:
    """Install definitions and rights, and wait until the definitions are served."""
    with screen.phase("install", "applying crds/ and manifests/rbac/") as done:
        for directory in (CRDS, RBAC):
            target.kubectl("apply", "--server-side", "-k", str(directory))
        names = [f"customresourcedefinition/{kind.lower()}s.vdcos.dev" for kind in KINDS]
        target.kubectl("wait", "--for=condition=Established", f"--timeout={_SERVED_SECONDS}s", *names)
        done += ["CRDs", "RBAC", "admission policies"]


@dataclass(frozen=True)
class Operator:
    """The running operator."""

    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raises RunError when it has ended by itself."""
        code = self.process.poll()
        if code is not None:
            raise RunError(f"the operator ended with {code}; its last words:\n{self.last_words()}")

    def last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:])


@contextlib.contextmanager
def operator(screen: Screen, target: Target, directory: Path) -> Iterator[Operator]:
    """The operator as a process, with the rights of its ServiceAccount, for the length of the block."""
    documents = yaml.safe_load_all((RBAC / "operator.yaml").read_text())
    account = next(document["metadata"] for document in documents if document["kind"] == "ServiceAccount")
    namespace, name = account["namespace"], account["name"]
    with screen.phase("operator", "starting the operator") as done:
        config = target.service_account_kubeconfig(namespace, name)
        command = [sys.executable, "-m", "vdcos", "run", "--kubeconfig", str(config), "--namespace", namespace]
        command += ["--listen", "127.0.0.1:0"]
        environment = {key: value for key, value in os.environ.items() if key != "KUBECONFIG"}
        log = directory / "operator.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for us; we end it in order
                preexec_fn=die_with_parent(),
            )
        done.append(f"as system:serviceaccount:{namespace}:{name}")
    try:
        yield Operator(process, log)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def converge(screen: Screen, target: Target, running: Operator, timeout: float) -> list[Row]:
    """Show the samples until all are ready, or for ``timeout`` seconds; returns them as they stand then."""
    started = time.monotonic()
    with screen.table() as show:
        while True:
            running.check()
            rows = standing(target)
            seconds = time.monotonic() - started
            show(rows, seconds)
            if seconds > timeout or (rows and all(row.ready for row in rows)):
                screen.phases["converge"] = screen.phases.get("converge", 0.0) + seconds
                return rows
            time.sleep(_LOOK_EVERY)


# A cluster of somebody's


def ask(screen: Screen, cluster: existing.Existing, *, sure: bool, interactive: bool) -> None:
    """Show what the cluster is and lacks, and ask. Raises RunError where something required, or consent, is missing."""
    screen.say(f"context  {cluster.context}\nserver   {cluster.server}\n", "bold")
    checks = existing.inspect(cluster)
    screen.say(check.table(checks))
    if lacking := check.blocking(checks):
        raise RunError(f"nothing could converge without {' and '.join(lacking)}: nothing was changed")
    screen.say(
        "\nThis installs the CRDs and the RBAC of vdcos, runs the operator from here, and applies the samples:"
        "\nnamespace shop, 3 Networks, 3 Datastores, 6 VirtualMachines. At the end the operator stops, and the samples"
        "\nare deleted."
    )
    if sure:
        return
    if not interactive:
        raise RunError("not on a terminal, so nobody can be asked: say --yes (make run CLUSTER=current YES=1)")
    if input(f"Do that on {cluster.context}? [y/N] ").strip().lower() not in ("y", "yes"):
        raise RunError("nothing was changed")


@contextlib.contextmanager
def borrowed(screen: Screen, target: Target) -> Iterator[None]:
    """The samples on somebody's cluster. What was not there before is deleted again, while the operator still runs."""
    documents = list(yaml.safe_load_all(target.kubectl("kustomize", str(SAMPLES))))
    classes = json.loads(target.kubectl("get", "storageclasses", "-o", "json"))["items"]
    for change in existing.with_classes_of(documents, classes):
        screen.say(f"  {change}", "yellow")
    before = _found(target, documents)
    for item in before:
        if item["metadata"].get("labels", {}).get(PART_OF) != SAMPLE:
            raise RunError(f"{item['kind']} {item['metadata']['name']} is there already and is none of the samples")
    there = {_identity(item) for item in before}
    added = [document for document in documents if _identity(document) not in there]
    try:
        target.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(documents))
        yield
    finally:
        if added:
            screen.say(f"deleting the samples: {len(added)} objects")
            arguments = ("--ignore-not-found", f"--timeout={_GONE_SECONDS}s", "-f", "-")
            target.kubectl("delete", *arguments, stdin=yaml.safe_dump_all(added))
        screen.say(
            "CRDs and RBAC stay. To remove them: vdcos uninstall --yes &&"
            f" kubectl delete -k {CRDS} && kubectl delete -k {RBAC}"
        )


def _found(target: Target, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    answer = target.kubectl("get", "--ignore-not-found", "-o", "json", "-f", "-", stdin=yaml.safe_dump_all(documents))
    if not answer.strip():
        return []
    found = json.loads(answer)
    items: list[dict[str, Any]] = found["items"] if found["kind"] == "List" else [found]
    return items


def _identity(item: dict[str, Any]) -> tuple[str, str, str]:
    metadata = item["metadata"]
    return item["kind"], metadata.get("namespace", ""), metadata["name"]


# The whole


@contextlib.contextmanager
def prepared(options: argparse.Namespace, screen: Screen, directory: Path) -> Iterator[tuple[Target, str, Operator]]:
    """A cluster with the operator and the samples in it, and the kubectl that goes with it."""
    with contextlib.ExitStack() as stack:
        target: Target
        if options.cluster == "current":
            cluster = existing.Existing(directory)
            ask(screen, cluster, sure=options.yes, interactive=sys.stdin.isatty())
            target, kubectl = cluster, cluster.program
        else:
            target = started = stack.enter_context(devcluster(screen, directory / "cluster", options.hosts))
            kubectl = started.record.kubectl
        install(screen, target)
        running = stack.enter_context(operator(screen, target, directory))
        if options.cluster == "current":
            stack.enter_context(borrowed(screen, target))
        else:
            with screen.phase("samples", "applying manifests/samples/") as done:
                applied = target.kubectl("apply", "--server-side", "-k", str(SAMPLES)).splitlines()
                done.append(f"{len(applied)} objects in namespace shop")
        yield target, kubectl, running


def run(options: argparse.Namespace, screen: Screen) -> int:
    """Do all of it; returns the exit code. Raises RunError, BuildError, StartError, KubectlError, EndedBySignal."""
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="vdcos-run-", ignore_cleanup_errors=True) as directory,
        prepared(options, screen, Path(directory)) as (target, kubectl, running),
        _undisturbed_end(),
    ):
        rows = converge(screen, target, running, options.timeout)
        while not all(row.ready for row in rows):
            screen.say(f"\nNot converged after {options.timeout:.0f} s:\n{reasons(rows)}", "yellow")
            if options.once:
                screen.say(f"\nThe operator's last words:\n{running.last_words()}")
                return 1
            rows = converge(screen, target, running, math.inf)
        screen.say(f"\nConverged after {time.monotonic() - began:.1f} s: {_timing(screen.phases)}", "bold green")
        if options.once:
            return 0
        screen.say(_invitation(target.kubeconfig, kubectl))
        try:
            running.process.wait()
        except EndedBySignal:
            screen.say("\nEnding what was started ...")
            return 0
        running.check()
        return 1


def _timing(phases: dict[str, float]) -> str:
    return ", ".join(f"{title} {seconds:.1f} s" for title, seconds in phases.items())


def _invitation(kubeconfig: Path, kubectl: str) -> str:
    power_on = """-p '{"spec": {"powerState": "PoweredOn"}}'"""
    return f"""
In another terminal:

  export KUBECONFIG={shlex.quote(str(kubeconfig))}
  export PATH={shlex.quote(str(Path(kubectl).parent))}:$PATH

  kubectl get vdc -A                                     # everything of ours
  kubectl describe vdcvm web-1 -n shop                   # one VM, condition by condition
  kubectl explain vdcvm.spec.disks                       # what can be written
  kubectl patch vdcvm staging -n shop --type merge {power_on}
  kubectl delete vdcvm web-2 -n shop && kubectl get pvc -n shop    # its disks stay

Ctrl-C ends all of it.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code, and prints the reason when it is not 0."""
    options = _parser().parse_args(arguments)
    for number in _ENDING:
        signal.signal(number, _end)
    screen = Screen(rich.console.Console())
    try:
        return run(options, screen)
    except (RunError, build.BuildError, StartError, KubectlError) as error:
        print(f"run: {error}", file=sys.stderr)
        return 1
    except EndedBySignal as ended:
        return ended.code


def _end(number: int, _frame: object) -> NoReturn:
    _ignore_signals()
    raise EndedBySignal(number)


@contextlib.contextmanager
def _undisturbed_end() -> Iterator[None]:
    try:
        yield
    finally:
        _ignore_signals()


def _ignore_signals() -> None:
    """Putting away takes a bounded time, and a second Ctrl-C would only leave something behind."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make run", description="Bring up a virtual datacenter and show it.")
    parser.add_argument("--hosts", type=int, default=4, metavar="N", help="number of simulated hosts (default: 4)")
    parser.add_argument("--once", action="store_true", help="end when the samples have converged (0) or not (1)")
    parser.add_argument(
        "--timeout", type=float, default=300.0, metavar="SECONDS", help="until the samples must have converged"
    )
    parser.add_argument(
        "--cluster",
        choices=("devcluster", "current"),
        default="devcluster",
        help="a devcluster of its own (default), or the cluster of the current kubeconfig context, after asking",
    )
    parser.add_argument("--yes", action="store_true", help="with --cluster current: do not ask")
    return parser


if __name__ == "__main__":
    sys.exit(main())
