"""Growth to 10,000 VirtualMachines, what they cost at rest, a restart among them, and a storm of changes."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from devcluster import layout, pki
from devcluster.processes import die_with_parent
from devcluster.waiting import until
from tests.bench import contenders, load, plane, storm
from tests.bench.contenders import Operator
from tests.bench.figures import exponent, percentile
from tests.bench.plane import ROOT, BenchError, Json, Plane, environment
from tests.bench.rates import Sizes, rounded
from vdcos.core import kinds
from vdcos.core.foreign.kubevirt import KubeVirt, VirtualMachine
from vdcos.core.objects import Object, Resource
from vdcos.runtime.credentials import Origin
from vdcos.runtime.port import PAGE, Port
from vdcos.runtime.providers.discovery import discover_networks
from vdcos.runtime.requests import ApiError
from vdcos.services import catalogue

NAMESPACE = "fleet"
REVIEWS = "POST /apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
"""A question of the pre-flight, and no write."""


async def growth_and_rest(directory: Path, sizes: Sizes) -> Json:
    """One control plane that fills up, rests, and sees its operator restart; then the storm, on what it held."""
    results: Json = {}
    lists = directory / "lists"
    async with plane.running(directory) as here:
        vdcos = contenders.vdcos(here, directory)
        await load.declare_datacenter(here)
        await load.make_namespace(here, NAMESPACE)
        await load.send(here, load.nodes(sizes.nodes))
        grown, rows = await _growth(here, vdcos, sizes)
        results |= grown
        _say("VMs come to rest", results)
        await _settle(here, vdcos, sizes)
        results |= await _restart(here, vdcos, sizes)
        _say("restarted", results)
        lists.mkdir()
        await _record(here, lists)
    results |= await _storm(directory, lists, vdcos, sizes)
    results["rss_mb_10k"] = max(results["rss_peak_mb_restart"], results["rss_peak_mb_storm"])
    _say("storm", results)
    return {"results": rounded(results), "rows": [rounded(row) for row in rows]}


async def _growth(here: Plane, vdcos: contenders.Contender, sizes: Sizes) -> tuple[Json, list[Json]]:
    """More and more VirtualMachines, and what all of them have cost so far."""
    rows: list[Json] = []
    stamps: dict[int, int] = {}
    async with vdcos.running(here) as operator:
        await operator.quiet(looks=1)
        start, idle = operator.meter.cpu(), here.cpu()
        size, last, seconds = 0, 0.0, 0.0
        for wanted in sizes.growth:
            began = time.time()
            sent = await load.declare(here, NAMESPACE, range(size, wanted), stamps=True)
            stamps |= sent.stamps
            done = await operator.quiet()
            cpu, seconds = operator.meter.cpu() - start, seconds + done - began
            server = here.cpu()["kube-apiserver"] - idle["kube-apiserver"]
            rows.append(
                {
                    "vms": wanted,
                    "seconds": seconds,
                    "operator_cpu_s": cpu,
                    "operator_cpu_ms_per_new_vm": (cpu - last) * 1000 / (wanted - size),
                    "apiserver_cpu_s": server,
                    "rss_mb": operator.meter.rss(),
                    "rss_peak_mb": operator.meter.peak(),
                }
            )
            print(f"  {rounded(rows[-1])}", file=sys.stderr, flush=True)
            size, last = wanted, cpu
        await contenders.verify(here, NAMESPACE, size)
    lags = _lags(operator.trace(), stamps)
    counts = [row["vms"] for row in rows]
    return {
        "growth_exponent": exponent(counts, [row["operator_cpu_s"] for row in rows]),
        "growth_exponent_marginal": _marginal(rows),
        "growth_exponent_elapsed": exponent(counts, [row["seconds"] for row in rows]),
        "watch_lag_p50_ms": percentile(lags, 0.5),
        "watch_lag_p99_ms": percentile(lags, 0.99),
    }, rows


def _marginal(rows: list[Json]) -> float:
    """The exponent of what a new VM costs when there are so many, plus one: growth does not hide behind the first ones.

    The first rows, in which imports and caches are paid for, are left out.
    """
    later = [row for row in rows if row["vms"] >= 1000]
    later = later if len(later) > 1 else rows
    return 1.0 + exponent([row["vms"] for row in later], [row["operator_cpu_ms_per_new_vm"] for row in later])


def _lags(trace: Json, stamps: Mapping[int, int]) -> list[float]:
    """Milliseconds from the answer to a write until the operator has heard of it."""
    return [
        max(0, at - stamps[version]) / 1e6 for version, at in zip(*trace["heard"], strict=True) if version in stamps
    ]


async def _settle(here: Plane, vdcos: contenders.Contender, sizes: Sizes) -> None:
    """All VMs run: their instances, claims and states are there, and vdcos has said so."""
    count = sizes.growth[-1]
    machines = [item async for page in _pages(here, VirtualMachine.resource.path(NAMESPACE)) for item in page["items"]]
    await load.send(here, (load.running(vm, sizes.nodes, number) for number, vm in enumerate(machines)))
    async with vdcos.running(here) as operator:
        await operator.quiet(looks=count)
    ready = 0
    async for page in _pages(here, kinds.VIRTUAL_MACHINE.path(NAMESPACE)):
        ready += sum(
            condition["type"] == "Ready" and condition["status"] == "True"
            for item in page["items"]
            for condition in item["status"]["conditions"]
        )
    if ready != count:
        raise BenchError(f"{ready} of {count} VMs are Ready")


async def _restart(here: Plane, vdcos: contenders.Contender, sizes: Sizes) -> Json:
    """The operator starts with everything at rest, and later looks at everything once more. It must write nothing."""
    count = sizes.growth[-1]
    floor, served_cpu = await _lists_alone(here)
    before = await here.writes()
    async with vdcos.running(here) as operator:
        settled = await operator.quiet(looks=count)
        started_cpu = operator.meter.cpu()
        peak, steady = operator.meter.peak(), operator.meter.rss()
        # What every VM depends on changes without meaning anything for any of them.
        looks, _ = operator.looks()
        gate = {"spec": {"configuration": {"developerConfiguration": {"featureGates": ["Snapshot", "Nothing"]}}}}
        began, cpu = time.time(), operator.meter.cpu()
        quiet = await _touch(here, operator, gate, looks + count)
        resync_cpu = operator.meter.cpu() - cpu
        written = contenders.named(await here.writes() - before)
    written = {name: number for name, number in written.items() if "kubevirts" not in name}
    trace = operator.trace()
    return {
        "sync_s_10k": trace["synced"] - operator.started,
        "sync_lists_s_10k": trace["synced"] - trace["listed"],
        "sync_floor_s_10k": floor,
        "sync_floor_apiserver_cpu_s": served_cpu,
        "settled_s_10k": settled - operator.started,
        "restart_cpu_s_10k": started_cpu,
        "resync_s_10k": quiet - began,
        "resync_cpu_ms_per_vm": resync_cpu * 1000 / count,
        "writes_at_rest": sum(written.values()),
        "writes_at_rest_by_kind": written,
        "rss_peak_mb_restart": peak,
        "rss_steady_mb_10k": steady,
    }


async def _lists_alone(here: Plane) -> tuple[float, float]:
    """The same lists, in the same pages and all at once, with nothing done about them: seconds, and the API server's
    CPU time. The better of two."""

    async def pages(port: Port, resource: Resource) -> None:
        with contextlib.suppress(ApiError):  # not installed
            async for _ in port.pages(resource.path(), {}):
                pass

    listed = _listed().values()
    runs: list[tuple[float, float]] = []
    async with Port.open(Origin.find(str(here.kubeconfig))) as port:
        for _ in range(2):
            began, cpu = time.monotonic(), sum(here.cpu().values())
            await asyncio.gather(*(pages(port, resource) for resource in listed))
            runs.append((time.monotonic() - began, sum(here.cpu().values()) - cpu))
    return min(runs)


def _listed() -> dict[type[Any], Resource]:
    """What the operator lists, without those of which it selects some: none of them exists here."""
    known = catalogue.kinds(catalogue.services(discover_networks()))
    return {
        kind: resource
        for kind, resource in known.items()
        if not (issubclass(kind, Object) and (kind.label_selector or kind.field_selector))
    }


async def _touch(here: Plane, operator: Operator, change: Json, looks: int) -> float:
    path = KubeVirt.resource.path("kubevirt", "kubevirt")
    await here.request("PATCH", path, change, "application/merge-patch+json")
    return await operator.quiet(looks=looks)


async def _pages(here: Plane, path: str, query: str = "") -> AsyncIterator[Json]:
    token = ""
    while True:
        more = f"&continue={token}" if token else ""
        page = await here.request("GET", f"{path}?limit={PAGE}{query}{more}")
        yield page
        token = page["metadata"].get("continue", "")
        if not token:
            return


async def _record(here: Plane, folder: Path) -> None:
    """Everything that the operator lists, as it is answered."""
    index: dict[str, list[str]] = {}
    for resource in _listed().values():
        path = resource.path()
        with contextlib.suppress(BenchError):  # not installed: neither will it be in the replay
            async for page in _pages(here, path):
                file = f"{len(index)}-{len(index.get(path, []))}.json"
                (folder / file).write_text(json.dumps(page, separators=(",", ":")))
                index.setdefault(path, []).append(file)
    (folder / storm.RECORDED).write_text(json.dumps(index))


async def _storm(directory: Path, lists: Path, vdcos: contenders.Contender, sizes: Sizes) -> Json:
    keys = pki.ensure(layout.Layout(directory).pki)
    command = [sys.executable, "-m", "tests.bench.storm", "--lists", str(lists)]
    command += ["--cert", str(keys.cert("apiserver")), "--key", str(keys.key("apiserver"))]
    command += ["--objects", str(sizes.storm_objects), "--changes", str(sizes.storm_changes)]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, preexec_fn=die_with_parent()
    )
    try:
        assert process.stdout is not None
        port = (await process.stdout.readline()).decode().strip()
        async with plane.elsewhere(directory, f"https://127.0.0.1:{port}", keys) as here:
            return await _through_the_storm(here, contenders.vdcos(here, directory), sizes)
    finally:
        process.kill()
        await process.wait()


async def _through_the_storm(here: Plane, vdcos: contenders.Contender, sizes: Sizes) -> Json:
    async with vdcos.running(here) as operator:
        await operator.quiet(looks=sizes.growth[-1])
        cpu = operator.meter.cpu()
        await here.request("POST", storm.START)
        wanted = sizes.storm_objects * sizes.storm_changes

        async def sent() -> bool:
            operator.check()
            return bool((await here.request("GET", storm.SENT))["sent"] == wanted)

        await until(sent, contenders.PATIENCE, every=0.5)
        quiet = await operator.quiet()
        cpu = operator.meter.cpu() - cpu
        report = await here.request("GET", storm.REPORT)
        peak = operator.meter.peak()
    if report["told"] != sizes.storm_objects or set(report["writes"]) - {REVIEWS} != {"status"}:
        raise BenchError(f"the storm did not end as it should: {report}")
    trace = operator.trace()
    heard = dict(zip(*trace["heard"], strict=True))
    first, last = heard[report["first_version"]] / 1e9, heard[report["last_version"]] / 1e9
    return {
        "storm_events_per_s": wanted / (last - first),
        "storm_events": wanted,
        "storm_mb": report["bytes"] / 1e6,
        "storm_heard_s": last - first,
        "storm_sent_s": report["ended"] - report["began"],
        "storm_settled_s": quiet - first,
        "storm_status_writes": report["writes"]["status"],
        "storm_cpu_s": cpu,
        "loop_lag_p50_ms": percentile(_within(trace["lags"], first, quiet), 0.5) * 1000,
        "loop_lag_p99_ms": percentile(_within(trace["lags"], first, quiet), 0.99) * 1000,
        "loop_lag_max_ms": percentile(_within(trace["lags"], first, quiet), 1.0) * 1000,
        "queue_age_p50_ms": percentile(_within(trace["waits"], first, quiet), 0.5) * 1000,
        "queue_age_p99_ms": percentile(_within(trace["waits"], first, quiet), 0.99) * 1000,
        "rss_peak_mb_storm": peak,
    }


def _within(flat: list[float], first: float, last: float) -> list[float]:
    """Values whose times are in between, of a list of times and values in turn."""
    return [value for at, value in zip(flat[::2], flat[1::2], strict=True) if first <= at <= last]


def _say(what: str, results: Mapping[str, Any]) -> None:
    print(f"  {what}: {rounded(dict(results))}", file=sys.stderr, flush=True)
