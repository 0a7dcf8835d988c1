"""kopf as a host: the liveness probe, and that whatever happens to kopf happens to kopf alone."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from devcluster import waiting
from tests.unit.runtime.fake_api import FakeApi
from tests.unit.runtime.test_reflector import until
from vdcos import kopfhost
from vdcos.runtime.credentials import Origin
from vdcos.runtime.threads import in_own_loop


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def api() -> FakeApi:
    fake = FakeApi()
    fake.documents = {
        "/api": {"versions": ["v1"]},
        "/apis": {"groups": []},
        "/api/v1": {"resources": []},
    }
    return fake


@contextlib.asynccontextmanager
async def hosted(origin: Origin, deaf: list[str]) -> AsyncIterator[str]:
    address = f"127.0.0.1:{free_port()}"
    task = asyncio.create_task(kopfhost.host(origin, address, lambda: deaf))
    try:
        yield f"http://{address}/healthz"
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def status(url: str, seconds: float = 10.0) -> int:
    """The status of the first answer within some seconds."""
    answers: list[int] = []

    async def answered() -> bool:
        with contextlib.suppress(aiohttp.ClientConnectionError):
            async with session.get(url) as response:
                answers.append(response.status)
        return bool(answers)

    async with aiohttp.ClientSession() as session:
        await waiting.until(answered, seconds, every=0.02)
    return answers[0]


@pytest.mark.parametrize(("deaf", "answer"), [([], 200), (["Box: nothing heard for 200 s"], 500)])
async def test_the_probe_answers_for_the_sources(tmp_path: Path, api: FakeApi, deaf: list[str], answer: int) -> None:
    async with api.serving(tmp_path) as origin, hosted(origin, deaf) as url:
        assert await status(url) == answer
        assert {verb for verb, _, _ in api.requests} <= {"GET", "list"}, "kopf writes and watches nothing"


async def test_kopf_is_started_again_and_nobody_else_notices(
    tmp_path: Path, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kopfhost, "PAUSE", 0.05)
    bystander = asyncio.create_task(asyncio.Event().wait())
    documents, api.documents = api.documents, {}  # kopf ends when it finds no API at all
    async with api.serving(tmp_path) as origin, hosted(origin, []) as url:
        await until(lambda: len(api.requests) >= 6, seconds=10)  # each start asks for /api and /apis
        api.documents = documents
        assert await status(url) == 200
    assert not bystander.done(), "kopf cancels the tasks of its own loop only"
    bystander.cancel()


async def test_a_loop_of_its_own_raises_returns_and_is_cancelled_like_a_task() -> None:
    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await in_own_loop("test", fail)

    async def end() -> None:
        return None

    await in_own_loop("test", end)

    steps: list[str] = []

    async def work() -> None:
        steps.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.to_thread(steps.append, "cleaned up")

    task = asyncio.create_task(in_own_loop("test", work))
    await until(lambda: steps)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps == ["begun", "cleaned up"]
