"""What is known of a host's death, and what to do next to be sure of it. Pure: whoever calls carries it out."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from vdcos.api.fencing import Bmc, Fencing, FencingProvider
from vdcos.core import ownership
from vdcos.core.foreign.medik8s import FenceAgentsRemediation, FenceAgentsRemediationTemplate
from vdcos.core.objects import Key, Unreadable
from vdcos.core.plan import Answer, Ask, Instant, Manifest
from vdcos.providers.fencing.contract import Power
from vdcos.providers.witnesses.evidence import BLIND_SECONDS

SPACING = 0.5
"""Seconds between two readings of the power: two in one breath prove no more than one. And, at least, between two looks
at a silence: what is heard of hosts lags behind our clock, so that soon is as good as at once."""
REQUEST_SECONDS: Mapping[str, float] = {"redfish": 10.0, "ipmi": 10.0}
"""Deadline of one request. Other providers' may take all of an attempt: a fence agent waits until the host is off."""
READING_SECONDS = 5.0
DARK_PAUSE = 1.0
"""Seconds between two looks while nothing is heard of hosts."""
DARK = "nothing is heard of hosts, so no power is cut for now"
LONGEST_READING = 30.0
MEDIK8S = "medik8s"
NOT_SWITCHES = (MEDIK8S, "cloud", "watchdog", "manual", "node")
"""Names that no third party's power switch can have."""
NOT_DECLARED = "the Host declares no such power switch in spec.bmc"
INCARNATION = f"{ownership.GROUP}/incarnation"
"""Annotation on a remediation: which incarnation of its node it was made for."""
FAILURE = f"{ownership.GROUP}/failure"
"""Another: the uid of the HostFailure that it was made for. What an earlier one came to says nothing of a later one."""
ATTEMPT = f"{ownership.GROUP}/attempt"
"""Another: the id of the attempt that it was made for."""
HEARD = f"{ownership.GROUP}/last-heard"
"""Another: the time in the host's Lease when it was made. A host that was heard since may not be down."""

How = Literal["PoweredOff", "Rebooted", "NodeDeleted", "Confirmed", "StoppedItself", "Remediated"]


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that an incarnation of a host does not run any more. It counts only once it is stored."""

    provider: str
    incarnation: str
    how: How
    proof: str
    """The same, for people: what was seen."""


class Tried(NamedTuple):
    """How a provider's last attempt failed."""

    provider: str
    why: str


@dataclass(frozen=True, slots=True)
class Progress:
    """What a failure's status keeps of its fencing. ``asked`` are ids of effects, the present attempt last."""

    asked: tuple[str, ...] = ()
    tried: tuple[Tried, ...] = ()


class Confirmation(NamedTuple):
    """Somebody's word that an incarnation is down."""

    incarnation: str
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class Host:
    """The host that failed, as it was when it failed. ``incarnation`` is its boot id, ``machine`` its system UUID."""

    name: str
    incarnation: str
    machine: str
    failure: str
    """The uid of the HostFailure: of another one of the same life nothing counts."""
    bmc: Bmc | None = None
    provider_id: str = ""
    """What a cloud calls the machine (``Node.spec.providerID``)."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What is seen of the host now. Times are monotonic seconds of this process."""

    last_sign: float
    """When the host last gave a sign of life: its Lease or a heartbeat changed, a probe was answered."""
    known_until: float
    """Up to when we would have seen one: the oldest word that we have of a source of such signs."""
    node: Literal["Present", "Gone", "Unknown"] = "Present"
    boot_id: str = ""
    """The boot id and the system UUID that its Node shows now; empty without a Node."""
    machine: str = ""
    confirmed: Confirmation | None = None
    remediation: FenceAgentsRemediation | Unreadable | None = None
    """The remediation of the host's name in the template's namespace."""
    remediation_since: float = 0.0
    """When it was first seen, or last changed."""
    renewal: str = ""
    """The time in the host's Lease; empty when there is none."""
    template: FenceAgentsRemediationTemplate | Unreadable | None = None

    @property
    def quiet(self) -> float:
        """For how many seconds the host is known to have been silent."""
        return self.known_until - self.last_sign

    def are_dark(self, now: float) -> bool:
        """Nothing is heard of hosts. Nobody's power is cut then: this one may have booted meanwhile, and run VMs."""
        return now - self.known_until >= BLIND_SECONDS


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next. Without a receipt, ``why`` says what is missing and what would bring it."""

    receipt: Receipt | None = None
    progress: Progress = Progress()
    asks: tuple[Ask, ...] = ()
    remediation: Manifest | None = None
    """A remediation to be created."""
    withdrawn: FenceAgentsRemediation | None = None
    """A remediation to be deleted: one of ours that can prove nothing any more, and is in the way of another."""
    why: str = ""
    after: float | None = None
    """Seconds until the next look is due even if nothing happens."""


class _Pending(NamedTuple):
    asks: tuple[Ask, ...]
    why: str
    after: float | None = None
    remediation: Manifest | None = None
    withdrawn: FenceAgentsRemediation | None = None


class _Failure(NamedTuple):
    """``at`` is in monotonic seconds. ``deaf``: there is no use in another attempt right now."""

    why: str
    at: float
    asks: tuple[Ask, ...] = ()
    deaf: bool = False


_Outcome = Receipt | _Pending | _Failure


@dataclass(frozen=True, slots=True)
class _Attempt:
    """The n-th attempt of one provider, and all that it is judged by."""

    host: Host
    signs: Signs
    fencing: Fencing
    provider: FencingProvider
    now: float
    answers: Mapping[str, Answer]
    number: int = 0

    @property
    def name(self) -> str:
        return self.provider.provider

    @property
    def id(self) -> str:
        return f"{'remediate' if self.name == MEDIK8S else 'power-off'}/{self.name}/{self.number}"


def fence(
    host: Host, signs: Signs, fencing: Fencing, progress: Progress, answers: Mapping[str, Answer], now: Instant
) -> Step:
    """One look at a host that is to be fenced. ``progress`` is what is stored of earlier looks."""
    step = _fence(host, signs, fencing, progress, answers, now)
    waits = _waits(host, signs, fencing) if step.receipt is None else None
    if waits is None or (step.after is not None and step.after <= waits):
        return step
    return replace(step, after=waits)


def _waits(host: Host, signs: Signs, fencing: Fencing) -> float | None:
    """In how many seconds a proof that is only waiting for the host's silence is due; None without one."""
    due = [float(each.after_seconds) for each in fencing.providers if each.after_seconds is not None]
    if isinstance(_confirmed(host, signs), Receipt) or isinstance(_deleted(host, signs), Receipt):
        due.append(float(fencing.quiet_seconds))
    left = [min(seconds, max(seconds - signs.quiet, DARK_PAUSE)) for seconds in due]
    return min(left, default=None)


def _fence(
    host: Host, signs: Signs, fencing: Fencing, progress: Progress, answers: Mapping[str, Answer], now: Instant
) -> Step:
    providers = fencing.providers or _declared(host.bmc)
    missing = []
    for proof in (_rebooted(host, signs), _confirmed(host, signs), *_passive(host, signs, providers)):
        if isinstance(proof, Receipt) and (proof.how == "Rebooted" or signs.quiet >= fencing.quiet_seconds):
            return Step(proof, progress)
        if isinstance(proof, Receipt):
            missing.append(f"the host gave signs of life a short while ago: {proof.proof} does not count yet")
        elif proof:
            missing.append(proof)
    active, unusable = _active(host, signs, providers, now)
    missing += unusable
    by_hand = (
        f"If you are certain that {host.name} is down and stays down, confirm it: "
        f"spec.confirmedDown with incarnation {host.incarnation}"
    )
    if not active:
        return Step(None, progress, why=_sentences("Nothing can power this host off", *missing, by_hand))

    def told(first: str, tried: Iterable[Tried]) -> str:
        return _sentences(first, *(f"{name} failed: {why}" for name, why in tried), *missing, by_hand)

    in_the_dark = signs.are_dark(now.mono)
    current = _current(active, progress.asked)
    if current is None and in_the_dark:
        return Step(None, progress, why=told(DARK, progress.tried), after=DARK_PAUSE)
    if current is None:
        return _begin(_Attempt(host, signs, fencing, active[0], now.mono, answers), progress, told)
    attempt = _Attempt(host, signs, fencing, current, now.mono, answers, _number(progress.asked, current.provider))
    outcome = _judge(attempt)
    match outcome:
        case Receipt():
            return Step(outcome, progress)
        case _Pending(asks, why, after, remediation, withdrawn):
            return Step(None, progress, asks, remediation, withdrawn, told(why, progress.tried), after)
    tried = replace(progress, tried=_replaced(progress.tried, Tried(attempt.name, outcome.why)))
    if outcome.deaf or attempt.number % current.attempts == 0:
        place = active.index(current) + 1
        wait = outcome.at + fencing.retry_seconds - now.mono
        if place == len(active) and wait > 0:
            # The answers stay, or the failure would be forgotten and found anew for ever.
            why = told("No provider could prove that the host is down", tried.tried)
            return Step(None, tried, outcome.asks, why=why, after=wait)
        attempt = replace(attempt, provider=active[place % len(active)])
    if in_the_dark:
        return Step(None, tried, outcome.asks, why=told(DARK, tried.tried), after=DARK_PAUSE)
    return _begin(attempt, tried, told)


# --- Proofs that need no act of ours ----------------------------------------------------------------------------------


def _rebooted(host: Host, signs: Signs) -> Receipt | str:
    """A kubelet of the same machine that shows another boot id: what ran before the boot is gone."""
    if signs.node != "Present" or signs.boot_id in ("", host.incarnation):
        return ""
    if not host.machine or signs.machine != host.machine:
        return f"another machine calls itself {host.name} now, which proves nothing about the one that failed"
    return Receipt("node", host.incarnation, "Rebooted", f"its Node shows boot id {signs.boot_id}")


def _confirmed(host: Host, signs: Signs) -> Receipt | str:
    if signs.confirmed is None:
        return ""
    if signs.confirmed.incarnation != host.incarnation:
        return (
            f"spec.confirmedDown is about incarnation {signs.confirmed.incarnation}, which is not the one that failed"
        )
    said = f"the word of {signs.confirmed.by} ({signs.confirmed.why})"
    return Receipt("manual", host.incarnation, "Confirmed", said)


def _passive(host: Host, signs: Signs, providers: Iterable[FencingProvider]) -> Iterable[Receipt | str]:
    for provider in providers:
        if provider.provider == "cloud":
            yield _deleted(host, signs)
        elif provider.provider == "watchdog" and provider.after_seconds is not None:
            yield _stopped_itself(host, signs, provider.after_seconds)


def _deleted(host: Host, signs: Signs) -> Receipt | str:
    """A cloud's controller deletes the Node of a machine that does not exist any more."""
    if not host.provider_id:
        return "cloud: the Node has no providerID, so no cloud looks after it"
    if signs.node != "Gone":
        return "cloud: the provider has not deleted the Node"
    return Receipt("cloud", host.incarnation, "NodeDeleted", f"the deletion of the Node of {host.provider_id}")


def _stopped_itself(host: Host, signs: Signs, after: int) -> Receipt | str:
    if signs.quiet < after:
        return f"watchdog: counts after {after} s of silence"
    return Receipt("watchdog", host.incarnation, "StoppedItself", f"more than {after} s of silence")


# --- Attempts ---------------------------------------------------------------------------------------------------------


def _begin(attempt: _Attempt, progress: Progress, told: Callable[[str, Iterable[Tried]], str]) -> Step:
    """State the intention of the provider's next attempt; what its earlier ones stated is history."""
    attempt = replace(attempt, number=_number(progress.asked, attempt.name) + 1)
    others = tuple(id_ for id_ in progress.asked if _parse(id_)[0] != attempt.name)
    stated = replace(progress, asked=(*others, attempt.id))
    why = told(f"{attempt.name} is asked to power the host off", progress.tried)
    if attempt.name == MEDIK8S:
        return Step(None, stated, why=why, after=0.0)
    return Step(None, stated, (_power_off(attempt),), why=why)


def _judge(attempt: _Attempt) -> _Outcome:
    return _remediated(attempt) if attempt.name == MEDIK8S else _powered_off(attempt)


def _powered_off(attempt: _Attempt) -> _Outcome:
    """Off when the power-off was accepted and then Off was read twice, with no sign of life since the first reading."""
    effect, readings = _power_off(attempt), _readings(attempt)
    off = attempt.answers.get(effect.id)
    if off is None:
        return _Pending((effect,), f"{attempt.name} is asked to power the host off")
    number, last = readings[-1] if readings else (0, None)
    kept = (effect, *(_reading(attempt, k) for k, _ in readings[-1:]))
    if last is None:
        # If it failed it may have happened all the same. Nothing is tried again before somebody has looked.
        said = f"{attempt.name} has accepted the power-off" if off.ok else f"{attempt.name} failed: {off.error}"
        return _Pending((*kept, _reading(attempt, 1)), f"{said}; the power is read back")
    if not off.ok:
        why = off.error if last.ok else f"{off.error}; and its power cannot be read: {last.error}"
        return _Failure(why, last.at, kept, deaf=not last.ok)
    if _proved(attempt, off, readings[-2:]):
        proof = f"{attempt.name} accepted a power-off, and then its power was read as Off twice"
        missing = attempt.fencing.quiet_seconds - attempt.signs.quiet
        if missing <= 0:
            return Receipt(attempt.name, attempt.host.incarnation, "PoweredOff", proof)
        pair = (effect, *(_reading(attempt, k) for k, _ in readings[-2:]))
        waits = f"{proof}; it counts when the host has been silent for long enough"
        return _Pending(pair, waits, max(missing, SPACING))
    if (late := off.at + attempt.provider.timeout_seconds) <= attempt.now:
        return _Failure(_not_proved(attempt, last), max(late, last.at), kept)
    wait = last.at + SPACING - attempt.now
    why = f"{attempt.name} has accepted the power-off; the power is read back"
    return _Pending(kept, why, wait) if wait > 0 else _Pending((*kept, _reading(attempt, number + 1)), why)


def _proved(attempt: _Attempt, off: Answer, pair: list[tuple[int, Answer]]) -> bool:
    """Whether two readings, one after the other, began after the power-off was accepted and after the last sign."""
    if len(pair) < 2:
        return False
    (one, first), (other, second) = pair
    return (
        other == one + 1
        and all(answer.ok and answer.value.get("power") == Power.OFF for answer in (first, second))
        and first.asked >= off.at
        and second.asked >= first.at + SPACING
        and first.asked > attempt.signs.last_sign
    )


def _not_proved(attempt: _Attempt, last: Answer) -> str:
    seconds = attempt.provider.timeout_seconds
    if not last.ok:
        return f"it accepted a power-off, and its power cannot be read: {last.error}"
    if last.value.get("power") == Power.OFF:
        return "it says Off and the host gives signs of life: it lies, or is wired to another host"
    return f"it accepted a power-off, and {seconds} s later it still says {last.value.get('power')}"


def _remediated(attempt: _Attempt) -> _Outcome:
    """medik8s' operator fences; a remediation of ours, made for this very failure, tells when it has.

    Nobody but medik8s tries again before it is late: it repeats by itself.
    """
    found, seconds = attempt.signs.remediation, attempt.provider.timeout_seconds
    if not isinstance(found, FenceAgentsRemediation) and attempt.signs.are_dark(attempt.now):
        return _Pending((), DARK, DARK_PAUSE)
    if not isinstance(found, FenceAgentsRemediation):
        return _Pending((), "a remediation is asked for", None, _remediation(attempt))
    late = attempt.signs.remediation_since + seconds
    if found.metadata.deletion_timestamp is not None:
        return _Pending((), "the remediation of before is being deleted", late - attempt.now)
    done = found.condition("FenceAgentActionSucceeded")
    succeeded = done is not None and done.status == "True"
    if not _counts(found, attempt) or not (succeeded or found.metadata.annotation(ATTEMPT) == attempt.id):
        why = "a remediation of before, which proves nothing now, is withdrawn to make room for another"
        return _Pending((), why, None, None, found)
    if succeeded and attempt.signs.quiet >= attempt.fencing.quiet_seconds:
        proof = "FenceAgentsRemediation says FenceAgentActionSucceeded"
        return Receipt(attempt.name, attempt.host.incarnation, "Remediated", proof)
    if late > attempt.now:
        silence = max(attempt.fencing.quiet_seconds - attempt.signs.quiet, SPACING)
        wait = min(late - attempt.now, silence) if succeeded else late - attempt.now
        return _Pending((), "the remediation is under way", wait)
    if succeeded:
        return _Failure("the remediation succeeded and the host gives signs of life", late, deaf=True)
    word = done.message if done is not None else "its fence agent has not run"
    return _Failure(f"the remediation takes longer than {seconds} s: {word}", late, deaf=True)


def _counts(found: FenceAgentsRemediation, attempt: _Attempt) -> bool:
    """Whether a remediation was made for this very failure, and the host has not renewed its Lease since."""
    return (
        found.metadata.annotation(INCARNATION) == attempt.host.incarnation
        and made_for(found) == attempt.host.failure
        and attempt.signs.renewal in ("", found.metadata.annotation(HEARD))
    )


def made_for(found: FenceAgentsRemediation) -> str:
    """The uid of the HostFailure that a remediation was made for; empty for one that is not ours."""
    return found.metadata.annotation(FAILURE)


def _remediation(attempt: _Attempt) -> Manifest:
    template, wanted = attempt.signs.template, attempt.provider.template
    assert isinstance(template, FenceAgentsRemediationTemplate)
    assert wanted is not None
    metadata = ownership.metadata(Key(wanted.namespace, attempt.host.name))
    metadata["annotations"] = {
        INCARNATION: attempt.host.incarnation,
        FAILURE: attempt.host.failure,
        ATTEMPT: attempt.id,
        HEARD: attempt.signs.renewal,
    }
    resource = FenceAgentsRemediation.resource
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": metadata,
        "spec": dict(template.spec.template.spec),
    }


# --- Words ------------------------------------------------------------------------------------------------------------


def _power_off(attempt: _Attempt) -> Ask:
    seconds = REQUEST_SECONDS.get(attempt.name, float(attempt.provider.timeout_seconds))
    return Ask(attempt.id, attempt.name, _request(attempt, "off"), seconds, attempt.host.name, effect=True)


def _reading(attempt: _Attempt, number: int) -> Ask:
    seconds = READING_SECONDS if attempt.name in REQUEST_SECONDS else LONGEST_READING
    id_ = f"power/{attempt.name}/{attempt.number}/{number}"
    return Ask(id_, attempt.name, _request(attempt, "state"), seconds, attempt.host.name)


def _readings(attempt: _Attempt) -> list[tuple[int, Answer]]:
    """The readings of this attempt that were answered and are still kept, in order."""
    prefix = f"power/{attempt.name}/{attempt.number}/"
    return sorted(
        (int(id_.removeprefix(prefix)), answer) for id_, answer in attempt.answers.items() if id_.startswith(prefix)
    )


def _request(attempt: _Attempt, operation: str) -> Mapping[str, Any]:
    assert attempt.host.bmc is not None
    return {
        "operation": operation,
        "host": attempt.host.name,
        "parameters": switches(attempt.host.bmc)[attempt.name],
    }


def switches(bmc: Bmc | None) -> Mapping[str, Mapping[str, Any]]:
    """What a Host says about its power switches, by provider, in the order in which they are tried."""
    if bmc is None:
        return {}
    found = {"redfish": bmc.redfish, "ipmi": bmc.ipmi, "fence-agent": bmc.fence_agent}
    said = {name: member.manifest() for name, member in found.items() if member is not None}
    if bmc.plugin is not None and bmc.plugin.provider not in (*found, *NOT_SWITCHES):
        said[bmc.plugin.provider] = bmc.plugin.manifest()
    return said


def _declared(bmc: Bmc | None) -> tuple[FencingProvider, ...]:
    return tuple(FencingProvider(provider=name) for name in switches(bmc))


def _active(
    host: Host, signs: Signs, providers: Iterable[FencingProvider], now: Instant
) -> tuple[list[FencingProvider], list[str]]:
    """The providers that can be tried, and why others cannot."""
    declared = switches(host.bmc)
    active, unusable = [], []
    for provider in providers:
        name = provider.provider
        if name in ("cloud", "watchdog"):
            continue
        if name == MEDIK8S:
            why = _no_remediation(provider, host, signs, now)
        else:
            why = "" if name in declared else NOT_DECLARED
        if why:
            unusable.append(f"{name}: {why}")
        else:
            active.append(provider)
    return active, unusable


def _no_remediation(provider: FencingProvider, host: Host, signs: Signs, now: Instant) -> str:
    match signs.remediation, signs.template:
        case Unreadable(why), _:
            return why
        case FenceAgentsRemediation() as found, _:
            where = f"fenceagentsremediations -n {found.metadata.namespace} {host.name}"
            if found.metadata.deletion_timestamp is not None:
                stays = now.mono >= signs.remediation_since + provider.timeout_seconds
                why = "is being deleted, and stays: see that medik8s' operator runs, or remove its finalizers"
                return f"the one of before {why} (kubectl edit {where})" if stays else ""
            if not found.metadata.annotation(INCARNATION):
                why = f"a FenceAgentsRemediation {host.name} exists already, and is somebody else's"
                return f"{why}. When nobody needs it any more: kubectl delete {where}"
        case _, Unreadable(why):
            return why
        case _, None:
            return "its template does not exist"
    return ""


def _parse(id_: str) -> tuple[str, int]:
    """Provider and number of an attempt; names hold no slash."""
    _, name, number = id_.split("/")
    return name, int(number)


def _number(asked: Iterable[str], name: str) -> int:
    """The number of a provider's last attempt, 0 for none."""
    return max((number for provider, number in map(_parse, asked) if provider == name), default=0)


def _current(active: Iterable[FencingProvider], asked: tuple[str, ...]) -> FencingProvider | None:
    """The provider whose attempt is under way: the one that was asked last, if it can still be tried."""
    if not asked:
        return None
    name, _ = _parse(asked[-1])
    return next((provider for provider in active if provider.provider == name), None)


def _replaced(tried: tuple[Tried, ...], last: Tried) -> tuple[Tried, ...]:
    return (*(other for other in tried if other.provider != last.provider), last)


def _sentences(*parts: str) -> str:
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in parts if part)
