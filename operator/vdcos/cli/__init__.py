"""The command line: ``vdcos run | check | plan | ha | uninstall | sim | gen | version``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vdcos import __version__

ABOUT = """\
The Virtual Datacenter OS: VirtualMachines, Networks and Datastores as Kubernetes
resources, converged onto KubeVirt.
"""

RUN = """\
Run the operator: watch, plan, write, until SIGTERM.

Every replica watches; the one that holds the Lease writes, another takes over
within 12 seconds. Logs go to standard error, one JSON object a line.
"""

RUN_EXAMPLES = """\
examples:
  vdcos run                                          in a pod, or the cluster of KUBECONFIG
  vdcos run --kubeconfig dev.yaml --standalone --log-format text
  vdcos run --listen 0.0.0.0:8080 --probe 0.0.0.0:8081
"""

CHECK = """\
Show what vdcos builds on, whether the cluster has it, and what it costs where it does not:
versions, feature gates, storage, networks, definitions, rights. Nothing is written anywhere.

The rights are those of whoever asks. To see those of the operator, ask in its pod:
kubectl exec -n vdcos-system deploy/vdcos -- vdcos check
"""

CHECK_EXAMPLES = """\
examples:
  vdcos check                                        the cluster of the pod, of KUBECONFIG or of ~/.kube/config
  vdcos check --before-install                       what will be there is not missed yet
  vdcos check --only Definitions --only Rights       what an installation of vdcos brings along
  vdcos check -o json | jq '.checks[] | select(.status != "True")'

exit status: 0 all is there, 2 something is off or limited, 1 vdcos cannot work here, or an error
"""

UNINSTALL = """\
Make vdcos removable: detach everything that it made, so that deleting its objects and
definitions leaves VMs running and disks in place, and remove its finalizers, so that no
deletion waits for an operator that is gone. Without --yes it only shows what would be done.

The operator must not run any more: it would take everything back, which is also how an
installation of later finds everything again. Objects and definitions are left for you to delete.
"""

UNINSTALL_EXAMPLES = """\
examples:
  kubectl scale -n vdcos-system deployment/vdcos --replicas=0
  vdcos uninstall                                    show what would be done
  vdcos uninstall --yes                              do it

exit status: 0 it is done, or nothing is left to do, 2 something is to be done (without --yes), 1 an error
"""

PLAN = """\
Show what the operator would do, and why, without doing it.

Reads the cluster (or, with --offline, nothing but the files), puts the objects of
the files on top as if they were applied, and plays the operator against a pretence
of the API server until there is nothing left to do. Nothing is written anywhere.
Rules that only the API server checks are shown by kubectl apply --dry-run=server.
"""

PLAN_EXAMPLES = """\
examples:
  vdcos plan                                         what would happen now in the cluster: nothing, at rest
  vdcos plan -f vm.yaml                              what applying this file would lead to
  vdcos plan -f network.yaml -f vm.yaml --offline    without any cluster
  kustomize build . | vdcos plan -f - -o json

exit status: 0 nothing to do, 2 something to do or a status to write,
             1 an error or an object that is stalled
"""

HA = """\
How it stands with high availability. Nothing is written anywhere.

  vdcos ha status        policies, hosts with what would come of their failure, and failures under way
  vdcos ha drill HOST    what would become of each VM of a host if it died now: order, target, or why not
"""

HA_EXAMPLES = """\
examples:
  vdcos ha status
  vdcos ha drill host-1
  vdcos ha drill host-1 -o json | jq '.virtualMachines[] | select(.target == null)'

exit status: 0 it was found out, 1 an error
"""

GEN = """\
Write the files that are generated from the models and services: CRDs, RBAC and the
API reference.
"""


SIM = """\
Run the operator in a simulated datacenter, where time, orders and faults are chosen
by a seed, and every law of the project is checked after every step.
"""

SIM_EXAMPLES = """\
examples:
  vdcos sim --seed 4711                              what happens with this seed, made as small as it can be
  vdcos sim --seconds 600                            seeds for ten minutes, or up to one that breaks a law
  vdcos sim --scenario create --write 3 --api "crash after"

exit status: 0 all laws hold, 1 one is broken
"""


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser("vdcos", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = _command(commands, "run", "run the operator", RUN, RUN_EXAMPLES)
    _add_cluster(run)
    leadership = run.add_argument_group("leadership")
    _add_lease(leadership)
    leadership.add_argument(
        "--standalone", action="store_true", help="no Lease: you make sure that no other replica runs"
    )
    served = run.add_argument_group("what is served")
    served.add_argument(
        "--listen",
        metavar="HOST:PORT",
        default="127.0.0.1:8080",
        help="/metrics, /healthz and /readyz; port 0 takes a free one and logs it (default: %(default)s)",
    )
    served.add_argument(
        "--probe", metavar="HOST:PORT", default="", help="/healthz for a kubelet's liveness probe, by kopf"
    )
    outside = run.add_argument_group("what is outside the cluster")
    outside.add_argument(
        "--fence-agents",
        metavar="FOLDER",
        type=Path,
        help="fence agents that may be run, such as /usr/sbin (default: none)",
    )
    said = run.add_argument_group("logs")
    said.add_argument("--log-format", choices=("json", "text"), default="json", help="(default: %(default)s)")
    said.add_argument(
        "--verbose", action="store_true", help="also say what is only of interest when something is wrong"
    )

    plan = _command(commands, "plan", "show what would be done, and why", PLAN, PLAN_EXAMPLES)
    add_files(plan)
    plan.add_argument("--offline", action="store_true", help="no cluster: the files are the world")
    plan.add_argument("-n", "--namespace", metavar="NS", default="", help="only objects of this namespace")
    add_output(plan)
    _add_cluster(plan)

    check = _command(commands, "check", "show what vdcos builds on and what is missing", CHECK, CHECK_EXAMPLES)
    check.add_argument("--before-install", action="store_true", help="leave out what vdcos itself brings along")
    check.add_argument(
        "--only", metavar="CHECK", action="append", default=[], help="only this one, by its name; may be repeated"
    )
    check.add_argument(
        "--namespace", metavar="NS", default="vdcos-system", help="of the operator (default: %(default)s)"
    )
    add_output(check)
    _add_cluster(check)

    uninstall = _command(commands, "uninstall", "detach VMs and disks from vdcos", UNINSTALL, UNINSTALL_EXAMPLES)
    uninstall.add_argument("--yes", action="store_true", help="do it, instead of showing what would be done")
    _add_lease(uninstall)
    add_output(uninstall)
    _add_cluster(uninstall)

    ha = _command(commands, "ha", "what would happen if a host died", HA, HA_EXAMPLES)
    ha.add_argument("what", choices=("status", "drill"), help="what to show")
    ha.add_argument("host", nargs="?", default="", help="with drill: the host that is to be thought dead")
    add_output(ha)
    _add_cluster(ha)

    sim = _command(commands, "sim", "run the operator in a simulated datacenter", SIM, SIM_EXAMPLES)
    sim.add_argument("--seed", type=int, help="replay this seed, with its trace")
    sim.add_argument("--case", default="", metavar="JSON", help="replay a run as it was said, with its trace")
    sim.add_argument("--whole", action="store_true", help="do not make the run of a broken law smaller first")
    sim.add_argument("--first", type=int, default=0, metavar="SEED", help="where to begin (default: %(default)s)")
    sim.add_argument("--seconds", type=float, default=60.0, help="for how long (default: %(default)s)")
    sim.add_argument("--scenario", default="", help="replay a scenario of the catalogue")
    sim.add_argument("--write", type=int, default=0, metavar="N", help="with a fault at the operator's N-th write")
    sim.add_argument("--api", default="none", help="of the request, for example 'crash after' (default: %(default)s)")
    sim.add_argument("--then", default="", metavar="API", help="and with another one of the request that comes next")
    sim.add_argument("--hosts", action="store_true", help="seeds of failing hosts")
    sim.add_argument("--replicas", type=int, default=1, help="processes of the operator (default: %(default)s)")
    sim.add_argument("--view", default="none", help="of the watches, for example 'late' (default: %(default)s)")

    gen = _command(commands, "gen", "write the generated files", GEN, "")
    gen.add_argument("root", nargs="?", default=".", help="the repository (default: the current directory)")
    gen.add_argument("--check", action="store_true", help="write nothing; show differences and exit with 1 if any")

    _command(commands, "version", "print the version", "Print the version.", "")
    return top


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, brief: str, about: str, examples: str
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=brief,
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_files(command: argparse.ArgumentParser, required: bool = False) -> None:
    """Manifests; ``plan.read`` reads them."""
    command.add_argument(
        "-f",
        "--filename",
        metavar="FILE",
        action="append",
        default=[],
        required=required,
        help="manifests in YAML or JSON, - for standard input, a directory for all in it; may be repeated",
    )


def add_output(command: argparse.ArgumentParser, people: str = "table") -> None:
    """How it is shown: for ``people`` by default, or as data."""
    command.add_argument(
        "-o", "--output", choices=(people, "json", "yaml"), default=people, help="(default: %(default)s)"
    )


def _add_lease(options: "argparse._ActionsContainer") -> None:
    options.add_argument(
        "--namespace", metavar="NS", default="vdcos-system", help="of the Lease (default: %(default)s)"
    )
    options.add_argument("--lease-name", metavar="NAME", default="vdcos", help="of the Lease (default: %(default)s)")


def _add_cluster(command: argparse.ArgumentParser) -> None:
    cluster = command.add_argument_group("cluster")
    cluster.add_argument(
        "--kubeconfig",
        metavar="FILE",
        default="",
        help="(default: the pod's service account, else KUBECONFIG, else ~/.kube/config)",
    )
    cluster.add_argument("--context", metavar="NAME", default="", help="of the kubeconfig (default: its current one)")


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point. Returns the exit status."""
    chosen = parser().parse_args(arguments)
    # Everything else is imported by the command that needs it: `vdcos version` and --help should not take a second.
    match chosen.command:
        case "version":
            print(f"vdcos {__version__}")
            return 0
        case "gen":
            from vdcos.generate.__main__ import main as generate

            return generate([chosen.root, *(["--check"] if chosen.check else [])])
        case "plan":
            from vdcos.cli.plan import main as plan

            return plan(chosen)
        case "check":
            from vdcos.cli.check import main as check

            return check(chosen)
        case "uninstall":
            from vdcos.cli.uninstall import main as uninstall

            return uninstall(chosen)
        case "ha":
            if (chosen.what == "drill") is not bool(chosen.host):
                print("vdcos ha: drill, and only drill, takes the name of a host", file=sys.stderr)
                return 1
            from vdcos.cli.ha import main as ha

            return ha(chosen)
        case "sim":
            try:
                from vdcos.cli.sim import main as sim
            except ModuleNotFoundError as error:
                if error.name != "vdcos.testing":
                    raise
                print("vdcos: the simulator is in vdcos' repository, and not in its image or wheel", file=sys.stderr)
                return 1

            return sim(chosen)
        case _:
            return _run(chosen)


def _run(chosen: argparse.Namespace) -> int:
    import asyncio
    import logging

    from vdcos import app
    from vdcos.runtime import logs
    from vdcos.runtime.credentials import NoCluster, Origin

    logs.configure(chosen.log_format, logging.DEBUG if chosen.verbose else logging.INFO)
    try:
        settings = app.Settings(
            origin=Origin.find(chosen.kubeconfig, chosen.context),
            namespace=chosen.namespace,
            lease=chosen.lease_name,
            standalone=chosen.standalone,
            listen=chosen.listen,
            probe=chosen.probe,
            fence_agents=chosen.fence_agents,
        )
        asyncio.run(app.run(settings))
    except (NoCluster, OSError) as error:
        print(f"vdcos: {error}", file=sys.stderr)
        return 1
    except Exception:  # what no part could survive; the log is where people look for it
        logging.getLogger("vdcos").critical("crashed", exc_info=True)
        return 1
    return 0
