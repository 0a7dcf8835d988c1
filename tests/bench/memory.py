"""What the operator's stores weigh: real objects of a small datacenter, many times over. Prints a table.

``python -m tests.bench.memory [--objects DIR]``. Objects are recorded from a devcluster with the samples, as the API
server sends them, into DIR; when DIR has them already, no cluster is needed. Each kind is measured in a process of its
own: the growth of its resident memory while objects with names, uids and times of their own enter a store with all
indexes.
"""

import argparse
import asyncio
import functools
import gc
import hashlib
import multiprocessing
import re
import tempfile
import uuid
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from devcluster.cluster import Cluster
from tests.devcluster import replica
from vdcos import api
from vdcos.core import disks, kinds
from vdcos.core.foreign import kubevirt
from vdcos.core.foreign.cdi import DataVolume
from vdcos.core.foreign.kubernetes import Namespace, Node, PersistentVolumeClaim
from vdcos.core.foreign.multus import NetworkAttachmentDefinition
from vdcos.core.objects import Index, Resource
from vdcos.runtime.store import Store
from vdcos.services import catalogue

SAMPLES = Path(__file__).parents[2] / "manifests" / "samples"
SHOP, VM = "shop", "web-1"
DISK = disks.name(VM, "system")

FLEET: tuple[tuple[type[Any], Resource, str, str, int], ...] = (
    # kind, where it is read from, namespace and name of the recorded one, how many of them
    (api.VirtualMachine, kinds.VIRTUAL_MACHINE, SHOP, VM, 10_000),
    (kubevirt.VirtualMachine, kubevirt.VirtualMachine.resource, SHOP, VM, 10_000),
    (kubevirt.VirtualMachineInstance, kubevirt.VirtualMachineInstance.resource, SHOP, VM, 10_000),
    (DataVolume, DataVolume.resource, SHOP, DISK, 20_000),
    (PersistentVolumeClaim, PersistentVolumeClaim.resource, SHOP, DISK, 20_000),
    (Node, Node.resource, "", "host-1", 1_000),
    (Namespace, Namespace.resource, "", SHOP, 500),
    (NetworkAttachmentDefinition, NetworkAttachmentDefinition.resource, SHOP, "backend", 1_000),
)
"""10,000 VMs with two disks and two NICs each, on 1,000 hosts."""

_DRAWN = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|(?<=T)\d\d:\d\d:\d\d(?=Z)|(?<=:)[0-9a-f]{2}(?=\")"
)
"""What differs from VM to VM besides names: uids, times, the ends of MAC addresses."""


def file(directory: Path, resource: Resource) -> Path:
    return directory / f"{resource.plural}.{resource.group or 'core'}.json"


async def record(directory: Path) -> None:
    """Write one object of each kind to ``directory``."""
    with Cluster.running(hosts=4) as cluster, tempfile.TemporaryDirectory() as logs:
        operator = replica.Replica(replica.install(cluster), Path(logs) / "operator.log", "--standalone")
        await operator.start()
        cluster.kubectl("apply", "--server-side", "-k", str(SAMPLES))
        wait = ["wait", f"vdcvm/{VM}", "-n", SHOP, "--for=condition=Ready", "--timeout=180s"]
        await asyncio.to_thread(cluster.kubectl, *wait)
        for _, resource, namespace, name, _ in FLEET:
            file(directory, resource).write_text(cluster.kubectl("get", "--raw", resource.path(namespace, name)))
        await operator.stop()


def weigh(number: int, directory: Path) -> int:
    """Bytes by which the process grows with all objects of one kind of the fleet."""
    kind, resource, _, name, count = FLEET[number]
    text = file(directory, resource).read_text()
    declared = catalogue.indexes(catalogue.services({}))
    indexes = [index for index in declared if isinstance(index, Index) and index.kind is kind]
    fill(Store([kind], indexes), kind, text, name, 200)  # what decoders and allocators need once
    gc.collect()
    before = psutil.Process().memory_info().rss
    store = Store([kind], indexes)
    fill(store, kind, text, name, count)
    gc.collect()
    return int(psutil.Process().memory_info().rss - before)


def everything(directory: Path) -> int:
    """Bytes of a process that holds the whole fleet, all that the operator imports included."""
    served = catalogue.services({})
    store = Store(catalogue.kinds(served), catalogue.indexes(served))
    for kind, resource, _, name, count in FLEET:
        fill(store, kind, file(directory, resource).read_text(), name, count)
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def fill(store: Store, kind: type[Any], text: str, name: str, count: int) -> None:
    decode = store.decoder(kind)
    for n in range(count):
        renamed = text.replace(DISK, disks.name(f"{VM}-{n}", "system")).replace(f'"{VM}"', f'"{VM}-{n}"')
        if name not in (VM, DISK):
            renamed = renamed.replace(f'"{name}"', f'"{name}-{n}"')
        store.put(kind, decode(_DRAWN.sub(functools.partial(_drawn, n), renamed).encode()))


def _drawn(n: int, found: re.Match[str]) -> str:
    """Another value of the same form, the same for the same one of the same VM."""
    drawn = hashlib.sha256(f"{n}/{found[0]}".encode()).hexdigest()
    if len(found[0]) == len("00:00:00"):
        return f"{int(drawn[:2], 16) % 24:02}:{int(drawn[2:4], 16) % 60:02}:{int(drawn[4:6], 16) % 60:02}"
    return drawn[:2] if len(found[0]) == 2 else str(uuid.UUID(drawn[:32]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=Path, metavar="DIR", help="where recorded objects are, or are to be kept")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory: Path = arguments.objects or Path(temporary)
        directory.mkdir(exist_ok=True, parents=True)
        if not all(file(directory, resource).exists() for _, resource, *_ in FLEET):
            asyncio.run(record(directory))
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as alone:
            grown = list(alone.map(weigh, range(len(FLEET)), [directory] * len(FLEET)))
            whole = alone.submit(everything, directory).result()
        print("| Kind | Objects | Sent, B | Held, B each | MiB |\n|---|---|---|---|---|")
        for (_, resource, _, _, count), size in zip(FLEET, grown, strict=True):
            kind = f"{resource.kind}.{resource.group}".rstrip(".")
            sent = file(directory, resource).stat().st_size
            print(f"| {kind} | {count:,} | {sent:,} | {size // count:,} | {size / 2**20:.1f} |")
        print(f"| **Sum** | | | | **{sum(grown) / 2**20:.1f}** |")
        print(f"| A process that holds all of them | | | | {whole / 2**20:.1f} |")


if __name__ == "__main__":
    main()
