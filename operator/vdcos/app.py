"""The composition of the operator, by hand: what is made of what, and what runs for how long."""

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import random
import signal
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vdcos import __version__, api
from vdcos.core.plan import Instant
from vdcos.core.service import Service
from vdcos.generate import crds, rbac
from vdcos.runtime import datacenter, definitions, rights
from vdcos.runtime.asks import Asks
from vdcos.runtime.availability import Availability, foretold
from vdcos.runtime.credentials import Origin
from vdcos.runtime.endpoints import Health, serve
from vdcos.runtime.engine import Engine
from vdcos.runtime.events import Events
from vdcos.runtime.lease import Elector
from vdcos.runtime.metrics import Metrics, Scraped
from vdcos.runtime.observers import Everyone, Log
from vdcos.runtime.port import Port
from vdcos.runtime.preflight import Preflight, Question
from vdcos.runtime.providers.discovery import discover_networks, discover_power_switches
from vdcos.runtime.providers.fencing import power_switches, secrets_of
from vdcos.runtime.providers.probe import probe
from vdcos.runtime.queue import Queue
from vdcos.runtime.reflector import Reflector
from vdcos.runtime.shell import MOST_SECONDS, Shell
from vdcos.runtime.store import Store
from vdcos.runtime.threads import in_own_loop
from vdcos.services.catalogue import dated, indexes, kinds, services

log = logging.getLogger(__name__)

M_MMAP_THRESHOLD = -3
"""A parameter of glibc's ``mallopt`` (malloc.h)."""
BIG = 128 * 1024
"""Bytes from which memory is mapped by itself: glibc's default, which holds only until it has learned."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to run. ``probe`` is where kopf serves the liveness probe; empty for not at all.

    ``fence_agents`` is the folder of the fence agents that may be run; None for none.
    """

    origin: Origin
    namespace: str = "vdcos-system"
    lease: str = "vdcos"
    standalone: bool = False
    listen: str = "127.0.0.1:8080"
    probe: str = ""
    identity: str = ""
    fence_agents: Path | None = None


def clock() -> Instant:
    """Now, on both clocks."""
    return Instant(time.time(), time.monotonic())


def identity() -> str:
    """A name for this process that no other process ever has: of two replicas, only one may lead."""
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}_{uuid.uuid4().hex[:12]}"


def questions(port: Port, served: Sequence[Service[Any, Any]], namespace: str) -> Mapping[str, Question]:
    """What pre-flight has to ask the API server, because no object says it. ``namespace`` is the operator's."""
    demands = rights.Demands(
        {service.resource.kind: rbac.grants([service]) for service in served}, rbac.RUNTIME, namespace
    )
    versions = {kind: crds.crd(model)["spec"]["versions"][0] for kind, model in api.KINDS.items()}
    known = {kind: definitions.fields(version["schema"]["openAPIV3Schema"]) for kind, version in versions.items()}
    return {
        "Definitions": lambda: definitions.check(port, api.API_VERSION, known),
        "Rights": lambda: rights.check(port, demands),
    }


async def run(settings: Settings) -> None:
    """Run the operator until SIGTERM or SIGINT, then stop in good order: writes finish, the Lease is given back.

    Raises NoCluster and OSError (address in use) before anything has started.
    """
    _give_back()
    running = asyncio.create_task(_run(settings))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await running
    log.info("stopped")


def _give_back() -> None:
    """Let glibc return big buffers as soon as they are freed. By default it learns from the first pages of lists to
    keep such memory: 28 MB at 10,000 VMs, for ever. Other C libraries have no such call."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, BIG)


async def _run(settings: Settings) -> None:
    me = settings.identity or identity()
    metrics = Metrics()
    served = services(discover_networks())
    resources = kinds(served)
    store = Store(resources, [*indexes(served), *datacenter.INDEXES], dated(served))
    queue = Queue(random.random)
    events = Events({service.name: service.resource for service in served}, me, metrics.event)
    elector = Elector(settings.namespace, settings.lease, me)
    remaining: Callable[[], float] = (lambda: MOST_SECONDS) if settings.standalone else elector.remaining
    async with Port.open(settings.origin, metrics.failed) as port:
        switches = power_switches(
            discover_power_switches(), secrets_of(port, settings.namespace), settings.fence_agents
        )
        asks = Asks({**switches, "probe": probe}, remaining, metrics, lambda: shell.wake())
        engine = Engine(served, store, queue, Everyone(metrics, Log(), events), clock, asks)
        # What was imported is never garbage: without its 70,000 objects a full collection takes no 75 ms of the loop.
        gc.collect()
        gc.freeze()
        shell = Shell(engine, store, queue, port, remaining, metrics)
        sources = [Reflector(kind, resource, port, store, metrics, shell.wake) for kind, resource in resources.items()]

        def leads() -> bool:
            return remaining() > 0

        def knows() -> bool:
            return leads() and shell.ready()

        names = [service.name for service in served]
        metrics.watch(names, queue, store, sources, leads, lambda: shell.in_flight, time.monotonic)
        Availability(metrics.registry, store, leads, time.monotonic)
        Scraped(metrics.registry, knows, lambda: datacenter.read(store))
        Scraped(metrics.registry, knows, lambda: foretold(store))
        preflight = Preflight(metrics.registry, store, questions(port, served, settings.namespace), shell.ready)
        health = Health(sources, shell.ready)
        async with serve(settings.listen, metrics, health) as address, asyncio.TaskGroup() as background:
            log.info("listening", extra={"address": address, "server": port.server, "version": __version__})
            for source in sources:
                background.create_task(source.run())
            background.create_task(events.run(port))
            background.create_task(preflight.run())
            if not settings.standalone:
                background.create_task(_compete(settings, elector, shell.wake, metrics))
            if settings.probe:
                # Imported here because only who wants the probe should pay for kopf.
                from vdcos import kopfhost

                background.create_task(kopfhost.host(settings.origin, settings.probe, health.deaf))
            # When this is cancelled it lets its writes finish; only then the group gives the Lease back.
            try:
                await shell.run()
            finally:
                await asks.close()


async def _compete(settings: Settings, elector: Elector, wake: Callable[[], None], metrics: Metrics) -> None:
    """Compete for the Lease in a loop of its own, and wake the shell when something changes."""
    loop = asyncio.get_running_loop()

    def changed(leading: bool) -> None:
        loop.call_soon_threadsafe(wake)

    await in_own_loop("lease", lambda: elector.run(lambda: Port.open(settings.origin, metrics.failed), changed))
