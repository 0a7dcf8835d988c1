"""JSON trees that are never mutated: a change makes new dictionaries along its path and shares the rest."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Tree = dict[str, Any]
Path = tuple[str, ...]

_KEYED = ("metadata", "ownerReferences")
"""The one list whose items server-side apply tells apart, by uid; it takes any other list for one value."""


class PatchRefused(Exception):
    """A JSON patch does not fit: a test failed, or a path does not exist."""


def merge(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> Tree:
    """RFC 7386: objects merge, None removes, all else replaces."""
    merged = dict(tree)
    for field, value in changes.items():
        if value is None:
            merged.pop(field, None)
        elif isinstance(value, dict):
            known = merged.get(field)
            merged[field] = merge(known if isinstance(known, dict) else {}, value)
        else:
            merged[field] = value
    return merged


def patched(tree: Any, operation: Mapping[str, Any]) -> Any:
    """The tree after one operation of RFC 6902 (add, replace, remove, test). Raises PatchRefused."""
    way = [step.replace("~1", "/").replace("~0", "~") for step in operation["path"].split("/")[1:]]
    return _patched(tree, way, operation)


def _patched(place: Any, way: Sequence[str], operation: Mapping[str, Any]) -> Any:
    step, *rest = way
    if isinstance(place, list):
        index = len(place) if step == "-" else int(step)
        if rest or operation["op"] != "add":
            if index >= len(place):
                raise PatchRefused(f"{operation['path']} does not exist")
            changed = _child(place[index], True, rest, operation)
            return [*place[:index], *changed, *place[index + 1 :]]
        return [*place[:index], operation["value"], *place[index:]]
    if not isinstance(place, dict):
        raise PatchRefused(f"{operation['path']} does not exist")
    changed = _child(place.get(step), step in place, rest, operation)
    if changed and changed[0] is place.get(step) and step in place:
        return place
    copy = dict(place)
    copy.pop(step, None)
    return {**place, step: changed[0]} if changed else copy


def _child(value: Any, present: bool, rest: Sequence[str], operation: Mapping[str, Any]) -> list[Any]:
    """What stands in the place of a child: one value, or none."""
    if rest:
        if not present:
            raise PatchRefused(f"{operation['path']} does not exist")
        return [_patched(value, rest, operation)]
    match operation["op"]:
        case "add":
            return [operation["value"]]
        case "test":
            if value != operation["value"]:  # as in kube-apiserver, null holds for what is absent
                raise PatchRefused(f"the test of {operation['path']} failed")
            return [value] if present else []
        case "replace":  # as in kube-apiserver, whether or not something is there
            return [operation["value"]]
        case "remove" if present:
            return []
        case "remove":
            raise PatchRefused(f"{operation['path']} does not exist")
    raise PatchRefused(f"operation {operation['op']} is not supported")


def at(tree: Any, path: Path) -> Any:
    """The value at a path of ``leaves``; None when there is none."""
    for number, step in enumerate(path):
        if isinstance(tree, list):
            tree = next((item for item in tree if item.get("uid") == step), None)
        elif isinstance(tree, dict):
            tree = tree.get(step)
        else:
            return None
        if tree is None and number < len(path):
            return None
    return tree


def leaves(tree: Any, path: Path = ()) -> Iterator[Path]:
    """The paths that a manager owns who applies this tree: of its scalars, lists and empty objects."""
    inner = _inner(tree, path)
    if not inner:
        yield path
    for field, value in (inner or {}).items():
        yield from leaves(value, (*path, field))


def nodes(tree: Any, path: Path = ()) -> Iterator[Path]:
    """The paths of everything in a tree: of its leaves, and of the objects that they are in."""
    if path:
        yield path
    for field, value in (_inner(tree, path) or {}).items():
        yield from nodes(value, (*path, field))


def _inner(value: Any, path: Path) -> Mapping[str, Any] | None:
    """What is in an object; None for a leaf."""
    if path == _KEYED:
        return {item["uid"]: item for item in value}
    return value if isinstance(value, dict) and path[:-1] != _KEYED else None


@dataclass(frozen=True, slots=True)
class Difference:
    """Paths of leaves, and of objects that are in one of two trees only."""

    changed: frozenset[Path]
    """They are new, or have another value."""
    removed: frozenset[Path]


def difference(old: Tree, new: Tree) -> Difference:
    """How two trees differ."""
    changed: list[Path] = []
    removed: list[Path] = []
    _differ(old, new, (), changed, removed)
    return Difference(frozenset(changed), frozenset(removed))


def _differ(old: Any, new: Any, path: Path, changed: list[Path], removed: list[Path]) -> None:
    if old is new:
        return
    if old is None:
        changed += nodes(new, path)
    elif new is None:
        removed += nodes(old, path)
    elif (before := _inner(old, path)) is None or (after := _inner(new, path)) is None:
        if old != new:
            changed.append(path)
    else:
        for field in before.keys() | after.keys():
            _differ(before.get(field), after.get(field), (*path, field), changed, removed)


def without(tree: Any, path: Path) -> Any:
    """The tree without what is at a path; objects that become empty by it go as well."""
    step, *rest = path
    if isinstance(tree, list):
        return [item for item in tree if item.get("uid") != step]
    if not isinstance(tree, dict) or step not in tree:
        return tree
    inner = without(tree[step], tuple(rest)) if rest else None
    if inner in (None, {}, []):
        return {field: value for field, value in tree.items() if field != step}
    return {**tree, step: inner}


def united(live: Any, applied: Any, path: Path = ()) -> Any:
    """What server-side apply makes of a live tree: applied objects merge into it, all else replaces."""
    if path == _KEYED:
        mine = {item["uid"]: item for item in applied}
        kept = [mine.pop(item["uid"], item) for item in live or ()]
        return [*kept, *mine.values()]
    if not isinstance(applied, dict):
        return live if live == applied else applied
    merged = dict(live) if isinstance(live, dict) else {}
    for field, value in applied.items():
        merged[field] = united(merged.get(field), value, (*path, field))
    return merged
