"""The operator is killed at every step of a host's failure, and started again: the end is the same."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from devcluster.cluster import Cluster
from devcluster.kube import Api
from tests.devcluster import fleet, replica
from tests.devcluster.drills import Drill, soon
from tests.devcluster.proxy import Moment, Proxy
from tests.devcluster.replica import Replica

HOST = "host-4"
STEPS = ("declared", "cordoned", "asked", "proved", "counted", "held", "tainted", "removed", "released", "back", "over")
"""What has just been stored when the operator is killed. It is killed before a pod is removed, and after all others."""


@pytest_asyncio.fixture
async def drill(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Drill]:
    async with Api(cluster.server, cluster.token, cluster.ca) as api:
        drill = Drill(cluster, api, "crashes", (HOST,), tmp_path)
        await soon(drill.is_back)
        cluster.apply(*fleet.infrastructure())
        await drill.open()
        yield drill
        await drill.fault("recover")
        cluster.kubectl("delete", "namespace", drill.namespace, "--wait=false")
        cluster.kubectl("delete", "hapolicy", drill.name, "--ignore-not-found")
        cluster.kubectl("delete", "hosts.vdcos.dev", HOST)
        await soon(drill.is_back)
        await drill.close()


async def test_killed_at_every_step_the_end_is_the_same(
    cluster: Cluster, installed: Path, drill: Drill, tmp_path: Path
) -> None:
    steps: list[str] = []
    lives = itertools.count(1)
    died, current = asyncio.Event(), Replica(installed, tmp_path / "operator.log", "--standalone")

    async def done(method: str, path: str) -> set[str]:
        """The steps that are behind us, when a write is over."""
        if method == "POST" and path.endswith("/hostfailures"):
            return {"declared"}
        if "/virtualmachines/" in path:
            machines = (await drill.status()).get("machines", [])
            return {"held"} if any(each["state"] == "Held" for each in machines) else set()
        if "/nodes/" in path:
            spec = (await drill.node())["spec"]
            return {step for step, key in (("cordoned", "unschedulable"), ("tainted", "taints")) if spec.get(key)}
        if "/hostfailures/" not in path:
            return set()
        status = await drill.status()
        fields = {"asked": "asked", "receipt": "proved", "vms": "counted", "released": "released", "backSince": "back"}
        over = {"over"} if status.get("phase") == "Completed" else set()
        return {step for field, step in fields.items() if status.get(field)} | over

    async def strike(moment: Moment, number: int, method: str, path: str) -> None:
        removes = moment == "before" and method == "DELETE" and "/pods/" in path
        behind = {"removed"} if removes else await done(method, path) if moment == "after" else set()
        for step in STEPS:
            if step in behind and step not in steps:
                steps.append(step)
                await current.kill()
                died.set()
                return

    async with Proxy(cluster.server, cluster.ca) as proxy:
        kubeconfig = replica.through(installed, proxy.url, tmp_path)

        async def live() -> None:
            nonlocal current
            while True:
                died.clear()
                current = Replica(kubeconfig, tmp_path / f"operator-{next(lives)}.log", "--standalone")
                await current.start()
                await died.wait()

        alive = asyncio.create_task(live())
        try:
            await drill.switch()
            await drill.policy()
            await drill.vms(db={"restartPriority": "High"}, web={"restartPriority": "Low"})
            await drill.allow()
            before = await drill.truth()
            proxy.hook = strike
            await drill.fault("hang")
            await soon(lambda: drill.run_elsewhere("db", "web"))
            await drill.fault("recover")
            await drill.ends("Recovered")
            await soon(lambda: drill.are_ready("db", "web"))
        finally:
            alive.cancel()
            await current.stop()
    assert set(steps) == set(STEPS)
    assert await drill.restarts() == ["db", "web"]
    truth = await drill.truth()
    resets = truth["resets"][len(before["resets"]) :]
    assert {reset["boot"] for reset in resets} == {before["bootID"]}, "its next life was left alone"
    assert truth["powered"]
    assert truth["bootID"] != before["bootID"]
