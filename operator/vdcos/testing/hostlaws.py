"""The laws of high availability, by what is true of the hosts: power, boots, and the processes that write to disks."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from vdcos import api
from vdcos.api.hapolicy import Recovery
from vdcos.core import hosts, kinds, marks
from vdcos.core.amounts import Amounts
from vdcos.core.foreign.kubernetes import Lease, Node
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.foreign.workloads import amounts_of
from vdcos.core.objects import Key, Resource
from vdcos.core.ownership import ADMITTED
from vdcos.core.plan import Ask
from vdcos.providers.failover import room
from vdcos.providers.placement import launcher_requests
from vdcos.providers.witnesses.evidence import BLIND_SECONDS
from vdcos.runtime.queue import Item
from vdcos.services.hostfailure.restart import OBSERVED_SECONDS
from vdcos.testing.apiserver import Change, Held
from vdcos.testing.cluster import NODE, POD, UNNOTICED, VM, VMI, admits
from vdcos.testing.contents import UNBOUND, conditions_are_of_this_spec
from vdcos.testing.hypervisor.node import boot_id
from vdcos.testing.hypervisor.values import Entry, Fault, Happening, Host, Life
from vdcos.testing.laws import Laws, essence_of
from vdcos.testing.replica import Replica, Violation
from vdcos.testing.simulator import World, Write
from vdcos.testing.trees import Tree

OURS = (kinds.HOST, kinds.HA_POLICY, kinds.HOST_FAILURE)
UNCERTAIN = 12.0
"""Seconds within which it is told, beyond that, that nothing is certain about a host."""
CLOCKS = 130.0
"""Seconds by which clocks are set wrong here, at most."""
AT_ONCE = 3600.0 - 2 * CLOCKS
"""Hosts whose power is cut within so many seconds are fenced at once: an hour, by whatever clock."""
UNHEARD = 1.0
"""Seconds within which a host that is back need not have been heard yet."""
HUMAN = ("kubectl patch", "confirm it", "repair it", "Cut its power by hand")
"""Words by which a condition says what a person is to do."""


class HostLaws(Laws):
    """Those of every world, and these."""

    def wrote(self, world: World, write: Write) -> None:
        match write.request.resource:
            case resource if resource == NODE:
                _marks_of_others_stay(write)
                _no_taint_without_a_receipt(world, write)
                _used_again_after_a_quiet_time(world, write)
            case resource if resource == POD:
                _no_pod_goes_without_a_receipt(world, write)
            case resource if resource == VMI:
                _only_the_silent_are_reset(world, write)
            case resource if resource in OURS:
                _specs_are_theirs(write)
                if resource == kinds.HOST_FAILURE and write.after is not None:
                    _people_are_asked_first(world, write.before, write.after)
                    _receipts_are_true(world, write)
                    _nobody_comes_before_his_turn(world, write)
            case _:
                try:
                    super().wrote(world, write)
                except Violation as violation:
                    if not _is_of_the_last_instance(world, write, violation):
                        raise
                if write.request.resource == VM:
                    _nothing_healthy_is_stopped(world, write)
                    _the_promise_is_kept(world, write)

    def changed(self, world: World, resource: Resource, change: Change) -> None:
        super().changed(world, resource, change)
        if change.type == "DELETED" and resource == kinds.HOST_FAILURE:
            # One of the same name that is made after it is another one, which begins by itself.
            world.begun = {began: at for began, at in world.begun.items() if began[0] != change.held.key.name}

    def hosts(self, world: World) -> None:
        for disk, holders in world.cluster.running().items():
            liars = [name for name, _ in holders if _lies_unheard(world, world.cluster.hosts[name])]
            if len(holders) - len(liars) > 1 or (len(holders) > 1 and not liars and not _by_hand(world, holders)):
                raise Violation("never two", f"disk {disk} is written to by {holders}")
        _nobody_starts_who_is_held(world)
        _hosts_are_kept_for_failover(world)

    def asked(self, world: World, replica: Replica, item: Item, ask: Ask) -> None:
        if ask.effect:
            _power_is_cut_with_open_eyes(world, replica, item, ask)

    def essence(self, world: World) -> Mapping[str, Any]:
        found: dict[str, Any] = {name: _wherever(tree) for name, tree in essence_of(world).items()}
        for node in world.api.all(NODE):
            found[f"Node {node.key}"] = node.tree.get("spec", {})
        for host in world.api.all(kinds.HOST):
            found[f"Host {host.key}"] = host.tree.get("status", {}).get("state")
        for failure in world.api.all(kinds.HOST_FAILURE):
            status = failure.tree.get("status", {})
            name = (failure.tree["spec"]["host"], failure.tree["spec"]["incarnation"])
            found[f"HostFailure {name}"] = [status.get("phase"), status.get("outcome")]
        return dict(sorted(found.items()))

    def at_rest(self, world: World) -> int:
        for resource in OURS:
            for held in world.api.all(resource):
                _was_seen(held)
        _no_mark_outlives_its_failure(world)
        _it_is_over_or_a_person_is_told(world)
        _nobody_waits_in_vain(world)
        _plans_are_told(world)
        return super().at_rest(world)


def _wherever(tree: Tree) -> Tree:
    """Without what depends on where VMs run: who would restart if a host died."""
    status = tree.get("status", {})
    kept = [each for each in status.get("conditions", ()) if each["type"] != "Protected"]
    return {**tree, "status": {**status, "conditions": kept}} if kept else tree


# What is true


def incarnation(failure: Held) -> str:
    return str(failure.tree["spec"]["incarnation"])


def is_down(world: World, failure: Held) -> bool:
    """Whether the life of the host that failed is over."""
    host = world.cluster.hosts[failure.tree["spec"]["host"]]
    return not host.powered or boot_id(host) != incarnation(failure)


def _lies_unheard(world: World, host: Host) -> bool:
    """A power switch that lies about a host that nobody hears: that cannot be found out. It is the one way to two
    writers, and the reason why a power switch is to be tried out before it is trusted."""
    heard = host.writing and world.now - host.up_since > UNHEARD
    return (Fault.LIAR, "") in host.faults and not heard


def _excused(world: World, failure: Held) -> bool:
    """A person's word, and a lie that cannot be found out."""
    status = failure.tree.get("status", {})
    by_hand = (status.get("receipt") or {}).get("how") == "Confirmed" or (status.get("stillAlive") or {}).get("renewed")
    return bool(by_hand) or _lies_unheard(world, world.cluster.hosts[failure.tree["spec"]["host"]])


def _by_hand(world: World, holders: Iterable[tuple[str, str]]) -> bool:
    """Whether somebody has said of one of these hosts that it is down, and it was not."""
    names = {name for name, _ in holders}
    return any(
        failure.tree["spec"]["host"] in names
        and (failure.tree.get("status", {}).get("receipt") or {}).get("how") == "Confirmed"
        for failure in world.api.all(kinds.HOST_FAILURE)
    )


def _failures(world: World, host: str) -> Iterator[Held]:
    """The failures of a host that are not over."""
    for failure in world.api.all(kinds.HOST_FAILURE):
        if failure.tree["spec"]["host"] == host and failure.tree.get("status", {}).get("phase") != "Completed":
            yield failure


def _is_proved(world: World, host: str) -> bool:
    """Whether a receipt is stored for a failure of the host, and is true."""
    return any(
        (receipt := failure.tree.get("status", {}).get("receipt"))
        and receipt["incarnation"] == incarnation(failure)
        and (is_down(world, failure) or _excused(world, failure))
        for failure in _failures(world, host)
    )


def _is_of_the_last_instance(world: World, write: Write, violation: Violation) -> bool:
    """Whether a VM was called Ready by what its last instance said, until a moment ago: an instance that died with its
    host says so until KubeVirt has noticed."""
    vmi = world.api.get(VMI, write.request.key)
    age = world.now - datetime.fromisoformat(vmi.meta["creationTimestamp"]).timestamp() if vmi is not None else 0.0
    return "its guest has never run" in violation.what and age < UNHEARD + 1.0


# At every effect


def _power_is_cut_with_open_eyes(world: World, replica: Replica, item: Item, ask: Ask) -> None:
    """No power is cut by who hears nothing of hosts, nor of a host that has booted, and could be heard."""
    if (name := (item.key.name, ask.id)) in world.begun:
        raise Violation("effects once", f"{ask.id} of {item.key} is begun twice")
    world.begun[name] = world.now
    if world.now - replica.heard_at(Lease) >= BLIND_SECONDS:
        raise Violation("power with open eyes", f"{ask.target} is powered off, and nothing is heard of hosts")
    failure = world.api.get(kinds.HOST_FAILURE, item.key)
    host = world.cluster.hosts[ask.target]
    if failure is None or ask.id not in failure.tree.get("status", {}).get("asked", ()):
        raise Violation("power with open eyes", f"{ask.target} is powered off, and its failure does not say so")
    if host.writing and boot_id(host) != incarnation(failure) and world.now - host.up_since > BLIND_SECONDS + UNHEARD:
        raise Violation("power with open eyes", f"{ask.target} is powered off, and has booted since it failed")


# At every write


def _specs_are_theirs(write: Write) -> None:
    """Who declares an object says what is in it; ours are a status, and the making of Hosts and HostFailures."""
    before, after = write.before, write.after
    if before is None or after is None:
        if write.request.resource == kinds.HA_POLICY:
            raise Violation("user objects", f"{write.request.method} of {write.request.path}")
        return
    if before.tree.get("spec") != after.tree.get("spec"):
        raise Violation("user objects", f"the spec of {write.request.path} was written")
    for part in ("labels", "annotations", "ownerReferences"):
        if before.meta.get(part) != after.meta.get(part):
            raise Violation("user objects", f"{part} of {write.request.path} were written")


def _receipts_are_true(world: World, write: Write) -> None:
    """The life of the host that a receipt is about is over when the receipt is stored, and stays so: it is final."""
    assert write.after is not None
    before = write.before.tree.get("status", {}).get("receipt") if write.before is not None else None
    after = write.after.tree.get("status", {}).get("receipt")
    if before is not None and after != before:
        raise Violation("true receipts", f"the receipt of {write.after.key} has changed")
    word = write.after.tree["spec"].get("confirmedDown") or {}
    if after is not None and after["how"] == "Confirmed" and word.get("incarnation") != incarnation(write.after):
        raise Violation("true receipts", f"{write.after.key} is taken for down by a word about another life")
    if before is None and after is not None and not is_down(world, write.after) and not _excused(world, write.after):
        raise Violation("true receipts", f"{write.after.key} has a receipt ({after['proof']}), and the host lives")


def _people_are_asked_first(world: World, before: Held | None, after: Held) -> None:
    """Nothing is fenced that the storm brake has stopped, unless a person has let it go. Where nothing goes wrong with
    what is written and heard, nothing is fenced under a paused policy, nor beyond the storm brake: those count that
    seem to have failed, and those whose power we have cut a short while ago without a person's word, and that have not
    booted since."""
    known = before.tree.get("status", {}) if before is not None else {}
    if known.get("asked") or not after.tree.get("status", {}).get("asked") or _was_let_go(after):
        return
    if any(condition["reason"] == "StormBrake" for condition in known.get("conditions", ())):
        raise Violation("people are asked first", f"{after.key} is fenced, and a person was asked and is silent")
    if not world.faults.spares_requests:
        return
    policy = world.api.get(kinds.HA_POLICY, Key("", after.tree["spec"]["policy"]))
    if policy is None or "paused" in policy.tree["spec"]:
        raise Violation("people are asked first", f"{after.key} is fenced, and its policy is paused or gone")
    going = [f for f in world.api.all(kinds.HOST_FAILURE) if f.tree.get("status", {}).get("phase") != "Completed"]
    silent = {f.tree["spec"]["host"] for f in going if "receipt" not in f.tree.get("status", {})}
    cut = {name for (name, _), at in world.begun.items() if world.now - at < AT_ONCE}
    ours = {f.tree["spec"]["host"] for f in going if f.key.name in cut and not _was_let_go(f)}
    failed = silent | {name for name in ours if not world.cluster.hosts[name].powered}
    most = _lets_pass(policy, len(world.cluster.hosts))
    if len(failed) > most:
        raise Violation("people are asked first", f"{after.key} is fenced, {sorted(failed)} have failed, {most} may")


def _was_let_go(failure: Held) -> bool:
    """Whether a person has let a failure go on, whatever the storm brake says."""
    return bool(failure.tree["spec"].get("approved")) or "confirmedDown" in failure.tree["spec"]


def _lets_pass(policy: Held, count: int) -> int:
    """How many of so many hosts may be fenced at once, as the API's reference has it."""
    brake = policy.tree["spec"].get("stormBrake", {})
    return int(min(brake.get("maxHosts", 2), max(1, count * brake.get("maxPercent", 50) // 100)))


def _used_again_after_a_quiet_time(world: World, write: Write) -> None:
    """A host that has failed and booted takes no VMs before it has been well for as long as the policy says."""
    if write.before is None or write.after is None:
        return
    mark, still = _cordoned_by(write.before), _cordoned_by(write.after)
    failure = world.api.get(kinds.HOST_FAILURE, Key("", mark.removeprefix(marks.FAILURE)))
    cordoned = write.before.tree.get("spec", {}).get("unschedulable")
    if not cordoned or not mark.startswith(marks.FAILURE) or still or failure is None:
        return
    host = world.cluster.hosts[write.after.key.name]
    booted, well = boot_id(host) != incarnation(failure), world.now - world.cluster.well[host.name][1]
    if booted and host.writing and well < Recovery().quiet_seconds - UNNOTICED:
        raise Violation("quiet time", f"{write.after.key} is used again after it was well for {well:.0f} s")


def _no_taint_without_a_receipt(world: World, write: Write) -> None:
    if write.before is None or write.after is None or not _down(write.after) or _down(write.before):
        return
    if not _is_proved(world, write.after.key.name):
        raise Violation("no release without a receipt", f"{write.after.key} is called out of service")


def _no_pod_goes_without_a_receipt(world: World, write: Write) -> None:
    """Nor one that lives, whatever receipt there is."""
    pod = write.before
    if pod is None or (write.after is not None and write.after.deleting is pod.deleting):
        return
    name, uid = pod.tree["spec"].get("nodeName", ""), pod.meta["uid"]
    host = world.cluster.hosts[name]
    process = host.processes.get(uid)
    if _is_replaced(world, uid) and (process is None or process.life is not Life.RUNNING or not host.writing):
        return
    if not _is_proved(world, name):
        raise Violation("no release without a receipt", f"pod {pod.key} on {name} is deleted")
    if process is not None and process.active and not any(_excused(world, each) for each in _failures(world, name)):
        raise Violation("nothing healthy is stopped", f"pod {pod.key} is deleted, and its VM runs on {name}")


def _is_replaced(world: World, pod: str) -> bool:
    """Whether a failure says that a VM which restarts did not start in this pod."""
    return any(
        machine.get("replaces") == pod and machine["state"] == "Released"
        for failure in world.api.all(kinds.HOST_FAILURE)
        for machine in _machines(failure).values()
    )


def _only_the_silent_are_reset(world: World, write: Write) -> None:
    """An instance goes only after its VM has said so, and when its guest's agent was silent, in truth, for as long as
    the policy says; never one that is paused, nor more than may be, nor on a host of which nothing is certain."""
    vmi = write.before
    if vmi is None or vmi.deleting or (write.after is not None and not write.after.deleting):
        return
    uid, name = vmi.meta["uid"], vmi.tree["status"]["nodeName"]
    vm = _declared_by(world, vmi.key)
    told = vm.tree["status"].get("monitoring", {}).get("resets", ()) if vm is not None else ()
    if not any(reset["instance"] == uid for reset in told):
        raise Violation("resets", f"{vmi.key} is reset, and nothing says so")
    host, process = world.cluster.hosts[name], world.cluster.hosts[name].process(uid)
    if not host.writing and world.now - world.cluster.silent_since[name] > UNNOTICED + UNCERTAIN:
        raise Violation("resets", f"{vmi.key} is reset, and nobody hears of its host")
    if process is None or not host.writing:
        return
    policy = world.api.get(kinds.HA_POLICY, Key("", "all"))
    rules = policy.tree["spec"]["monitoring"] if policy is not None else {}
    if process.agent or process.paused or world.now - process.quiet_since < rules["failureIntervalSeconds"]:
        raise Violation("resets", f"{vmi.key} is reset, and its guest is well, or paused")
    recent = [r for r in told if world.now - _age_of(r["at"]) < rules["windowSeconds"] - CLOCKS]
    if len(recent) > rules["maxResets"]:
        raise Violation("resets", f"{vmi.key} is reset for the {len(recent)}th time")


def _declared_by(world: World, key: Key) -> Held | None:
    """The VirtualMachine that a KubeVirt VM belongs to. It may have gone a moment ago, and a namesake be there."""
    child = world.api.get(VM, key)
    owners = {owner["uid"] for owner in child.meta.get("ownerReferences", ())} if child is not None else set()
    known = (change.held for change in reversed(world.api.changes(kinds.VIRTUAL_MACHINE)))
    return next((held for held in known if held.meta["uid"] in owners), None)


def _age_of(stamped: str) -> float:
    return datetime.fromisoformat(stamped).timestamp()


def _down(node: Held) -> bool:
    return any(taint["key"] == hosts.OUT_OF_SERVICE for taint in node.tree.get("spec", {}).get("taints", ()))


def _marks_of_others_stay(write: Write) -> None:
    """Of a Node, ours are the cordon with our name on it and our taints, and nothing else."""
    before, after = write.before, write.after
    if before is None or after is None:
        raise Violation("others' objects", f"{write.request.method} of {write.request.path}")
    if _unmarked(before) != _unmarked(after):
        raise Violation("others' objects", f"{write.request.path} is changed beside our marks")
    mine = (_cordoned_by(before), _cordoned_by(after))
    cordoned = [bool(held.tree.get("spec", {}).get("unschedulable")) for held in (before, after)]
    if cordoned == [True, False] and not mine[0]:
        raise Violation("others' objects", f"somebody else's cordon of {after.key} is taken away")
    if cordoned[0] and not mine[0] and mine[1]:
        raise Violation("others' objects", f"somebody else's cordon of {after.key} is called ours")


def _cordoned_by(node: Held) -> str:
    return str(node.meta.get("annotations", {}).get(hosts.CORDONED_BY, ""))


def _unmarked(node: Held) -> Tree:
    """What is not ours of a Node."""
    spec = {name: value for name, value in node.tree.get("spec", {}).items() if name not in ("unschedulable", "taints")}
    ours = ({"key": hosts.OUT_OF_SERVICE, "value": marks.DOWN.value, "effect": marks.DOWN.effect},)
    taints = [
        taint
        for taint in node.tree.get("spec", {}).get("taints", ())
        if taint not in ours and taint["key"] != hosts.FAILOVER_ONLY
    ]
    annotations = {n: v for n, v in node.meta.get("annotations", {}).items() if n != hosts.CORDONED_BY}
    return {"spec": spec, "taints": taints, "annotations": annotations, "labels": node.meta.get("labels", {})}


# The order of restart


def _nobody_comes_before_his_turn(world: World, write: Write) -> None:
    """Who is released was not held, or those before him are up, given up, or late."""
    assert write.after is not None
    status = write.after.tree.get("status", {})
    known = _machines(write.before)
    for name, machine in _machines(write.after).items():
        was = known.get(name, {}).get("state", "Held")
        if machine["state"] == was or machine["state"] != "Released":
            continue
        for other in status["machines"]:
            if other["tier"] < machine["tier"] and not (
                _waits_no_more(world, other)
                or (other["namespace"] != name[0] and _waits_by_its_own_words(world, other, status["machines"]))
            ):
                said = f"{name[0]}/{name[1]} is released before {other['namespace']}/{other['name']} is up"
                raise Violation("order of restart", said)
        for other in _needed(world, name, _machines(write.after)):
            if name in _behind(world, other, _machines(write.after)):
                continue  # a circle has no order
            if not _waits_no_more(world, other):
                raise Violation("order of restart", f"{name[0]}/{name[1]} is released before {other['name']} is up")


def _needed(world: World, name: tuple[str, str], machines: Mapping[tuple[str, str], Tree]) -> Iterator[Tree]:
    """Those among the failed VMs that a VM says it depends on, by name."""
    vm = world.api.get(kinds.VIRTUAL_MACHINE, Key(*name))
    for need in vm.tree["spec"].get("availability", {}).get("dependsOn", ()) if vm is not None else ():
        if (other := machines.get((name[0], need.get("name", "")))) is not None:
            yield other


def _behind(world: World, machine: Tree, machines: Mapping[tuple[str, str], Tree]) -> set[tuple[str, str]]:
    """Those that a VM depends on, and those that they depend on, and so on."""
    found: set[tuple[str, str]] = set()
    todo = [(machine["namespace"], machine["name"])]
    while todo:
        for other in _needed(world, todo.pop(), machines):
            if (name := (other["namespace"], other["name"])) not in found:
                found.add(name)
                todo.append(name)
    return found


def _waits_by_its_own_words(world: World, machine: Tree, machines: Iterable[Tree]) -> bool:
    """Whether a VM is not up, or held, only by words of its namespace: for others it is up when it runs, where the
    policy says no more."""
    for policy in world.api.all(kinds.HA_POLICY):
        if policy.tree["spec"].get("restart", {}).get("readyWhen", {}).get("condition", "PoweredOn") != "PoweredOn":
            return False
    if machine["state"] == "Released":
        return _has_run(world, machine)
    in_front = (m for m in machines if m["namespace"] == machine["namespace"] and m["tier"] < machine["tier"])
    return any(other["state"] == "Released" and _has_run(world, other) for other in in_front)


def _has_run(world: World, machine: Tree) -> bool:
    """Whether it has run since its host failed."""
    return any(
        entry.what is Happening.STARTED
        and (entry.namespace, entry.name) == (machine["namespace"], machine["name"])
        and entry.vmi != machine["instance"]
        for entry in world.cluster.entries
    )


def _waits_no_more(world: World, machine: Tree) -> bool:
    """Whether those after a VM need not wait for it: it is up in truth, does not restart, or takes too long."""
    if machine["state"] == "Down" or machine.get("reason") == "Disabled":
        return True
    if machine["state"] == "Up":
        return _has_run(world, machine)
    age = world.now - datetime.fromisoformat(machine["since"]).timestamp()
    return age >= _PATIENCE


_PATIENCE = 60.0
"""No scenario waits for a shorter time for a VM to come up."""


def _machines(failure: Held | None) -> dict[tuple[str, str], Tree]:
    machines = failure.tree.get("status", {}).get("machines", ()) if failure is not None else ()
    return {(machine["namespace"], machine["name"]): machine for machine in machines}


def _nobody_starts_who_is_held(world: World) -> None:
    """By the last entry of the ledger: a VM that begins to run is not one that a failure holds."""
    last = world.cluster.entries[-1] if world.cluster.entries else None
    if last is None or last.what is not Happening.STARTED or last.at != world.now:
        return
    for failure in world.api.all(kinds.HOST_FAILURE):
        if failure.tree.get("status", {}).get("phase") == "Completed":
            continue
        held = _machines(failure).get((last.namespace, last.name))
        if held is None or held["state"] != "Held" or held["instance"] == last.vmi:
            continue
        owned = world.api.get(kinds.VIRTUAL_MACHINE, Key(last.namespace, last.name))
        ours = owned is not None and owned.meta["uid"] == held["uid"]
        if ours and not _began_before(world, held, last) and not _could_not_be_held(world, failure):
            raise Violation("order of restart", f"{last.namespace}/{last.name} starts, and {failure.key} holds it")


def _hosts_are_kept_for_failover(world: World) -> None:
    """By the last entry of the ledger: what begins to run on a host that is kept for failover restarts after a failure,
    or had been placed there before."""
    last = world.cluster.entries[-1] if world.cluster.entries else None
    if last is None or last.what is not Happening.STARTED or last.at != world.now:
        return
    node = world.api.get(NODE, Key("", last.host))
    kept = node is not None and any(
        t["key"] == hosts.FAILOVER_ONLY for t in node.tree.get("spec", {}).get("taints", ())
    )
    name = (last.namespace, last.name)
    if kept and not any(
        name in _machines(each) for each in world.api.all(kinds.HOST_FAILURE) if _is_recent(world, each)
    ):
        raise Violation("kept for failover", f"{last.namespace}/{last.name} starts on {last.host}")


def _is_recent(world: World, failure: Held) -> bool:
    """Whether a failure is open, or has not been over for long: what was placed until then still starts."""
    status = failure.tree.get("status", {})
    return status.get("phase") != "Completed" or world.now - _age_of(status["timeline"][-1]["at"]) < CLOCKS


def _could_not_be_held(world: World, failure: Held) -> bool:
    """Whether something went wrong for so long that the release did not wait for all holds any more, or our clock, too,
    so that nobody knows for how long."""
    if world.faults.harmless:
        return False
    began = datetime.fromisoformat(failure.tree["status"]["receipt"]["at"]).timestamp()
    return abs(world.now - began) >= OBSERVED_SECONDS


def _began_before(world: World, held: Tree, entry: Entry) -> bool:
    """Whether its instance was made before it was held: nothing that is on its way is stopped by a hold."""
    vmi = world.api.get(VMI, Key(entry.namespace, entry.name))
    return vmi is not None and vmi.meta["creationTimestamp"] <= held["since"]


def _nothing_healthy_is_stopped(world: World, write: Write) -> None:
    """KubeVirt is not told to halt a VM that is declared on and runs on a host that is heard."""
    before, after = write.before, write.after
    if before is None or after is None or after.tree["spec"]["runStrategy"] != "Halted":
        return
    if before.tree["spec"]["runStrategy"] == "Halted":
        return
    declared = world.api.get(kinds.VIRTUAL_MACHINE, after.key)
    if declared is None or declared.deleting or declared.tree["spec"].get("powerState", "PoweredOn") != "PoweredOn":
        return
    if declared.tree.get("status", {}).get("observedGeneration") != declared.meta["generation"]:
        return
    for host in world.cluster.hosts.values():
        for process in host.processes.values():
            if process.active and host.writing and process.vm == after.meta["uid"]:
                raise Violation("nothing healthy is stopped", f"{after.key} is halted, and runs on {host.name}")


# Failover capacity


def _the_promise_is_kept(world: World, write: Write) -> None:
    """No VM starts or grows by a write of ours where that takes of what is kept for failures, by all that was told to
    start, and by hosts and policies as some replica has heard of them. What died with a host keeps its place."""
    before, after = write.before, write.after
    if after is None or not _takes(after) or _was_decided_before(world, after.key):
        return
    if before is not None and _takes(before) and all(map(int.__ge__, _need(before), _need(after))):
        return
    if all(lacks := [_lacks(world, replica) for replica in world.replicas.values()]):
        raise Violation("failover capacity", f"{after.key} starts or grows, and {lacks[0]} are not free of the promise")


def _was_decided_before(world: World, key: Key) -> bool:
    """Whether a promise, or a host that it is about, has changed since the operator began to look at a VM: a request
    may take seconds."""
    item, now = Item("virtualmachine", key), world.api.version
    began = min(replica.began.get(item, now) for replica in world.replicas.values())
    if began == now:
        return False
    for resource in (NODE, kinds.HA_POLICY):
        then: dict[Key, Held] = {}
        for change in world.api.changes(resource):
            if change.held.version <= began:
                then[change.held.key] = change.held
        if {k: _promises(held) for k, held in then.items()} != {h.key: _promises(h) for h in world.api.all(resource)}:
            return True
    return False


def _promises(held: Held) -> Tree:
    """What of a policy or a host decides how much must stay free."""
    allocatable = held.tree.get("status", {}).get("allocatable")
    return {"spec": held.tree.get("spec"), "labels": held.meta.get("labels"), "allocatable": allocatable}


def _takes(child: Held) -> bool:
    """Whether it runs, or keeps its place while it is halted for a moment: to be restarted, or for its turn."""
    return child.tree["spec"]["runStrategy"] != "Halted" or bool(child.meta.get("annotations", {}).get(ADMITTED))


def _has_room(world: World, child: Held) -> bool:
    """Whether it counts: one that is going does so no longer than a pod of its is on a host."""
    if not _takes(child) or not _is_of_ours(child):
        return False
    pods = (pod for pod in world.api.all(POD) if pod.tree["spec"].get("nodeName")) if child.deleting else ()
    return not child.deleting or any(
        child.key == Key(pod.key.namespace, pod.meta["ownerReferences"][0]["name"]) for pod in pods
    )


def _is_of_ours(child: Held) -> bool:
    """Whether a VirtualMachine of ours controls it: others take what their pods request, and have none here."""
    owners = child.meta.get("ownerReferences", ())
    return any(each.get("controller") and each["apiVersion"] == api.API_VERSION for each in owners)


def _need(child: Held) -> tuple[int, int]:
    """CPU and memory that KubeVirt requests for a VM."""
    asked = launcher_requests(child.tree["spec"]["template"]["spec"])
    return asked["cpu"], asked["memory"]


def _lacks(world: World, replica: Replica, more: tuple[int, int] = (0, 0)) -> list[str]:
    """What of the promises would not be free, if so much more was used."""
    store = replica.store
    owns: Iterable[Any] = store.shelf(api.HAPolicy).objects.values()
    policies = [store.parse(api.HAPolicy, own) for own in owns]
    if not policies:
        return []
    has: tuple[list[int], list[int]] = ([], [])
    nodes: Iterable[Any] = store.shelf(Node).objects.values()
    for node in nodes:
        pods = [pod for pod in world.api.all(POD) if pod.tree["spec"].get("nodeName") == node.metadata.name]
        for each, name in enumerate(("cpu", "memory")):
            amount = amounts_of(node.status.allocatable).get(name, 0)
            used = sum(amounts_of(pod.tree["spec"]["containers"][0]["resources"]["requests"])[name] for pod in pods)
            has[each].append(min(amount, used) if node.spec.unschedulable else amount)
    stuck = _without_host(world, replica)
    needs = [_need(vm) for vm in world.api.all(VM) if _has_room(world, vm) and vm.key not in stuck]
    lacking = []
    for policy in policies:
        control = policy.spec.admission_control
        if control.mode != "Enforce" or policy.metadata.deletion_timestamp:
            continue
        for each, name in enumerate(("cpu", "memory")):
            share = control.percentage
            kept = max(has[each], default=0) if share is None else -(-sum(has[each]) * getattr(share, name) // 100)
            missing = sum(need[each] for need in needs) + more[each] + kept - sum(has[each])
            # Who needs none of what is missing may start.
            if missing > 0 and (each == 1 or more == (0, 0) or more[0] > 0):
                lacking.append(f"{missing} {name}")
    return lacking


def _without_host(world: World, replica: Replica) -> set[Key]:
    """The VMs that no host fits: by the scheduler's last word, or as far as a replica has heard."""
    heard: Iterable[Any] = replica.store.shelf(VirtualMachineInstance).objects.values()
    told = [
        (each.metadata.key, c.message) for each in heard for c in each.status.conditions if c.type == "PodScheduled"
    ]
    for instance in world.api.all(VMI):
        said = instance.tree.get("status", {}).get("conditions") or ()
        told += [(instance.key, c.get("message", "")) for c in said if c["type"] == "PodScheduled"]
    return {key for key, message in told if "nodes are available" in message and UNBOUND not in message}


def _nobody_waits_in_vain(world: World) -> None:
    """At rest, who waits for failover capacity would break the promise by starting or growing."""
    for vm in world.api.all(kinds.VIRTUAL_MACHINE):
        needed = vm.tree.get("status", {}).get("waitsFor")
        said = any(c["reason"] == room.INSUFFICIENT for c in vm.tree.get("status", {}).get("conditions", ()))
        if said != (needed is not None):
            raise Violation("status truth", f"{vm.key} waits for {needed}, and says {said}")
        if needed is None:
            continue
        asked = amounts_of(needed)
        more = asked.cpu, asked.memory
        if not all(_lacks(world, replica, more) for replica in world.replicas.values()):
            raise Violation("failover capacity", f"{vm.key} waits for {needed}, which is free")


def _plans_are_told(world: World) -> None:
    """At rest, a Host under a policy tells of all its VMs what would become of them, and each of them says the same;
    and what is reserved of it is what its pods request."""
    covered = bool(world.api.all(kinds.HA_POLICY))
    for host in world.api.all(kinds.HOST):
        node, status = world.api.get(NODE, host.key), host.tree.get("status", {})
        if node is None:
            continue
        pods = [
            pod for pod in world.api.all(POD)
            if pod.tree["spec"].get("nodeName") == host.key.name
            and pod.tree["status"]["phase"] not in ("Succeeded", "Failed")
        ]  # fmt: skip
        plan = status.get("failurePlan")
        if (plan is not None) is not covered:
            raise Violation("status truth", f"{host.key} has the failure plan {plan}")
        if plan is not None and plan["restarts"] + plan["stays"] != len(pods):
            raise Violation("status truth", f"the failure plan of {host.key} is {plan}, and it runs {len(pods)} VMs")
        asked = [amounts_of(pod.tree["spec"]["containers"][0]["resources"]["requests"]) for pod in pods]
        reserved = {**amounts_of({n: v for n, v in status["reserved"].items() if n != "pods"})}
        if status["reserved"]["pods"] != len(pods) or reserved != sum(asked, start=Amounts()):
            raise Violation("status truth", f"{host.key} says {status['reserved']}, and pods request {asked}")
        for pod in pods:
            vm = world.api.get(kinds.VIRTUAL_MACHINE, Key(pod.key.namespace, pod.meta["ownerReferences"][0]["name"]))
            said = vm.tree.get("status", {}) if vm is not None else {}
            conditions = said.get("conditions", ())
            is_up = said.get("powerState") in ("PoweredOn", "PoweringOff", "Paused", "Unknown")
            if vm is not None and any(c["type"] == "Protected" for c in conditions) is not (covered and is_up):
                raise Violation("status truth", f"{vm.key} is on {host.key}, and says {conditions}")


# At rest


def _was_seen(held: Held) -> None:
    status = held.tree.get("status", {})
    if status.get("observedGeneration") != held.meta["generation"]:
        raise Violation("status truth", f"{held.key} is at generation {held.meta['generation']}, its status is not")
    conditions_are_of_this_spec(held)


def _no_mark_outlives_its_failure(world: World) -> None:
    """A false alarm, and a failure that is over, leave no cordon and no taint of ours."""
    for node in world.api.all(NODE):
        mark = _cordoned_by(node)
        if mark.startswith(marks.FAILURE):
            failure = world.api.get(kinds.HOST_FAILURE, Key("", mark.removeprefix(marks.FAILURE)))
            if failure is None or failure.tree.get("status", {}).get("phase") == "Completed":
                raise Violation("no trace", f"{node.key} is cordoned for {mark}, which is over")
        if _down(node) and not any(True for _ in _failures(world, node.key.name)):
            raise Violation("no trace", f"{node.key} is called out of service, and no failure is open")


def _it_is_over_or_a_person_is_told(world: World) -> None:
    for failure in world.api.all(kinds.HOST_FAILURE):
        status = failure.tree.get("status", {})
        if status.get("phase") == "Completed":
            continue
        said = " ".join(
            c.get("message", "")
            for other in _failures(world, failure.tree["spec"]["host"])
            for c in other.tree.get("status", {}).get("conditions", ())
            if c["status"] != "True"
        )
        if not any(words in said for words in HUMAN):
            raise Violation("a person is told", f"{failure.key} rests in {status.get('phase')}, and says: {said}")
        host = world.cluster.hosts[failure.tree["spec"]["host"]]
        node = world.api.get(NODE, Key("", host.name))
        if host.writing and node is not None and _shown(node) != incarnation(failure):
            raise Violation("convergence", f"{failure.key} rests in {status.get('phase')}, and {host.name} is back")
        stuck = ("Restarting", "Releasing") if any(map(_takes_vms, world.api.all(NODE))) else ("Releasing",)
        if status.get("phase") in stuck:
            raise Violation("convergence", f"{failure.key} rests in {status.get('phase')}")


def _shown(node: Held) -> str:
    return str(node.tree.get("status", {}).get("nodeInfo", {}).get("bootID", ""))


def _takes_vms(node: Held) -> bool:
    """Whether a VM could start there."""
    ready = any(
        c["type"] == "Ready" and c["status"] == "True" for c in node.tree.get("status", {}).get("conditions", ())
    )
    return ready and admits(node)
