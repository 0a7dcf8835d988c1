"""What the operator says beside its statuses: metrics, Events, logs, and whether it is well."""

import asyncio
import contextlib
import io
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.core import GaugeMetricFamily

from tests.unit.runtime.fake_api import FakeApi
from tests.unit.runtime.test_reflector import BOXES, QUICK, Box, Narrow, Seen, until
from vdcos.core import metrics as declared
from vdcos.core.objects import Key, Meta, Resource
from vdcos.core.plan import Apply, Create
from vdcos.runtime import logs
from vdcos.runtime.endpoints import OLDEST_WORD, Health, serve
from vdcos.runtime.engine import Outcome
from vdcos.runtime.events import BURST, EVENT, PER_SECOND, WAITING, Events, Turns, worth_an_event
from vdcos.runtime.metrics import Metrics, Scraped, gauge
from vdcos.runtime.observers import Everyone, Log, transitions
from vdcos.runtime.port import Port
from vdcos.runtime.queue import Item, Queue
from vdcos.runtime.reflector import Reflector
from vdcos.runtime.requests import ApiError, Request
from vdcos.runtime.store import Store

ITEM = Item("boxes", Key("ns", "a"))
OWNER = Meta(name="a", namespace="ns", uid="u1")


def said(**statuses: str) -> list[dict[str, Any]]:
    return [
        {"type": kind, "status": status, "reason": f"{kind}Is{status}", "message": f"{kind} words"}
        for kind, status in statuses.items()
    ]


# Events


@pytest.mark.parametrize(
    ("why", "before", "now", "news"),
    [
        ("first words of a new object", said(), said(Ready="False", DisksReady="False", Power="True"), []),
        ("Ready for the first time", said(Ready="False"), said(Ready="True"), ["Ready"]),
        ("Ready at once", said(), said(Ready="True"), ["Ready"]),
        ("not Ready any more", said(Ready="True"), said(Ready="False"), ["Ready"]),
        ("another aspect changes sides", said(DisksReady="True"), said(DisksReady="False"), ["DisksReady"]),
        ("an aspect on the way up", said(Ready="False", Disks="False"), said(Ready="False", Disks="True"), []),
        ("all aspects at last", said(Ready="False", Disks="False"), said(Ready="True", Disks="True"), ["Ready"]),
        ("an aspect comes back", said(Ready="True", Agent="False"), said(Ready="True", Agent="True"), ["Agent"]),
        ("an aspect is lost", said(Ready="True", Agent="True"), said(Ready="True", Agent="False"), ["Agent"]),
        ("first words of a ready object", said(Ready="True"), said(Ready="True", Agent="False"), []),
        ("becomes unknown", said(Ready="True"), said(Ready="Unknown"), []),
        ("an aspect comes out of the unknown", said(Power="Unknown"), said(Power="True"), []),
        ("progress is no news", said(Reconciling="True"), said(), []),
        ("progress begins", said(), said(Reconciling="True"), []),
        ("stalled", said(), said(Stalled="True"), ["Stalled"]),
        ("nothing changed", said(Ready="False", Stalled="True"), said(Ready="False", Stalled="True"), []),
    ],
)
def test_events_are_for_news(why: str, before: Any, now: Any, news: list[str]) -> None:
    assert [condition["type"] for condition in worth_an_event(before, now)] == news, why


async def test_an_event_says_what_changed_of_whom(tmp_path: Path) -> None:
    api = FakeApi()
    api.serve(EVENT)
    counted: list[str] = []
    events = Events({"boxes": BOXES}, "me", counted.append)
    async with api.serving(tmp_path) as origin, Port.open(origin) as port:
        posting = asyncio.create_task(events.run(port))
        api.fault("POST", EVENT, 503)
        events.said(ITEM, OWNER, said(Ready="True"), said(Ready="False"))
        events.said(ITEM, OWNER, said(Ready="False"), said(Ready="True"))
        events.said(Item("boxes", Key("", "wide")), Meta(name="wide"), [], said(Stalled="True"))
        await until(lambda: counted == ["failed", "posted", "posted"])
        posting.cancel()
    ready, stalled = (event for _, event in sorted(api.collections[EVENT.path()].items(), reverse=True))
    assert ready["regarding"] == {
        "apiVersion": "example.com/v1", "kind": "Box", "namespace": "ns", "name": "a", "uid": "u1"
    }  # fmt: skip
    assert (ready["type"], ready["reason"], ready["action"]) == ("Normal", "ReadyIsTrue", "Ready")
    assert ready["note"] == "Ready is True: Ready words"
    assert (stalled["type"], stalled["metadata"]["namespace"]) == ("Warning", "default")


def test_too_many_events_are_dropped_and_counted() -> None:
    counted: list[str] = []
    events = Events({"boxes": BOXES}, "me", counted.append)
    for _ in range(WAITING + 3):
        events.said(ITEM, OWNER, said(), said(Ready="True"))
    assert counted == ["dropped"] * 3


async def test_a_flood_keeps_only_its_own_namespace_waiting() -> None:
    waiting = Turns()
    assert all(waiting.put("flood", {"n": number}) for number in range(WAITING))
    assert not waiting.put("calm", {"n": "calm"}), "for it, one of the flood is lost"
    assert [(await waiting.get())["n"] for _ in range(3)] == [0, "calm", 1]
    rest = [(await waiting.get())["n"] for _ in range(WAITING - 3)]
    assert rest == list(range(2, WAITING - 1)), "the newest was lost, and nothing comes twice"


async def test_who_waits_for_an_event_gets_the_next() -> None:
    waiting = Turns()
    getting = asyncio.create_task(waiting.get())
    await asyncio.sleep(0)
    waiting.put("", {"n": 1})
    assert await getting == {"n": 1}


@pytest.mark.looptime
async def test_many_events_at_once_leave_room_for_others() -> None:
    counted: list[str] = []
    events = Events({"boxes": BOXES}, "me", counted.append)

    class Answers:
        async def call(self, verb: str, method: str, path: str, **_: Any) -> bytes:
            return b"{}"

    for _ in range(700):
        events.said(ITEM, OWNER, said(), said(Ready="True"))
    posting = asyncio.create_task(events.run(Answers()))
    await asyncio.sleep(0.1)
    assert len(counted) == BURST
    await asyncio.sleep(20)
    assert len(counted) == pytest.approx(BURST + 20 * PER_SECOND, abs=2)
    posting.cancel()


# Metrics


def metric(metrics: Metrics, line: str) -> float | None:
    name, _, labels = line.partition("{")
    pairs = dict(pair.split("=") for pair in labels.rstrip("}").split(",") if pair)
    return metrics.registry.get_sample_value(name, pairs)


def test_metrics_count_what_happens() -> None:
    metrics = Metrics()
    metrics.reconciled(ITEM, Outcome("done"), 0.02)
    metrics.wrote(Request("boxes", "status", BOXES, ITEM.key, "PATCH", "/x"))
    metrics.failed("watch", 410)
    metrics.acted(ITEM, Apply(BOXES, {}, "wanted"))
    metrics.acted(ITEM, Apply(BOXES, {}, "put right", repairs=("spec.a", "spec.b")))
    metrics.listed(BOXES, "Expired")
    metrics.undecodable(BOXES)
    metrics.event("posted")
    assert metric(metrics, "vdcos_reconciles_total{vservice=boxes,result=done}") == 1
    assert metric(metrics, "vdcos_reconcile_seconds_sum{vservice=boxes}") == 0.02
    assert metric(metrics, "vdcos_writes_total{vservice=boxes,kind=Box.example.com,verb=status}") == 1
    assert metric(metrics, "vdcos_api_errors_total{verb=watch,code=410}") == 1
    assert metric(metrics, "vdcos_drift_repairs_total{vservice=boxes,kind=Box.example.com}") == 2
    assert metric(metrics, "vdcos_lists_total{kind=Box.example.com,reason=Expired}") == 1
    assert metric(metrics, "vdcos_undecodable_objects_total{kind=Box.example.com}") == 1
    assert metric(metrics, "vdcos_events_total{result=posted}") == 1
    assert b"vdcos_build_info{version=" in asyncio.run(metrics.scrape())


def test_metrics_are_read_in_the_loop_and_written_beside_it() -> None:
    """What is read belongs to the loop; with a thousand hosts the text would stop it for too long."""
    metrics, threads = Metrics(), {}

    class Value(float):
        def __float__(self) -> float:
            threads["written"] = threading.get_ident()
            return super().__float__()

    def read() -> Iterator[GaugeMetricFamily]:
        threads["read"] = threading.get_ident()
        yield gauge(declared.LEADER, [((), Value(0.25))])

    Scraped(metrics.registry, lambda: True, read)
    assert b"vdcos_leader 0.25" in asyncio.run(metrics.scrape())
    assert threads["read"] == threading.get_ident() != threads["written"]


def test_two_operators_in_one_process_do_not_share_metrics() -> None:
    one, two = Metrics(), Metrics()
    one.failed("get", 500)
    assert metric(two, "vdcos_api_errors_total{verb=get,code=500}") is None


class Quiet:
    """A source that was last told something ``seconds`` ago."""

    def __init__(self, name: str, seconds: float, unavailable: str = "", kind: type[Any] = Box) -> None:
        self.kind, self.resource = kind, Resource("example.com", "v1", "things", name)
        self.seconds = seconds
        self.unavailable = unavailable

    def age(self) -> float:
        return self.seconds


def test_gauges_are_read_when_they_are_scraped() -> None:
    metrics, queue, store, leading = Metrics(), Queue(), Store((Box, Narrow)), False
    sources: list[Any] = [Quiet("Box", 2.0), Quiet("Box", 7.0, kind=Narrow)]
    metrics.watch(["boxes"], queue, store, sources, lambda: leading, lambda: 3, lambda: 100.0)
    queue.add(ITEM, 90.0)
    store.put(Box, store.decoder(Box)(b'{"metadata": {"name": "a", "resourceVersion": "1"}}'))
    assert metric(metrics, "vdcos_leader") == 0
    assert metric(metrics, "vdcos_reconciles_in_flight") == 3
    assert metric(metrics, "vdcos_stored_objects{kind=Box.example.com}") == 1
    assert metric(metrics, "vdcos_watch_age_seconds{kind=Box.example.com}") == 7, "two sources of one kind"
    assert metric(metrics, "vdcos_queue_depth") is metric(metrics, "vdcos_queue_oldest_age_seconds") is None
    leading = True
    assert metric(metrics, "vdcos_leader") == 1
    assert metric(metrics, "vdcos_queue_depth") == 1
    assert metric(metrics, "vdcos_queue_oldest_age_seconds") == 10


def test_what_must_not_happen_is_counted_from_0_on() -> None:
    """Prometheus sees no increase in a counter that begins with 1."""
    metrics = Metrics()
    sources: list[Any] = [Quiet("Box", 0.0)]
    metrics.watch(["boxes"], Queue(), Store((Box,)), sources, lambda: True, lambda: 0, lambda: 0.0)
    assert metric(metrics, "vdcos_reconciles_total{vservice=boxes,result=bug}") == 0
    assert metric(metrics, "vdcos_undecodable_objects_total{kind=Box.example.com}") == 0


# Health


async def ask(address: str, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}{path}") as response:
        return response.status, await response.text()


async def test_health_tells_deaf_from_not_ready_from_unavailable() -> None:
    box, absent, ready = Quiet("Box", 10), Quiet("Absent", 10, "the API is not installed"), False
    health = Health([box, absent], lambda: ready)  # type: ignore[list-item]
    async with serve("127.0.0.1:0", Metrics(), health) as address:
        assert await ask(address, "/healthz") == (200, "ok\n")
        assert await ask(address, "/readyz") == (503, "not every kind has been listed yet\n")
        ready = True
        assert await ask(address, "/readyz") == (200, "ok\nthe API is not installed\n")
        box.seconds = OLDEST_WORD + 1
        assert await ask(address, "/healthz") == (503, "Box.example.com: nothing heard for 181 s\n")
        assert (await ask(address, "/readyz"))[0] == 503
        status, text = await ask(address, "/metrics")
        assert status == 200
        assert "vdcos_build_info" in text


async def test_a_dead_api_server_makes_a_source_deaf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vdcos.runtime.endpoints.OLDEST_WORD", 0.2)
    api = FakeApi()
    api.serve(BOXES)
    store = Store([Box])
    async with api.serving(tmp_path) as origin, Port.open(origin) as port:
        source = Reflector(Box, BOXES, port, store, Seen(), timing=QUICK)
        health = Health([source], lambda: True)
        task = asyncio.create_task(source.run())
        await until(lambda: store.known(Box))
        assert health.deaf() == []
        api.down = True
        await until(health.deaf)
        api.down = False
        await until(lambda: not health.deaf())
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


# Logs


def logged(style: logs.Format) -> tuple[logging.Logger, io.StringIO]:
    stream = io.StringIO()
    logger = logging.getLogger("vdcos.test")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonFormatter() if style == "json" else logs.TextFormatter())
    logger.handlers[:], logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    return logger, stream


def test_a_line_of_json_holds_object_service_and_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    logger, stream = logged("json")
    monkeypatch.setattr("vdcos.runtime.observers.log", logger)
    everyone = Everyone(Log())
    everyone.acted(ITEM, Create(BOXES, {"spec": {"password": "hunter2"}}, "the box is missing"))
    everyone.refused(ITEM, ApiError(422, "Invalid", "spec.size: must be positive"))
    everyone.said(ITEM, OWNER, said(Ready="False"), said(Ready="True", Power="True"))
    try:
        raise RuntimeError("oops")
    except RuntimeError as error:
        everyone.bug(ITEM, error)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["message"] for line in lines] == ["acted", "refused", "said", "bug"]
    assert {(line["service"], line["object"]) for line in lines} == {("boxes", "ns/a")}
    assert lines[0]["why"] == "the box is missing"
    assert (lines[1]["level"], lines[1]["status"], lines[1]["reason"]) == ("warning", 422, "Invalid")
    assert lines[2]["conditions"] == "Ready=True/ReadyIsTrue Power=True/PowerIsTrue"
    assert (lines[2]["reason"], lines[2]["why"]) == ("ReadyIsTrue", "Ready words")
    assert "RuntimeError: oops" in lines[3]["traceback"]
    assert "hunter2" not in stream.getvalue()


def test_a_line_of_text_is_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    logger, stream = logged("text")
    monkeypatch.setattr("vdcos.runtime.observers.log", logger)
    Log().acted(ITEM, Apply(BOXES, {}, "it was changed", repairs=("spec.a",)))
    when, line = stream.getvalue().split(" ", 1)
    assert len(when) == len("12:34:56.789")
    assert line == 'INFO    repaired service=boxes object=ns/a kind=Box.example.com action=Apply why="it was changed"\n'


def test_fields_that_nobody_declared_are_not_logged() -> None:
    logger, stream = logged("json")
    logger.info("hello", extra={"token": "secret", "reason": "Why"})
    assert json.loads(stream.getvalue()).keys() == {"time", "level", "logger", "message", "reason"}


def test_transitions_are_changes_of_status() -> None:
    before, now = said(Ready="False", Power="True"), said(Ready="True", Power="True", Disks="False")
    assert [condition["type"] for condition in transitions(before, now)] == ["Ready", "Disks"]


def test_a_line_of_text_cannot_be_forged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages of the API server repeat what users wrote; a terminal must not obey it, nor a reader take it for a line
    of ours."""
    logger, stream = logged("text")
    monkeypatch.setattr("vdcos.runtime.observers.log", logger)
    Everyone(Log()).refused(ITEM, ApiError(422, "Invalid", 'a\n12:00:00.000 INFO acted\x1b[2J"\x9b'))
    (line,) = stream.getvalue().splitlines()
    assert line.isprintable()
    assert "\\n12:00:00.000 INFO acted\\u001b[2J" in line
