"""A toy cluster around the hypervisor model: an API server in a dictionary, the least of virt-controller, virtual time.

Everything happens in the order of (time, submission), so a test is a pure function of what it asks for.
"""

import copy
import heapq
import itertools
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from vdcos.testing.hypervisor import intervals, ledger, step
from vdcos.testing.hypervisor.objects import Claim, Meta, Pod, Vmi
from vdcos.testing.hypervisor.values import (
    Entry,
    Event,
    Host,
    PodGone,
    PodSeen,
    Step,
    Timings,
    Undelivered,
    Up,
    Verb,
    VmiGone,
    VmiSeen,
    Write,
)

Json = dict[str, Any]

NAMESPACE = "default"
POD, VMI = "pods", "virtualmachineinstances"
TARGET = "kubevirt.io/migrationTargetNodeName"


class Refused(Exception):
    """A precondition of a write did not hold."""


class Toy:
    def __init__(self, hosts: int = 3, timings: Timings | None = None, start: float = 1_700_000_000.0) -> None:
        self.now = start
        self.timings = timings or Timings()
        self.hosts = {f"host-{i}": Host(f"host-{i}", i, self.timings) for i in range(1, hosts + 1)}
        self.entries: list[Entry] = []
        self.writes: list[tuple[float, str, Write]] = []
        self.objects: dict[tuple[str, str], Json] = {}
        self.wanted: dict[str, bool] = {}
        """VMs by name, and whether they are to run (runStrategy Always or Halted)."""
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._uids = itertools.count(1)
        self._events: deque[tuple[str, Event]] = deque()
        self._running = False
        for name in self.hosts:
            self.tell(name, Up())
        self._try_again()

    # --- time -------------------------------------------------------------------------------------------------------

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (self.now + seconds, next(self._order), act))

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self._agenda and self._agenda[0][0] <= end:
            at, _, act = heapq.heappop(self._agenda)
            self.now = max(self.now, at)
            act()
        self.now = end

    # --- hosts ------------------------------------------------------------------------------------------------------

    def tell(self, name: str, event: Event) -> None:
        self._events.append((name, event))
        if self._running:
            return
        self._running = True
        while self._events:
            self._step(*self._events.popleft())
        self._running = False

    def _step(self, name: str, event: Event) -> None:
        outcome: Step = step(self.hosts[name], event, self.now)
        self.hosts[name] = outcome.host
        self.entries += outcome.entries
        for write in outcome.writes:
            self.writes.append((self.now, name, write))
            self.later(0.002, lambda write=write: self._carry_out(name, write))  # type: ignore[misc]
        for timer in outcome.timers:
            self.later(max(0.0, timer.at - self.now), lambda due=timer.due: self.tell(name, due))  # type: ignore[misc]
        for message in outcome.messages:
            for to in [message.to] if message.to else self.hosts:
                there = self.hosts[to]
                lost = not there.powered or there.hung
                self._events.append((name, Undelivered(message)) if lost else (to, message.event))
        if outcome.lists:
            self._events.append((name, self._up(name)))

    def _up(self, name: str) -> Up:
        pods = tuple(s for s in map(self._pod_seen, self.of(POD)) if s.pod.spec.node_name == name)
        vmis = tuple(s for s in map(self._vmi_seen, self.of(VMI)) if name in _nodes(s.vmi))
        return Up(pods, vmis)

    def _pod_seen(self, pod: Json) -> PodSeen:
        return PodSeen(msgspec.convert(copy.deepcopy(pod), Pod))

    def _vmi_seen(self, vmi: Json) -> VmiSeen:
        seen = msgspec.convert(copy.deepcopy(vmi), Vmi)
        claims = {
            name: Claim(metadata=msgspec.convert({"name": name, "uid": f"disk-{name}"}, Meta)) for name in seen.claims()
        }
        return VmiSeen(seen, claims)

    # --- the API server -----------------------------------------------------------------------------------------------

    def of(self, resource: str) -> list[Json]:
        return [o for (kind, _), o in self.objects.items() if kind == resource]

    def get(self, resource: str, name: str) -> Json | None:
        return self.objects.get((resource, name))

    def put(self, resource: str, obj: Json) -> None:
        """Store an object, show it to the hosts that it concerns, and let the controllers react."""
        obj["metadata"]["resourceVersion"] = str(next(self._order) + 1)
        self.objects[resource, obj["metadata"]["name"]] = obj
        self._show(resource, obj)
        self.later(0.005, self._control)

    def remove(self, resource: str, name: str) -> None:
        obj = self.objects.pop((resource, name), None)
        if obj is None:
            return
        uid = obj["metadata"]["uid"]
        for host in self.hosts:
            self.tell(host, PodGone(uid) if resource == POD else VmiGone(uid))
        self.later(0.005, self._control)

    def _show(self, resource: str, obj: Json) -> None:
        for name, host in self.hosts.items():
            if resource == POD and obj["spec"].get("nodeName") == name:
                self.tell(name, self._pod_seen(obj))
            elif resource == VMI:
                seen = self._vmi_seen(obj)
                if name in _nodes(seen.vmi) or seen.vmi.uid in host.vmis:
                    self.tell(name, seen)

    def _carry_out(self, host: str, write: Write) -> None:
        """A write arrives, unless its host can no longer send. Refused ones are forgotten: something newer is shown."""
        if not self.hosts[host].writing or write.ref.resource not in (POD, VMI):
            return
        obj = self.get(write.ref.resource, write.ref.name)
        if obj is None:
            return
        try:
            changed = apply(obj, write)
        except Refused:
            self._show(write.ref.resource, obj)
            return
        if changed is None:
            self.remove(write.ref.resource, write.ref.name)
        else:
            self.put(write.ref.resource, changed)

    # --- virt-controller, as far as it goes ---------------------------------------------------------------------------

    def create_vm(self, name: str) -> None:
        self.wanted[name] = True
        self.later(0, self._control)

    def halt(self, name: str) -> None:
        self.wanted[name] = False
        self.later(0, self._control)

    def delete(self, resource: str, name: str) -> None:
        """Ask for an object to go; hosts and controllers finish it."""
        obj = self.get(resource, name)
        if obj is not None and "deletionTimestamp" not in obj["metadata"]:
            changed = copy.deepcopy(obj)
            changed["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            self.put(resource, changed)

    def force_delete_pods(self, vm: str) -> None:
        for pod in self.launchers(vm):
            self.remove(POD, pod["metadata"]["name"])

    def launchers(self, vm: str) -> list[Json]:
        return [p for p in self.of(POD) if p["metadata"]["labels"]["vm"] == vm]

    def migrate(self, vm: str) -> None:
        """Begin a live migration to some other host, if that is possible now."""
        vmi = self.get(VMI, vm)
        alive = [p for p in self.launchers(vm) if p["status"]["phase"] in ("Pending", "Running")]
        if vmi is None or vmi["status"]["phase"] != "Running" or len(alive) != 1:
            return
        source = vmi["status"]["nodeName"]
        target = next((n for n, h in self.hosts.items() if n != source and h.writing), None)
        if target is not None and not vmi["metadata"]["labels"].get(TARGET):
            self._launch(vm, vmi["metadata"]["uid"], target, migration=f"mig-{next(self._uids)}")

    def _launch(self, vm: str, vmi: str, node: str, migration: str = "") -> None:
        number = next(self._uids)
        labels = {"kubevirt.io": "virt-launcher", "kubevirt.io/created-by": vmi, "vm": vm}
        if migration:
            labels["kubevirt.io/migrationJobUID"] = migration
        meta = {
            "name": f"virt-launcher-{vm}-{number}",
            "namespace": NAMESPACE,
            "uid": f"pod-{number}",
            "labels": labels,
        }
        gate = {"conditionType": "kubevirt.io/virtual-machine-unpaused"}
        spec = {
            "nodeName": node,
            "restartPolicy": "Never",
            "containers": [{"name": "compute", "image": "launcher:1"}],
            "readinessGates": [gate],
        }
        self.put(POD, {"metadata": meta, "spec": spec, "status": {"phase": "Pending", "conditions": []}})

    def _control(self) -> None:
        for vm, wanted in self.wanted.items():
            self._control_vm(vm, wanted)

    def _try_again(self) -> None:
        """What fitted nowhere may fit now, as the scheduler finds out by and by."""
        self._control()
        self.later(5.0, self._try_again)

    def _control_vm(self, vm: str, wanted: bool) -> None:
        vmi = self.get(VMI, vm)
        if vmi is None:
            if wanted:
                self._create_vmi(vm)
            return
        pods = [
            p for p in self.launchers(vm) if p["metadata"]["labels"]["kubevirt.io/created-by"] == vmi["metadata"]["uid"]
        ]
        final = vmi["status"]["phase"] in ("Succeeded", "Failed")
        if (final or not wanted) and "deletionTimestamp" not in vmi["metadata"]:
            self.delete(VMI, vm)
            return
        if "deletionTimestamp" in vmi["metadata"]:
            for pod in pods:
                self.delete(POD, pod["metadata"]["name"])
            if not pods:
                self.remove(VMI, vm)
            return
        self._progress(vm, vmi, pods)

    def _create_vmi(self, vm: str) -> None:
        if self.launchers(vm):
            return
        meta = {"name": vm, "namespace": NAMESPACE, "uid": f"vmi-{next(self._uids)}", "labels": {}, "annotations": {}}
        owner = {"kind": "VirtualMachine", "name": vm, "uid": f"vm-{vm}"}
        volume = {"name": "root", "persistentVolumeClaim": {"claimName": vm}}
        devices = {
            "disks": [{"name": "root", "disk": {"bus": "virtio"}}],
            "interfaces": [{"name": "default", "masquerade": {}}],
        }
        spec = {"domain": {"devices": devices}, "volumes": [volume], "networks": [{"name": "default", "pod": {}}]}
        info = {"accessModes": ["ReadWriteMany"]}
        status = {
            "phase": "Scheduling",
            "volumeStatus": [{"name": "root", "target": "", "persistentVolumeClaimInfo": info}],
        }
        self.put(VMI, {"metadata": {**meta, "ownerReferences": [owner]}, "spec": spec, "status": status})

    def _progress(self, vm: str, vmi: Json, pods: list[Json]) -> None:
        status, meta = vmi["status"], vmi["metadata"]
        mine = [p for p in pods if not p["metadata"]["labels"].get("kubevirt.io/migrationJobUID")]
        if status["phase"] == "Scheduling":
            if not mine and (node := next((n for n, h in self.hosts.items() if h.writing and h.handler), None)):
                self._launch(vm, meta["uid"], node)
            elif mine and mine[0]["status"]["phase"] == "Running":
                changed = copy.deepcopy(vmi)
                changed["status"] |= {"phase": "Scheduled", "nodeName": mine[0]["spec"]["nodeName"]}
                self.put(VMI, changed)
            return
        here = [p for p in pods if p["spec"]["nodeName"] == status["nodeName"]]
        if not here:
            changed = copy.deepcopy(vmi)
            changed["status"]["phase"] = "Failed"
            self.put(VMI, changed)
            return
        for pod in here:
            self._open_gate(pod)
        self._migration(vmi, pods)

    def _open_gate(self, pod: Json) -> None:
        kind = "kubevirt.io/virtual-machine-unpaused"
        if not any(c["type"] == kind for c in pod["status"]["conditions"]):
            changed = copy.deepcopy(pod)
            changed["status"]["conditions"].append({"type": kind, "status": "True"})
            self.put(POD, changed)

    def _migration(self, vmi: Json, pods: list[Json]) -> None:
        """Hand over to a target that runs; give up one that has died."""
        state = vmi["status"].get("migrationState") or {}
        for pod in pods:
            uid = pod["metadata"]["labels"].get("kubevirt.io/migrationJobUID")
            if not uid:
                continue
            phase, node = pod["status"]["phase"], pod["spec"]["nodeName"]
            if phase == "Running" and state.get("migrationUid") != uid and not vmi["metadata"]["labels"].get(TARGET):
                changed = copy.deepcopy(vmi)
                changed["metadata"]["labels"][TARGET] = node
                changed["status"]["migrationState"] = {
                    "migrationUid": uid, "sourceNode": vmi["status"]["nodeName"], "targetNode": node,
                }  # fmt: skip
                self.put(VMI, changed)
                return
            dead = phase in ("Failed", "Succeeded")
            if dead and state.get("migrationUid") == uid and not (state.get("endTimestamp") or state.get("failed")):
                self._fail(vmi)
                return
        alive = {p["metadata"]["labels"].get("kubevirt.io/migrationJobUID") for p in pods}
        uid = state.get("migrationUid")
        if uid and uid not in alive and not state.get("endTimestamp") and not state.get("failed"):
            self._fail(vmi)

    def _fail(self, vmi: Json) -> None:
        changed = copy.deepcopy(vmi)
        changed["status"]["migrationState"] |= {
            "failed": True,
            "completed": True,
            "endTimestamp": "2026-01-01T00:00:00Z",
        }
        changed["metadata"]["labels"].pop(TARGET, None)
        self.put(VMI, changed)

    # --- the truth ----------------------------------------------------------------------------------------------------

    def active(self, vm: str) -> list[str]:
        """The hosts on which a process of the VM can write to its disks."""
        return [h.name for h in self.hosts.values() for p in h.processes.values() if p.name == vm and p.active]

    def history(self) -> list[ledger.Interval]:
        return intervals(self.entries)

    def overlaps(self) -> list[ledger.Overlap]:
        return ledger.overlaps(self.history())

    def phase(self, vm: str) -> str:
        vmi = self.get(VMI, vm)
        return str(vmi["status"]["phase"]) if vmi else ""


def _nodes(vmi: Vmi) -> set[str]:
    state = vmi.status.migration_state or {}
    return {vmi.status.node_name, state.get("sourceNode", ""), state.get("targetNode", "")}


def apply(obj: Json, write: Write) -> Json | None:
    """An object after a write, None if it is gone. Raises Refused when a precondition does not hold."""
    result = copy.deepcopy(obj)
    match write.verb:
        case Verb.DELETE:
            if write.body["preconditions"]["uid"] != obj["metadata"]["uid"]:
                raise Refused("uid")
            return None
        case Verb.JSON_PATCH:
            for op in write.body:
                _operate(result, op)
        case _:
            if write.body["metadata"].get("uid", obj["metadata"]["uid"]) != obj["metadata"]["uid"]:
                raise Refused("uid")
            _merge(result, write.body)
    return result


def _operate(document: Json, op: Json) -> None:
    *parents, leaf = [p.replace("~1", "/") for p in op["path"].split("/")[1:]]
    at = document
    for parent in parents:
        at = at[parent]
    match op["op"]:
        case "test":
            if at.get(leaf) != op["value"]:
                raise Refused(op["path"])
        case "add":
            at[leaf] = copy.deepcopy(op["value"])
        case "remove":
            if leaf not in at:
                raise Refused(op["path"])
            del at[leaf]


def _merge(target: Json, patch: Json) -> None:
    """A strategic merge patch, as far as pods need it: conditions merge by type, other lists are replaced."""
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif key == "conditions":
            present = {c["type"]: c for c in target.get("conditions", [])}
            for condition in value:
                _merge(present.setdefault(condition["type"], {}), condition)
            target["conditions"] = list(present.values())
        elif isinstance(value, dict):
            _merge(target.setdefault(key, {}), value)
        else:
            target[key] = copy.deepcopy(value)
