"""BMCs to test against that are not ours: OpenStack's emulator (Redfish), pyghmi's and OpenIPMI's (IPMI)."""

import contextlib
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from subprocess import DEVNULL, Popen

import bcrypt

from devcluster import pki
from devcluster.waiting import eventually

USERNAME, PASSWORD = "admin", "hunter2"
SECONDS = 60.0

EMULATOR = """
SUSHY_EMULATOR_FAKE_DRIVER = True
SUSHY_EMULATOR_LISTEN_IP = "127.0.0.1"
SUSHY_EMULATOR_LISTEN_PORT = {port}
SUSHY_EMULATOR_SSL_CERT = "{cert}"
SUSHY_EMULATOR_SSL_KEY = "{key}"
SUSHY_EMULATOR_AUTH_FILE = "{users}"
SUSHY_EMULATOR_STATE_DIR = "{state}"
EXTERNAL_NOTIFICATION_URL = {notify!r}
SUSHY_EMULATOR_FAKE_SYSTEMS = [
    {{"uuid": uuid, "name": name, "power_state": "On", "external_notifier": bool({notify!r}), "nics": []}}
    for name, uuid in {systems!r}.items()
]
"""

IPMI = """
import json, pathlib, sys, urllib.request
from pyghmi.ipmi.bmc import Bmc
from pyghmi.ipmi.private.serversession import ServerSession

agree = ServerSession.create_open_session_response

def answer(self, request):
    # It can do cipher suite 3 only (HMAC-SHA1), and fails to refuse what clients offer first (HMAC-SHA256).
    return agree(self, request) if request[12] == 1 else bytes([request[0], 0x11, 0, 0]) + bytes(request[4:8])

ServerSession.create_open_session_response = answer
port, state, url, body, user, password = sys.argv[1:]

class Host(Bmc):
    state = pathlib.Path(state)
    def get_power_state(self):
        return self.state.read_text()
    def power_off(self):
        if url:
            posted = urllib.request.Request(url, data=body.encode(), headers={"Content-Type": "application/json"})
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(posted, timeout=10).close()
        self.state.write_text("off")
    def power_on(self):
        self.state.write_text("on")

Host({user: password}, port=int(port)).listen()
"""


@contextlib.contextmanager
def emulator(folder: Path, keys: pki.Pki, systems: Mapping[str, str], notify: str = "") -> Iterator[str]:
    """sushy-tools' emulator with these systems (UUIDs by name), all of them on; yields its address.

    It takes up to eleven seconds for a power action, carries it out when somebody next reads the system, and then PUTs
    the system to ``notify``.
    """
    users = folder / "users"
    users.write_text(f"{USERNAME}:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (folder / "state").mkdir()
    config = folder / "emulator.conf"
    config.write_text(
        EMULATOR.format(
            port=port,
            cert=keys.cert("virt-handler"),
            key=keys.key("virt-handler"),
            users=users,
            state=folder / "state",
            notify=notify or None,
            systems=dict(systems),
        )
    )
    # What it tells goes to this machine, whatever proxy there is.
    environment = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    with (folder / "log").open("wb") as log:
        command = [str(Path(sys.executable).parent / "sushy-emulator"), "--config", str(config)]
        process = Popen(command, stdout=log, stderr=log, env=environment)
    try:
        eventually(lambda: process.poll() is not None or _listens(port), SECONDS)
        assert process.poll() is None, (folder / "log").read_text()
        yield f"https://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def ipmi(state: Path, url: str = "", body: str = "") -> Iterator[int]:
    """pyghmi's simulated BMC, of a host that is on; yields its port. ``state`` is a file that says on or off.

    To power the host off it first posts ``body`` to ``url``, if there is one.
    """
    state.write_text("on")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.bind(("::", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-c", IPMI, str(port), str(state), url, body, USERNAME, PASSWORD]
    process = Popen(command, stdout=DEVNULL, stderr=DEVNULL)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


CHASSIS = """#!/bin/sh
# ipmi_sim calls it with an address, then: get power, or: set power 0|1
case "$2 $4" in
  "set 0") echo off > {state} ;;
  "set 1") echo on > {state} ;;
  *) if [ "$(cat {state})" = on ]; then echo power:1; else echo power:0; fi ;;
esac
"""
LAN = """
name "host"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 {port}
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
  endlan
  chassis_control "{chassis} 0x20"
  user 1 true "" "{password}" user 10 none md2 md5 straight
  user 2 true "{user}" "{password}" admin 10 none md2 md5 straight
"""
CONTROLLER = """
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
mc_enable 0x20
"""


@contextlib.contextmanager
def openipmi(program: str, state: Path) -> Iterator[int]:
    """OpenIPMI's simulator (``ipmi_sim``, Debian package openipmi), as ``ipmi``."""
    state.write_text("on\n")
    folder = state.parent
    chassis, lan, emulation = folder / "chassis", folder / "lan.conf", folder / "sim.emu"
    chassis.write_text(CHASSIS.format(state=state))
    chassis.chmod(0o700)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    lan.write_text(LAN.format(port=port, chassis=chassis, user=USERNAME, password=PASSWORD))
    emulation.write_text(CONTROLLER)
    (folder / "sim").mkdir()
    command = [program, "-c", str(lan), "-f", str(emulation), "-s", str(folder / "sim"), "-n"]
    process = Popen(command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
    try:
        yield port
    finally:
        process.kill()
        process.wait()
