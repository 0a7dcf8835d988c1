"""A datacenter in Git: it is applied, it converges, and whatever happens then, Git sees no difference.

kubectl plays Argo CD: server-side apply as its field manager, and its server-side diff, which is a dry run of that. Its
health script, and kstatus, are asked about every state that any object was in meanwhile.
"""

import asyncio
import contextlib
import json
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster import run
from devcluster.cluster import Cluster, KubectlError
from devcluster.waiting import eventually
from tests.devcluster import packages, replica
from tests.devcluster.drills import TUNED
from tests.devcluster.replica import Replica
from tests.devcluster.verdicts import GUIDE, READY, Judges, state
from vdcos import api
from vdcos.core import ownership
from vdcos.generate import argocd

Object = dict[str, Any]

SITES = run.SAMPLES / "gitops" / "sites"
ARGOCD = run.ROOT / "manifests" / "argocd"
SERVER_SIDE = ("--server-side", "--force-conflicts", "--field-manager=argocd-controller")
"""As Argo CD applies."""
OURS = ",".join(f"{kind.definition.plural}.{api.GROUP}" for kind in api.KINDS.values())
SHOP = "shop"
CONVERGE = 240.0
"""Seconds, on a machine that has much else to do."""
SETTLED = 60.0
"""Seconds within which statuses stand still for as long as a look takes."""
HOSTS = 5
BACKEND_STORAGE = "BackendStorageNotReady"


class Git:
    """What stands in Git, and the tool that brings it to the cluster."""

    def __init__(self, cluster: Cluster, documents: list[Object]) -> None:
        self._cluster = cluster
        self.documents = documents
        self._text = yaml.safe_dump_all(documents)

    @classmethod
    def built(cls, cluster: Cluster, folder: Path, *more: Object) -> "Git":
        """What kustomize makes of a folder, and some objects more."""
        return cls(cluster, [*yaml.safe_load_all(cluster.kubectl("kustomize", str(folder))), *more])

    def apply(self, *options: str) -> list[Object]:
        """As Argo CD applies; returns the objects as the API server has them after it."""
        command = ("apply", *SERVER_SIDE, *options, "-o", "json", "-f", "-")
        items: list[Object] = json.loads(self._cluster.kubectl(*command, stdin=self._text))["items"]
        return items

    def delete(self) -> None:
        self._cluster.kubectl("delete", "--ignore-not-found", "--timeout=240s", "-f", "-", stdin=self._text)

    def live(self) -> list[Object]:
        command = ("get", "--show-managed-fields", "-o", "json", "-f", "-")
        items: list[Object] = json.loads(self._cluster.kubectl(*command, stdin=self._text))["items"]
        return items

    def converge(self, seconds: float = CONVERGE) -> None:
        """Every object of ours is as declared, by what kstatus goes by."""

        def waiting() -> list[str]:
            ours = [item for item in self.live() if item["apiVersion"] == api.API_VERSION]
            return [_told(item) for item in ours if state(item) != READY]

        def converged() -> bool:
            left = waiting()
            for told in left:
                if BACKEND_STORAGE in told:
                    self._look_again(told)
            assert left == []
            return True

        eventually(converged, seconds, every=1.0)

    def _look_again(self, told: str) -> None:
        """As the message advises: KubeVirt's pauses are longer than a test."""
        found = re.search(r"this makes KubeVirt look: kubectl (annotate vmi .+) look=again --overwrite", told)
        assert found, told
        self._cluster.kubectl(*found[1].split(), f"look={time.monotonic()}", "--overwrite")

    def shows_no_difference(self) -> None:
        """To kubectl, on the server's side and on its own, and to Argo CD. kubectl looks twice: a status that is
        written in between is a difference to it, and passes."""
        for options in (SERVER_SIDE, ()):
            eventually(lambda options=options: not self.difference(*options), SETTLED, every=1.0)  # type: ignore[misc]
        now = {_identity(item): _compared(item) for item in self.live()}
        assert {_identity(item): _compared(item) for item in self.apply("--dry-run=server")} == now

    def difference(self, *options: str) -> str:
        """What kubectl shows. Raises KubectlError where that is anything."""
        return self._cluster.kubectl("diff", *options, "-f", "-", stdin=self._text)

    def written(self) -> dict[str, Object]:
        """What users write of the objects of our kinds, and who owns which of it."""
        return {
            _identity(item): {
                "generation": item["metadata"]["generation"],
                "uid": item["metadata"]["uid"],
                "labels": item["metadata"].get("labels", {}),
                "annotations": item["metadata"].get("annotations", {}),
                "spec": item["spec"],
                "fields": _owned(item),
            }
            for item in self.live()
            if item["apiVersion"] == api.API_VERSION
        }


def _identity(item: Object) -> str:
    meta = item["metadata"]
    return f"{item['kind']} {meta.get('namespace', '')}/{meta['name']}"


def _told(item: Object) -> str:
    said = {each["type"]: each for each in item.get("status", {}).get("conditions", [])}
    ready = said.get("Ready", {})
    return f"{_identity(item)}: {state(item)}: {ready.get('reason')}: {ready.get('message')}"


def _declared_by(items: list[Object]) -> dict[str, list[Object]]:
    """Who owns which fields of each object, and since when, but for its status: that is written at any time."""
    return {
        _identity(item): [each for each in item["metadata"]["managedFields"] if each.get("subresource") != "status"]
        for item in items
    }


def _compared(item: Object) -> Object:
    """What Argo CD's server-side diff compares."""
    meta = {name: value for name, value in item["metadata"].items() if name not in ("managedFields", "resourceVersion")}
    return {**{name: value for name, value in item.items() if name != "status"}, "metadata": meta}


def _owned(item: Object) -> list[tuple[str, str, str]]:
    """Manager, operation and fields, of all that is no status."""
    entries = [each for each in item["metadata"]["managedFields"] if each.get("subresource") != "status"]
    return sorted((each["manager"], each["operation"], json.dumps(each["fieldsV1"])) for each in entries)


# The cluster


@pytest.fixture(scope="module")
def datacenter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster.running(hosts=HOSTS, directory=tmp_path_factory.mktemp("datacenter")) as started:
        yield started


class Operator:
    """The operator, for tests that are no coroutines."""

    def __init__(self, kubeconfig: Path, log: Path) -> None:
        self._replica = Replica(kubeconfig, log, "--standalone")
        self._runner = asyncio.Runner()

    def start(self) -> None:
        self._runner.run(self._replica.start())

    def kill(self) -> None:
        self._runner.run(self._replica.kill())

    def close(self) -> None:
        assert self._replica.alive, self._replica.log.read_text()[-2000:]
        self._runner.run(self._replica.stop())
        self._runner.close()


@pytest.fixture(scope="module")
def operator(datacenter: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    running = Operator(replica.install(datacenter), tmp_path_factory.mktemp("operator") / "operator.log")
    running.start()
    yield running
    running.close()


@pytest.fixture(scope="module")
def seen(datacenter: Cluster, operator: Operator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Every state of every object of ours from now on, as the API server tells it: a file for each kind, JSON, one
    object after the other."""
    told = tmp_path_factory.mktemp("seen")
    with contextlib.ExitStack() as stack:
        for kind in OURS.split(","):
            stack.enter_context(_watched(datacenter, kind, told / f"{kind}.json"))
        yield told


@contextlib.contextmanager
def _watched(datacenter: Cluster, kind: str, file: Path) -> Iterator[None]:
    """All that is heard of a kind. A watch of kubectl ends when the API server has forgotten where it was (410)."""
    ended = threading.Event()
    running: list[subprocess.Popen[bytes]] = []

    def watch() -> None:
        while not ended.is_set():
            running[:] = [
                subprocess.Popen(
                    [datacenter.record.kubectl, "get", kind, "-A", "--watch", "-o", "json"],
                    env=datacenter.environment(),
                    stdout=output,
                    stderr=subprocess.DEVNULL,
                )
            ]
            running[0].wait()

    with file.open("ab") as output:
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            while watcher.is_alive():
                for process in running:
                    process.terminate()
                watcher.join(0.1)


# The layout of manifests/samples/gitops


@pytest.mark.parametrize("site", sorted(path.name for path in SITES.iterdir()))
def test_a_site_converges_as_it_stands_in_git(datacenter: Cluster, seen: Path, site: str) -> None:
    git = Git.built(datacenter, SITES / site)
    git.apply()
    git.converge()
    git.shows_no_difference()
    git.delete()


def test_two_sites_differ_where_they_say_so(datacenter: Cluster) -> None:
    north, south = (
        {_identity(each): each for each in Git.built(datacenter, SITES / site).documents} for site in ("north", "south")
    )
    assert south.keys() < north.keys()
    different = {name for name, each in south.items() if each != north[name]}
    assert different == {"Network /front", "Datastore /gold", "VirtualMachine shop/db"}


# No difference ever


class Story:
    """The samples and all their hosts in Git, and what happens to them."""

    def __init__(self, datacenter: Cluster, operator: Operator) -> None:
        self.cluster, self.operator = datacenter, operator
        self.kubectl = datacenter.kubectl
        names = [f"host-{number}" for number in range(1, HOSTS + 1)]
        datacenter.apply(*(datacenter.power_switch(name, replica.NAMESPACE)[0] for name in names))
        # It keeps nothing free: the samples are many for what the hosts have.
        policy = _ours("HAPolicy", "ha", {**TUNED, "admissionControl": {"mode": "Warn"}})
        self.git = Git.built(datacenter, run.SAMPLES, policy, *(self._host(name) for name in names))

    def _host(self, name: str) -> Object:
        return _ours("Host", name, {"bmc": self.cluster.power_switch(name, replica.NAMESPACE)[1]})

    def get(self, kind: str, name: str) -> Object:
        return self.cluster.get(kind, name, "-n", SHOP)

    def instance(self, name: str) -> Object:
        return self.get("vmi", name)

    def patch(self, kind: str, name: str, body: Object) -> None:
        self.kubectl("patch", kind, name, "-n", SHOP, "--type=merge", "-p", json.dumps(body))

    # What happens

    def a_guest_shuts_itself_down(self) -> None:
        """One comes up again, one stays off, as declared."""
        before = self.instance("db-1")["metadata"]["uid"]
        for name in ("db-1", "build-gpu"):
            self.cluster.fault("guest-shutdown", vm=f"{SHOP}/{name}")
        eventually(lambda: self.instance("db-1")["metadata"]["uid"] != before, CONVERGE)
        eventually(lambda: self._power("build-gpu") == "PoweredOff", CONVERGE)
        self.kubectl("replace", "--raw", f"{_SUBRESOURCES}/virtualmachines/build-gpu/start", "-f", "-", stdin="{}")
        eventually(lambda: self._power("build-gpu") == "PoweredOn", CONVERGE)

    def _power(self, name: str) -> str:
        return str(self.get("vdcvm", name)["status"]["powerState"])

    def somebody_power_cycles_vms(self) -> None:
        """By deleting their instances, as virtctl restart does."""
        for name in ("web-2", "vault"):
            before = self.instance(name)["metadata"]["uid"]
            self.kubectl("delete", "vmi", name, "-n", SHOP, "--wait=false")
            eventually(lambda name=name, before=before: self._runs_anew(name, before), CONVERGE)  # type: ignore[misc]

    def _runs_anew(self, name: str, before: str) -> bool:
        found = self.instance(name)
        return bool(found["metadata"]["uid"] != before and found["status"]["phase"] == "Running")

    def a_vm_moves(self) -> None:
        before = self.instance("web-1")["status"]["nodeName"]
        move = {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstanceMigration",
            "metadata": {"name": "move-web-1", "namespace": SHOP},
            "spec": {"vmiName": "web-1"},
        }
        self.cluster.apply(move)
        eventually(lambda: self.instance("web-1")["status"]["nodeName"] != before, CONVERGE)

    def somebody_edits_what_is_below(self) -> None:
        """All of it is put right; children that are gone come again."""
        self.patch("vm", "vault", {"spec": {"runStrategy": "Halted"}})
        self.patch("vm", "web-1", {"metadata": {"labels": {ownership.MANAGED_BY: "somebody"}}})
        self.patch("net-attach-def", "front", {"spec": {"config": "{}"}})
        self.kubectl("delete", "net-attach-def", "backend", "-n", SHOP)
        eventually(lambda: self.get("vm", "vault")["spec"]["runStrategy"] == "Always", CONVERGE)
        eventually(lambda: self._label("web-1", ownership.MANAGED_BY) == ownership.MANAGER, CONVERGE)
        eventually(lambda: "br-front" in self.get("net-attach-def", "front")["spec"]["config"], CONVERGE)
        eventually(lambda: self.get("net-attach-def", "backend"), CONVERGE)

    def _label(self, name: str, label: str) -> str:
        """Of a KubeVirt VM."""
        return str(self.get("vm", name)["metadata"]["labels"][label])

    def the_operator_is_killed(self) -> None:
        self.operator.kill()
        self.patch("vm", "db-1", {"spec": {"runStrategy": "Halted"}})
        self.operator.start()
        eventually(lambda: self.get("vm", "db-1")["spec"]["runStrategy"] == "Always", CONVERGE)

    def a_host_dies_and_comes_back(self) -> None:
        """Its VMs restart elsewhere; then it is used again."""
        host = self.instance("web-1")["status"]["nodeName"]
        self.cluster.fault("power-off", host=host)
        eventually(lambda: self.instance("web-1")["status"].get("nodeName") not in (None, "", host), CONVERGE)
        eventually(lambda: self.instance("web-1")["status"]["phase"] == "Running", CONVERGE)
        self.cluster.fault("recover", host=host)

        def over() -> bool:
            items = self.cluster.get("hostfailures.vdcos.dev")["items"]
            return [item["status"]["outcome"] for item in items if item["spec"]["host"] == host] == ["Recovered"]

        eventually(over, CONVERGE)


_SUBRESOURCES = f"/apis/subresources.kubevirt.io/v1/namespaces/{SHOP}"

EVENTS: tuple[Callable[[Story], None], ...] = (
    Story.a_guest_shuts_itself_down,
    Story.somebody_power_cycles_vms,
    Story.a_vm_moves,
    Story.somebody_edits_what_is_below,
    Story.the_operator_is_killed,
    Story.a_host_dies_and_comes_back,
)


def _ours(kind: str, name: str, spec: Object) -> Object:
    return {"apiVersion": api.API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def story(datacenter: Cluster, operator: Operator, seen: Path) -> Iterator[Story]:
    story = Story(datacenter, operator)
    story.git.apply()
    story.git.converge()
    yield story
    story.git.delete()


@pytest.fixture(scope="module")
def first(story: Story) -> dict[str, Object]:
    """What was written in the beginning."""
    return story.git.written()


def test_what_git_wrote_is_git_s(story: Story, first: dict[str, Object]) -> None:
    declared = {_identity(each): each for each in story.git.documents}
    for name, written in first.items():
        owners = {
            manager for manager, _, fields in written["fields"] if "f:spec" in fields or "f:annotations" in fields
        }
        # A Host exists before anybody declares it, with an empty spec.
        assert owners - {"vdcos/host"} == {"argocd-controller"}, name
        assert written["annotations"] == declared[name]["metadata"].get("annotations", {}), name
    story.git.shows_no_difference()


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: str(event.__name__).replace("_", "-"))
def test_nothing_changes_what_git_wrote(story: Story, first: dict[str, Object], event: Callable[[Story], None]) -> None:
    event(story)
    story.git.converge()
    assert story.git.written() == first
    story.git.shows_no_difference()


def test_applying_it_again_writes_nothing(story: Story, first: dict[str, Object]) -> None:
    before = _declared_by(story.git.live())
    story.git.apply()
    assert _declared_by(story.git.live()) == before
    assert story.git.written() == first


def test_what_somebody_else_wrote_is_a_difference(story: Story) -> None:
    """The tests above can fail."""
    story.patch("vdcvm", "staging", {"spec": {"memory": {"size": "2Gi"}}})
    for options in (SERVER_SIDE, ()):
        with pytest.raises(KubectlError, match=r"-\s+size: 2Gi"):
            story.git.difference(*options)
    story.git.apply()
    story.git.converge()
    story.git.shows_no_difference()


# What was seen on the way


def test_every_state_that_was_seen_is_judged_as_the_guide_says(story: Story, seen: Path) -> None:
    printed = (item for file in sorted(seen.iterdir()) for item in _objects(file.read_text()))
    items = [item for item in printed if item["kind"] != "Status"]
    found = Judges.built().judge(items)
    wrong = [
        f"{_told(item)}: {verdict.words}"
        for item, verdict in zip(items, found, strict=True)
        if verdict.words != GUIDE[state(item)]
    ]
    assert not wrong
    met = Counter((item["kind"], state(item)) for item in items)
    print(f"{len(items)} states: {dict(met)}")
    assert {kind for kind, _ in met} == set(api.KINDS)
    passing = {
        (item["kind"], each["reason"])
        for item in items
        for each in item.get("status", {}).get("conditions", [])
        if each["type"] == "Ready" and each["status"] != "True"
    }
    assert passing >= {("VirtualMachine", "Importing"), ("VirtualMachine", "PoweringOn"), ("Host", "Fenced")}


def _objects(text: str) -> Iterator[Object]:
    """JSON objects, one after the other; the last may be half there."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        try:
            item, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            return
        at += len(text[at:]) - len(text[at:].lstrip())
        yield item


# Argo CD's ConfigMap


def test_the_scripts_join_what_an_administrator_has_set(datacenter: Cluster) -> None:
    """By a patch, or by kustomize: others' keys stay, and what is stored judges as the file does."""
    kept = {
        "resource.customizations.health.cert-manager.io_Certificate": 'return {status = "Healthy"}\n',
        "url": "https://cd",
    }
    meta = {"name": "argocd-cm", "namespace": "argocd"}
    theirs: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": kept}
    datacenter.kubectl("create", "namespace", "argocd")
    datacenter.apply(theirs)
    datacenter.kubectl(
        "patch", "configmap", "argocd-cm", "-n", "argocd", "--patch-file", str(ARGOCD / "argocd-cm.yaml")
    )
    patched = datacenter.get("configmap", "argocd-cm", "-n", "argocd")["data"]
    datacenter.kubectl("delete", "namespace", "argocd", "--wait=false")
    (built,) = packages.kustomization(Path(datacenter.record.kubectl), ARGOCD, theirs).values()
    wanted = {**kept, **argocd.patch(api.KINDS)["data"]}
    assert patched == wanted
    assert built["data"] == wanted


def test_samples_say_what_must_not_go_at_once(datacenter: Cluster) -> None:
    """Everything of ours asks before it goes; what takes data along is not pruned by Flux at all."""
    for folder in (run.SAMPLES, *SITES.iterdir()):
        for item in Git.built(datacenter, folder).documents:
            notes = item["metadata"].get("annotations", {})
            holds = item["kind"] in ("Namespace", "DataVolume") or _tpm(item) == "Persistent"
            if item["kind"] in api.KINDS or holds:
                assert notes["argocd.argoproj.io/sync-options"] == "Prune=confirm,Delete=confirm", _identity(item)
            assert (notes.get("kustomize.toolkit.fluxcd.io/prune") == "disabled") == holds, _identity(item)
            early = item["kind"] in ("Network", "Datastore")
            assert notes.get("argocd.argoproj.io/sync-wave", "0") == ("-1" if early else "0"), _identity(item)


def _tpm(item: Mapping[str, Any]) -> str:
    return str(item.get("spec", {}).get("firmware", {}).get("tpm", ""))
