"""Leadership in virtual time: two electors, one Lease, and everything that can come between them."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from vdcos.runtime.lease import LEASE, Elector, Timing
from vdcos.runtime.requests import ApiError

pytestmark = pytest.mark.looptime

PATH = LEASE.path("ns", "vdcos")
TIMING = Timing(duration=8, renew=5, retry=1)


class Api:
    """One Lease with optimistic locking. ``slow`` seconds pass before a request is carried out, as many after it."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.slow = 0.0
        self.writes: list[str] = []

    def seize(self, holder: str) -> None:
        """Somebody writes himself into the Lease, whoever holds it."""
        assert self.lease is not None
        self.version += 1
        self.lease["spec"]["holderIdentity"] = holder
        self.lease["metadata"]["resourceVersion"] = str(self.version)

    @property
    def holder(self) -> str:
        return self.lease["spec"]["holderIdentity"] if self.lease else ""


class Line:
    """One replica's connection to the API server."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.cut = False
        self.lose_answers = False

    async def call(
        self, verb: str, method: str, path: str, *, body: bytes | None = None, seconds: float = 10.0
    ) -> bytes:
        if self.cut:
            await asyncio.sleep(seconds)
            raise ApiError(0, "Timeout", "no answer")
        await asyncio.sleep(self.api.slow)
        answer = self._do(method, path, json.loads(body) if body else {})
        await asyncio.sleep(self.api.slow)
        if self.lose_answers:
            raise ApiError(0, "Unreachable", "the answer was lost")
        return answer

    def _do(self, method: str, path: str, body: dict[str, Any]) -> bytes:
        api = self.api
        if method == "GET" and api.lease is None:
            raise ApiError(404, "NotFound", "no such lease")
        if method == "POST" and api.lease is not None:
            raise ApiError(409, "AlreadyExists", "there is one")
        if method == "PUT" and (
            api.lease is None or body["metadata"]["resourceVersion"] != api.lease["metadata"]["resourceVersion"]
        ):
            raise ApiError(409, "Conflict", "somebody else wrote")
        if method != "GET":
            api.version += 1
            body["metadata"]["resourceVersion"] = str(api.version)
            api.lease = body
            api.writes.append(body["spec"]["holderIdentity"])
        return json.dumps(api.lease).encode()


class Replica:
    def __init__(self, api: Api, name: str) -> None:
        self.line = Line(api)
        self.elector = Elector("ns", "vdcos", name, TIMING, asyncio.get_running_loop().time)
        self.changes: list[tuple[float, bool]] = []
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self.task = asyncio.create_task(
            self.elector.run(
                lambda: contextlib.nullcontext(self.line), lambda leading: self.changes.append((loop.time(), leading))
            )
        )

    async def stop(self) -> None:
        assert self.task is not None
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    def kill(self) -> None:
        """As SIGKILL does: no request of it ever arrives again."""
        self.line.cut = True


class Referee:
    """Looks at both electors twenty times a second, at what really counts: who may begin a write."""

    def __init__(self, *replicas: Replica) -> None:
        self.replicas = replicas
        self.both = 0.0
        self.none_since: float | None = None
        self.task = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while True:
            may = [replica.elector.remaining() for replica in self.replicas]
            # A write that one began may still be on its way while the other begins one.
            self.both += 0.05 if sum(seconds > 0 for seconds in may) > 1 else 0
            await asyncio.sleep(0.05)


@pytest.fixture
def api() -> Api:
    return Api()


async def leader(*replicas: Replica, within: float = 12.0) -> Replica:
    deadline = asyncio.get_running_loop().time() + within
    while True:
        leading = [replica for replica in replicas if replica.elector.leading]
        if leading:
            assert len(leading) == 1
            return leading[0]
        assert asyncio.get_running_loop().time() < deadline, f"nobody leads after {within} s"
        await asyncio.sleep(0.05)


@contextlib.contextmanager
def refereed(*replicas: Replica) -> Iterator[Referee]:
    referee = Referee(*replicas)
    try:
        yield referee
    finally:
        referee.task.cancel()
        for replica in replicas:
            if replica.task is not None:
                replica.task.cancel()
    assert referee.both == 0, "two replicas could write at the same time"


async def test_the_first_creates_the_lease_and_leads_at_once(api: Api) -> None:
    one = Replica(api, "one")
    with refereed(one):
        one.start()
        await leader(one, within=0.2)
        assert api.holder == "one"
        assert api.lease is not None
        assert api.lease["spec"]["leaseDurationSeconds"] == 8
        assert [leading for _, leading in one.changes] == [True]
        assert [at for at, _ in one.changes] == pytest.approx([0.0], abs=0.2)


async def test_a_standby_stays_one_while_the_leader_renews(api: Api) -> None:
    one, two = Replica(api, "one"), Replica(api, "two")
    with refereed(one, two):
        one.start()
        await leader(one)
        two.start()
        await asyncio.sleep(60)
        assert one.elector.leading
        assert two.changes == []
        assert set(api.writes) == {"one"}
        assert two.elector.holder == "one"


@pytest.mark.parametrize("slow", [0.0, 0.2, 0.45])
async def test_another_acts_within_12_s_of_a_crash_and_never_together_with_the_dead(api: Api, slow: float) -> None:
    one, two = Replica(api, "one"), Replica(api, "two")
    with refereed(one, two):
        api.slow = slow
        one.start()
        await leader(one)
        two.start()
        await asyncio.sleep(10)
        one.kill()
        began = asyncio.get_running_loop().time()
        while not two.elector.leading:
            assert asyncio.get_running_loop().time() - began < 12
            await asyncio.sleep(0.05)
        # No write that the dead one could have begun may be under way: they had to end before.
        assert one.elector.remaining() == 0
        assert api.lease is not None
        assert api.lease["spec"]["leaseTransitions"] == 2


async def test_a_graceful_stop_hands_over_at_once(api: Api) -> None:
    one, two = Replica(api, "one"), Replica(api, "two")
    with refereed(one, two):
        one.start()
        await leader(one)
        two.start()
        await asyncio.sleep(5)
        await one.stop()
        assert one.elector.remaining() == 0
        assert api.holder == ""
        await leader(two, within=1.2)


async def test_a_standby_that_stops_takes_nothing_with_it(api: Api) -> None:
    one, two = Replica(api, "one"), Replica(api, "two")
    with refereed(one, two):
        one.start()
        await leader(one)
        two.start()
        await asyncio.sleep(3)
        await two.stop()
        assert api.holder == "one"
        assert one.elector.leading


async def test_a_leader_without_api_stops_to_write_in_time_and_leads_again_afterwards(api: Api) -> None:
    one = Replica(api, "one")
    with refereed(one):
        one.start()
        await leader(one)
        await asyncio.sleep(3)
        one.line.cut = True
        await asyncio.sleep(5.1)
        assert one.elector.remaining() == 0
        await asyncio.sleep(60)
        assert [leading for _, leading in one.changes] == [True, False]
        one.line.cut = False
        await leader(one, within=6)
        await asyncio.sleep(1)
        assert [leading for _, leading in one.changes] == [True, False, True]


async def test_lost_answers_count_as_lost_renewals(api: Api) -> None:
    """The Lease says that we hold it, renewed a moment ago; but we do not know that."""
    one, two = Replica(api, "one"), Replica(api, "two")
    with refereed(one, two):
        one.start()
        await leader(one)
        two.start()
        one.line.lose_answers = True
        await asyncio.sleep(6)
        assert not one.elector.leading
        assert not two.elector.leading


async def test_a_seized_lease_ends_leadership_at_the_next_renewal(api: Api) -> None:
    one = Replica(api, "one")
    with refereed(one):
        one.start()
        await leader(one)
        await asyncio.sleep(3)
        api.seize("thief")
        await asyncio.sleep(1.1)
        assert not one.elector.leading
        assert one.elector.holder == "thief"
        await leader(one, within=10)  # the thief does not renew


async def test_a_long_pause_of_the_process_ends_leadership_by_itself(api: Api) -> None:
    """The loop stands still for 20 s (a debugger, a frozen machine): the guard knows before anything else runs."""
    now = 0.0
    elector = Elector("ns", "vdcos", "one", TIMING, lambda: now)
    await elector.attempt(Line(api))
    assert elector.remaining() == 8
    now = 4.9
    assert elector.remaining() == pytest.approx(3.1)
    now = 5.0
    assert elector.remaining() == 0
    now = 20.0
    assert not elector.leading


async def test_the_time_of_a_slow_renewal_counts_from_when_it_was_sent(api: Api) -> None:
    api.slow = 0.9
    loop = asyncio.get_running_loop()
    elector = Elector("ns", "vdcos", "one", TIMING, loop.time)
    began = loop.time()
    await elector.attempt(Line(api))
    passed = loop.time() - began
    assert passed == pytest.approx(2.7)  # a refused read and a write
    assert elector.remaining() == pytest.approx(8 - passed)


async def test_a_malformed_lease_is_survived(api: Api) -> None:
    api.lease = {"metadata": {"name": "vdcos", "namespace": "ns", "resourceVersion": "1"}, "spec": {"renewTime": 5}}
    one = Replica(api, "one")
    with refereed(one):
        one.start()
        await asyncio.sleep(3)
        assert not one.elector.leading
        api.lease = None
        await leader(one, within=2)
