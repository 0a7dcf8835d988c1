"""A direct TCP probe of a host's port: does its kernel live? Nothing is sent, and no answer proves nothing."""

import asyncio
import errno
import math
import os
import socket
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from vdcos.runtime.asks import Failed

ANSWERS: Mapping[str, Any] = {"answered": True, "how": "answers"}
REFUSED: Mapping[str, Any] = {"answered": True, "how": "is refused by a living kernel"}
SILENT: Mapping[str, Any] = {"answered": False}

SILENCE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ETIMEDOUT)
"""What the network says of a host from which nothing comes."""

Address = tuple[socket.AddressFamily, tuple[Any, ...]]


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    """``interval`` is from one attempt's begin to the next, ``timeout`` of each attempt, both in seconds."""

    address: Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    attempts: Annotated[int, msgspec.Meta(ge=1, le=100)]
    interval: Annotated[float, msgspec.Meta(ge=0)]
    timeout: Annotated[float, msgspec.Meta(gt=0)]


async def probe(request: Mapping[str, Any], seconds: float) -> Mapping[str, Any]:
    """The first answer to any attempt, or silence after the last. A ``Provider`` of asks.

    Raises Failed, and TimeoutError when ``seconds`` end first: fewer attempts than asked for are no silence.
    """
    try:
        asked = msgspec.convert(dict(request), _Request)
    except msgspec.ValidationError as error:
        raise Failed(f"this cannot be probed: {error}") from None
    async with asyncio.timeout(seconds):
        addresses = await _resolve(asked.address, asked.port)
        return await _first(asked, addresses)


async def _resolve(address: str, port: int) -> list[Address]:
    """All addresses of a host: a sign of life counts wherever it comes from. Raises Failed."""
    numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    try:
        try:
            found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=numeric)
        except socket.gaierror:
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except (OSError, UnicodeError):
        raise Failed(f"{address}: there is no such name or address") from None
    return [(family, at) for family, _, _, _, at in found]


async def _first(asked: _Request, addresses: list[Address]) -> Mapping[str, Any]:
    """Attempts begin in time, whether or not earlier ones still wait. However this ends, none goes on."""
    tasks: list[asyncio.Task[Mapping[str, Any]]] = []
    waiting: set[asyncio.Task[Mapping[str, Any]]] = set()
    loop = asyncio.get_running_loop()
    begin = loop.time()
    try:
        for attempt in range(1, asked.attempts + 1):
            begun = [asyncio.create_task(_attempt(address, asked)) for address in addresses]
            tasks += begun
            waiting.update(begun)
            until = begin + attempt * asked.interval if attempt < asked.attempts else math.inf
            while waiting and (left := until - loop.time()) > 0:
                patience = None if left == math.inf else left
                done, waiting = await asyncio.wait(waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                # Of what ends at once, a sign of life comes before a failure.
                for task in sorted(done, key=lambda ended: ended.exception() is not None):
                    if (answer := task.result())["answered"]:
                        return answer
            if attempt < asked.attempts:
                await asyncio.sleep(until - loop.time())
        return SILENT
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _attempt(address: Address, asked: _Request) -> Mapping[str, Any]:
    """Connect once. Raises Failed."""
    family, at = address
    try:
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
            async with asyncio.timeout(asked.timeout):
                await asyncio.get_running_loop().sock_connect(connection, at)
            return ANSWERS
    except ConnectionRefusedError:
        return REFUSED
    except OSError as error:
        # TimeoutError, of us as of the kernel, is one of these.
        if isinstance(error, TimeoutError) or error.errno in SILENCE:
            return SILENT
        why = os.strerror(error.errno) if error.errno else type(error).__name__
        raise Failed(f"{asked.address} port {asked.port} cannot be probed: {why}") from None
