"""``spec.overrides``: changes to the generated KubeVirt VM, applied last."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from vdcos.api.overrides import is_allowed
from vdcos.api.virtualmachine import Override

_NO_POINTERS = frozenset(
    {"isolateEmulatorThread", "maxSockets", "hidden", "endOfInterrupt", "logical", "physical", "acpiIndex"}
)
"""Numbers and booleans among what may be overridden that are no pointers in KubeVirt's Go (kubevirt.io/api 1.8,
core/v1/schema.go): their zero value is the same as nothing. All others tell false from nothing, and many are true then.
"""


GRACE = "/spec/template/spec/terminationGracePeriodSeconds"
LONGEST_GRACE = 3600
"""Seconds that a guest may take to shut down. A VM that cannot move holds up its host's drain for as long."""


class Conflict(Exception):
    """An override does not fit what it is to change. The text says which and why."""


def apply(manifest: Mapping[str, Any], overrides: Iterable[Override]) -> dict[str, Any]:
    """The manifest with the overrides applied in order; items of lists are by name or index. Raises Conflict.

    What Go leaves out when it writes JSON is left out, so that KubeVirt's controllers do not seem to undo it.
    """
    changed = copy.deepcopy(dict(manifest))
    for override in overrides:
        if not is_allowed(override.path):
            raise Conflict(f"{override.path} is not among the paths that may be overridden")
        if override.op != "remove" and override.path == GRACE and not _is_patient(override.value):
            raise Conflict(f"{GRACE}: must be a whole number of seconds, at most {LONGEST_GRACE}")
        _apply(changed, override)
    return {field: _as_go_writes(value) for field, value in changed.items()}


def _is_patient(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LONGEST_GRACE


def _apply(manifest: dict[str, Any], override: Override) -> None:
    *way, last = [step.replace("~1", "/").replace("~0", "~") for step in override.path.split("/")[1:]]
    place: Any = manifest
    for step, following in zip(way, [*way[1:], last], strict=True):
        below = _get(place, step)
        if below is None:
            if override.op == "remove":
                return
            if override.op == "replace" or isinstance(place, list):
                raise Conflict(f"{override.path}: there is no {step} to change; see kubectl get vm -o yaml")
            below = place[step] = [] if following == "-" else {}
        if not isinstance(below, dict | list):
            raise Conflict(f"{override.path}: {step} is the value {below!r} and has nothing below it")
        place = below
    _change(place, last, override)


def _change(place: dict[str, Any] | list[Any], last: str, override: Override) -> None:
    there = _get(place, last) is not None
    if override.op == "remove":
        if there and isinstance(place, list):
            del place[_index(place, last)]
        elif there:
            del place[last]  # type: ignore[arg-type]
    elif override.op == "replace" and not there:
        raise Conflict(f"{override.path}: there is nothing to replace; use op: add")
    elif isinstance(place, dict):
        place[last] = override.value
    elif there:
        place[_index(place, last)] = override.value
    elif last == "-":
        place.append(override.value)
    else:
        raise Conflict(f"{override.path}: the list has no item {last}; use - to append one")


def _get(place: Any, step: str) -> Any:
    """What is at a step; None when nothing is."""
    if isinstance(place, dict):
        return place.get(step)
    index = _index(place, step)
    return place[index] if 0 <= index < len(place) else None


def _index(items: list[Any], step: str) -> int:
    """Where in a list: the item of this name, else the index. -1 when there is none."""
    for index, item in enumerate(items):
        if isinstance(item, dict) and item.get("name") == step:
            return index
    return int(step) if step.isascii() and step.isdigit() and int(step) < len(items) else -1


def _as_go_writes(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_go_writes(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {field: _as_go_writes(below) for field, below in value.items() if not _is_left_out(field, below)}


def _is_left_out(field: str, value: Any) -> bool:
    """Empty objects stay: ``rng: {}`` is a choice."""
    return value is None or value in ("", []) or (field in _NO_POINTERS and not value)
