"""The one finalizer that we put on objects of ours: what others use must not vanish under them."""

from typing import Any

from vdcos.api.meta import ObjectMeta
from vdcos.core import ownership
from vdcos.core.objects import Key, Meta, Resource
from vdcos.core.plan import Patch

IN_USE = f"{ownership.GROUP}/in-use"

_PATH = "/metadata/finalizers"


def hold(resource: Resource, meta: ObjectMeta | Meta, in_use: bool) -> tuple[Patch, ...]:
    """The patch that puts ``IN_USE`` on an object that is used, or takes it off one that is not; none when it is right.

    Nobody may add a finalizer to an object that is being deleted. Others have finalizers too, so the patch tests what
    it changes; in a JSON patch of kube-apiserver null stands for what is absent.
    """
    present = IN_USE in meta.finalizers
    if in_use and not present and meta.deletion_timestamp is None:
        others = list(meta.finalizers)
        added: tuple[dict[str, Any], ...] = (
            {"op": "test", "path": _PATH, "value": others or None},
            {"op": "add", "path": _PATH, "value": [*others, IN_USE]},
        )
        return (
            Patch(
                resource, Key(meta.namespace, meta.name), meta.uid, added, "it is in use: a deletion would have to wait"
            ),
        )
    if present and not in_use:
        alone = len(meta.finalizers) == 1
        place = _PATH if alone else f"{_PATH}/{meta.finalizers.index(IN_USE)}"
        removed = (
            {"op": "test", "path": place, "value": [IN_USE] if alone else IN_USE},
            {"op": "remove", "path": place},
        )
        return (Patch(resource, Key(meta.namespace, meta.name), meta.uid, removed, "nothing uses it any more"),)
    return ()
