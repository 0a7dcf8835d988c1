"""The command line: ``python -m devcluster --help``."""

import argparse
import asyncio
import dataclasses
import json
import os
import shutil
import sys
import time
from pathlib import Path

import psutil
import rich
import rich.table

from devcluster import build, layout, supervisor
from devcluster.cluster import Cluster, FaultError
from devcluster.processes import StartError, is_running

_DEFAULT_DIRECTORY = Path(__file__).resolve().parent.parent / ".devcluster"


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code, and prints the reason when it is not 0."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options) or 0)
    except (StartError, build.BuildError, FaultError) as error:
        print(f"devcluster: {error}", file=sys.stderr)
    except BaseExceptionGroup as group:
        for one in _flat(group):
            print(f"devcluster: {type(one).__name__}: {one}", file=sys.stderr)
    except KeyboardInterrupt:
        print("devcluster: interrupted", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="devcluster", description="A virtual datacenter on this machine.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    common = argparse.ArgumentParser(add_help=False)
    chosen = os.environ.get("VDCOS_DEVCLUSTER")
    common.add_argument(
        "--dir",
        type=Path,
        default=Path(chosen) if chosen else _DEFAULT_DIRECTORY,
        help="directory of the cluster (default: $VDCOS_DEVCLUSTER, else .devcluster beside this package)",
    )

    build_command = commands.add_parser("build", help="build the control plane's programs, if the cache lacks them")
    build_command.add_argument("--tools", action="store_true", help="and Helm, Prometheus and others, for tests")
    build_command.set_defaults(command=_build)

    up = commands.add_parser("up", parents=[common], help="start the cluster and return when it serves")
    up.add_argument("--hosts", type=int, default=4, metavar="N", help="number of simulated hosts (default: 4)")
    up.add_argument("--foreground", action="store_true", help="stay until SIGINT or SIGTERM")
    up.add_argument(
        "--node-monitor-grace", type=int, default=12, metavar="SECONDS", help="until a silent host is NotReady"
    )
    up.add_argument("--timeout", type=float, default=300.0, metavar="SECONDS", help="until it must serve")
    up.add_argument("--bare", action="store_true", help="only an API server that knows all kinds, no controllers")
    up.set_defaults(command=_up)

    down = commands.add_parser("down", parents=[common], help="stop the cluster and return when all of it is gone")
    down.add_argument("--delete", action="store_true", help="and delete its directory")
    down.set_defaults(command=_down)

    status = commands.add_parser("status", parents=[common], help="show the cluster and its processes")
    status.add_argument("-o", "--output", choices=("table", "json"), default="table")
    status.set_defaults(command=_status)

    kubectl = commands.add_parser("kubectl", parents=[common], help="run the built kubectl as administrator")
    kubectl.add_argument("arguments", nargs=argparse.REMAINDER)
    kubectl.set_defaults(command=_kubectl)

    config = commands.add_parser("kubeconfig", parents=[common], help="print the path of a kubeconfig")
    config.add_argument("--service-account", metavar="NAMESPACE/NAME", help="of this account (default: administrator)")
    config.set_defaults(command=_kubeconfig)

    fault = commands.add_parser("fault", parents=[common], help="let something go wrong on a host (see README.md)")
    fault.add_argument("kind", help="power-off, partition, hang, recover, fail-migration ...")
    fault.add_argument("--host")
    fault.add_argument("--vm", metavar="NAMESPACE/NAME")
    fault.add_argument("--seconds", type=float, help="how slow, for a fault that is a delay")
    fault.add_argument("--clear", action="store_true", help="end the fault")
    fault.set_defaults(command=_fault)
    return parser


def _build(options: argparse.Namespace) -> None:
    build.ensure(build.console_report, more=build.TOOLS if options.tools else ())


def _settings(options: argparse.Namespace) -> supervisor.Settings:
    return supervisor.Settings(
        options.dir.resolve(), options.hosts, options.node_monitor_grace, options.timeout, options.bare
    )


def _up(options: argparse.Namespace) -> None:
    settings = _settings(options)
    if options.foreground:
        artifacts = build.ensure(build.console_report)
        settings.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.chdir(settings.directory)  # by this a recorded process id is known to be ours
        asyncio.run(supervisor.supervise(settings, artifacts))
        return
    started = time.monotonic()
    cluster = Cluster.start(settings)
    print(f"ready after {time.monotonic() - started:.1f} s: export KUBECONFIG={cluster.kubeconfig}")
    print(f"kubectl is {cluster.record.kubectl}")


def _down(options: argparse.Namespace) -> None:
    if layout.read_record(layout.Layout(options.dir.resolve())) is None:
        print(f"no cluster in {options.dir}")
        return
    Cluster(options.dir).stop()
    if options.delete:
        shutil.rmtree(options.dir)


def _status(options: argparse.Namespace) -> int:
    cluster = Cluster(options.dir)
    record = cluster.record
    phase = record.phase if cluster.is_up or record.phase in ("stopped", "failed") else _phase_of_lost(cluster)
    rows = [_ProcessStatus.of(process, cluster.directory) for process in record.processes]
    if options.output == "json":
        document = json.loads(cluster.files.record.read_text())
        document |= {"phase": phase, "processes": [dataclasses.asdict(row) for row in rows]}
        print(json.dumps(document, indent=2))
    else:
        _print_status(cluster, phase, rows)
    return 0 if phase == "ready" else 1


def _phase_of_lost(cluster: Cluster) -> str:
    """Starting or stopping while its supervisor lives; a supervisor that was killed left its last words behind."""
    record = cluster.record
    return record.phase if is_running(record.supervisor, cluster.directory) else "stopped"


@dataclasses.dataclass(frozen=True)
class _ProcessStatus:
    name: str
    pid: int | None
    port: int | None
    restarts: int
    running: bool
    memory_mib: int | None
    cpu_seconds: float | None

    @classmethod
    def of(cls, record: layout.ProcessRecord, directory: Path) -> "_ProcessStatus":
        memory = cpu = None
        running = is_running(record.pid, directory)
        if running:
            try:
                process = psutil.Process(record.pid)
                memory = process.memory_info().rss // 2**20
                cpu = round(sum(process.cpu_times()[:2]), 1)
            except psutil.NoSuchProcess:
                running = False
        pid = record.pid if running else None
        return cls(record.name, pid, record.port, record.restarts, running, memory, cpu)


def _print_status(cluster: Cluster, phase: str, rows: list[_ProcessStatus]) -> None:
    record = cluster.record
    step = f" ({record.step})" if phase == "starting" else ""
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    print(f"{phase}{step}: {record.hosts} hosts in {cluster.directory}\n{versions}")
    if record.error:
        print(f"error: {record.error}")
    table = rich.table.Table(box=None)
    for title in ("PROCESS", "STATE", "PID", "PORT", "RESTARTS", "MiB", "CPU s"):
        table.add_column(title, justify="left" if title in ("PROCESS", "STATE") else "right")
    for row in rows:
        values = (row.pid, row.port, row.restarts, row.memory_mib, row.cpu_seconds)
        table.add_row(
            row.name, "running" if row.running else "-", *("" if value is None else str(value) for value in values)
        )
    rich.print(table)
    if phase == "ready":
        print(
            f"export KUBECONFIG={cluster.kubeconfig}\nkubectl is {record.kubectl}\nhosts answer on {record.hosts_url}"
        )


def _kubectl(options: argparse.Namespace) -> None:
    cluster = Cluster(options.dir)
    arguments = options.arguments[1:] if options.arguments[:1] == ["--"] else options.arguments
    os.execve(cluster.record.kubectl, ["kubectl", *arguments], cluster.environment())


def _kubeconfig(options: argparse.Namespace) -> None:
    cluster = Cluster(options.dir)
    if options.service_account is None:
        print(cluster.kubeconfig)
        return
    namespace, _, name = options.service_account.partition("/")
    print(cluster.service_account_kubeconfig(namespace, name))


def _fault(options: argparse.Namespace) -> None:
    body = {key: value for key in ("host", "vm", "seconds") if (value := getattr(options, key)) is not None}
    print(json.dumps(Cluster(options.dir).fault(options.kind, clear=options.clear, **body)))


def _flat(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The exceptions of a group and of the groups in it."""
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _flat(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


if __name__ == "__main__":
    sys.exit(main())
