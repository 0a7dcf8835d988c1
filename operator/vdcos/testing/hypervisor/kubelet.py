"""What a kubelet writes about its pods (kubelet 1.35 on containerd; order and fields as recorded on real nodes)."""

import hashlib
from typing import Any

import msgspec

from vdcos.testing.hypervisor.objects import HANDLER, Container, Json, Pod, PodVolume
from vdcos.testing.hypervisor.values import Host, PodSeen, Ref, Run, Stage, Verb, Write, stamp

NETWORKS = "k8s.v1.cni.cncf.io/networks"
NETWORK_STATUS = "k8s.v1.cni.cncf.io/network-status"
TERMINATED = 143  # 128 + SIGTERM
LOST = 137  # 128 + SIGKILL: what a kubelet reports for containers that a reboot took


def host_address(host: Host) -> str:
    return host.address or f"10.77.{host.index // 250}.{host.index % 250 + 1}"


def pod_address(host: Host, pod: Pod, number: int) -> str:
    """The address of the host's `number`-th pod.

    Nothing listens there. CDI polls its workers for progress, so they live where a connection is refused at once. The
    one real server, the simulated virt-handler, is on the loopback interface.
    """
    if pod.role == HANDLER:
        return "127.0.0.1"
    if pod.spec.host_network:
        return host_address(host)
    low = number % 250 + 1
    if pod.metadata.labels.get("app") == "containerized-data-importer":
        return f"127.9.{host.index % 250}.{low}"
    return f"10.{200 + number // 250 % 50}.{host.index % 250}.{low}"


def image_id(image: str) -> str:
    """A stable image ID with a digest: virt-controller wants one to render a migration target."""
    if "@sha256:" in image:
        return image
    path, _, tag = image.rpartition(":")
    repository = path if path and "/" not in tag else image
    return f"{repository}@sha256:{hashlib.sha256(image.encode()).hexdigest()}"


def gates_open(pod: Pod) -> bool:
    return all((pod.condition(g.condition_type) or {}).get("status") == "True" for g in pod.spec.readiness_gates)


def gates_present(pod: Pod) -> bool:
    return all(pod.condition(g.condition_type) for g in pod.spec.readiness_gates)


def write(host: Host, seen: PodSeen, now: float) -> Write | None:
    """The next thing that the kubelet (or Multus, on its behalf) has to tell about a pod, if anything."""
    pod, run = seen.pod, host.runs.get(seen.pod.uid)
    if pod.deleting and (pod.finished or (run is None and not pod.status.start_time)):
        return delete(pod)
    if run is None or pod.finished:
        return None
    if run.stage is Stage.FINISHED and pod.deleting and not pod.status.start_time:
        return delete(pod)
    if run.stage is Stage.RUNNING and pod.status.phase == "Pending" and (write := _network_status(pod, run)):
        return write
    return _status(host, pod, run, now)


def delete(pod: Pod) -> Write:
    """Remove a pod whose containers have ended."""
    body = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod.uid}}
    return Write(Ref("pods", pod.metadata.name, pod.metadata.namespace), Verb.DELETE, body)


def _network_status(pod: Pod, run: Run) -> Write | None:
    asked = pod.metadata.annotations.get(NETWORKS)
    if not asked or NETWORK_STATUS in pod.metadata.annotations:
        return None
    status: list[Json] = [{"name": "default", "interface": "eth0", "ips": [run.ip], "default": True, "dns": {}}]
    for network in msgspec.json.decode(asked, type=list[dict[str, Any]]):
        item = {
            "name": f"{network.get('namespace') or pod.metadata.namespace}/{network['name']}",
            "interface": network.get("interface", ""),
            "dns": {},
        }
        if "mac" in network:
            item["mac"] = network["mac"]
        status.append(item)
    body = {"metadata": {"uid": pod.uid, "annotations": {NETWORK_STATUS: msgspec.json.encode(status).decode()}}}
    return Write(Ref("pods", pod.metadata.name, pod.metadata.namespace), Verb.MERGE_PATCH, body)


def _status(host: Host, pod: Pod, run: Run, now: float) -> Write | None:
    """The pod's status as the kubelet would have it, unless the API server has it already."""
    phase, conditions = _phase(run), _conditions(pod, run)
    known = {c["type"]: c for c in pod.status.conditions}
    told = [_gist(c) for c in conditions] == [_gist(known.get(c["type"], {})) for c in conditions]
    if pod.status.phase == phase and told and _told(pod.status.container_statuses) == _to_tell(pod, run):
        return None
    containers = [_container(pod, c, run, sidecar=False) for c in pod.spec.containers]
    for condition in conditions:
        before = known.get(condition["type"], {})
        same = before.get("status") == condition["status"]
        condition["lastTransitionTime"] = before.get("lastTransitionTime") if same else stamp(now)
        condition["observedGeneration"] = pod.metadata.generation
    if "PodScheduled" in known:
        # The scheduler's condition; the kubelet adds which generation it is about.
        conditions.append({"type": "PodScheduled", "observedGeneration": pod.metadata.generation})
    status: Json = {"phase": phase, "conditions": conditions, "containerStatuses": containers}
    status["observedGeneration"] = pod.metadata.generation
    if pod.spec.init_containers:
        status["initContainerStatuses"] = [_init_container(pod, c, run) for c in pod.spec.init_containers]
    if not pod.status.start_time:
        at = host_address(host)
        status |= {"hostIP": at, "hostIPs": [{"ip": at}], "startTime": stamp(run.started)}
    # podIPs merge by address: a second, different one would be added to the first, and refused.
    if not pod.status.pod_ip and run.stage not in (Stage.STARTING, Stage.BLOCKED):
        status |= {"podIP": run.ip, "podIPs": [{"ip": run.ip}]}
    body = {"metadata": {"uid": pod.uid}, "status": status}
    return Write(Ref("pods", pod.metadata.name, pod.metadata.namespace), Verb.STRATEGIC_PATCH, body, "status")


def _phase(run: Run) -> str:
    match run.stage:
        case Stage.BLOCKED | Stage.STARTING:
            return "Pending"
        case Stage.FINISHED:
            return "Failed" if run.exit_code else "Succeeded"
        case _:
            return "Running"


def _gist(condition: Json) -> tuple[Any, ...]:
    return tuple(condition.get(k) or "" for k in ("type", "status", "reason", "message"))


def _told(statuses: list[Json]) -> list[tuple[Any, ...]]:
    """What makes one status of the containers different from another."""
    return sorted((s["name"], s["ready"], s["restartCount"], *s["state"]) for s in statuses)


def _to_tell(pod: Pod, run: Run) -> list[tuple[Any, ...]]:
    """The same, of what `_container` would say."""
    state = _STATES[run.stage]
    return sorted((c.name, run.stage is Stage.RUNNING, run.restarts, state) for c in pod.spec.containers)


_STATES = {
    Stage.BLOCKED: "waiting",
    Stage.STARTING: "waiting",
    Stage.RUNNING: "running",
    Stage.CRASHED: "terminated",
    Stage.BACKOFF: "waiting",
    Stage.FINISHED: "terminated",
}


def _conditions(pod: Pod, run: Run) -> list[Json]:
    """The kubelet's own conditions; `None` removes a reason or message in a strategic merge patch."""

    def condition(kind: str, true: bool, reason: str | None = None, message: str | None = None) -> Json:
        return {"type": kind, "status": "True" if true else "False", "reason": reason, "message": message}

    unready = "" if run.stage is Stage.RUNNING else " ".join(c.name for c in pod.spec.containers)
    sidecars = [c.name for c in pod.spec.init_containers if c.restart_policy == "Always"]
    completed = "PodCompleted" if run.exit_code == 0 else "PodFailed"
    if run.stage in (Stage.BLOCKED, Stage.STARTING):
        inits = " ".join(c.name for c in pod.spec.init_containers)
        unready = " ".join([*sidecars, *(c.name for c in pod.spec.containers)])
        not_ready = ("ContainersNotReady", f"containers with unready status: [{unready}]")
        waiting = ("ContainersNotInitialized", f"containers with incomplete status: [{inits}]")
        return [
            condition("PodReadyToStartContainers", False),
            condition("Initialized", False, *waiting) if inits else condition("Initialized", True),
            condition("Ready", False, *not_ready),
            condition("ContainersReady", False, *not_ready),
        ]
    if run.stage is Stage.FINISHED:
        message = f"containers with unready status: [{unready}]" if completed == "PodFailed" else None
        return [
            condition("PodReadyToStartContainers", False),
            condition("Initialized", True, "PodCompleted" if run.exit_code == 0 else None),
            condition("Ready", False, completed, message),
            condition("ContainersReady", False, completed, message),
        ]
    ready = condition("Ready", True)
    if unready:
        ready = condition("Ready", False, "ContainersNotReady", f"containers with unready status: [{unready}]")
    elif not run.gates:
        ready = condition("Ready", False, "ReadinessGatesNotReady", _closed_gates(pod))
    return [
        condition("PodReadyToStartContainers", True),
        condition("Initialized", True),
        ready,
        {**ready, "type": "ContainersReady"} if unready else condition("ContainersReady", True),
    ]


def _closed_gates(pod: Pod) -> str:
    if gates_open(pod):
        # They have just opened and the kubelet has not noticed: what it said before stands.
        return str((pod.condition("Ready") or {}).get("message", ""))
    said = []
    for gate in pod.spec.readiness_gates:
        status = (pod.condition(gate.condition_type) or {}).get("status")
        if status is None:
            said.append(f'corresponding condition of pod readiness gate "{gate.condition_type}" does not exist.')
        elif status != "True":
            said.append(f'the status of pod readiness gate "{gate.condition_type}" is not "True", but {status}')
    return ", ".join(said)


def _container(pod: Pod, container: Container, run: Run, *, sidecar: bool) -> Json:
    started = stamp(run.started)
    identity = hashlib.sha256(f"{pod.uid}/{container.name}/{run.restarts}".encode()).hexdigest()
    terminated: Json = {
        "exitCode": run.exit_code,
        "reason": "Error" if run.exit_code else "Completed",
        "startedAt": started,
        "finishedAt": stamp(run.finished),
        "containerID": f"containerd://{identity}",
    }
    if run.message and not sidecar:
        terminated["message"] = run.message
    state: Json
    match run.stage:
        case Stage.BLOCKED | Stage.STARTING:
            state = {"waiting": {"reason": "PodInitializing" if pod.spec.init_containers else "ContainerCreating"}}
        case Stage.RUNNING:
            state = {"running": {"startedAt": started}}
        case Stage.BACKOFF:
            said = f"back-off restarting failed container={container.name} pod={pod.metadata.name}"
            state = {"waiting": {"reason": "CrashLoopBackOff", "message": said}}
        case Stage.CRASHED | Stage.FINISHED:
            state = {"terminated": terminated}
    exists = run.stage not in (Stage.BLOCKED, Stage.STARTING)
    status: Json = {
        "name": container.name,
        "image": container.image,
        "imageID": image_id(container.image) if exists else "",
        "ready": run.stage is Stage.RUNNING,
        "started": run.stage is Stage.RUNNING,
        "restartCount": run.restarts,
        "state": state,
        "lastState": {"terminated": terminated} if run.stage is Stage.BACKOFF else {},
    }
    if exists:
        status["containerID"] = f"containerd://{identity}"
    return status


def _init_container(pod: Pod, container: Container, run: Run) -> Json:
    """A sidecar runs as long as the pod does; any other init container has done its work before the pod runs."""
    status = _container(pod, container, run, sidecar=True)
    if container.restart_policy != "Always" and run.stage not in (Stage.BLOCKED, Stage.STARTING):
        at = stamp(run.started)
        done = {"exitCode": 0, "reason": "Completed", "startedAt": at, "finishedAt": at}
        state = {"terminated": {**done, "containerID": status["containerID"]}}
        status |= {"ready": True, "started": False, "restartCount": 0, "state": state, "lastState": {}}
    return status


def mount_failed(pod: Pod, missing: tuple[str, str], now: float) -> Write:
    """The event by which somebody without rights on Secrets can see that one is missing."""
    kind, name = missing
    volume = next((v.name for v in pod.spec.volumes if _mounted(v) == missing), name)
    said = f'MountVolume.SetUp failed for volume "{volume}" : {kind} "{name}" not found'
    return event("Pod", pod, "FailedMount", said, "kubelet", now)


def _mounted(volume: PodVolume) -> tuple[str, str] | None:
    if volume.secret:
        return "secret", volume.secret.secret_name
    return ("configmap", volume.config_map.name) if volume.config_map else None


def event(kind: str, about: Any, reason: str, message: str, component: str, now: float, version: str = "v1") -> Write:
    """A warning Event about an object. Its name is the API server's to choose."""
    meta = about.metadata
    body = {
        "metadata": {"generateName": f"{meta.name}.", "namespace": meta.namespace},
        "involvedObject": {
            "apiVersion": version,
            "kind": kind,
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": meta.uid,
        },
        "reason": reason,
        "message": message,
        "type": "Warning",
        "source": {"component": component},
        "firstTimestamp": stamp(now),
        "lastTimestamp": stamp(now),
        "count": 1,
    }
    return Write(Ref("events", "", meta.namespace), Verb.CREATE, body)
