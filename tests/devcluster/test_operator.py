"""The operator as processes on a real control plane: two replicas, crashes, restarts, broken connections, rest."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from devcluster.cluster import Cluster
from devcluster.waiting import eventually
from tests.devcluster import fleet, replica
from tests.devcluster.proxy import Moment, Proxy
from tests.devcluster.relay import Relay
from tests.devcluster.replica import Replica, quiet, writes


async def soon(predicate: Callable[[], Any], seconds: float = 60.0) -> Any:
    """``eventually`` that leaves the loop to proxies."""
    return await asyncio.to_thread(eventually, predicate, seconds)


async def converged(cluster: Cluster, namespace: str, machines: int) -> None:
    """``machines`` VMs exist and are Ready."""
    cluster.apply(*fleet.infrastructure())
    cluster.apply(*(fleet.machine(namespace, number) for number in range(machines)))
    await soon(lambda: fleet.standing(cluster, namespace).ready == machines, 180)


class Through:
    """A replica behind a proxy of its own, so that its writes are known from the other's, and when they were."""

    def __init__(self, cluster: Cluster, kubeconfig: Path, folder: Path, name: str, lease: str) -> None:
        self.times: list[float] = []
        self.proxy = Proxy(cluster.server, cluster.ca, self._note)
        self._kubeconfig = kubeconfig
        self._folder = folder
        self._name = name
        self._lease = lease

    async def _note(self, moment: Moment, number: int, method: str, path: str) -> None:
        if moment == "before":
            self.times.append(time.monotonic())

    async def start(self) -> None:
        await self.proxy.__aenter__()
        kubeconfig = replica.through(self._kubeconfig, self.proxy.url, self._folder)
        self.operator = Replica(kubeconfig, self._folder / f"{self._name}.log", "--lease-name", self._lease)
        await self.operator.start()

    async def stop(self) -> None:
        await self.operator.stop()
        await self.proxy.__aexit__(None)

    @property
    def leads(self) -> bool:
        return bool(self.operator.said("leading"))


async def test_when_the_leader_is_killed_the_other_acts_within_12_s_and_never_both(
    cluster: Cluster, installed: Path, namespace: str, tmp_path: Path
) -> None:
    one, two = (Through(cluster, installed, tmp_path, name, f"vdcos-{namespace}") for name in ("one", "two"))
    try:
        await one.start()
        await soon(lambda: one.leads)
        await two.start()
        await converged(cluster, namespace, 2)
        await soon(lambda: two.operator.said("listening"))
        assert one.times
        assert two.times == [], "a standby writes nothing"
        assert one.operator.total("vdcos_leader") == 1
        assert two.operator.total("vdcos_leader") == 0

        await one.operator.kill()
        killed, before = time.monotonic(), len(one.times)
        await asyncio.to_thread(cluster.apply, fleet.machine(namespace, 2))
        await soon(lambda: two.times, 20)
        took = two.times[0] - killed
        print(f"the other acted {took:.1f} s after the leader's death")
        assert took < 12
        await soon(lambda: fleet.standing(cluster, namespace).ready == 3, 120)
        assert len(one.times) == before, "the dead write nothing"

        # It comes back as a standby, and takes over at once when the leader stops in good order.
        await one.operator.start()
        await soon(lambda: len(one.operator.said("listening")) == 2)
        stopped = time.monotonic()
        await two.operator.stop()
        assert two.operator.said("lease released")
        await asyncio.to_thread(cluster.apply, fleet.machine(namespace, 3))
        await soon(lambda: len(one.times) > before, 20)
        took = one.times[before] - stopped
        print(f"the other acted {took:.1f} s after the leader's stop")
        assert took < 6
        assert max(two.times) < one.times[before]
    finally:
        await one.stop()
        await two.stop()


def redirected(kubeconfig: Path, url: str, folder: Path) -> Path:
    """A copy of a kubeconfig that goes to another address and trusts the same authority."""
    document: dict[str, Any] = yaml.safe_load(kubeconfig.read_text())
    document["clusters"][0]["cluster"]["server"] = url
    copy = folder / "relayed.kubeconfig"
    copy.touch(0o600)
    copy.write_text(yaml.safe_dump(document))
    return copy


async def test_nothing_is_written_at_rest_after_a_restart_and_after_a_relist(
    cluster: Cluster, installed: Path, namespace: str, tmp_path: Path
) -> None:
    async with Relay(cluster.server) as relay:
        kubeconfig = redirected(installed, relay.url, tmp_path)
        first = Replica(kubeconfig, tmp_path / "first.log", "--standalone")
        second = Replica(kubeconfig, tmp_path / "second.log", "--standalone")
        try:
            await first.start()
            await converged(cluster, namespace, 5)
            await quiet(cluster)
            mark = cluster.audit_mark()
            await first.stop()
            assert first.said("stopped")

            await second.start()
            await second.at_rest(5 + 2)
            assert writes(cluster, mark) == [], "a restart writes nothing"

            kinds = len([key for key in second.metrics() if key.startswith("vdcos_watch_age_seconds{")])
            absent = second.total("vdcos_api_errors_total", 'verb="list"', 'code="404"')
            assert relay.cut() >= kinds - absent
            await soon(lambda: second.total("vdcos_lists_total", 'reason="Unreachable"') >= kinds - absent)
            looks = second.total("vdcos_reconciles_total", 'vservice="virtualmachine"')
            cluster.kubectl("label", "namespace", namespace, "seen=again")  # and all of its VMs are looked at
            await soon(lambda: second.total("vdcos_reconciles_total", 'vservice="virtualmachine"') >= looks + 5)
            await second.at_rest(0)
            assert writes(cluster, mark) == [], "a list of everything writes nothing"

            # And the watches that followed do work.
            await asyncio.to_thread(cluster.apply, fleet.machine(namespace, 5))
            await soon(lambda: fleet.standing(cluster, namespace).ready == 6, 120)
            assert writes(cluster, mark), "the audit log shows what the operator writes"
        finally:
            await first.stop()
            await second.stop()


async def plan(cluster: Cluster, kubeconfig: Path, manifest: dict[str, Any] | None = None) -> tuple[int, str]:
    """The exit status and the output of ``vdcos plan``."""
    files = ("-f", "-") if manifest else ()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vdcos", "plan", "--kubeconfig", str(kubeconfig), *files),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate(json.dumps(manifest).encode() if manifest else None)
    return process.returncode or 0, out.decode()


async def test_a_plan_shows_what_the_operator_would_do_and_does_nothing(
    cluster: Cluster, installed: Path, namespace: str, tmp_path: Path
) -> None:
    operator = Replica(installed, tmp_path / "operator.log", "--standalone")
    try:
        await operator.start()
        await converged(cluster, namespace, 1)
        await quiet(cluster)
    finally:
        await operator.stop()
    mark = cluster.audit_mark()
    status, out = await plan(cluster, installed)
    assert (status, out.splitlines()[-1][:10]) == (0, "0 actions ")
    bigger = fleet.machine(namespace, 0)
    bigger["spec"]["disks"].append({"name": "more", "size": "1Gi", "datastore": fleet.DATASTORE})
    status, out = await plan(cluster, installed, bigger)
    assert status == 2
    assert f"VirtualMachine {namespace}/vm-0000" in out
    assert "create  DataVolume.cdi.kubevirt.io" in out
    assert cluster.writes(replica.USER, since=mark) == []


async def test_the_api_server_dies_and_comes_back_and_nothing_is_written(tmp_path: Path) -> None:
    """An API server that starts says 403, 404 and 503 before it knows better: no reason to write anything.

    On a cluster of its own, without hosts: the others' controllers would need a while to recover.
    """
    namespace = "default"
    with Cluster.running(hosts=0, directory=tmp_path / "cluster") as cluster:
        operator = Replica(replica.install(cluster), tmp_path / "operator.log")
        try:
            await operator.start()
            cluster.apply(*fleet.infrastructure(), fleet.machine(namespace, 0), fleet.machine(namespace, 1))
            await soon(lambda: len(fleet.standing(cluster, namespace).children) == 4)
            await quiet(cluster)
            mark = cluster.audit_mark()
            (server,) = (process for process in cluster.record.processes if process.name == "kube-apiserver")
            assert server.pid
            os.kill(server.pid, signal.SIGKILL)
            killed = time.monotonic()

            def recovered() -> bool:
                """Every source has heard something since; and the Lease is ours again."""
                gauges = operator.metrics()
                ages = [value for key, value in gauges.items() if key.startswith("vdcos_watch_age_seconds{")]
                return max(ages) < time.monotonic() - killed - 1 and gauges["vdcos_leader"] == 1

            await soon(recovered, 120)
            await operator.at_rest(0)
            assert writes(cluster, mark) == []
            cluster.kubectl("delete", "virtualmachines.vdcos.dev", "vm-0001", "-n", namespace, "--wait=false")
            await soon(lambda: writes(cluster, mark))  # one user less is worth a write
        finally:
            await operator.stop()
