"""How long failure plans take for 1,000 hosts and 10,000 VMs: CPU seconds of one core, as JSON.

Usage: python -m tests.bench.placement [--hosts N] [--machines N]
"""

import argparse
import dataclasses
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from vdcos.providers import placement as p

GIB = 1 << 30
HOSTNAME, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
APART = p.Rule("Apart", (), HOSTNAME)


@dataclass
class Datacenter:
    """Hosts of 64 to 128 cores and 0.5 to 1 TiB, about 60 % full; a fifth of the VMs in groups of four, kept apart."""

    hosts: list[p.Host]
    machines: list[p.Machine]

    @classmethod
    def built(cls, hosts: int, machines: int, *, distinct: bool = False) -> "Datacenter":
        """``distinct``: no two VMs ask for the same amount of memory."""
        chance = random.Random(1)
        has = [(chance.choice([64, 96, 128]) * 1000, chance.choice([512, 768, 1024]) * GIB) for _ in range(hosts)]
        used = [[0, 0, 0] for _ in range(hosts)]
        made = []
        for number in range(machines):
            vcpus = chance.choice([2, 4, 8, 16])
            spec = {
                "cpu": {"cores": vcpus},
                "memory": {"guest": f"{chance.choice([8, 16, 32, 48, 64, 96])}Gi"},
                "resources": {"requests": {"cpu": f"{vcpus * 800}m"}},
            }
            requests = p.launcher_requests({"domain": spec})
            requests["memory"] += number if distinct else 0
            at = chance.randrange(hosts)
            while not _fits(requests, used[at], has[at]):
                at = chance.randrange(hosts)
            used[at] = [used[at][0] + requests["cpu"], used[at][1] + requests["memory"], used[at][2] + 1]
            grouped = number % 5 == 0
            group = {"group": f"group-{number // 20}"} if grouped else {}
            made.append(
                p.Machine(
                    namespace=f"tenant-{number % 50}" if not grouped else "grouped",
                    name=f"vm-{number:05}",
                    requests=requests,
                    host=f"host-{at:04}",
                    labels={"app": f"app-{number % 100}", **group},
                    selector=p.with_labels({"kubevirt.io/schedulable": "true", "kubernetes.io/arch": "amd64"}),
                    rules=(APART._replace(selector=p.with_labels(group)),) if grouped else (),
                    priority=chance.choice(list(p.Priority)[:5]),
                )
            )
        return cls([_host(number, has[number], used[number]) for number in range(hosts)], made)


def _fits(requests: p.Amounts, used: list[int], has: tuple[int, int]) -> bool:
    return used[0] + requests["cpu"] <= 0.8 * has[0] and used[1] + requests["memory"] <= 0.8 * has[1]


def _host(number: int, has: tuple[int, int], used: list[int]) -> p.Host:
    cpu, memory, count = used
    devices = {f"devices.kubevirt.io/{name}": 1000 for name in ("kvm", "tun", "vhost-net")}
    return p.Host(
        name=f"host-{number:04}",
        allocatable={"cpu": has[0], "memory": has[1], "pods": 250, **devices},
        used={"cpu": cpu + 500, "memory": memory + 2 * GIB, "pods": count + 10, **dict.fromkeys(devices, count)},
        labels={
            HOSTNAME: f"host-{number:04}",
            ZONE: f"zone-{number % 3}",
            "kubevirt.io/schedulable": "true",
            "kubernetes.io/arch": "amd64",
        },
    )


def changes(before: Datacenter) -> dict[str, Callable[[], Datacenter]]:
    """One VM or one host otherwise, in every way that costs differently."""
    hosts, machines = before.hosts, before.machines
    at, other = len(machines) // 2, len(hosts) // 2
    share = [host.used.get("memory", 0) / host.allocatable["memory"] for host in hosts]
    emptiest = share.index(min(share))

    def vm(**fields: object) -> Datacenter:
        changed = dataclasses.replace(machines[at], **fields)  # type: ignore[arg-type]
        return Datacenter(hosts, [*machines[:at], changed, *machines[at + 1 :]])

    def host(number: int, **fields: object) -> Datacenter:
        changed = dataclasses.replace(hosts[number], **fields)  # type: ignore[arg-type]
        return Datacenter([*hosts[:number], changed, *hosts[number + 1 :]], machines)

    def anew() -> Datacenter:
        again = vm(priority=p.Priority.LOW)
        return Datacenter(
            [dataclasses.replace(each) for each in again.hosts], [dataclasses.replace(each) for each in again.machines]
        )

    fuller = {**hosts[other].used, "memory": hosts[other].used["memory"] + 8 * GIB}
    return {
        "vm grows": lambda: vm(requests={**machines[at].requests, "memory": 48 * GIB}),
        "vm is gone": lambda: Datacenter(hosts, [*machines[:at], *machines[at + 1 :]]),
        "vm moves": lambda: vm(host=hosts[0].name),
        "vm changes, all objects made anew": anew,
        "host is fuller": lambda: host(other, used=fuller),
        "host is cordoned": lambda: host(other, schedulable=False),
        "emptiest host is cordoned": lambda: host(emptiest, schedulable=False),
        "a host is empty": lambda: host(other, used={}),
        "a host's label changes": lambda: host(other, labels={**hosts[other].labels, "rack": "new"}),
        "a host is gone": lambda: Datacenter([*hosts[:other], *hosts[other + 1 :]], machines),
    }


def seconds(plan: Callable[[], p.FailurePlans]) -> tuple[float, p.FailurePlans]:
    # CPU time: a plan is made by one thread without waiting, and what else the machine does is no part of it.
    began = time.process_time()
    found = plan()
    return time.process_time() - began, found


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser("tests.bench.placement", description=__doc__)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--machines", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=5, help="of every incremental plan; the median counts")
    chosen = parser.parse_args(arguments)
    memory = psutil.Process().memory_info
    datacenter = Datacenter.built(chosen.hosts, chosen.machines)
    before = memory().rss
    cold, found = seconds(lambda: p.failure_plans(datacenter.hosts, datacenter.machines))
    grown = memory().rss - before
    by_kind = {}
    for kind, change in changes(datacenter).items():
        now = change()
        took = [
            seconds(lambda now=now: p.failure_plans(now.hosts, now.machines, previous=found))[0]  # type: ignore[misc]
            for _ in range(chosen.repeat)
        ]
        by_kind[kind] = round(statistics.median(took), 3)
    full = [
        dataclasses.replace(host, used={**host.used, "memory": host.allocatable["memory"] - 4 * GIB})
        for host in datacenter.hosts
    ]
    cold_full, nowhere = seconds(lambda: p.failure_plans(full, datacenter.machines))
    distinct = Datacenter.built(chosen.hosts, chosen.machines, distinct=True)
    cold_distinct, _ = seconds(lambda: p.failure_plans(distinct.hosts, distinct.machines))
    print(
        json.dumps(
            {
                "hosts": chosen.hosts,
                "machines": chosen.machines,
                "unplaced": sum(len(plan.unplaced) for plan in found.by_host.values()),
                "failure_plan_cold_s": round(cold, 3),
                "failure_plan_incremental_s": max(by_kind.values()),
                "failure_plan_incremental_s_by_change": by_kind,
                "failure_plan_cold_no_room_s": round(cold_full, 3),
                "unplaced_no_room": sum(len(plan.unplaced) for plan in nowhere.by_host.values()),
                "failure_plan_cold_no_two_vms_alike_s": round(cold_distinct, 3),
                "failure_plan_rss_mb": round(grown / 1e6, 1),
            },
            indent=2,
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
