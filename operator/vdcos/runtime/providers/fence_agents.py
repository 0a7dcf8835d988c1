"""Power switches by the programs of the fence-agents project, as Pacemaker calls them: parameters on standard input."""

import re
import stat
from pathlib import Path
from typing import ClassVar

from vdcos.providers.fencing.contract import CONTRACT, Failed, Power, Target
from vdcos.runtime.providers.programs import Ended, run

NAME = re.compile(r"fence_[a-z0-9_]+")
PARAMETER = re.compile(r"[a-z][a-z0-9_]{0,62}")
RESERVED = re.compile(
    r"action|method|login|username|passwd|password|debug|verbose|help|version|kubeconfig|.*(path|script|options|file|cmd)"
)
"""What makes an agent run another program or use files, and what we say ourselves. The schema refuses it as well."""
STATUS = {0: Power.ON, 2: Power.OFF}
"""Exit codes of action ``status`` (FenceAgentAPI)."""
COMPLAINT = 160


class FenceAgents:
    """A ``PowerSwitch``. ``folder`` holds the agents that may be run; without one, none may."""

    contract: ClassVar[int] = CONTRACT

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    async def power(self, target: Target) -> Power:
        ended = await self._run(target, "status")
        found = STATUS.get(ended.code)
        if found is None:
            raise Failed(_complaint(target, ended))
        return found

    async def power_off(self, target: Target) -> None:
        ended = await self._run(target, "off")
        if ended.code != 0:
            raise Failed(_complaint(target, ended))

    async def _run(self, target: Target, action: str) -> Ended:
        program = self._program(str(target.parameters["agent"]))
        lines = {"action": action, **_parameters(target)}
        lines |= {key: value for key in ("username", "password") if (value := target.secret.get(key))}
        if wrong := [name for name, value in lines.items() if "\n" in value or "\r" in value]:
            raise Failed(f"{', '.join(wrong)}: a value must be a single line")
        given = "".join(f"{name}={value}\n" for name, value in lines.items())
        try:
            return await run([str(program)], given, target.seconds)
        except OSError as error:
            raise Failed(f"{program.name} cannot be run ({error.strerror})") from error

    def _program(self, name: str) -> Path:
        """Raises Failed."""
        if self._folder is None:
            raise Failed("no folder of fence agents is configured: run vdcos with --fence-agents FOLDER")
        if not NAME.fullmatch(name):
            raise Failed(f"{name!r} is not the name of a fence agent")
        program = self._folder / name
        try:
            modes = [self._folder.stat().st_mode, program.stat().st_mode]
        except OSError as error:
            raise Failed(f"there is no fence agent {name} in {self._folder}") from error
        if not stat.S_ISREG(modes[1]):
            raise Failed(f"{program} is not a program")
        if any(mode & (stat.S_IWOTH | stat.S_IWGRP) for mode in modes):
            raise Failed(f"{program}, or its folder, can be written by others than its owner: it is not run")
        return program


def _parameters(target: Target) -> dict[str, str]:
    """Raises Failed."""
    parameters = {str(name): str(value) for name, value in (target.parameters.get("parameters") or {}).items()}
    for name in parameters:
        if not PARAMETER.fullmatch(name) or RESERVED.fullmatch(name):
            raise Failed(f"parameter {name!r} is not allowed")
    return parameters


def _complaint(target: Target, ended: Ended) -> str:
    """The last line that the agent has complained with, without the time that it may begin with."""
    lines = [line.strip() for line in ended.complained.splitlines() if line.strip()]
    said = re.sub(r"^[-0-9:, .TZ]+", "", lines[-1])[:COMPLAINT] if lines else "it does not say why"
    return f"{target.parameters['agent']} ended with status {ended.code}: {said}"
