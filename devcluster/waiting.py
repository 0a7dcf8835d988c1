"""Waiting for what other processes do, always with a deadline."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from devcluster.cluster import KubectlError

T = TypeVar("T")


def eventually(predicate: Callable[[], T], timeout: float = 30.0, *, every: float = 0.1) -> T:
    """Call ``predicate`` until it returns something true, and return that.

    An AssertionError, a KubectlError (not found, say) or a KeyError (no status so far) means "not yet". After
    ``timeout`` seconds the last one is raised, or an AssertionError that shows the last value.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            value = predicate()
        except (AssertionError, KubectlError, KeyError):
            if time.monotonic() > deadline:
                raise
        else:
            if value:
                return value
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout:g} s; last seen: {value!r}")
        time.sleep(every)


def still(number: Callable[[], int], seconds: float, timeout: float) -> None:
    """Wait until a number has stayed the same for so many seconds. Raises AssertionError after ``timeout`` seconds."""
    last, since = number(), time.monotonic()

    def stays() -> bool:
        nonlocal last, since
        if (now := number()) != last:
            last, since = now, time.monotonic()
        return time.monotonic() - since >= seconds

    eventually(stays, timeout)


async def until(condition: Callable[[], Awaitable[object]], seconds: float, *, every: float = 0.1) -> None:
    """Ask again and again until ``condition`` gives something true. Raises TimeoutError after so many seconds."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110  other processes set no event
            await asyncio.sleep(every)
