"""Failures of hosts on purpose. Each drill has hosts of its own, which fail under a policy of their own, and VMs in a
namespace of their own, so that many go on at once. Their VMs restart on hosts that never fail.
"""

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from devcluster.cluster import Cluster
from devcluster.kube import Api, ApiError
from devcluster.waiting import until
from tests.devcluster import fleet
from tests.devcluster.replica import NAMESPACE
from vdcos.core import hosts
from vdcos.testing.hypervisor.values import micro_stamp

T = TypeVar("T")
Tree = dict[str, Any]

REFUGES = ("host-1", "host-2")
FAILURES = ("power-off", "partition", "hang", "api-cut")
LONG = 150.0
OURS = "/apis/vdcos.dev/v1alpha1"
THEIRS = "/apis/kubevirt.io/v1"
KINDS = {
    "Datastore": "datastores",
    "HAPolicy": "hapolicies",
    "Host": "hosts",
    "HostFailure": "hostfailures",
    "VirtualMachine": "virtualmachines",
}
TUNED: Tree = {
    "detection": {"leaseSeconds": 6, "probe": {"failures": 2, "intervalSeconds": 1}},
    "fencing": {"quietSeconds": 5, "retrySeconds": 5},
    "recovery": {"quietSeconds": 1, "quarantineAfter": 20},
}
"""For kubelets that renew their Lease every 3 s."""


async def soon(condition: Callable[[], Awaitable[T]], seconds: float = LONG) -> T:
    """Ask until the answer is something true, and return that. What is not there yet is no answer."""
    seen: list[T | Exception] = []

    async def asked() -> bool:
        try:
            seen[:] = [await condition()]
        except (AssertionError, ApiError, KeyError) as error:
            seen[:] = [error]
        return bool(seen[0]) and not isinstance(seen[0], Exception)

    try:
        await until(asked, seconds, every=0.2)
    except TimeoutError as late:
        raise AssertionError(f"not within {seconds:g} s; last seen: {seen!r}") from late
    value = seen[0]
    assert not isinstance(value, Exception)
    return value


class Drill:
    """What one drill does, and sees. The first of its hosts is the one that is meant when none is named."""

    def __init__(self, cluster: Cluster, api: Api, name: str, victims: tuple[str, ...], folder: Path) -> None:
        self.cluster, self.api, self.folder = cluster, api, folder
        self.name = self.namespace = name
        self.victims, self.host = victims, victims[0]
        self._here, self._fails = f"drills.test/{name}", "drills.test/fails-in"
        self._vms = 0
        self._failed_at = ""

    # What is declared

    async def open(self) -> None:
        """A namespace for it."""
        meta = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        await self.api.request("POST", "/api/v1/namespaces", meta)

    async def close(self) -> None:
        """The nodes are as before."""
        for host in (*self.victims, *REFUGES):
            await self.label(host, {self._here: None, self._fails: None})

    async def policy(self, **spec: Any) -> None:
        """The policy for its hosts: an operator that watches over them, and nobody else. It covers no others, so it
        cannot keep room for their failure."""
        for host in self.victims:
            await self.label(host, {self._fails: self.name})
        covers = {"hosts": {"matchLabels": {self._fails: self.name}}, "admissionControl": {"mode": "Warn"}}
        await self.apply("HAPolicy", self.name, {**covers, **TUNED, **spec})

    async def switch(self, host: str = "", secret: Mapping[str, str] | None = None, **redfish: Any) -> None:
        """The power switch of a host, with its Secret where the operator may read it."""
        bmc = self.cluster.bmc(host or self.host)
        known = {key: bmc[key] for key in ("username", "password", "ca.crt")}
        await self.secret(host or self.host, {**known, **(secret or {})})
        credentials = {"credentials": f"bmc-{host or self.host}"}
        where = {"address": bmc["address"], "system": bmc["system"]}
        await self.apply("Host", host or self.host, {"bmc": {"redfish": {**where, **credentials, **redfish}}})

    async def secret(self, host: str, values: Mapping[str, str]) -> None:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items() if value}
        meta = {"name": f"bmc-{host}", "namespace": NAMESPACE}
        await self._apply("/api/v1", "secrets", {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data})

    async def vms(self, host: str = "", **availability: Tree) -> None:
        """VMs that run on a host, and may run on the others as soon as that is allowed."""
        host = host or self.host
        await self.label(host, {self._here: "yes"})
        for name, said in availability.items():
            await self.vm(name, availability=said)
        await soon(lambda: self.run_on(host, *availability))

    async def vm(self, name: str, **spec: Any) -> None:
        self._vms += 1
        manifest = fleet.machine(self.namespace, self._vms)
        placement = {"nodeSelector": {self._here: "yes"}}
        await self.apply("VirtualMachine", name, {**manifest["spec"], "placement": placement, **spec})

    async def stay_off(self, *names: str) -> None:
        """No VM of this drill is placed on these hosts from now on."""
        for host in names:
            await self.label(host, {self._here: None})

    async def allow(self, *names: str) -> None:
        """VMs may restart on these hosts; on all that never fail, when none is named."""
        for host in names or REFUGES:
            await self.label(host, {self._here: "yes"})

    async def label(self, host: str, labels: Mapping[str, str | None]) -> None:
        await self.merge(f"/api/v1/nodes/{host}", {"metadata": {"labels": dict(labels)}})

    async def apply(self, kind: str, name: str, spec: Tree) -> None:
        meta = {"name": name} | ({"namespace": self.namespace} if kind == "VirtualMachine" else {})
        manifest = {"apiVersion": "vdcos.dev/v1alpha1", "kind": kind, "metadata": meta, "spec": spec}
        await self._apply(OURS, KINDS[kind], manifest)

    async def _apply(self, root: str, plural: str, manifest: Tree) -> None:
        meta = manifest["metadata"]
        inside = f"/namespaces/{meta['namespace']}" if "namespace" in meta else ""
        path = f"{root}{inside}/{plural}/{meta['name']}?fieldManager=drill&force=true"
        await self.api.patch(path, "apply", manifest)

    async def merge(self, path: str, body: Tree) -> Tree:
        return await self.api.patch(path, "merge", body)

    async def edit(self, vm: str, **spec: Any) -> None:
        await self.merge(f"{OURS}/namespaces/{self.namespace}/virtualmachines/{vm}", {"spec": spec})

    async def delete(self, path: str) -> None:
        await self.api.request("DELETE", path)

    async def say(self, **spec: Any) -> None:
        """What people say about the failure of the host."""
        name = (await self.failure())["metadata"]["name"]
        await self.merge(f"{OURS}/hostfailures/{name}", {"spec": spec})

    async def migrate(self, vm: str, target: str) -> None:
        """Ask KubeVirt to move a VM."""
        spec = {"vmiName": vm, "addedNodeSelector": {"kubernetes.io/hostname": target}}
        meta = {"name": f"move-{vm}", "namespace": self.namespace}
        path = f"{THEIRS}/namespaces/{self.namespace}/virtualmachineinstancemigrations"
        kind = "VirtualMachineInstanceMigration"
        await self.api.request(
            "POST", path, {"apiVersion": "kubevirt.io/v1", "kind": kind, "metadata": meta, "spec": spec}
        )

    async def ask(self, vm: str, action: str) -> None:
        """What virtctl does to an instance."""
        path = f"/apis/subresources.kubevirt.io/v1/namespaces/{self.namespace}/virtualmachineinstances/{vm}/{action}"
        await self.api.request("PUT", path, {})

    # What happens

    async def fault(self, kind: str, host: str = "", vm: str = "", **more: Any) -> None:
        about: Tree = {"vm": f"{self.namespace}/{vm}"} if vm else {"host": host or self.host}
        if kind in FAILURES and not self._failed_at:
            self._failed_at = micro_stamp(time.time())
        await asyncio.to_thread(lambda: self.cluster.fault(kind, **about, **more))

    # What is seen

    async def failure(self, host: str = "") -> Tree:
        """The last failure of a host; empty while there is none."""
        query = f"?labelSelector={hosts.HOST}%3D{host or self.host}"
        found = (await self.api.request("GET", f"{OURS}/hostfailures{query}"))["items"]
        return max(found, key=lambda each: (each["metadata"]["creationTimestamp"], _version(each)), default={})

    async def failures(self) -> int:
        query = f"?labelSelector={hosts.HOST}%3D{self.host}"
        return len((await self.api.request("GET", f"{OURS}/hostfailures{query}"))["items"])

    async def status(self, host: str = "") -> Tree:
        found: Tree = (await self.failure(host)).get("status", {})
        return found

    async def phase(self, host: str = "") -> str:
        return str((await self.status(host)).get("phase", ""))

    async def says(self, kind: str, host: str = "") -> Tree:
        """A condition of the failure."""
        return next((c for c in (await self.status(host)).get("conditions", []) if c["type"] == kind), {})

    async def has_asked(self, host: str = "") -> bool:
        """Whether a power switch was asked to act."""
        return bool((await self.status(host)).get("asked"))

    async def machine_is(self, name: str, state: str) -> bool:
        machines = (await self.status()).get("machines", [])
        return any((each["name"], each["state"]) == (name, state) for each in machines)

    async def is_told(self, words: str) -> bool:
        """Whether the condition Fenced says these words."""
        return words in (await self.says("Fenced")).get("message", "")

    async def state_of_host(self) -> str:
        found = await self.api.request("GET", f"{OURS}/hosts/{self.host}")
        return str(found["status"]["state"])

    async def instances(self) -> dict[str, Tree]:
        found = await self.api.request("GET", f"{THEIRS}/namespaces/{self.namespace}/virtualmachineinstances")
        return {item["metadata"]["name"]: item for item in found["items"]}

    async def running(self) -> dict[str, str]:
        """The hosts of the VMs that run, as KubeVirt says."""
        return {
            name: vmi["status"]["nodeName"]
            for name, vmi in (await self.instances()).items()
            if vmi["status"].get("phase") == "Running" and vmi["status"].get("nodeName")
        }

    async def run_on(self, host: str, *names: str) -> bool:
        running = await self.running()
        return all(running.get(name) == host for name in names)

    async def elsewhere(self) -> set[str]:
        """VMs that run on hosts that do not fail."""
        return {name for name, host in (await self.running()).items() if host in REFUGES}

    async def run_elsewhere(self, *names: str) -> bool:
        return set(names) <= await self.elsewhere()

    async def are_ready(self, *names: str) -> bool:
        """Whether their VirtualMachines say so."""
        items = (await self.api.request("GET", f"{OURS}/namespaces/{self.namespace}/virtualmachines"))["items"]
        told = {item["metadata"]["name"]: item.get("status", {}).get("conditions", []) for item in items}
        return all(any(c["type"] == "Ready" and c["status"] == "True" for c in told[name]) for name in names)

    async def vm_says(self, vm: str, kind: str) -> Tree:
        """A condition of a VirtualMachine."""
        found = await self.api.request("GET", f"{OURS}/namespaces/{self.namespace}/virtualmachines/{vm}")
        return next((c for c in found.get("status", {}).get("conditions", []) if c["type"] == kind), {})

    async def restarts(self) -> list[str]:
        """The VMs of which a process began after the first failure, in that order, by the hosts' own ledger."""
        return [each["name"] for each in await self._processes()]

    async def seconds_to_restart(self) -> float:
        """From the proof that the host was down until the last of them began."""
        proved = datetime.fromisoformat((await self.status())["receipt"]["at"])
        return max((datetime.fromisoformat(p["from"]) - proved).total_seconds() for p in await self._processes())

    async def _processes(self) -> list[Tree]:
        ledger = await asyncio.to_thread(self.cluster.hosts, "ledger")
        mine = [p for p in ledger["intervals"] if p["namespace"] == self.namespace and p["from"] >= self._failed_at]
        begun: dict[tuple[str, str], Tree] = {}
        for process in sorted(mine, key=lambda process: str(process["from"])):
            # A disk that is plugged in begins another interval of the same process.
            begun.setdefault((process["host"], process["vmi"]), process)
        return list(begun.values())

    async def never_twice(self) -> bool:
        """Whether no disk has ever had two writers."""
        ledger = await asyncio.to_thread(self.cluster.hosts, "ledger")
        return not [each for each in ledger["overlaps"] if each["first"]["namespace"] == self.namespace]

    async def node(self, host: str = "") -> Tree:
        return await self.api.request("GET", f"/api/v1/nodes/{host or self.host}")

    async def is_marked(self, host: str = "") -> bool:
        """Whether anything keeps VMs away from the host."""
        node = await self.node(host)
        taints = [taint["key"] for taint in node["spec"].get("taints", [])]
        cordoned = hosts.CORDONED_BY in node["metadata"].get("annotations", {}) or node["spec"].get("unschedulable")
        return bool(cordoned) or hosts.OUT_OF_SERVICE in taints

    async def truth(self, host: str = "") -> Tree:
        """What is true of a host, whatever anybody knows."""
        state = await asyncio.to_thread(self.cluster.hosts, "state")
        return next(each for each in state["hosts"] if each["name"] == (host or self.host))

    async def is_back(self, host: str = "") -> bool:
        """Whether the API server knows this very boot of the host, as ready."""
        node, truth = await self.node(host), await self.truth(host)
        ready = next(c["status"] for c in node["status"]["conditions"] if c["type"] == "Ready")
        same = node["status"]["nodeInfo"]["bootID"] == truth["bootID"]
        return bool(truth["connected"]) and same and ready == "True"

    async def ends(self, outcome: str, host: str = "") -> None:
        """The failure comes to its end, and leaves no mark."""
        await soon(lambda: self.is_over(host))
        assert (await self.status(host))["outcome"] == outcome
        assert not await self.is_marked(host)
        assert await self.never_twice()
        assert not _repeated(await self.restarts()), "each restarts once"

    async def is_over(self, host: str = "") -> bool:
        return await self.phase(host) == "Completed"

    async def told(self) -> str:
        """All that is known, for whoever reads why a drill failed."""
        pods = (await self.api.request("GET", f"/api/v1/namespaces/{self.namespace}/pods"))["items"]
        known: Tree = {"failures": [await self.failure(host) for host in self.victims], "running": await self.running()}
        known["hosts"] = [await self.truth(host) for host in self.victims]
        known["instances"], known["pods"] = [*(await self.instances()).values()], pods
        for each in (*known["failures"], *known["instances"], *known["pods"]):
            each.get("metadata", {}).pop("managedFields", None)
        return json.dumps(known, indent=1)


def _repeated(names: list[str]) -> set[str]:
    return {name for name in names if names.count(name) > 1}


def _version(item: Tree) -> int:
    return int(item["metadata"]["resourceVersion"])
