"""Pre-flight in the running operator: looked at when it starts and now and then, told in the log and as metrics."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import prometheus_client
from prometheus_client.core import GaugeMetricFamily

from vdcos.core import metrics, preflight
from vdcos.core.objects import Key, Unreadable
from vdcos.core.preflight import Check
from vdcos.runtime.metrics import Scraped, gauge
from vdcos.runtime.requests import ApiError
from vdcos.runtime.store import Store

log = logging.getLogger(__name__)

EVERY = 300.0
"""Seconds between two rounds of questions to the API server. What objects say is known all the time."""
FIRST_LOOK = 1.0
"""Seconds between two looks whether everything was listed once."""

Question = Callable[[], Awaitable[Check]]


class Preflight:
    """``questions`` are what no object says (rights, schemas); ``ready`` is whether all kinds were listed once."""

    def __init__(
        self,
        registry: prometheus_client.CollectorRegistry,
        store: Store,
        questions: Mapping[str, Question],
        ready: Callable[[], bool],
    ) -> None:
        self._store = store
        self._questions = questions
        self._ready = ready
        self._answers: list[Check] = []
        self._told: dict[str, Check] = {}
        Scraped(registry, ready, self._gauges)

    def checks(self) -> list[Check]:
        """How it stands now; nothing before everything was looked at once."""
        return [*preflight.look(reader(self._store)), *self._answers] if self._ready() else []

    async def run(self) -> None:
        """Look now and then. Returns only when cancelled."""
        while not self._ready():  # noqa: ASYNC110  nobody tells us, and it is for a second or two
            await asyncio.sleep(FIRST_LOOK)
        while True:
            self._answers = await ask(self._questions)
            self._tell(self.checks())
            await asyncio.sleep(EVERY)

    def _tell(self, checks: Sequence[Check]) -> None:
        """Log what is news; at first, what is not as it should be."""
        for check in checks:
            before = self._told.get(check.name)
            self._told[check.name] = check
            if before == check or (before is None and check.ok):
                continue
            level = logging.WARNING if check.required and not check.ok else logging.INFO
            said = {"check": check.name, "state": check.state, "why": check.condition().message}
            log.log(level, "check", extra={**said, "limits": " ".join(check.limits)})

    def _gauges(self) -> Iterable[GaugeMetricFamily]:
        """A series for each check; their number does not depend on the cluster."""
        known = (check for check in self.checks() if check.state != "Unknown")
        yield gauge(metrics.CHECK, (((each.name, str(each.required).lower()), float(each.ok)) for each in known))


async def ask(questions: Mapping[str, Question]) -> list[Check]:
    """All answers; a question that is not answered, or in a way that cannot be read, is one whose answer is not known.

    Pre-flight only tells: what a proxy makes of an answer must not end an operator that works.
    """
    found = []
    for name, question in questions.items():
        try:
            found.append(await question())
        except ApiError as error:
            found.append(Check(name, "Unknown", f"the API server does not answer ({error.reason}): {error.message}"))
        except msgspec.MsgspecError as error:
            found.append(Check(name, "Unknown", f"what the API server answers cannot be read: {error}"))
    return found


def reader(store: Store) -> preflight.Read:
    """Reads of a store."""

    def read(kind: type[Any]) -> Mapping[Key, Any] | Unreadable:
        shelf = store.shelf(kind)
        return shelf.objects if shelf.why is None else shelf.why

    return read
