"""What metrics of the datacenter cost at 10,000 VMs: for each object that changes, and for each scrape. Prints a table.

``python -m tests.bench.scrape [--vms 10000] [--hosts 1000]``. Everything is measured in one process, in turns and in
seconds of its own CPU time, so that ratios hold on a machine that does other things as well.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import yaml

from vdcos import api
from vdcos.core.objects import Index
from vdcos.runtime import datacenter
from vdcos.runtime.metrics import Metrics, Scraped
from vdcos.runtime.store import Store
from vdcos.services import catalogue

EXAMPLES = Path(__file__).parents[2] / "docs" / "reference" / "examples"
Tree = dict[str, Any]
ROUNDS = 7

CONDITIONS = (
    *("Ready", "Applied", "CustomizationReady", "GuestAgentConnected", "GuestHeartbeat", "HardwareReady"),
    *("Migratable", "NetworkReady", "PlacementReady", "PowerStateSynced", "Protected", "StorageReady"),
)
"""Of a VM under a policy."""


def example(kind: str) -> Tree:
    tree: Tree = yaml.safe_load((EXAMPLES / f"{kind}.yaml").read_text())
    return tree


def vm(number: int, version: int) -> bytes:
    """A VM as the API server has it. One in fifty is not as it should be, and each of these for one of ten reasons."""
    tree = example_vm
    ill = number % 50 == 0
    stamp = {"lastTransitionTime": f"2026-01-01T00:{number % 60:02}:00Z", "observedGeneration": 1}
    said = [
        {
            "type": kind,
            "status": "False" if ill and kind in ("Ready", "StorageReady") else "True",
            "reason": f"Reason{number // 50 % 10}" if ill and kind in ("Ready", "StorageReady") else "AsDeclared",
            "message": f"what is to be said of VM {number} under {kind}, in a sentence or two of the usual length",
            **stamp,
        }
        for kind in CONDITIONS
    ]
    meta = {
        "name": f"vm-{number:05}",
        "namespace": f"tenant-{number % 100}",
        "uid": f"{number:08}-0000-4000-8000-000000000000",
        "resourceVersion": str(version),
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    status = {
        "observedGeneration": 1,
        "powerState": "PoweredOff" if number % 9 == 0 else "PoweredOn",
        "host": f"host-{number % 1000}",
        "conditions": said,
        "disks": [{"name": "root", "phase": "Ready", "size": "20Gi", "claimName": f"vm-{number}-root-1a2b3c"}],
    }
    return msgspec.json.encode({**tree, "metadata": meta, "status": status})


example_vm = example("virtualmachine")


def host(number: int) -> bytes:
    amounts = {"capacity": {"cpu": "64", "memory": "512Gi", "pods": 250}}
    amounts["reserved"] = {"cpu": f"{number}m", "memory": f"{number}Mi", "pods": number % 250}
    said = [{"type": kind, "status": "True", "reason": "Connected"} for kind in ("Ready", "Connected", "Protected")]
    meta = {"name": f"host-{number}", "uid": f"h{number}", "resourceVersion": "1", "generation": 1}
    status = {"state": "Connected", "policy": "ha", "vms": 10, "conditions": said, **amounts}
    tree = {"apiVersion": api.API_VERSION, "kind": "Host", "metadata": meta, "spec": {}, "status": status}
    return msgspec.json.encode(tree)


def filled(vms: int, hosts: int, indexes: Iterable[Any]) -> Store:
    kinds = catalogue.kinds(catalogue.services({}))
    store = Store(kinds, indexes)
    hear(store, vms, 1)
    for number in range(hosts):
        store.put(api.Host, store.decoder(api.Host)(host(number)))
    return store


def hear(store: Store, vms: int, version: int) -> None:
    decode = store.decoder(api.VirtualMachine)
    for number in range(vms):
        store.put(api.VirtualMachine, decode(vm(number, version)))


def cost(act: Callable[[], object]) -> float:
    """Milliseconds of CPU: the median of some rounds."""
    spent = []
    for _ in range(ROUNDS):
        gc.collect()
        began = time.process_time()
        act()
        spent.append(time.process_time() - began)
    return statistics.median(spent) * 1000


def heard(vms: int) -> tuple[float, float]:
    """Microseconds to enter one changed VM into a store with the services' indexes: without ours, and with them."""
    served = catalogue.services({})
    declared = [
        each for each in catalogue.indexes(served) if isinstance(each, Index) and each.kind is api.VirtualMachine
    ]
    plain = filled(vms, 0, declared)
    counting = filled(vms, 0, [*declared, *datacenter.INDEXES])
    spent: dict[str, list[float]] = {"plain": [], "counting": []}
    for version in range(2, 2 + ROUNDS):
        decode = plain.decoder(api.VirtualMachine)
        changed = [decode(vm(number, version)) for number in range(0, vms, 10)]
        for name, store in (("plain", plain), ("counting", counting)):
            gc.collect()
            began = time.process_time()
            for each in changed:
                store.put(api.VirtualMachine, each)
            spent[name].append((time.process_time() - began) / len(changed))
    return statistics.median(spent["plain"]) * 1e6, statistics.median(spent["counting"]) * 1e6


def scraped(vms: int, hosts: int) -> tuple[float, float, int]:
    """Milliseconds to read, and to read and write as text, and the number of samples."""
    store = filled(vms, hosts, datacenter.INDEXES)
    metrics = Metrics()
    Scraped(metrics.registry, lambda: True, lambda: datacenter.read(store))
    samples = sum(len(family.samples) for family in datacenter.read(store))
    return cost(lambda: list(datacenter.read(store))), cost(metrics.scrape), samples


def by_decoding(vms: int) -> float:
    """Milliseconds to look at every VM at a scrape instead."""
    store = filled(vms, 0, ())
    return cost(lambda: [datacenter._told(own) for own in store.shelf(api.VirtualMachine).objects.values()])  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vms", type=int, default=10_000)
    parser.add_argument("--hosts", type=int, default=1_000)
    chosen = parser.parse_args()
    print(f"{len(vm(1, 1)):,} bytes a VM\n")
    plain, counting = heard(chosen.vms)
    print(f"A VM changes: {plain:.1f} us without, {counting:.1f} us with metrics: {counting / plain:.2f} times as much")
    naive = by_decoding(chosen.vms)
    print("\n| VMs | Hosts | Samples | Read, ms | With text, ms |\n|---|---|---|---|---|")
    read = 0.0
    for vms, hosts in ((100, 10), (chosen.vms, 10), (chosen.vms, chosen.hosts)):
        read, whole, samples = scraped(vms, hosts)
        print(f"| {vms:,} | {hosts:,} | {samples:,} | {read:.2f} | {whole:.2f} |")
    print(
        f"\nTo look at each VM at a scrape would take {naive:.0f} ms: {naive / read:.0f} times as long as what is read"
    )


if __name__ == "__main__":
    main()
