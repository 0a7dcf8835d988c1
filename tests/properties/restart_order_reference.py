"""The order of restart as plainly as it can be said: each VM is asked about each other. Slow, and obviously right."""

from collections.abc import Collection, Iterable, Mapping

from vdcos.core import availability
from vdcos.core.availability import PRIORITIES, Dependent, Turn
from vdcos.core.objects import Key

Vms = Mapping[Key, Dependent | None]


def turns(ranks: Mapping[Key, int], vms: Vms) -> dict[Key, Turn]:
    """As ``availability.turns``."""
    raised = dict(ranks)
    needs = {key: _needs(key, vm, vms, ranks) for key, vm in vms.items()}
    depths = _depths(needs)
    for key in sorted(vms, key=lambda key: -depths[key]):
        for other in needs[key]:
            if depths[other] < depths[key]:
                raised[other] = min(raised[other], raised[key])
    return {key: Turn(rank, depths[key]) for key, rank in raised.items()}


def _needs(key: Key, vm: Dependent | None, vms: Vms, ranks: Mapping[Key, int]) -> Collection[Key]:
    found: dict[Key, None] = {}
    for dependency in vm.needs if vm is not None else ():
        for other, there in vms.items():
            if other == key or other.namespace != key.namespace or PRIORITIES[ranks[other]] == "Disabled":
                continue
            if availability.names(dependency, other.name, there.labels if there is not None else None):
                found[other] = None
    return found


def _depths(needs: Mapping[Key, Iterable[Key]]) -> dict[Key, int]:
    depths: dict[Key, int] = {}
    for start in needs:
        stack: list[tuple[Key, bool]] = [(start, False)]
        way: set[Key] = set()
        while stack:
            key, done = stack.pop()
            if done:
                depths[key] = max((depths[other] + 1 for other in needs[key] if other in depths), default=0)
            elif key not in depths and key not in way:
                way.add(key)
                stack.append((key, True))
                stack += [(other, False) for other in needs[key] if other not in depths and other not in way]
    return depths
