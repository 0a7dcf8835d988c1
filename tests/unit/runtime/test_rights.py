"""Our rights: what RBAC's rules grant, what is missing, and whom that limits."""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from vdcos.core import preflight
from vdcos.generate import rbac
from vdcos.runtime import rights
from vdcos.runtime.preflight import ask
from vdcos.runtime.requests import ApiError
from vdcos.runtime.rights import Demands, Right, Rule
from vdcos.services import catalogue

DEMANDS = Demands(
    {
        "VirtualMachine": {("kubevirt.io", "virtualmachines"): {"create", "patch"}, ("", "events"): {"create"}},
        "Network": {("vdcos.dev", "networks/status"): {"patch"}, ("", "events"): {"create"}},
    },
    {("", "secrets"): {"get"}},
    "vdcos-system",
)
ALL = [
    {"verbs": ["create", "patch"], "apiGroups": ["kubevirt.io"], "resources": ["virtualmachines"]},
    {"verbs": ["*"], "apiGroups": [""], "resources": ["events"]},
    {"verbs": ["patch"], "apiGroups": ["vdcos.dev"], "resources": ["*/status"]},
]
OWN = [{"verbs": ["get"], "apiGroups": ["*"], "resources": ["*"]}]


class Authority:
    """An API server that has these rules in all namespaces, and some more in ours."""

    def __init__(
        self, wide: Iterable[Any] = ALL, own: Iterable[Any] = OWN, incomplete: bool = False, yes: Iterable[str] = ()
    ) -> None:
        self.rules = {"default": [*wide], "vdcos-system": [*wide, *own]}
        self.incomplete, self.yes = incomplete, {*yes}
        self.asked: list[str] = []

    async def call(self, verb: str, method: str, path: str, *, body: bytes | None = None) -> bytes:
        assert (verb, method) == ("review", "POST")
        review = json.loads(body or b"")
        assert path == f"/apis/authorization.k8s.io/v1/{review['kind'].lower()}s"
        if review["kind"] == "SelfSubjectRulesReview":
            rules = self.rules[review["spec"]["namespace"]]
            status: dict[str, Any] = {"resourceRules": rules or None, "incomplete": self.incomplete}
        else:
            wanted = review["spec"]["resourceAttributes"]
            name = f"{wanted['verb']} {wanted['resource']}/{wanted['subresource']} {wanted['namespace']}".strip()
            self.asked.append(name)
            status = {"allowed": name in self.yes}
        return json.dumps({**review, "status": status}).encode()


@pytest.mark.parametrize(
    ("rule", "granted"),
    [
        ({}, False),
        ({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}, True),
        ({"verbs": ["patch"], "apiGroups": ["vdcos.dev"], "resources": ["networks/status"]}, True),
        ({"verbs": ["patch"], "apiGroups": ["vdcos.dev"], "resources": ["*/status"]}, True),
        ({"verbs": ["patch"], "apiGroups": ["vdcos.dev"], "resources": ["networks"]}, False),
        ({"verbs": ["get"], "apiGroups": ["vdcos.dev"], "resources": ["networks/status"]}, False),
        ({"verbs": ["patch"], "apiGroups": [""], "resources": ["networks/status"]}, False),
        (
            {"verbs": ["patch"], "apiGroups": ["vdcos.dev"], "resources": ["networks/status"], "resourceNames": ["a"]},
            False,
        ),
    ],
)
def test_what_a_rule_grants(rule: dict[str, Any], granted: bool) -> None:
    snake = {"apiGroups": "api_groups", "resourceNames": "resource_names"}
    given = Rule(**{snake.get(name, name): tuple(value) for name, value in rule.items()})
    assert given.grants(Right("vdcos.dev", "networks/status", "patch")) is granted


async def test_all_rights_by_two_questions() -> None:
    authority = Authority()
    check = await rights.check(authority, DEMANDS)
    assert (check.state, check.found, check.limits) == ("OK", "all 5", ())
    assert authority.asked == []


async def test_what_is_missing_limits_whom_it_is_for() -> None:
    check = await rights.check(Authority(ALL[1:]), DEMANDS)
    assert check.state == "Limited"
    assert check.limits == ("VirtualMachine",)
    assert "2 of 5 are missing: create virtualmachines.kubevirt.io, patch virtualmachines.kubevirt.io" in check.found
    assert "RBAC" in check.remedy


async def test_a_right_in_one_namespace_is_none_everywhere() -> None:
    """Rules of the operator's own namespace do not count for all."""
    check = await rights.check(Authority([], [*ALL, *OWN]), DEMANDS)
    assert check.found.startswith("4 of 5 are missing")


async def test_without_the_own_rights_all_are_limited() -> None:
    check = await rights.check(Authority(own=()), DEMANDS)
    assert check.found == "1 of 5 are missing: get secrets in namespace vdcos-system"
    assert check.limits == ("VirtualMachine", "Network")


async def test_an_authorizer_that_lists_no_rules_is_asked_one_by_one() -> None:
    yes = ("create virtualmachines/", "patch virtualmachines/", "create events/", "patch networks/status")
    authority = Authority([], [], incomplete=True, yes=yes)
    check = await rights.check(authority, DEMANDS)
    assert check.found == "1 of 5 are missing: get secrets in namespace vdcos-system"
    assert sorted(authority.asked) == sorted([*yes, "get secrets/ vdcos-system"])


async def test_who_may_not_ask_does_not_know() -> None:
    class Silent(Authority):
        async def call(self, verb: str, method: str, path: str, *, body: bytes | None = None) -> bytes:
            raise ApiError(self.status, "Forbidden", "no")

        status = 403

    silent = Silent()
    check = await rights.check(silent, DEMANDS)
    assert (check.state, check.cost) == ("Unknown", "")
    silent.status = 503
    [check] = await ask({"Rights": lambda: rights.check(silent, DEMANDS)})
    assert (check.name, check.state) == ("Rights", "Unknown")


@pytest.mark.parametrize("answer", [b"<html>", b'{"status": {"resourceRules": [7]}}'])
async def test_an_answer_that_cannot_be_read_ends_nothing(answer: bytes) -> None:
    class Garbled(Authority):
        async def call(self, verb: str, method: str, path: str, *, body: bytes | None = None) -> bytes:
            return answer

    [check] = await ask({"Rights": lambda: rights.check(Garbled(), DEMANDS)})
    assert (check.name, check.state) == ("Rights", "Unknown")


def test_the_generated_role_grants_all_that_is_demanded() -> None:
    served = catalogue.services({})
    manifests = rbac.operator(served)
    roles = [[Rule(**_fields(rule)) for rule in each["rules"]] for each in manifests if each["kind"] == "ClusterRole"]
    demanded = rights.rights(*(rbac.grants([service]) for service in served))
    assert len(demanded) > 50
    assert rights.ungranted(roles[0], demanded) == []
    assert {service.resource.kind for service in served} == set(preflight.EVERYTHING)


def _fields(rule: dict[str, Any]) -> dict[str, Any]:
    return {"verbs": rule["verbs"], "api_groups": rule["apiGroups"], "resources": rule["resources"]}
