"""The guide's tour, taken with kubectl on the samples: look, wait, edit, delete, declare again, share with others."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rich.console
import yaml

from devcluster import run
from devcluster.cluster import Cluster, KubectlError
from devcluster.waiting import eventually

NAMESPACE = "shop"
SHOP = ("build-gpu", "db-1", "staging", "vault", "web-1", "web-2")
CONVERGE = 240.0  # seconds, on a busy machine
LIVE = 90.0  # seconds for a change that takes a migration; KubeVirt begins them in batches, 10 s apart

Object = dict[str, Any]


class Shop:
    """The samples, and what a person does to them."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def apply(self) -> None:
        self.cluster.kubectl("apply", "--server-side", "-k", str(run.SAMPLES))

    def declare(self, name: str) -> None:
        """Apply one VM of the samples, and leave alone what was edited in the others."""
        documents = yaml.safe_load_all(self.cluster.kubectl("kustomize", str(run.SAMPLES)))
        vm = next(each for each in documents if (each["kind"], each["metadata"]["name"]) == ("VirtualMachine", name))
        self.cluster.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(vm))

    def get(self, kind: str, name: str) -> Object:
        return self.cluster.get(kind, name, "-n", NAMESPACE)

    def vm(self, name: str) -> Object:
        return self.get("vdcvm", name)

    def instance(self, name: str) -> Object:
        return self.get("virtualmachineinstances.kubevirt.io", name)

    def patch(self, name: str, spec: Object) -> None:
        """Edit fields of a VM."""
        self._patch("vdcvm", name, "merge", {"spec": spec})

    def edit(self, name: str, *operations: Object) -> None:
        """Edit lists of a VM, where a person would edit lines."""
        self._patch("vdcvm", name, "json", list(operations))

    def _patch(self, kind: str, name: str, how: str, body: Any) -> None:
        self.cluster.kubectl("patch", kind, name, "-n", NAMESPACE, "--type", how, "-p", json.dumps(body))

    def wait(self, *names: str, condition: str = "condition=Ready", seconds: float = CONVERGE) -> None:
        machines = [f"vdcvm/{name}" for name in names]
        self.cluster.kubectl("wait", *machines, "-n", NAMESPACE, f"--for={condition}", f"--timeout={seconds:.0f}s")

    def settled(self, name: str) -> Object:
        """The VM, once the operator has seen its present spec and all of that is in effect."""
        self.wait(name)
        vm = self.vm(name)
        assert run.Row.of(vm).ready
        return vm


def condition(item: Object, kind: str) -> Object:
    """One condition; without content when it is not there."""
    return next((each for each in item.get("status", {}).get("conditions", []) if each["type"] == kind), {})


def disk(vm: Object, name: str) -> Object:
    return next((each for each in vm["status"].get("disks", []) if each["name"] == name), {})


def position(vm: Object, field: str, name: str) -> int:
    return next(index for index, each in enumerate(vm["spec"][field]) if each["name"] == name)


@pytest.fixture(scope="module")
def shop(cluster: Cluster, installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The samples, converged, with the operator running as `make run` runs it."""
    printed = io.StringIO()
    screen = run.Screen(rich.console.Console(file=printed, width=200))
    with run.operator(screen, cluster, tmp_path_factory.mktemp("operator")) as running:
        shop = Shop(cluster)
        shop.apply()
        rows = run.converge(screen, cluster, running, CONVERGE)
        assert all(row.ready for row in rows), f"{run.reasons(rows)}\n{running.last_words()}"
        yield shop
        running.check()
        cluster.kubectl("delete", "--ignore-not-found", "--timeout=180s", "-k", str(run.SAMPLES))


# Look


def test_everything_is_there_and_ready(shop: Shop) -> None:
    rows = run.standing(shop.cluster)
    assert [row.name for row in rows if row.kind == "Network"] == ["backend", "front", "internet"]
    assert [row.name for row in rows if row.kind == "Datastore"] == ["bulk", "gold", "local"]
    assert [row.name for row in rows if row.kind == "VirtualMachine"] == [f"{NAMESPACE}/{name}" for name in SHOP]
    assert all(row.ready for row in rows), run.reasons(rows)


def test_the_web_servers_are_on_different_hosts(shop: Shop) -> None:
    hosts = {shop.vm(name)["status"]["host"] for name in ("web-1", "web-2")}
    assert len(hosts) == 2
    assert all(hosts)


def test_the_gpu_is_had_and_keeps_its_vm_in_place(shop: Shop) -> None:
    vm = shop.vm("build-gpu")
    node = shop.cluster.get("node", vm["status"]["host"])
    assert int(node["status"]["allocatable"]["nvidia.com/TU104GL_Tesla_T4"]) > 0
    assert condition(vm, "Migratable")["status"] == "False"


def test_what_is_declared_off_is_off_and_ready(shop: Shop) -> None:
    vm = shop.vm("staging")
    assert vm["status"]["powerState"] == "PoweredOff"
    assert condition(vm, "Ready")["status"] == "True"
    with pytest.raises(KubectlError, match="not found"):
        shop.instance("staging")


def test_disks_are_filled_from_every_kind_of_source(shop: Shop) -> None:
    for name in SHOP:
        vm = shop.vm(name)
        assert {each["name"] for each in vm["status"]["disks"]} == {each["name"] for each in vm["spec"]["disks"]}
        if name != "staging":
            assert [each["phase"] for each in vm["status"]["disks"]] == ["Ready"] * len(vm["spec"]["disks"]), name


def test_get_vdc_lists_all_kinds_with_their_columns(shop: Shop) -> None:
    printed = shop.cluster.kubectl("get", "vdc", "-A")
    for name in ("network.vdcos.dev/front", "datastore.vdcos.dev/gold", "virtualmachine.vdcos.dev/web-1"):
        assert name in printed
    line = next(line for line in printed.splitlines() if line.endswith("AGE") and "POWER" in line)
    assert line.split() == ["NAMESPACE", "NAME", "READY", "REASON", "POWER", "RESTART", "HOST", "IP", "AGE"]


def test_describe_tells_the_conditions(shop: Shop) -> None:
    described = shop.cluster.kubectl("describe", "vdcvm", "web-1", "-n", NAMESPACE)
    for kind in ("Ready", "StorageReady", "NetworkReady", "PlacementReady", "PowerStateSynced", "GuestAgentConnected"):
        assert f"Type:                  {kind}\n" in described
    assert "Observed Generation:" in described


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("virtualmachines.vdcos.dev", ("powerState", "userDataSecretName", "topologyKey", "resourceName", "claimName")),
        ("networks.vdcos.dev", ("physicalNetwork", "spoofCheck", "bondMode", "matchExpressions", "provider")),
        ("datastores.vdcos.dev", ("storageClassName", "maintenance", "provisioned", "retained")),
    ],
)  # fmt: skip
def test_explain_knows_every_field(shop: Shop, kind: str, fields: tuple[str, ...]) -> None:
    explained = shop.cluster.kubectl("explain", kind, "--recursive")
    for field in fields:
        assert f"{field}\t<" in explained


def test_wait_for_all(shop: Shop) -> None:
    shop.cluster.kubectl("wait", "vdcvm", "--all", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=60s")


# Edit


def test_more_cpu_and_memory_arrive_while_it_runs(shop: Shop) -> None:
    before = shop.instance("web-1")["metadata"]["uid"]
    shop.patch("web-1", {"cpu": {"sockets": 3}, "memory": {"size": "6Gi"}})

    def arrived() -> bool:
        status = shop.instance("web-1")["status"]
        return bool(
            status.get("currentCPUTopology", {}).get("sockets") == 3
            and status.get("memory", {}).get("guestCurrent") == "6Gi"
        )

    eventually(arrived, LIVE)
    vm = shop.settled("web-1")
    assert not vm["status"]["restartRequired"]
    assert shop.instance("web-1")["metadata"]["uid"] == before


def test_a_disk_comes_and_goes_while_it_runs(shop: Shop) -> None:
    shop.edit(
        "vault", {"op": "add", "path": "/spec/disks/-", "value": {"name": "extra", "size": "2Gi", "datastore": "gold"}}
    )
    eventually(lambda: disk(shop.settled("vault"), "extra").get("phase") == "Ready", LIVE)
    claim = disk(shop.vm("vault"), "extra")["claimName"]

    def plugged() -> bool:
        volumes = shop.instance("vault")["status"].get("volumeStatus", [])
        return any(each["name"] == "extra" and each.get("phase") == "Ready" for each in volumes)

    eventually(plugged, LIVE)
    assert not shop.vm("vault")["status"]["restartRequired"]

    shop.edit("vault", {"op": "remove", "path": f"/spec/disks/{position(shop.vm('vault'), 'disks', 'extra')}"})
    eventually(lambda: not any(v["name"] == "extra" for v in shop.instance("vault")["status"]["volumeStatus"]), LIVE)
    assert not disk(shop.settled("vault"), "extra")
    assert shop.get("pvc", claim)["status"]["phase"] == "Bound", "a disk that is removed from the list is retained"


def test_a_disk_grows_while_it_runs(shop: Shop) -> None:
    vm = shop.vm("db-1")
    shop.edit("db-1", {"op": "replace", "path": f"/spec/disks/{position(vm, 'disks', 'log')}/size", "value": "60Gi"})

    def grown() -> bool:
        claim = shop.get("pvc", disk(shop.vm("db-1"), "log")["claimName"])
        return bool(claim["status"]["capacity"]["storage"] == "60Gi")

    eventually(grown, LIVE)
    eventually(lambda: disk(shop.settled("db-1"), "log")["size"] == "60Gi", LIVE)


def test_a_disk_does_not_shrink(shop: Shop) -> None:
    vm = shop.vm("db-1")
    with pytest.raises(KubectlError, match="can grow but not shrink"):
        shop.edit(
            "db-1", {"op": "replace", "path": f"/spec/disks/{position(vm, 'disks', 'data')}/size", "value": "1Gi"}
        )
    assert shop.vm("db-1")["metadata"]["generation"] == vm["metadata"]["generation"]


def test_a_nic_comes_and_goes_while_it_runs(shop: Shop) -> None:
    shop.edit("vault", {"op": "add", "path": "/spec/nics/-", "value": {"name": "second", "network": "front"}})

    def cards() -> set[str]:
        return {each.get("name", "") for each in shop.instance("vault")["status"].get("interfaces", [])}

    eventually(lambda: "second" in cards(), LIVE)
    vm = shop.settled("vault")
    assert not vm["status"]["restartRequired"]
    shop.edit("vault", {"op": "remove", "path": f"/spec/nics/{position(vm, 'nics', 'second')}"})
    eventually(lambda: "second" not in cards(), LIVE)
    assert not shop.settled("vault")["status"]["restartRequired"]


def test_a_cable_is_pulled_while_it_runs(shop: Shop) -> None:
    vm = shop.vm("vault")
    path = f"/spec/nics/{position(vm, 'nics', 'backend')}/linkState"
    shop.edit("vault", {"op": "add", "path": path, "value": "Down"})

    def state() -> str:
        interfaces = shop.instance("vault")["spec"]["domain"]["devices"]["interfaces"]
        return next((each.get("state", "") for each in interfaces if each["name"] == "backend"), "")

    eventually(lambda: state() == "down", LIVE)
    assert not shop.settled("vault")["status"]["restartRequired"]
    shop.edit("vault", {"op": "replace", "path": path, "value": "Up"})
    eventually(lambda: state() != "down", LIVE)


def test_what_needs_a_restart_says_so_and_arrives_with_the_next_power_on(shop: Shop) -> None:
    shop.patch("web-2", {"cpu": {"cores": 2}})

    def waiting() -> Object:
        vm = shop.vm("web-2")
        assert vm["status"]["restartRequired"]
        return vm

    vm = eventually(waiting, LIVE)
    told = condition(vm, "RestartRequired")
    assert told["status"] == "True"
    assert "cores" in told["message"]
    assert condition(vm, "Ready")["status"] == "True", (
        "it runs, and is as declared as far as it can be without a restart"
    )

    shop.patch("web-2", {"powerState": "PoweredOff"})
    eventually(lambda: shop.settled("web-2")["status"]["powerState"] == "PoweredOff", LIVE)
    shop.patch("web-2", {"powerState": "PoweredOn"})
    eventually(lambda: shop.settled("web-2")["status"]["powerState"] == "PoweredOn", LIVE)
    assert shop.instance("web-2")["spec"]["domain"]["cpu"]["cores"] == 2
    eventually(lambda: not shop.vm("web-2")["status"]["restartRequired"], LIVE)


def test_a_missing_network_is_a_condition_until_it_is_there(shop: Shop) -> None:
    shop.edit("staging", {"op": "add", "path": "/spec/nics/-", "value": {"name": "third", "network": "not-yet"}})

    def lacking() -> Object:
        vm = shop.vm("staging")
        assert condition(vm, "NetworkReady").get("status") == "False"
        return vm

    vm = eventually(lacking)
    assert condition(vm, "NetworkReady")["reason"] == "NetworkMissing"
    assert condition(vm, "Ready")["status"] == "False"
    network = {
        "apiVersion": "vdcos.dev/v1alpha1",
        "kind": "Network",
        "metadata": {"name": "not-yet", "labels": {run.PART_OF: run.SAMPLE}},
        "spec": {"ovn": {"topology": "Layer2"}, "allowedNamespaces": {"from": "All"}},
    }
    shop.cluster.apply(network)
    shop.settled("staging")

    # Deleting it waits as long as it is used, and says by whom.
    shop.cluster.kubectl("delete", "vdcnet", "not-yet", "--wait=false")
    users = eventually(lambda: condition(shop.cluster.get("vdcnet", "not-yet"), "Deleting"))
    assert "shop/staging" in json.dumps(users)
    shop.edit("staging", {"op": "remove", "path": f"/spec/nics/{position(shop.vm('staging'), 'nics', 'third')}"})
    shop.cluster.kubectl("wait", "vdcnet/not-yet", "--for=delete", "--timeout=60s")
    shop.settled("staging")


def test_a_datastore_in_maintenance_takes_no_new_disk(shop: Shop) -> None:
    kubectl = shop.cluster.kubectl
    kubectl("patch", "vdcds", "bulk", "--type=merge", "-p", '{"spec": {"maintenance": true}}')
    shop.edit(
        "staging", {"op": "add", "path": "/spec/disks/-", "value": {"name": "more", "size": "1Gi", "datastore": "bulk"}}
    )

    def lacking() -> Object:
        vm = shop.vm("staging")
        assert condition(vm, "StorageReady").get("status") == "False"
        return vm

    vm = eventually(lacking)
    assert condition(vm, "StorageReady")["reason"] == "DatastoreInMaintenance"
    kubectl("patch", "vdcds", "bulk", "--type=merge", "-p", '{"spec": {"maintenance": false}}')
    eventually(lambda: disk(shop.settled("staging"), "more").get("phase") == "Ready", LIVE)


# Delete, and declare again


def test_disks_outlive_their_vm_and_are_found_again(shop: Shop) -> None:
    vm = shop.vm("web-2")
    claims = {each["name"]: each["claimName"] for each in vm["status"]["disks"]}
    uids = {name: shop.get("pvc", claim)["metadata"]["uid"] for name, claim in claims.items()}

    shop.cluster.kubectl("delete", "vdcvm", "web-2", "-n", NAMESPACE, "--timeout=120s")
    with pytest.raises(KubectlError, match="not found"):
        shop.vm("web-2")

    def retained() -> bool:
        usage = shop.cluster.get("vdcds", "gold")["status"].get("retained", {})
        return any(claims["system"] in name for name in usage.get("names", ()))

    eventually(retained)
    assert {name: shop.get("pvc", claim)["metadata"]["uid"] for name, claim in claims.items()} == uids

    shop.declare("web-2")
    again = shop.settled("web-2")
    assert again["metadata"]["uid"] != vm["metadata"]["uid"]
    assert {name: shop.get("pvc", claim)["metadata"]["uid"] for name, claim in claims.items()} == uids
    assert [each["reused"] for each in again["status"]["disks"]] == [True] * len(uids)
    assert "used again" in disk(again, "system")["message"]


def test_a_disk_that_may_go_goes_with_its_vm(shop: Shop) -> None:
    claims = {each["name"]: each["claimName"] for each in shop.vm("build-gpu")["status"]["disks"]}
    shop.cluster.kubectl("delete", "vdcvm", "build-gpu", "-n", NAMESPACE, "--timeout=120s")
    shop.cluster.kubectl("wait", f"pvc/{claims['scratch']}", "-n", NAMESPACE, "--for=delete", "--timeout=60s")
    assert shop.get("pvc", claims["system"])["status"]["phase"] == "Bound"
    shop.declare("build-gpu")
    again = shop.settled("build-gpu")
    assert (disk(again, "system")["reused"], disk(again, "scratch").get("reused", False)) == (True, False)


# Share with others


def test_a_second_manager_and_the_operator_do_not_fight(shop: Shop) -> None:
    """Git applies what it wants, over and over: no conflict, no new generation, nothing taken back by the operator."""
    sample = next(
        document
        for document in yaml.safe_load_all((run.SAMPLES / "60-vault.yaml").read_text())
        if document["kind"] == "VirtualMachine"
    )
    sample["metadata"]["labels"]["argocd.argoproj.io/instance"] = "shop"
    manager = ("apply", "--server-side", "--field-manager=argocd", "-f", "-")
    first = json.loads(shop.cluster.kubectl(*manager, "-o", "json", stdin=json.dumps(sample)))
    shop.settled("vault")
    again = json.loads(shop.cluster.kubectl(*manager, "-o", "json", stdin=json.dumps(sample)))
    settled = shop.vm("vault")
    assert again["metadata"]["generation"] == first["metadata"]["generation"]
    assert settled["spec"] == first["spec"]
    assert settled["metadata"]["labels"] == first["metadata"]["labels"]
    difference = shop.cluster.kubectl(
        "diff", "--server-side", "--field-manager=argocd", "-f", "-", stdin=json.dumps(sample)
    )
    assert difference == ""

    fields = shop.cluster.kubectl("get", "vdcvm", "vault", "-n", NAMESPACE, "-o", "json", "--show-managed-fields")
    written = {
        entry["manager"]: set(entry["fieldsV1"])
        for entry in json.loads(fields)["metadata"]["managedFields"]
        if entry.get("subresource") == "status" or "vdcos" in entry["manager"]
    }
    assert written, "the operator's writes are attributed"
    assert all(parts == {"f:status"} for parts in written.values()), f"only status is the operator's: {written}"


def test_two_managers_can_own_different_fields(shop: Shop) -> None:
    """One has the VM, another only its power state; a third who claims the same field is told whose it is."""
    power: Object = {
        "apiVersion": "vdcos.dev/v1alpha1",
        "kind": "VirtualMachine",
        "metadata": {"name": "vault", "namespace": NAMESPACE},
        "spec": {"powerState": "PoweredOff"},
    }
    kubectl = shop.cluster.kubectl
    kubectl("apply", "--server-side", "--field-manager=night-shift", "-f", "-", stdin=json.dumps(power))
    eventually(lambda: shop.settled("vault")["status"]["powerState"] == "PoweredOff", LIVE)
    shop.declare("vault")  # the samples leave powerState out
    assert shop.vm("vault")["spec"]["powerState"] == "PoweredOff"
    power["spec"]["powerState"] = "PoweredOn"
    with pytest.raises(KubectlError, match="night-shift"):
        kubectl("apply", "--server-side", "--field-manager=somebody", "-f", "-", stdin=json.dumps(power))
    kubectl("apply", "--server-side", "--field-manager=night-shift", "-f", "-", stdin=json.dumps(power))
    eventually(lambda: shop.settled("vault")["status"]["powerState"] == "PoweredOn", LIVE)


def test_what_others_change_below_is_put_right(shop: Shop) -> None:
    """A virtctl stop sets runStrategy of the KubeVirt VM; declared is PoweredOn."""
    kubectl = shop.cluster.kubectl
    machine = ("virtualmachines.kubevirt.io", "vault", "-n", NAMESPACE)
    kubectl("patch", *machine, "--type=merge", "-p", '{"spec": {"runStrategy": "Halted"}}')
    eventually(lambda: shop.cluster.get(*machine)["spec"]["runStrategy"] == "Always", 30)
    eventually(lambda: shop.settled("vault")["status"]["powerState"] == "PoweredOn", LIVE)
