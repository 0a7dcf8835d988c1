"""Dashboards, rules, runbooks and the metrics' page agree, and dashboards are what Grafana takes for one."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from vdcos.core import metrics
from vdcos.generate import dashboards, observability

Tree = dict[str, Any]
ROOT = Path(__file__).parents[3]
MONITORING = ROOT / "manifests" / "monitoring"
RUNBOOKS = ROOT / "docs" / "runbooks"
RULES: list[Tree] = [
    rule
    for group in yaml.safe_load((MONITORING / "rules.yaml").read_text())["spec"]["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDS = {rule["record"] for rule in RULES if "record" in rule}
QUERIES = [
    query.expr
    for board in dashboards.BOARDS
    for panels in board.rows.values()
    for panel in panels
    for query in panel.queries
]
SERIES = {
    series
    for metric in metrics.ALL
    for series in (
        [f"{metric.name}_{part}" for part in ("bucket", "sum", "count")]
        if metric.type == "histogram"
        else [metric.name]
    )
}


def named(expr: str) -> set[str]:
    """The metrics and recordings of an expression."""
    return set(re.findall(r"[\w:]*vdcos_[\w:]+", expr))


@pytest.mark.parametrize("expr", [*(rule["expr"] for rule in RULES), *QUERIES])
def test_expressions_name_what_exists(expr: str) -> None:
    assert named(expr) <= SERIES | RECORDS


def test_every_metric_is_shown_or_watched() -> None:
    """What nobody looks at is not worth its price."""
    used = set().union(*map(named, QUERIES), *(named(rule["expr"]) for rule in RULES))
    assert {metric.name for metric in metrics.ALL if not any(s.startswith(metric.name) for s in used)} == set()


def words() -> set[str]:
    """All texts in the operator's sources that could be a reason."""
    trees = (ast.parse(path.read_text()) for path in (ROOT / "operator" / "vdcos").rglob("*.py"))
    return {
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and type(node.value) is str
    }


def test_rules_select_reasons_conditions_and_states_that_exist() -> None:
    known = words()
    selected = {
        value
        for rule in RULES
        for _, values in re.findall(r'(reason|condition|state|outcome|kind|result|phase)[!=~]+"([^"]+)"', rule["expr"])
        for value in values.split("|")
    }
    assert len(selected) > 30
    assert selected - known == set()


# Alerts


def test_each_alert_has_a_page_of_the_same_form_and_no_page_is_left_over() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"} == ALERTS.keys()
    for name, alert in ALERTS.items():
        page = (RUNBOOKS / f"{name}.md").read_text()
        headings = re.findall("^#+ .*", page, re.MULTILINE)
        assert headings == [f"# {name}", "## Meaning", "## Impact", "## Diagnosis", "## Mitigation"]
        assert alert["annotations"]["runbook_url"] == f"https://vdcos.dev/runbooks/{name}.html"


def test_alerts_say_how_urgent_they_are_and_what_is_the_matter() -> None:
    for alert in ALERTS.values():
        assert alert["labels"].keys() == {"severity"}
        assert alert["labels"]["severity"] in ("critical", "warning", "info")
        assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert "{{" not in alert["annotations"]["description"], "only the summary names what it is about"
        assert alert["annotations"]["summary"].endswith(".")


def links(page: Path) -> Iterator[tuple[str, str]]:
    """Links to other pages, with the heading that is meant."""
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if "://" not in target:
            path, _, heading = target.partition("#")
            yield path, heading


def anchors(page: Path) -> set[str]:
    headings = re.findall("^#+ (.*)", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


PAGES = [*RUNBOOKS.glob("*.md"), ROOT / "docs/guide/monitoring.md", ROOT / "docs/reference/metrics.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for path, heading in links(page):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not heading or heading in anchors(target), f"{path}#{heading}"


# Dashboards


@pytest.mark.parametrize("board", dashboards.BOARDS, ids=lambda board: board.uid)
def test_a_dashboard_is_one_in_grafanas_own_types(board: dashboards.Board) -> None:
    """Read by them and written again it is the same: no field is unknown, or of another form."""
    text = dashboards.rendered(board)
    tree = json.loads(text)
    assert JSONEncoder(sort_keys=True, indent=2).encode(Dashboard.from_json(tree)) + "\n" == text
    panels = tree["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken)), "no panel covers another"
    sources = [
        each["datasource"]["uid"]
        for panel in panels
        for each in (panel, *panel.get("targets", []))
        if panel["type"] != "row"
    ]
    assert set(sources) == {"${datasource}"}


@pytest.mark.parametrize("board", dashboards.BOARDS, ids=lambda board: board.uid)
def test_queries_name_no_target(board: dashboards.Board) -> None:
    """They work whatever the job, the namespace and the pods are called."""
    for expr in (query.expr for panels in board.rows.values() for panel in panels for query in panel.queries):
        assert not re.search(r"\b(job|namespace|pod|instance|service)\s*[=!]", expr)


def test_a_field_that_grafana_does_not_know_would_be_seen() -> None:
    tree = json.loads(dashboards.rendered(dashboards.DATACENTER))
    tree["panels"][1]["titel"] = "x"
    assert json.loads(JSONEncoder().encode(Dashboard.from_json(tree))) != tree


# Pages


def test_the_page_of_metrics_has_each_once() -> None:
    page = observability.metrics_page()
    listed = re.findall(r"^\| `(\w+)`", page, re.MULTILINE)
    assert sorted(listed) == sorted(metric.name for metric in metrics.ALL)
