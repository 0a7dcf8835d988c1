"""The CSI drivers of all hosts: provisioner, resizer and snapshotter over one imaginary array.

The same shape as a host's life: `step(storage, event, now)` is pure, and writes follow from what was last seen. What a
class can do is in the StorageClass itself: its binding mode, whether it allows expansion, and these parameters:

- `capacityBytes`: a quantity; provisioning and growth beyond it fail with ResourceExhausted. None: no limit.
- `expand`: `online` (default), `offline` (only while no pod uses the volume), or `none` (every attempt fails).
- `snapshot`: `true` (default) or `false` (every attempt fails).
- `topology`: `node` ties a volume to the node that was selected for it; `any` (default).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from vdcos.testing.hypervisor import kubelet
from vdcos.testing.hypervisor.node import ours
from vdcos.testing.hypervisor.objects import (
    Claim,
    Content,
    Json,
    Object,
    PersistentVolume,
    Pod,
    Snapshot,
    SnapshotClass,
    StorageClass,
)
from vdcos.testing.hypervisor.quantity import to_bytes
from vdcos.testing.hypervisor.values import Due, Ref, Timer, Timings, Verb, Write, stamp

T = TypeVar("T")

PROVISIONER = "volume.kubernetes.io/storage-provisioner"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
FS_RESIZE = "FileSystemResizePending"
COMPONENT = "csi-provisioner"


@dataclass(frozen=True, slots=True)
class Seen:
    """An object as the API server holds it."""

    object: Object


@dataclass(frozen=True, slots=True)
class Gone:
    object: Object


@dataclass(frozen=True, slots=True)
class Storage:
    """What the driver knows. Claims, snapshots and pods are keyed by namespace/name, the rest by name."""

    timings: Timings
    classes: Mapping[str, StorageClass] = field(default_factory=dict)
    snapshot_classes: Mapping[str, SnapshotClass] = field(default_factory=dict)
    claims: Mapping[str, Claim] = field(default_factory=dict)
    volumes: Mapping[str, PersistentVolume] = field(default_factory=dict)
    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)
    contents: Mapping[str, Content] = field(default_factory=dict)
    users: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The claims that each running pod mounts."""
    made: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """Class and bytes of every volume on the array, by name: the array knows them before the API server does."""
    done: frozenset[str] = frozenset()
    """Operations whose time has passed."""
    waiting: Mapping[str, str] = field(default_factory=dict)
    """Claims that wait for something else than themselves, with the last complaint."""


@dataclass(frozen=True, slots=True)
class Step:
    storage: Storage
    writes: tuple[Write, ...] = ()
    timers: tuple[Timer, ...] = ()


def step(storage: Storage, event: Seen | Gone | Due, now: float) -> Step:
    """What `event`, at `now` (seconds since the epoch), makes the driver do."""
    turn = _Turn(storage, now)
    match event:
        case Due(uid=key, token=operation):
            turn.storage = replace(storage, done=storage.done | {operation})
            turn.look(key)
        case Seen(object=seen):
            turn.see(seen)
        case Gone(object=gone):
            turn.lose(gone)
    return Step(turn.storage, tuple(turn.writes), tuple(turn.timers))


class _Turn:
    def __init__(self, storage: Storage, now: float) -> None:
        self.storage = storage
        self.now = now
        self.writes: list[Write] = []
        self.timers: list[Timer] = []

    # --- what is seen

    def see(self, seen: Object) -> None:
        before = self.storage
        match seen:
            case Claim():
                old = before.claims.get(seen.key)
                self.storage = replace(before, claims={**before.claims, seen.key: seen})
                self.claim(seen)
                if seen.bound and not (old is not None and old.bound):
                    self.retry()
            case PersistentVolume():
                size = to_bytes(seen.spec.capacity.get("storage", 0))
                made = before.made
                if seen.spec.csi is not None and ours(seen.spec.csi.driver):
                    made = {**made, seen.metadata.name: (seen.spec.storage_class_name, size)}
                self.storage = replace(before, volumes={**before.volumes, seen.metadata.name: seen}, made=made)
                self.volume(seen)
            case Snapshot():
                self.storage = replace(before, snapshots={**before.snapshots, seen.key: seen})
                self.snapshot(seen)
                if seen.status is not None and seen.status.ready_to_use:
                    self.retry()
            case Content():
                self.storage = replace(before, contents={**before.contents, seen.metadata.name: seen})
                self.content(seen)
            case StorageClass():
                self.storage = replace(before, classes={**before.classes, seen.metadata.name: seen})
                self.revisit(before.claims)
            case SnapshotClass():
                classes = {**before.snapshot_classes, seen.metadata.name: seen}
                self.storage = replace(before, snapshot_classes=classes)
            case Pod():
                self.pod(seen)

    def lose(self, gone: Object) -> None:
        before, name = self.storage, gone.metadata.name
        match gone:
            case Claim():
                claims, waiting = _without(before.claims, gone.key), _without(before.waiting, gone.key)
                kept = frozenset(o for o in before.done if gone.uid not in o)
                self.storage = replace(before, claims=claims, waiting=waiting, done=kept)
            case PersistentVolume():
                volumes, made = _without(before.volumes, name), _without(before.made, name)
                self.storage = replace(before, volumes=volumes, made=made)
                self.retry()
            case Snapshot():
                self.storage = replace(before, snapshots=_without(before.snapshots, gone.key))
                for content in before.contents.values():
                    if content.spec.volume_snapshot_ref.uid == gone.uid and content.spec.deletion_policy == "Delete":
                        self.writes.append(_delete("volumesnapshotcontents", content))
            case Content():
                self.storage = replace(before, contents=_without(before.contents, name))
            case StorageClass():
                self.storage = replace(before, classes=_without(before.classes, name))
            case SnapshotClass():
                self.storage = replace(before, snapshot_classes=_without(before.snapshot_classes, name))
            case Pod():
                self.storage = replace(before, users=_without(before.users, gone.uid))
                self.revisit(before.users.get(gone.uid, frozenset()))

    def pod(self, pod: Pod) -> None:
        before = self.storage.users.get(pod.uid, frozenset())
        mounted = frozenset(f"{pod.metadata.namespace}/{c}" for c in pod.claims())
        users = mounted if pod.status.phase == "Running" else frozenset()
        if users != before:
            self.storage = replace(self.storage, users={**self.storage.users, pod.uid: users})
            self.revisit(users ^ before)

    def revisit(self, keys: Iterable[str]) -> None:
        for key in sorted(keys):
            self.look(key)

    def retry(self) -> None:
        """Something changed that a claim may have been waiting for."""
        self.revisit(self.storage.waiting)
        for snapshot in self.storage.snapshots.values():
            if snapshot.status is None:
                self.snapshot(snapshot)

    def look(self, key: str) -> None:
        if claim := self.storage.claims.get(key):
            self.claim(claim)
        elif snapshot := self.storage.snapshots.get(key.removeprefix("snapshot:")):
            self.snapshot(snapshot)

    def passed(self, operation: str, key: str) -> bool:
        """Whether an operation has taken its time; otherwise it begins now."""
        if operation in self.storage.done or not self.storage.timings.provision:
            return True
        self.timers.append(Timer(self.now + self.storage.timings.provision, Due("storage", key, operation)))
        return False

    def settle(self, claim: Claim) -> None:
        if claim.key in self.storage.waiting:
            self.storage = replace(self.storage, waiting=_without(self.storage.waiting, claim.key))

    def wait(self, claim: Claim, why: str = "", reason: str = "ProvisioningFailed") -> None:
        """Remember a claim that cannot go on; complain in an event, once per complaint."""
        if why and self.storage.waiting.get(claim.key) != why:
            self.writes.append(kubelet.event("PersistentVolumeClaim", claim, reason, why, COMPONENT, self.now))
        self.storage = replace(self.storage, waiting={**self.storage.waiting, claim.key: why})

    # --- what is done about it

    def claim(self, claim: Claim) -> None:
        volume_class = self.storage.classes.get(claim.spec.storage_class_name)
        if volume_class is None or not ours(volume_class.provisioner) or claim.deleting:
            return
        if claim.spec.volume_name:
            if claim.bound:
                self.grow(claim, volume_class)
        elif claim.metadata.annotations.get(PROVISIONER) == volume_class.provisioner:
            self.provision(claim, volume_class)

    def provision(self, claim: Claim, volume_class: StorageClass) -> None:
        node = claim.metadata.annotations.get(SELECTED_NODE, "")
        name = f"pvc-{claim.uid}"
        if (volume_class.volume_binding_mode == "WaitForFirstConsumer" and not node) or name in self.storage.volumes:
            return
        if not self.source_ready(claim):
            self.wait(claim)
            return
        size = to_bytes(claim.spec.resources.requests.get("storage", 0))
        if why := self.full(volume_class, name, size):
            said = f'failed to provision volume with StorageClass "{volume_class.metadata.name}": {why}'
            self.wait(claim, said)
            return
        self.settle(claim)
        if self.passed(f"provision/{claim.uid}", claim.key):
            made = {**self.storage.made, name: (volume_class.metadata.name, size)}
            self.storage = replace(self.storage, made=made)
            body = _volume(claim, volume_class, name, node)
            self.writes.append(Write(Ref("persistentvolumes", name), Verb.CREATE, body))

    def source_ready(self, claim: Claim) -> bool:
        """Whether what the claim is to be filled from exists. CDI fills its populator sources by itself."""
        source = claim.spec.data_source_ref
        if source is None or not source.kind:
            return True
        key = f"{source.namespace or claim.metadata.namespace}/{source.name}"
        match source.kind:
            case "VolumeSnapshot":
                snapshot = self.storage.snapshots.get(key)
                return snapshot is not None and snapshot.status is not None and snapshot.status.ready_to_use
            case "PersistentVolumeClaim":
                origin = self.storage.claims.get(key)
                return origin is not None and origin.bound
            case _:
                return False

    def full(self, volume_class: StorageClass, name: str, size: int) -> str:
        """Why the array has no room for `name` to have `size` bytes, or nothing."""
        limit = volume_class.parameters.get("capacityBytes")
        if limit is None:
            return ""
        made = self.storage.made.items()
        used = sum(b for n, (c, b) in made if c == volume_class.metadata.name and n != name)
        if used + size <= to_bytes(limit):
            return ""
        return (
            "rpc error: code = ResourceExhausted desc = insufficient capacity:"
            f" {size} bytes requested, {max(0, to_bytes(limit) - used)} available"
        )

    def grow(self, claim: Claim, volume_class: StorageClass) -> None:
        """Expand the volume, then (on the node, if it has a file system) what is in it."""
        wanted = to_bytes(claim.spec.resources.requests.get("storage", 0))
        volume = self.storage.volumes.get(claim.spec.volume_name)
        used = any(claim.key in claims for claims in self.storage.users.values())
        if wanted <= to_bytes(claim.status.capacity.get("storage", 0)) or volume is None:
            self.settle(claim)
            return
        if why := self.too_big(volume_class, volume, wanted, used=used):
            resizer = f'resize volume "{volume.metadata.name}" by resizer "{volume_class.provisioner}"'
            self.wait(claim, f"{resizer} failed: {why}", "VolumeResizeFailed")
            return
        self.settle(claim)
        if not self.passed(f"grow/{claim.uid}/{wanted}", claim.key):
            return
        request = claim.spec.resources.requests["storage"]
        if to_bytes(volume.spec.capacity.get("storage", 0)) < wanted:
            body = {"metadata": {"uid": volume.uid}, "spec": {"capacity": {"storage": request}}}
            self.writes.append(Write(Ref("persistentvolumes", volume.metadata.name), Verb.MERGE_PATCH, body))
        elif claim.spec.volume_mode == "Filesystem" and not used:
            if not any(c["type"] == FS_RESIZE for c in claim.status.conditions):
                said = "Waiting for user to (re-)start a pod to finish file system resize of volume on node."
                pending = {"type": FS_RESIZE, "status": "True", "lastTransitionTime": stamp(self.now), "message": said}
                self.status(claim, {"conditions": [*_kept(claim), pending]})
        else:
            self.status(claim, {"capacity": {"storage": request}, "conditions": _kept(claim)})

    def too_big(self, volume_class: StorageClass, volume: PersistentVolume, size: int, *, used: bool) -> str:
        """Why a volume cannot have `size` bytes, or nothing."""
        match volume_class.parameters.get("expand", "online"):
            case "none":
                return "the volume does not support expansion"
            case "offline" if used:
                return "the volume cannot be expanded while it is in use"
            case _:
                return self.full(volume_class, volume.metadata.name, size)

    def status(self, claim: Claim, status: Json) -> None:
        ref = Ref("persistentvolumeclaims", claim.metadata.name, claim.metadata.namespace)
        guard = {"uid": claim.uid, "resourceVersion": claim.metadata.resource_version}
        self.writes.append(Write(ref, Verb.MERGE_PATCH, {"metadata": guard, "status": status}, "status"))

    def volume(self, volume: PersistentVolume) -> None:
        spec = volume.spec
        if spec.csi is None or not ours(spec.csi.driver):
            return
        if volume.status.phase == "Released" and spec.persistent_volume_reclaim_policy == "Delete":
            if not volume.deleting:
                self.writes.append(_delete("persistentvolumes", volume))
        elif spec.claim_ref is not None:
            self.look(f"{spec.claim_ref.namespace}/{spec.claim_ref.name}")

    def snapshot(self, snapshot: Snapshot) -> None:
        kind = self.storage.snapshot_classes.get(snapshot.spec.volume_snapshot_class_name)
        if kind is None or not ours(kind.driver) or snapshot.deleting:
            return
        if snapshot.status is not None and snapshot.status.ready_to_use:
            return
        source = snapshot.spec.source
        name = source.volume_snapshot_content_name or f"snapcontent-{snapshot.uid}"
        content = self.storage.contents.get(name)
        ref = Ref("volumesnapshots", snapshot.metadata.name, snapshot.metadata.namespace)
        if content is not None:
            if content.status is not None and content.status.ready_to_use:
                status = {
                    "boundVolumeSnapshotContentName": name,
                    "creationTime": stamp(self.now),
                    "readyToUse": True,
                    "restoreSize": str(content.status.restore_size or 0),
                }
                body = {"metadata": {"uid": snapshot.uid}, "status": status}
                self.writes.append(Write(ref, Verb.MERGE_PATCH, body, "status"))
            return
        claim = self.storage.claims.get(f"{snapshot.metadata.namespace}/{source.persistent_volume_claim_name}")
        if claim is None or not claim.bound or source.volume_snapshot_content_name:
            return
        volume_class = self.storage.classes.get(claim.spec.storage_class_name)
        if volume_class is not None and volume_class.parameters.get("snapshot", "true") == "false":
            if snapshot.status is None:
                said = f"Failed to create snapshot: storage class {volume_class.metadata.name} cannot take snapshots"
                error = {"message": said, "time": stamp(self.now)}
                body = {"metadata": {"uid": snapshot.uid}, "status": {"readyToUse": False, "error": error}}
                self.writes.append(Write(ref, Verb.MERGE_PATCH, body, "status"))
        elif self.passed(f"snapshot/{snapshot.uid}", f"snapshot:{snapshot.key}"):
            body = _content(snapshot, kind, claim, name)
            self.writes.append(Write(Ref("volumesnapshotcontents", name), Verb.CREATE, body))

    def content(self, content: Content) -> None:
        if not ours(content.spec.driver) or content.deleting:
            return
        ref = content.spec.volume_snapshot_ref
        if content.status is None:
            status = {
                "creationTime": int(self.now * 1e9),
                "readyToUse": True,
                "restoreSize": int(content.metadata.annotations.get(SIZE, "0")),
                "snapshotHandle": content.uid,
            }
            body = {"metadata": {"uid": content.uid}, "status": status}
            target = Ref("volumesnapshotcontents", content.metadata.name)
            self.writes.append(Write(target, Verb.MERGE_PATCH, body, "status"))
        elif snapshot := self.storage.snapshots.get(f"{ref.namespace}/{ref.name}"):
            self.snapshot(snapshot)


SIZE = "csi.vdcos.dev/bytes"
"""Annotation of a VolumeSnapshotContent: how big the volume was."""


def _volume(claim: Claim, volume_class: StorageClass, name: str, node: str) -> Json:
    spec: Json = {
        "capacity": {"storage": claim.spec.resources.requests["storage"]},
        "accessModes": claim.spec.access_modes,
        "volumeMode": claim.spec.volume_mode,
        "storageClassName": volume_class.metadata.name,
        "persistentVolumeReclaimPolicy": volume_class.reclaim_policy,
        "csi": {"driver": volume_class.provisioner, "volumeHandle": name},
        "claimRef": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": claim.metadata.namespace,
            "name": claim.metadata.name,
            "uid": claim.uid,
            "resourceVersion": claim.metadata.resource_version,
        },
    }
    if volume_class.parameters.get("topology") == "node" and node:
        here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}}
    metadata = {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": volume_class.provisioner}}
    return {"metadata": metadata, "spec": spec}


def _content(snapshot: Snapshot, kind: SnapshotClass, claim: Claim, name: str) -> Json:
    size = to_bytes(claim.status.capacity.get("storage", 0))
    return {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshotContent",
        "metadata": {"name": name, "annotations": {SIZE: str(size)}},
        "spec": {
            "deletionPolicy": kind.deletion_policy,
            "driver": kind.driver,
            "source": {"volumeHandle": claim.spec.volume_name},
            "volumeSnapshotClassName": kind.metadata.name,
            "volumeSnapshotRef": {
                "apiVersion": "snapshot.storage.k8s.io/v1",
                "kind": "VolumeSnapshot",
                "namespace": snapshot.metadata.namespace,
                "name": snapshot.metadata.name,
                "uid": snapshot.uid,
            },
        },
    }


def _kept(claim: Claim) -> list[Json]:
    """The claim's conditions but those of an expansion."""
    return [c for c in claim.status.conditions if c["type"] not in (FS_RESIZE, "Resizing")]


def _delete(resource: str, what: Object) -> Write:
    return Write(Ref(resource, what.metadata.name), Verb.DELETE, {"preconditions": {"uid": what.uid}})


def _without(mapping: Mapping[str, T], key: str) -> dict[str, T]:
    return {k: v for k, v in mapping.items() if k != key}
