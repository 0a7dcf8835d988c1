"""Status, tree and why, as people see them."""

import textwrap
from datetime import UTC, datetime

import pytest

from tests.unit.cli.vdc import shop as s
from vdcos.cli.vdc import objects as o
from vdcos.cli.vdc import status, tree, why
from vdcos.cli.vdc.objects import Objects
from vdcos.core.objects import Resource

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)

NO_ROOM = "disk data: Datastore gold has not the needed 800Gi left of its 2Ti"
FULL_VM = s.vm(
    "db-1",
    ("Ready", "False", "DatastoreFull", NO_ROOM),
    ("StorageReady", "False", "DatastoreFull", NO_ROOM),
    spec={"disks": [{"name": "data", "size": "800Gi", "datastore": "gold"}], "nics": []},
    powerState="PoweredOff",
    disks=[{"name": "data", "phase": "Pending", "reason": "DatastoreFull", "message": "no room for 800Gi"}],
)
FULL_STORE = s.own(
    "Datastore",
    "gold",
    {"storageClassName": "block-rwx", "capacity": "2Ti", "allowedNamespaces": {"from": "All"}},
    s.WELL,
    ("AcceptsDisks", "False", "Full", "2Ti of 2Ti are promised"),
    provisioned="2Ti",
    disks=31,
    retained={"count": 2},
)
PROOF = "no provider can tell whether host-2 is down: see that it has no power, then confirm it"
FAILURE = s.own(
    "HostFailure",
    "host-2-ab12",
    {"host": "host-2", "policy": "default"},
    ("Ready", "False", "NoProof", PROOF),
    ("Fenced", "False", "NoProof", PROOF),
    phase="Fencing",
    vms={"total": 2, "held": 1, "starting": 1},
    machines=[{"namespace": "shop", "name": "vault", "state": "Held"}],
)
DOWN = s.host(
    "host-2",
    ("Ready", "False", "Fencing", "it is to be proved down; see kubectl describe hostfailure host-2-ab12"),
    state="Fencing",
    failure="host-2-ab12",
)
TURN = "VMs that restart before it are not up yet"
HELD = s.vm(
    "vault",
    ("Ready", "False", "HeldForRestart", TURN),
    ("PowerStateSynced", "False", "HeldForRestart", TURN),
    ("RestartRequired", "True", "RestartRequired", "takes effect at the next start: spec.cpu.cores"),
    powerState="PoweredOff",
)


def seen(text: str) -> str:
    return textwrap.dedent(text).lstrip("\n")


def screen_of(found: Objects, namespace: str = "") -> str:
    said = status.status(found, namespace)
    return s.drawn(lambda screen: status.show(said, screen))


def why_of(found: Objects, resource: Resource, name: str) -> str:
    tree_of = found.get(resource, name, "shop")
    assert tree_of is not None
    said = why.why(found, tree_of)
    return s.drawn(lambda screen: why.show(said, screen, NOW))


def test_a_datacenter_that_is_well() -> None:
    assert screen_of(s.datacenter()) == seen(
        """
        Hosts  2: 2 Connected
        VMs    1: 1 PoweredOn; 1 ready
        HA     policy default; 4 of 4 VMs would restart if its host died; 64 CPU and 256Gi promised, all of
        it free

        HOST    STATE      POLICY   VMS  CPU       MEMORY         IF IT DIED
        host-1  Connected  default  2    12 of 64  41Gi of 256Gi  all restart
        host-2  Connected  default  2    12 of 64  41Gi of 256Gi  all restart

        DATASTORE  READY  DISKS  RETAINED  PROVISIONED
        gold       yes    31     2         1.5Ti of 2Ti

        NETWORK  READY  VMS  NAMESPACES  PROVIDER
        front    yes    4    1           bridge

        All is well.
        """
    )


def test_a_datacenter_that_is_not() -> None:
    assert screen_of(s.datacenter(FULL_VM, FULL_STORE, DOWN, FAILURE, HELD)) == seen(
        """
        Hosts  2: 1 Connected, 1 Fencing
        VMs    3: 2 PoweredOff, 1 PoweredOn; 1 ready
        HA     policy default; 4 of 4 VMs would restart if its host died; 64 CPU and 256Gi promised, all of
        it free

        HOST    STATE      POLICY   VMS  CPU       MEMORY         IF IT DIED
        host-1  Connected  default  2    12 of 64  41Gi of 256Gi  all restart
        host-2  Fencing    default  2    12 of 64  41Gi of 256Gi  -

        FAILURE      HOST    PHASE    VMS  RUN AGAIN  HELD  FAILED  REASON
        host-2-ab12  host-2  Fencing  2    0          1     0       NoProof

        DATASTORE  READY  DISKS  RETAINED  PROVISIONED
        gold       yes    31     2         2Ti of 2Ti

        NETWORK  READY  VMS  NAMESPACES  PROVIDER
        front    yes    4    1           bridge

        NOT WELL (5)
          hostfailure host-2-ab12  Ready: NoProof
            no provider can tell whether host-2 is down: see that it has no power, then confirm it
            next: see that it has no power; then set spec.confirmedDown
          host host-2  Ready: Fencing
            it is to be proved down; see kubectl describe hostfailure host-2-ab12
          vm shop/db-1  Ready: DatastoreFull
            disk data: Datastore gold has not the needed 800Gi left of its 2Ti
            next: delete disks that nobody needs, or raise spec.capacity of the Datastore
          vm shop/vault  Ready: HeldForRestart
            VMs that restart before it are not up yet
          datastore gold  AcceptsDisks: Full
            2Ti of 2Ti are promised
            next: delete disks that nobody needs (status.retained), or raise spec.capacity

        More about the first: kubectl vdc why hostfailure/host-2-ab12
        """
    )


def test_only_a_namespaces_vms_are_counted_when_one_is_named() -> None:
    other = {**FULL_VM, "metadata": {**FULL_VM["metadata"], "namespace": "other"}}
    assert "VMs    1: 1 PoweredOn; 1 ready\n" in screen_of(s.datacenter(other), "shop")
    assert "VMs    2: " in screen_of(s.datacenter(other))


def test_without_a_policy_it_says_what_that_means() -> None:
    found = s.datacenter()
    del found.shelves[o.POLICY]
    assert "HA     no HAPolicy: if a host dies, its VMs stay down\n" in screen_of(found)


def test_what_may_not_be_read_is_named_and_the_rest_shown() -> None:
    found = s.datacenter()
    for resource in (o.HOST, o.POLICY, o.DATASTORE, o.NETWORK):
        found.shelves[resource] = {}
        found.missing[resource] = o.lacking(o.Wanted(resource), 403)
    text = screen_of(found)
    assert text.startswith("VMs    1: 1 PoweredOn; 1 ready\n")
    assert "not shown  hosts.vdcos.dev: you have no right to list them; an administrator can bind" in text
    assert "All that is shown is well.\n" in text


def test_a_datacenter_with_more_troubles_than_a_screen_shows_the_first() -> None:
    many = [{**FULL_VM, "metadata": {**FULL_VM["metadata"], "name": f"vm-{n:02}"}} for n in range(20)]
    text = screen_of(s.datacenter(*many))
    assert "NOT WELL (20)" in text
    assert text.count("next: ") == status.MOST
    assert "... and 5 more: -o json has all of them" in text


def test_an_object_that_no_operator_has_seen() -> None:
    new = {**s.WEB, "status": {}}
    assert "Ready: NotEvaluated" in screen_of(s.datacenter(new))


def test_a_vm_down_to_its_host() -> None:
    found = s.datacenter(FULL_VM)
    vms = [tree.tree(found, each) for each in (s.WEB, FULL_VM)]
    assert s.drawn(lambda screen: tree.show(vms, [], screen)) == seen(
        """
        VirtualMachine shop/web-1  Ready, PoweredOn
        ├─ KubeVirt VM web-1  Always, Running
        │  └─ instance web-1  Running on host-1
        │     ├─ pod virt-launcher-web-1-abcde  Running 1/1 on host-1
        │     └─ host host-1  Connected, policy default
        ├─ disk system  20Gi on gold, Ready
        │  ├─ DataVolume web-1-system-90824d74  Succeeded
        │  └─ claim web-1-system-90824d74  Bound 20Gi block-rwx RWX
        │     └─ volume pvc-web-1
        └─ NIC front  Network front  02:00:5e:00:01:01  10.110.0.11

        VirtualMachine shop/db-1  not ready: DatastoreFull, PoweredOff
        ├─ no KubeVirt VM yet
        └─ disk data  800Gi on gold, Pending DatastoreFull
           ├─ no room for 800Gi
           └─ no DataVolume and no claim yet
        """
    )


def test_a_namesake_and_a_pod_that_does_not_start_are_told() -> None:
    child, instance, pod, *_ = s.running("web-1", "host-1")
    child["metadata"]["ownerReferences"] = []
    pod["status"] = {
        "phase": "Pending",
        "containerStatuses": [
            {"name": "compute", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}}
        ],
    }
    found = s.datacenter(child, instance, pod)
    text = s.drawn(lambda screen: tree.show([tree.tree(found, s.WEB)], [], screen))
    assert "KubeVirt VM web-1  Always, Running  not managed by this object" in text
    assert "pod virt-launcher-web-1-abcde  Pending 0/1 on host-1\n│     │  └─ ImagePullBackOff: no\n" in text


def test_why_a_vm_has_no_disk() -> None:
    assert why_of(s.datacenter(FULL_VM, FULL_STORE), o.VM, "db-1") == seen(
        """
        VirtualMachine shop/db-1 is not well: its Datastore has promised all that it may.

        StorageReady: DatastoreFull  for 60m
        ├─ disk data: Datastore gold has not the needed 800Gi left of its 2Ti
        └─ Datastore gold  AcceptsDisks: Full  for 60m
           ├─ it has promised all that it may
           └─ 2Ti of 2Ti are promised

        Next:
          1. delete disks that nobody needs (status.retained), or raise spec.capacity
        """
    )


def test_why_a_vm_does_not_restart_leads_to_who_has_to_act() -> None:
    assert why_of(s.datacenter(DOWN, FAILURE, HELD), o.VM, "vault") == seen(
        """
        VirtualMachine shop/vault is not well: its host has failed, and VMs that restart before it are not
        up yet.

        PowerStateSynced: HeldForRestart  for 60m
        ├─ VMs that restart before it are not up yet
        └─ HostFailure host-2-ab12  Fenced: NoProof  for 60m
           ├─ nothing can power the host off
           └─ no provider can tell whether host-2 is down: see that it has no power, then confirm it

        Worth knowing:
          RestartRequired  takes effect at the next start: spec.cpu.cores

        Next:
          1. see that it has no power; then set spec.confirmedDown
        """
    )


def test_why_a_host_is_not_used() -> None:
    assert why_of(s.datacenter(DOWN, FAILURE), o.HOST, "host-2") == seen(
        """
        Host host-2 is not well: it is to be proved down.

        Ready: Fencing  for 60m
        ├─ it is to be proved down; see kubectl describe hostfailure host-2-ab12
        └─ HostFailure host-2-ab12  Fenced: NoProof  for 60m
           ├─ nothing can power the host off
           └─ no provider can tell whether host-2 is down: see that it has no power, then confirm it

        Next:
          1. see that it has no power; then set spec.confirmedDown
        """
    )


def test_whom_a_datastore_matters_to() -> None:
    text = why_of(s.datacenter(FULL_VM, FULL_STORE, HELD), o.DATASTORE, "gold")
    assert "VMs that this matters to (1):\n  kubectl vdc why vm/db-1 -n shop\n" in text


def test_why_a_vm_that_is_well() -> None:
    assert why_of(s.datacenter(), o.VM, "web-1") == "VirtualMachine shop/web-1 is well.\n"


def test_what_passes_by_itself_says_so() -> None:
    copying = s.vm("new", ("Ready", "False", "Creating", "it is being created"))
    text = why_of(s.datacenter(copying), o.VM, "new")
    assert text.endswith("Next: nothing; it passes by itself. If it does not, this says more later.\n")


def test_kubevirts_own_words_are_behind_its_reasons() -> None:
    child, instance, pod, volume, claim = s.running("slow", "host-1")
    child["status"]["conditions"] = s.told(("Failure", "True", "FailedCreate", "exceeded quota: cpu"))
    instance["status"]["conditions"] = s.told(("Synchronized", "False", "FailedScheduling", "no such device"))
    pod["status"] = {
        "phase": "Pending",
        "conditions": s.told(("PodScheduled", "False", "Unschedulable", "0/2 nodes fit")),
    }
    claim["status"] = {"phase": "Pending"}
    volume["status"] = {
        "phase": "ImportInProgress",
        "conditions": s.told(("Running", "False", "Error", "404 not found")),
    }
    slow = s.vm("slow", ("Ready", "False", "PoweringOn", "m"), ("PowerStateSynced", "False", "PoweringOn", "m"))
    text = why_of(s.datacenter(slow, child, instance, pod, volume, claim), o.VM, "slow")
    assert "├─ KubeVirt VM slow  Failure: FailedCreate\n│  └─ exceeded quota: cpu\n" in text
    assert "├─ instance slow  Synchronized: FailedScheduling\n│  └─ no such device\n" in text
    assert "├─ pod virt-launcher-slow-abcde  Pending\n│  └─ 0/2 nodes fit\n" in text
    assert "├─ DataVolume slow-system-" in text
    assert "404 not found" in text
    assert "└─ claim slow-system-" in text


def test_what_is_named_and_does_not_exist_or_may_not_be_read_ends_a_chain() -> None:
    held = s.vm("vm", ("Ready", "False", "HostNotResponding", "m"), host="host-9")
    found = s.datacenter(held)
    assert "└─ Host host-9  does not exist\n" in why_of(found, o.VM, "vm")
    found.missing[o.HOST] = "hosts.vdcos.dev: you have no right to list them"
    assert "└─ Host  cannot be read\n   └─ hosts.vdcos.dev: you have no right" in why_of(found, o.VM, "vm")


def test_a_chain_ends_where_it_began() -> None:
    """A Host leads to its failure, and that to its policy; nothing is told twice."""
    paused = s.own(
        "HAPolicy", "default", {"paused": {"reason": "works"}}, s.WELL, ("Active", "False", "Paused", "works")
    )
    waits = s.own(
        "HostFailure", "f", {"host": "host-2", "policy": "default"}, ("Ready", "False", "Paused", "m"), phase="Held"
    )
    down = s.host("host-2", ("Ready", "False", "Suspect", "m"), state="Suspect", failure="f")
    text = why_of(s.datacenter(paused, waits, down), o.HOST, "host-2")
    assert [text.count(word) for word in ("HostFailure f", "HAPolicy default")] == [1, 1]
    assert "1. remove spec.paused when the work is over" in text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("vm/web-1", (o.VM, "", "web-1")),
        ("vm/shop/web-1", (o.VM, "shop", "web-1")),
        ("vdcds/gold", (o.DATASTORE, "", "gold")),
        ("Networks/front", (o.NETWORK, "", "front")),
        ("hostfailure/host-1.example.org-ab", (o.FAILURE, "", "host-1.example.org-ab")),
    ],
)
def test_how_objects_are_named(text: str, found: tuple[Resource, str, str]) -> None:
    assert why.parse_reference(text) == found


@pytest.mark.parametrize("text", ["web-1", "pod/web-1", "vm/", "host/ns/name", "/web-1", ""])
def test_what_is_no_name_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="vm, network, datastore, host, hapolicy, hostfailure"):
        why.parse_reference(text)


def test_data_have_what_the_screen_has() -> None:
    found = s.datacenter(FULL_VM, FULL_STORE, DOWN, FAILURE, HELD)
    said = status.status(found)
    assert said["virtualMachines"] == {
        "count": 3,
        "byState": {"PoweredOff": 2, "PoweredOn": 1},
        "ready": 1,
        "restartRequired": 0,
    }
    assert [(each["kind"], each["reason"]) for each in said["notWell"]][:2] == [
        ("HostFailure", "NoProof"),
        ("Host", "Fencing"),
    ]
    chain = why.why(found, FULL_VM)["causes"][0]
    assert chain["behind"][0]["what"] == "Datastore gold"
    assert tree.tree(found, s.WEB)["disks"][0]["claim"]["volume"] == "pvc-web-1"
