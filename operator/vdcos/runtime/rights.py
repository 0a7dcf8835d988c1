"""Whether we may do what our services need: asked of the API server, which tells everybody about himself."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import msgspec

from vdcos.core.preflight import Check, listed
from vdcos.runtime.requests import ApiError

Grants = Mapping[tuple[str, str], Collection[str]]
"""Verbs by API group and resource (with subresource)."""

ELSEWHERE = "default"
"""A namespace in which nobody should have rights that he has not everywhere."""

_REVIEWS = "/apis/authorization.k8s.io/v1"
_AT_ONCE = 8


class Right(NamedTuple):
    group: str
    resource: str
    verb: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}" + (f".{self.group}" if self.group else "")


@dataclass(frozen=True, slots=True)
class Demands:
    """What is needed: by each service in all namespaces, by the kind that it owns, and by the operator as such in its
    ``namespace``."""

    services: Mapping[str, Grants]
    own: Grants
    namespace: str


class Caller(Protocol):
    """The part of the Kubernetes port that is needed here."""

    async def call(self, verb: str, method: str, path: str, *, body: bytes | None = None) -> bytes: ...


class Rule(msgspec.Struct, frozen=True, rename="camel"):
    """What RBAC grants; a star stands for all."""

    verbs: tuple[str, ...] = ()
    api_groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    resource_names: tuple[str, ...] = ()

    def grants(self, right: Right) -> bool:
        resource, _, subresource = right.resource.partition("/")
        resources = {"*", right.resource} | ({f"*/{subresource}"} if subresource else {resource})
        return (
            not self.resource_names
            and not {"*", right.verb}.isdisjoint(self.verbs)
            and not {"*", right.group}.isdisjoint(self.api_groups)
            and not resources.isdisjoint(self.resources)
        )


class _RulesStatus(msgspec.Struct, frozen=True, rename="camel"):
    resource_rules: tuple[Rule, ...] | None = None  # Go writes an empty list as null
    incomplete: bool = False


class _Rules(msgspec.Struct, frozen=True):
    """SelfSubjectRulesReview. ``incomplete`` when an authorizer only answers single questions."""

    status: _RulesStatus = _RulesStatus()


class _AccessStatus(msgspec.Struct, frozen=True):
    allowed: bool = False


class _Access(msgspec.Struct, frozen=True):
    """SelfSubjectAccessReview: one question."""

    status: _AccessStatus = _AccessStatus()


_decode_rules = msgspec.json.Decoder(_Rules).decode
_decode_access = msgspec.json.Decoder(_Access).decode


async def check(port: Caller, demands: Demands) -> Check:
    """Ask for everything that is needed. Raises ApiError when there is no answer."""
    wide = rights(*demands.services.values())
    try:
        lacking = await _lacking(port, wide, ELSEWHERE, "")
        lacking_own = await _lacking(port, rights(demands.own), demands.namespace, demands.namespace)
    except ApiError as error:
        if error.status != 403:
            raise
        remedy = "let everybody ask (ClusterRole system:basic-user), as Kubernetes does by default"
        return Check("Rights", "Unknown", "the API server does not tell us what we may do", remedy=remedy)
    return verdict(demands, lacking, lacking_own)


def rights(*granted: Grants) -> frozenset[Right]:
    """The single rights of grants."""
    return frozenset(
        Right(group, resource, verb)
        for grants in granted
        for (group, resource), verbs in grants.items()
        for verb in verbs
    )


def ungranted(rules: Sequence[Rule], wanted: Iterable[Right]) -> list[Right]:
    """The rights that no rule grants, in order."""
    return sorted(right for right in wanted if not any(rule.grants(right) for rule in rules))


def verdict(demands: Demands, lacking: Collection[Right], lacking_own: Collection[Right]) -> Check:
    """What it comes to that these rights are lacking."""
    count = len(rights(*demands.services.values())) + len(rights(demands.own))
    if not lacking and not lacking_own:
        return Check("Rights", "OK", f"all {count}")
    names = [*map(str, lacking), *(f"{right} in namespace {demands.namespace}" for right in lacking_own)]
    limited = [kind for kind, grants in demands.services.items() if lacking_own or rights(grants) & {*lacking}]
    return Check(
        "Rights",
        "Limited",
        f"{len(names)} of {count} are missing: {listed(names)}",
        "what needs them is not done, and the conditions of the objects concerned say so",
        "install the current RBAC of vdcos",
        tuple(limited),
    )


async def _lacking(port: Caller, wanted: Set[Right], namespace: str, where: str) -> list[Right]:
    """By one question about a namespace. What that does not show is asked for one by one, in ``where`` ("": all
    namespaces), if an authorizer cannot list its rules."""
    answer = _decode_rules(await _ask(port, "SelfSubjectRulesReview", {"namespace": namespace})).status
    missing = ungranted(answer.resource_rules or (), wanted)
    if not answer.incomplete:
        return missing
    room = asyncio.Semaphore(_AT_ONCE)

    async def may(right: Right) -> bool:
        resource, _, subresource = right.resource.partition("/")
        asked = {"group": right.group, "resource": resource, "subresource": subresource, "verb": right.verb}
        async with room:
            attributes = {"resourceAttributes": {**asked, "namespace": where}}
            return _decode_access(await _ask(port, "SelfSubjectAccessReview", attributes)).status.allowed

    allowed = await asyncio.gather(*map(may, missing))
    return [right for right, granted in zip(missing, allowed, strict=True) if not granted]


async def _ask(port: Caller, kind: str, spec: Mapping[str, Any]) -> bytes:
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
    return await port.call("review", "POST", f"{_REVIEWS}/{kind.lower()}s", body=msgspec.json.encode(body))
