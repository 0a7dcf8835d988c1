"""Pre-flight in the running operator: metrics of bounded number, and news in the log."""

import asyncio
import json
import logging
from typing import Any

import prometheus_client
import pytest

from vdcos.core import preflight
from vdcos.core.foreign.kubevirt import KubeVirt
from vdcos.core.preflight import Check
from vdcos.runtime.preflight import EVERY, Preflight
from vdcos.runtime.requests import ApiError
from vdcos.runtime.store import Store

RIGHTS = Check("Rights", "OK", "all 125")


class Bench:
    def __init__(self) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        self.store = Store(preflight.KINDS)
        self.answer: Check | ApiError = RIGHTS
        self.ready = False
        self.flight = Preflight(self.registry, self.store, {"Rights": self.ask}, lambda: self.ready)

    async def ask(self) -> Check:
        if isinstance(self.answer, ApiError):
            raise self.answer
        return self.answer

    def listed(self) -> None:
        for kind in preflight.KINDS:
            self.store.unavailable(kind, f"{kind.__name__} is not installed")
        self.ready = True

    def deploy(self, version: str, resource_version: int) -> None:
        meta = {"name": "kubevirt", "namespace": "kubevirt", "resourceVersion": str(resource_version)}
        status = {"observedKubeVirtVersion": version, "phase": "Deployed"}
        held = self.store.decoder(KubeVirt)(json.dumps({"metadata": meta, "status": status}).encode())
        self.store.replace(KubeVirt, [held], str(resource_version))

    def sample(self, check: str, required: str = "false") -> float | None:
        return self.registry.get_sample_value("vdcos_check_ok", {"check": check, "required": required})


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_nothing_is_said_before_everything_was_looked_at(bench: Bench) -> None:
    assert bench.flight.checks() == []
    assert bench.sample("KubeVirt", "true") is None


def test_a_series_for_each_check_that_follows_what_is_there(bench: Bench) -> None:
    bench.listed()
    assert bench.sample("KubeVirt", "true") == 0
    assert bench.sample("Multus") == 0
    assert bench.sample("ExpandDisks") is None, "nobody knows"
    bench.deploy("v1.9.0", 5)
    assert bench.sample("KubeVirt", "true") == 1
    assert bench.sample("ExpandDisks") == 1
    assert len(bench.flight.checks()) == len(preflight.CHECKS)


@pytest.mark.looptime
async def test_what_is_not_as_it_should_be_is_logged_and_then_what_is_news(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def said() -> dict[str, tuple[str, int]]:
        found = {record.check: (record.state, record.levelno) for record in caplog.records}  # type: ignore[attr-defined]
        caplog.clear()
        return found

    caplog.set_level(logging.INFO, "vdcos.runtime.preflight")
    running = asyncio.create_task(bench.flight.run())
    await asyncio.sleep(10)
    assert said() == {}, "not everything was listed yet"
    bench.listed()
    bench.deploy("v1.9.0", 5)
    await asyncio.sleep(2)
    first = said()
    assert first["CDI"] == ("Missing", logging.WARNING), "nothing works without it"
    assert first["Multus"] == ("Missing", logging.INFO)
    assert "KubeVirt" not in first
    await asyncio.sleep(EVERY)
    assert said() == {}, "nothing is news"
    bench.deploy("v1.7.0", 6)
    bench.answer = ApiError(503, "Unavailable", "later")
    await asyncio.sleep(EVERY)
    news: Any = said()
    assert news.pop("Rights") == ("Unknown", logging.INFO)
    assert news["KubeVirt"] == ("Limited", logging.WARNING)
    assert {"ExpandDisks", "DeclarativeHotplugVolumes"} <= news.keys(), "1.7 does not turn them on by default"
    running.cancel()
