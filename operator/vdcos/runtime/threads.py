"""A loop in a thread of its own, for what must keep its pace while the main loop is busy."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any


async def in_own_loop(name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run ``work`` in a new thread with a new event loop. Returns and raises as it does.

    Cancellation is passed on, and waited for: ``work`` may clean up.
    """
    stop: Future[None] = Future()
    ended: Future[None] = Future()

    async def main() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.create_task(work())
        stop.add_done_callback(lambda _: loop.call_soon_threadsafe(task.cancel))
        with contextlib.suppress(asyncio.CancelledError):
            await task

    def body() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001  it is raised again in the caller's loop
            ended.set_exception(error)
        else:
            ended.set_result(None)

    threading.Thread(target=body, name=name, daemon=True).start()
    finished = asyncio.wrap_future(ended)
    try:
        await asyncio.shield(finished)
    finally:
        if not finished.done():
            stop.set_result(None)
            await finished
