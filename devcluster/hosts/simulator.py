"""Drives the pure model: objects seen, timers, messages and faults go in; writes, timers, messages, ledger come out."""

import asyncio
import dataclasses
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from devcluster.hosts.api import Api, Changed, Listed
from devcluster.hosts.kinds import WATCHED, Kind
from devcluster.hosts.kubelets import ADDRESS, KubeletPort
from devcluster.hosts.store import Store, nodes_of
from devcluster.hosts.writer import Writer
from vdcos.testing.hypervisor import Interval, bmc, intervals, node, overlaps, step, storage
from vdcos.testing.hypervisor.objects import AttachmentDefinition, ConfigMap, Object, Pod, Secret, Vmi
from vdcos.testing.hypervisor.values import (
    BMC_FAULTS,
    ClearFault,
    Command,
    Control,
    Due,
    Entry,
    Event,
    Fault,
    Hang,
    Host,
    Partition,
    PodGone,
    PowerOff,
    Recover,
    Resources,
    SetFault,
    Step,
    Timer,
    Timings,
    Undelivered,
    Up,
    VmiGone,
    micro_stamp,
)

_log = logging.getLogger(__name__)

RESOURCE_NAME = "k8s.v1.cni.cncf.io/resourceName"
_CUT_FROM_API = "api-cut"
_HOST_FAULTS: dict[str, Event] = {
    "power-off": PowerOff(),
    "partition": Partition(),
    _CUT_FROM_API: Partition(),
    "hang": Hang(),
    "recover": Recover(),
}


class Reset(NamedTuple):
    """What a BMC was told to do, and in which life of its host."""

    kind: str
    boot: str


class BadRequest(ValueError):
    """A control call that makes no sense; the text says why."""


def names(hosts: int) -> list[str]:
    """What so many hosts are called."""
    return [f"host-{i}" for i in range(1, hosts + 1)]


class Simulator:
    """N hosts and their storage, on one API server. `run` it until cancelled."""

    def __init__(
        self,
        api: Api,
        hosts: int,
        timings: Timings,
        ledger: Path | None = None,
        kubelets: Mapping[str, KubeletPort] | None = None,
    ) -> None:
        """Kubelets whose ports are not given cannot be reached."""
        self.hosts = {name: Host(name, i, timings) for i, name in enumerate(names(hosts), 1)}
        self._kubelets = dict(kubelets or {})
        for name, kubelet in self._kubelets.items():
            self.hosts[name] = dataclasses.replace(self.hosts[name], address=ADDRESS, kubelet_port=kubelet.number)
        self.resets: dict[str, list[Reset]] = {name: [] for name in self.hosts}
        """What each host's BMC was told to do, whatever it did."""
        self._near: set[str] = set()
        """Hosts that are cut off from the API server only: others reach their ports."""
        self.storage = storage.Storage(timings)
        self.entries: list[Entry] = []
        self._ledger = ledger
        self._api = api
        self._store = Store()
        self._writer = Writer(api, self._answered)
        self._events: deque[tuple[str, Event]] = deque()
        self._stepping = False
        self._waiting: dict[str, Pod] = {}
        self._synced: set[str] = set()
        self._started = False

    async def run(self) -> None:
        """Play the hosts. They register as soon as everything has been listed once."""
        try:
            async with asyncio.TaskGroup() as group:
                for kind in WATCHED:
                    group.create_task(self._follow(kind))
        finally:
            await self._writer.close()

    # --- what the API server shows ------------------------------------------------------------------------------------

    async def _follow(self, kind: Kind) -> None:
        assert kind.view is not None
        async for news in self._api.watch(kind):
            match news:
                case Listed(objects):
                    for gone in self._store.absent(kind.view, objects):
                        self._lost(gone)
                    for seen in objects:
                        self._saw(seen)
                    self._synced.add(kind.resource)
                    if not self._started and len(self._synced) == len(WATCHED):
                        self._start()
                case Changed(gone, deleted=True):
                    self._lost(gone)
                case Changed(seen):
                    self._saw(seen)

    def _start(self) -> None:
        """Everything is known: the hosts come up, and find those of their VMs that run already."""
        self._started = True
        _log.info("%d hosts come up", len(self.hosts))
        for name in self.hosts:
            self._deliver(name, Resources(self._resources()))
            self._deliver(name, self._up(name, adopt=True))

    def _saw(self, seen: Object) -> None:
        if self._store.put(seen):
            self._look(seen)

    def _answered(self, seen: Object) -> None:
        """A write is over. Look at the object even if this is no news: what it needed meanwhile was held back."""
        self._store.put(seen)
        newest = self._store.newest(seen)
        if newest is not None:
            self._look(newest)

    def _look(self, seen: Object) -> None:
        self._step_storage(storage.Seen(seen))
        match seen:
            case Pod():
                self._saw_pod(seen)
            case Vmi():
                for name in self._concerned(seen):
                    self._deliver(name, self._store.vmi_seen(seen))
            case Secret() | ConfigMap():
                for pod in list(self._waiting.values()):
                    if pod.metadata.namespace == seen.metadata.namespace:
                        self._saw_pod(pod)
            case AttachmentDefinition():
                self._offer()

    def _saw_pod(self, pod: Pod) -> None:
        if pod.spec.node_name not in self.hosts:
            return
        news = self._store.pod_seen(pod)
        if news.missing:
            self._waiting[pod.uid] = pod
        else:
            self._waiting.pop(pod.uid, None)
        self._deliver(pod.spec.node_name, news)

    def _lost(self, gone: Object) -> None:
        if not self._store.remove(gone):
            return
        self._step_storage(storage.Gone(gone))
        match gone:
            case Pod():
                self._waiting.pop(gone.uid, None)
                if gone.spec.node_name in self.hosts:
                    self._deliver(gone.spec.node_name, PodGone(gone.uid))
            case Vmi():
                for name in self._concerned(gone):
                    self._deliver(name, VmiGone(gone.uid))
            case AttachmentDefinition():
                self._offer()

    def _concerned(self, vmi: Vmi) -> set[str]:
        """The hosts that the VMI names, and those that know it still."""
        return (nodes_of(vmi) & self.hosts.keys()) | {n for n, host in self.hosts.items() if vmi.uid in host.vmis}

    def _resources(self) -> frozenset[str]:
        asked = (nad.metadata.annotations.get(RESOURCE_NAME) for nad in self._store.all(AttachmentDefinition))
        return frozenset(name for name in asked if name)

    def _offer(self) -> None:
        offered = self._resources()
        for name in self.hosts:
            self._deliver(name, Resources(offered))

    def _up(self, name: str, *, adopt: bool = False) -> Up:
        pods = tuple(self._store.pod_seen(pod) for pod in self._store.pods_on(name))
        vmis = tuple(self._store.vmi_seen(vmi) for vmi in self._store.vmis_on(name))
        return Up(pods, vmis, adopt)

    # --- the model ----------------------------------------------------------------------------------------------------

    def _deliver(self, name: str, event: Event) -> None:
        """Give a host an event, and everything that follows at once from it. Events are never nested."""
        self._events.append((name, event))
        if self._stepping:
            return
        self._stepping = True
        try:
            while self._events:
                self._step(*self._events.popleft())
        finally:
            self._stepping = False

    def _step(self, name: str, event: Event) -> None:
        if not self._started:
            return
        outcome: Step = step(self.hosts[name], event, time.time())
        self.hosts[name] = outcome.host
        if name in self._kubelets:
            reached = name in self._near and outcome.host.powered and not outcome.host.hung
            self._kubelets[name].answer(outcome.host.writing or reached)
        for entry in outcome.entries:
            self._note(entry)
        for write in outcome.writes:
            self._writer.submit(write, lambda: self.hosts[name].writing)
        for timer in outcome.timers:
            self._set(timer, lambda due: self._deliver(name, due))
        for message in outcome.messages:
            for to in [message.to] if message.to else self.hosts:
                host = self.hosts.get(to)
                if host is None or not host.powered or host.hung:
                    self._events.append((name, Undelivered(message)))
                else:
                    self._events.append((to, message.event))
        if outcome.lists:
            self._events.append((name, self._up(name)))

    def _step_storage(self, event: storage.Seen | storage.Gone | Due) -> None:
        outcome = storage.step(self.storage, event, time.time())
        self.storage = outcome.storage
        for write in outcome.writes:
            self._writer.submit(write, _always)
        for timer in outcome.timers:
            self._set(timer, self._step_storage)

    def _set(self, timer: Timer, fire: Callable[[Due], None]) -> None:
        asyncio.get_running_loop().call_later(max(0.0, timer.at - time.time()), fire, timer.due)

    def _note(self, entry: Entry) -> None:
        self.entries.append(entry)
        if self._ledger is not None:
            with self._ledger.open("ab") as file:
                file.write(msgspec.json.encode(entry) + b"\n")

    # --- what people and tests ask for --------------------------------------------------------------------------------

    def control(self, command: Command, key: str, host: str = "") -> None:
        """Tell the hypervisor something about the VM `namespace/name`. Raises BadRequest if it runs nowhere."""
        found = self._running(key, host)
        if found is None:
            raise BadRequest(f"no VM {key} runs on {host or 'any host'}")
        name, uid = found
        self._deliver(name, Control(command, uid))

    def reachable(self, key: str) -> bool:
        """Whether virt-api could reach the virt-handler of a VM's host."""
        found = self._running(key, "")
        return found is not None and self.hosts[found[0]].writing

    def _running(self, key: str, host: str) -> tuple[str, str] | None:
        """Host and uid of a VM that runs; if two do, of the one that the API server knows."""
        vmi = self._store.vmi(key)
        found = [
            (name, process.vmi)
            for name, state in self.hosts.items()
            for process in state.processes.values()
            if process.key == key and process.active and host in ("", name)
        ]
        known = [(name, uid) for name, uid in found if vmi is not None and vmi.uid == uid]
        return next(iter(known or found), None)

    def fault(self, kind: str, *, host: str = "", vm: str = "", seconds: float = 30.0, clear: bool = False) -> None:
        """Let something go wrong, or right again. Raises BadRequest for what does not exist."""
        if host and host not in self.hosts:
            raise BadRequest(f"there is no {host}: hosts are {', '.join(self.hosts)}")
        if kind in _HOST_FAULTS:
            if not host:
                raise BadRequest(f"{kind} needs a host")
            event = Recover() if clear else _HOST_FAULTS[kind]
            if isinstance(event, Partition | Recover):
                self._near.discard(host)
            if kind == _CUT_FROM_API and not clear:
                self._near.add(host)
            self._deliver(host, event)
            return
        if kind in (Command.CRASH, Command.SHUTDOWN):
            self.control(Command(kind), vm, host)
            return
        if kind == "agent-on":
            kind, clear = Fault.AGENT_OFF, True
        if kind not in list(Fault):
            known = ", ".join([*_HOST_FAULTS, *Fault, Command.CRASH, Command.SHUTDOWN, "agent-on"])
            raise BadRequest(f"there is no fault {kind}: there are {known}")
        fault = Fault(kind)
        if fault in BMC_FAULTS and (vm or not host):
            raise BadRequest(f"{kind} needs a host, and no vm")
        if not (host or vm):
            raise BadRequest(f"{kind} needs a host or a vm (namespace/name)")
        for name in [host] if host else self.hosts:
            self._deliver(name, ClearFault(fault, vm) if clear else SetFault(fault, vm, seconds))

    def reset(self, host: str, kind: str) -> None:
        """A host's BMC is told to reset it."""
        self.resets[host].append(Reset(kind, node.boot_id(self.hosts[host])))
        for event in bmc.reset(self.hosts[host], kind):
            self._deliver(host, event)

    def state(self) -> dict[str, Any]:
        """All hosts and their processes, for people and tests."""
        return {"hosts": [_host_state(host, self.resets[name]) for name, host in self.hosts.items()]}

    def ledger(self) -> list[Interval]:
        """The ledger, as intervals in the order of their starts."""
        return intervals(self.entries)


def _always() -> bool:
    return True


def _host_state(host: Host, resets: list[Reset]) -> dict[str, Any]:
    return {
        "name": host.name,
        "powered": host.powered,
        "connected": host.connected,
        "hung": host.hung,
        "bootID": node.boot_id(host),
        "boots": host.boots,
        "resets": [reset._asdict() for reset in resets],
        "faults": [{"fault": fault, "vm": vm} for fault, vm in host.faults],
        "pods": len(host.pods),
        "processes": [
            {
                "vm": process.key,
                "vmi": process.vmi,
                "life": process.life,
                "paused": process.paused,
                "agent": process.agent,
                "disks": sorted(process.disks),
            }
            for process in host.processes.values()
        ],
    }


def interval_json(interval: Interval) -> dict[str, Any]:
    """An interval as the control API shows it; times are RFC 3339 with microseconds, `to` is null while it lasts."""
    shown = dataclasses.asdict(interval)
    start, end = shown.pop("start"), shown.pop("end")
    return {
        **shown,
        "disks": sorted(interval.disks),
        "from": micro_stamp(start),
        "to": None if end is None else micro_stamp(end),
    }


def overlaps_json(history: list[Interval]) -> list[dict[str, Any]]:
    return [
        {"disk": o.disk, "first": interval_json(o.first), "second": interval_json(o.second)} for o in overlaps(history)
    ]
