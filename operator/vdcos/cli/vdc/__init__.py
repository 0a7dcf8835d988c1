"""The plug-in of kubectl: ``kubectl vdc status | tree | why | ha | drill | diff | import | completion``.

It reads with the rights of whoever runs it, and writes nothing.
"""

import argparse
import sys
from collections.abc import Sequence

from vdcos import __version__
from vdcos.cli import add_files, add_output

ABOUT = """\
The virtual datacenter from kubectl: what there is, why something is not well, and what a change
would do. It reads with your own rights, and writes nothing.
"""

STATUS = """\
The datacenter on one screen: hosts, VMs by state, protection and failover capacity, datastores,
networks, what is not well, and the next thing to do.

Of VMs it shows those of your namespace, or of all namespaces with -A. What you have no right to
read is left out, and named.
"""
STATUS_EXAMPLES = """\
examples:
  kubectl vdc status -A
  kubectl vdc status -n shop
  kubectl vdc status -A -o json | jq '.notWell[] | select(.kind == "Host")'

exit status: 0 all is well, 2 something is not, 1 an error
"""

TREE = """\
What a VM is made of: our object, the KubeVirt VM, its instance, pod and host, and its disks (DataVolume,
claim, volume) and NICs. Without a name, all VMs of the namespace.
"""
TREE_EXAMPLES = """\
examples:
  kubectl vdc tree vm/web-1 -n shop
  kubectl vdc tree -n shop
  kubectl vdc tree vm/web-1 -n shop -o json | jq '.[].pods[].node'

exit status: 0 shown, 1 an error
"""

WHY = """\
Why something is not well: the chain of causes in plain words, and the next thing to do.

KIND is vm, network, datastore, host, hapolicy or hostfailure.
"""
WHY_EXAMPLES = """\
examples:
  kubectl vdc why vm/web-1 -n shop
  kubectl vdc why host/host-1
  kubectl vdc why vm/web-1 -n shop -o json | jq -r '.next[]'

exit status: 0 it is well, 2 it is not, 1 an error
"""

HA = """\
High availability.

  kubectl vdc ha plan      policies, hosts with what would come of their failure, and failures under way
"""
HA_EXAMPLES = """\
examples:
  kubectl vdc ha plan
  kubectl vdc drill host-1       every VM of a host: order of restart and target, or why not

exit status: 0 shown, 1 an error
"""

DRILL = """\
What would become of each VM of a host if it died now: its turn, its target, or why it would stay down.
Nothing is touched. It takes the right to list pods, nodes and volumes of the whole cluster.
"""
DRILL_EXAMPLES = """\
examples:
  kubectl vdc drill host-1
  kubectl vdc drill host-1 -o json | jq '.virtualMachines[] | select(.target == null)'

exit status: 0 it was found out, 1 an error
"""

DIFF = """\
What applying manifests would change, field by field: at once, while VMs run, or at their next start;
and what would be refused. Nothing is written: the API server validates by a dry run, for which it
asks for the right that the write itself would take.
"""
DIFF_EXAMPLES = """\
examples:
  kubectl vdc diff -f vm.yaml
  kustomize build . | kubectl vdc diff -f -

exit status: 0 nothing would change, 2 something would, 1 an error, or something would be refused
             or cannot be compared
"""

IMPORT = """\
Manifests for VMs that KubeVirt runs already, so that they are taken over without a restart.

Prints one VirtualMachine for each; and, as comments, what is not taken over and what changes at the
next start. Nothing is written. A VM is taken over once its manifest is applied and its owner has
agreed: kubectl annotate vm NAME vdcos.dev/adoptable=true.
"""
IMPORT_EXAMPLES = """\
examples:
  kubectl vdc import -n shop > shop.yaml       all of the namespace that are not ours yet
  kubectl vdc import web-1 db-1 -n shop        these
  kubectl annotate vm web-1 -n shop vdcos.dev/adoptable=true
  kubectl apply -f shop.yaml

exit status: 0 all can be taken over, 2 some cannot (their reasons are comments), 1 an error
"""

COMPLETION = """\
Print a completion script for a shell. kubectl itself completes `kubectl vdc` when it finds a program
kubectl_complete-vdc in the PATH: it comes with this package.
"""
COMPLETION_EXAMPLES = """\
examples:
  source <(kubectl-vdc completion bash)
  kubectl-vdc completion zsh > "${fpath[1]}/_kubectl-vdc"
  kubectl-vdc completion fish > ~/.config/fish/completions/kubectl-vdc.fish
"""

COMMANDS = ("status", "tree", "why", "ha", "drill", "diff", "import", "completion", "version")
SHELLS = ("bash", "zsh", "fish")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    raw = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser("kubectl vdc", description=ABOUT, formatter_class=raw)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, brief: str, about: str, examples: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=brief, description=about, epilog=examples, formatter_class=raw)

    status = command("status", "the datacenter on one screen", STATUS, STATUS_EXAMPLES)
    _add_namespace(status, every=True)
    add_output(status)
    tree = command("tree", "what a VM is made of, down to its host", TREE, TREE_EXAMPLES)
    tree.add_argument("what", nargs="*", metavar="vm/NAME", help="one or several VMs")
    _add_namespace(tree)
    add_output(tree, "tree")
    why = command("why", "why something is not well, and what to do next", WHY, WHY_EXAMPLES)
    why.add_argument("what", metavar="KIND/NAME", help="the object")
    _add_namespace(why)
    add_output(why, "text")
    ha = command("ha", "what would happen if a host died", HA, HA_EXAMPLES)
    ha.add_argument("what", choices=("plan",), metavar="plan", help="policies, hosts, failures")
    add_output(ha)
    drill = command("drill", "what would become of each VM of a host", DRILL, DRILL_EXAMPLES)
    drill.add_argument("host", metavar="HOST", help="the host that is to be thought dead")
    add_output(drill)
    diff = command("diff", "what a change would do, and when", DIFF, DIFF_EXAMPLES)
    add_files(diff, required=True)
    _add_namespace(diff)
    add_output(diff)
    imported = command("import", "manifests for VMs that KubeVirt runs already", IMPORT, IMPORT_EXAMPLES)
    imported.add_argument("names", nargs="*", metavar="NAME", help="KubeVirt VMs (default: all that are not ours)")
    _add_namespace(imported, every=True)
    imported.add_argument("-o", "--output", choices=("yaml", "json"), default="yaml", help="(default: %(default)s)")
    for each in (status, tree, why, ha, drill, diff, imported):
        _add_cluster(each)
    completion = command("completion", "a completion script for a shell", COMPLETION, COMPLETION_EXAMPLES)
    completion.add_argument("shell", choices=SHELLS)
    command("version", "print the version", "Print the version.", "")
    return top


def _add_namespace(command: argparse.ArgumentParser, every: bool = False) -> None:
    command.add_argument("-n", "--namespace", metavar="NS", default="", help="(default: that of the context)")
    if every:
        command.add_argument("-A", "--all-namespaces", action="store_true", help="of all namespaces")


def _add_cluster(command: argparse.ArgumentParser) -> None:
    cluster = command.add_argument_group("cluster")
    cluster.add_argument("--kubeconfig", metavar="FILE", default="", help="(default: KUBECONFIG, else ~/.kube/config)")
    cluster.add_argument("--context", metavar="NAME", default="", help="of the kubeconfig (default: its current one)")


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point of ``kubectl-vdc``. Returns the exit status."""
    chosen = parser().parse_args(arguments)
    if chosen.command == "version":
        print(f"kubectl vdc {__version__}")
        return 0
    if chosen.command == "completion":
        from vdcos.cli.vdc.completion import script

        print(script(chosen.shell), end="")
        return 0
    return _run(chosen)


def complete(arguments: Sequence[str] | None = None) -> int:
    """The entry point of ``kubectl_complete-vdc``, which kubectl asks for completions of ``kubectl vdc``."""
    from vdcos.cli.vdc.completion import main as completed

    return completed(list(sys.argv[1:] if arguments is None else arguments))


def _run(chosen: argparse.Namespace) -> int:
    try:
        from vdcos.cli.vdc import run
    except ModuleNotFoundError as error:
        if error.name != "rich":
            raise
        print("kubectl vdc: it is not installed as a whole: pip install 'vdcos[kubectl]'", file=sys.stderr)
        return 1
    try:
        return run.main(chosen)
    except BrokenPipeError:  # whoever read it, as head does, has seen enough
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        return 130
