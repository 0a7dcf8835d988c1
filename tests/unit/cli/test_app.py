"""The composed operator in one process, against an API server that serves our kinds and nothing else."""

import asyncio
import contextlib
import json
import logging
import os
import signal
from pathlib import Path

import pytest

from tests.unit.runtime.fake_api import FakeApi
from tests.unit.runtime.test_reflector import until
from vdcos import app
from vdcos.core import kinds
from vdcos.runtime.lease import LEASE
from vdcos.services import catalogue
from vdcos.services.catalogue import services


@pytest.fixture
def api() -> FakeApi:
    fake = FakeApi()
    for resource in (LEASE, kinds.VIRTUAL_MACHINE, kinds.NETWORK, kinds.DATASTORE):
        fake.serve(resource)
    return fake


def holder(api: FakeApi) -> str:
    lease = api.collections[LEASE.path()].get(("ours", "vdcos"))
    return lease["spec"]["holderIdentity"] if lease else ""


async def test_it_leads_waits_for_every_kind_and_gives_the_lease_back(
    tmp_path: Path, api: FakeApi, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vdcos")
    async with api.serving(tmp_path) as origin:
        settings = app.Settings(origin, namespace="ours", listen="127.0.0.1:0", identity="me")
        running = asyncio.create_task(app.run(settings))
        await until(lambda: holder(api) == "me", seconds=15)
        await until(lambda: any(record.message == "listening" for record in caplog.records))
        await until(lambda: api.count("watch", kinds.VIRTUAL_MACHINE) == 1)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running, 10)
        assert holder(api) == ""
        assert caplog.records[-1].message == "stopped"


async def test_alone_it_needs_no_lease(tmp_path: Path, api: FakeApi) -> None:
    async with api.serving(tmp_path) as origin:
        running = asyncio.create_task(app.run(app.Settings(origin, standalone=True, listen="127.0.0.1:0")))
        await until(lambda: api.count("watch", kinds.DATASTORE) == 1, seconds=15)
        assert api.collections[LEASE.path()] == {}
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def test_an_address_in_use_is_an_error_before_anything_starts(tmp_path: Path, api: FakeApi) -> None:
    async with api.serving(tmp_path) as origin:
        with pytest.raises(OSError, match="address already in use"):
            await app.run(app.Settings(origin, listen=f"127.0.0.1:{api.port}"))
        assert api.requests == []


def test_identities_are_unique() -> None:
    assert app.identity() != app.identity()


def test_every_kind_has_its_own_resource() -> None:
    found = catalogue.kinds(services({}))
    whole = [kind for kind in found if not getattr(kind, "partial", False)]
    assert len({json.dumps([found[k].group, found[k].version, found[k].plural]) for k in whole}) == len(whole)
    assert all(service.kind in found for service in services({}))
