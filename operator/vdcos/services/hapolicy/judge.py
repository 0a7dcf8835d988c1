"""What is asked about a host that falls silent, and what the answers mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vdcos.api.fencing import Bmc
from vdcos.api.hapolicy import Detection, Probe
from vdcos.core.foreign.kubernetes import NODE_LEASES, Lease
from vdcos.core.objects import Key
from vdcos.core.plan import Answer, Ask, Instant, Silence
from vdcos.providers.fencing import fence
from vdcos.providers.fencing.contract import Power
from vdcos.providers.witnesses.evidence import (
    BLIND_SECONDS,
    HEARTBEAT,
    POWER,
    PROBE,
    READY,
    Evidence,
    Testimony,
    Thresholds,
    Verdict,
    verdict,
)
from vdcos.services.hapolicy.seen import Seen, SeenHost

POWER_SECONDS = 5.0
"""How long the BMC may take to say whether there is power, and how old its answer may be."""
AGAIN_SECONDS = 0.25
"""Looks of a policy are no closer than that: what is heard lags behind the clock, and time alone brings nothing new."""
DEAF_SECONDS = 1.0
"""The same while nothing is heard at all."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One host, what is known of it, and what is asked to know more."""

    host: SeenHost
    verdict: Verdict
    testimony: tuple[Testimony, ...] = ()
    asks: tuple[Ask, ...] = ()
    silence: Silence | None = None
    after: float | None = None

    @property
    def name(self) -> str:
        return self.host.node.metadata.name


def asked_after(detection: Detection) -> float:
    """After how much silence witnesses are asked, so that they have answered when the Lease is stale; not so early
    that a kubelet that renews in time is asked about."""
    probing = detection.probe.failures * detection.probe.interval_seconds
    early = detection.lease_seconds - min(probing, 0.3 * detection.lease_seconds)
    return early if detection.power_off_seconds is None else min(early, 0.6 * detection.power_off_seconds)


def judge_all(detection: Detection, seen: Seen, now: Instant) -> tuple[Judged, ...]:
    """Every host of a policy."""
    thresholds = Thresholds(detection.lease_seconds, detection.agree, detection.power_off_seconds)
    silent = {host.node.metadata.name: _silent(host, seen) for host in seen.hosts}
    stale = sum(seconds >= detection.lease_seconds for seconds in silent.values())
    return tuple(
        _judge(host, silent[host.node.metadata.name], stale, detection, thresholds, seen, now) for host in seen.hosts
    )


def _silent(host: SeenHost, seen: Seen) -> float:
    return max(0.0, seen.heard - host.silent_since) if host.silent_since is not None else 0.0


def _judge(
    host: SeenHost,
    silent: float,
    stale: int,
    detection: Detection,
    thresholds: Thresholds,
    seen: Seen,
    now: Instant,
) -> Judged:
    if host.is_proved_down:
        return Judged(host, Verdict("Dead", "it is proved to be down, and was not heard since"))
    deaf = now.mono - seen.heard
    name = host.node.metadata.name
    early = asked_after(detection)
    if silent < early or deaf >= BLIND_SECONDS:
        found = verdict(Evidence(deaf, silent, stale, len(seen.hosts)), thresholds)
        # A silence that is over by our clock, and of which not all has been heard yet, wakes nobody any more. Nor does
        # it that we see again.
        over = host.silent_since is not None and now.mono >= host.silent_since + early
        after = max(AGAIN_SECONDS, early - silent) if over else None
        if deaf >= BLIND_SECONDS:
            after = DEAF_SECONDS
        return Judged(host, found, silence=Silence(Lease, Key(NODE_LEASES, name), early), after=after)
    testimony = tuple(_testimony(host, detection, seen, now))
    found = verdict(Evidence(deaf, silent, stale, len(seen.hosts), testimony), thresholds)
    due = [
        seconds - silent for seconds in (detection.lease_seconds, detection.power_off_seconds) if seconds is not None
    ]
    if host.beaten is not None:
        due.append(detection.heartbeat_seconds - host.heart_silent)
    after = min((max(AGAIN_SECONDS, seconds) for seconds in due if seconds > 0), default=None)
    return Judged(host, found, testimony, tuple(_asks(host, detection)), after=after)


def _testimony(host: SeenHost, detection: Detection, seen: Seen, now: Instant) -> list[Testimony]:
    """What each witness says of the time since the last renewal."""
    name, since = host.node.metadata.name, host.renewed or 0.0
    said = [_node(host), _heartbeat(host, detection, since), _probe(seen.answers.get(_probe_id(name)), since)]
    said.append(_power(seen.answers.get(_power_id(name)), since))
    third = ((each.provider, seen.answers.get(_witness_id(each.provider, name))) for each in detection.witnesses)
    return said + [_third_party(provider, answer, since) for provider, answer in third]


def _node(host: SeenHost) -> Testimony:
    """Kubernetes' node lifecycle controller says Unknown; False is the kubelet's own word."""
    if host.node.ready == "Unknown":
        return Testimony(READY, "Dead", "Kubernetes does not hear of it either (Ready is Unknown)")
    return Testimony(READY, "Unknown", f"Kubernetes has not noticed yet (Ready is {host.node.ready or 'not known'})")


def _heartbeat(host: SeenHost, detection: Detection, since: float) -> Testimony:
    if host.beaten is None:
        return Testimony(HEARTBEAT, "Unknown", "virt-handler has never shown itself")
    if host.heart_silent >= detection.heartbeat_seconds:
        return Testimony(HEARTBEAT, "Dead", f"virt-handler is silent for {detection.heartbeat_seconds} s or longer")
    if host.beaten > since + detection.lease_seconds:
        return Testimony(HEARTBEAT, "Alive", "virt-handler has given a sign of life since")
    return Testimony(HEARTBEAT, "Unknown", "virt-handler is not due yet")


def _probe(answer: Answer | None, since: float) -> Testimony:
    if answer is None or answer.asked <= since or not answer.ok:
        return Testimony(PROBE, "Unknown", "its kubelet was not asked")
    if answer.value.get("answered"):
        return Testimony(PROBE, "Alive", f"port of its kubelet {answer.value.get('how', 'answers')}")
    return Testimony(PROBE, "Dead", "the port of its kubelet does not answer")


def _power(answer: Answer | None, since: float) -> Testimony:
    if answer is None or answer.asked <= since:
        return Testimony(POWER, "Unknown", "its BMC was not asked")
    if not answer.ok:
        return Testimony(POWER, "Unknown", f"its BMC does not say: {answer.error}")
    if answer.value.get("power") == Power.OFF:
        return Testimony(POWER, "Dead", "its BMC says that it has no power")
    return Testimony(POWER, "Unknown", "its BMC says that it has power, which does not prove that it lives")


def _third_party(name: str, answer: Answer | None, since: float) -> Testimony:
    says = answer.value.get("says") if answer is not None and answer.ok and answer.asked > since else None
    if says not in ("Alive", "Dead"):
        return Testimony(name, "Unknown", "does not know")
    return Testimony(name, says, f"says {says}")


# What is asked


def _asks(host: SeenHost, detection: Detection) -> list[Ask]:
    name = host.node.metadata.name
    asks = []
    if host.node.address:
        asks.append(_knock(name, host.node.address, host.node.status.daemon_endpoints.kubelet_endpoint.port, detection))
    bmc = host.host.spec.bmc if host.host is not None else None
    if (power := _power_ask(name, bmc)) is not None:
        asks.append(power)
    for witness in detection.witnesses:
        request = {"host": name, "parameters": dict(witness.parameters)}
        deadline, fresh = float(witness.timeout_seconds), float(witness.interval_seconds)
        id_ = _witness_id(witness.provider, name)
        asks.append(Ask(id_, witness.provider, request, deadline, name, fresh=fresh))
    return asks


def _knock(name: str, address: str, port: int, detection: Detection) -> Ask:
    """Several attempts are one ask: its answer is that there was one, or that all were in vain."""
    probe: Probe = detection.probe
    request = {
        "address": address,
        "port": port or probe.port,
        "attempts": probe.failures,
        "interval": probe.interval_seconds,
        "timeout": probe.timeout_seconds,
    }
    longest = probe.failures * probe.interval_seconds + probe.timeout_seconds + 1.0
    return Ask(_probe_id(name), PROBE, request, longest, name, fresh=float(probe.interval_seconds))


def _power_ask(name: str, bmc: Bmc | None) -> Ask | None:
    declared: Mapping[str, Any] = fence.switches(bmc)
    for provider, parameters in declared.items():
        request = {"operation": "state", "host": name, "parameters": parameters}
        return Ask(_power_id(name), provider, request, POWER_SECONDS, name, fresh=POWER_SECONDS)
    return None


def _probe_id(host: str) -> str:
    return f"probe/{host}"


def _power_id(host: str) -> str:
    return f"power/{host}"


def _witness_id(provider: str, host: str) -> str:
    return f"witness/{provider}/{host}"
