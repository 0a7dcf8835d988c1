"""Programs as power switches: fence agents, IPMI in a process of its own, and what a deadline does to them."""

import asyncio
from pathlib import Path

import psutil
import pytest

from devcluster.waiting import until
from vdcos.providers.fencing.contract import Failed, Power, Target
from vdcos.runtime.providers.fence_agents import FenceAgents
from vdcos.runtime.providers.programs import run

SOON = 20.0
AGENT = """#!/bin/sh
# A fence agent: keeps a host's power in a file, and notes what it was called with.
here=$(dirname "$0")/..
tee "$here/given" >"$here/now"
echo "$# $*" >"$here/argv"
env >"$here/env"
case $(sed -n 's/^action=//p' "$here/now") in
status) if [ -e "$here/off" ]; then exit 2; else exit 0; fi ;;
off) if [ -e "$here/stuck" ]; then
        echo "2026-11-26 04:00:00,123 ERROR: Unable to log in as admin" >&2
        exit 1
     fi
     touch "$here/off" ;;
esac
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "agents"
    made.mkdir(mode=0o755)
    agent = made / "fence_test"
    agent.write_text(AGENT)
    agent.chmod(0o755)
    return made


def target(agent: str = "fence_test", **parameters: str) -> Target:
    secret = {"username": "admin", "password": "hunter2", "unrelated": "x"}
    return Target("host-1", {"agent": agent, "parameters": parameters, "credentials": "pdu"}, secret, 30.0)


async def test_an_agent_is_asked_through_its_standard_input_only(folder: Path) -> None:
    agents = FenceAgents(folder)
    assert await agents.power(target(ip="192.0.2.9", plug="3")) is Power.ON
    given = (folder.parent / "given").read_text().splitlines()
    assert given == ["action=status", "ip=192.0.2.9", "plug=3", "username=admin", "password=hunter2"]
    assert (folder.parent / "argv").read_text() == "0 \n"
    assert "hunter2" not in (folder.parent / "env").read_text()
    await agents.power_off(target())
    assert await agents.power(target()) is Power.OFF


async def test_what_an_agent_complains_about_is_told_without_its_clock(folder: Path) -> None:
    (folder.parent / "stuck").touch()
    with pytest.raises(Failed) as error:
        await FenceAgents(folder).power_off(target())
    assert str(error.value) == "fence_test ended with status 1: ERROR: Unable to log in as admin"


@pytest.mark.parametrize(
    "name", ["../agents/fence_test", "fence_test/../fence_test", "sh", "fence_", "fence_Test", "fence_x\n"]
)
async def test_only_names_of_agents_are_run(folder: Path, name: str) -> None:
    with pytest.raises(Failed, match="is not the name of a fence agent"):
        await FenceAgents(folder).power_off(target(name))


async def test_only_agents_of_the_configured_folder_are_run(folder: Path) -> None:
    with pytest.raises(Failed, match="there is no fence agent fence_other"):
        await FenceAgents(folder).power(target("fence_other"))
    with pytest.raises(Failed, match="--fence-agents"):
        await FenceAgents(None).power(target())
    (folder / "fence_folder").mkdir()
    with pytest.raises(Failed, match="is not a program"):
        await FenceAgents(folder).power(target("fence_folder"))
    (folder / "fence_text").write_text("")
    with pytest.raises(Failed, match="cannot be run"):
        await FenceAgents(folder).power(target("fence_text"))


@pytest.mark.parametrize("loose", ["agent", "folder"])
async def test_what_others_can_write_is_not_run(folder: Path, loose: str) -> None:
    (folder if loose == "folder" else folder / "fence_test").chmod(0o777)
    with pytest.raises(Failed, match="can be written by others"):
        await FenceAgents(folder).power_off(target())
    assert not (folder.parent / "given").exists()


BAD = ["action", "password", "passwd_script", "ssh_options", "ipmitool_path", "identity_file", "debug", "Ip", "a b"]


@pytest.mark.parametrize("name", BAD)
async def test_reserved_parameters_are_refused_even_if_the_schema_let_them_through(folder: Path, name: str) -> None:
    with pytest.raises(Failed, match="is not allowed"):
        await FenceAgents(folder).power(target(**{name: "x"}))


async def test_no_line_can_be_smuggled_in(folder: Path) -> None:
    with pytest.raises(Failed, match="ip: a value must be a single line"):
        await FenceAgents(folder).power(target(ip="192.0.2.9\naction=on"))
    assert not (folder.parent / "given").exists()


async def ended(*pids: int) -> None:
    """Wait until processes have ended. The loop goes on meanwhile: a program that was called off while it started is
    killed once it has."""

    async def are_gone() -> bool:
        return not any(_lives(pid) for pid in pids)

    await until(are_gone, SOON, every=0.02)


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE  # killed, and not yet collected by init
    except psutil.NoSuchProcess:
        return False


def _named(text: str) -> list[int]:
    """The processes that have a text in their command lines."""
    return [each.pid for each in psutil.process_iter(["cmdline"]) if text in " ".join(each.info["cmdline"] or ())]


@pytest.mark.parametrize("how", ["deadline", "cancelled"])
async def test_a_program_and_its_children_end_with_their_deadline(tmp_path: Path, how: str) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 300 & echo $! >{pids}.new; echo $$ >>{pids}.new; mv {pids}.new {pids}; trap '' TERM; wait"
    task = asyncio.create_task(run(["/bin/sh", "-c", script], "", 1.0 if how == "deadline" else 300.0))

    async def began() -> bool:
        return pids.exists()

    await until(began, SOON, every=0.01)
    if how == "cancelled":
        task.cancel()
    with pytest.raises(TimeoutError if how == "deadline" else asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(task), SOON)
    await ended(*map(int, pids.read_text().split()))


async def test_a_program_that_is_cancelled_while_it_starts_leaves_no_children(tmp_path: Path) -> None:
    """At every step of its start: asyncio itself would wait for the children that it does not kill."""
    script = f"sleep 300 & echo $! >>{tmp_path}/pids; echo $$ >>{tmp_path}/pids; wait"
    for steps in range(12):
        task = asyncio.create_task(run(["/bin/sh", "-c", script], "", 300.0))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(task), SOON)
    await ended(*_named(str(tmp_path)))  # from here on nobody writes down another
    pids = tmp_path / "pids"
    await ended(*(map(int, pids.read_text().split()) if pids.exists() else ()))


async def test_endless_output_is_read_and_cut() -> None:
    ended = await run(["/bin/sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x; echo end"], "", 20.0)
    assert (ended.code, len(ended.said), ended.said[-4:]) == (0, 1 << 16, "end\n")


async def test_a_program_that_does_not_read_is_no_trouble() -> None:
    ended = await run(["/bin/sh", "-c", "exit 3"], "x" * 1_000_000, 20.0)
    assert ended.code == 3
