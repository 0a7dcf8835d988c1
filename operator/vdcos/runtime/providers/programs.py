"""Programs that speak to a power switch: what they need goes to their standard input, and a deadline ends them for
good. A thread that hangs cannot be ended, and may do late what nobody wants any more; a process can."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from typing import NamedTuple

MOST_BYTES = 1 << 16
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
"""All that a program gets to know of ours."""


REAPING_SECONDS = 1.0


class Ended(NamedTuple):
    """How a program ended. ``said`` is the end of its standard output, ``complained`` of its standard error."""

    code: int
    said: str
    complained: str


async def run(command: Sequence[str], given: str, seconds: float) -> Ended:
    """Run a program with ``given`` on its standard input. Raises OSError, and TimeoutError after ``seconds``.

    However this ends, the program and its children are killed with it.
    """
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
    )
    try:
        # asyncio, interrupted while it starts a program, kills the program but waits for its children to end.
        process = await asyncio.shield(starting)
    except asyncio.CancelledError:
        starting.add_done_callback(_unwanted)
        raise
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(seconds):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                process.stdin.write(given.encode())
                await process.stdin.drain()
            process.stdin.close()
            said, complained, code = await asyncio.gather(_end(process.stdout), _end(process.stderr), process.wait())
            return Ended(code, said, complained)
    finally:
        _kill(process)
        # asyncio notes its end when nobody holds its pipes any more; one that got away may hold them for ever.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), REAPING_SECONDS)


def _unwanted(started: "asyncio.Future[asyncio.subprocess.Process]") -> None:
    if not started.cancelled() and started.exception() is None:
        _kill(started.result())


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def _end(stream: asyncio.StreamReader) -> str:
    """The last bytes of a stream, which is read to its end so that nobody waits for us to read."""
    kept = b""
    while chunk := await stream.read(MOST_BYTES):
        kept = (kept + chunk)[-MOST_BYTES:]
    return kept.decode(errors="replace")
