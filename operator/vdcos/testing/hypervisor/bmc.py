"""A host's BMC: what it says of the host's power, and what it does about it. Pure, as the host is."""

import math

from vdcos.testing.hypervisor.values import Event, Fault, Host, PowerOff, Recover

RESETS = ("On", "ForceOff", "ForceRestart")


def delay(host: Host) -> float:
    """How many seconds the BMC takes to answer; infinity when it never will.

    One that is dead hangs on its host's power and went down with it.
    """
    if (Fault.BMC_TIMEOUT, "") in host.faults or ((Fault.BMC_DEAD, "") in host.faults and not host.powered):
        return math.inf
    return host.faults.get((Fault.BMC_SLOW, ""), 0.0)


def power(host: Host) -> str:
    """On or Off. A liar says Off, whatever is true."""
    return "On" if host.powered and (Fault.LIAR, "") not in host.faults else "Off"


def reset(host: Host, kind: str) -> tuple[Event, ...]:
    """What happens to the host by a reset that the BMC accepts. A liar accepts everything and does nothing.

    To give power to a host that has it ends neither a partition nor a hang.
    """
    if (Fault.LIAR, "") in host.faults:
        return ()
    off: tuple[Event, ...] = (PowerOff(),) if host.powered and kind != "On" else ()
    on: tuple[Event, ...] = (Recover(),) if kind == "ForceRestart" or (kind == "On" and not host.powered) else ()
    return off + on
