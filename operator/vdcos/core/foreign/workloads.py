"""Specs of pods, as far as they say what a pod takes of its node, and where it may run."""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from vdcos.core import amounts, quantity
from vdcos.core.amounts import Amounts

Quantities = dict[str, str | int]


class Resources(msgspec.Struct, frozen=True):
    requests: Quantities = {}


class Container(msgspec.Struct, frozen=True, rename="camel"):
    """``restartPolicy`` Always makes a sidecar of an init container: it stays beside the others."""

    resources: Resources = Resources()
    restart_policy: str = ""


class Workload(msgspec.Struct, frozen=True, rename="camel"):
    """A pod's node, and its requests, which are kept as those of one container."""

    node_name: str = ""
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    overhead: Quantities = {}

    def __post_init__(self) -> None:
        requests: Quantities = {name: _text(name, amount) for name, amount in sorted(_requested(self).items())}
        one = (Container(Resources(requests)),) if requests else ()
        for field, value in (("containers", one), ("init_containers", ()), ("overhead", {})):
            msgspec.structs.force_setattr(self, field, value)

    @property
    def requests(self) -> Amounts:
        """What the scheduler counts of it."""
        return _shared(tuple(self.containers[0].resources.requests.items())) if self.containers else amounts.NOTHING


class Toleration(msgspec.Struct, frozen=True):
    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


class ClaimSource(msgspec.Struct, frozen=True, rename="camel"):
    claim_name: str = ""


class Volume(msgspec.Struct, frozen=True, rename="camel"):
    persistent_volume_claim: ClaimSource | None = None


class Expression(msgspec.Struct, frozen=True):
    key: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()


class Selector(msgspec.Struct, frozen=True, rename="camel"):
    match_labels: dict[str, str] = {}
    match_expressions: tuple[Expression, ...] = ()


class NodeSelector(msgspec.Struct, frozen=True, rename="camel"):
    """Terms of which one must hold."""

    node_selector_terms: tuple[Selector, ...] = ()


_REQUIRED, _PREFERRED = (
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
)


class NodeAffinity(msgspec.Struct, frozen=True):
    required: NodeSelector | None = msgspec.field(name=_REQUIRED, default=None)


class PodTerm(msgspec.Struct, frozen=True, rename="camel"):
    """Pods within a domain. Without ``namespaces`` and ``namespaceSelector``: those of the own namespace."""

    topology_key: str = ""
    label_selector: Selector | None = None
    namespaces: tuple[str, ...] = ()
    namespace_selector: dict[str, Any] | None = None


class WeightedTerm(msgspec.Struct, frozen=True, rename="camel"):
    weight: int = 1
    pod_affinity_term: PodTerm = PodTerm()


class PodAffinity(msgspec.Struct, frozen=True):
    required: tuple[PodTerm, ...] = msgspec.field(name=_REQUIRED, default=())
    preferred: tuple[WeightedTerm, ...] = msgspec.field(name=_PREFERRED, default=())


class Affinity(msgspec.Struct, frozen=True, rename="camel"):
    node_affinity: NodeAffinity = NodeAffinity()
    pod_affinity: PodAffinity = PodAffinity()
    pod_anti_affinity: PodAffinity = PodAffinity()


class PlacedWorkload(Workload, frozen=True, rename="camel"):
    """With where the pod may run."""

    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    affinity: Affinity = Affinity()
    volumes: tuple[Volume, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        claimed = tuple(volume for volume in self.volumes if volume.persistent_volume_claim is not None)
        msgspec.structs.force_setattr(self, "volumes", claimed)

    @property
    def claims(self) -> tuple[str, ...]:
        return tuple(each.persistent_volume_claim.claim_name for each in self.volumes if each.persistent_volume_claim)


def _requested(spec: Workload) -> Amounts:
    """What the scheduler reserves: all containers and sidecars together, or what one init container needs beside the
    sidecars before it, if that is more; and the overhead of the runtime class."""
    running, starting, beside = amounts.NOTHING, amounts.NOTHING, amounts.NOTHING
    for container in spec.containers:
        running = running + amounts_of(container.resources.requests)
    for container in spec.init_containers:
        asked = amounts_of(container.resources.requests)
        if container.restart_policy == "Always":
            beside = asked = beside + asked
        else:
            asked = beside + asked
        starting = Amounts({name: max(starting.get(name, 0), asked.get(name, 0)) for name in {*starting, *asked}})
    running = running + beside
    return Amounts(
        {name: max(running.get(name, 0), starting.get(name, 0)) for name in {*running, *starting}}
    ) + amounts_of(spec.overhead)


def amounts_of(quantities: Mapping[str, str | int]) -> Amounts:
    """Quantities of Kubernetes by resource name. One that is none counts nothing: others can write what they like."""
    found = {}
    for name, text in quantities.items():
        try:
            value = quantity.parse(text)
        except ValueError:
            continue
        found[name] = math.ceil(value * 1000) if name == amounts.CPU else math.ceil(value)
    return Amounts({name: amount for name, amount in found.items() if amount})


@lru_cache(maxsize=4096)
def _shared(quantities: tuple[tuple[str, str | int], ...]) -> Amounts:
    """As ``amounts_of``; pods that ask for the same share one value."""
    return amounts_of(dict(quantities))


def _text(name: str, amount: int) -> str:
    return f"{amount}m" if name == amounts.CPU else str(amount)
