"""How fast new VirtualMachines converge: the wall, vdcos and its peers, in turn on one control plane."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import contenders, load, plane
from tests.bench.contenders import Run
from tests.bench.figures import between, median
from tests.bench.plane import Json, Plane

CONCURRENCIES = (8, 16, 32, 64)


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    machines: int
    probe: int
    """VMs to find the wall's best concurrency with."""
    rounds: int
    growth: Sequence[int]
    nodes: int
    storm_objects: int
    storm_changes: int
    on_a_host: Sequence[int]
    """VMs on a host that loses power."""


FULL = Sizes(1500, 500, 2, (500, 1000, 2000, 5000, 10000), 1000, 4000, 10, (1, 20, 100))
QUICK = Sizes(200, 100, 1, (100, 200, 400), 50, 200, 10, (1, 5, 20))


async def plain(directory: Path, sizes: Sizes) -> Json:
    """vdcos between walls and peers, several times over."""
    async with plane.running(directory) as here:
        await load.declare_datacenter(here)
        best = await _best(here, sizes)
        templates = await _templates(here, directory)
        vdcos = contenders.vdcos(here, directory)
        fast = contenders.controller_runtime(here, templates, 32)
        runs: list[Run] = []

        async def run(contender: contenders.Contender | None) -> None:
            namespace = f"run-{len(runs)}"
            if contender is None:
                runs.append(await contenders.wall(here, namespace, sizes.machines, best))
            else:
                runs.append(await contenders.measure(here, contender, namespace, sizes.machines))
            said(runs[-1])

        for _ in range(sizes.rounds):
            for contender in (None, vdcos, fast):
                await run(contender)
        await run(None)
        await run(contenders.kopf(here, templates))
        await run(vdcos)
        await run(contenders.controller_runtime(here, templates, 1))
        await run(None)
    order = contenders.sequence(runs)
    costs = [(run.name, run.all_cpu) for run in runs]
    ours = contenders.of(runs, "vdcos")
    results = {
        "efficiency": median(between(order, "vdcos", f"wall-{best}")),
        "efficiency_cpu": 1 / median(between(costs, "vdcos", f"wall-{best}")),
        "ratio_controller_runtime_cpu": 1 / median(between(costs, "vdcos", fast.name)),
        "ratio_controller_runtime": median(between(order, "vdcos", fast.name)),
        "ratio_controller_runtime_1": median(between(order, "vdcos", "controller-runtime-1")),
        "ratio_default_kopf": median(between(order, "vdcos", "kopf")),
        "writes_per_vm": median([run.writes_per_vm for run in ours]),
        "vms_per_s": median([run.rate for run in ours]),
        "operator_cpu_ms_per_vm": median([run.client_cpu * 1000 / run.count for run in ours]),
        "apiserver_cpu_ms_per_vm": median([run.plane_cpu["kube-apiserver"] * 1000 / run.count for run in ours]),
        "first_write_s": median([run.first_write for run in ours]),
        "wall_parallel": best,
    }
    return {"results": rounded(results), "rows": [run.figures() for run in runs]}


async def webhooks(directory: Path, sizes: Sizes) -> Json:
    """The same with virt-api's admission in the path of every write of a KubeVirt VM."""
    runs: list[Run] = []
    async with plane.running(directory, webhooks=True) as here:
        await load.declare_datacenter(here)
        vdcos = contenders.vdcos(here, directory)
        for number, ours in enumerate((False, True, False, True, False)):
            namespace = f"run-{number}"
            if ours:
                runs.append(await contenders.measure(here, vdcos, namespace, sizes.machines))
            else:
                runs.append(await contenders.wall(here, namespace, sizes.machines, 32))
            said(runs[-1])
    efficiency = median(between(contenders.sequence(runs), "vdcos", "wall-32"))
    results = {
        "efficiency_webhooks": efficiency,
        "vms_per_s_webhooks": median([run.rate for run in contenders.of(runs, "vdcos")]),
    }
    return {"results": rounded(results), "rows": [run.figures() for run in runs]}


async def _best(here: Plane, sizes: Sizes) -> int:
    """The concurrency at which the wall is highest."""
    tried = [
        await contenders.wall(here, f"probe-{number}", sizes.probe, parallel)
        for number, parallel in enumerate((32, *CONCURRENCIES))
    ]
    for run in tried:
        said(run)
    fastest = max(tried[1:], key=lambda run: run.rate)  # the first one warmed the API server up
    return int(fastest.name.removeprefix("wall-"))


async def _templates(here: Plane, directory: Path) -> Path:
    """The bodies that the peers write, from what vdcos would write."""
    await load.make_namespace(here, "bench-template")
    await load.declare(here, "bench-template", [0])
    requests = await load.rehearse(here)
    file = directory / "template.json"
    file.write_text(json.dumps(load.template(requests[0])))
    await load.clear(here, "bench-template")
    return file


def said(run: Run) -> None:
    """Show that something happens."""
    figures = run.figures()
    keys = ("vms_per_s", "writes_per_vm", "apiserver_cpu_ms_per_vm", "client_cpu_ms_per_vm", "rss_peak_mb")
    words = "  ".join(f"{key} {figures[key]}" for key in keys)
    print(f"  {run.name:<22} {words}", file=sys.stderr, flush=True)


def rounded(results: Json) -> Json:
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in results.items()}
