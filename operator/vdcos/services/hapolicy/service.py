"""HAPolicy: watches over its hosts, and declares the failure of one that is dead."""

from collections.abc import Sequence
from itertools import count
from typing import Any

from vdcos import api
from vdcos.api.hapolicy import Suspect
from vdcos.core import conditions, counts, hosts, kinds, ownership
from vdcos.core.conditions import Condition
from vdcos.core.objects import Key
from vdcos.core.plan import Action, Create, Delete, Instant, Plan
from vdcos.core.service import Write
from vdcos.core.snapshot import Snapshot
from vdcos.providers.fencing import fence
from vdcos.services.hapolicy.admission import Admission, unseen
from vdcos.services.hapolicy.judge import Judged, judge_all
from vdcos.services.hapolicy.seen import DERIVES, INDEXES, WATCHES, Seen, SeenHost, look

VISIBLE = "HostsVisible"
EXCLUSIVE = "HostsExclusive"
FENCEABLE = "HostsFenceable"
ACTIVE = "Active"

KEPT = 20
"""Failures of a host that are kept as history."""
NAMED_SUSPECTS = 100


class HAPolicyService:
    """A policy says which hosts it watches over, which are silent, and what stands against restarts."""

    name = "hapolicy"
    resource = kinds.HA_POLICY
    kind = api.HAPolicy
    needed = (VISIBLE, EXCLUSIVE)
    watches = WATCHES
    indexes = INDEXES
    derives = DERIVES
    writes = (Write(kinds.HOST_FAILURE, ("create", "delete")),)

    def observe(self, key: Key, world: Snapshot) -> Seen:
        return look(key, world)

    def plan(self, cr: api.HAPolicy, seen: Seen, now: Instant) -> Plan:
        if cr.metadata.deletion_timestamp is not None:
            return Plan(status={})
        judged = judge_all(cr.spec.detection, seen, now)
        said = (_visible(seen, judged), _exclusive(seen), _fenceable(cr, seen), _active(cr))
        if seen.blind:
            return Plan(conditions=(*said, unseen(seen.blind.why)), status=cr.status.manifest())
        actions = (*_failures(cr, judged, now), *_history(seen))
        admission = Admission(cr, seen)
        counted = _counted(judged) | admission.counted([each.name for each in judged])
        status, paced = counts.paced(cr.status.manifest(), counted, now)
        due = [each.after for each in judged] + [paced, seen.behind]
        return Plan(
            actions=actions,
            conditions=(*said, admission.condition(status)),
            status={**status, "suspects": _suspects(cr, judged, now)},
            after=min((seconds for seconds in due if seconds is not None), default=None),
            asks=tuple(ask for each in judged for ask in each.asks),
            silences=tuple(each.silence for each in judged if each.silence is not None),
            wakes=admission.wakes(),
        )


def _failures(cr: api.HAPolicy, judged: Sequence[Judged], now: Instant) -> list[Action]:
    """A failure is declared of each dead host that has none. Its own service takes it from there."""
    return [
        Create(kinds.HOST_FAILURE, _failure(cr, each, now), f"{each.name} is dead: {each.verdict.why}")
        for each in judged
        if each.verdict.name == "Dead" and each.host.node.status.node_info.boot_id and not _open(each.host)
    ]


def _open(host: SeenHost) -> bool:
    """Whether a failure of this life of the host is being dealt with, or has been to its end and the host was not
    heard again since: what is proved to be down cannot die. One that was heard lives, whatever the proof was: its Node
    was deleted by mistake, perhaps."""
    incarnation = host.node.status.node_info.boot_id
    return host.is_proved_down or any(
        failure.spec.incarnation == incarnation and failure.status.phase != "Completed" for failure in host.failures
    )


def _failure(cr: api.HAPolicy, judged: Judged, now: Instant) -> dict[str, Any]:
    node = judged.host.node
    incarnation = node.status.node_info.boot_id
    taken = {failure.metadata.name for failure in judged.host.failures}
    names = (hosts.failure_name(judged.name, incarnation, number) for number in count())
    name = next(name for name in names if name not in taken)
    at = counts.stamp(now)
    lease = {"witness": "lease", "says": "it is not renewed", "since": at}
    dead = [said for said in judged.testimony if said.says == "Dead"]
    evidence = [{"witness": said.witness, "says": " ".join(said.how.split())[:256], "since": at} for said in dead]
    spec: dict[str, Any] = {
        "host": judged.name,
        "incarnation": incarnation,
        "policy": cr.metadata.name,
        "evidence": [lease, *evidence],
    }
    if judged.host.renewal:
        spec["renewed"] = judged.host.renewal
    if machine := node.status.node_info.system_uuid:
        spec["machine"] = machine
    if node.spec.provider_id:
        spec["providerID"] = node.spec.provider_id
    return {
        "apiVersion": kinds.HOST_FAILURE.api_version,
        "kind": kinds.HOST_FAILURE.kind,
        "metadata": ownership.metadata(Key("", name), {hosts.HOST: judged.name}),
        "spec": spec,
    }


def _history(seen: Seen) -> list[Action]:
    actions: list[Action] = []
    for host in seen.hosts:
        over = [failure for failure in host.failures if failure.status.phase == "Completed"]
        over.sort(key=lambda failure: (failure.metadata.creation_timestamp, failure.metadata.name))
        for failure in over[: max(0, len(over) - KEPT)]:
            key = Key("", failure.metadata.name)
            actions.append(Delete(kinds.HOST_FAILURE, key, failure.metadata.uid, f"the last {KEPT} failures are kept"))
    return actions


# What is said


def _counted(judged: Sequence[Judged]) -> dict[str, Any]:
    return {
        "hosts": counts.usage(len(judged), [each.name for each in judged]),
        "connected": sum(each.verdict.name == "Connected" for each in judged),
        "failed": sum(any(f.status.phase != "Completed" for f in each.host.failures) for each in judged),
    }


def _suspects(cr: api.HAPolicy, judged: Sequence[Judged], now: Instant) -> list[dict[str, Any]]:
    """Hosts that are not connected, as far as that says anything about them."""
    silent = [each for each in judged if each.verdict.name not in ("Connected", "Blind")]
    known = {each.host: each for each in cr.status.suspects}
    return [
        {
            "host": each.name,
            "verdict": each.verdict.name,
            "why": each.verdict.why[:256],
            "evidence": _evidence(each, known.get(each.name), now),
        }
        for each in silent[:NAMED_SUSPECTS]
    ]


def _evidence(judged: Judged, known: Suspect | None, now: Instant) -> list[dict[str, str]]:
    """What each witness says, with the time since when: nothing that changes while they say the same."""
    before = {each.witness: each for each in known.evidence} if known is not None else {}
    told = [("lease", "it is not renewed")] if judged.testimony else []
    told += [(said.witness, f"{said.says}: {' '.join(said.how.split())}"[:256]) for said in judged.testimony]
    found = []
    for witness, says in told:
        same = before.get(witness)
        since = same.since if same is not None and same.says == says else counts.stamp(now)
        found.append({"witness": witness, "says": says, "since": since})
    return found


def _visible(seen: Seen, judged: Sequence[Judged]) -> Condition:
    if any(each.verdict.name == "Blind" for each in judged):
        return conditions.unknown(
            VISIBLE,
            "Blind",
            "Nothing is heard of the API server: no host is declared dead meanwhile. Passes by itself.",
        )
    if seen.blind:
        return conditions.unknown(VISIBLE, "CannotSee", f"Hosts cannot be watched: {seen.blind.why}.")
    if not seen.hosts:
        return conditions.true(
            VISIBLE, "NoMatches", "No KubeVirt node is covered: check spec.hosts against the labels of the nodes."
        )
    return conditions.true(VISIBLE, "Watching", f"{counts.some(len(seen.hosts), 'host')} watched.")


def _exclusive(seen: Seen) -> Condition:
    if not seen.overlaps:
        return conditions.true(EXCLUSIVE, "Exclusive")
    named = counts.listed(len(seen.overlaps), (f"{host} ({policy})" for host, policy in sorted(seen.overlaps.items())))
    return conditions.false(
        EXCLUSIVE,
        "Overlap",
        f"An older HAPolicy counts for some of the hosts: {named}. Change spec.hosts of one of the two.",
    )


def _fenceable(cr: api.HAPolicy, seen: Seen) -> Condition:
    """Whether a dead host can be proved to be down without a person."""
    if cr.spec.fencing.providers:
        return conditions.true(FENCEABLE, "Declared", "by the providers of spec.fencing")
    known = {host.node.metadata.name: host.host for host in seen.hosts}
    bare = [name for name, host in known.items() if host is None or not fence.switches(host.spec.bmc)]
    if not bare:
        return conditions.true(FENCEABLE, "Declared", "by the hosts' own power switches")
    return conditions.false(
        FENCEABLE,
        "NoFenceDevice",
        f"Nothing can prove that these hosts are down: {counts.listed(len(bare), bare)}. If one dies, its VMs wait "
        "until somebody confirms it. Set spec.bmc of their Hosts, or spec.fencing.providers.",
    )


def _active(cr: api.HAPolicy) -> Condition:
    if cr.spec.paused is not None:
        return conditions.false(
            ACTIVE,
            "Paused",
            f"Paused: {cr.spec.paused.reason}. Hosts that die meanwhile are not fenced, and their VMs do not restart. "
            "Remove spec.paused to go on.",
        )
    return conditions.true(ACTIVE, "Watching", "a host that dies is fenced, and its VMs restart")
