"""Scenes for a cluster with all its controllers, and for the simulator's model of one.

A scene is a sequence of requests; after each, everything comes to rest.
"""

import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

from tests.conformance.accepted import SCENES as SCENES_ACCEPTED
from tests.conformance.catalogue import BASE, OTHER, delete, op
from tests.conformance.play import Model, Outcome, Play, Step, play
from tests.conformance.traces import FOLLOWED, Event, Transition, transitions, unlike
from vdcos.testing.cluster import CLASS, Call, Happens
from vdcos.testing.simulator import World

Json = Any


def disk(storage_class: str = "block-rwx", volume_mode: str = "Block", access: str = "ReadWriteMany") -> Json:
    asked = {
        "storageClassName": storage_class,
        "volumeMode": volume_mode,
        "accessModes": [access],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    labels = {"app.kubernetes.io/managed-by": "vdcos", "vdcos.dev/disk": "a"}
    return {"metadata": {"labels": labels}, "spec": {"source": {"blank": {}}, "storage": asked}}


def machine(run_strategy: str = "Halted", *disks: str, **template: Json) -> Json:
    """A KubeVirt VM with disks, as the operator builds it."""
    domain = {
        "cpu": {"sockets": 1, "maxSockets": 4},
        "memory": {"guest": "256Mi"},
        "devices": {
            "disks": [{"name": name, "disk": {"bus": "virtio"}} for name in disks],
            "interfaces": [{"name": "default", "masquerade": {}}],
        },
    }
    spec = {
        "domain": domain,
        "networks": [{"name": "default", "pod": {}}],
        "volumes": [{"name": name, "dataVolume": {"name": name}} for name in disks],
        "terminationGracePeriodSeconds": 15,
        **template,
    }
    return {"spec": {"runStrategy": run_strategy, "template": {"metadata": {"labels": {"app": "a"}}, "spec": spec}}}


def power(run_strategy: str) -> Step:
    return Step("json", "kv", "a", [op("replace", "/spec/runStrategy", run_strategy)])


FILE = disk("file-rwo", "Filesystem", "ReadWriteOnce")


def lease(name: str, step: int, **more: Any) -> Json:
    """A Lease as the owner of something: a kind that nobody but the garbage collector cares for."""
    kind = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
    return {**kind, "name": name, "uid": f"<uid {step}>", **more}


def owned(*owners: Json) -> Json:
    return {**BASE["nad"], "metadata": {"ownerReferences": list(owners)}}


SCENES: dict[str, tuple[Step, ...]] = {
    "a disk comes and goes": (Step("create", "dv", "a", disk()), Step("delete", "dv", "a")),
    "a disk waits for its first user": (Step("create", "dv", "a", FILE), Step("delete", "dv", "a")),
    "a disk grows": (
        Step("create", "dv", "a", disk()),
        Step("json", "pvc", "a", [op("replace", "/spec/resources/requests/storage", "2Gi")]),
    ),
    "a VM is switched on and off": (
        Step("create", "kv", "a", machine()),
        power("Always"),
        power("Halted"),
        power("Always"),
        Step("delete", "kv", "a"),
    ),
    "a VM with a disk": (
        Step("create", "dv", "a", disk()),
        Step("create", "kv", "a", machine("Always", "a")),
        Step("delete", "kv", "a"),
    ),
    "a VM is the first user of its disk": (
        Step("create", "dv", "a", FILE),
        Step("create", "kv", "a", machine("Halted", "a")),
        power("Always"),
        power("Halted"),
    ),
    "a VM waits for its disk": (
        Step("create", "kv", "a", machine("Always", "a")),
        Step("create", "dv", "a", disk()),
    ),
    "a VM fits no host": (
        Step("create", "kv", "a", machine("Always", nodeSelector={"zone": "nowhere"})),
        power("Halted"),
    ),
    "a VM runs until it fails": (
        Step("create", "kv", "a", machine("RerunOnFailure")),
        power("Halted"),
    ),
    "a change that needs a restart": (
        Step("create", "kv", "a", machine("Always")),
        Step("json", "kv", "a", [op("add", "/spec/template/spec/hostname", "b")]),
        power("Halted"),
        power("Always"),
    ),
    "an owner takes its child along": (
        Step("create", "lease", "a", BASE["lease"]),
        Step("create", "nad", "a", owned(lease("a", 0, controller=True))),
        delete("lease", "a"),
    ),
    "one of two owners goes": (
        Step("create", "lease", "a", BASE["lease"]),
        Step("create", "lease", "b", BASE["lease"]),
        Step("create", "nad", "a", owned(lease("a", 0, controller=True), lease("b", 1))),
        delete("lease", "a"),
        delete("lease", "b"),
    ),
    "an owner that never was": (Step("create", "nad", "a", owned(lease("a", 0, uid=OTHER))),),
    "a child without its owner's reference stays": (
        Step("create", "lease", "a", BASE["lease"]),
        Step("create", "nad", "a", owned(lease("a", 0))),
        Step("json", "nad", "a", [op("remove", "/metadata/ownerReferences")]),
        delete("lease", "a"),
    ),
}


def scenes() -> list[Play]:
    return [Play(name, steps) for name, steps in SCENES.items()]


MOST = 10_000
"""Events until a scene must be at rest: a hundred times as many as any needs."""


SLOW = ("vm", "vmi", "scheduler", "cdi", "import", "csi", "bind", "gc", "Tell", "Show")
"""Whose acts can be slow: controllers, what happens on hosts, and what hosts hear."""


class Uneven(World):
    """One is a hundred times as slow as usual; or all have a pace by a seed. Only what must come first always does."""

    def __init__(self, how: str | int) -> None:
        super().__init__(())
        self._how = how

    def later(self, seconds: float, what: Happens) -> None:
        who = what.controller if isinstance(what, Call) else type(what).__name__
        if isinstance(self._how, str):
            pace = 2.0 if who == self._how else 0.0
        else:
            pace = random.Random(f"{self._how} {who}").uniform(-1.5, 1.5)
        super().later(seconds * 10**pace, what)


class ModelCluster(Model):
    """The simulator's world without an operator."""

    def __init__(self, space: str, world: World) -> None:
        super().__init__(space)
        self._world = world
        self._world.cluster.install()
        for name, mode in (("block-rwx", "Immediate"), ("file-rwo", "WaitForFirstConsumer")):
            manifest = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}}
            self._world.api.create(CLASS, {**manifest, "provisioner": "x", "volumeBindingMode": mode})
        made = self.api
        self.api = self._world.api
        for resource, held in made.everything():
            self.api.create(resource, held.tree)

    def rest(self) -> None:
        """Let everything happen that anybody does by himself."""
        self._world.notice()
        for _ in range(MOST):
            if not self._world.step():
                return
        raise AssertionError("the model does not come to rest")

    def events(self) -> Iterator[Event]:
        for kind, resource in FOLLOWED.items():
            for change in self.api.changes(resource):
                yield Event(change.held.version, kind, change.type == "DELETED", change.held.tree)


def modelled(scene: Play, space: str, world: World | None = None) -> tuple[list[Outcome], list[list[Event]]]:
    """The answers, and what has happened by the end of each step."""
    model = ModelCluster(space, world or World(()))
    happened: list[list[Event]] = []

    def rest(number: int) -> None:
        model.rest()
        happened.append(sorted(model.events(), key=lambda event: event.version))

    return play(scene, model, space, rest), happened


def runs(scene: Play, space: str, count: int) -> list[list[list[Transition]]]:
    """Some of the ways in which a scene can go in the model."""
    return [transitions(modelled(scene, space, Uneven(how))[1][-1]) for how in (*SLOW, *range(count))]


def judged(scene: Play, real: Sequence[Sequence[Transition]], space: str, count: int) -> list[str]:
    """Where a real run is none that the model can have, but for what is accepted."""
    found = (f"{scene.name}: {line}" for line in unlike(real, runs(scene, space, count)))
    return [line for line in found if not any(re.search(each.pattern, line) for each in SCENES_ACCEPTED)]
