"""Long-running programs of a cluster: they cannot outlive their supervisor and are watched, restarted and ended."""

import asyncio
import contextlib
import ctypes
import os
import random
import signal
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_PORTS = range(20000, 32000)  # below the range from which Linux takes the ports of outgoing connections
_PR_SET_PDEATHSIG = 1
_PORT_TAKEN = "address already in use"
_START_ATTEMPTS = 5
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0  # seconds between restarts
_ROOT = Path(__file__).resolve().parent.parent
_libc = ctypes.CDLL(None, use_errno=True)


class PortTakenError(Exception):
    """Somebody else took a port between our choice and the program's use of it: start over with other ports."""


class StartError(Exception):
    """The cluster did not come up; the message says which part and what it printed last."""


def die_with_parent(sent: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """A ``preexec_fn``: the kernel sends the signal to this process when its parent dies (Linux only)."""
    parent = os.getpid()

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(sent))
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return prepare


def python_path() -> dict[str, str]:
    """Environment in which ``python -m`` finds our source roots from any directory."""
    roots = [str(_ROOT), str(_ROOT / "operator")]
    return {"PYTHONPATH": os.pathsep.join([*roots, *filter(None, [os.environ.get("PYTHONPATH")])])}


def is_running(pid: int | None, directory: Path) -> bool:
    """Whether this process is one of the cluster in ``directory``: a recorded id may long belong to somebody else."""
    if pid is None:
        return False
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == directory.resolve()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def free_ports(names: Iterable[str], preferred: Mapping[str, int]) -> dict[str, int]:
    """A free loopback port per name: the preferred one where it is still free, else one at random."""
    chosen: dict[str, int] = {}
    for name in names:
        candidates = [preferred[name]] if name in preferred else []
        candidates += random.sample(_PORTS, 100)
        chosen[name] = next(port for port in candidates if port not in chosen.values() and _is_free(port))
    return chosen


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do; a listener still refuses us
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False


@dataclass(frozen=True)
class Program:
    """What to run. ``port`` is only for people; the arguments hold it, too."""

    name: str
    arguments: tuple[str, ...]
    port: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


class Child:
    """One program that is kept running until :meth:`stop`."""

    def __init__(self, program: Program, directory: Path, changed: Callable[[], None]) -> None:
        self.program = program
        self.log = directory / "logs" / f"{program.name}.log"
        self.pid: int | None = None
        self.restarts = 0
        self.settled = False  # the cluster is up: from now on an exit is no reason to give up
        self._directory = directory
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Return when stopped. Raises :class:`PortTakenError` and :class:`StartError` while the cluster comes up."""
        pause = _FIRST_PAUSE
        self.log.parent.mkdir(exist_ok=True)
        temporary = self._directory / "tmp"  # virt-api, for one, leaves a directory behind
        temporary.mkdir(exist_ok=True)
        while not self._stopping.is_set():
            with self.log.open("ab") as log:
                offset = log.tell()
                process = await asyncio.create_subprocess_exec(
                    *self.program.arguments,
                    cwd=self._directory,
                    env={**os.environ, "TMPDIR": str(temporary), **self.program.environment},
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is for the supervisor, which ends its children in order
                    preexec_fn=die_with_parent(),
                )
            self._process, self.pid = process, process.pid
            self._changed()
            code = await process.wait()
            self.pid = None
            if self._stopping.is_set():
                return
            self.restarts += 1
            self._changed()
            if not self.settled:
                self._judge(code, self._printed_since(offset))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def stop(self, grace: float) -> None:
        """Ask, wait for ``grace`` seconds, then kill; return when the process is gone."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        for sent, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, None)):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(sent)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), seconds)
                return

    def _judge(self, code: int, printed: str) -> None:
        if _PORT_TAKEN in printed.lower():
            raise PortTakenError(self.program.name)
        if self.restarts >= _START_ATTEMPTS:
            tail = "\n".join(printed.splitlines()[-15:])
            raise StartError(f"{self.program.name} ended {self.restarts} times, last with {code} ({self.log}):\n{tail}")

    def _printed_since(self, offset: int) -> str:
        with self.log.open("rb") as log:
            log.seek(offset)
            return log.read().decode(errors="replace")
