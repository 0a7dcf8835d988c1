"""One look at one VirtualMachine: what is declared, what is there, and what follows for all phases of the plan."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vdcos import api
from vdcos.api import virtualmachine as words
from vdcos.api.availability import GuestWatch
from vdcos.core import amounts, counts, failures, ownership
from vdcos.core import disks as names
from vdcos.core.amounts import Amounts
from vdcos.core.conditions import Condition
from vdcos.core.drift import mark
from vdcos.core.foreign import kubevirt
from vdcos.core.foreign.cdi import DataVolume
from vdcos.core.foreign.kubernetes import FailedMount, PersistentVolumeClaim
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.objects import Key, Meta, Unreadable
from vdcos.core.plan import Action, Instant
from vdcos.providers.failover import room
from vdcos.providers.networks import Problem, Providers
from vdcos.services.virtualmachine import (
    adoption,
    capacity,
    data_volumes,
    hardware,
    kubevirt_vm,
    networks,
    overrides,
    pods,
    power,
)
from vdcos.services.virtualmachine import disks as storage
from vdcos.services.virtualmachine.kubevirt_vm import Card, Parts, Volume
from vdcos.services.virtualmachine.observe import Seen


@dataclass(frozen=True, slots=True)
class Said:
    """What one phase of a plan comes to. ``after`` is seconds until the next look when nothing changes."""

    actions: tuple[Action, ...] = ()
    conditions: tuple[Condition, ...] = ()
    after: float | None = None


@dataclass(frozen=True)
class Case:
    """Nothing in here changes; what is derived is derived once."""

    cr: api.VirtualMachine
    seen: Seen
    now: Instant
    providers: Providers

    @cached_property
    def owner(self) -> Meta:
        meta = self.cr.metadata
        return Meta(name=meta.name, namespace=meta.namespace, uid=meta.uid)

    @cached_property
    def child(self) -> kubevirt.VirtualMachine | None:
        """KubeVirt's VM of this name, ours or not."""
        return self.seen.child if isinstance(self.seen.child, kubevirt.VirtualMachine) else None

    @cached_property
    def detached(self) -> bool:
        """The child is one of ours that was detached from a VirtualMachine of this name: ours to take back."""
        return self.child is not None and adoption.was_ours(self.child.metadata)

    @cached_property
    def ours(self) -> bool:
        """The child is there, and ours, or ours to take back."""
        return self.child is not None and (self.detached or ownership.is_owned(self.child.metadata, self.owner.uid))

    @cached_property
    def mine(self) -> bool:
        """The child is ours, and staying."""
        return self.child is not None and self.ours and self.child.metadata.deletion_timestamp is None

    @cached_property
    def taken(self) -> str:
        """Why the child's name is not to be had, ever; "" when it is free, or will be."""
        if self.child is None or self.ours:
            return ""
        if data_volumes.is_former(self.child.metadata, self.owner) or self.adopts is not None:
            return ""
        return (
            f"KubeVirt VM {self.child.metadata.key} exists and is not managed by this object; it is left alone. "
            "Rename this VirtualMachine, remove that VM, or have it taken over (kubectl vdc import)"
        )

    @cached_property
    def adopts(self) -> kubevirt.VirtualMachine | None:
        """The KubeVirt VM of this name that was never ours, and is to become so."""
        child = self.child
        if child is None or self.ours or child.metadata.deletion_timestamp is not None:
            return None
        return child if adoption.agrees(child.metadata) else None

    @cached_property
    def lent(self) -> Mapping[str, str]:
        """The claims that the KubeVirt VM uses, by volume: one that is ours, or is to become so."""
        return adoption.claims(self.seen.child_spec) if self.mine or self.adopts is not None else {}

    @cached_property
    def template(self) -> Mapping[str, Any]:
        """The template's spec of our child; empty while there is none."""
        found: Mapping[str, Any] = self.seen.child_spec.get("template", {}).get("spec", {}) if self.mine else {}
        return found

    @cached_property
    def instance(self) -> VirtualMachineInstance | None:
        """The instance that runs, starts or stops; None when it has stopped for good or is somebody else's."""
        instance, child = self.seen.instance, self.child
        if not isinstance(instance, VirtualMachineInstance) or instance.status.phase in power.FINAL or child is None:
            return None
        return instance if self.ours and instance.metadata.owned_by(child.metadata.uid) else None

    @cached_property
    def running(self) -> Mapping[str, Any]:
        """The spec that the instance runs; the template's when they are known to be the same."""
        return self.seen.instance_spec or self.template

    def gate(self, name: str) -> bool:
        return self.seen.kubevirt is not None and self.seen.kubevirt.gate(name)

    @cached_property
    def facts(self) -> power.Facts:
        final = self.seen.instance if self.instance is None else None
        instances = (self.seen.child, self.seen.instance)
        return power.Facts(
            vm=f"{self.owner.name} -n {self.owner.namespace}",
            spec=self.cr.spec,
            unreadable=next((found.why for found in instances if isinstance(found, Unreadable)), ""),
            child=self.child if self.mine else None,
            strategy=str(self.seen.child_spec.get("runStrategy", "")),
            instance=self.instance,
            final=final if isinstance(final, VirtualMachineInstance) else None,
            held_off=self.forbidden if self.held_off else "",
            turn=self.waits_for_turn,
            resetting=self.resetting,
            lack=self.lack.message() if self.lack is not None and self.admitted is None else "",
            growth=self.lack.message() if self.lack is not None and self.admitted is not None else "",
            waits_for=self.unresolved or ("the name is taken" if self.taken else ""),
            adopts=self.adopts is not None,
            before=self.stored(power.SYNCED)[1],
            unplaced=pods.unplaced(self.instance),
            trouble=pods.trouble(self.complaints),
        )

    @cached_property
    def power(self) -> power.Outcome:
        return power.outcome(self.facts)

    @cached_property
    def complaints(self) -> tuple[FailedMount, ...]:
        """What kubelets say about the volumes of pods that do not run yet; after that it is history."""
        if self.instance is None or self.instance.status.phase == "Running":
            return ()
        return self.seen.failed_mounts

    # The guest

    @cached_property
    def watched(self) -> GuestWatch:
        """What is remembered of the guest. Nothing of it was in the future: a clock may have been set back."""
        known = self.cr.status.monitoring
        if known is None:
            return GuestWatch()
        since = counts.begun(known.since, self.now) if known.since is not None else None
        resets = tuple(each.model_copy(update={"at": counts.begun(each.at, self.now)}) for each in known.resets)
        return known.model_copy(update={"since": since, "resets": resets})

    @cached_property
    def resetting(self) -> bool:
        """The VM is being reset: the instance that is to end is being stopped, or gone, and no other has come up."""
        last = self.watched.resets[-1] if self.watched.resets else None
        if last is None or last.why != "Silent" or last.instance != self.watched.instance:
            return False
        instance = self.instance
        ends = instance is None or instance.metadata.uid != last.instance or instance.metadata.deletion_timestamp
        return bool(ends) and self.cr.spec.power_state == "PoweredOn"

    @cached_property
    def owes_start(self) -> bool:
        """A VM that stays off by itself was reset, and is not on its way on yet: KubeVirt starts it when it comes from
        Halted, and has not seen it come from there."""
        watched, instance, child = self.watched, self.instance, self.child
        if not watched.restarting or child is None or not self.mine or self.cr.spec.power_state == "PoweredOff":
            return False
        ours = instance is None or instance.metadata.uid == watched.instance
        return ours and self._strategy == child.status.run_strategy == "RerunOnFailure"

    @cached_property
    def starts_from_halted(self) -> bool:
        """It owes a start, and what it comes from is gone."""
        gone = self.seen.instance is None and self.child is not None and not self.child.status.created
        return self.owes_start and gone

    # What the references resolve to

    @cached_property
    def made(self) -> frozenset[str]:
        """Declared disks that were ready once, by name. The phase alone forgets it: a disk that is lost step by step
        (terminating, then gone) passes through phases that new disks have, too."""
        return frozenset(disk.name for disk in self.cr.status.disks if disk.made or disk.phase in storage.MADE)

    @cached_property
    def disks(self) -> tuple[storage.Decision, ...]:
        pledged: dict[str, int] = {}
        decisions = []
        for disk in self.cr.spec.disks:
            look = storage.Look(
                owner=self.owner,
                created=self.cr.metadata.creation_timestamp,
                disk=disk,
                seen=self.seen.disks[disk.name],
                namespace=self.seen.namespace,
                made=disk.name in self.made,
                pledged=pledged.get(disk.datastore, 0),
                instance=self.instance.metadata.uid if self.instance else "",
                grows_live=self.gate("ExpandDisks"),
                cdi=self.seen.cdi,
                child=self.child.metadata if self.child is not None and self.mine else None,
                lent=self.lent.get(disk.name, "") == disk.claim_name,
            )
            decision = storage.decide(look)
            pledged[disk.datastore] = pledged.get(disk.datastore, 0) + decision.promised
            decisions.append(decision)
        return tuple(decisions)

    @cached_property
    def attaching(self) -> tuple[str, ...]:
        """Disks that were added to the running VM and have not reached its pod yet."""
        if self.instance is None or not self.facts.up or self.facts.stopping:
            return ()
        phases = {volume.name: volume.phase for volume in self.instance.status.volume_status}
        return tuple(
            volume["name"]
            for volume in self.template.get("volumes", ())
            if volume.get("dataVolume", volume.get("persistentVolumeClaim", {})).get("hotpluggable")
            and phases.get(volume["name"], "") in ("", "Pending", "Bound", "AttachedToNode")
        )

    @cached_property
    def cards(self) -> Mapping[str, Card | Problem]:
        """By the card's name."""
        attached = {interface["name"] for interface in networks.interfaces(self.template)}
        return {
            nic.name: networks.resolve(
                networks.Look(
                    nic=nic,
                    seen=self.seen.nics[nic.name],
                    namespace=self.seen.namespace,
                    name_of_namespace=self.owner.namespace,
                    attached=nic.name in attached,
                    providers=self.providers,
                )
            )
            for nic in self.cr.spec.nics
        }

    @cached_property
    def on_pod_network(self) -> tuple[str, ...]:
        """Names of the cards on the pod network; KubeVirt connects one."""
        return tuple(name for name, card in self.cards.items() if isinstance(card, Card) and "pod" in card.source)

    @cached_property
    def hardware(self) -> tuple[hardware.Problem, ...]:
        return tuple(hardware.problems(self.cr, self.seen))

    # What the child is to be

    @cached_property
    def run_strategy(self) -> kubevirt_vm.RunStrategy:
        no_room = self.lack is not None and self.admitted is None
        if self.held_off or self.waits_for_turn or self.starts_from_halted or no_room:
            return "Halted"
        child = self.child if self.mine else None
        return power.run_strategy(self.cr.spec, self._strategy, child, self.seen.instance, self._is_changing)

    @property
    def _strategy(self) -> str:
        """What the child says now."""
        return str(self.seen.child_spec.get("runStrategy", ""))

    def _is_changing(self) -> bool:
        """Whether the child is about to be changed in anything but its power."""
        manifest = self._with_power_as_is
        if self.child is None or self.problems or isinstance(manifest, overrides.Conflict):
            return False
        return mark(manifest) != self.child.metadata.annotation(ownership.APPLIED)

    @cached_property
    def _with_power_as_is(self) -> Mapping[str, Any] | overrides.Conflict:
        """What the child would be with its power as it is."""
        return self._manifest(self._strategy, self._reserved)

    @cached_property
    def held_off(self) -> bool:
        """A VM that is off stays off while it may not use what it refers to. One that runs is never stopped for it."""
        return self.mine and self._strategy == "Halted" and bool(self.forbidden)

    @cached_property
    def waits_for_turn(self) -> str:
        """The failure of its host for whose order of restart the VM waits, or "". What runs elsewhere is never stopped
        for it: such an instance did not die with the host."""
        hold, instance = self.seen.hold, self.seen.instance
        if hold is None or (self.child is not None and not self.mine):
            return ""
        there = isinstance(instance, VirtualMachineInstance) and not failures.died(instance, hold.instance, hold.host)
        return "" if there else hold.failure

    @property
    def _died(self) -> bool:
        """The instance that died with its host is still there."""
        hold, instance = self.seen.hold, self.instance
        return hold is not None and instance is not None and failures.died(instance, hold.instance, hold.host)

    @cached_property
    def on_failover_hosts(self) -> bool:
        """Whether the VM may start on hosts that are kept for failover. Taken back while it runs, which changes nothing
        for it; where KubeVirt would call that a reason to restart, when it has stopped."""
        if self.seen.failover:
            return True
        rollout = self.seen.kubevirt.spec.configuration.vm_rollout_strategy if self.seen.kubevirt is not None else ""
        return rollout == "Stage" and self.instance is not None and kubevirt_vm.on_failover_hosts(self.template)

    @cached_property
    def wanted(self) -> Mapping[str, Any] | overrides.Conflict:
        """The manifest of the child; only meaningful while nothing is ``unresolved``."""
        as_is = self.run_strategy == self._strategy and self.reserves == self._reserved
        return self._with_power_as_is if as_is else self._manifest(self.run_strategy, self.reserves)

    # Room for it

    @cached_property
    def admitted(self) -> Amounts | None:
        """What was admitted for the VM; what its pods have of hosts is admitted, whatever policies say since, and what
        it ran with when its host failed. None: nothing was. What the child says proves nothing: others can write there,
        too."""
        child = self.child if self.mine else None
        found = room.admitted(child)
        if found is None and child is not None:
            found = self.seen.placed
        if found is None and self._died:
            found = capacity.needs({"template": {"spec": self.running}}, self.seen)
        return found

    @cached_property
    def needs(self) -> Amounts:
        """What the VM is to need: as declared, or what the child says while it keeps the hardware that it has."""
        manifest = self._with_power_as_is
        if self.mine and (self.broken or isinstance(manifest, overrides.Conflict)):
            return capacity.needs(self.seen.child_spec, self.seen)
        return capacity.needs(manifest["spec"], self.seen) if isinstance(manifest, Mapping) else amounts.NOTHING

    @cached_property
    def lack(self) -> room.Lack | None:
        """Why there is no room for the VM to start, or to grow. What restarts after a failure was admitted before, as
        large as it was."""
        account, known = self.seen.account, self.admitted
        if account is None or self._runs_unseen:
            return None
        if self.held_off or self.taken or (not self.mine and self.broken) or (self.waits_for_turn and known is None):
            return None
        more = self.needs.beyond(known) if known is not None else self.needs
        if not more:
            return None
        placement = self.cr.spec.placement
        asking = room.Asking(more, self.seen.wish, placement.node_selector if placement is not None else {})
        return account.lack(Key(self.owner.namespace, self.owner.name), asking)

    @property
    def _runs_unseen(self) -> bool:
        """Its instance says that it has a host, and no pod of it is seen there. It is not stopped, and nothing is noted
        for it: instances can be made that say so, and pods may be heard of later."""
        return self.admitted is None and self.instance is not None and bool(self.instance.status.node_name)

    @cached_property
    def _reserved(self) -> str | None:
        """What the child says of what was admitted; None when it has never said anything. While nobody owns it, that is
        what others say, and worth nothing."""
        child = self.child if self.mine else None
        said = (child.metadata.annotations or {}).get(ownership.ADMITTED) if child is not None else None
        return "" if said is not None and self.detached else said

    @cached_property
    def reserves(self) -> str | None:
        """What it is to say. A VM that waits for its turn keeps its place; one that is declared off has none."""
        if self.cr.spec.power_state == "PoweredOff" or (self.lack is not None and self.admitted is None):
            return "" if self._reserved else self._reserved
        if self.waits_for_turn:
            return amounts.written(self.admitted) if self.admitted is not None else self._reserved
        if self.seen.account is None or self.held_off or self.lack is not None or self._runs_unseen:
            return self._reserved
        return amounts.written(self.needs)

    def _manifest(self, run_strategy: str, reserves: str | None) -> Mapping[str, Any] | overrides.Conflict:
        parts = Parts(
            run_strategy=run_strategy,
            volumes=[self._volume(decision) for decision in self.disks],
            cards=[card for card in self.cards.values() if isinstance(card, Card)],
            leaving=self._leaving(),
            cluster=self.seen.cluster,
            failover=self.on_failover_hosts,
        )
        manifest = kubevirt_vm.build(self.cr, self.owner, parts)
        if reserves is not None:
            manifest["metadata"]["annotations"] = {ownership.ADMITTED: reserves}
        try:
            return overrides.apply(manifest, self.cr.spec.overrides) if self.cr.spec.overrides else manifest
        except overrides.Conflict as conflict:
            return conflict

    @cached_property
    def problems(self) -> tuple[str, ...]:
        """Why the VM keeps the hardware that it has, in words that end with a reason."""
        grows = self.lack is not None and self.admitted is not None
        return (*self.broken, room.INSUFFICIENT) if grows else self.broken

    @cached_property
    def broken(self) -> tuple[str, ...]:
        """Which references do not resolve, in words that end with a reason."""
        found = [f"disk {decision.disk.name}: {decision.reason}" for decision in self.disks if not decision.attachable]
        found += [f"NIC {name}: {card.reason}" for name, card in self.cards.items() if isinstance(card, Problem)]
        if len(self.on_pod_network) > 1:
            found.append("two NICs on the pod network")
        return tuple(found + [reason for reason, _ in self.hardware])

    @cached_property
    def unresolved(self) -> str:
        """Why the child's hardware cannot be said yet, or ""."""
        first = next(iter(self.problems), "")
        return first or ("overrides" if isinstance(self.wanted, overrides.Conflict) else "")

    @cached_property
    def forbidden(self) -> str:
        """What the VM refers to and may not use (any more), or ""."""
        return next((problem for problem in self.broken if problem.endswith("NotAllowed")), "")

    def _volume(self, decision: storage.Decision) -> Volume:
        """How the disk is referred to: as it was before, since a change would be a reason to restart."""
        disk, claim = decision.disk, names.claim(self.owner.name, decision.disk.name, decision.disk.claim_name)
        live: Mapping[str, Any] = next((v for v in self.template.get("volumes", ()) if v["name"] == disk.name), {})
        for source in ("dataVolume", "persistentVolumeClaim"):
            if claim in live.get(source, {}).values():
                return Volume(disk, claim, source, self._hot(disk, live[source]))
        return Volume(disk, claim, "dataVolume" if decision.has_volume else "persistentVolumeClaim", self._hot(disk))

    def _hot(self, disk: words.Disk, live: Mapping[str, Any] | None = None) -> bool:
        """Whether a volume is one that came to a running VM.

        It stays one until the VM is powered off: a change while it runs would be a reason to restart. From then on it
        is there from the start, as a guest expects of what it mounts at boot.
        """
        if self.cr.spec.power_state == "PoweredOff":
            return False
        if live is not None:
            return bool(live.get("hotpluggable"))
        return (
            self.mine
            and self.instance is not None
            and self.instance.metadata.deletion_timestamp is None
            and self.seen.kubevirt is not None
            and self.seen.kubevirt.hotplugs_disks
            and disk.bus in storage.HOT_BUSES
            and disk.boot_order is None
        )

    def _leaving(self) -> tuple[kubevirt_vm.Leaving, ...]:
        if self.instance is None or self.instance.metadata.deletion_timestamp is not None:
            return ()
        reported = [interface.name for interface in self.instance.status.interfaces]
        return tuple(networks.leaving(self.cr.spec.nics, self.template, self.running, reported))

    @cached_property
    def released(self) -> tuple[Action, ...]:
        """Disks that the spec does not name any more are retained, whatever it said about them before. While the VM is
        being deleted, so are those that are declared Retain: nothing else is done for them then."""
        retained: list[DataVolume | PersistentVolumeClaim] = list(self.seen.undeclared)
        if self.cr.metadata.deletion_timestamp is not None:
            for disk in self.cr.spec.disks:
                if disk.deletion_policy == "Retain":
                    retained += self.seen.disks[disk.name].held
        return tuple(
            data_volumes.release(held, self.owner)
            for held in retained
            if held.metadata.owned_by(self.owner.uid) and held.metadata.deletion_timestamp is None
        )

    def stored(self, condition: str) -> tuple[str, str, str]:
        """Status, reason and message of a condition as it stands in the stored status; three "" when it does not."""
        for known in self.cr.status.conditions:
            if known.type == condition:
                return known.status, known.reason, known.message
        return "", "", ""
