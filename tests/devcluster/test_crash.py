"""The operator is killed right before or after its k-th write, again and again: the end is the same."""

import asyncio
import random
from pathlib import Path

from devcluster.cluster import Cluster
from devcluster.waiting import eventually, until
from tests.devcluster import fleet, replica
from tests.devcluster.proxy import Moment, Proxy

MACHINES = 50
KILLS = 20


async def test_killed_at_any_write_the_end_is_the_same(
    cluster: Cluster, installed: Path, namespace: str, tmp_path: Path
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    killed = 0
    current: replica.Replica
    died = asyncio.Event()

    # A fault-free life makes about 3.5 writes per VM: the kills are spread over the first three of each.
    strokes = {number: dice.choice(("before", "after")) for number in dice.sample(range(1, 3 * MACHINES), KILLS)}

    async def strike(moment: Moment, number: int, method: str, path: str) -> None:
        nonlocal killed
        if strokes.get(number) == moment:
            del strokes[number]
            killed += 1
            await current.kill()
            died.set()

    cluster.apply(*fleet.infrastructure())
    async with Proxy(cluster.server, cluster.ca, strike) as proxy:
        kubeconfig = replica.through(installed, proxy.url, tmp_path)

        async def live() -> None:
            """Start a replica, and another one whenever it is killed."""
            nonlocal current
            while True:
                died.clear()
                current = replica.Replica(kubeconfig, tmp_path / "operator.log", "--standalone")
                await current.start()
                await died.wait()

        async def declare() -> None:
            """No faster than the operator writes, so that it is killed in the middle of the declarations."""
            for number in range(MACHINES):

                async def keeps_up(declared: int = number) -> bool:
                    return len(proxy.writes) >= declared

                await until(keeps_up, 60)
                await asyncio.to_thread(cluster.apply, fleet.machine(namespace, number))

        alive = asyncio.create_task(live())
        try:
            await declare()
            await asyncio.to_thread(eventually, lambda: fleet.standing(cluster, namespace).ready == MACHINES, 240)
            stand = fleet.standing(cluster, namespace)
        finally:
            alive.cancel()
            await current.stop()
    print(f"killed {killed} times, {len(proxy.writes)} writes")
    assert killed == KILLS, f"seed {seed}: only {killed} writes were struck"
    names = [f"vm-{number:04}" for number in range(MACHINES)]
    assert sorted(stand.machines) == names
    machines = {child for child in stand.children if child[0] == "VirtualMachine"}
    assert machines == {("VirtualMachine", name, f"VirtualMachine/{name}") for name in names}
    disks = [child for child in stand.children if child[0] == "DataVolume"]
    assert len(disks) == MACHINES, "one disk each: no duplicate, no orphan"
    assert {owner for _, _, owner in disks} == {""}, "a retained disk has no owner"
