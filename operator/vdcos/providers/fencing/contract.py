"""The contract of a power switch. A third party implements ``PowerSwitch`` and imports nothing but this module.

A provider tells whether a host has power, and takes it away. Everything that makes this safe is not its business and
cannot be got wrong by it: that the intention is stored first, that a power-off is never repeated blindly, that the
power is read back twice, that a switch which says Off while the host lives is not believed.

A distribution announces its provider in the entry point group ``vdcos.fencing``; the entry point's name is what users
write in ``bmc.plugin.provider`` of a Host and in ``fencing.providers`` of a policy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

CONTRACT = 1
"""Version of this contract. It changes only when an existing provider would have to change."""

ENTRY_POINTS = "vdcos.fencing"


class Power(StrEnum):
    """What a power switch says. Nothing but Off means off."""

    ON = "On"
    OFF = "Off"
    OTHER = "Other"
    """On the way from one to the other, or unknown."""


@dataclass(frozen=True, slots=True)
class Target:
    """One host's power switch."""

    host: str
    """Name of the Host."""
    parameters: Mapping[str, Any]
    """``bmc.plugin.parameters`` (strings); built-in providers get their own member of ``bmc``, as in the manifest."""
    secret: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The data of the Secret that the Host names; empty without one. Never to be logged or shown."""
    seconds: float = 10.0
    """How long the call may take. After that it is cancelled, and its result is of no use to anybody."""


class Failed(Exception):
    """The switch did not do what it was asked, or may not have done it. The text is shown to administrators: what is
    wrong and what would be right, the same words for the same cause, and no secrets."""


class PowerSwitch(Protocol):
    """A kind of power switches. Calls for different hosts run side by side, and are cancelled at their deadline."""

    @property
    def contract(self) -> int:
        """The ``CONTRACT`` that it was written for; a class attribute will do."""

    async def power(self, target: Target) -> Power:
        """Whether the host has power, as it is now: never from a cache. Changes nothing. Raises Failed."""

    async def power_off(self, target: Target) -> None:
        """Take the power away at once, without asking the operating system; good when there is none to take.

        Returns when the switch has accepted it, and need not wait until it is done. Never repeats by itself what may
        have been done. Raises Failed.
        """


@dataclass(frozen=True, slots=True)
class Broken:
    """Stands in for a provider that is installed but cannot be loaded; ``why`` says so whenever it is asked."""

    why: str
    contract: int = CONTRACT

    async def power(self, target: Target) -> Power:
        raise Failed(self.why)

    async def power_off(self, target: Target) -> None:
        raise Failed(self.why)
