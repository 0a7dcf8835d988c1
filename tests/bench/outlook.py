"""What failure plans cost the operator: from objects in its store to what Hosts, policies and VMs are to say.

CPU seconds of one core. ``python -m tests.bench.outlook [--hosts N] [--machines N]`` prints them as JSON. What
placement alone takes of that, by the kind of change, is what ``python -m tests.bench.placement`` measures.
"""

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.placement import Datacenter
from tests.bench.rates import rounded
from vdcos import api
from vdcos.core import amounts, ownership
from vdcos.core.foreign import kubevirt
from vdcos.core.foreign.kubernetes import LauncherPod, Node, OtherPod
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.objects import Key
from vdcos.core.plan import Instant
from vdcos.providers import placement as p
from vdcos.providers.failover import room
from vdcos.providers.failover.outlook import OUTLOOK
from vdcos.runtime.answers import NOBODY, Answers
from vdcos.runtime.store import Store, View
from vdcos.services import catalogue

if TYPE_CHECKING:
    from tests.bench.rates import Sizes

Tree = dict[str, Any]
HOSTS, MACHINES, OTHERS, CHANGES = 1000, 10_000, 10, 7
"""Per host so many pods that are no VMs."""
CREATED = "2026-01-01T00:00:00Z"


class Filled:
    """A store that holds a datacenter, as an operator has it."""

    def __init__(self, datacenter: Datacenter) -> None:
        self.now = 0.0
        self.served = catalogue.services({})
        kinds, indexes = catalogue.kinds(self.served), catalogue.indexes(self.served)
        self.store = Store(kinds, indexes, catalogue.dated(self.served), lambda: self.now)
        self._versions = count(1)
        for host in datacenter.hosts:
            self._host(host)
        for machine in datacenter.machines:
            self._machine(machine)
        self.put(api.HAPolicy, _own("HAPolicy", "ha", "", {}))

    def put(self, kind: type[Any], tree: Tree) -> None:
        meta = {"uid": tree["metadata"]["name"], **tree["metadata"], "resourceVersion": str(next(self._versions))}
        self.store.put(kind, self.store.decoder(kind)(json.dumps({**tree, "metadata": meta}).encode()))

    def view(self, name: str) -> View:
        service = next(each for each in self.served if each.name == name)
        return View(self.store, service, Answers(NOBODY, lambda item: None, lambda: self.now))

    def _host(self, host: p.Host) -> None:
        meta = {"name": host.name, "labels": dict(host.labels)}
        allocatable = {name: _text(name, amount) for name, amount in host.allocatable.items()}
        self.put(Node, {"metadata": meta, "spec": {}, "status": {"allocatable": allocatable}})
        self.put(api.Host, _own("Host", host.name, "", {}))
        for number in range(OTHERS):
            requests = {"cpu": "50m", "memory": "200Mi"}
            self.put(OtherPod, _pod(f"daemon-{number}-{host.name}", "kube-system", host.name, requests))

    def _machine(self, machine: p.Machine) -> None:
        name, space = machine.name, machine.namespace
        self.put(LauncherPod, launcher(machine))
        status = {"phase": "Running", "nodeName": machine.host}
        self.put(VirtualMachineInstance, {"metadata": {"name": name, "namespace": space}, "spec": {}, "status": status})
        annotations = {ownership.ADMITTED: amounts.written(machine.requests)}
        owner = {"apiVersion": api.API_VERSION, "kind": "VirtualMachine", "name": name, "uid": name, "controller": True}
        meta = {"name": name, "namespace": space, "annotations": annotations, "ownerReferences": [owner]}
        self.put(kubevirt.VirtualMachine, {"metadata": meta, "spec": {"runStrategy": "Always"}})
        protected = {"type": "Protected", "status": "True", "reason": "RestartsElsewhere"}
        vm = _own("VirtualMachine", name, space, {"cpu": {}, "memory": {"size": "1Gi"}})
        self.put(api.VirtualMachine, {**vm, "status": {"conditions": [protected]}})


def launcher(machine: p.Machine, cpu: int = 0) -> Tree:
    """The pod of a VM; ``cpu`` is what it asks for beyond what it did."""
    requests = {**machine.requests, "cpu": machine.requests["cpu"] + cpu}
    pod = _pod(
        f"virt-launcher-{machine.name}", machine.namespace, machine.host, {n: _text(n, a) for n, a in requests.items()}
    )
    owner = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": machine.name, "uid": "i"}
    labels = {"kubevirt.io": "virt-launcher", **machine.labels}
    pod["metadata"] |= {"labels": labels, "ownerReferences": [owner]}
    rules = []
    for rule in machine.rules:
        selector = {"matchLabels": {each.key: each.values[0] for each in rule.selector}}
        rules.append({"topologyKey": rule.topology_key, "labelSelector": selector})
    pod["spec"] |= {
        "nodeSelector": {each.key: each.values[0] for each in machine.selector},
        "volumes": [{"name": "disk", "persistentVolumeClaim": {"claimName": f"disk-{machine.name}"}}],
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": rules}} if rules else {},
    }
    return pod


def _pod(name: str, namespace: str, on: str, requests: Tree) -> Tree:
    spec = {"nodeName": on, "containers": [{"name": "x", "resources": {"requests": requests}}]}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec, "status": {"phase": "Running"}}


def _own(kind: str, name: str, namespace: str, spec: Tree) -> Tree:
    meta = {"name": name, "generation": 1, "creationTimestamp": CREATED}
    return {
        "apiVersion": api.API_VERSION,
        "kind": kind,
        "metadata": {**meta, **({"namespace": namespace} if namespace else {})},
        "spec": spec,
    }


def _text(name: str, amount: int) -> str:
    return f"{amount}m" if name == "cpu" else str(amount)


def seconds(work: Callable[[], object]) -> float:
    # CPU time: one thread works without waiting, and what else the machine does is no part of it.
    began = time.process_time()
    work()
    return time.process_time() - began


def measure(hosts: int, machines: int) -> dict[str, float]:
    """All figures, for a datacenter of that size."""
    datacenter = Datacenter.built(hosts, machines)
    there = Filled(datacenter)
    gc.collect()
    gc.freeze()  # as the operator does
    found = {"failure_plan_cold_s": seconds(lambda: there.store.derived(OUTLOOK))}
    changed = []
    for number in range(CHANGES):
        there.now += OUTLOOK.every
        there.put(LauncherPod, launcher(datacenter.machines[machines // 2 + number], cpu=8000))
        changed.append(seconds(lambda: there.store.derived(OUTLOOK)))
    found["failure_plan_incremental_s"] = statistics.median(changed)
    policy, vm = there.view("hapolicy"), there.view("virtualmachine")
    service = next(each for each in there.served if each.name == "hapolicy")
    cr = there.store.parse(api.HAPolicy, there.store.heard(api.HAPolicy, Key("", "ha")))  # type: ignore[arg-type]
    now = Instant(1e9, there.now)
    look = seconds(lambda: service.plan(cr, service.observe(Key("", "ha"), policy), now))
    found["policy_look_ms"] = 1000 * look
    found["admission_ms"] = 1000 * seconds(lambda: room.account(vm))
    return found


async def plans(_: Path, __: "Sizes") -> dict[str, Any]:
    """The section of ``make bench``: of the same size in every run, so that the targets mean something."""
    found = rounded(measure(HOSTS, MACHINES))
    return {"results": {name: found[name] for name in found if name.startswith("failure_plan")}, "rows": [found]}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("tests.bench.outlook", description=__doc__)
    parser.add_argument("--hosts", type=int, default=HOSTS)
    parser.add_argument("--machines", type=int, default=MACHINES)
    chosen = parser.parse_args(arguments)
    print(json.dumps(rounded(measure(chosen.hosts, chosen.machines)), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
