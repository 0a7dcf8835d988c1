"""The writer: one write at a time per object, and the model is asked again after each."""

import asyncio
from typing import Any

from devcluster.hosts.api import Refused
from devcluster.hosts.writer import Writer
from tests.unit.hypervisor.given import pod
from vdcos.testing.hypervisor.objects import Object
from vdcos.testing.hypervisor.values import Ref, Verb, Write

POD = Ref("pods", "p", "ns")
NODE = Ref("nodes", "host-1")


class Server:
    """An API server that answers when it is told to; `answers` are raised or returned in turn."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.written: list[Write] = []
        self.read: list[Ref] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.arrived: asyncio.Queue[Write] = asyncio.Queue()

    async def write(self, write: Write) -> Object | None:
        self.written.append(write)
        self.arrived.put_nowait(write)
        await self.gate.wait()
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        found: Object | None = answer
        return found

    async def get(self, ref: Ref) -> Object:
        self.read.append(ref)
        return pod(metadata={"resourceVersion": "7"})


def write(ref: Ref, body: Any = None) -> Write:
    return Write(ref, Verb.MERGE_PATCH, body)


def yes() -> bool:
    return True


async def sent(writer: Writer) -> None:
    """Wait until the writer has nothing left to send."""
    async with asyncio.timeout(5):
        while writer._busy:
            await asyncio.wait(writer._busy.values())


async def test_while_an_object_is_written_nothing_else_is_sent_for_it() -> None:
    answer = pod(metadata={"resourceVersion": "5"})
    server, seen = Server(answer), list[Object]()
    writer = Writer(server, seen.append)  # type: ignore[arg-type]
    server.gate.clear()
    writer.submit(write(POD, 1), yes)
    await asyncio.wait_for(server.arrived.get(), 5)
    writer.submit(write(POD, 2), yes)
    server.gate.set()
    await sent(writer)
    assert [w.body for w in server.written] == [1], "the second is dropped: the model is asked again instead"
    assert seen == [answer]


async def test_what_nobody_watches_is_sent_in_order() -> None:
    server = Server()
    writer = Writer(server, lambda _: None)  # type: ignore[arg-type]
    for number in range(3):
        writer.submit(write(NODE, number), yes)
    await sent(writer)
    assert [w.body for w in server.written] == [0, 1, 2]


async def test_a_host_that_cannot_speak_any_more_says_nothing() -> None:
    server = Server()
    writer = Writer(server, lambda _: None)  # type: ignore[arg-type]
    writer.submit(write(POD), lambda: False)
    await sent(writer)
    assert server.written == []


async def test_after_a_conflict_the_object_is_read_and_seen_again() -> None:
    server, seen = Server(Refused(409, "Conflict", "changed")), asyncio.Queue[Object]()
    writer = Writer(server, seen.put_nowait)  # type: ignore[arg-type]
    writer.submit(write(POD), yes)
    again = await asyncio.wait_for(seen.get(), 5)
    assert server.read == [POD]
    assert again.metadata.resource_version == "7"


async def test_what_is_gone_is_left_alone() -> None:
    server, seen = Server(Refused(404, "NotFound", "gone")), list[Object]()
    writer = Writer(server, seen.append)  # type: ignore[arg-type]
    writer.submit(write(POD), yes)
    await sent(writer)
    assert (server.read, seen) == ([], [])


async def test_events_do_not_wait_for_each_other() -> None:
    server = Server()
    server.gate.clear()
    writer = Writer(server, lambda _: None)  # type: ignore[arg-type]
    for number in range(2):
        writer.submit(Write(Ref("events", "", "ns"), Verb.CREATE, number), yes)
    for _ in range(2):
        await asyncio.wait_for(server.arrived.get(), 5)
    assert [w.body for w in server.written] == [0, 1]
    await writer.close()
