"""Shell completion: scripts for bash, zsh and fish, and what kubectl asks ``kubectl_complete-vdc`` for.

All of them call the same program, which prints one candidate a line, with a description after a tab, and in the last
line a directive of cobra's (":4": no file names; ":0": file names): that is kubectl's own protocol for plug-ins.
Candidates that need the cluster are asked for with a short deadline, and left out when nobody answers.
"""

import argparse
import asyncio
import contextlib
import io
import logging
from collections.abc import Iterable, Iterator, Sequence

from vdcos.cli.vdc import COMMANDS, SHELLS, parser
from vdcos.cli.vdc import objects as o

FILES, NO_FILES = ":0", ":4"
"""cobra's ShellCompDirectiveDefault and ShellCompDirectiveNoFileComp."""
SECONDS = 2.0
_TAKES_FILE = ("-f", "--filename", "--kubeconfig")


def main(words: Sequence[str]) -> int:
    """Print candidates for the last of ``words``, which may be empty. Returns 0: completion never complains."""
    logging.disable(logging.CRITICAL)
    try:
        candidates, directive = completions(words or [""])
    finally:
        logging.disable(logging.NOTSET)
    for each in candidates:
        print(each)
    print(directive)
    return 0


def completions(words: Sequence[str]) -> tuple[list[str], str]:
    """Candidates, and the directive."""
    *before, last = words
    if before and before[-1] in _TAKES_FILE:
        return [], FILES
    command = next((word for word in before if word in COMMANDS), "")
    if not command:
        helps = {name: brief for name, brief in _briefs() if name.startswith(last)}
        return [f"{name}\t{brief}" for name, brief in helps.items()], NO_FILES
    if before and before[-1] in ("-o", "--output"):
        return _starting(last, _outputs(command)), NO_FILES
    if before and before[-1] in ("-n", "--namespace"):
        return _starting(last, _names(before, "namespaces")), NO_FILES
    if last.startswith("-"):
        return _starting(last, _options(command)), NO_FILES
    return _arguments(command, before, last), NO_FILES


def _commands() -> "argparse._SubParsersAction[argparse.ArgumentParser]":
    return next(each for each in parser()._actions if isinstance(each, argparse._SubParsersAction))


def _briefs() -> Iterator[tuple[str, str]]:
    for action in _commands()._choices_actions:
        yield action.dest, action.help or ""


def _of(command: str) -> argparse.ArgumentParser:
    return _commands().choices[command]


def _options(command: str) -> Iterator[str]:
    for action in _of(command)._actions:
        yield from (f"{name}\t{(action.help or '') % vars(action)}" for name in action.option_strings if name[1] == "-")


def _outputs(command: str) -> Iterable[str]:
    return next((action.choices for action in _of(command)._actions if "-o" in action.option_strings), None) or ()


def _starting(last: str, candidates: Iterable[str]) -> list[str]:
    return [each for each in candidates if each.startswith(last)]


def _arguments(command: str, before: Sequence[str], last: str) -> list[str]:
    if command == "completion":
        return _starting(last, SHELLS)
    if command == "ha":
        return _starting(last, ("plan",))
    if command == "drill":
        return _starting(last, _names(before, "hosts"))
    if command == "import":
        return _starting(last, _names(before, "kubevirt"))
    if command not in ("tree", "why"):
        return []
    kinds = ("vm",) if command == "tree" else tuple(o.NAMED)
    kind, slash, _ = last.partition("/")
    if not slash:
        return _starting(last, (f"{each}/" for each in kinds))
    return _starting(last, (f"{kind}/{name}" for name in _names(before, kind))) if kind in kinds else []


def _names(before: Sequence[str], what: str) -> list[str]:
    """Names of objects in the cluster; none when they cannot be had soon."""
    from vdcos.cli.vdc import where
    from vdcos.core.foreign.kubernetes import Namespace
    from vdcos.runtime.credentials import NoCluster
    from vdcos.runtime.requests import ApiError

    lookup = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    for flags in (("-n", "--namespace"), ("--kubeconfig",), ("--context",)):
        lookup.add_argument(*flags, default="")
    resources = {**o.NAMED, "hosts": o.HOST, "kubevirt": o.CHILD, "namespaces": Namespace.resource}
    resource = resources[what]
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            chosen, _ = lookup.parse_known_args(list(before))
            namespace = where.namespace_of(chosen) if resource.namespaced else ""
            wanted = o.Wanted(resource, namespace)
            found = asyncio.run(asyncio.wait_for(o.read(where.origin_of(chosen), [wanted]), SECONDS))
    except (argparse.ArgumentError, SystemExit, NoCluster, ApiError, OSError, TimeoutError):
        return []
    return [each["metadata"]["name"] for each in found.all(resource)]


def script(shell: str) -> str:
    """A completion script for ``kubectl-vdc``."""
    return _SCRIPTS[shell]


_BASH = """\
# bash completion for kubectl-vdc: source <(kubectl-vdc completion bash)
_kubectl_vdc() {
    local line directive=:4
    COMPREPLY=()
    # bash takes : for the end of a word; the program wants words as they were typed.
    local words=("${COMP_WORDS[@]:1:COMP_CWORD}")
    while IFS= read -r line; do
        case "$line" in
            :[0-9]*) directive=$line ;;
            *) COMPREPLY+=("${line%%$'\\t'*}") ;;
        esac
    done < <(kubectl_complete-vdc "${words[@]}" 2>/dev/null)
    if [[ $directive == :0 ]]; then
        compopt -o default 2>/dev/null
    fi
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == */ ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F _kubectl_vdc kubectl-vdc
"""
_ZSH = """\
#compdef kubectl-vdc
# zsh completion for kubectl-vdc: put it into a folder of $fpath as _kubectl-vdc
_kubectl_vdc() {
    local line directive=:4
    local -a candidates described
    while IFS= read -r line; do
        case "$line" in
            :[0-9]*) directive=$line ;;
            *) candidates+=("${line%%$'\\t'*}"); described+=("${line/$'\\t'/ -- }") ;;
        esac
    done < <(kubectl_complete-vdc "${(@)words[2,CURRENT]}" 2>/dev/null)
    if [[ $directive == :0 ]]; then
        _files
    else
        compadd -l -d described -S '' -- $candidates
    fi
}
compdef _kubectl_vdc kubectl-vdc
"""
_FISH = """\
# fish completion for kubectl-vdc: put it into ~/.config/fish/completions/kubectl-vdc.fish
function __kubectl_vdc
    set -l words (commandline -opc)[2..-1] (commandline -ct)
    kubectl_complete-vdc $words 2>/dev/null | string match -v -r '^:[0-9]+$'
end
complete -c kubectl-vdc -n '__fish_seen_argument -s f' -F
complete -c kubectl-vdc -f -a '(__kubectl_vdc)'
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
