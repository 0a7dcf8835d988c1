"""A host with 1, 20 and 100 VMs loses power: how long until the last of them runs elsewhere, stage by stage.

With vdcos; and without it, by somebody who knows at once what has happened: who deletes all pods by force, who puts the
out-of-service taint on the node, and who does nothing. KubeVirt's and Kubernetes' controllers are real and have their
default times; only hosts are simulated.
"""

import asyncio
import base64
import contextlib
import json
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

import aiohttp
import msgspec

from devcluster import supervisor
from devcluster.cluster import Cluster
from devcluster.waiting import until
from tests.bench.plane import BenchError, Json
from tests.bench.rates import Sizes, rounded
from tests.devcluster import fleet, replica
from vdcos.core import hosts

HOSTS = 4
VICTIM = "host-4"
OTHERS = tuple(f"host-{number}" for number in range(1, HOSTS))
POLICY = "bench"
GRACE, TUNED_GRACE = 50, 12
"""Seconds until Kubernetes calls a silent node NotReady: its own default; and what goes with kubelets that renew their
Lease every 3 s."""
TUNED: Json = {
    "detection": {"leaseSeconds": 5, "probe": {"failures": 2, "intervalSeconds": 1}},
    "fencing": {"quietSeconds": 5},
}
PATIENCE = 300.0
CUT = 120.0
"""So long is waited for VMs of a dead host when nobody does anything. They do not restart before somebody does."""
PARALLEL = 32

OURS, VMIS = "/apis/vdcos.dev/v1alpha1", "virtualmachineinstances"
Act = Callable[["Outage"], Awaitable[None]]


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    uid: str
    labels: dict[str, str] = {}


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    phase: str = ""
    node_name: str = ""
    receipt: Json | None = None
    released: bool = False


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    renew_time: str = ""


class _Slim(msgspec.Struct, frozen=True):
    metadata: _Meta
    status: _Status = _Status()
    spec: _Spec = _Spec()


class _Event(msgspec.Struct, frozen=True):
    type: str
    object: _Slim


_decode = msgspec.json.Decoder(_Event).decode


@dataclass
class Outage:
    """One power cut, and when what followed was seen. Times are Unix seconds; 0 for what was not seen."""

    who: str
    vms: int
    died: frozenset[str]
    """The uids of the instances that die."""
    cut: float = 0.0
    declared: float = 0.0
    proved: float = 0.0
    released: float = 0.0
    """The last write that was needed so that VMs restart."""
    made: dict[str, float] = field(default_factory=dict)
    """When the new instance of each VM was there."""
    up: dict[str, float] = field(default_factory=dict)
    """When it ran."""

    @property
    def is_over(self) -> bool:
        return len(self.up) == self.vms

    def stages(self) -> Json:
        """Seconds that each took; None for what did not happen. ``create`` begins with the last release, ``boot`` with
        the last new instance, so that all of them together are the total."""
        if not self.is_over:
            return {"who": self.who, "vms": self.vms, "running": f"{len(self.up)} after {CUT:.0f} s, then cut off"}
        made, up = max(self.made.values()), max(self.up.values())
        before = self.proved or self.cut
        found: Json = {"who": self.who, "vms": self.vms}
        if self.proved:
            found |= {"detect": self.declared - self.cut, "fence": self.proved - self.declared}
        if self.released:
            found |= {"release": self.released - before}
        found |= {
            "create": made - (self.released or before),
            "boot": up - made,
            "total": up - self.cut,
            "last new VMI after release began": made - before,
        }
        return rounded(found)


class Bench:
    """A devcluster with VMs on a host, which loses power again and again."""

    def __init__(self, cluster: Cluster, session: aiohttp.ClientSession, operator: replica.Replica) -> None:
        self._cluster, self._session, self._operator = cluster, session, operator
        self._round = 0

    async def request(self, method: str, path: str, body: Json | None = None, kind: str = "merge-patch+json") -> Json:
        """One call as administrator. Raises BenchError when refused."""
        headers = {"Content-Type": "application/json" if method == "POST" else f"application/{kind}"}
        data = None if body is None else json.dumps(body).encode()
        async with self._session.request(method, self._cluster.server + path, data=data, headers=headers) as response:
            text = await response.text()
            if response.status >= 300:
                raise BenchError(f"{method} {path}: {response.status} {text[:300]}")
            answer: Json = json.loads(text)
            return answer

    async def items(self, path: str) -> list[Json]:
        found: list[Json] = (await self.request("GET", path))["items"]
        return found

    # Before

    async def declare(self, policy: Json) -> None:
        """A policy with this detection and fencing, and the host's power switch."""
        bmc = self._cluster.bmc(VICTIM)
        data = {key: base64.b64encode(bmc[key].encode()).decode() for key in ("username", "password", "ca.crt")}
        secret = {"apiVersion": "v1", "kind": "Secret", "data": data}
        named = secret | {"metadata": {"name": f"bmc-{VICTIM}", "namespace": replica.NAMESPACE}}
        switch = {"address": bmc["address"], "system": bmc["system"], "credentials": f"bmc-{VICTIM}"}
        # It fails more often here than a host is forgiven; and nobody measures how soon it is used again. All VMs start
        # while only one host is open, which leaves no room to be kept free.
        more = {"recovery": {"quietSeconds": 0, "quarantineAfter": 20}, "admissionControl": {"mode": "Warn"}}
        await asyncio.to_thread(
            self._cluster.apply,
            *fleet.infrastructure(),
            named,
            _ours("Host", VICTIM, {"bmc": {"redfish": switch}}),
            _ours("HAPolicy", POLICY, {**policy, **more}),
        )

    async def populate(self, namespace: str, vms: int) -> None:
        """A namespace with VMs, all on the host."""
        await self.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        async with self._only_there():
            await asyncio.to_thread(self._cluster.apply, *(fleet.machine(namespace, number) for number in range(vms)))
            await self._until(lambda: self._all_there(namespace, vms), "VMs run")

    async def gather(self, namespace: str) -> None:
        """All VMs of a namespace are on the host again."""
        async with self._only_there():
            here = await self.items(f"/apis/kubevirt.io/v1/namespaces/{namespace}/{VMIS}")
            away = [each for each in here if each["status"].get("nodeName") != VICTIM]
            for each in away:
                name = each["metadata"]["name"]
                await self.request("DELETE", f"/apis/kubevirt.io/v1/namespaces/{namespace}/{VMIS}/{name}")
            await self._until(lambda: self._all_there(namespace, len(here)), "VMs are back")

    async def leave(self, namespace: str) -> None:
        """No VM of a namespace is on the host any more: the next ones are alone there."""
        await self._cordon((VICTIM,), True)
        path = f"/apis/kubevirt.io/v1/namespaces/{namespace}/{VMIS}"
        here = await self.items(path)
        for each in here:
            await self.request("DELETE", f"{path}/{each['metadata']['name']}")

        async def away() -> bool:
            running = [each for each in await self.items(path) if each["status"].get("phase") == "Running"]
            return len(running) == len(here) and all(each["status"]["nodeName"] != VICTIM for each in running)

        await self._until(away, "VMs are elsewhere")
        await self._cordon((VICTIM,), None)

    @contextlib.asynccontextmanager
    async def _only_there(self) -> AsyncIterator[None]:
        await self._cordon(OTHERS, True)
        yield
        await self._cordon(OTHERS, None)

    async def _cordon(self, names: Iterable[str], value: bool | None) -> None:
        for name in names:
            await self.request("PATCH", f"/api/v1/nodes/{name}", {"spec": {"unschedulable": value}})

    async def _all_there(self, namespace: str, vms: int) -> bool:
        here = await self.items(f"/apis/kubevirt.io/v1/namespaces/{namespace}/{VMIS}")
        running = [each for each in here if each["status"].get("phase") == "Running"]
        return len(running) == vms and all(each["status"]["nodeName"] == VICTIM for each in running)

    async def _until(self, condition: Callable[[], Awaitable[object]], what: str) -> None:
        try:
            await until(condition, PATIENCE, every=0.5)
        except TimeoutError:
            raise BenchError(f"not within {PATIENCE:.0f} s: {what}") from None

    async def operate(self, yes: bool) -> None:
        """The operator runs and has seen everything; or does not run."""
        if not yes:
            await self._operator.stop()
            return
        await self._operator.start()
        self._round += 1
        # What it says of a policy that has just changed was said by this very process.
        path = f"{OURS}/hapolicies/{POLICY}"
        await self.request("PATCH", path, {"spec": {"recovery": {"windowSeconds": 86400 - self._round}}})

        async def sees() -> bool:
            policy = await self.request("GET", path)
            status = policy.get("status", {})
            seen = status.get("observedGeneration") == policy["metadata"]["generation"]
            return bool(seen and status.get("connected") == HOSTS)

        await self._until(sees, "the operator sees all hosts")

    # The power cut

    async def outage(self, who: str, namespace: str, act: Act | None = None, patience: float = PATIENCE) -> Outage:
        """Cut the host's power right after it has renewed its Lease, which is the worst moment.

        ``act`` is what somebody does about it; without one, vdcos does.
        """
        path = f"/apis/kubevirt.io/v1/namespaces/{namespace}/{VMIS}"
        there = await self.items(path)
        found = Outage(who, len(there), frozenset(each["metadata"]["uid"] for each in there))
        mark = self._cluster.audit_mark()
        renewed, over = asyncio.Event(), asyncio.Event()

        def lease(event: _Event) -> None:
            if event.type == "MODIFIED":
                renewed.set()

        def vmi(event: _Event) -> None:
            seen, now = event.object, time.time()
            if seen.metadata.uid in found.died or event.type == "DELETED":
                return
            found.made.setdefault(seen.metadata.name, now)
            if seen.status.phase == "Running" and seen.status.node_name not in ("", VICTIM):
                found.up.setdefault(seen.metadata.name, now)
            if found.is_over:
                over.set()

        def failure(event: _Event) -> None:
            seen, now = event.object, time.time()
            if seen.metadata.labels.get(hosts.HOST) != VICTIM or not found.cut:
                return
            found.declared = found.declared or now
            if seen.status.receipt is not None:
                found.proved = found.proved or now

        leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        async with contextlib.AsyncExitStack() as stack:
            for what, heard in ((path, vmi), (f"{OURS}/hostfailures", failure)):
                await stack.enter_async_context(self._watching(what, heard))
            async with self._watching(leases, lease, f"&fieldSelector=metadata.name%3D{VICTIM}"):
                await asyncio.wait_for(renewed.wait(), PATIENCE)
            await asyncio.to_thread(lambda: self._cluster.fault("power-off", host=VICTIM))
            found.cut = time.time()
            if act is not None:
                await act(found)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), patience)
        if not found.is_over and patience == PATIENCE:
            raise BenchError(f"{who}: {len(found.up)} of {found.vms} VMs run after {PATIENCE:.0f} s")
        if found.proved:
            writes = self._cluster.writes(replica.USER, since=mark)
            freeing = [w for w in writes if (w.verb, w.resource) in (("delete", "pods"), ("patch", "nodes"))]
            times = [datetime.fromisoformat(write.at).timestamp() for write in freeing]
            found.released = max(at for at in times if at < max(found.made.values()))
        _said(found)
        return found

    @contextlib.asynccontextmanager
    async def _watching(self, path: str, heard: Callable[[_Event], None], more: str = "") -> AsyncIterator[None]:
        version = (await self.request("GET", f"{path}?limit=1"))["metadata"]["resourceVersion"]
        url = f"{self._cluster.server}{path}?watch=true&timeoutSeconds=3600&resourceVersion={version}{more}"

        async def follow() -> None:
            async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=None)) as response:
                rest = b""
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        heard(_decode(line))

        task = asyncio.create_task(follow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def delete_pods(self, found: Outage) -> None:
        """By hand: nothing new lands on the host, and all of its VMs' pods are deleted by force."""
        await self._cordon((VICTIM,), True)
        pods = await self.items(f"/api/v1/pods?fieldSelector=spec.nodeName%3D{VICTIM}&labelSelector=kubevirt.io")
        slots = asyncio.Semaphore(PARALLEL)

        async def delete(pod: Json) -> None:
            meta = pod["metadata"]
            path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}?gracePeriodSeconds=0"
            async with slots:
                await self.request("DELETE", path)
            found.released = time.time()

        launchers = [pod for pod in pods if pod["metadata"]["labels"]["kubevirt.io"] == "virt-launcher"]
        await asyncio.gather(*map(delete, launchers))

    async def taint(self, found: Outage) -> None:
        """By hand: the out-of-service taint, as Kubernetes' documentation has it."""
        taint = {"key": hosts.OUT_OF_SERVICE, "value": "nodeshutdown", "effect": "NoExecute"}
        await self.request("PATCH", f"/api/v1/nodes/{VICTIM}", {"spec": {"taints": [taint], "unschedulable": True}})
        found.released = time.time()

    async def nothing(self, found: Outage) -> None:
        """Kubernetes' defaults."""

    async def by_hand(self, who: str, act: Act, namespace: str) -> Outage:
        """A power cut from beginning to end, without the operator."""
        await self.gather(namespace)
        found = await self.outage(who, namespace, act)
        await self.mend(namespace, by_hand=True)
        return found

    # After

    async def mend(self, namespace: str, by_hand: bool) -> None:
        """The host boots and is used again, and all VMs run."""
        await asyncio.to_thread(lambda: self._cluster.fault("recover", host=VICTIM))
        if by_hand:
            await self._until(lambda: self._is_ready(), "the host is ready")
            await self.request("PATCH", f"/api/v1/nodes/{VICTIM}", {"spec": {"taints": None, "unschedulable": None}})
        wanted = len(await self.items(f"/apis/kubevirt.io/v1/namespaces/{namespace}/virtualmachines"))

        async def well() -> bool:
            node = await self.request("GET", f"/api/v1/nodes/{VICTIM}")
            marked = node["spec"].get("unschedulable") or node["spec"].get("taints")
            over = all(each["status"]["phase"] == "Completed" for each in await self.items(f"{OURS}/hostfailures"))
            here = await self.items(f"/apis/kubevirt.io/v1/namespaces/{namespace}/{VMIS}")
            running = sum(each["status"].get("phase") == "Running" for each in here)
            return not marked and over and running == wanted and await self._is_ready()

        await self._until(well, "the host is back and all VMs run")

    async def _is_ready(self) -> bool:
        node = await self.request("GET", f"/api/v1/nodes/{VICTIM}")
        state = await asyncio.to_thread(self._cluster.hosts, "state")
        truth = next(each for each in state["hosts"] if each["name"] == VICTIM)
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"])
        return bool(ready and truth["connected"] and node["status"]["nodeInfo"]["bootID"] == truth["bootID"])


def _ours(kind: str, name: str, spec: Json) -> Json:
    return {"apiVersion": "vdcos.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def _said(found: Outage) -> None:
    words = "  ".join(f"{key} {value}" for key, value in found.stages().items() if key not in ("who", "vms"))
    print(f"  {found.who:<28} {found.vms:>3} VMs  {words}", file=sys.stderr, flush=True)


@contextlib.asynccontextmanager
async def _running(directory: Path, grace: int) -> AsyncIterator[Bench]:
    settings = supervisor.Settings(directory, HOSTS, node_monitor_grace=grace)
    cluster = await asyncio.to_thread(lambda: Cluster.start(settings, tied=True))
    try:
        kubeconfig = await asyncio.to_thread(replica.install, cluster)
        operator = replica.Replica(kubeconfig, directory / "operator.log", "--standalone")
        tls = ssl.create_default_context(cafile=str(cluster.ca))
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit=2 * PARALLEL),
            headers={"Authorization": f"Bearer {cluster.token}"},
            timeout=aiohttp.ClientTimeout(total=60),
        ) as session:
            try:
                yield Bench(cluster, session, operator)
            finally:
                await operator.stop()
    finally:
        await asyncio.to_thread(cluster.stop)


async def outages(directory: Path, sizes: Sizes) -> Json:
    """vdcos with default settings, then by hand, then vdcos tuned; the same VMs every time."""
    found: list[Outage] = []
    async with _running(directory / "default", GRACE) as bench:
        await bench.declare({})
        await bench.operate(True)
        for vms in sizes.on_a_host:
            await bench.populate(f"vms-{vms}", vms)
            await bench.leave(f"vms-{vms}")
        by_hand = partial(bench.by_hand, "pods deleted by hand", bench.delete_pods)
        for vms in sizes.on_a_host:
            await bench.operate(False)
            found.append(await by_hand(f"vms-{vms}"))
            await bench.gather(f"vms-{vms}")
            await bench.operate(True)
            found.append(await bench.outage("vdcos", f"vms-{vms}"))
            await bench.mend(f"vms-{vms}", by_hand=False)
        await bench.operate(False)
        found.append(await by_hand(f"vms-{sizes.on_a_host[-1]}"))
        found += [await bench.by_hand("taint set by hand", bench.taint, f"vms-{vms}") for vms in sizes.on_a_host]
        await bench.gather(f"vms-{sizes.on_a_host[0]}")
        found.append(await bench.outage("nobody does anything", f"vms-{sizes.on_a_host[0]}", bench.nothing, CUT))
    async with _running(directory / "tuned", TUNED_GRACE) as bench:
        await bench.declare(TUNED)
        await bench.operate(True)
        for vms in sizes.on_a_host[:2]:
            await bench.populate(f"vms-{vms}", vms)
            found.append(await bench.outage("vdcos, tuned", f"vms-{vms}"))
            await bench.mend(f"vms-{vms}", by_hand=False)
    return {"results": results(found), "rows": [each.stages() for each in found]}


def results(found: Iterable[Outage]) -> Json:
    """The figures that have targets: of the largest number of VMs, and the slowest detection and fencing of all."""
    by_who: dict[str, list[Outage]] = {}
    for each in found:
        by_who.setdefault(each.who, []).append(each)
    ours, by_hand, tuned = (by_who[who] for who in ("vdcos", "pods deleted by hand", "vdcos, tuned"))
    most = ours[-1]
    same = [each for each in by_hand if each.vms == most.vms]  # right before and right after
    made = sum(max(each.made.values()) - each.cut for each in same) / len(same)
    up = sum(max(each.up.values()) - each.cut for each in same) / len(same)
    return rounded(
        {
            "ha_detect_s": max(each.declared - each.cut for each in ours),
            "ha_detect_tuned_s": max(each.declared - each.cut for each in tuned),
            "ha_fence_s": max(each.proved - each.declared for each in (*ours, *tuned)),
            "ha_release_100_s": most.released - most.proved,
            "ha_last_vmi_ratio": (max(most.made.values()) - most.proved) / made,
            "ha_total_minus_boot_s": max(most.up.values()) - most.cut - up,
        }
    )
