"""Asks from the providers' side, in virtual time: deadlines, bulkheads, breakers, leadership; no secret gets out."""

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest

from vdcos.core.objects import Key
from vdcos.core.plan import Ask
from vdcos.runtime.asks import ERROR_LIMIT, Asks, Failed, Limits, Provider
from vdcos.runtime.queue import Item

pytestmark = pytest.mark.looptime

ITEM = Item("hostfailure", Key("", "host-1-abc"))
LIMITS = Limits(at_once=2, failures=3, patience=20.0)


class World:
    def __init__(self, provider: Provider, limits: Limits) -> None:
        loop = asyncio.get_running_loop()
        self.remaining = float("inf")
        self.results: list[tuple[str, str, bool]] = []
        self.replies: list[tuple[str, bool, dict[str, Any], str, float]] = []
        self.woken = 0
        self.asks = Asks({"redfish": provider}, self.lease, self, self.wake, limits, loop.time)

    def lease(self) -> float:
        """Like an Elector's: it runs out by itself."""
        return max(0.0, self.remaining - asyncio.get_running_loop().time())

    def wake(self) -> None:
        self.woken += 1

    def answered(self, provider: str, effect: bool, result: str, seconds: float) -> None:
        self.results.append((provider, result, effect))

    def start(self, id_: str, deadline: float = 5.0, **more: Any) -> Ask:
        ask = Ask(id_, more.pop("provider", "redfish"), {"password": "hunter2"}, deadline, **more)

        def reply(ok: bool, value: Mapping[str, Any], error: str) -> None:
            self.replies.append((id_, ok, dict(value), error, asyncio.get_running_loop().time()))

        self.asks.start(ITEM, ask, reply)
        return ask


@contextlib.asynccontextmanager
async def world(provider: Provider, limits: Limits = LIMITS) -> AsyncIterator[World]:
    made = World(provider, limits)
    try:
        yield made
    finally:
        await made.asks.close()


async def after_a_second(request: Mapping[str, Any], seconds: float) -> Mapping[str, Any]:
    await asyncio.sleep(1)
    return {"power": "Off"}


async def never(request: Mapping[str, Any], seconds: float) -> Mapping[str, Any]:
    await asyncio.sleep(10_000)
    return {}


async def clinging(request: Mapping[str, Any], seconds: float) -> Mapping[str, Any]:
    """Does not let itself be cancelled."""
    end = asyncio.get_running_loop().time() + 100
    while (left := end - asyncio.get_running_loop().time()) > 0:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(left)
    return {}


async def test_an_answer_comes_back() -> None:
    async with world(after_a_second) as w:
        w.start("power/1")
        await asyncio.sleep(2)
        assert w.replies == [("power/1", True, {"power": "Off"}, "", 1.0)]
        assert w.results == [("redfish", "ok", False)]
        assert w.woken == 1, "the shell must not sleep on"


@pytest.mark.parametrize("provider", [never, clinging])
@pytest.mark.parametrize("effect", [False, True])
async def test_a_deadline_is_hard_whatever_the_provider_does(provider: Provider, effect: bool) -> None:
    async with world(provider) as w:
        w.start("x", 3.0, effect=effect)
        await asyncio.sleep(4)
        assert w.replies == [("x", False, {}, "no answer within 3 s", 3.0)]
        assert w.results == [("redfish", "late", effect)]


async def test_a_provider_does_so_many_at_a_time_and_waiting_counts() -> None:
    async with world(after_a_second) as w:
        for number in range(5):
            w.start(str(number), 1.5)
        await asyncio.sleep(10)
        assert sorted((id_, ok, at) for id_, ok, _, _, at in w.replies) == [
            ("0", True, 1.0),
            ("1", True, 1.0),
            ("2", False, 1.5),
            ("3", False, 1.5),
            ("4", False, 1.5),
        ]


async def test_a_clinging_call_keeps_its_slot_until_it_ends() -> None:
    async with world(clinging) as w:
        for number in range(3):
            w.start(str(number), 2.0, target=str(number))
        await asyncio.sleep(5)
        w.start("late", 5.0)
        await asyncio.sleep(6)
        assert w.replies[-1] == ("late", False, {}, "no answer within 5 s", 10.0)
        await asyncio.sleep(100)
        w.start("then", 200.0)
        await asyncio.sleep(150)
        assert w.replies[-1][:2] == ("then", True)


async def test_a_crowd_of_questions_does_not_hold_an_effect_up() -> None:
    async with world(after_a_second) as w:
        for number in range(10):
            w.start(str(number))
        w.start("power-off/1", effect=True)
        await asyncio.sleep(1.1)
        assert ("power-off/1", True, {"power": "Off"}, "", 1.0) in w.replies


async def test_who_fails_again_and_again_is_spared_and_nobody_else_is() -> None:
    calls: list[str] = []

    async def broken(request: Mapping[str, Any], seconds: float) -> Mapping[str, Any]:
        calls.append("")
        raise Failed("connection refused")

    async with world(broken) as w:
        for number in range(5):
            w.start(str(number), target="bmc-1")
            await asyncio.sleep(1)
        assert [result for _, result, _ in w.results] == ["failed"] * 3 + ["spared"] * 2
        assert len(calls) == 3
        assert w.replies[-1][3] == "it failed 3 times in a row, and is asked again later"
        w.start("other", target="bmc-2")
        w.start("power-off/1", target="bmc-1", effect=True)
        await asyncio.sleep(1)
        assert len(calls) == 5, "another target is asked, and an effect is always tried"
        await asyncio.sleep(20)
        w.start("again", target="bmc-1")
        await asyncio.sleep(1)
        assert len(calls) == 6


async def test_one_success_forgives_all() -> None:
    results = ["no", "no", "yes", "no", "no", "yes"]

    async def moody(request: Mapping[str, Any], seconds: float) -> Mapping[str, Any]:
        if results.pop(0) == "no":
            raise Failed("no")
        return {}

    async with world(moody) as w:
        for number in range(6):
            w.start(str(number), target="bmc-1")
            await asyncio.sleep(1)
        assert [result for _, result, _ in w.results] == ["failed", "failed", "ok"] * 2


async def test_an_effect_is_not_begun_without_the_lead_but_questions_are() -> None:
    async with world(after_a_second) as w:
        w.remaining = 0.5
        w.start("power-off/1", effect=True)
        w.start("power/1")
        await asyncio.sleep(2)
        assert w.replies[0][:4] == ("power-off/1", False, {}, "not begun: this replica does not lead")
        assert w.replies[1][:2] == ("power/1", True)


async def test_an_effect_is_called_off_when_another_replica_may_act() -> None:
    cancelled: list[float] = []

    async def slow(request: Mapping[str, Any], seconds: float) -> Mapping[str, Any]:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(asyncio.get_running_loop().time())
            raise
        return {}

    async with world(slow) as w:
        w.remaining = 4.0
        w.start("power-off/1", 60.0, effect=True)
        await asyncio.sleep(5)
        assert w.replies == [
            ("power-off/1", False, {}, "called off: this replica does not lead any more", 4.0),
        ]
        assert cancelled == [4.0]


async def test_an_effect_goes_on_while_the_lease_is_renewed() -> None:
    async def slow(request: Mapping[str, Any], seconds: float) -> Mapping[str, Any]:
        assert seconds == 60.0
        await asyncio.sleep(30)
        return {"accepted": True}

    async with world(slow) as w:
        w.remaining = 8.0
        w.start("power-off/1", 60.0, effect=True)
        for _ in range(31):
            await asyncio.sleep(1)
            w.remaining += 1
        assert w.replies == [("power-off/1", True, {"accepted": True}, "", 30.0)]


async def test_what_is_called_off_replies_nothing() -> None:
    async with world(after_a_second) as w:
        w.asks.stop(ITEM, w.start("power/1"))
        await asyncio.sleep(3)
        assert w.replies == []
        w.start("power/1")
        await asyncio.sleep(3)
        assert [reply[:2] for reply in w.replies] == [("power/1", True)]


async def test_an_unknown_provider_is_named() -> None:
    async with world(never) as w:
        w.start("x", provider="acme")
        await asyncio.sleep(1)
        assert w.replies[0][3] == "provider acme is not installed (there are: redfish)"


class Records(logging.Handler):
    """Everything that is logged, with its fields."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.all: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.all.append(f"{self.format(record)} {record.__dict__}")


@pytest.fixture
def records() -> Iterator[list[str]]:
    handler, loggers = Records(), [logging.getLogger(name) for name in ("vdcos.runtime.asks", "asyncio")]
    before = [(logger.level, logger.disabled) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        logger.disabled = False
    yield handler.all
    for logger, (level, disabled) in zip(loggers, before, strict=True):
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.disabled = disabled


async def test_no_secret_gets_out(records: list[str]) -> None:
    async def leaky(request: Mapping[str, Any], seconds: float) -> Mapping[str, Any]:
        if seconds > 10:
            await asyncio.sleep(30)
        raise RuntimeError(f"login as admin:{request['password']} failed")

    async with world(leaky) as w:
        w.start("at once")
        w.start("when nobody waits any more", 11.0)
        await asyncio.sleep(60)
    assert w.replies[0][3].startswith("provider redfish failed with RuntimeError in ")
    assert w.replies[1][3] == "no answer within 11 s"
    gc.collect()  # asyncio tells of errors that nobody has fetched when their task is collected
    assert sum("asked" in record for record in records) == 2
    assert "hunter2" not in f"{w.replies} {records}"


async def test_an_error_is_cut() -> None:
    async def wordy(request: Mapping[str, Any], seconds: float) -> Mapping[str, Any]:
        raise Failed("x" * 5_000)

    async with world(wordy) as w:
        w.start("x")
        await asyncio.sleep(1)
        assert len(w.replies[0][3]) == ERROR_LIMIT
