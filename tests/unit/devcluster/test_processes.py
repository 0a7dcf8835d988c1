"""Children: restarted when they end, gone when their supervisor is, and never mistaken for somebody else's."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from devcluster import processes
from devcluster.processes import Child, PortTakenError, Program, StartError, free_ports, is_running
from devcluster.waiting import eventually, until

STAYS = (sys.executable, "-c", "import signal; signal.pause()")


def python(code: str) -> Program:
    return Program("child", (sys.executable, "-c", code))


@pytest.fixture(autouse=True)
def quick_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_FIRST_PAUSE", 0.01)


async def test_a_child_is_restarted_until_it_is_stopped(tmp_path: Path) -> None:
    changes: list[tuple[int | None, int]] = []
    code = "import os, signal; os.path.exists('seen') and signal.pause(); open('seen', 'w').close()"
    child = Child(python(code), tmp_path, lambda: changes.append((child.pid, child.restarts)))
    child.settled = True
    running = asyncio.create_task(child.run())

    async def restarted() -> bool:
        return child.restarts >= 1 and child.pid is not None

    async with asyncio.timeout(20):
        await until(restarted, 20)
        pid = child.pid
        assert pid is not None
        await child.stop(grace=5)
        await running
    assert [restarts for _, restarts in changes] == [0, 1, 1]
    assert not psutil.pid_exists(pid)


async def test_a_child_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
    child = Child(python(code), tmp_path, lambda: None)
    running = asyncio.create_task(child.run())

    async def ignores() -> bool:
        return child.log.exists() and "deaf" in child.log.read_text()

    async with asyncio.timeout(20):
        await until(ignores, 20)
        await child.stop(grace=0.1)
        await running


async def test_a_taken_port_asks_for_other_ports(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code = f"import socket; socket.socket().bind(('127.0.0.1', {port}))"
        with pytest.raises(PortTakenError, match="child"):
            await Child(python(code), tmp_path, lambda: None).run()


async def test_a_child_that_never_starts_ends_the_attempt_with_its_words(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"(?s)child ended 5 times, last with 7 .*no such flag"):
        await Child(python("print('no such flag'); raise SystemExit(7)"), tmp_path, lambda: None).run()


def test_nothing_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    code = f"""
import asyncio, pathlib
from devcluster.processes import Child, Program
child = Child(Program("child", {STAYS!r}), pathlib.Path("."), lambda: print(child.pid, flush=True))
asyncio.run(child.run())
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert is_running(pid, tmp_path)
        parent.kill()
    eventually(lambda: not is_running(pid, tmp_path), timeout=5)


def test_a_recorded_id_is_ours_only_in_our_directory(tmp_path: Path) -> None:
    with subprocess.Popen(STAYS, cwd=tmp_path) as process:
        assert is_running(process.pid, tmp_path)
        assert not is_running(process.pid, tmp_path.parent)
        process.kill()
    assert not is_running(process.pid, tmp_path)
    assert not is_running(None, tmp_path)


def test_ports_are_the_preferred_ones_unless_somebody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = taken.getsockname()[1]
        chosen = free_ports(("a", "b"), {"a": busy})
        assert chosen["a"] != busy
    assert len(set(chosen.values())) == 2
    assert free_ports(("a", "b"), chosen) == chosen


def test_one_preferred_port_is_not_given_twice() -> None:
    port = free_ports(("a",), {})["a"]
    chosen = free_ports(("a", "b"), {"a": port, "b": port})
    assert chosen["a"] == port != chosen["b"]
