"""A Network and its definitions: who gets one, when it changes, when it goes, and what is never touched."""

import json
from typing import Any

import pytest

from vdcos import api
from vdcos.core import finalizers
from vdcos.core.conditions import Condition
from vdcos.core.foreign.kubernetes import Namespace, Node
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.foreign.multus import RESOURCE_NAME, NetworkAttachmentDefinition
from vdcos.core.objects import Key
from vdcos.core.plan import Apply, Delete, Instant, Patch, Plan
from vdcos.providers.networks import Request, Wiring
from vdcos.services.network import NetworkService
from vdcos.services.network.children import CHANGED
from vdcos.testing import builders
from vdcos.testing.world import World

RED = Key("", "red")
BRIDGE = {"name": "br10", "vlan": 7}


def world(*manifests: dict[str, Any], **spec: Any) -> World:
    spec = spec or {"bridge": BRIDGE}
    return World(builders.namespace("a"), builders.namespace("b"), builders.network("red", **spec), *manifests)


def settle(given: World) -> dict[str, Condition]:
    return {c.type: c for c in given.settle(NetworkService({}), RED).conditions}


def look(given: World) -> Plan:
    return given.plan(NetworkService({}), RED)


def definitions(given: World) -> list[str]:
    return [str(key) for key in given.keys(NetworkAttachmentDefinition)]


def definition(given: World, namespace: str = "a") -> dict[str, Any]:
    return given.tree(NetworkAttachmentDefinition, Key(namespace, "red"))


def status(given: World) -> dict[str, Any]:
    held: dict[str, Any] = given.tree(api.Network, RED)["status"]
    return held


def later(given: World, seconds: float) -> None:
    given.now = Instant(given.now.wall + seconds, given.now.mono + seconds)


WEB = builders.machine("a/web", networks=["red"])

WHO = [
    ("nobody uses it", [], {}, []),
    ("a VM uses it", [WEB], {}, ["a/red"]),
    ("two VMs of a namespace share one", [WEB, builders.machine("a/db", networks=["red"])], {}, ["a/red"]),
    ("a namespace each", [WEB, builders.machine("b/db", networks=["blue", "red"])], {}, ["a/red", "b/red"]),
    ("other networks are no matter", [builders.machine("a/web", networks=["blue"])], {}, []),
    ("nobody is allowed by default", [WEB], {"allowedNamespaces": {"from": "None"}}, []),
    ("by name", [WEB], {"allowedNamespaces": {"from": "Names", "names": ["a"]}}, ["a/red"]),
    ("not this name", [WEB], {"allowedNamespaces": {"from": "Names", "names": ["b"]}}, []),
    ("the pod network needs none", [WEB], {"pod": {}}, []),
    ("a VM of a namespace that is not there", [builders.machine("z/web", networks=["red"])], {}, []),
    ("a provider that is not there", [WEB], {"plugin": {"provider": "acme"}}, []),
    (
        "a malformed VM disturbs nobody",
        [WEB, {**builders.machine("b/bad"), "spec": {"nics": "none"}}],
        {},
        ["a/red"],
    ),
]


@pytest.mark.parametrize("reason, given, spec, want", WHO, ids=[case[0] for case in WHO])
def test_who_gets_a_definition(reason: str, given: list[dict[str, Any]], spec: dict[str, Any], want: list[str]) -> None:
    kind = {"bridge": BRIDGE} if not {"pod", "plugin"} & set(spec) else {}
    there = world(*given, **kind, **spec)
    settle(there)
    assert definitions(there) == want
    assert look(there).actions == ()


def test_a_definition_says_whose_it_is_and_what() -> None:
    there = world(WEB)
    settle(there)
    held = definition(there)
    assert held["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "vdcos", "vdcos.dev/network": "red"}
    [owner] = held["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("Network", "red", True)
    assert owner["uid"] == there.tree(api.Network, RED)["metadata"]["uid"]
    assert json.loads(held["spec"]["config"])["vlan"] == 7
    first = [action for action in there.log if isinstance(action, Apply)]
    assert [action.force for action in first] == [False], "a namesake made a moment ago must not be taken over"


def test_status_counts_and_names() -> None:
    there = world(*(builders.machine(f"a/vm{n:02}", networks=["red"]) for n in range(12)))
    settle(there)
    held = status(there)
    assert held["provider"] == "bridge"
    assert held["namespaces"] == {"count": 1, "names": ["a"]}
    assert held["virtualMachines"]["count"] == 12
    assert held["virtualMachines"]["names"] == [f"a/vm{n:02}" for n in range(10)]


def test_on_the_pod_network_a_namespace_counts_without_a_definition() -> None:
    there = world(WEB, pod={})
    assert settle(there)["ProviderReady"].status == "True"
    assert status(there)["namespaces"] == {"count": 1, "names": ["a"]}


def test_counts_are_written_at_most_every_five_seconds() -> None:
    there = world(WEB)
    settle(there)
    there.put(builders.machine("a/db", networks=["red"]))
    later(there, 2)
    assert there.settle(NetworkService({}), RED).after == pytest.approx(3)
    assert status(there)["virtualMachines"]["count"] == 1
    later(there, 3)
    assert there.settle(NetworkService({}), RED).after is None
    assert status(there)["virtualMachines"]["count"] == 2


def test_a_definition_goes_with_the_last_vm_but_not_under_a_running_one() -> None:
    there = world(WEB, builders.instance("a/web", "red"))
    settle(there)
    there.remove(api.VirtualMachine, Key("a", "web"))
    settle(there)
    assert definitions(there) == ["a/red"], "KubeVirt's VM still runs"
    assert finalizers.IN_USE in there.tree(api.Network, RED)["metadata"]["finalizers"]
    there.remove(VirtualMachineInstance, Key("a", "web"))
    settle(there)
    assert definitions(there) == []
    assert "finalizers" not in there.tree(api.Network, RED)["metadata"]


@pytest.mark.parametrize("used", ["red", "a/red"])
def test_running_vms_are_found_however_they_write_it(used: str) -> None:
    there = world(WEB)
    settle(there)
    there.put(builders.instance("a/web", used))
    there.remove(api.VirtualMachine, Key("a", "web"))
    assert not [action for action in look(there).actions if isinstance(action, Delete)]


def test_a_namespace_that_is_no_longer_allowed_keeps_what_runs() -> None:
    there = world(WEB, builders.instance("a/web", "red"))
    settle(there)
    there.change(api.Network, RED, spec={"allowedNamespaces": {"from": "None"}})
    settle(there)
    assert definitions(there) == ["a/red"]
    there.remove(VirtualMachineInstance, Key("a", "web"))
    settle(there)
    assert definitions(there) == []


FOREIGN = [
    ("a tenant's", builders.definition("a/red", '{"type":"macvlan"}')),
    (
        "another Network's of the same name",
        builders.definition(
            "a/red",
            labels={"app.kubernetes.io/managed-by": "vdcos", "vdcos.dev/network": "red"},
            ownerReferences=[
                {
                    "apiVersion": "vdcos.dev/v1alpha1",
                    "kind": "Network",
                    "name": "red",
                    "uid": "an-earlier-one",
                    "controller": True,
                }
            ],
        ),
    ),
    ("of our label, not managed by us", builders.definition("a/red", labels={"vdcos.dev/network": "red"})),
]


@pytest.mark.parametrize("reason, foreign", FOREIGN, ids=[case[0] for case in FOREIGN])
def test_somebody_elses_definition_is_never_touched(reason: str, foreign: dict[str, Any]) -> None:
    there = world(WEB, foreign)
    before = definition(there)
    said = settle(there)
    assert definition(there) == before
    assert (said["AttachmentsReady"].status, said["AttachmentsReady"].reason) == ("False", "NotAttached")
    assert "a: a NetworkAttachmentDefinition red that is not of this Network" in said["AttachmentsReady"].message
    assert status(there)["conditions"][0]["status"] == "True", "a tenant cannot spoil an admin's Network"
    there.remove(api.VirtualMachine, Key("a", "web"))
    settle(there)
    assert definition(there) == before


def test_the_cause_of_a_conflict_goes_and_it_converges() -> None:
    there = world(WEB, builders.definition("a/red"))
    settle(there)
    there.remove(NetworkAttachmentDefinition, Key("a", "red"))
    assert settle(there)["AttachmentsReady"].status == "True"
    assert json.loads(definition(there)["spec"]["config"])["type"] == "bridge"


def test_many_conflicts_make_a_short_message() -> None:
    spaces = [f"n{number}" for number in range(5)]
    there = world(
        *(builders.namespace(space) for space in spaces),
        *(builders.definition(f"{space}/red") for space in spaces),
        *(builders.machine(f"{space}/web", networks=["red"]) for space in spaces),
    )
    message = settle(there)["AttachmentsReady"].message
    assert message.count("in the way") == 3
    assert message.endswith("and 2 namespaces more.")


def test_what_an_uninstallation_left_is_adopted() -> None:
    there = world(WEB)
    settle(there)
    held = definition(there)
    del held["metadata"]["ownerReferences"]
    there.put(held)
    said = settle(there)
    assert said["AttachmentsReady"].status == "True"
    assert definition(there)["metadata"]["ownerReferences"][0]["name"] == "red"


DRIFT: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("the configuration", {"spec": {"config": '{"type":"macvlan"}'}}, ("spec.config",)),
    ("a label", {"metadata": {"labels": {"vdcos.dev/network": "blue"}}}, ("metadata.labels.vdcos.dev/network",)),
]


@pytest.mark.parametrize("reason, change, repairs", DRIFT, ids=[case[0] for case in DRIFT])
def test_drift_is_repaired_and_counted(reason: str, change: dict[str, Any], repairs: tuple[str, ...]) -> None:
    there = world(WEB)
    settle(there)
    before = definition(there)
    there.change(NetworkAttachmentDefinition, Key("a", "red"), **change)
    [action] = look(there).actions
    assert isinstance(action, Apply)
    assert action.repairs == repairs
    settle(there)
    after = definition(there)
    assert (after["spec"], after["metadata"]["labels"]) == (before["spec"], before["metadata"]["labels"])


def test_what_others_add_is_tolerated() -> None:
    there = world(WEB)
    settle(there)
    there.change(NetworkAttachmentDefinition, Key("a", "red"), metadata={"labels": {"team": "net"}})
    assert look(there).actions == ()


def test_an_edit_reaches_running_vms_when_they_are_connected_anew() -> None:
    there = world(WEB, builders.instance("a/web", "red"))
    assert settle(there)["SettingsInEffect"].status == "True"
    there.change(api.Network, RED, spec={"bridge": {"vlan": 8}})
    there.now = Instant(1_767_400_000.0, 5_000.0)  # some day after the VM was started
    said = settle(there)["SettingsInEffect"]
    assert json.loads(definition(there)["spec"]["config"])["vlan"] == 8
    assert (said.status, said.reason) == ("False", "OldSettingsRunning")
    assert said.message.endswith("migrate or restart them to connect them anew: a/web.")
    assert settle(there)["SettingsInEffect"].status == "False", "it stays until something is done about it"

    migration = {"startTimestamp": "2027-01-01T00:00:00Z", "completed": True, "failed": True}
    there.change(VirtualMachineInstance, Key("a", "web"), status={"migrationState": migration})
    assert settle(there)["SettingsInEffect"].status == "False", "a failed migration moves nothing"
    there.change(VirtualMachineInstance, Key("a", "web"), status={"migrationState": {**migration, "failed": False}})
    assert settle(there)["SettingsInEffect"].status == "True"
    assert CHANGED not in definition(there)["metadata"]["annotations"]
    assert look(there).actions == ()


def test_a_definition_that_is_deleted_takes_along_what_vms_run_with() -> None:
    there = world(WEB, builders.instance("a/web", "red"))
    settle(there)
    there.change(api.Network, RED, spec={"bridge": {"vlan": 8}})
    there.now = Instant(1_767_400_000.0, 5_000.0)
    assert settle(there)["SettingsInEffect"].status == "False"
    there.remove(NetworkAttachmentDefinition, Key("a", "red"))
    said = settle(there)["SettingsInEffect"]
    assert (said.status, said.reason) == ("False", "OldSettingsRunning")
    assert "or its definition deleted" in said.message
    there.remove(VirtualMachineInstance, Key("a", "web"))
    assert settle(there)["SettingsInEffect"].status == "True"


def test_an_edit_without_running_vms_is_in_effect_at_once() -> None:
    there = world(WEB)
    settle(there)
    there.change(api.Network, RED, spec={"bridge": {"vlan": 8}})
    assert settle(there)["SettingsInEffect"].status == "True"
    assert CHANGED not in definition(there)["metadata"]["annotations"]


HOSTS: list[tuple[str, dict[str, Any], list[dict[str, Any]], tuple[str, str], str]] = [
    ("no agent reports bridges", {"bridge": BRIDGE}, [builders.node("h1")], ("True", "NotReported"), ""),
    (
        "the bridge is there",
        {"bridge": BRIDGE},
        [builders.node("h1"), builders.node("h2", "bridge.network.kubevirt.io/br10")],
        ("True", "Offered"),
        "bridge.network.kubevirt.io/br10",
    ),
    (
        "another bridge is there",
        {"bridge": BRIDGE},
        [builders.node("h1", "bridge.network.kubevirt.io/br11")],
        ("False", "NotOffered"),
        "bridge.network.kubevirt.io/br10",
    ),
    ("no virtual functions", {"sriov": {"resourceName": "intel.com/n"}}, [], ("False", "NotOffered"), "intel.com/n"),
    ("the pod network is everywhere", {"pod": {}}, [], ("True", "NotNeeded"), ""),
]


@pytest.mark.parametrize("reason, spec, nodes, want, resource", HOSTS, ids=[case[0] for case in HOSTS])
def test_where_the_switch_is(
    reason: str, spec: dict[str, Any], nodes: list[dict[str, Any]], want: tuple[str, str], resource: str
) -> None:
    there = world(WEB, *nodes, **spec)
    said = settle(there)["HostsReady"]
    assert (said.status, said.reason) == want
    if "pod" not in spec:
        assert definition(there)["metadata"]["annotations"].get(RESOURCE_NAME, "") == resource


def test_a_device_of_which_none_is_left_is_not_offered() -> None:
    there = world(WEB, bridge=BRIDGE)
    there.put({**builders.node("h1"), "status": {"allocatable": {"bridge.network.kubevirt.io/br10": "0"}}})
    assert settle(there)["HostsReady"].reason == "NotReported"


def test_an_agent_that_comes_and_goes_is_followed() -> None:
    there = world(WEB, builders.node("h1"))
    settle(there)
    there.put(builders.node("h1", "bridge.network.kubevirt.io/br10"))
    settle(there)
    assert RESOURCE_NAME in definition(there)["metadata"]["annotations"]
    there.put(builders.node("h1"))
    settle(there)
    assert RESOURCE_NAME not in definition(there)["metadata"]["annotations"]


def going(given: World) -> None:
    held = given.tree(api.Network, RED)
    held["metadata"]["deletionTimestamp"] = "2026-02-01T00:00:00Z"
    given.put(held)


def test_deletion_waits_for_those_who_use_it_and_names_them() -> None:
    there = world(*(builders.machine(f"a/vm{n:02}", networks=["red"]) for n in range(11)))
    settle(there)
    going(there)
    said = settle(there)["Deleting"]
    assert (said.status, said.reason) == ("True", "InUse")
    assert said.message.startswith("Waits for 11 VMs using the network: a/vm00, a/vm01,")
    assert "a/vm09 and 1 more. Delete them, or connect" in said.message
    assert definitions(there) == ["a/red"]
    for number in range(11):
        there.remove(api.VirtualMachine, Key("a", f"vm{number:02}"))
    assert settle(there)["Deleting"].reason == "Released"
    assert not there.has(api.Network, RED)
    assert definitions(there) == []


def test_deletion_waits_for_what_still_runs() -> None:
    there = world(WEB, builders.instance("a/web", "red"))
    settle(there)
    there.remove(api.VirtualMachine, Key("a", "web"))
    going(there)
    assert settle(there)["Deleting"].message == "Waits for VMs that are still running on it in namespaces a."


def test_a_vm_that_may_not_use_it_does_not_hold_it() -> None:
    there = world(WEB, bridge=BRIDGE, allowed="None")
    settle(there)
    assert "finalizers" not in there.tree(api.Network, RED)["metadata"]


def test_no_finalizer_is_added_while_it_is_being_deleted() -> None:
    there = world(WEB)
    going(there)
    held = there.tree(api.Network, RED)
    held["metadata"]["finalizers"] = ["example.com/other"]
    there.put(held)
    settle(there)
    assert there.tree(api.Network, RED)["metadata"]["finalizers"] == ["example.com/other"]


def test_other_finalizers_stay() -> None:
    there = world(WEB, bridge=BRIDGE)
    there.change(api.Network, RED, metadata={"finalizers": ["example.com/one"]})
    settle(there)
    assert there.tree(api.Network, RED)["metadata"]["finalizers"] == ["example.com/one", finalizers.IN_USE]
    there.change(api.Network, RED, metadata={"finalizers": ["x.y/a", finalizers.IN_USE, "x.y/b"]})
    there.remove(api.VirtualMachine, Key("a", "web"))
    settle(there)
    assert there.tree(api.Network, RED)["metadata"]["finalizers"] == ["x.y/a", "x.y/b"]


@pytest.mark.parametrize("kind", [Namespace, VirtualMachineInstance, api.VirtualMachine])
def test_nothing_is_let_go_while_it_is_not_known_who_uses_it(kind: type[Any]) -> None:
    there = world(WEB)
    settle(there)
    there.remove(api.VirtualMachine, Key("a", "web"))
    going(there)
    there.unavailable(kind, "it is forbidden")
    plan = look(there)
    assert plan.actions == ()
    said = {c.type: c for c in plan.conditions}
    assert said["AttachmentsReady"].status == "Unknown"
    assert said["Deleting"].message == "Waits until it is known who uses the network: it is forbidden."


def test_a_network_that_nobody_uses_is_not_held_on_a_cluster_without_kubevirt() -> None:
    there = world()
    there.unavailable(VirtualMachineInstance, "KubeVirt is not installed")
    assert look(there).actions == ()


def test_without_multus_it_says_what_to_install() -> None:
    there = world(WEB)
    there.unavailable(NetworkAttachmentDefinition, "the API k8s.cni.cncf.io/v1 is not installed")
    said = settle(there)["ProviderReady"]
    assert (said.status, said.reason) == ("False", "MultusMissing")
    assert "is not installed. Install Multus" in said.message
    assert definitions(there) == []
    there = world(WEB, pod={})
    there.unavailable(NetworkAttachmentDefinition, "not installed")
    assert settle(there)["ProviderReady"].status == "True"


def test_without_hosts_to_read_it_is_not_known_where_the_switch_is() -> None:
    there = world(WEB)
    there.unavailable(Node, "forbidden")
    assert settle(there)["HostsReady"].status == "Unknown"


def test_nothing_is_made_in_a_namespace_that_is_being_deleted() -> None:
    there = world(WEB)
    there.put(builders.namespace("a", deletionTimestamp="2026-02-01T00:00:00Z"))
    settle(there)
    assert definitions(there) == []


def test_what_is_being_deleted_is_left_alone() -> None:
    there = world(WEB)
    settle(there)
    there.change(
        NetworkAttachmentDefinition,
        Key("a", "red"),
        metadata={"deletionTimestamp": "2026-02-01T00:00:00Z", "labels": {"vdcos.dev/network": "x"}},
    )
    assert look(there).actions == ()
    there.remove(api.VirtualMachine, Key("a", "web"))
    assert not [action for action in look(there).actions if isinstance(action, Delete)]


class Choosy:
    """Serves all namespaces but one."""

    contract = 1

    def wire(self, request: Request) -> Wiring:
        return Wiring({"bridge": {}}, {"type": "choosy"} if request.namespace != "b" else {"type": ""})


def test_a_provider_may_fail_for_one_namespace_only() -> None:
    there = world(WEB, builders.machine("b/web", networks=["red"]), plugin={"provider": "choosy"})
    plan = there.settle(NetworkService({"choosy": Choosy()}), RED)
    said = {c.type: c for c in plan.conditions}
    assert said["ProviderReady"].status == "True"
    assert said["AttachmentsReady"].message.startswith("b: provider choosy answered nonsense")
    assert definitions(there) == ["a/red"]


def test_definitions_stay_when_their_provider_is_gone() -> None:
    there = world(WEB, plugin={"provider": "choosy"})
    there.settle(NetworkService({"choosy": Choosy()}), RED)
    before = definition(there)
    said = settle(there)
    assert said["ProviderReady"].reason == "ProviderMissing"
    assert definition(there) == before


def wakes(given: World, kind: type[Any], manifest: dict[str, Any]) -> set[str]:
    """The Networks that look again when an object changes."""
    service = NetworkService({})
    key = Key(manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"])
    given.put(manifest)
    held = given.held(kind, key)
    watches = [watch for watch in service.watches if watch.kind is kind]
    return {found.name for watch in watches for found in watch.keys(held, given.view(service))}


def test_who_is_woken() -> None:
    there = world(WEB, builders.network("blue", pod={}))
    settle(there)
    running = builders.instance("a/web", "red")
    assert wakes(there, api.VirtualMachine, builders.machine("b/x", networks=["red", "blue"])) == {"red", "blue"}
    assert wakes(there, VirtualMachineInstance, running) == set(), "the VM itself says it all"
    assert wakes(there, VirtualMachineInstance, builders.instance("b/x", "other")) == set()
    assert wakes(there, Namespace, builders.namespace("a", {"x": "y"})) == {"red"}
    assert wakes(there, Namespace, builders.namespace("c")) == set()
    assert wakes(there, Node, builders.node("h1")) == {"red", "blue"}
    assert wakes(there, NetworkAttachmentDefinition, builders.definition("c/red")) == {"red"}
    assert wakes(there, NetworkAttachmentDefinition, definition(there)) == {"red"}
    there.remove(api.VirtualMachine, Key("a", "web"))
    assert wakes(there, VirtualMachineInstance, running) == {"red"}, "it may be the last one"


def test_a_running_vm_wakes_networks_that_are_behind_or_forbidden() -> None:
    there = world(WEB, builders.instance("a/web", "red"))
    settle(there)
    there.change(api.Network, RED, spec={"bridge": {"vlan": 8}})
    there.now = Instant(1_767_400_000.0, 5_000.0)
    settle(there)
    assert wakes(there, VirtualMachineInstance, builders.instance("a/web", "red")) == {"red"}
    there = world(WEB, builders.instance("a/web", "red"))
    settle(there)
    there.change(api.Network, RED, spec={"allowedNamespaces": {"from": "None"}})
    assert wakes(there, VirtualMachineInstance, builders.instance("a/web", "red")) == {"red"}


def test_only_what_matters_of_a_change_wakes_anybody() -> None:
    there = world(WEB, builders.instance("a/web", "red"))
    sees = {watch.kind: watch.sees for watch in NetworkService({}).watches}
    of_machine, of_instance = sees[api.VirtualMachine], sees[VirtualMachineInstance]
    assert of_machine is not None
    assert of_instance is not None
    before = of_machine(there.held(api.VirtualMachine, Key("a", "web")))
    there.change(api.VirtualMachine, Key("a", "web"), status={"host": "h1"})
    assert of_machine(there.held(api.VirtualMachine, Key("a", "web"))) == before
    running = of_instance(there.held(VirtualMachineInstance, Key("a", "web")))
    there.change(VirtualMachineInstance, Key("a", "web"), status={"phase": "Failed"})
    assert of_instance(there.held(VirtualMachineInstance, Key("a", "web"))) == running


def test_it_is_held_first_and_let_go_last() -> None:
    """A crash between the two leaves a Network that is held, never definitions of one that is gone."""
    there = world(WEB)
    assert [type(action) for action in look(there).actions] == [Patch, Apply]
    settle(there)
    there.remove(api.VirtualMachine, Key("a", "web"))
    assert [type(action) for action in look(there).actions] == [Delete, Patch]


def test_the_first_and_the_last_vm_of_a_namespace_are_served_at_once_and_the_others_counted_in_time() -> None:
    there = world(WEB)
    service = NetworkService({})
    urgent = [watch for watch in service.watches if watch.kind is api.VirtualMachine and not watch.patience]
    first = there.held(api.VirtualMachine, Key("a", "web"))
    assert [list(watch.keys(first, there.view(service))) for watch in urgent] == [[RED]]
    there.put(builders.machine("a/db", networks=["red"]))
    assert [list(watch.keys(first, there.view(service))) for watch in urgent] == [[]]
    there.remove(api.VirtualMachine, Key("a", "web"))
    there.remove(api.VirtualMachine, Key("a", "db"))
    assert [list(watch.keys(first, there.view(service))) for watch in urgent] == [[RED]]


def test_what_ails_the_provider_is_said_once() -> None:
    said = settle(world(WEB, plugin={"provider": "acme"}))
    assert said["ProviderReady"].reason == "ProviderMissing"
    assert (said["AttachmentsReady"].status, said["AttachmentsReady"].reason) == ("False", "ProviderNotReady")
    assert "acme" not in said["AttachmentsReady"].message
