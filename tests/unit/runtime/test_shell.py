"""The shell in virtual time: who may write, how much at a time, and how it stops."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from vdcos.core.objects import Key, Meta, Object, Resource
from vdcos.runtime.engine import Colloquy, Outcome, Together
from vdcos.runtime.queue import Item, Queue
from vdcos.runtime.requests import ApiError, Request
from vdcos.runtime.shell import AT_ONCE, DRAIN_SECONDS, FEW, IN_FLIGHT, Shell
from vdcos.runtime.store import Store

pytestmark = pytest.mark.looptime

BOXES = Resource("example.com", "v1", "boxes", "Box")


class Box(Object, frozen=True):
    resource = BOXES


def box(name: str) -> Item:
    return Item("boxes", Key("ns", name))


class Engine:
    """Sends one write for each item and returns what ``ends`` says; what it was told is in ``told``."""

    def __init__(self) -> None:
        self.ends: Callable[[Item], Outcome] = lambda item: Outcome("done")
        self.looks: list[Item] = []
        self.told: list[bytes | ApiError] = []
        self.closed: list[Item] = []
        self.silent_at: float | None = None

    def next_silence(self) -> float | None:
        return self.silent_at

    def listen(self) -> None:
        """Nobody waits for a silence."""

    def converse(self, item: Item) -> Colloquy:
        self.looks.append(item)
        try:
            try:
                self.told.append((yield Request("boxes", "patch", BOXES, item.key, "PATCH", "/x", b"{}")))
            except ApiError as error:
                self.told.append(error)
            return self.ends(item)
        except GeneratorExit:
            self.closed.append(item)
            raise


class Sender:
    def __init__(self) -> None:
        self.seconds = 1.0
        self.error: ApiError | None = None
        self.now = self.most = 0
        self.limits: list[float] = []

    async def send(self, request: Request, seconds: float) -> bytes:
        self.limits.append(seconds)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.now -= 1
        if self.error:
            raise self.error
        return b"{}"


class Seen:
    def __init__(self) -> None:
        self.results: list[str] = []
        self.writes = 0

    def reconciled(self, item: Item, outcome: Outcome, seconds: float) -> None:
        self.results.append(outcome.result)

    def wrote(self, request: Request) -> None:
        self.writes += 1


class World:
    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.engine, self.sender, self.seen, self.remaining = Engine(), Sender(), Seen(), 8.0
        self.store, self.queue = Store([Box]), Queue()
        self.shell = Shell(
            self.engine,  # type: ignore[arg-type]
            self.store,
            self.queue,
            self.sender,
            lambda: self.remaining,
            self.seen,
            loop.time,
        )
        self.task = asyncio.create_task(self.shell.run())

    def add(self, name: str, after: float = 0.0) -> None:
        self.queue.add(box(name), asyncio.get_running_loop().time() + after)
        self.shell.wake()

    def sync(self) -> None:
        self.store.replace(Box, [], "1")
        self.shell.wake()


@contextlib.asynccontextmanager
async def world(synced: bool = True) -> Any:
    made = World()
    if synced:
        made.sync()
    try:
        yield made
    finally:
        made.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await made.task


async def test_nothing_happens_before_every_source_is_known() -> None:
    async with world(synced=False) as w:
        w.add("a")
        await asyncio.sleep(30)
        assert w.engine.looks == []
        w.sync()
        await asyncio.sleep(1.1)
        assert w.engine.looks == [box("a")]
        assert w.seen.results == ["done"]
        assert w.seen.writes == 1


async def test_an_unavailable_kind_does_not_hold_the_others_up() -> None:
    async with world(synced=False) as w:
        w.add("a")
        w.store.unavailable(Box, "not installed")
        await asyncio.sleep(1.1)
        assert w.seen.results == ["done"]


async def test_a_standby_plans_nothing_and_begins_when_it_may() -> None:
    async with world() as w:
        w.remaining = 0.0
        w.add("a")
        await asyncio.sleep(60)
        assert w.engine.looks == []
        w.remaining = 8.0
        await asyncio.sleep(2.5)  # also without being woken
        assert w.seen.results == ["done"]


@pytest.mark.parametrize("later", [[], ["later"]])
async def test_what_is_heard_ends_the_sleep_when_somebody_is_to_look_sooner(later: list[str]) -> None:
    async with world() as w:
        for name in later:
            w.add(name, after=60.0)
        await asyncio.sleep(5)
        w.queue.add(box("now"), asyncio.get_running_loop().time())
        w.store.put(Box, Box(metadata=Meta(name="now", namespace="ns", resource_version="2")))
        await asyncio.sleep(1.1)
        assert w.engine.looks == [box("now")]


async def test_it_wakes_when_a_silence_is_over() -> None:
    async with world() as w:
        loop = asyncio.get_running_loop()
        due = loop.time() + 5.0

        def over() -> None:
            if w.engine.silent_at is not None and loop.time() >= due:
                w.engine.silent_at = None
                w.queue.add(box("a"), due)

        w.engine.listen, w.engine.silent_at = over, due
        w.shell.wake()
        await asyncio.sleep(4.9)
        assert w.engine.looks == []
        await asyncio.sleep(1.2)
        assert w.engine.looks == [box("a")]


async def test_a_write_gets_no_more_time_than_our_right_to_write_has_left() -> None:
    async with world() as w:
        w.remaining = 3.5
        w.add("a")
        await asyncio.sleep(1.1)
        assert w.sender.limits == [3.5]


async def test_leadership_that_ends_before_a_write_ends_the_conversation_and_keeps_the_item() -> None:
    async with world() as w:
        w.engine.converse = two_writes(w)
        w.add("a")
        await asyncio.sleep(0.5)
        w.remaining = 0.5
        await asyncio.sleep(5)
        assert w.seen.writes == 1, "the second write was not begun"
        assert w.engine.closed == [box("a")]
        assert w.seen.results == []
        w.remaining = 8.0
        await asyncio.sleep(4)
        assert w.seen.results == ["done"]


def two_writes(w: World) -> Callable[[Item], Colloquy]:
    def converse(item: Item) -> Colloquy:
        try:
            for _ in range(2):
                yield Request("boxes", "patch", BOXES, item.key, "PATCH", "/x", b"{}")
        except GeneratorExit:
            w.engine.closed.append(item)
            raise
        return Outcome("done")

    return converse


async def test_many_at_a_time_but_not_too_many() -> None:
    async with world() as w:
        for number in range(3 * IN_FLIGHT):
            w.add(f"box-{number}")
        await asyncio.sleep(0.5)
        assert w.shell.in_flight == IN_FLIGHT
        await asyncio.sleep(3)
        assert len(w.seen.results) == 3 * IN_FLIGHT
        assert w.sender.most == IN_FLIGHT


async def test_an_item_is_in_flight_once_and_looked_at_again_afterwards() -> None:
    async with world() as w:
        w.add("a")
        await asyncio.sleep(0.5)
        w.add("a")
        w.add("a")
        await asyncio.sleep(5)
        assert w.engine.looks == [box("a"), box("a")]
        assert w.sender.most == 1


@pytest.mark.parametrize(
    ("outcome", "pauses"),
    [
        (Outcome("done"), []),
        (Outcome("gone"), []),
        (Outcome("refused"), []),
        (Outcome("done", after=10.0), [10.0]),
        (Outcome("conflict"), [0.0]),
        (Outcome("backoff"), [0.0]),
        (Outcome("backoff", after=7.0), [7.0]),
        (Outcome("bug"), [5.0]),
    ],
)
async def test_what_an_outcome_means_for_the_next_look(outcome: Outcome, pauses: list[float]) -> None:
    async with world() as w:
        ends: list[float] = []
        starts: list[float] = []
        loop = asyncio.get_running_loop()
        plain: Callable[[Item], Colloquy] = w.engine.converse

        def converse(item: Item) -> Colloquy:
            starts.append(loop.time())
            return plain(item)

        def end(item: Item) -> Outcome:
            ends.append(loop.time())
            return outcome if len(ends) == 1 else Outcome("done")

        w.engine.converse, w.engine.ends = converse, end
        w.add("a")
        await asyncio.sleep(60)
        assert [start - end for start, end in zip(starts[1:], ends, strict=False)] == pytest.approx(pauses, abs=0.02)


async def test_the_engine_hears_of_errors_and_they_are_no_writes() -> None:
    async with world() as w:
        w.sender.error = ApiError(409, "Conflict", "no")
        w.add("a")
        await asyncio.sleep(1.1)
        assert [str(said) for said in w.engine.told] == ["409 Conflict: no"]
        assert w.seen.writes == 0


async def test_a_stop_lets_writes_finish() -> None:
    w = World()
    w.sync()
    w.add("a")
    await asyncio.sleep(0.1)
    w.add("b", after=0.2)
    w.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await w.task
    assert w.seen.results == ["done"], "a finished, b was not begun"


async def test_a_stop_does_not_wait_forever() -> None:
    w = World()
    w.sync()
    w.sender.seconds = 3600
    w.add("a")
    await asyncio.sleep(0.1)
    began = asyncio.get_running_loop().time()
    w.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await w.task
    assert asyncio.get_running_loop().time() - began == pytest.approx(DRAIN_SECONDS)
    assert w.engine.closed == [box("a")]


async def test_a_bug_in_a_conversation_does_not_stop_the_shell(caplog: pytest.LogCaptureFixture) -> None:
    async with world() as w:

        def end(item: Item) -> Outcome:
            if item == box("bad"):
                raise RuntimeError("oops")
            return Outcome("done")

        w.engine.ends = end
        w.add("bad")
        w.add("good")
        await asyncio.sleep(2)
        assert w.seen.results == ["done"]
        assert "bug in the shell" in caplog.text


@pytest.mark.parametrize("error", [None, ApiError(409, "Conflict", "no")], ids=["carried out", "refused"])
async def test_what_belongs_together_is_sent_at_the_same_time(error: ApiError | None) -> None:
    async with world() as w:
        told: list[Any] = []

        def converse(item: Item) -> Colloquy:
            request = Request("boxes", "delete", BOXES, item.key, "DELETE", "/x")
            told.append((yield Together((request, request, request))))
            return Outcome("done")

        w.engine.converse, w.sender.error = converse, error
        w.add("a")
        await asyncio.sleep(1.1)
        assert w.sender.most == 3
        assert told == [[error or b"{}"] * 3]
        assert w.seen.writes == (0 if error else 3)
        assert w.seen.results == ["done"]


async def test_what_belongs_together_leaves_room_for_others() -> None:
    async with world() as w:

        def converse(item: Item) -> Colloquy:
            request = Request("boxes", "delete", BOXES, item.key, "DELETE", "/x")
            yield Together((request,) * (2 * AT_ONCE + 1))
            return Outcome("done")

        w.engine.converse = converse
        w.add("a")
        await asyncio.sleep(3.1)
        assert (w.sender.most, w.seen.writes, w.seen.results) == (AT_ONCE, 2 * AT_ONCE + 1, ["done"])


async def test_little_else_is_begun_while_many_requests_hurry() -> None:
    async with world() as w:
        plain = w.engine.converse

        def converse(item: Item) -> Colloquy:
            if item != box("host"):
                outcome: Outcome = yield from plain(item)
                return outcome
            yield Together((Request("boxes", "delete", BOXES, item.key, "DELETE", "/x"),) * AT_ONCE)
            return Outcome("done")

        w.engine.converse = converse
        w.add("host")
        await asyncio.sleep(0.5)
        for number in range(2 * IN_FLIGHT):
            w.add(f"vm-{number}")
        await asyncio.sleep(0.4)
        assert w.sender.now == AT_ONCE + FEW - 1, "others go on, slowly"
        await asyncio.sleep(0.5)
        assert w.seen.results == ["done"]
        assert w.sender.now == IN_FLIGHT, "as always again"


async def test_what_belongs_together_is_not_begun_without_the_right_to_it() -> None:
    async with world() as w:
        closed: list[Item] = []

        def converse(item: Item) -> Colloquy:
            request = Request("boxes", "delete", BOXES, item.key, "DELETE", "/x")
            try:
                yield request
                yield Together((request, request))
            except GeneratorExit:
                closed.append(item)
                raise
            return Outcome("done")

        w.engine.converse = converse
        w.add("a")
        await asyncio.sleep(0.5)
        w.remaining = 0.5
        await asyncio.sleep(3)
        assert (w.seen.writes, closed, w.seen.results) == (1, [box("a")], [])
