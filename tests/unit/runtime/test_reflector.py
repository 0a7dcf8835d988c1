"""Reflectors against every way in which a watch goes wrong."""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.unit.runtime.fake_api import FakeApi
from vdcos.core.objects import Key, Object, Resource
from vdcos.runtime.port import Port
from vdcos.runtime.reflector import Reflector, Timing
from vdcos.runtime.store import Store

BOXES = Resource("example.com", "v1", "boxes", "Box")
QUICK = Timing(silence=0.3, brief=0.02, first_pause=0.01, longest_pause=0.05, absent_pause=0.05, disbelief=0.5)


class Box(Object, frozen=True):
    resource = BOXES
    size: int = 0


class Narrow(Object, frozen=True):
    resource = BOXES
    label_selector = "shape=round"
    field_selector = "metadata.name=a"


class Seen:
    """Observes the sources."""

    def __init__(self) -> None:
        self.lists: list[str] = []
        self.bad = 0

    def listed(self, resource: Resource, why: str) -> None:
        self.lists.append(why)

    def undecodable(self, resource: Resource) -> None:
        self.bad += 1


class World:
    def __init__(self, api: FakeApi, store: Store, seen: Seen, reflector: Reflector) -> None:
        self.api = api
        self.store = store
        self.seen = seen
        self.reflector = reflector
        self.changes = 0

    def changed(self) -> None:
        self.changes += 1

    def size(self, name: str) -> int | None:
        box = self.store.heard(Box, Key("ns", name))
        return box.size if isinstance(box, Box) else None

    async def put(self, name: str, size: int, **how: Any) -> None:
        await self.api.put(BOXES, name, "ns", size=size, **how)


async def until(condition: Callable[[], Any], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def running(folder: Path, api: FakeApi, timing: Timing = QUICK) -> AsyncIterator[World]:
    store, seen = Store([Box], (), [Box]), Seen()
    async with api.serving(folder) as origin, Port.open(origin) as port:
        world: World
        reflector = Reflector(Box, BOXES, port, store, seen, lambda: world.changed(), timing)
        world = World(api, store, seen, reflector)
        task = asyncio.create_task(reflector.run())
        try:
            yield world
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture
def api() -> FakeApi:
    fake = FakeApi()
    fake.serve(BOXES)
    return fake


async def test_lists_then_follows(tmp_path: Path, api: FakeApi) -> None:
    await api.put(BOXES, "old", "ns", size=1)
    async with running(tmp_path, api) as world:
        await until(lambda: world.size("old") == 1)
        listed = world.store.heard_at(Box)
        assert world.store.known(Box)
        assert world.changes == 1
        await world.put("new", 2)
        await until(lambda: world.size("new") == 2)
        await world.put("new", 3)
        await until(lambda: world.size("new") == 3)
        assert listed < world.store.heard_at(Box) <= time.monotonic()
        await api.delete(BOXES, "new", "ns")
        await until(lambda: world.size("new") is None)
        assert world.seen.lists == ["start"], "one list and one watch were enough"


@pytest.mark.parametrize(("spell", "anew"), [(0.0, True), (60.0, False)], ids=["long", "short"])
async def test_after_a_long_pause_all_silences_begin_anew(
    tmp_path: Path, api: FakeApi, monkeypatch: pytest.MonkeyPatch, spell: float, anew: bool
) -> None:
    monkeypatch.setattr(Box, "spell", spell)
    await api.put(BOXES, "old", "ns", size=1)
    async with running(tmp_path, api) as world:
        await until(lambda: world.size("old") == 1)
        before = world.store.silent_since(Box, Key("ns", "old"))
        await world.put("new", 2)
        await until(lambda: world.size("new") == 2)
        after = world.store.silent_since(Box, Key("ns", "old"))
        assert before is not None
        assert after is not None
        assert (after > before) is anew


async def test_nothing_is_known_before_the_last_page(tmp_path: Path, api: FakeApi, monkeypatch: Any) -> None:
    monkeypatch.setattr("vdcos.runtime.port.PAGE", 2)
    for number in range(5):
        await api.put(BOXES, f"box-{number}", "ns", size=number)
    last, asked = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        asked.set()
        await last.wait()

    api.fault("list", BOXES, None, None, wait)
    async with running(tmp_path, api) as world:
        await asyncio.wait_for(asked.wait(), 5)
        assert not world.store.known(Box)
        last.set()
        await until(lambda: world.store.known(Box))
        assert [world.size(f"box-{number}") for number in range(5)] == [0, 1, 2, 3, 4]
        assert api.count("list", BOXES) == 3


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (410, "Expired"),
        (500, "InternalError"),
        ("close", "Closed"),
        ("cut", "Unreachable"),
        ("half", "Truncated"),
        ("garbage", "Unreadable"),
        ("silent", "Timeout"),
        (429, "Injected"),
        (503, "Injected"),
        (401, "Injected"),
    ],
)
async def test_survives_what_ends_a_watch(tmp_path: Path, api: FakeApi, fault: Any, why: str) -> None:
    """What happened unseen meanwhile, a deletion included, is known after the next list; and the watch goes on."""
    await api.put(BOXES, "gone", "ns", size=1)
    api.fault("watch", BOXES, fault, fault)

    async def behind_its_back() -> None:
        if ("ns", "gone") in api.collections[BOXES.path()]:
            await api.delete(BOXES, "gone", "ns", tell=False)
            await api.put(BOXES, "unseen", "ns", size=5, tell=False)

    api.fault("list", BOXES, None, behind_its_back)
    # Only silence may be told by the clock: on a busy machine "closed at once" takes its time.
    timing = QUICK if fault == "silent" else dataclasses.replace(QUICK, silence=60, brief=30)
    async with running(tmp_path, api, timing) as world:
        await until(lambda: world.size("unseen") == 5 and world.size("gone") is None)
        await until(lambda: not api.faults["watch", BOXES.path()])
        await world.put("later", 7)
        await until(lambda: world.size("later") == 7)
        assert why in world.seen.lists


async def test_a_watch_that_ends_in_good_order_goes_on_where_it_was(tmp_path: Path, api: FakeApi) -> None:
    async def slow_close() -> str:
        await asyncio.sleep(0.05)
        return "close"

    api.fault("watch", BOXES, slow_close, slow_close)
    async with running(tmp_path, api) as world:
        await until(lambda: api.count("watch", BOXES) == 3)
        await world.put("a", 1)
        await until(lambda: world.size("a") == 1)
        assert world.seen.lists == ["start"]


async def test_an_absent_kind_is_said_to_be_absent_and_found_when_it_comes(tmp_path: Path) -> None:
    api = FakeApi()
    async with running(tmp_path, api) as world:
        await until(lambda: world.store.known(Box))
        assert "boxes.example.com (v1) is not installed" in world.reflector.unavailable
        assert world.changes >= 1
        api.serve(BOXES)
        await world.put("a", 1)
        await until(lambda: world.size("a") == 1)
        assert world.reflector.unavailable == ""


async def test_a_forbidden_kind_names_the_rights(tmp_path: Path, api: FakeApi) -> None:
    api.fault("list", BOXES, 403)
    async with running(tmp_path, api) as world:
        await until(lambda: world.reflector.unavailable)
        assert "not allowed to read boxes.example.com" in world.reflector.unavailable
        await until(lambda: not world.reflector.unavailable)


@pytest.mark.parametrize("refusal", [403, 404])
async def test_what_a_starting_api_server_says_is_not_believed(tmp_path: Path, api: FakeApi, refusal: int) -> None:
    await api.put(BOXES, "a", "ns", size=1)
    api.fault("list", BOXES, None, refusal, refusal, 503, refusal)
    api.fault("watch", BOXES, 410)
    emptied = False
    async with running(tmp_path, api) as world:

        def listen(kind: type[Any], old: Any, new: Any) -> None:
            nonlocal emptied
            emptied |= new is None

        world.store.subscribe(listen)
        await until(lambda: not api.faults["list", BOXES.path()])
        await world.put("a", 2)
        await until(lambda: world.size("a") == 2)
        assert not emptied


async def test_a_kind_that_stays_away_is_gone(tmp_path: Path, api: FakeApi) -> None:
    await api.put(BOXES, "a", "ns", size=1)
    async with running(tmp_path, api) as world:
        await until(lambda: world.size("a") == 1)
        del api.collections[BOXES.path()]
        for watch in list(api.watches):
            watch.cancel()
        began = time.monotonic()
        await until(lambda: world.reflector.unavailable)
        assert time.monotonic() - began >= 0.4
        assert world.size("a") is None


async def test_an_object_that_does_not_fit_disturbs_no_other(tmp_path: Path, api: FakeApi) -> None:
    await api.put(BOXES, "bad", "ns", size="huge")
    await api.put(BOXES, "good", "ns", size=1)
    async with running(tmp_path, api) as world:
        await until(lambda: world.size("good") == 1)
        assert world.size("bad") is None
        await world.api.put(BOXES, "worse", "ns", size=[])
        await world.put("good", 2)
        await until(lambda: world.size("good") == 2)
        assert world.seen.bad == 2
        assert world.seen.lists == ["start"]


async def test_an_object_that_stops_to_fit_keeps_its_last_good_version(tmp_path: Path, api: FakeApi) -> None:
    await api.put(BOXES, "a", "ns", size=1)
    async with running(tmp_path, api) as world:
        await until(lambda: world.size("a") == 1)
        await api.put(BOXES, "a", "ns", size="huge")
        await until(lambda: world.seen.bad == 1)
        assert world.size("a") == 1


async def test_a_listener_that_raises_does_not_end_the_source(tmp_path: Path, api: FakeApi) -> None:
    async with running(tmp_path, api) as world:
        await until(lambda: world.store.known(Box))
        raised = False

        def listen(kind: type[Any], old: Any, new: Any) -> None:
            nonlocal raised
            if not raised:
                raised = True
                raise RuntimeError("a bug")

        world.store.subscribe(listen)
        await world.put("a", 1)
        await until(lambda: "Bug" in world.seen.lists)
        await world.put("a", 2)
        await until(lambda: world.size("a") == 2)


async def test_age_starts_again_with_every_word(tmp_path: Path, api: FakeApi) -> None:
    async with running(tmp_path, api, Timing(silence=60)) as world:
        await until(lambda: world.store.known(Box))
        await asyncio.sleep(0.1)
        assert world.reflector.age() >= 0.1
        await world.put("a", 1)
        await until(lambda: world.size("a") == 1)
        assert world.reflector.age() < 0.1


async def test_selectors_narrow_lists_and_watches(tmp_path: Path, api: FakeApi) -> None:
    async with api.serving(tmp_path) as origin, Port.open(origin) as port:
        task = asyncio.create_task(Reflector(Narrow, BOXES, port, Store([Narrow]), Seen(), timing=QUICK).run())
        await until(lambda: api.count("watch", BOXES))
        task.cancel()
        for _, _, query in api.requests:
            assert query["labelSelector"] == "shape=round"
            assert query["fieldSelector"] == "metadata.name=a"


def test_slim_structs_ignore_what_plans_do_not_read() -> None:
    raw = (
        b'{"apiVersion":"example.com/v1","kind":"Box","metadata":{"name":"a","managedFields":[{}]},"size":3,"color":1}'
    )
    assert msgspec.json.decode(raw, type=Box).size == 3
