"""The life of a host: `step(host, event, now)` says what becomes of it and what it does.

Pure: no clock, no randomness, no I/O. The caller delivers events (objects seen, timers, control calls, faults), carries
out the writes one at a time per object and feeds each answer back as seen, sets the timers, passes messages on, and
keeps the ledger. Writes are derived from the difference between what is (the host's state) and what the API server was
last seen to hold, never from the event itself: after any loss, seeing the object again brings them back.

A process lives in its host's state and nowhere else. Deleting every API object of a VM does not end it; only its host
does, when it hears of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from vdcos.testing.hypervisor import handler, kubelet, node, workers
from vdcos.testing.hypervisor.objects import Claim, Pod, Vmi
from vdcos.testing.hypervisor.values import (
    ClearFault,
    Command,
    Control,
    Direction,
    Due,
    Entry,
    Event,
    Exit,
    Fault,
    Hang,
    Happening,
    Host,
    Life,
    Message,
    Migration,
    Partition,
    PeerLost,
    PodGone,
    PodSeen,
    PowerOff,
    Process,
    Recover,
    Resources,
    Run,
    SetFault,
    Stage,
    Step,
    Switchover,
    Timer,
    Transferred,
    Undelivered,
    Up,
    VmiGone,
    VmiSeen,
    Write,
)

T = TypeVar("T")

BACKOFF_LIMIT = 300.0
MOUNT_PATIENCE = 1.0
"""How long a Secret may come after its pod before somebody is told."""
USER_PAUSE = "PausedByUser"
IO_PAUSE = "PausedIOError"


def step(host: Host, event: Event, now: float) -> Step:
    """What `event`, at `now` (seconds since the epoch), does to `host`."""
    turn = _Turn(host, now)
    if _reaches(host, event):
        _HANDLERS[type(event)](turn, event)
    elif host.hung and isinstance(event, Due):
        turn.host = replace(host, deferred=(*host.deferred, event))
    return turn.end()


def _reaches(host: Host, event: Event) -> bool:
    """Whether the event means anything to the host in the state it is in."""
    match event:
        case PowerOff() | Recover() | SetFault() | ClearFault() | Resources():
            return True
        case Up():
            return host.powered and not host.hung
        case PodSeen() | PodGone() | VmiSeen() | VmiGone():
            return host.writing
        case _:
            return host.powered and not host.hung


class _Turn:
    """One step in the making."""

    def __init__(self, host: Host, now: float) -> None:
        self.host = host
        self.now = now
        self.adopting = False
        self.lists = False
        self.writes: list[Write] = []
        self.timers: list[Timer] = []
        self.entries: list[Entry] = []
        self.messages: list[Message] = []
        self._pods: dict[str, None] = {}
        self._vmis: dict[str, None] = {}

    def end(self) -> Step:
        """Derive the writes for everything that was touched."""
        if self.host.writing:
            for uid in self._vmis:
                vmi = self.host.vmis.get(uid)
                if vmi and (write := handler.write(self.host, vmi.vmi, self.now)):
                    self.writes.append(write)
            for uid in self._pods:
                pod = self.host.pods.get(uid)
                if pod and not self._held_back(pod.pod) and (write := kubelet.write(self.host, pod, self.now)):
                    self.writes.append(write)
        return Step(
            self.host,
            writes=tuple(self.writes),
            timers=tuple(self.timers),
            entries=tuple(self.entries),
            messages=tuple(self.messages),
            lists=self.lists,
        )

    def _held_back(self, pod: Pod) -> bool:
        """A launcher's end is told after its VMI's: were it the other way round, the VMI would count as failed."""
        run, process = self.host.runs.get(pod.uid), self.host.processes.get(pod.uid)
        if run is None or run.stage is not Stage.FINISHED or process is None or process.exit is Exit.MIGRATED:
            return False
        seen = self.host.vmis.get(process.vmi)
        if seen is None or seen.vmi.final or not self.host.handler:
            return False
        return seen.vmi.status.node_name == self.host.name and seen.vmi.status.phase in ("Scheduled", "Running")

    def touch_pod(self, uid: str) -> None:
        self._pods[uid] = None

    def touch_vmi(self, uid: str) -> None:
        self._vmis[uid] = None

    def after(self, seconds: float, what: str, uid: str = "", token: str = "") -> None:
        self.timers.append(Timer(self.now + seconds, Due(what, uid, token)))

    def tell(self, to: str, event: Switchover | PeerLost | Transferred) -> None:
        self.messages.append(Message(to, event))

    def put_run(self, run: Run) -> None:
        self.host = replace(self.host, runs={**self.host.runs, run.pod: run})
        self.touch_pod(run.pod)

    def put(self, process: Process, what: Happening | None = None, why: str = "") -> None:
        """Store a process, and note in the ledger what changed about it."""
        self.host = replace(self.host, processes={**self.host.processes, process.pod: process})
        self.touch_vmi(process.vmi)
        self.touch_pod(process.pod)
        if what is not None:
            self.note(process, what, why)

    def note(self, process: Process, what: Happening, why: str) -> None:
        self.entries.append(
            Entry(
                at=self.now,
                what=what,
                host=self.host.name,
                vmi=process.vmi,
                vm=process.vm,
                namespace=process.namespace,
                name=process.name,
                disks=process.disks,
                why=why,
            )
        )

    def stop(self, process: Process, how: Exit, why: str) -> None:
        """End a process. Its launcher follows once it has cleaned up."""
        happened = Happening.STOPPED if process.active else None
        ended = replace(process, life=Life.OFF, exit=how, since=self.now, paused="", agent=False, frozen=False)
        self.put(ended, happened, why)
        if how is not Exit.MIGRATED:
            self.abandon(process)
        self.after(self.host.timings.launcher_exit, "launcher", process.pod)

    def abandon(self, process: Process) -> None:
        """Let the other end of an unfinished migration know that this one is no more."""
        migration = process.migration
        if migration is not None and not migration.ended:
            self.tell(migration.peer, PeerLost(process.vmi, migration.uid))

    def finish(self, run: Run, code: int, message: str = "") -> None:
        self.put_run(replace(run, stage=Stage.FINISHED, exit_code=code, message=message, finished=self.now))


# --- Pods, as the API server shows them -------------------------------------------------------------------------------


def _pod_seen(turn: _Turn, seen: PodSeen) -> None:
    pod = seen.pod
    turn.host = replace(turn.host, pods={**turn.host.pods, pod.uid: seen})
    turn.touch_pod(pod.uid)
    run = turn.host.runs.get(pod.uid)
    if run is None:
        if not pod.finished and not (pod.deleting and not pod.status.start_time):
            _admit(turn, seen)
    elif run.stage is Stage.BLOCKED and not seen.missing:
        _start(turn, seen, run)
    run = turn.host.runs.get(pod.uid)
    if run is None or run.stage is Stage.FINISHED:
        return
    if pod.deleting and not run.stopping:
        _terminate(turn, pod, run)
    elif run.stage is Stage.RUNNING:
        _sync_gates(turn, pod, run)


def _admit(turn: _Turn, seen: PodSeen) -> None:
    """Meet a pod for the first time since the host came up."""
    pod, host = seen.pod, turn.host
    number = host.addresses
    turn.host = replace(host, addresses=number + 1)
    ip = pod.status.pod_ip or kubelet.pod_address(host, pod, number)
    run = Run(pod.uid, Stage.BLOCKED, ip, turn.now)
    if pod.status.phase == "Running" and turn.adopting:
        _runs(turn, seen, run)
    elif pod.status.phase == "Running" and pod.spec.restart_policy == "Never":
        turn.finish(run, kubelet.LOST)
    elif pod.status.phase == "Running":
        _runs(turn, seen, replace(run, restarts=1))
    elif seen.missing:
        turn.put_run(run)
        turn.after(MOUNT_PATIENCE, "mount", pod.uid)
    else:
        _start(turn, seen, run)


def _start(turn: _Turn, seen: PodSeen, run: Run) -> None:
    if turn.host.timings.pod_start:
        turn.put_run(replace(run, stage=Stage.STARTING))
        turn.after(turn.host.timings.pod_start, "pod", run.pod)
    else:
        _runs(turn, seen, run)


def _runs(turn: _Turn, seen: PodSeen, run: Run) -> None:
    """The containers run. What they do is in the pod's script; in a launcher virt-handler starts a VM."""
    gates = kubelet.gates_open(seen.pod)
    turn.put_run(replace(run, stage=Stage.RUNNING, started=turn.now, gates=gates, exit_code=0, message=""))
    script = workers.script(seen, turn.host.timings)
    if not script.forever:
        turn.after(script.seconds, "script", run.pod, str(run.restarts))
    elif script.receives and _address(seen.pod) in turn.host.transferred:
        turn.after(0, "received", run.pod)
    _consider(turn, seen.pod.vmi)


def _address(pod: Pod) -> Transferred:
    return Transferred(pod.metadata.namespace, pod.metadata.name)


def _sync_gates(turn: _Turn, pod: Pod, run: Run) -> None:
    opened = kubelet.gates_open(pod)
    if opened is run.gates or run.gates_pending:
        return
    if opened and pod.migration and pod.vmi:
        # On a migration's target the gate appears long after the pod runs; a real kubelet then takes its time.
        turn.put_run(replace(run, gates_pending=True))
        turn.after(turn.host.timings.gate_sync, "gates", pod.uid)
    else:
        turn.put_run(replace(run, gates=opened))


def _terminate(turn: _Turn, pod: Pod, run: Run) -> None:
    """The pod is to go: a launcher asks its guest to shut down first, anything else just ends."""
    turn.put_run(replace(run, stopping=True))
    process = turn.host.processes.get(pod.uid)
    if process is None:
        turn.after(turn.host.timings.container_stop, "stop", pod.uid)
    elif process.active:
        _shut_down(turn, process)
    elif process.life is Life.INCOMING:
        turn.stop(process, Exit.DESTROYED, "target pod deleted")


def _pod_gone(turn: _Turn, event: PodGone) -> None:
    """The object is gone, by whomever: a kubelet kills what is left of the pod."""
    process = turn.host.processes.get(event.uid)
    if process is not None:
        if process.active:
            turn.note(process, Happening.STOPPED, "pod gone")
        if process.life is not Life.OFF:
            turn.abandon(process)
        turn.touch_vmi(process.vmi)
    turn.host = replace(
        turn.host,
        pods=_without(turn.host.pods, event.uid),
        runs=_without(turn.host.runs, event.uid),
        processes=_without(turn.host.processes, event.uid),
    )


def _without(mapping: Mapping[str, T], key: str) -> dict[str, T]:
    return {k: v for k, v in mapping.items() if k != key}


# --- VMIs, as the API server shows them -------------------------------------------------------------------------------


def _vmi_seen(turn: _Turn, seen: VmiSeen) -> None:
    turn.host = replace(turn.host, vmis={**turn.host.vmis, seen.vmi.uid: seen})
    _consider(turn, seen.vmi.uid)


def _vmi_gone(turn: _Turn, event: VmiGone) -> None:
    turn.host = replace(turn.host, vmis=_without(turn.host.vmis, event.uid))
    process = turn.host.process(event.uid)
    if process is not None and process.active:
        _shut_down(turn, process)


def _consider(turn: _Turn, uid: str) -> None:
    """What virt-handler makes of a VMI, given what runs here."""
    seen = turn.host.vmis.get(uid)
    if seen is None:
        return
    vmi = seen.vmi
    turn.touch_vmi(uid)
    for pod in turn.host.pods.values():
        if pod.pod.vmi == uid:
            turn.touch_pod(pod.pod.uid)
    if vmi.final or not turn.host.handler:
        return
    state = vmi.status.migration_state or {}
    if handler.is_target(turn.host, vmi):
        _receive(turn, seen, state)
    process = turn.host.process(uid)
    if process is not None and process.active:
        if vmi.deleting:
            _shut_down(turn, process)
        elif handler.is_source(turn.host, vmi):
            _send(turn, process, state)
        _plug(turn, seen, process)
    elif process is None and not vmi.deleting and vmi.status.phase == ("Running" if turn.adopting else "Scheduled"):
        _spawn(turn, seen)


def _spawn(turn: _Turn, seen: VmiSeen) -> None:
    """Start the VM in the launcher that runs here for it."""
    vmi, host = seen.vmi, turn.host
    launcher = _launcher(host, vmi.uid)
    if vmi.status.node_name != host.name or launcher is None:
        return
    process = _new_process(seen, launcher, turn.now)
    if turn.adopting and vmi.status.phase == "Running":
        pause = vmi.condition("Paused") or {}
        hotplug = handler.wanted_volumes(vmi)
        adopted = replace(
            process, life=Life.RUNNING, agent=vmi.condition("AgentConnected") is not None,
            paused=str(pause.get("reason", "")), plugged=hotplug[0], attached=hotplug[1],
            disks=_disks(seen, hotplug[0]),
            nics=frozenset(i["name"] for i in vmi.status.interfaces or [] if "domain" in i.get("infoSource", "")),
        )  # fmt: skip
        turn.put(adopted, Happening.STARTED, "adopted")
        return
    turn.put(process, Happening.STARTED)
    slow = max((host.faults.get((Fault.SLOW_START, vm), 0.0) for vm in ("", process.key)), default=0.0)
    turn.after(host.timings.guest_boot + slow, "boot", process.pod)


def _launcher(host: Host, vmi: str, migration: str | None = None) -> Pod | None:
    """The launcher that runs here for a VMI (for one migration of it) and has no process yet."""
    for seen in host.pods.values():
        pod = seen.pod
        run = host.runs.get(pod.uid)
        if pod.vmi != vmi or run is None or run.stage is not Stage.RUNNING or run.stopping:
            continue
        if pod.uid not in host.processes and (migration is None or pod.migration == migration):
            return pod
    return None


def _new_process(seen: VmiSeen, launcher: Pod, now: float) -> Process:
    vmi = seen.vmi
    return Process(
        vmi=vmi.uid,
        vm=vmi.vm,
        namespace=vmi.metadata.namespace,
        name=vmi.metadata.name,
        pod=launcher.uid,
        disks=_disks(seen, frozenset()),
        nics=frozenset(i.name for i in vmi.spec.domain.devices.interfaces),
        life=Life.BOOTING,
        since=now,
        paused=USER_PAUSE if vmi.spec.start_strategy == "Paused" else "",
    )


def _disks(seen: VmiSeen, plugged: frozenset[str]) -> frozenset[str]:
    """The uids of the claims that the process has open: those it started with, and those plugged in since."""
    hotplug = {s["name"] for s in seen.vmi.status.volume_status or [] if s.get("hotplugVolume") is not None}
    names = [v.claim for v in seen.vmi.spec.volumes if v.claim and (v.name not in hotplug or v.name in plugged)]
    return frozenset(_claim_uid(seen.claims.get(n), seen.vmi, n) for n in names)


def _claim_uid(claim: Claim | None, vmi: Vmi, name: str) -> str:
    return claim.uid if claim is not None else f"{vmi.metadata.namespace}/{name}"


def _shut_down(turn: _Turn, process: Process) -> None:
    """Press the guest's power button; a guest that ignores it is killed when its grace period ends."""
    if process.stopping:
        return
    turn.put(replace(process, stopping=True))
    if turn.host.faulty(Fault.IGNORE_ACPI, process.key):
        seen = turn.host.vmis.get(process.vmi)
        grace = seen.vmi.spec.termination_grace_period_seconds if seen else None
        turn.after(30.0 if grace is None else grace, "kill", process.pod)
    else:
        turn.after(turn.host.timings.guest_shutdown, "off", process.pod)


def _plug(turn: _Turn, seen: VmiSeen, process: Process) -> None:
    plugged, attached = handler.wanted_volumes(seen.vmi)
    if process.life is Life.RUNNING and (process.plugged, process.attached) != (plugged, attached):
        turn.after(turn.host.timings.hotplug, "plug", process.pod)


# --- Live migration ---------------------------------------------------------------------------------------------------


def _receive(turn: _Turn, seen: VmiSeen, state: dict[str, Any]) -> None:
    """The target's side, up to the arrival of the guest."""
    uid, vmi = str(state.get("migrationUid")), seen.vmi
    process = _end_of(turn.host, vmi.uid, uid, Direction.IN)
    if process is None:
        launcher = _launcher(turn.host, vmi.uid, uid)
        if launcher is None or state.get("endTimestamp"):
            return
        arriving = Migration(uid, Direction.IN, str(state.get("sourceNode")))
        hotplug = handler.wanted_volumes(vmi)
        process = replace(
            _new_process(seen, launcher, turn.now), life=Life.INCOMING, paused="", migration=arriving,
            plugged=hotplug[0], attached=hotplug[1], disks=_disks(seen, hotplug[0]),
        )  # fmt: skip
        turn.put(process)
        turn.after(turn.host.timings.migration_prepare, "listen", process.pod, uid)
    elif process.life is Life.INCOMING and state.get("failed"):
        turn.stop(process, Exit.DESTROYED, "migration failed")
    elif state.get("startTimestamp") and process.migration is not None and not process.migration.started:
        turn.put(replace(process, migration=replace(process.migration, started=turn.now)))
        turn.after(turn.host.timings.migration_detect, "detect", process.pod, uid)


def _send(turn: _Turn, process: Process, state: dict[str, Any]) -> None:
    """The source's side: copy while the guest runs, then hand over."""
    uid = str(state.get("migrationUid"))
    migration = process.migration
    current = migration is not None and migration.direction is Direction.OUT and migration.uid == uid
    if current and migration is not None:
        if state.get("abortRequested") and not migration.ended:
            _migration_failed(turn, process, "Live migration has been aborted", aborted=True)
    elif state.get("targetNodeAddress") and process.life is Life.RUNNING and not process.stopping:
        leaving = Migration(uid, Direction.OUT, str(state.get("targetNode")), ready=True, started=turn.now)
        turn.put(replace(process, migration=leaving))
        turn.after(turn.host.timings.migration_copy, "copy", process.pod, uid)


def _end_of(host: Host, vmi: str, uid: str, direction: Direction) -> Process | None:
    """The process that is this end of a migration."""
    for process in host.processes.values():
        migration = process.migration
        if process.vmi == vmi and migration and migration.uid == uid and migration.direction is direction:
            return process
    return None


def _migration_failed(turn: _Turn, process: Process, why: str, *, aborted: bool = False) -> None:
    if process.migration is not None:
        failed = replace(process.migration, ended=turn.now, failure=why, aborted=aborted)
        turn.put(replace(process, migration=failed))
        turn.tell(failed.peer, PeerLost(process.vmi, failed.uid))


def _copied(turn: _Turn, process: Process, migration: Migration) -> None:
    """All memory is over there: stop here, and let it run there. Nothing lies between the two."""
    key = process.key
    if migration.ended or not process.active or turn.host.faulty(Fault.STALL_MIGRATION, key):
        return
    if turn.host.faulty(Fault.FAIL_MIGRATION, key):
        said = "operation failed: migration out job: Lost connection to destination host"
        _migration_failed(turn, process, f"Live migration failed error encountered during MigrateToURI3: {said}")
        return
    arrival = Switchover(process.vmi, migration.uid, turn.host.name, process.paused, process.agent)
    turn.stop(process, Exit.MIGRATED, f"migrated to {migration.peer}")
    turn.tell(migration.peer, arrival)


def _switchover(turn: _Turn, event: Switchover) -> None:
    process = _end_of(turn.host, event.vmi, event.migration, Direction.IN)
    if process is None or process.life is not Life.INCOMING or process.migration is None:
        turn.tell(event.source, PeerLost(event.vmi, event.migration))
        return
    arrived = replace(process.migration, detected=True, ended=turn.now)
    turn.put(
        replace(
            process, life=Life.RUNNING, since=turn.now, paused=event.paused, agent=event.agent, migration=arrived
        ),
        Happening.STARTED,
        f"migrated from {event.source}",
    )  # fmt: skip
    _consider(turn, event.vmi)


def _peer_lost(turn: _Turn, event: PeerLost) -> None:
    process = _end_of(turn.host, event.vmi, event.migration, Direction.IN)
    if process is not None and process.life is Life.INCOMING:
        turn.stop(process, Exit.DESTROYED, "migration source lost")
    process = _end_of(turn.host, event.vmi, event.migration, Direction.OUT)
    if process is None or process.migration is None or process.migration.ended:
        return
    if process.exit is Exit.MIGRATED:
        # The target never took over, so the guest is still ours.
        process = replace(process, life=Life.RUNNING, exit=None, since=turn.now)
        turn.put(process, Happening.STARTED, "handed back")
    _migration_failed(turn, process, "operation failed: migration out job: Lost connection to destination host")


def _undelivered(turn: _Turn, event: Undelivered) -> None:
    lost = event.message.event
    if isinstance(lost, Switchover):
        _peer_lost(turn, PeerLost(lost.vmi, lost.migration))


# --- Timers -----------------------------------------------------------------------------------------------------------


def _due(turn: _Turn, due: Due) -> None:
    if due.what in _HOST_TIMERS:
        if due.token == str(turn.host.session):
            _HOST_TIMERS[due.what](turn)
    elif due.what in _POD_TIMERS:
        run, seen = turn.host.runs.get(due.uid), turn.host.pods.get(due.uid)
        if run is not None and seen is not None:
            _POD_TIMERS[due.what](turn, seen, run, due.token)
    else:
        process = turn.host.processes.get(due.uid)
        if process is not None:
            _PROCESS_TIMERS[due.what](turn, process, due.token)


def _pod_due(turn: _Turn, seen: PodSeen, run: Run, token: str) -> None:
    if run.stage is Stage.STARTING and not run.stopping:
        _runs(turn, seen, run)


def _mount_due(turn: _Turn, seen: PodSeen, run: Run, token: str) -> None:
    if run.stage is Stage.BLOCKED and turn.host.writing:
        turn.writes += [kubelet.mount_failed(seen.pod, missing, turn.now) for missing in seen.missing]


def _gates_due(turn: _Turn, seen: PodSeen, run: Run, token: str) -> None:
    turn.put_run(replace(run, gates=kubelet.gates_open(seen.pod), gates_pending=False))


def _stop_due(turn: _Turn, seen: PodSeen, run: Run, token: str) -> None:
    if run.stage is not Stage.FINISHED:
        turn.finish(run, 0 if seen.pod.vmi else kubelet.TERMINATED)


def _script_due(turn: _Turn, seen: PodSeen, run: Run, token: str) -> None:
    """The work of a CDI worker is done, or has failed."""
    if run.stage is not Stage.RUNNING or run.stopping or token != str(run.restarts):
        return
    script = workers.script(seen, turn.host.timings)
    if script.code and seen.pod.spec.restart_policy != "Never":
        # Never phase Failed: CDI reads the reason off the terminated container, before it is started again.
        stage = replace(run, stage=Stage.CRASHED, exit_code=script.code, message=script.message, finished=turn.now)
        turn.put_run(stage)
        turn.after(turn.host.timings.import_error, "backoff", run.pod)
        return
    turn.finish(run, script.code, script.message)
    if script.sends_to is not None:
        turn.tell("", Transferred(*script.sends_to))


def _backoff_due(turn: _Turn, seen: PodSeen, run: Run, token: str) -> None:
    if run.stage is Stage.CRASHED:
        wait = min(turn.host.timings.import_backoff * 2**run.restarts, BACKOFF_LIMIT)
        turn.put_run(replace(run, stage=Stage.BACKOFF, restarts=run.restarts + 1))
        turn.after(wait, "again", run.pod)


def _again_due(turn: _Turn, seen: PodSeen, run: Run, token: str) -> None:
    if run.stage is Stage.BACKOFF and not run.stopping:
        _runs(turn, seen, run)


def _received_due(turn: _Turn, seen: PodSeen, run: Run, token: str) -> None:
    if run.stage is Stage.RUNNING:
        turn.finish(run, 0)


def _launcher_due(turn: _Turn, process: Process, token: str) -> None:
    run = turn.host.runs.get(process.pod)
    if process.life is Life.OFF and run is not None and run.stage is not Stage.FINISHED:
        turn.finish(run, 1 if process.exit is Exit.CRASHED else 0)


def _boot_due(turn: _Turn, process: Process, token: str) -> None:
    if process.life is Life.BOOTING:
        turn.put(replace(process, life=Life.RUNNING, since=turn.now))
        turn.after(turn.host.timings.agent_connect, "agent", process.pod)
        _fault_changed(turn, Fault.NO_STORAGE, process.key)


def _agent_due(turn: _Turn, process: Process, token: str) -> None:
    if process.life is Life.RUNNING and not process.agent and not turn.host.faulty(Fault.AGENT_OFF, process.key):
        turn.put(replace(process, agent=True))


def _off_due(turn: _Turn, process: Process, token: str) -> None:
    if process.active:
        turn.stop(process, Exit.SHUTDOWN, "guest shut down")


def _kill_due(turn: _Turn, process: Process, token: str) -> None:
    if process.active:
        turn.stop(process, Exit.DESTROYED, "grace period over")


def _listen_due(turn: _Turn, process: Process, token: str) -> None:
    if process.migration is not None and process.migration.uid == token and process.life is Life.INCOMING:
        turn.put(replace(process, migration=replace(process.migration, ready=True)))


def _detect_due(turn: _Turn, process: Process, token: str) -> None:
    if process.migration is not None and process.migration.uid == token:
        turn.put(replace(process, migration=replace(process.migration, detected=True)))


def _copy_due(turn: _Turn, process: Process, token: str) -> None:
    if process.migration is not None and process.migration.uid == token:
        _copied(turn, process, process.migration)


def _plug_due(turn: _Turn, process: Process, token: str) -> None:
    seen = turn.host.vmis.get(process.vmi)
    if seen is None or process.life is not Life.RUNNING:
        return
    plugged, attached = handler.wanted_volumes(seen.vmi)
    changed = replace(process, plugged=plugged, attached=attached, disks=_disks(seen, plugged))
    if changed != process:
        turn.put(changed, Happening.DISKS if changed.disks != process.disks else None)


def _lease_due(turn: _Turn) -> None:
    if turn.host.writing:
        turn.writes.append(node.lease(turn.host, turn.now))
        turn.after(turn.host.timings.lease, "lease", token=str(turn.host.session))


def _heartbeat_due(turn: _Turn) -> None:
    if turn.host.writing:
        if turn.host.handler:
            turn.writes.append(node.heartbeat(turn.host, turn.now))
        turn.after(turn.host.timings.heartbeat, "heartbeat", token=str(turn.host.session))


def _status_due(turn: _Turn) -> None:
    if turn.host.writing:
        turn.writes.append(node.status(turn.host, turn.now))
        turn.after(turn.host.timings.node_status, "status", token=str(turn.host.session))


def _handler_due(turn: _Turn) -> None:
    """virt-handler is up again after a boot, but its device plugins are not: the node cannot take VMs yet."""
    if turn.host.writing:
        turn.writes.append(node.heartbeat(turn.host, turn.now))
        turn.after(turn.host.timings.device_plugins, "plugins", token=str(turn.host.session))


def _plugins_due(turn: _Turn) -> None:
    """Now the node can take VMs, and those that the boot has ended are reported."""
    turn.host = replace(turn.host, handler=True)
    if turn.host.writing:
        turn.writes += [node.heartbeat(turn.host, turn.now), node.status(turn.host, turn.now)]
    for uid in turn.host.vmis:
        _consider(turn, uid)


def _booted_due(turn: _Turn) -> None:
    turn.lists = True


_HOST_TIMERS: dict[str, Callable[[_Turn], None]] = {
    "lease": _lease_due,
    "heartbeat": _heartbeat_due,
    "status": _status_due,
    "handler": _handler_due,
    "plugins": _plugins_due,
    "booted": _booted_due,
}
_POD_TIMERS: dict[str, Callable[[_Turn, PodSeen, Run, str], None]] = {
    "pod": _pod_due,
    "mount": _mount_due,
    "gates": _gates_due,
    "stop": _stop_due,
    "script": _script_due,
    "backoff": _backoff_due,
    "again": _again_due,
    "received": _received_due,
}
_PROCESS_TIMERS: dict[str, Callable[[_Turn, Process, str], None]] = {
    "launcher": _launcher_due,
    "boot": _boot_due,
    "agent": _agent_due,
    "off": _off_due,
    "kill": _kill_due,
    "listen": _listen_due,
    "detect": _detect_due,
    "copy": _copy_due,
    "plug": _plug_due,
}


# --- Commands and other hosts -----------------------------------------------------------------------------------------


def _control(turn: _Turn, event: Control) -> None:
    process = turn.host.process(event.vmi)
    if process is None or process.life is not Life.RUNNING:
        return
    match event.command:
        case Command.PAUSE if not process.paused:
            turn.put(replace(process, paused=USER_PAUSE), Happening.PAUSED, "by user")
        case Command.UNPAUSE if process.paused:
            turn.put(replace(process, paused=""), Happening.RESUMED, "by user")
        case Command.FREEZE | Command.UNFREEZE:
            turn.put(replace(process, frozen=event.command is Command.FREEZE))
        case Command.RESET | Command.SOFT_REBOOT:
            turn.put(replace(process, agent=False, quiet_since=turn.now))
            turn.after(turn.host.timings.guest_boot + turn.host.timings.agent_connect, "agent", process.pod)
        case Command.CRASH:
            turn.stop(process, Exit.CRASHED, "guest crashed")
        case Command.PANIC:
            if (seen := turn.host.vmis.get(process.vmi)) is not None:
                turn.writes.append(handler.panicked(seen.vmi, turn.now))
            turn.stop(process, Exit.CRASHED, "guest panicked")
        case Command.SHUTDOWN:
            turn.stop(process, Exit.SHUTDOWN, "guest powered off")


def _transferred(turn: _Turn, event: Transferred) -> None:
    turn.host = replace(turn.host, transferred=turn.host.transferred | {event})
    for seen in turn.host.pods.values():
        if _address(seen.pod) == event:
            turn.after(0, "received", seen.pod.uid)


# --- Faults -----------------------------------------------------------------------------------------------------------


def _set_fault(turn: _Turn, event: SetFault) -> None:
    turn.host = replace(turn.host, faults={**turn.host.faults, (event.fault, event.vm): event.seconds})
    _fault_changed(turn, event.fault, event.vm)


def _clear_fault(turn: _Turn, event: ClearFault) -> None:
    faults = {k: v for k, v in turn.host.faults.items() if k != (event.fault, event.vm)}
    turn.host = replace(turn.host, faults=faults)
    _fault_changed(turn, event.fault, event.vm)


def _fault_changed(turn: _Turn, fault: Fault, vm: str) -> None:
    """A fault's immediate effect; the others show when something is tried."""
    if fault is Fault.FULL_DISK and not vm:
        turn.host = replace(turn.host, disk_since=turn.now)
        if turn.host.writing:
            turn.writes.append(node.status(turn.host, turn.now))
        return
    for process in turn.host.processes.values():
        if process.life is not Life.RUNNING or vm not in ("", process.key):
            continue
        faulty = turn.host.faulty(fault, process.key)
        match fault:
            case Fault.AGENT_OFF:
                turn.put(replace(process, agent=not faulty, quiet_since=turn.now if faulty else process.quiet_since))
            case Fault.FULL_DISK | Fault.NO_STORAGE if faulty and process.disks and not process.paused:
                turn.put(replace(process, paused=IO_PAUSE), Happening.PAUSED, "I/O error")
            case Fault.FULL_DISK | Fault.NO_STORAGE if not faulty and process.paused == IO_PAUSE:
                turn.put(replace(process, paused=""), Happening.RESUMED, "I/O error gone")
            case Fault.STALL_MIGRATION if not faulty and process.migration:
                turn.after(0, "copy", process.pod, process.migration.uid)


def _power_off(turn: _Turn, event: PowerOff) -> None:
    for process in turn.host.processes.values():
        if process.active:
            turn.note(process, Happening.STOPPED, "power off")
        if process.life is not Life.OFF:
            turn.abandon(process)
    turn.host = replace(
        turn.host, powered=False, connected=False, hung=False, handler=False, pods={}, vmis={}, runs={}, processes={},
        deferred=(), transferred=frozenset(),
    )  # fmt: skip


def _partition(turn: _Turn, event: Partition) -> None:
    turn.host = replace(turn.host, connected=False)


def _hang(turn: _Turn, event: Hang) -> None:
    turn.host = replace(turn.host, hung=True, connected=False)


def _recover(turn: _Turn, event: Recover) -> None:
    host = turn.host
    if not host.powered:
        session = host.session + 1
        turn.host = replace(host, powered=True, boots=host.boots + 1, session=session)
        turn.after(host.timings.host_boot, "booted", token=str(session))
    elif not host.connected:
        turn.host = replace(host, hung=False, deferred=())
        for due in host.deferred:
            _due(turn, due)
        turn.lists = True


def _up(turn: _Turn, event: Up) -> None:
    """Take up contact: report, then catch up with all that was missed, deletions first."""
    turn.adopting = event.adopt
    session = turn.host.session + 1
    turn.host = replace(turn.host, connected=True, session=session, up_since=turn.now)
    turn.writes += node.register(turn.host, turn.now)
    turn.after(turn.host.timings.lease, "lease", token=str(session))
    turn.after(turn.host.timings.heartbeat, "heartbeat", token=str(session))
    turn.after(turn.host.timings.node_status, "status", token=str(session))
    if not turn.host.handler:
        turn.after(turn.host.timings.handler_start, "handler", token=str(session))
    pods, vmis = {s.pod.uid for s in event.pods}, {s.vmi.uid for s in event.vmis}
    for uid in [*turn.host.pods]:
        if uid not in pods:
            _pod_gone(turn, PodGone(uid))
    for uid in [*turn.host.vmis]:
        if uid not in vmis:
            _vmi_gone(turn, VmiGone(uid))
    for pod in event.pods:
        _pod_seen(turn, pod)
    for vmi in event.vmis:
        _vmi_seen(turn, vmi)


def _resources(turn: _Turn, event: Resources) -> None:
    if event.names != turn.host.resources:
        turn.host = replace(turn.host, resources=event.names)
        if turn.host.writing:
            turn.writes.append(node.status(turn.host, turn.now))


_HANDLERS: dict[type, Callable[[_Turn, Any], None]] = {
    PodSeen: _pod_seen,
    PodGone: _pod_gone,
    VmiSeen: _vmi_seen,
    VmiGone: _vmi_gone,
    Due: _due,
    Control: _control,
    Switchover: _switchover,
    PeerLost: _peer_lost,
    Transferred: _transferred,
    Undelivered: _undelivered,
    SetFault: _set_fault,
    ClearFault: _clear_fault,
    PowerOff: _power_off,
    Partition: _partition,
    Hang: _hang,
    Recover: _recover,
    Up: _up,
    Resources: _resources,
}
