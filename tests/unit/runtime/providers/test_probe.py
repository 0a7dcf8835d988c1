"""The probe against real sockets on the loopback interface: each thing that a kernel does, and that nothing is left."""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from devcluster.waiting import until
from vdcos.runtime.asks import Failed
from vdcos.runtime.providers import probe as module
from vdcos.runtime.providers.probe import ANSWERS, REFUSED, SILENT, probe

LONG = 30.0


def request(port: int, address: str = "127.0.0.1", **more: Any) -> dict[str, Any]:
    return {"address": address, "port": port, "attempts": 2, "interval": 0.02, "timeout": 0.1} | more


def listener(address: str = "127.0.0.1", backlog: int = 16) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family)
    bound.bind((address, 0))
    bound.listen(backlog)
    return bound


def port_of(bound: socket.socket) -> int:
    return int(bound.getsockname()[1])


@pytest.fixture
def silent() -> Iterator[int]:
    """A port whose listener has no room for one more: the kernel drops what comes, as if the host had no power."""
    with listener(backlog=0) as bound, socket.create_connection(bound.getsockname(), LONG):
        yield port_of(bound)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Whatever a test does, no descriptor and no task of a probe outlives it."""
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


async def alone() -> None:
    """No task but the test's own is left."""
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def knocked(port: int) -> None:
    """Wait until a connection to the port waits for its answer."""
    here = psutil.Process()

    async def waits() -> bool:
        return any(
            each.status == psutil.CONN_SYN_SENT and each.raddr and each.raddr.port == port
            for each in here.net_connections("tcp")
        )

    await until(waits, LONG, every=0.01)


async def test_a_port_answers_and_hears_nothing() -> None:
    with listener() as bound:
        assert await probe(request(port_of(bound), timeout=LONG), LONG) == {"answered": True, "how": "answers"}
        connection, _ = bound.accept()
        with connection:
            connection.settimeout(LONG)
            assert connection.recv(1) == b""
    await alone()


async def test_a_refusal_is_a_sign_of_life() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        answer = await probe(request(port_of(bound), timeout=LONG), LONG)
    assert answer == {"answered": True, "how": "is refused by a living kernel"}
    await alone()


async def test_a_host_that_swallows_everything_does_not_answer(silent: int) -> None:
    assert await probe(request(silent), LONG) == {"answered": False}
    await alone()


async def test_an_answer_to_the_first_attempt_counts_while_later_ones_wait() -> None:
    with listener(backlog=0) as bound, socket.create_connection(bound.getsockname(), LONG):
        asking = asyncio.create_task(probe(request(port_of(bound), attempts=3, timeout=LONG), LONG))
        await knocked(port_of(bound))
        assert not asking.done()
        bound.listen(16)
        # The kernel repeats what was dropped.
        assert await asking == ANSWERS
    await alone()


async def test_attempts_follow_each_other_whether_or_not_they_overlap(
    silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []
    once = module._attempt

    async def counted(*given: Any) -> Any:
        begun.append(given)
        return await once(*given)

    monkeypatch.setattr(module, "_attempt", counted)
    for interval, timeout in ((0.0, 0.1), (0.05, 0.2), (0.1, 0.01)):
        begun.clear()
        assert await probe(request(silent, attempts=3, interval=interval, timeout=timeout), LONG) == SILENT
        assert len(begun) == 3


async def test_ipv6() -> None:
    try:
        bound = listener("::1")
    except OSError:
        pytest.skip("no IPv6 here")
    with bound:
        assert await probe(request(port_of(bound), "::1", timeout=LONG), LONG) == ANSWERS
    assert await probe(request(1, "::1", timeout=LONG), LONG) == REFUSED


async def test_a_name_is_all_of_its_addresses(silent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with listener() as bound:

        async def resolve(*_: Any) -> Any:
            return [(socket.AF_INET, ("127.0.0.1", port)) for port in (silent, port_of(bound))]

        monkeypatch.setattr(module, "_resolve", resolve)
        assert await probe(request(silent, "host-1.test", timeout=LONG), LONG) == ANSWERS
    await alone()


async def test_localhost_resolves() -> None:
    with listener() as bound:
        assert (await probe(request(port_of(bound), "localhost", timeout=LONG), LONG))["answered"]


async def test_cancelled_it_leaves_nothing(silent: int) -> None:
    asking = asyncio.create_task(probe(request(silent, attempts=5, timeout=LONG), LONG))
    await knocked(silent)
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    assert asking.cancelled()
    await alone()


async def test_a_deadline_before_the_last_attempt_is_no_silence(silent: int) -> None:
    with pytest.raises(TimeoutError):
        await probe(request(silent, attempts=5, interval=LONG), 0.1)
    await alone()


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        (errno.EHOSTUNREACH, SILENT),
        (errno.ENETUNREACH, SILENT),
        (errno.ETIMEDOUT, SILENT),
        (errno.ECONNREFUSED, REFUSED),
    ],
)
async def test_what_the_network_says(number: int, answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(*_: Any) -> None:
        raise OSError(number, "somewhere")

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", connect)
    assert await probe(request(1), LONG) == answer


async def test_no_descriptors_is_neither_life_nor_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: Any) -> None:
        raise OSError(errno.EMFILE, "whatever")

    monkeypatch.setattr(socket.socket, "__init__", none_left)
    with pytest.raises(Failed, match=r"^192\.0\.2\.1 port 7 cannot be probed: Too many open files$"):
        await probe(request(7, "192.0.2.1"), LONG)


@pytest.mark.parametrize("address", ["no-such-name.invalid", "256.0.0.1.invalid", "a" * 64 + ".invalid", "..", "a b"])
async def test_a_name_that_nobody_knows_fails(address: str) -> None:
    with pytest.raises(Failed, match=r"there is no such name or address$"):
        await probe(request(1, address), LONG)


@pytest.mark.parametrize(
    "wrong",
    [{"port": 0}, {"port": 65536}, {"port": "22"}, {"address": ""}, {"address": None}, {"attempts": 0}, {"timeout": 0},
     {"interval": -1}, {"other": 1}],
)  # fmt: skip
async def test_what_makes_no_sense_fails(wrong: dict[str, Any]) -> None:
    with pytest.raises(Failed, match="this cannot be probed: "):
        await probe(request(1) | wrong, LONG)
