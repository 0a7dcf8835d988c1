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

    async def write(self, write: Write) -> Object | None:
        self.written.append(write)
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


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_while_an_object_is_written_nothing_else_is_sent_for_it() -> None:
    answer = pod(metadata={"resourceVersion": "5"})
    server, seen = Server(answer), list[Object]()
    writer = Writer(server, seen.append)  # type: ignore[arg-type]
    server.gate.clear()
    writer.submit(write(POD, 1), yes)
    await settle()
    writer.submit(write(POD, 2), yes)
    server.gate.set()
    await settle()
    assert [w.body for w in server.written] == [1], "the second is dropped: the model is asked again instead"
    assert seen == [answer]


async def test_what_nobody_watches_is_sent_in_order() -> None:
    server = Server()
    writer = Writer(server, lambda _: None)  # type: ignore[arg-type]
    for number in range(3):
        writer.submit(write(NODE, number), yes)
    await settle()
    assert [w.body for w in server.written] == [0, 1, 2]


async def test_a_host_that_cannot_speak_any_more_says_nothing() -> None:
    server = Server()
    writer = Writer(server, lambda _: None)  # type: ignore[arg-type]
    writer.submit(write(POD), lambda: False)
    await settle()
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
    await settle()
    assert (server.read, seen) == ([], [])


async def test_events_do_not_wait_for_each_other() -> None:
    server = Server()
    server.gate.clear()
    writer = Writer(server, lambda _: None)  # type: ignore[arg-type]
    for number in range(2):
        writer.submit(Write(Ref("events", "", "ns"), Verb.CREATE, number), yes)
    await settle()
    assert [w.body for w in server.written] == [0, 1]
    await writer.close()
