"""Power switches by IPMI 2.0 over LAN, through pyghmi in a process of its own.

pyghmi blocks, and keeps sessions and sockets in globals that threads would share.
``python -m vdcos.runtime.providers.ipmi`` is that process: it reads one request, in JSON, and prints one answer.
"""

import json
import sys
from typing import Any, ClassVar

from vdcos.providers.fencing.contract import CONTRACT, Failed, Power, Target
from vdcos.runtime.providers.programs import run

POWER = {"on": Power.ON, "off": Power.OFF}
TOLD = 160


class Ipmi:
    """A ``PowerSwitch``. ``parameters`` are ``bmc.ipmi``; the Secret holds username and password."""

    contract: ClassVar[int] = CONTRACT

    async def power(self, target: Target) -> Power:
        return POWER.get(str((await self._ask(target, "state")).get("powerstate")), Power.OTHER)

    async def power_off(self, target: Target) -> None:
        await self._ask(target, "off")

    async def _ask(self, target: Target, operation: str) -> dict[str, Any]:
        for key in ("username", "password"):
            if not target.secret.get(key):
                raise Failed(f"Secret {target.parameters.get('credentials')} has no {key}")
        request = {
            "operation": operation,
            "address": target.parameters["address"],
            "port": target.parameters.get("port", 623),
            "username": target.secret["username"],
            "password": target.secret["password"],
        }
        command = [sys.executable, "-I", "-m", "vdcos.runtime.providers.ipmi"]
        ended = await run(command, json.dumps(request), target.seconds)
        try:
            answer = json.loads(ended.said)
        except ValueError as error:
            raise Failed(f"IPMI to {request['address']} ended with status {ended.code}") from error
        if "error" in answer:
            raise Failed(f"IPMI to {request['address']}: {str(answer['error'])[:TOLD]}")
        return dict(answer)


def main() -> None:
    from pyghmi.exceptions import PyghmiException
    from pyghmi.ipmi.command import Command

    request = json.load(sys.stdin)
    try:
        bmc = Command(
            bmc=request["address"],
            userid=request["username"],
            password=request["password"],
            port=request["port"],
            keepalive=False,
        )
        answer = bmc.set_power("off") if request["operation"] == "off" else bmc.get_power()
    except (PyghmiException, OSError) as error:
        answer = {"error": str(error) or type(error).__name__}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
