"""What everybody else does to the objects: KubeVirt, CDI, the scheduler, garbage collection, storage, and the hosts.

Each controller is a function of what the API server holds that makes at most one write and is called again when
something of its concern has changed, so that any two of them, and the operator, interleave at every write. Hosts are
the pure hypervisor model. Nothing in here keeps state of its own but the hosts and their ledger.
"""

import contextlib
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from vdcos.core import hosts, quantity
from vdcos.core.foreign.cdi import DataVolume
from vdcos.core.foreign.kubernetes import (
    HEARTBEAT,
    NODE_LEASES,
    FailedMount,
    Lease,
    Node,
    PersistentVolumeClaim,
    StorageClass,
)
from vdcos.core.foreign.kubevirt import VirtualMachine, VirtualMachineInstance
from vdcos.core.objects import Key, Resource
from vdcos.providers.placement import launcher_requests
from vdcos.runtime.requests import ApiError
from vdcos.testing.apiserver import KUBELET, NAMESPACE, ApiServer, Change, Held
from vdcos.testing.forks import twin as copy_of
from vdcos.testing.hypervisor import step
from vdcos.testing.hypervisor.kubelet import host_address
from vdcos.testing.hypervisor.node import boot_id, system_uuid
from vdcos.testing.hypervisor.objects import Claim, Meta, Pod, Vmi
from vdcos.testing.hypervisor.values import (
    Entry,
    Event,
    Hang,
    Host,
    Partition,
    PodGone,
    PodSeen,
    PowerOff,
    Recover,
    Undelivered,
    Up,
    Verb,
    VmiGone,
    VmiSeen,
    Write,
    micro_stamp,
    stamp,
)
from vdcos.testing.trees import Tree

VM, VMI = VirtualMachine.resource, VirtualMachineInstance.resource
DV, PVC, CLASS = DataVolume.resource, PersistentVolumeClaim.resource, StorageClass.resource
NODE, EVENT, LEASE = Node.resource, FailedMount.resource, Lease.resource
POD = Resource("", "v1", "pods", "Pod")
SECRET = Resource("", "v1", "secrets", "Secret")
CONFIG_MAP = Resource("", "v1", "configmaps", "ConfigMap")

_BY_PLURAL = {"pods": POD, "virtualmachineinstances": VMI, "events": EVENT}
_PERIODIC = ("lease", "heartbeat", "status")
"""What hosts say at regular intervals is left out: a node goes NotReady because its host does not write."""

VM_FINALIZER = "kubevirt.io/virtualMachineControllerFinalize"
VMI_FINALIZER = "kubevirt.io/foregroundDeleteVirtualMachine"
KUBERNETES = "kubernetes"
GENERATION = "kubevirt.io/vm-generation"
SELECTED = "volume.kubernetes.io/selected-node"
WAITS = "PendingPopulation"
"""Phase of a DataVolume that waits for its first user. (Without CDI's populators it is called WaitForFirstConsumer.)"""
UNPAUSED = "kubevirt.io/virtual-machine-unpaused"

OFFERS = {"cpu": "8", "memory": "64Gi", "pods": "110", "bridge.network.kubevirt.io/br0": "110", "vdcos.dev/nvme": "4"}
ORPHANED = 60.0
"""Seconds after which pods are removed whose node does not exist any more."""
APART = 1.2
"""Seconds by which hosts that came at once differ in when they give signs of life."""
UNNOTICED = 16.0
"""A host that is silent for a shorter time than policies allow is not known to have been."""
MONITOR_GRACE = 40.0
"""Seconds without a sign of life after which a node is called NotReady."""
EVICTION = 300.0
"""Seconds that pods tolerate it."""
REACTION = 0.1
IMPORT = 2.0
BIND = 0.5
HAND_ON = 0.04
"""Seconds until a claim that CDI has filled is bound: its volume is there already."""


class Call(NamedTuple):
    """A controller is to look at something."""

    controller: str
    key: Hashable


class Tell(NamedTuple):
    """Something happens to a host."""

    host: str
    event: Event


class Show(NamedTuple):
    """A host's watch brings an object, as it is by then."""

    host: str
    resource: Resource
    key: Key
    uid: str


Happens = Call | Tell | Show
Later = Callable[[float, Happens], None]


class Cluster:
    """``later`` puts something on the agenda, in so many seconds."""

    def __init__(self, api: ApiServer, later: Later, hosts: int = 2, lively: bool = False) -> None:
        self.api = api
        self.later = later
        self.lively = lively
        """Whether hosts say who they are and that they live: boot ids, Leases, heartbeats. Renewals are no events, or
        the world would never come to rest: ``last_sign`` tells of them."""
        self.turns = 0
        """Counts how often a host has fallen silent, or was heard again."""
        self.silent_since: dict[str, float] = {}
        """When each host last fell silent."""
        self.well: dict[str, tuple[int, float]] = {}
        """How often each host had booted when it was last heard anew, and when that was: after a boot, or a silence
        that somebody may have noticed."""
        self.near: frozenset[str] = frozenset()
        """Hosts that are cut off from the API server only: the operator reaches their kubelets' ports."""
        self.hasty: frozenset[str] = frozenset()
        """Hosts whose BMC says Off for a moment as soon as it has accepted a power-off."""
        self.accepted: dict[str, float] = {}
        """When each BMC last accepted one."""
        self.anew: Mapping[Key, Tree] = {}
        """Pods that somebody's controller makes anew as soon as they are gone."""
        self.slow = 0.0
        """Seconds for which the deletion of a pod is on its way, and its answer."""
        self.hosts = {f"host-{i}": Host(f"host-{i}", i) for i in range(1, hosts + 1)}
        self.entries: list[Entry] = []
        self._pending: set[Call] = set()

    def fork(self, api: ApiServer, later: Later) -> "Cluster":
        twin = copy_of(self)
        twin.api, twin.later = api, later
        twin.silent_since, twin.accepted, twin.anew = dict(self.silent_since), dict(self.accepted), dict(self.anew)
        twin.well = dict(self.well)
        twin.hosts, twin.entries, twin._pending = dict(self.hosts), list(self.entries), set(self._pending)
        return twin

    def install(self) -> None:
        """The nodes come up, and namespaces exist."""
        for name, host in self.hosts.items():
            ready = {"type": "Ready", "status": "True"}
            status = {"allocatable": OFFERS, "conditions": [ready]}
            meta = {"name": name, "labels": self._labels(host)}
            node = {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": {}}
            self.api.create(NODE, {**node, "status": status})
            self._tell(name, Up())

    @staticmethod
    def _labels(host: Host) -> dict[str, str]:
        return {"kubernetes.io/hostname": host.name, "zone": f"zone-{host.index}", "pool": "all"}

    # What the simulator calls

    def happens(self, what: Happens) -> None:
        match what:
            case Call(controller, key):
                self._pending.discard(what)
                with contextlib.suppress(ApiError):  # refused: whatever changes next calls it again
                    _CONTROLLERS[controller](self, key)
            case Tell(host, event):
                self._tell(host, event)
            case Show(host, resource, key, uid):
                self._show(host, resource, key, uid)

    def react(self, resource: Resource, change: Change) -> None:
        """Something was written: whose concern is it?"""
        held = change.held
        if change.type == "DELETED":
            self._collect(held)
            if resource == POD and held.key in self.anew:
                self.api.create(POD, self.anew[held.key])
        elif held.meta.get("ownerReferences") and (change.type == "ADDED" or self._got_dead_owners(resource, held)):
            self._call("gc", (resource, held.key))
        if resource in (VM, VMI):
            self._call("vm", held.key)
        if resource == VMI:
            self._call("vmi", held.key)
            self._watch_vmi(change)
        elif resource == POD:
            owner = next(iter(held.meta.get("ownerReferences", ())), None)
            if owner:
                self._call("vmi", Key(held.key.namespace, owner["name"]))
            if not held.tree["spec"].get("nodeName"):
                self._call("scheduler", held.key)
            else:
                self.later(REACTION, Show(held.tree["spec"]["nodeName"], POD, held.key, held.meta["uid"]))
        elif resource in (DV, PVC):
            self._call("cdi", held.key)
            self._call("csi", held.key)
            for vmi in self.api.all(VMI):
                if vmi.key.namespace == held.key.namespace:
                    self._call("vmi", vmi.key)
        elif resource == NODE:
            self._retry_pods()
            if change.type == "DELETED":
                self._call("evict", held.key.name, ORPHANED)
            if held.tree.get("spec", {}).get("taints"):
                self._call("evict", held.key.name)
        elif resource in (SECRET, CONFIG_MAP):
            for pod in self.api.all(POD):
                if node := pod.tree["spec"].get("nodeName"):
                    self.later(REACTION, Show(node, POD, pod.key, pod.meta["uid"]))
        elif resource == NAMESPACE:
            self._call("namespace", held.key)
        if held.key.namespace:
            space = self.api.get(NAMESPACE, Key("", held.key.namespace))
            if space is not None and space.deleting:
                self._call("namespace", space.key)

    def mark(self) -> Hashable:
        """What tells two states of the hosts apart, besides what the API server holds and the agenda."""
        long_ago = self.api.long_ago
        silent, accepted = (
            tuple((name, round(max(at, long_ago), 1)) for name, at in times.items())
            for times in (self.silent_since, self.accepted)
        )
        well = tuple((name, boots, round(max(at, long_ago), 1)) for name, (boots, at) in self.well.items())
        signs = silent, accepted, well, self.near, self.hasty, tuple(self.anew), self.slow
        return signs, tuple(
            (
                host.powered, host.connected, host.hung, host.boots, host.session, host.handler, host.addresses,
                tuple(sorted(host.faults.items())), tuple(sorted(host.pods)), tuple(sorted(host.vmis)),
                frozenset(replace(run, started=max(run.started, long_ago)) for run in host.runs.values()),
                frozenset(replace(process, since=max(process.since, long_ago)) for process in host.processes.values()),
                host.deferred, round(max(host.up_since, long_ago), 1),
            )
            for host in self.hosts.values()
        )  # fmt: skip

    def running(self) -> dict[str, list[tuple[str, str]]]:
        """By disk, who can write to it right now: host and uid of the instance."""
        found: dict[str, list[tuple[str, str]]] = {}
        for host in self.hosts.values():
            for process in host.processes.values():
                if process.active:
                    for disk in process.disks:
                        found.setdefault(disk, []).append((host.name, process.vmi))
        return found

    # Hosts

    def _tell(self, name: str, event: Event) -> None:
        todo: list[tuple[str, Event]] = [(name, event)]
        while todo:
            host, what = todo.pop(0)
            before = self.hosts[host]
            outcome = step(before, what, self.api.now)
            self.hosts[host] = outcome.host
            if before.writing is not outcome.host.writing:
                self.turns += 1
                if outcome.host.writing:
                    self._heard(outcome.host)
                self.silent_since[host] = self.api.now if before.writing else math.inf
            self.entries += outcome.entries
            for write in outcome.writes:
                self._carry_out(host, write)
            for timer in outcome.timers:
                if timer.due.what not in _PERIODIC:
                    self.later(timer.at - self.api.now, Tell(host, timer.due))
            for message in outcome.messages:
                for to in [message.to] if message.to else list(self.hosts):
                    there = self.hosts[to]
                    lost = not there.powered or there.hung
                    todo.append((host, Undelivered(message)) if lost else (to, message.event))
            if outcome.lists:
                todo.append((host, self._up(host)))
        if isinstance(event, PowerOff | Partition | Hang | Recover):
            self.later(MONITOR_GRACE, Call("node", name))

    def _heard(self, host: Host) -> None:
        lasted = self.api.now - self.silent_since.get(host.name, -math.inf)
        if lasted >= UNNOTICED or self.well[host.name][0] != host.boots:
            self.well[host.name] = host.boots, self.api.now

    def _carry_out(self, host: str, write: Write) -> None:
        """A host's write. One that is refused is forgotten: the host is shown something newer."""
        if self.lively and write.ref.resource == "leases" and self.hosts[host].writing:
            self._introduce(self.hosts[host])
            return
        resource = _BY_PLURAL.get(write.ref.resource)
        if resource is None or not self.hosts[host].writing:
            return
        key = Key(write.ref.namespace, write.ref.name)
        try:
            match write.verb:
                case Verb.CREATE:
                    self.api.create(resource, write.body)
                case Verb.DELETE:
                    self.api.json_patch(resource, key, [_test("/metadata/uid", write.body["preconditions"]["uid"]),
                                                        {"op": "remove", "path": "/metadata/finalizers"}])  # fmt: skip
                case Verb.JSON_PATCH:
                    self.api.json_patch(resource, key, write.body)
                case _:
                    self.api.merge_patch(resource, key, self._strategic(resource, key, write))
        except ApiError:
            held = self.api.get(resource, key)
            if held is not None:
                self.later(REACTION, Show(host, resource, key, held.meta["uid"]))

    def _introduce(self, host: Host) -> None:
        """What a kubelet and virt-handler say when they come (back), in one: who the host is, and that it lives."""
        now, name = self.api.now, host.name
        kept = [] if (known := self.api.get(NODE, Key("", name))) is None else known.tree["status"]["conditions"]
        status = {
            "conditions": [*(c for c in kept if c["type"] != "Ready"), {"type": "Ready", "status": "True"}],
            "nodeInfo": {"bootID": boot_id(host), "systemUUID": system_uuid(host)},
            "addresses": [{"type": "InternalIP", "address": host_address(host)}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": host.kubelet_port}},
        }
        said: Tree = {"labels": {hosts.SCHEDULABLE: "true"}, "annotations": {HEARTBEAT: stamp(now)}}
        if known is None:
            meta = {"name": name, **said, "labels": {**self._labels(host), **said["labels"]}}
            node = {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": {}}
            known = self.api.create(NODE, {**node, "status": {"allocatable": OFFERS, **status}})
        else:
            self.api.merge_patch(NODE, known.key, {"metadata": said, "status": status})
        key, spec = Key(NODE_LEASES, name), {"holderIdentity": name, "renewTime": micro_stamp(now)}
        if self.api.get(LEASE, key) is not None:
            self.api.merge_patch(LEASE, key, {"spec": spec})
            return
        owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": known.meta["uid"]}
        meta = {"name": name, "namespace": NODE_LEASES, "ownerReferences": [owner]}
        self.api.create(LEASE, {"apiVersion": LEASE.api_version, "kind": "Lease", "metadata": meta, "spec": spec})

    def last_sign(self, name: str, every: float, until: float) -> float:
        """When a host last gave a sign of life by then, of one that it gives at intervals while it is heard: first when
        it comes, and from then on each host at a time of its own."""
        host = self.hosts.get(name)
        if host is None or not self.lively:
            return -math.inf
        since, early = host.up_since, (host.index - 1) * APART % every
        lasted = min(until, self.silent_since.get(name, math.inf)) - since
        return max(since, since - early + math.floor((lasted + early) / every) * every) if lasted >= 0 else -math.inf

    def gives_signs(self, name: str) -> bool:
        """Whether a host goes on giving signs of life."""
        return self.lively and name in self.hosts and self.hosts[name].writing

    def _strategic(self, resource: Resource, key: Key, write: Write) -> Tree:
        """A strategic merge patch as a merge patch, as far as pods need it: conditions merge by type."""
        body: Tree = write.body
        live, said = self.api.get(resource, key), body.get("status", {}).get("conditions")
        if write.verb is Verb.MERGE_PATCH or live is None or said is None:
            return body
        known = {c["type"]: c for c in live.tree.get("status", {}).get("conditions", ())}
        for condition in said:
            known[condition["type"]] = {**known.get(condition["type"], {}), **condition}
        return {**body, "status": {**body["status"], "conditions": list(known.values())}}

    def _up(self, name: str) -> Up:
        pods = tuple(self._pod_seen(p) for p in self.api.all(POD) if p.tree["spec"].get("nodeName") == name)
        return Up(pods, tuple(self._vmi_seen(vmi) for vmi in self.api.all(VMI) if name in _nodes(vmi)))

    def _show(self, host: str, resource: Resource, key: Key, uid: str) -> None:
        held = self.api.get(resource, key)
        if held is None or held.meta["uid"] != uid:
            self._tell(host, PodGone(uid) if resource == POD else VmiGone(uid))
        else:
            self._tell(host, self._pod_seen(held) if resource == POD else self._vmi_seen(held))

    def _pod_seen(self, held: Held) -> PodSeen:
        pod: Pod = held.decoded.get(Pod) or held.decoded.setdefault(Pod, msgspec.convert(held.tree, Pod))
        missing = [
            (kind, name)
            for kind, name in pod.mounts()
            if self.api.get(SECRET if kind == "secret" else CONFIG_MAP, Key(held.key.namespace, name)) is None
        ]
        return PodSeen(pod, {}, missing)

    def _vmi_seen(self, held: Held) -> VmiSeen:
        vmi: Vmi = held.decoded.get(Vmi) or held.decoded.setdefault(Vmi, msgspec.convert(held.tree, Vmi))
        claims = {}
        for name in vmi.claims():
            claim = self.api.get(PVC, Key(held.key.namespace, name))
            if claim is not None:
                claims[name] = Claim(metadata=Meta(name=name, uid=claim.meta["uid"]))
        return VmiSeen(vmi, claims)

    def _watch_vmi(self, change: Change) -> None:
        held = change.held
        for name, host in self.hosts.items():
            if name in _nodes(held) or held.meta["uid"] in host.vmis:
                self.later(REACTION, Show(name, VMI, held.key, held.meta["uid"]))

    # Controllers: helpers

    def _call(self, controller: str, key: Hashable, delay: float = REACTION) -> None:
        call = Call(controller, key)
        if call not in self._pending:
            self._pending.add(call)
            self.later(delay, call)

    def _retry_pods(self) -> None:
        for pod in self.api.all(POD):
            if not pod.tree["spec"].get("nodeName"):
                self._call("scheduler", pod.key)

    def _status(self, resource: Resource, held: Held, **fields: Any) -> bool:
        """Write status fields that differ; None removes one. Returns whether there was anything to write."""
        known = held.tree.get("status", {})
        changes = {name: value for name, value in fields.items() if known.get(name) != value}
        if changes:
            self.api.merge_patch(resource, held.key, {"status": changes})
        return bool(changes)

    def _finalizer(self, resource: Resource, held: Held, finalizer: str, present: bool) -> bool:
        known = held.meta.get("finalizers", [])
        if (finalizer in known) is present:
            return False
        wanted = [*known, finalizer] if present else [name for name in known if name != finalizer]
        self.api.merge_patch(resource, held.key, {"metadata": {"finalizers": wanted or None}})
        return True

    def _launchers(self, vmi: Held) -> list[Held]:
        return [pod for pod in self.api.all(POD) if pod.owned_by(vmi.meta["uid"])]

    # virt-controller: VirtualMachines

    def _vm(self, key: Key) -> None:
        vm, vmi = self.api.get(VM, key), self.api.get(VMI, key)
        if vm is None:
            return
        mine = vmi is not None and vmi.owned_by(vm.meta["uid"])
        if vm.deleting:
            if vmi is not None and mine:
                if not vmi.deleting:
                    self.api.delete(VMI, key)
                return
            self._finalizer(VM, vm, VM_FINALIZER, False)
            return
        if self._finalizer(VM, vm, VM_FINALIZER, True) or (vmi is not None and not mine):
            return
        if not self._power(vm, vmi):
            self._vm_status(vm, vmi)

    def _power(self, vm: Held, vmi: Held | None) -> bool:
        """Start or stop by runStrategy. Returns whether there was something to write."""
        strategy, status = vm.tree["spec"]["runStrategy"], vm.tree.get("status", {})
        asked = [request["action"] for request in status.get("stateChangeRequests") or ()]
        if vmi is None:
            returns = strategy == "RerunOnFailure" and (status.get("runStrategy") != strategy or "Start" in asked)
            if strategy == "Always" or returns:
                self._create_vmi(vm)
                return True
            return "Stop" in asked and self._status(VM, vm, stateChangeRequests=None)
        if "Start" in asked and not vmi.deleting and vmi.tree["status"]["phase"] != "Failed":
            return self._status(VM, vm, stateChangeRequests=None)
        if vmi.deleting:
            return False
        phase = vmi.tree["status"]["phase"]
        failed = strategy == "RerunOnFailure" and phase == "Failed"
        if failed and "Start" not in asked:
            return self._status(VM, vm, stateChangeRequests=[{"action": "Start"}])
        final = strategy == "Always" and phase in ("Succeeded", "Failed")
        if strategy == "Halted" or final or failed or "Stop" in asked:
            self.api.delete(VMI, vmi.key)
            return True
        return False

    def _create_vmi(self, vm: Held) -> None:
        template = vm.tree["spec"]["template"]
        owner = {"apiVersion": VM.api_version, "kind": VM.kind, "name": vm.key.name, "uid": vm.meta["uid"]}
        meta = {
            "name": vm.key.name,
            "namespace": vm.key.namespace,
            "labels": template.get("metadata", {}).get("labels", {}),
            "annotations": {GENERATION: str(vm.meta["generation"])},
            "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}],
            "finalizers": [VMI_FINALIZER],
        }
        status = {"phase": "Pending", "conditions": []}
        tree = {"apiVersion": VMI.api_version, "kind": VMI.kind, "metadata": meta, "spec": template["spec"]}
        self.api.create(VMI, {**tree, "status": status})

    def _vm_status(self, vm: Held, vmi: Held | None) -> None:
        spec, status = vm.tree["spec"], vm.tree.get("status", {})
        phase = vmi.tree["status"]["phase"] if vmi else ""
        ready = _condition(vmi, "Ready").get("status") == "True" if vmi else False
        fields: dict[str, Any] = {"created": vmi is not None, "ready": ready, "printableStatus": _printable(vm, vmi)}
        if vmi is not None or status.get("runStrategy"):
            fields["runStrategy"] = spec["runStrategy"]
        if vmi is not None:
            fields["desiredGeneration"] = vm.meta["generation"]
        conditions = [each for each in status.get("conditions") or () if each["type"] == "RestartRequired"]
        if vmi is not None and phase not in ("Succeeded", "Failed"):  # else what was said stands until the next start
            conditions = [_RESTART] if _staged(vm, vmi) else []
        fields["conditions"] = conditions
        if self._status(VM, vm, **fields) or vmi is None or conditions:
            return
        if vmi.meta["annotations"].get(GENERATION) != str(vm.meta["generation"]) and not vmi.deleting:
            self._update_vmi(vm, vmi)

    def _update_vmi(self, vm: Held, vmi: Held) -> None:
        """What KubeVirt changes while the VM runs. The migration that makes it so on the host takes no time here."""
        said = vm.tree["spec"]["template"]["spec"]
        spec = {
            **vmi.tree["spec"],
            **{name: said.get(name) for name in _LIVE if name in said or name in vmi.tree["spec"]},
        }
        spec = {name: value for name, value in spec.items() if value is not None}
        domain = {
            **spec["domain"],
            **{name: said["domain"][name] for name in ("cpu", "memory") if name in said["domain"]},
        }
        operations: list[Tree] = [
            {"op": "add", "path": "/spec", "value": {**spec, "domain": domain}},
            {"op": "add", "path": f"/metadata/annotations/{GENERATION.replace('/', '~1')}",
             "value": str(vm.meta["generation"])},
        ]  # fmt: skip
        self.api.json_patch(VMI, vmi.key, operations)

    # virt-controller: VirtualMachineInstances

    def _vmi(self, key: Key) -> None:
        vmi = self.api.get(VMI, key)
        if vmi is None:
            return
        status, pods = vmi.tree["status"], self._launchers(vmi)
        phase, final = status["phase"], status["phase"] in ("Succeeded", "Failed")
        if vmi.deleting or final:
            for pod in pods:
                if not pod.deleting:
                    self.api.delete(POD, pod.key)
                    return
            if vmi.deleting and not pods:
                if final or phase == "Pending":
                    self._finalizer(VMI, vmi, VMI_FINALIZER, False)
                else:
                    self._status(VMI, vmi, phase="Failed", activePods=None)
                return
        if final:
            return
        match phase:
            case "Pending" if not vmi.deleting and self._volumes_there(vmi):
                unplaced = [each for each in status.get("conditions") or () if each["type"] == "PodScheduled"]
                self._launch(vmi) if not pods else self._status(
                    VMI, vmi, phase="Scheduling", conditions=[*unplaced, _OFF]
                )
            case "Pending":
                self._wait(vmi)
            case "Scheduling":
                self._schedule(vmi, pods)
            case _:
                self._follow(vmi, pods)

    def _volumes_there(self, vmi: Held) -> bool:
        """All claims exist, and are bound unless they wait for this very pod."""
        for name in _claims(vmi):
            claim = self.api.get(PVC, Key(vmi.key.namespace, name))
            if claim is None or claim.deleting:
                return False
            volume = self.api.get(DV, claim.key)
            phase = volume.tree.get("status", {}).get("phase") if volume is not None else "Succeeded"
            if phase not in ("Succeeded", WAITS):
                return False
        return True

    def _wait(self, vmi: Held) -> None:
        """Say for which claim an instance waits, if it is not there at all."""
        names = [name for name in _claims(vmi) if self.api.get(PVC, Key(vmi.key.namespace, name)) is None]
        message = f"PVC {vmi.key.namespace}/{names[0]} does not exist, waiting for it to appear" if names else ""
        said = {"status": "False", "message": message}
        if message:
            unplaced = {"type": "PodScheduled", "reason": "Unschedulable", **said}
            self._status(
                VMI, vmi, conditions=[unplaced, {"type": "Synchronized", "reason": "FailedPvcNotFound", **said}]
            )
        else:
            known = vmi.tree["status"].get("conditions") or []
            self._status(VMI, vmi, conditions=[each for each in known if each["type"] != "Synchronized"])

    def _launch(self, vmi: Held) -> None:
        meta = {
            "name": f"virt-launcher-{vmi.key.name}-{vmi.meta['uid'][:5]}",
            "namespace": vmi.key.namespace,
            "labels": {
                **vmi.meta.get("labels", {}),
                "kubevirt.io": "virt-launcher",
                "vm.kubevirt.io/name": vmi.key.name,
                "kubevirt.io/created-by": vmi.meta["uid"],
            },
            "ownerReferences": [
                {"apiVersion": VMI.api_version, "kind": VMI.kind, "name": vmi.key.name, "uid": vmi.meta["uid"],
                 "controller": True}
            ],
            "finalizers": [KUBELET],
        }  # fmt: skip
        asked = launcher_requests(vmi.tree["spec"])
        requests = {"cpu": f"{asked['cpu']}m", "memory": str(asked["memory"])}
        volumes = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in _claims(vmi)]
        volumes += [{"name": f"data-{n}", kind: {field: name}} for n, (kind, field, name) in enumerate(mounts(vmi))]
        spec = {
            "restartPolicy": "Never",
            "containers": [{"name": "compute", "image": "launcher:1", "resources": {"requests": requests}}],
            "readinessGates": [{"conditionType": UNPAUSED}],
            "nodeSelector": vmi.tree["spec"].get("nodeSelector", {}),
            "tolerations": vmi.tree["spec"].get("tolerations", []),
            "volumes": volumes,
        }
        status = {"phase": "Pending", "conditions": []}
        self.api.create(POD, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": status})

    def _schedule(self, vmi: Held, pods: list[Held]) -> None:
        if not pods:
            if not vmi.deleting:
                self._launch(vmi)
            return
        pod = pods[0]
        scheduled = _condition(pod, "PodScheduled")
        conditions = [c for c in vmi.tree["status"]["conditions"] if c["type"] != "PodScheduled"]
        if scheduled.get("status") == "False":
            conditions.append(scheduled)
        if pod.tree["status"]["phase"] in ("Failed", "Succeeded"):
            self._status(VMI, vmi, phase="Failed")
        elif pod.tree["status"]["phase"] == "Running" and not vmi.deleting:
            node = pod.tree["spec"]["nodeName"]
            described = [
                {
                    "name": v["name"],
                    "target": "",
                    "persistentVolumeClaimInfo": {"accessModes": claim.tree["spec"]["accessModes"]},
                }
                for v in vmi.tree["spec"].get("volumes", ())
                if (claim := self.api.get(PVC, Key(vmi.key.namespace, _claim_of(v))))
            ]
            changes: Tree = {
                "metadata": {"labels": {"kubevirt.io/nodeName": node}},
                "status": {"phase": "Scheduled", "nodeName": node, "activePods": {pod.meta["uid"]: node},
                           "volumeStatus": described, "conditions": conditions},
            }  # fmt: skip
            self.api.merge_patch(VMI, vmi.key, changes)
        else:
            self._status(
                VMI, vmi, conditions=conditions, activePods={pod.meta["uid"]: pod.tree["spec"].get("nodeName", "")}
            )

    def _follow(self, vmi: Held, pods: list[Held]) -> None:
        here = [pod for pod in pods if pod.tree["spec"].get("nodeName") == vmi.tree["status"].get("nodeName")]
        if not here:
            self._status(VMI, vmi, phase="Failed")
            return
        pod = here[0]
        if not _condition(pod, UNPAUSED):
            conditions = [*pod.tree["status"]["conditions"], {"type": UNPAUSED, "status": "True"}]
            self._status(POD, pod, conditions=conditions)
            return
        if vmi.tree["status"]["phase"] == "Running":
            ready = _condition(pod, "Ready")
            if pod.deleting:
                ready = {**ready, "status": "False", "reason": "PodTerminating"}
            wanted = {"type": "Ready", "status": ready.get("status", "False"), "lastProbeTime": None,
                      "lastTransitionTime": ready.get("lastTransitionTime")}  # fmt: skip
            if wanted["status"] != "True":
                wanted |= {"reason": ready.get("reason", "PodConditionMissing"), "message": "the pod is not ready"}
            conditions = vmi.tree["status"].get("conditions") or []
            if _condition(vmi, "Ready") != wanted:
                kept = [c for c in conditions if c["type"] != "Ready"]
                self._status(VMI, vmi, conditions=[*kept, wanted])

    # The scheduler, node lifecycle and PodGC

    def _scheduler(self, key: Key) -> None:
        pod = self.api.get(POD, key)
        if pod is None or pod.tree["spec"].get("nodeName"):
            return
        if pod.deleting:
            self._finalizer(POD, pod, KUBELET, False)
            return
        unbound = [claim for claim in self._claims_of(pod) if "volumeName" not in claim.tree["spec"]]
        if any(self._binding(claim) == "Immediate" for claim in unbound):
            self._unplaced(pod, "pod has unbound immediate PersistentVolumeClaims")
            self._call("scheduler", key, BIND)
            return
        fitting = [
            node.key.name
            for node in sorted(self.api.all(NODE), key=lambda held: held.key)
            if _condition(node, "Ready").get("status") == "True"
            and admits(node, pod.tree["spec"].get("tolerations", ()))
            and pod.tree["spec"]["nodeSelector"].items() <= node.meta.get("labels", {}).items()
        ]
        if not fitting:
            self._unplaced(pod, f"{len(self.api.all(NODE))} node(s) didn't match Pod's node affinity/selector")
            return
        for claim in unbound:
            if SELECTED not in claim.meta.get("annotations", {}):
                self.api.merge_patch(PVC, claim.key, {"metadata": {"annotations": {SELECTED: fitting[0]}}})
            self._call("scheduler", key, BIND)
            return
        used = [p.tree["spec"].get("nodeName") for p in self.api.all(POD)]
        chosen = min(fitting, key=lambda name: (used.count(name), name))
        kept = [c for c in pod.tree["status"]["conditions"] if c["type"] != "PodScheduled"]
        scheduled = [*kept, {"type": "PodScheduled", "status": "True"}]
        self.api.merge_patch(POD, key, {"spec": {"nodeName": chosen}, "status": {"conditions": scheduled}})

    def _claims_of(self, pod: Held) -> list[Held]:
        names = [volume.get("persistentVolumeClaim", {}).get("claimName") for volume in pod.tree["spec"]["volumes"]]
        found = [self.api.get(PVC, Key(pod.key.namespace, name)) for name in names if name]
        return [claim for claim in found if claim is not None]

    def _unplaced(self, pod: Held, why: str) -> None:
        message = f"0/{len(self.api.all(NODE))} nodes are available: {why}."
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        self._status(POD, pod, conditions=[condition])

    def _node(self, name: str) -> None:
        """Node lifecycle: a host that does not write is NotReady, its pods are, and at last they are evicted."""
        node, alive = self.api.get(NODE, Key("", name)), self.hosts[name].writing
        if node is None:
            return
        if self.lively and not alive and (left := self.silent_since[name] + MONITOR_GRACE - self.api.now) > REACTION:
            self._call("node", name, left)
            return
        state = "True" if alive else "Unknown"
        if _condition(node, "Ready").get("status") != state:
            self._status(
                NODE, node, conditions=[{"type": "Ready", "status": state, "lastTransitionTime": stamp(self.api.now)}]
            )
            self._call("node", name)
            if not alive:
                self._call("evict", name, EVICTION)
            return
        if alive:
            return
        for pod in self.api.all(POD):
            if pod.tree["spec"].get("nodeName") == name and _condition(pod, "Ready").get("status") == "True":
                kept = [c for c in pod.tree["status"]["conditions"] if c["type"] != "Ready"]
                failed = {"type": "Ready", "status": "False", "reason": "NodeNotReady"}
                self._status(POD, pod, conditions=[*kept, failed])
                self._call("node", name)
                return

    def _evict(self, name: str) -> None:
        if self.hosts[name].writing:
            return
        out = self.api.get(NODE, Key("", name))
        gone = out is None or (
            _condition(out, "Ready").get("status") != "True"
            and any(t["key"].endswith("out-of-service") for t in out.tree.get("spec", {}).get("taints", ()))
        )
        for pod in self.api.all(POD):
            if pod.tree["spec"].get("nodeName") == name:
                if not pod.deleting:
                    self.api.delete(POD, pod.key)
                    self._call("evict", name)
                elif gone and self._finalizer(POD, pod, KUBELET, False):
                    self._call("evict", name)

    # CDI and CSI

    def _cdi(self, key: Key) -> None:
        volume, claim = self.api.get(DV, key), self.api.get(PVC, key)
        if volume is None or volume.deleting:
            return
        if claim is None:
            self._claim(volume)
            return
        if not claim.owned_by(volume.meta["uid"]):
            return
        phase = volume.tree.get("status", {}).get("phase", "")
        usable = self._binding(claim) == "Immediate" or SELECTED in claim.meta.get("annotations", {})
        if phase == "":
            self._status(DV, volume, phase="Pending", progress="N/A")
        elif phase in ("Pending", WAITS) and usable:
            self._status(DV, volume, phase="ImportInProgress")
            self._call("import", key, IMPORT)
        elif phase == "Pending" and self._binding(claim) == "WaitForFirstConsumer":
            self._status(DV, volume, phase=WAITS)

    def _import(self, key: Key) -> None:
        volume = self.api.get(DV, key)
        if volume is not None and volume.tree.get("status", {}).get("phase") == "ImportInProgress":
            self._status(DV, volume, phase="Succeeded", progress="100.0%")

    def _claim(self, volume: Held) -> None:
        storage = volume.tree["spec"]["storage"]
        owner = {"apiVersion": DV.api_version, "kind": DV.kind, "name": volume.key.name, "uid": volume.meta["uid"]}
        meta = {
            "name": volume.key.name,
            "namespace": volume.key.namespace,
            "labels": {
                **volume.meta.get("labels", {}),
                "app": "containerized-data-importer",
                "app.kubernetes.io/managed-by": "cdi-controller",
            },
            "annotations": volume.meta.get("annotations", {}),
            "ownerReferences": [{**owner, "controller": True}],
        }
        spec = {
            "storageClassName": storage["storageClassName"],
            "resources": storage["resources"],
            "accessModes": storage.get("accessModes", ["ReadWriteMany"]),
            "volumeMode": storage.get("volumeMode", "Block"),
        }
        tree = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}
        self.api.create(PVC, {**tree, "status": {"phase": "Pending"}})

    def _binding(self, claim: Held) -> str:
        storage_class = self.api.get(CLASS, Key("", claim.tree["spec"]["storageClassName"]))
        return str(storage_class.tree.get("volumeBindingMode", "Immediate")) if storage_class else "None"

    def _csi(self, key: Key) -> None:
        """Bind a claim, or let it grow. CDI fills another claim and hands its volume on to this one at the very end."""
        claim, volume = self.api.get(PVC, key), self.api.get(DV, key)
        if claim is None or claim.deleting:
            return
        filled = volume is None or volume.tree.get("status", {}).get("phase") == "Succeeded"
        if claim.tree["status"]["phase"] == "Bound":
            wanted = claim.tree["spec"]["resources"]["requests"]["storage"]
            if quantity.whole(claim.tree["status"]["capacity"]["storage"]) < quantity.whole(wanted):
                self._call("bind", key, BIND)
        elif filled and (self._binding(claim) == "Immediate" or SELECTED in claim.meta.get("annotations", {})):
            self._call("bind", key, BIND if volume is None else HAND_ON)

    def _bind(self, key: Key) -> None:
        claim = self.api.get(PVC, key)
        if claim is None or claim.deleting:
            return
        if "volumeName" not in claim.tree["spec"]:  # from here on pods can be placed; it is Bound a write later
            self.api.merge_patch(PVC, key, {"spec": {"volumeName": f"volume-of-{key.name}"}})
            self._call("bind", key, HAND_ON)
        else:
            wanted = claim.tree["spec"]["resources"]["requests"]["storage"]
            self._status(PVC, claim, phase="Bound", capacity={"storage": wanted})

    # Garbage collection, and namespaces

    def _collect(self, gone: Held) -> None:
        """Whom a deleted object leaves behind."""
        for resource, held in self.api.everything():
            if held.owned_by(gone.meta["uid"]):
                self._call("gc", (resource, held.key))

    def _got_dead_owners(self, resource: Resource, held: Held) -> bool:
        """Whether owners that are gone were put on something that had none: KubeVirt VMs that are taken over. The
        garbage collector looks at new owners whenever there are some."""
        if resource != VM or held.deleting:
            return False
        names = {owner["name"]: owner["uid"] for owner in held.meta["ownerReferences"]}
        named = (shelf.get(Key(held.key.namespace, name)) for shelf in self.api.objects.values() for name in names)
        return not any(owner is not None and owner.meta["uid"] in names.values() for owner in named)

    def _gc(self, which: tuple[Resource, Key]) -> None:
        resource, key = which
        held = self.api.get(resource, key)
        owners = held.meta.get("ownerReferences", []) if held is not None else []
        if held is None or not owners or held.deleting:
            return
        living = {each.meta["uid"] for _, each in self.api.everything()}
        present = [owner for owner in owners if owner["uid"] in living]
        if not present:
            self.api.delete(resource, key, {"uid": held.meta["uid"]})
        elif present != owners:
            self.api.merge_patch(resource, key, {"metadata": {"ownerReferences": present}})

    def _namespace(self, key: Key) -> None:
        space = self.api.get(NAMESPACE, key)
        if space is None or not space.deleting:
            return
        inside = [(resource, held) for resource, held in self.api.everything() if held.key.namespace == key.name]
        for resource, held in inside:
            if not held.deleting:
                self.api.delete(resource, held.key)
                self._call("namespace", key)
                return
        if not inside:
            self._finalizer(NAMESPACE, space, KUBERNETES, False)


_CONTROLLERS: Mapping[str, Callable[[Cluster, Any], None]] = {
    "vm": Cluster._vm,
    "vmi": Cluster._vmi,
    "scheduler": Cluster._scheduler,
    "node": Cluster._node,
    "evict": Cluster._evict,
    "cdi": Cluster._cdi,
    "import": Cluster._import,
    "csi": Cluster._csi,
    "bind": Cluster._bind,
    "gc": Cluster._gc,
    "namespace": Cluster._namespace,
}

_RESTART = {
    "type": "RestartRequired",
    "status": "True",
    "message": "a non-live-updatable field was changed in the template spec",
}
_OFF = {
    "type": "Ready",
    "status": "False",
    "reason": "GuestNotRunning",
    "message": "Guest VM is not reported as running",
}
_LIVE = ("nodeSelector", "affinity", "tolerations")


def _test(path: str, value: Any) -> Tree:
    return {"op": "test", "path": path, "value": value}


def _condition(held: Held, kind: str) -> Tree:
    found = held.tree.get("status", {}).get("conditions") or ()
    return next((c for c in found if c["type"] == kind), {})


def _nodes(vmi: Held) -> set[str]:
    status = vmi.tree.get("status", {})
    state = status.get("migrationState") or {}
    return {status.get("nodeName", ""), state.get("sourceNode", ""), state.get("targetNode", "")}


def admits(node: Held, tolerations: Iterable[Mapping[str, Any]] = ()) -> bool:
    """Whether the scheduler may put a pod there that tolerates so much: keys and effects of taints."""
    spec, tolerated = node.tree.get("spec", {}), {(each.get("key"), each.get("effect")) for each in tolerations}
    return not spec.get("unschedulable") and not any(
        taint["effect"] in ("NoSchedule", "NoExecute") and (taint["key"], taint["effect"]) not in tolerated
        for taint in spec.get("taints", ())
    )


def _claim_of(volume: Mapping[str, Any]) -> str:
    named = volume.get("dataVolume") or volume.get("persistentVolumeClaim") or {}
    return str(named.get("name") or named.get("claimName") or "")


def _claims(vmi: Held) -> list[str]:
    return [name for volume in vmi.tree["spec"].get("volumes", ()) if (name := _claim_of(volume))]


def mounts(vmi: Held) -> Iterator[tuple[str, str, str]]:
    """The Secrets and ConfigMaps that the launcher mounts, as a pod volume says it."""
    for volume in vmi.tree["spec"].get("volumes", ()):
        for kind in ("cloudInitNoCloud", "cloudInitConfigDrive"):
            for field in ("secretRef", "networkDataSecretRef"):
                if named := volume.get(kind, {}).get(field):
                    yield "secret", "secretName", named["name"]
        if named := volume.get("sysprep", {}).get("secret"):
            yield "secret", "secretName", named["name"]
        if named := volume.get("sysprep", {}).get("configMap"):
            yield "configMap", "name", named["name"]


@lru_cache(maxsize=4096)
def _number(text: str) -> int:
    return quantity.whole(text)


def _staged(vm: Held, vmi: Held) -> str:
    """A field of the template that the running instance can only get by a restart, or ""."""
    said, runs = vm.tree["spec"]["template"]["spec"], vmi.tree["spec"]
    if said is runs:
        return ""
    for field in said.keys() | runs.keys():
        if field not in (*_LIVE, "domain") and said.get(field) != runs.get(field):
            return f"spec.{field}"
    wanted, has = said["domain"], runs["domain"]
    for field in wanted.keys() | has.keys():
        if field not in ("cpu", "memory") and wanted.get(field) != has.get(field):
            return f"domain.{field}"
    cpu, old = wanted.get("cpu", {}), has.get("cpu", {})
    if {**cpu, "sockets": 0} != {**old, "sockets": 0} or cpu.get("sockets", 1) < old.get("sockets", 1):
        return "domain.cpu"
    memory, before = wanted.get("memory", {}), has.get("memory", {})
    if {**memory, "guest": ""} != {**before, "guest": ""}:
        return "domain.memory"
    if memory.get("guest") and _number(memory["guest"]) < _number(before["guest"]):
        return "domain.memory"
    return ""


def _printable(vm: Held, vmi: Held | None) -> str:
    if vmi is None or vmi.tree["status"]["phase"] in ("Succeeded", "Failed"):
        return "Stopped" if vm.tree["spec"]["runStrategy"] != "Always" else "Starting"
    if vmi.deleting:
        return "Stopping"
    return "Running" if vmi.tree["status"]["phase"] == "Running" else "Starting"
