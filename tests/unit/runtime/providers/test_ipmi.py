"""IPMI against simulated BMCs in processes of their own: pyghmi's, and OpenIPMI's where it is installed."""

import contextlib
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster import waiting
from tests import bmcs
from vdcos.providers.fencing.contract import Failed, Power, Target
from vdcos.runtime.providers.ipmi import Ipmi


@pytest.fixture(params=["pyghmi", "OpenIPMI"])
def port(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    state = tmp_path / "power"
    program = shutil.which("ipmi_sim")
    if request.param == "OpenIPMI" and program is None:
        pytest.skip("there is no ipmi_sim (Debian package openipmi)")
    with bmcs.ipmi(state) if program is None or request.param == "pyghmi" else bmcs.openipmi(program, state) as found:
        yield found


def target(port: int, password: str = "hunter2", seconds: float = 20.0) -> Target:
    parameters = {"address": "127.0.0.1", "port": port, "credentials": "bmc"}
    return Target("host-1", parameters, {"username": "admin", "password": password}, seconds)


async def power(port: int) -> Power:
    """As soon as the BMC listens."""
    answers: list[Power] = []

    async def answered() -> bool:
        with contextlib.suppress(Failed):
            answers.append(await Ipmi().power(target(port)))
        return bool(answers)

    await waiting.until(answered, 60.0, every=0.2)
    return answers[0]


async def test_it_reads_the_power_and_takes_it_away(port: int, tmp_path: Path) -> None:
    assert await power(port) is Power.ON
    await Ipmi().power_off(target(port))
    assert (tmp_path / "power").read_text().strip() == "off"
    assert await power(port) is Power.OFF
    await Ipmi().power_off(target(port))
    with pytest.raises(Failed, match="IPMI to") as error:
        await Ipmi().power(target(port, "wrong-password"))
    assert "wrong-password" not in str(error.value)


async def test_who_does_not_answer_meets_a_hard_deadline() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await Ipmi().power_off(target(silent.getsockname()[1], seconds=1.5))
        assert time.monotonic() - began < 15


async def test_credentials_are_needed() -> None:
    with pytest.raises(Failed, match="Secret bmc has no password"):
        await Ipmi().power(target(623, ""))
