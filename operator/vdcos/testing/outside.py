"""What is outside the cluster and can be asked: power switches and kubelets' ports, by the truth of the hosts.

The real Answers, with its rule that an effect begins once or never, decides what is begun; here is when it arrives and
what comes of it. What has been sent arrives, even when the process that sent it has ended; its answer is then lost.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vdcos.core.plan import Ask
from vdcos.runtime.answers import Reply
from vdcos.runtime.queue import Item
from vdcos.testing.cluster import Tell
from vdcos.testing.hypervisor import bmc
from vdcos.testing.hypervisor.values import Host

if TYPE_CHECKING:
    from vdcos.testing.replica import Replica
    from vdcos.testing.simulator import World

PROBE = "probe"
BMC_SECONDS = 0.2
"""That a BMC needs to answer."""
OFF_SECONDS = 1.5
"""From the acceptance of a power-off until the host is off."""
HASTY = 0.6
"""So long after that a hasty BMC says Off, whatever is true."""
PACKET = 0.01
LEAST_LEASE = 1.0
"""As ``runtime.asks.Limits.least_lease``."""
OFF = "off"


@dataclass(frozen=True, slots=True)
class _Sent:
    """An ask on its way. Names and times only, so that it tells states of the world apart."""

    replica: str
    life: int
    item: Item
    id: str
    asked: float
    target: str


@dataclass(frozen=True, slots=True)
class Reaches(_Sent):
    """It comes to what is asked."""

    what: str
    """``probe``, or what a power switch is to do."""
    deadline: float
    """Seconds from then on that the asker waits."""
    attempts: int = 1
    interval: float = 0.0
    timeout: float = 0.0


@dataclass(frozen=True, slots=True)
class Replied(_Sent):
    """Its answer comes back."""

    ok: bool
    says: str = ""


class Outside:
    """The Asker of one process."""

    def __init__(self, world: "World", replica: "Replica") -> None:
        self._world = world
        self._replica = replica

    def start(self, item: Item, ask: Ask, reply: Reply) -> None:
        """The answer finds its way by item and id, because a fork has another ``reply``."""
        replica = self._replica
        if self._world.laws is not None:
            self._world.laws.asked(self._world, replica, item, ask)
        sent = (replica.name, replica.life, item, ask.id, self._world.mono(), ask.target)
        if ask.effect and replica.remaining() < LEAST_LEASE:
            self._world.at(0.0, Replied(*sent, ok=False, says="not the leader any more"))
        elif ask.provider == PROBE:
            request = ask.request
            tries = (request["attempts"], request["interval"], request["timeout"])
            self._world.at(PACKET, Reaches(*sent, PROBE, ask.deadline, *tries))
        else:
            self._world.at(self._soon(BMC_SECONDS), Reaches(*sent, ask.request["operation"], ask.deadline))

    def stop(self, item: Item, ask: Ask) -> None:
        """What has been sent arrives all the same, and its answer finds nobody."""

    def replied(self, answer: Replied) -> None:
        """Hand an answer to who waits for it, if somebody does."""
        replica = self._replica
        if answer.life != replica.life or replica.restarts_at < math.inf:
            return
        answers = replica.engine._answers
        held = answers._held.get(answer.item, {}).get(answer.id)
        if held is not None and held.asked == answer.asked:
            value = _value(answer) if answer.ok else {}
            answers._answered(answer.item, held, answer.ok, value, "" if answer.ok else answer.says)

    def _soon(self, seconds: float) -> float:
        return self._world.chance.delay(self._world.now, seconds) - self._world.now


def reach(world: "World", sent: Reaches) -> None:
    """What is asked does what it does, and answers if it can."""
    host = world.cluster.hosts[sent.target]
    if sent.what == PROBE:
        _probed(world, sent, host)
        return
    delay = bmc.delay(host)
    if delay == math.inf:
        world.at(sent.deadline, _reply(sent, False, f"no answer within {sent.deadline:g} s"))
        return
    if sent.what == OFF:
        for event in bmc.reset(host, "ForceOff"):
            world.at(delay + BMC_SECONDS + OFF_SECONDS, Tell(sent.target, event))
        world.cluster.accepted[sent.target] = world.now + delay
    late = delay > sent.deadline
    says = f"no answer within {sent.deadline:g} s" if late else "" if sent.what == OFF else _power(world, host)
    world.at(min(sent.deadline, delay + BMC_SECONDS), _reply(sent, not late, says))


def _power(world: "World", host: Host) -> str:
    hasty = host.name in world.cluster.hasty and world.now - world.cluster.accepted.get(host.name, -math.inf) < HASTY
    return "Off" if hasty else bmc.power(host)


def _probed(world: "World", sent: Reaches, host: Host) -> None:
    """One attempt to connect; the last one's silence is an answer."""
    reached = host.powered and not host.hung and (host.connected or host.name in world.cluster.near)
    if reached and not world.chance.lost():
        world.at(PACKET, _reply(sent, True, "answers"))
    elif sent.attempts > 1:
        world.at(sent.interval, replace(sent, attempts=sent.attempts - 1))
    else:
        world.at(sent.timeout, _reply(sent, True, "silent"))


def _reply(sent: Reaches, ok: bool, says: str) -> Replied:
    return Replied(sent.replica, sent.life, sent.item, sent.id, sent.asked, sent.target, ok, says)


def _value(answer: Replied) -> Mapping[str, Any]:
    """In the form in which the real providers give it."""
    match answer.says:
        case "answers":
            return {"answered": True, "how": "answers"}
        case "silent":
            return {"answered": False}
        case "":
            return {}
    return {"power": answer.says}
