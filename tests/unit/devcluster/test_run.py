"""`make run`: what it believes, what it says, and whose cluster it never touches."""

import argparse
import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import rich.console
import yaml

from devcluster import existing, run
from devcluster.cluster import KubectlError

READY = {"type": "Ready", "status": "True", "reason": "Ready", "observedGeneration": 2}
IMPORTING = {
    "type": "StorageReady",
    "status": "False",
    "reason": "Importing",
    "message": "disk system is at 40%",
    "observedGeneration": 2,
}


def vm(status: dict[str, Any], *, name: str = "web-1", generation: int = 2) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop", "generation": generation}
    return {"kind": "VirtualMachine", "metadata": metadata, "status": status}


class Kubectl:
    """A cluster of canned answers that remembers what it was asked. The longest matching beginning answers."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.calls: list[str] = []
        self.inputs: list[str | None] = []
        self.kubeconfig = Path("/nowhere/kubeconfig")

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        call = " ".join(arguments)
        self.calls.append(call)
        self.inputs.append(stdin)
        matching = [key for key in self.answers if call.startswith(key)]
        if not matching:
            raise KubectlError(f"unexpected: kubectl {call}")
        answer = self.answers[max(matching, key=len)]
        return answer if isinstance(answer, str) else json.dumps(answer)

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        raise AssertionError("nobody asked for that")


def items(*found: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "List", "items": list(found)}


@pytest.fixture
def printed() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def screen(printed: io.StringIO) -> run.Screen:
    return run.Screen(rich.console.Console(file=printed, width=160, force_terminal=False))


# What is believed


OLD = READY | {"observedGeneration": 1}


@pytest.mark.parametrize(
    ("why", "status", "ready"),
    [
        ("the spec was seen and all is well", {"observedGeneration": 2, "conditions": [READY]}, True),
        ("no operator has seen it", {"observedGeneration": -1, "conditions": []}, False),
        ("no status at all", {}, False),
        ("seen, but the condition is of an older spec", {"observedGeneration": 2, "conditions": [OLD]}, False),
        ("the spec was changed since", {"observedGeneration": 1, "conditions": [OLD]}, False),
        ("not ready", {"observedGeneration": 2, "conditions": [READY | {"status": "False"}]}, False),
        ("unknown", {"observedGeneration": 2, "conditions": [READY | {"status": "Unknown"}]}, False),
    ],
)
def test_ready_is_believed_only_for_the_present_spec(why: str, status: dict[str, Any], ready: bool) -> None:
    assert run.Row.of(vm(status)).ready is ready, why


def test_a_row_shows_host_and_first_address() -> None:
    row = run.Row.of(vm({"host": "host-2", "addresses": ["10.0.0.7", "fe80::7"], "conditions": []}))
    assert (row.name, row.host, row.address) == ("shop/web-1", "host-2", "10.0.0.7")


def test_reasons_name_what_is_not_ready_with_its_conditions_and_nothing_else() -> None:
    not_ready = {**READY, "status": "False", "reason": "Importing", "message": "disk system is at 40%"}
    reconciling = {"type": "Reconciling", "status": "True", "reason": "Importing", "message": ""}
    network = {"type": "NetworkReady", "status": "True", "reason": "Attached"}
    waiting = run.Row.of(vm({"observedGeneration": 2, "conditions": [not_ready, IMPORTING, reconciling, network]}))
    fine = run.Row.of(vm({"observedGeneration": 2, "conditions": [READY]}, name="web-2"))
    assert run.reasons([fine, waiting]).splitlines() == [
        "VirtualMachine shop/web-1 is not ready: Importing: disk system is at 40%",
        "    Ready=False Importing: disk system is at 40%",
        "    StorageReady=False Importing: disk system is at 40%",
        "    Reconciling=True Importing",
    ]


def test_only_the_samples_are_looked_at_networks_first() -> None:
    network = {"kind": "Network", "metadata": {"name": "front", "generation": 1}}
    target = Kubectl({"get": items(vm({}), network)})
    assert [row.kind for row in run.standing(target)] == ["Network", "VirtualMachine"]
    assert "-l app.kubernetes.io/part-of=vdcos-samples" in target.calls[0]


def test_off_a_terminal_only_changes_are_printed(screen: run.Screen, printed: io.StringIO) -> None:
    waiting = run.Row("VirtualMachine", "shop/web-1", False, "Importing", "disk system")
    ready = run.Row("VirtualMachine", "shop/web-1", True, "Ready", "", "host-1", "10.0.0.7")
    with screen.table() as show:
        for rows in ([waiting], [waiting], [ready], [ready]):
            show(rows, 1.0)
    assert [line.split()[2:6] for line in printed.getvalue().splitlines()] == [
        ["VirtualMachine", "shop/web-1", "not", "ready"],
        ["VirtualMachine", "shop/web-1", "ready", "Ready"],
    ]


def test_on_a_narrow_terminal_only_the_message_gives_way() -> None:
    waiting = run.Row("VirtualMachine", "shop/build-gpu", False, "FirstPowerOn", "disk scratch: made where the VM runs")
    ready = run.Row("VirtualMachine", "shop/db-1", True, "Ready", "", "host-2", "10.200.2.2")
    printed = io.StringIO()
    screen = run.Screen(rich.console.Console(file=printed, width=80, force_terminal=True, color_system=None))
    with screen.table() as show:
        show([waiting, ready], 7.0)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", printed.getvalue()).splitlines()
    row = next(line for line in lines if "build-gpu" in line)
    assert row.startswith("VM    shop/build-gpu  ○ no   FirstPowerOn  -       -           disk scr")
    assert row.rstrip().endswith("…")
    assert any("host-2  10.200.2.2" in line for line in lines)
    assert any(line.startswith("1 of 2 ready after 7 s") for line in lines)


# Convergence


class Sleeper:
    """A process to stand for the operator."""

    def __init__(self, directory: Path, code: str) -> None:
        self.log = directory / "operator.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen([sys.executable, "-c", code], stdout=output, stderr=output)

    def operator(self) -> run.Operator:
        return run.Operator(self.process, self.log)


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Sleeper]:
    sleeping = Sleeper(tmp_path, "import signal; signal.pause()")
    with ExitStack() as stack:
        stack.callback(sleeping.process.wait)
        stack.callback(sleeping.process.kill)
        yield sleeping


def test_converge_returns_when_all_is_ready(screen: run.Screen, sleeper: Sleeper) -> None:
    target = Kubectl({"get": items(vm({"observedGeneration": 2, "conditions": [READY]}))})
    rows = run.converge(screen, target, sleeper.operator(), timeout=60)
    assert [row.ready for row in rows] == [True]


def test_converge_gives_up_and_says_how_things_stand(screen: run.Screen, sleeper: Sleeper) -> None:
    rows = run.converge(screen, Kubectl({"get": items(vm({}))}), sleeper.operator(), timeout=0)
    assert [row.reason for row in rows] == ["NotSeenYet"]


def test_nothing_there_is_not_converged(screen: run.Screen, sleeper: Sleeper) -> None:
    assert run.converge(screen, Kubectl({"get": items()}), sleeper.operator(), timeout=0) == []


def test_a_dead_operator_ends_the_run_with_its_last_words(screen: run.Screen, tmp_path: Path) -> None:
    dead = Sleeper(tmp_path, "import sys; sys.exit('no such cluster')")
    dead.process.wait()
    with pytest.raises(run.RunError, match=r"ended with 1(?s:.)*no such cluster"):
        run.converge(screen, Kubectl({"get": items()}), dead.operator(), timeout=60)


# Somebody's cluster

GROUPS = ("kubevirt.io", "cdi.kubevirt.io", "k8s.cni.cncf.io", "snapshot.storage.k8s.io", "storage.k8s.io")
KUBEVIRT = {"metadata": {"name": "kubevirt"}, "status": {"phase": "Deployed", "observedKubeVirtVersion": "v1.8.2"}}
CDI = {"metadata": {"name": "cdi"}, "status": {"phase": "Deployed", "observedVersion": "v1.65.0"}}


DEPLOYING = {"metadata": {"name": "kubevirt"}, "status": {"phase": "Deploying"}}


def named(*names: str) -> dict[str, Any]:
    return items(*({"metadata": {"name": name}} for name in names))


def answers(*, without: str = "", kubevirt: dict[str, Any] = KUBEVIRT) -> dict[str, Any]:
    return {
        "get --raw /apis": {"groups": [{"name": name} for name in GROUPS if name != without]},
        "get kubevirts.kubevirt.io": items(kubevirt),
        "get cdis.cdi.kubevirt.io": items(CDI),
        "get volumesnapshotclasses": named("fast"),
        "get storageclasses": named("fast", "slow"),
        "get storageprofiles.cdi.kubevirt.io": named("fast", "slow"),
        "get network-attachment-definitions.k8s.cni.cncf.io": items(),
    }


class Somebodys(Kubectl, existing.Existing):
    context = "production"
    server = "https://prod.example:6443"


@pytest.mark.parametrize(
    ("why", "given", "missing"),
    [
        ("all but what nobody has to have", answers(), []),
        ("no KubeVirt", answers(without="kubevirt.io"), ["KubeVirt"]),
        ("KubeVirt is being deployed", answers(kubevirt=DEPLOYING), ["KubeVirt"]),
        ("no CDI", answers(without="cdi.kubevirt.io"), ["CDI"]),
        ("no Multus", answers(without="k8s.cni.cncf.io"), ["Multus"]),
        ("no snapshots", answers(without="snapshot.storage.k8s.io"), ["SnapshotClasses"]),
    ],
)
def test_what_a_cluster_lacks(why: str, given: dict[str, Any], missing: list[str]) -> None:
    """The same as vdcos check says."""
    cluster = Somebodys(given)
    checks = existing.inspect(cluster)
    found = [check.name for check in checks if check.state == "Missing"]
    assert found == [*missing, "Nmstate", "FenceAgentsRemediation"], why
    assert len(cluster.calls) == len(set(cluster.calls)), "each is asked for once"


def test_a_cluster_without_kubevirt_is_refused_before_anything_is_changed(
    screen: run.Screen, printed: io.StringIO
) -> None:
    cluster = Somebodys(answers(without="kubevirt.io"))
    with pytest.raises(run.RunError, match="without KubeVirt: nothing was changed"):
        run.ask(screen, cluster, sure=True, interactive=True)
    assert all(call.startswith("get") for call in cluster.calls)
    assert "everything: there is no hypervisor: no VM can run. Install KubeVirt." in " ".join(
        printed.getvalue().split()
    )


def test_nobody_to_ask_means_no(screen: run.Screen, printed: io.StringIO) -> None:
    with pytest.raises(run.RunError, match="--yes"):
        run.ask(screen, Somebodys(answers()), sure=False, interactive=False)
    assert "production" in printed.getvalue()
    assert "https://prod.example:6443" in printed.getvalue()


@pytest.mark.parametrize(("answer", "agreed"), [("y", True), ("YES", True), ("", False), ("n", False), ("prod", False)])
def test_only_yes_means_yes(screen: run.Screen, monkeypatch: pytest.MonkeyPatch, answer: str, agreed: bool) -> None:
    monkeypatch.setattr("builtins.input", lambda prompt: answer)
    with ExitStack() as stack:
        if not agreed:
            stack.enter_context(pytest.raises(run.RunError, match="nothing was changed"))
        run.ask(screen, Somebodys(answers()), sure=False, interactive=True)


SAMPLES = [
    {"kind": "Namespace", "metadata": {"name": "shop"}},
    {"kind": "Datastore", "metadata": {"name": "gold"}, "spec": {"storageClassName": "fast"}},
]


def borrowed_answers(*there: dict[str, Any]) -> dict[str, Any]:
    return {
        "kustomize": yaml.safe_dump_all(SAMPLES),
        "get storageclasses": named("fast"),
        "get --ignore-not-found": items(*there) if there else "",
        "apply": "",
        "delete": "",
    }


def test_what_was_there_before_is_not_deleted(screen: run.Screen) -> None:
    there = {"kind": "Namespace", "metadata": {"name": "shop", "labels": {run.PART_OF: run.SAMPLE}}}
    target = Kubectl(borrowed_answers(there))
    with run.borrowed(screen, target):
        assert target.calls[-1].startswith("apply")
    assert target.calls[-1].startswith("delete")
    assert [document["kind"] for document in yaml.safe_load_all(target.inputs[-1] or "")] == ["Datastore"]


def test_somebody_elses_namespace_of_that_name_is_left_alone(screen: run.Screen) -> None:
    target = Kubectl(borrowed_answers({"kind": "Namespace", "metadata": {"name": "shop"}}))
    with pytest.raises(run.RunError, match="Namespace shop is there already"), run.borrowed(screen, target):
        pytest.fail("it went on")
    assert not [call for call in target.calls if call.startswith(("apply", "delete"))]


def storage_class(name: str, *, default: bool = False) -> dict[str, Any]:
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
    return {"metadata": {"name": name, "annotations": annotations}}


def test_a_missing_storage_class_gives_way_to_the_default_one() -> None:
    documents: list[dict[str, Any]] = [
        {"kind": "Datastore", "metadata": {"name": "gold"}, "spec": {"storageClassName": "block-rwx"}},
        {"kind": "Datastore", "metadata": {"name": "bulk"}, "spec": {"storageClassName": "there"}},
        {"kind": "DataVolume", "metadata": {"name": "debian"}, "spec": {"storage": {"storageClassName": "block-rwx"}}},
    ]
    changes = existing.with_classes_of(documents, [storage_class("there"), storage_class("usual", default=True)])
    assert [document["spec"] for document in documents] == [
        {"storageClassName": "usual"},
        {"storageClassName": "there"},
        {"storage": {"storageClassName": "usual"}},
    ]
    assert changes == [
        "Datastore gold uses usual: there is no block-rwx",
        "DataVolume debian uses usual: there is no block-rwx",
    ]


def test_without_a_default_class_a_missing_one_is_an_error() -> None:
    document = {"kind": "Datastore", "metadata": {"name": "gold"}, "spec": {"storageClassName": "block-rwx"}}
    with pytest.raises(KubectlError, match="no storage class block-rwx"):
        existing.with_classes_of([document], [storage_class("there")])


@pytest.fixture
def kubectl_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubectl that shows a view of the kubeconfig and, asked for anything else, which kubeconfig it was given."""
    view = {
        "current-context": "production",
        "clusters": [{"name": "p", "cluster": {"server": "https://prod.example:6443"}}],
        "contexts": [],
        "users": [{"name": "p", "user": {"token": "secret"}}],
    }
    (tmp_path / "view.json").write_text(json.dumps(view))
    program = tmp_path / "bin" / "kubectl"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nif [ "$1" = config ]; then cat {tmp_path}/view.json; else printf %s "$KUBECONFIG"; fi\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    return program


def test_a_borrowed_cluster_is_pinned(kubectl_on_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/the/users/own")
    cluster = existing.Existing(tmp_path)
    assert (cluster.context, cluster.server) == ("production", "https://prod.example:6443")
    assert cluster.kubectl("get", "pods") == str(cluster.kubeconfig)
    assert stat.S_IMODE(cluster.kubeconfig.stat().st_mode) == 0o600


def test_the_operators_kubeconfig_has_its_own_token_only(kubectl_on_path: Path, tmp_path: Path) -> None:
    cluster = existing.Existing(tmp_path)
    config = yaml.safe_load(cluster.service_account_kubeconfig("vdcos-system", "vdcos").read_text())
    assert config["clusters"][0]["cluster"] == {"server": "https://prod.example:6443"}
    assert config["users"] == [{"name": "vdcos", "user": {"token": str(cluster.kubeconfig)}}]


def test_a_kubeconfig_that_happens_to_be_set_is_never_used(
    monkeypatch: pytest.MonkeyPatch, screen: run.Screen, tmp_path: Path
) -> None:
    """Without CLUSTER=current nobody's kubeconfig is even looked at."""
    monkeypatch.setenv("KUBECONFIG", "/the/users/own")
    monkeypatch.setattr(existing, "Existing", lambda directory: pytest.fail("it looked at the current context"))

    class Started(Exception):
        pass

    def no_cluster(*_: object) -> None:
        raise Started

    monkeypatch.setattr(run, "devcluster", no_cluster)
    options = argparse.Namespace(cluster="devcluster", hosts=4, yes=True, once=True, timeout=1.0)
    with pytest.raises(Started), run.prepared(options, screen, tmp_path):
        pytest.fail("it went on")


# Ending


def test_a_signal_becomes_an_exception_and_a_second_one_is_ignored() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        with pytest.raises(run.EndedBySignal) as ended:
            run._end(signal.SIGTERM, None)
        assert ended.value.code == 143
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
