"""The chart and the kustomizations, rendered by the real tools: they say the same, and refuse what makes no sense."""

import json
from pathlib import Path

import pytest
import yaml

from tests.devcluster import packages
from tests.devcluster.packages import CHART, MANIFESTS, NAMESPACE, OVERLAYS, ROOT, Helm, HelmError, Object, Objects

pytestmark = pytest.mark.packaging


@pytest.fixture(scope="module")
def kubectl() -> Path:
    return packages.programs()["kubectl"]


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(packages.programs()["helm"], tmp_path_factory.mktemp("helm"))


def by_kustomize(kubectl: Path, overlay: str) -> Objects:
    """Definitions and operator. The Namespace is left out: with Helm it is the user's."""
    found = packages.kustomize(kubectl, ROOT / "crds") | packages.kustomize(kubectl, MANIFESTS / "overlays" / overlay)
    del found["Namespace", "", NAMESPACE]
    return found


def difference(ones: Objects, others: Objects) -> list[str]:
    """What differs, by name; and for what is on both sides, both."""
    told = [f"only on one side: {identity}" for identity in sorted(ones.keys() ^ others.keys())]
    both = [identity for identity in sorted(ones.keys() & others.keys()) if ones[identity] != others[identity]]
    return told + [f"differs:\n{yaml.safe_dump_all([ones[identity], others[identity]])}" for identity in both]


def of(found: Objects, kind: str, name: str = "vdcos") -> Object:
    return next(each for identity, each in found.items() if identity[0] == kind and identity[2] == name)


def container(found: Objects) -> Object:
    (only,) = of(found, "Deployment")["spec"]["template"]["spec"]["containers"]
    content: Object = only
    return content


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_helm_and_kustomize_install_the_same(helm: Helm, kubectl: Path, overlay: str) -> None:
    by_helm = helm.template("--values", str(CHART / "ci" / f"{overlay}-values.yaml"))
    assert not difference(by_kustomize(kubectl, overlay), by_helm)
    assert len(by_helm) > 25


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_deleting_an_overlay_deletes_no_definition(kubectl: Path, overlay: str) -> None:
    found = packages.kustomize(kubectl, MANIFESTS / "overlays" / overlay)
    assert "CustomResourceDefinition" not in {kind for kind, _, _ in found}


def test_a_difference_would_be_seen(helm: Helm, kubectl: Path) -> None:
    by_helm = helm.template("--set", "replicas=3", "--set", "networkPolicy.enabled=false")
    told = difference(by_kustomize(kubectl, "default"), by_helm)
    assert [line.splitlines()[0] for line in told] == [
        f"only on one side: ('NetworkPolicy', '{NAMESPACE}', 'vdcos')",
        "differs:",
    ]


def test_another_namespace_is_another_namespace_everywhere(helm: Helm, kubectl: Path) -> None:
    usual, other = json.dumps(list(helm.template().values())), helm.template(namespace="datacenter")
    assert json.loads(usual.replace(NAMESPACE, "datacenter")) == list(other.values())


def test_metrics_are_scraped_in_the_same_way(helm: Helm, kubectl: Path) -> None:
    by_helm = helm.template("--set", "serviceMonitor.enabled=true")
    alone = packages.kustomization(kubectl, MANIFESTS / "components" / "service-monitor")
    assert alone == {identity: each for identity, each in by_helm.items() if identity[0] == "ServiceMonitor"}
    assert len(alone) == 1


def test_alerts_and_dashboards_are_the_same(helm: Helm, kubectl: Path) -> None:
    by_helm = helm.template("--set", "prometheusRule.enabled=true", "--set", "dashboards.enabled=true")
    alone = packages.kustomization(kubectl, MANIFESTS / "monitoring")
    assert {kind for kind, _, _ in alone} == {"PrometheusRule", "ConfigMap"}
    assert not difference(alone, {identity: by_helm[identity] for identity in alone})
    assert not {"PrometheusRule", "ConfigMap"} & {kind for kind, _, _ in helm.template()}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_lint(helm: Helm, overlay: str) -> None:
    printed = helm("lint", "--strict", str(CHART), "--values", str(CHART / "ci" / f"{overlay}-values.yaml"))
    assert "1 chart(s) linted, 0 chart(s) failed" in printed


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (["replicas=0"], "replicas"),
        (["replica=2"], "additional properties 'replica' not allowed"),
        (["networkPolicy.metricsFrom=null"], "metricsFrom"),
        (["image.repository=registry/vdcos:1"], "repository"),
        (["image.digest=sha256:1"], "digest"),
        (["log.format=xml"], "format"),
        (["networkPolicy.ipmiPort=70000"], "ipmiPort"),
    ],
)  # fmt: skip
def test_values_that_make_no_sense_are_refused(helm: Helm, values: list[str], says: str) -> None:
    with pytest.raises(HelmError, match=says):
        helm.template(*(word for value in values for word in ("--set", value)))


def test_who_reads_metrics_is_never_everybody(helm: Helm) -> None:
    with pytest.raises(HelmError, match="metricsFrom"):
        helm.template("--set-json", "networkPolicy.metricsFrom=[]")


def test_every_value_arrives(helm: Helm) -> None:
    found = helm.template(
        "--set", "image.digest=sha256:" + "0" * 64,
        "--set", "image.repository=localhost:5000/vdcos,image.pullPolicy=Always,imagePullSecrets[0].name=pull",
        "--set", "log.verbose=true,listenAddress=[::],priorityClassName=mine",
        "--set-json", 'env=[{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}]',
        "--set-json", 'tolerations=[{"operator": "Exists"}]',
        "--set-json", 'nodeSelector={"node-role.kubernetes.io/control-plane": ""}',
        "--set-json", 'podAnnotations={"a": "b"}',
        "--set-json", 'networkPolicy.extraEgress=[{"ports": [{"port": 9000}]}]',
        "--set", "networkPolicy.apiServerPorts={443,16443},networkPolicy.redfishPorts={443,8443}",
    )  # fmt: skip
    template = of(found, "Deployment")["spec"]["template"]
    assert container(found)["image"] == f"localhost:5000/vdcos@sha256:{'0' * 64}"
    assert container(found)["imagePullPolicy"] == "Always"
    assert "--listen=[::]:8080" in container(found)["args"]
    assert container(found)["args"][-1] == "--verbose"
    assert container(found)["env"][-1] == {"name": "HTTPS_PROXY", "value": "http://proxy:3128"}
    assert template["spec"]["imagePullSecrets"] == [{"name": "pull"}]
    assert template["spec"]["priorityClassName"] == "mine"
    assert ("PriorityClass", "", "vdcos-operator") not in found
    assert template["spec"]["tolerations"][-1] == {"operator": "Exists"}
    assert len(template["spec"]["tolerations"]) == 3
    assert template["spec"]["nodeSelector"] == {"node-role.kubernetes.io/control-plane": ""}
    assert template["metadata"]["annotations"]["a"] == "b"
    egress = of(found, "NetworkPolicy")["spec"]["egress"]
    assert egress[-1] == {"ports": [{"port": 9000}]}
    ports = [port["port"] for rule in egress[:-1] for port in rule["ports"]]
    assert ports == [53, 53, 443, 16443, 10250, 443, 8443, 623]


def test_what_is_switched_off_is_not_there(helm: Helm) -> None:
    whole, less = helm.template(), helm.template("--set", "crds.enabled=false,rbac.userRoles=false")
    gone = {(kind, name) for kind, _, name in whole.keys() - less.keys()}
    assert {kind for kind, _ in gone} == {"CustomResourceDefinition", "ClusterRole"}
    assert ("ClusterRole", "vdcos") not in gone
    assert len(gone) == 6 + 4
