"""Who listens to the engine: logs here; metrics and Events in their own modules."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from vdcos.core.objects import Meta
from vdcos.core.plan import Action, Apply
from vdcos.runtime.engine import Observer
from vdcos.runtime.logs import qualified
from vdcos.runtime.queue import Item
from vdcos.runtime.requests import ApiError

log = logging.getLogger(__name__)

Conditions = Sequence[Mapping[str, Any]]


def transitions(before: Conditions, now: Conditions) -> list[Mapping[str, Any]]:
    """The conditions of ``now`` whose status is another than before, in order; new ones are among them."""
    known = {condition.get("type"): condition.get("status") for condition in before}
    return [condition for condition in now if known.get(condition["type"]) != condition["status"]]


class Everyone:
    """Passes everything on to several observers."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def acted(self, item: Item, action: Action) -> None:
        for observer in self._observers:
            observer.acted(item, action)

    def said(self, item: Item, owner: Meta, before: Conditions, now: Conditions) -> None:
        for observer in self._observers:
            observer.said(item, owner, before, now)

    def refused(self, item: Item, error: ApiError) -> None:
        for observer in self._observers:
            observer.refused(item, error)

    def bug(self, item: Item, error: Exception) -> None:
        for observer in self._observers:
            observer.bug(item, error)


class Log:
    """Writes what was done and why, one line per write."""

    def acted(self, item: Item, action: Action) -> None:
        repaired = isinstance(action, Apply) and action.repairs
        log.info(
            "repaired" if repaired else "acted",
            extra=_about(item, action=type(action).__name__, kind=qualified(action.resource), why=action.why),
        )

    def said(self, item: Item, owner: Meta, before: Conditions, now: Conditions) -> None:
        if changed := transitions(before, now):
            first = changed[0]
            told = " ".join(f"{each['type']}={each['status']}/{each['reason']}" for each in changed)
            log.info("said", extra=_about(item, conditions=told, reason=first["reason"], why=first["message"]))

    def refused(self, item: Item, error: ApiError) -> None:
        level = logging.DEBUG if error.status == 409 else logging.WARNING
        log.log(level, "refused", extra=_about(item, reason=error.reason, status=error.status, error=error.message))

    def bug(self, item: Item, error: Exception) -> None:
        log.error("bug", extra=_about(item, error=str(error)), exc_info=error)


def _about(item: Item, **said: Any) -> dict[str, Any]:
    return {"service": item.service, "object": str(item.key), **said}
