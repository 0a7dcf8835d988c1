"""Drift: a field that we want does not hold in the live object."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from vdcos.core import ownership, quantity
from vdcos.core.plan import Manifest


def drift(wanted: Any, live: Any, path: str = "") -> Iterator[str]:
    """The paths at which ``live`` does not hold what ``wanted`` says, as ``spec.template.spec.domain.cpu.sockets``.

    What others added is tolerated: only wanted fields are compared. Lists of objects with a ``name`` are compared by
    name, other lists as wholes. Quantities compare by value ("1Gi" and "1024Mi" are the same).
    """
    if wanted == live:
        return  # most of it, compared in one go
    if isinstance(wanted, Mapping):
        if not isinstance(live, Mapping):
            yield path
            return
        for field, value in wanted.items():
            yield from drift(value, live.get(field), f"{path}.{field}" if path else str(field))
    elif isinstance(wanted, Sequence) and not isinstance(wanted, str):
        if not isinstance(live, Sequence) or isinstance(live, str):
            yield path
        elif wanted and all(isinstance(item, Mapping) and "name" in item for item in wanted):
            named = {item.get("name"): item for item in live if isinstance(item, Mapping)}
            for item in wanted:
                yield from drift(item, named.get(item["name"]), f"{path}[{item['name']}]")
        elif len(wanted) != len(live) or any(
            next(drift(w, h), None) is not None for w, h in zip(wanted, live, strict=True)
        ):
            yield path
    elif not quantity.same(wanted, live):
        yield path


def mark(manifest: Manifest) -> str:
    """The digest of a manifest, by which it is known again."""
    return ownership.digest(msgspec.json.encode(manifest, order="deterministic").decode(), 16)


def stamped(manifest: Manifest) -> dict[str, Any]:
    """The manifest with the annotation that holds its own mark (``ownership.APPLIED``)."""
    meta = dict(manifest["metadata"])
    meta["annotations"] = {**meta.get("annotations", {}), ownership.APPLIED: mark(manifest)}
    return {**manifest, "metadata": meta}
