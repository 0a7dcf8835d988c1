"""Installed, upgraded, tested and removed by Helm and kustomize, on a cluster of its own.

The hosts are simulated, so pods become Running without the image; what the pods would run is run beside them.
"""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rich.console
import yaml

from devcluster import run
from devcluster.cluster import Cluster, KubectlError
from devcluster.waiting import eventually
from tests.devcluster import fleet, packages
from tests.devcluster.packages import CHART, MANIFESTS, NAMESPACE, ROOT, Helm, HelmError

pytestmark = pytest.mark.packaging

HOSTS = 4
WAIT = ("--wait", "--timeout", "180s")
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"

Object = dict[str, Any]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Without the definitions and rights that other tests share: here they are installed and removed."""
    with Cluster.running(hosts=HOSTS, directory=tmp_path_factory.mktemp("install")) as started:
        yield started


@pytest.fixture(scope="module")
def helm(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(packages.programs()["helm"], tmp_path_factory.mktemp("helm"), cluster.kubeconfig)


@pytest.fixture(scope="module")
def first(cluster: Cluster, helm: Helm) -> str:
    """What the first `helm install` printed, in a namespace that admits restricted pods only."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("label", "namespace", NAMESPACE, RESTRICTED)
    return install(helm)


@pytest.fixture
def released(helm: Helm, first: str) -> str:
    """There is a release, and it is as the chart has it."""
    helm("upgrade", "vdcos", str(CHART), "--namespace", NAMESPACE, "--reset-values", *WAIT)
    return first


def install(helm: Helm, *options: str) -> str:
    return helm("install", "vdcos", str(CHART), "--namespace", NAMESPACE, *options, *WAIT)


def operators(cluster: Cluster) -> list[Object]:
    """The operator's pods that are not on their way out."""
    found = cluster.get("pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/component=operator")["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def hosts_of(pods: list[Object]) -> list[str]:
    return sorted(pod["spec"]["nodeName"] for pod in pods)


def definitions(cluster: Cluster) -> dict[str, Object]:
    found = cluster.get("crd")["items"]
    return {each["metadata"]["name"]: each for each in found if each["spec"]["group"] == "vdcos.dev"}


# Pod Security


def pod(**container: Any) -> str:
    spec = {"containers": [{"name": "any", "image": "any", **container}]}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any"}, "spec": spec})


def test_its_pods_are_admitted_where_only_restricted_ones_are(cluster: Cluster, released: str) -> None:
    with pytest.raises(KubectlError, match='violates PodSecurity "restricted'):
        cluster.kubectl("apply", "--dry-run=server", "-n", NAMESPACE, "-f", "-", stdin=pod())
    (running,) = operators(cluster)
    assert running["status"]["phase"] == "Running"
    assert "Nothing makes pods of this namespace restricted" not in released
    events = cluster.get("events", "-n", NAMESPACE)["items"]
    assert not [event for event in events if "PodSecurity" in event.get("message", "")]


def test_what_is_not_restricted_of_it_would_be_refused(cluster: Cluster, released: str) -> None:
    """Each part of the security context is there because admission wants it, or the kubelet enforces it."""
    template = cluster.get("deployment", "vdcos", "-n", NAMESPACE)["spec"]["template"]["spec"]
    for path in (("securityContext", "runAsNonRoot"), ("securityContext", "seccompProfile"), ("capabilities",)):
        spec = json.loads(json.dumps(template))
        holder = spec["securityContext"] if path[0] == "securityContext" else spec["containers"][0]["securityContext"]
        del holder[path[-1]]
        bad = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bad"}, "spec": spec}
        with pytest.raises(KubectlError, match="violates PodSecurity"):
            cluster.kubectl("apply", "--dry-run=server", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(bad))


# Helm


def test_install_says_what_to_do_next(cluster: Cluster, released: str) -> None:
    assert f"vdcos {packages.version()} is installed in namespace {NAMESPACE}." in released
    assert "kubectl rollout status deployment/vdcos" in released
    assert "helm test vdcos -n vdcos-system" in released
    assert "which nobody can pull" in released
    assert "One replica" in released
    assert "There are no admission webhooks" in released


def played(cluster: Cluster, helm: Helm, kubeconfig: Path) -> subprocess.CompletedProcess[str]:
    """`helm test`, where the test's pod is run here: its command line, with these credentials."""
    testing = helm.start("test", "vdcos", "--namespace", NAMESPACE, "--timeout", "120s")
    try:
        eventually(lambda: phase(cluster, "vdcos-test") == "Running", 60)
        (container,) = cluster.get("pod", "vdcos-test", "-n", NAMESPACE)["spec"]["containers"]
        result = subprocess.run(
            [sys.executable, "-m", "vdcos", *container["args"], "--kubeconfig", str(kubeconfig)],
            env={name: value for name, value in os.environ.items() if name != "KUBECONFIG"},
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        patch = json.dumps({"status": {"phase": "Failed" if result.returncode else "Succeeded"}})
        cluster.kubectl("patch", "pod", "vdcos-test", "-n", NAMESPACE, "--subresource=status", "-p", patch)
        out, errors = testing.communicate(timeout=120)
    finally:
        testing.kill()
        testing.wait()
    return subprocess.CompletedProcess("helm test", testing.returncode, out + errors, result.stdout + result.stderr)


def phase(cluster: Cluster, name: str) -> str:
    return str(cluster.get("pod", name, "-n", NAMESPACE)["status"]["phase"])


def test_helm_test_passes_and_fails_with_what_it_tests(
    cluster: Cluster, helm: Helm, released: str, tmp_path: Path
) -> None:
    kubeconfig = cluster.service_account_kubeconfig(NAMESPACE, "vdcos")
    good = played(cluster, helm, kubeconfig)
    assert good.returncode == 0, good
    assert "Phase:          Succeeded" in good.stdout
    assert "not allowed" not in good.stderr, "the account may read all that is decided from"
    assert re.findall(r"^(\w+) +OK ", good.stderr, re.MULTILINE) == ["Definitions", "Rights"]

    powerless = played(cluster, helm, cluster.service_account_kubeconfig(NAMESPACE, "default"))
    assert powerless.returncode != 0, powerless
    assert "are missing" in powerless.stderr

    document = yaml.safe_load(kubeconfig.read_text())
    document["users"][0]["user"] = {"token": "revoked"}
    revoked = tmp_path / "kubeconfig"
    revoked.write_text(yaml.safe_dump(document))
    bad = played(cluster, helm, revoked)
    assert bad.returncode != 0, bad
    assert "Failed" in bad.stdout


def test_an_upgrade_brings_new_definitions_and_more_replicas(
    cluster: Cluster, helm: Helm, released: str, tmp_path: Path
) -> None:
    newer = tmp_path / "vdcos"
    shutil.copytree(CHART, newer)
    changed = newer / "templates" / "crds" / "networks.yaml"
    changed.write_text(changed.read_text().replace("- vdcnet\n", "- vdcnet\n      - vdcnetwork\n"))
    helm("upgrade", "vdcos", str(newer), "--namespace", NAMESPACE, "--set", f"replicas={HOSTS}", *WAIT)
    assert "vdcnetwork" in definitions(cluster)["networks.vdcos.dev"]["spec"]["names"]["shortNames"]
    assert len(set(hosts_of(operators(cluster)))) == HOSTS, "no two on one host"

    # There is no spare host, and a roll-out needs none.
    helm("upgrade", "vdcos", str(CHART), "-n", NAMESPACE, "--set", f"replicas={HOSTS},log.verbose=true", *WAIT)
    pods = eventually(lambda: [p for p in operators(cluster) if "--verbose" in p["spec"]["containers"][0]["args"]])
    assert len(set(hosts_of(pods))) == HOSTS


def test_uninstall_leaves_what_was_declared(cluster: Cluster, helm: Helm, released: str) -> None:
    network = {
        "apiVersion": "vdcos.dev/v1alpha1",
        "kind": "Network",
        "metadata": {"name": "stays"},
        "spec": {"pod": {}},
    }
    arguments = ("apply", "--server-side", "-f", "-")
    # The API server may still be taking in the definitions of before.
    eventually(lambda: cluster.kubectl(*arguments, stdin=json.dumps(network)), 120)
    uid = cluster.get("networks.vdcos.dev", "stays")["metadata"]["uid"]
    printed = helm("uninstall", "vdcos", "--namespace", NAMESPACE, *WAIT)
    assert printed.count("[CustomResourceDefinition]") == len(definitions(cluster)) == 6
    assert cluster.get("networks.vdcos.dev", "stays")["metadata"]["uid"] == uid
    for kind in ("clusterrole", "clusterrolebinding", "validatingadmissionpolicy", "priorityclass"):
        assert not [
            each["metadata"]["name"] for each in cluster.get(kind, "-l", "app.kubernetes.io/part-of=vdcos")["items"]
        ], kind
    # And the next release finds it.
    install(helm)
    assert cluster.get("networks.vdcos.dev", "stays")["metadata"]["uid"] == uid
    cluster.kubectl("delete", "networks.vdcos.dev", "stays")


# A datacenter as a chart


@pytest.fixture
def operator(cluster: Cluster, released: str, tmp_path: Path) -> Iterator[run.Operator]:
    """The operator, with the rights that the chart gives."""
    screen = run.Screen(rich.console.Console(file=io.StringIO(), width=200))
    with run.operator(screen, cluster, tmp_path) as running:
        yield running
        running.check()


def chart_of_samples(cluster: Cluster, directory: Path) -> Path:
    chart = directory / "shop"
    (chart / "templates").mkdir(parents=True)
    about = {"apiVersion": "v2", "name": "shop", "version": "1.0.0"}
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about))
    (chart / "templates" / "samples.yaml").write_text(cluster.kubectl("kustomize", str(run.SAMPLES)))
    return chart


def test_a_datacenter_is_up_when_helm_says_so_and_what_cannot_be_is_told(
    cluster: Cluster, helm: Helm, operator: run.Operator, tmp_path: Path
) -> None:
    chart = chart_of_samples(cluster, tmp_path)
    helm("install", "shop", str(chart), "--wait", "--timeout", "300s")
    rows = run.standing(cluster)
    assert len(rows) == 12
    assert all(row.ready for row in rows), run.reasons(rows)

    # A VM on a network and a datastore that nobody has declared.
    (chart / "templates" / "lost.yaml").write_text(yaml.safe_dump(fleet.machine("shop", 0)))
    with pytest.raises(HelmError) as refused:
        helm("upgrade", "shop", str(chart), "--wait", "--timeout", "20s")
    told = str(refused.value)
    assert "VirtualMachine/shop/vm-0000 not ready. status: InProgress, message: " in told
    assert "there is no Datastore fleet" in told

    helm("rollback", "shop", "1", "--wait", "--timeout", "120s")
    helm("uninstall", "shop", "--wait", "--timeout", "180s")


# kustomize


def test_kustomize_installs_two_replicas_and_helm_takes_over(cluster: Cluster, helm: Helm, released: str) -> None:
    helm("uninstall", "vdcos", "--namespace", NAMESPACE, *WAIT)
    kubectl = cluster.kubectl
    overlay = str(MANIFESTS / "overlays" / "high-availability")
    kubectl("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "crds"))
    kubectl("apply", "--server-side", "--force-conflicts", "-k", overlay)
    kubectl("rollout", "status", "deployment/vdcos", "-n", NAMESPACE, "--timeout=120s")
    assert len(set(hosts_of(operators(cluster)))) == 2
    kubectl("auth", "can-i", "list", "virtualmachines.vdcos.dev", f"--as=system:serviceaccount:{NAMESPACE}:vdcos")

    with pytest.raises(HelmError, match="exists and cannot be imported into the current release"):
        install(helm, "--set", "replicas=2")
    install(helm, "--set", "replicas=2", "--take-ownership", "--force-conflicts")

    # kubectl goes on having a say in what it applied.
    change = ("upgrade", "vdcos", str(CHART), "--namespace", NAMESPACE, "--set", "replicas=1", *WAIT)
    with pytest.raises(HelmError, match=r'conflict with "kubectl": \.spec\.replicas'):
        helm(*change)
    helm(*change, "--force-conflicts")
