"""What is installed, read as files: the operator understands its command line, and the parts agree with each other."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from vdcos import __version__, api, app, cli
from vdcos.generate import chart, crds, rbac

MANIFESTS = Path(__file__).resolve().parents[3] / "manifests"
CHART = MANIFESTS / "helm" / "vdcos"

Manifest = dict[str, Any]


def read(path: Path) -> Manifest:
    content: Manifest = yaml.safe_load(path.read_text())
    return content


DEPLOYMENT = read(MANIFESTS / "base" / "deployment.yaml")
POD = DEPLOYMENT["spec"]["template"]["spec"]
(OPERATOR,) = POD["containers"]
PORTS = {port["name"]: port["containerPort"] for port in OPERATOR["ports"]}


def test_the_operator_understands_the_command_line_of_its_pod() -> None:
    chosen = cli.parser().parse_args(OPERATOR["args"])
    assert chosen.command == "run"
    assert not chosen.standalone, "the Lease says who acts"
    assert chosen.namespace == "$(POD_NAMESPACE)"
    assert {env["name"] for env in OPERATOR["env"]} == {"POD_NAME", "POD_NAMESPACE"}
    assert chosen.listen.endswith(f":{PORTS['metrics']}")
    assert chosen.probe.endswith(f":{PORTS['probe']}")


def test_helm_test_asks_for_all_that_an_installation_brings_along() -> None:
    template = (CHART / "templates" / "tests" / "reach.yaml").read_text()
    (block,) = re.findall(r"^ +args:\n((?: +- .+\n)+)", template, re.MULTILINE)
    chosen = cli.parser().parse_args(re.findall("- (.+)", block.replace("{{ .Release.Namespace }}", "here")))
    assert (chosen.command, chosen.namespace) == ("check", "here")
    assert {*chosen.only} == app.questions(None, [], "here").keys()  # type: ignore[arg-type]


def test_probes_ask_what_is_served_there() -> None:
    """kopf serves /healthz on the one port, and the runtime /readyz on the other."""
    asked = {
        name: (OPERATOR[name]["httpGet"]["port"], OPERATOR[name]["httpGet"]["path"])
        for name in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert asked == {
        "startupProbe": ("probe", "/healthz"),
        "livenessProbe": ("probe", "/healthz"),
        "readinessProbe": ("metrics", "/readyz"),
    }


def test_it_runs_as_the_account_that_has_the_generated_rights() -> None:
    account = next(each for each in rbac.operator([]) if each["kind"] == "ServiceAccount")["metadata"]
    assert POD["serviceAccountName"] == account["name"]
    assert DEPLOYMENT["metadata"]["namespace"] == account["namespace"]
    assert cli.parser().parse_args(["run"]).namespace == account["namespace"]


def test_its_namespace_admits_restricted_pods_only() -> None:
    namespace = next(each for each in rbac.operator([]) if each["kind"] == "Namespace")
    for mode in ("enforce", "audit", "warn"):
        assert namespace["metadata"]["labels"][f"pod-security.kubernetes.io/{mode}"] == "restricted"


@pytest.mark.parametrize("name", ["deployment", "networkpolicy", "poddisruptionbudget", "service"])
def test_all_select_the_operators_pods(name: str) -> None:
    spec = read(MANIFESTS / "base" / f"{name}.yaml")["spec"]
    selector = spec.get("podSelector") or spec["selector"]
    chosen = selector.get("matchLabels", selector)
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    assert chosen == DEPLOYMENT["spec"]["selector"]["matchLabels"]
    assert chosen.items() <= labels.items()


def test_the_operator_never_stops_a_vm_to_have_room() -> None:
    priority = read(MANIFESTS / "base" / "priorityclass.yaml")
    assert POD["priorityClassName"] == priority["metadata"]["name"]
    assert priority["preemptionPolicy"] == "Never"


# The chart


def test_the_chart_is_of_this_version() -> None:
    about = read(CHART / "Chart.yaml")
    assert (about["version"], about["appVersion"]) == (__version__, __version__)
    assert OPERATOR["image"] == f"registry.example.com/vdcos:{__version__}"


def test_there_are_values_for_every_overlay() -> None:
    overlays = {path.name for path in (MANIFESTS / "overlays").iterdir()}
    assert {path.name.removesuffix("-values.yaml") for path in (CHART / "ci").iterdir()} == overlays


def test_every_value_has_a_schema_and_every_schema_a_default() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    del schema["properties"]["global"]  # which Helm adds
    values = read(CHART / "values.yaml")
    branches = {"": (schema, values)} | {
        name: (node, values[name]) for name, node in schema["properties"].items() if "properties" in node
    }
    for path, (node, content) in branches.items():
        assert node["properties"].keys() == content.keys(), path
        assert node["additionalProperties"] is False, path
        assert set(node["required"]) == content.keys(), f"{path}: null would take a value away from the templates"
        for name, leaf in node["properties"].items():
            assert leaf["description"], f"{path}.{name}"
            assert leaf["type"], f"{path}.{name}"


def test_every_value_is_used_by_a_template() -> None:
    text = "".join(path.read_text() for path in sorted((CHART / "templates").rglob("*")) if path.is_file())
    used = set(re.findall(r"\.Values\.(\w+)", text))
    assert used == set(read(CHART / "values.yaml"))


def test_definitions_stay_whoever_removes_the_rest() -> None:
    for model in api.KINDS.values():
        annotations = crds.crd(model)["metadata"]["annotations"]
        assert annotations == {
            "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
            "helm.sh/resource-policy": "keep",
            "kustomize.toolkit.fluxcd.io/prune": "disabled",
        }


def test_templates_are_for_any_namespace() -> None:
    for template in chart.templates([*rbac.operator([]), *rbac.policies()]):
        assert template["kind"] != "Namespace"
        assert rbac.NAMESPACE not in json.dumps(template)


def test_braces_of_a_manifest_are_no_template() -> None:
    (template,) = chart.templates([{"kind": "ConfigMap", "data": {"a": "{{ $labels.host }} of {{x}}"}}])
    assert template["data"]["a"] == "{{`{{`}} $labels.host }} of {{`{{`}}x}}"


def test_optional_templates_have_a_condition() -> None:
    assert chart.conditional("rbac/users.yaml", "a: b\n") == "{{- if .Values.rbac.userRoles }}\na: b\n{{- end }}\n"
    assert chart.conditional("crds/hosts.yaml", "a: b\n").startswith("{{- if .Values.crds.enabled }}\n")
    assert chart.conditional("rbac/operator.yaml", "a: b\n") == "a: b\n"
