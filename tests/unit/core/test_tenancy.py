"""Who may use a cluster-wide resource."""

from typing import Any

import pytest

from vdcos.api.meta import AllowedNamespaces
from vdcos.core import tenancy
from vdcos.core.objects import Meta

SHOP = Meta(name="shop", labels={"tier": "gold", "site": "north"})


def selector(*expressions: tuple[str, str, list[str]], **labels: str) -> dict[str, Any]:
    requirements = [
        {"key": key, "operator": operator, "values": tuple(values)} for key, operator, values in expressions
    ]
    return {"from": "Selector", "selector": {"matchLabels": labels, "matchExpressions": tuple(requirements)}}


CASES: list[tuple[str, dict[str, Any], bool]] = [
    ("nobody by default", {}, False),
    ("nobody", {"from": "None"}, False),
    ("everybody", {"from": "All"}, True),
    ("by name", {"from": "Names", "names": ("bank", "shop")}, True),
    ("another name", {"from": "Names", "names": ("bank",)}, False),
    ("names left out (an older, laxer schema)", {"from": "Names"}, False),
    ("selector left out (an older, laxer schema)", {"from": "Selector"}, False),
    ("all labels", selector(tier="gold", site="north"), True),
    ("one label differs", selector(tier="gold", site="south"), False),
    ("a label is missing", selector(rack="1"), False),
    ("in", selector(("tier", "In", ["gold", "silver"])), True),
    ("in: another value", selector(("tier", "In", ["silver"])), False),
    ("in: absent", selector(("rack", "In", ["1"])), False),
    ("not in", selector(("tier", "NotIn", ["silver"])), True),
    ("not in: it is", selector(("tier", "NotIn", ["gold"])), False),
    ("not in: absent", selector(("rack", "NotIn", ["1"])), True),
    ("exists", selector(("tier", "Exists", [])), True),
    ("exists: absent", selector(("rack", "Exists", [])), False),
    ("does not exist", selector(("rack", "DoesNotExist", [])), True),
    ("does not exist: it does", selector(("tier", "DoesNotExist", [])), False),
    ("labels and expressions", selector(("site", "In", ["south"]), tier="gold"), False),
]


@pytest.mark.parametrize("reason, allowed, want", CASES, ids=[case[0] for case in CASES])
def test_allows(reason: str, allowed: dict[str, Any], want: bool) -> None:
    assert tenancy.allows(AllowedNamespaces.model_validate(allowed), SHOP) is want


def test_a_namespace_without_labels() -> None:
    allowed = AllowedNamespaces.model_validate(selector(("rack", "DoesNotExist", [])))
    assert tenancy.allows(allowed, Meta(name="bare"))


@pytest.mark.parametrize(
    "allowed, whom",
    [
        ({}, "it serves nobody (allowedNamespaces.from is None)"),
        ({"from": "Names", "names": ("bank", "mill")}, "it serves other namespaces, by name;"),
        (selector(tier="silver"), "it serves namespaces with certain labels"),
    ],
)
def test_a_refusal_says_who_may_and_what_to_change(allowed: dict[str, Any], whom: str) -> None:
    message = tenancy.refusal("Network", "red", AllowedNamespaces.model_validate(allowed), SHOP)
    assert message.startswith("Network red does not allow namespace shop: ")
    assert whom in message
    assert "an admin can change spec.allowedNamespaces of the Network" in message
