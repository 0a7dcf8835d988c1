"""Whatever is declared, in whatever combination: what is there is that, before and after it becomes something else."""

import math
import os
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vdcos.testing import builders, scenarios
from vdcos.testing.laws import Laws
from vdcos.testing.replica import Violation
from vdcos.testing.scenarios import NVME, VDCOS_VM, Create, Scenario, Together
from vdcos.testing.simulator import World
from vdcos.testing.trees import Tree

NETWORKS = (
    scenarios.LAN,
    scenarios.POD_NETWORK,
    scenarios.STORAGE,
    builders.network("switched", ovs={"name": "br1", "vlan": 3}),
    builders.network("overlay", ovn={"topology": "Layer2", "subnets": ["10.9.0.0/16"]}, mtu=1400),
    builders.network("direct", sriov={"resourceName": "vdcos.dev/vf", "trust": True}),
)
SILVER = builders.datastore("silver", volumeMode="Filesystem", accessMode="ReadWriteOnce")
TYPES = tuple(
    {"apiVersion": "instancetype.kubevirt.io/v1beta1", "kind": kind, "metadata": {"name": "small"}, "spec": {}}
    for kind in ("VirtualMachineClusterInstancetype", "VirtualMachineClusterPreference")
)


def some(required: Tree, **optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Tree]:
    """A dictionary with all that is required and any of what is optional."""
    fixed = {
        name: value if isinstance(value, st.SearchStrategy) else st.just(value) for name, value in required.items()
    }
    return st.fixed_dictionaries(fixed, optional=optional)


def one_of(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


def named(strategy: st.SearchStrategy[Tree], most: int, prefix: str) -> st.SearchStrategy[list[Tree]]:
    """A list whose items have names."""
    return st.lists(strategy, max_size=most).map(
        lambda items: [{"name": f"{prefix}{number}", **item} for number, item in enumerate(items)]
    )


def of_one_pod_network(nics: list[Tree]) -> list[Tree]:
    pods = [nic for nic in nics if nic["network"] == "internet"]
    return [nic for nic in nics if nic not in pods[1:]]


MAC = st.integers(0, 255).map(lambda n: f"0A:00:00:00:00:{n:02X}")
CPU = some(
    {},
    sockets=st.integers(1, 3),
    cores=st.integers(1, 3),
    threads=one_of(1, 2),
    model=one_of("host-model", "Skylake-Server"),
    dedicated=st.booleans(),
)
HARDWARE = st.one_of(
    some({"cpu": CPU, "memory": some({"size": one_of("1Gi", "2Gi")}, hugepages=one_of("2Mi", "1Gi"))}),
    some({"cpu": CPU, "memory": {"size": "2Gi"}}, reservations=some({"memory": "1Gi"}, cpu=one_of("1", "500m"))),
    some({"instancetype": {"name": "small"}}, preference=st.just({"name": "small"})),
)
DISKS = named(
    some(
        {"size": one_of("1Gi", "3Gi"), "datastore": one_of("gold", "silver")},
        bus=one_of("virtio", "scsi", "sata", "usb"),
        deletionPolicy=one_of("Retain", "Delete"),
        source=one_of(
            {"blank": {}},
            {"image": {"reference": "quay.io/disks/a:1", "caConfigMapName": "ca"}},
            {"http": {"url": "https://example.org/a.img", "checksum": f"md5:{'0' * 32}", "secretName": "keys"}},
        ),
    ),
    3,
    "disk",
).flatmap(
    lambda disks: st.permutations(range(1, len(disks) + 1)).map(
        lambda order: [{**disk, "bootOrder": place} for disk, place in zip(disks, order, strict=True)]
    )
)
NICS = named(
    some(
        {"network": one_of(*(network["metadata"]["name"] for network in NETWORKS))},
        model=one_of("virtio", "e1000e"),
        macAddress=MAC,
    ),
    4,
    "nic",
).map(of_one_pod_network)
CLOUD_INIT = st.one_of(
    some({"userData": "#cloud-config\n"}, type=one_of("NoCloud", "ConfigDrive"), networkData=st.just("version: 2")),
    some({"userDataSecretName": "keys"}, networkDataSecretName=st.just("nets")),
    some({"networkData": "version: 2"}, type=one_of("NoCloud", "ConfigDrive")),
)
KEYS = st.just(["ssh-ed25519 AAAA me: laptop", 'ssh-rsa AAAA "quoted"'])
GUEST = st.one_of(
    some({}, hostname=one_of("a", "b"), sshAuthorizedKeys=KEYS, sshKeySecretNames=st.just(["keys"])),
    some({"cloudInit": CLOUD_INIT}, hostname=one_of("a", "b"), sshKeySecretNames=st.just(["keys", "nets"])),
    some({"sysprep": one_of({"secretName": "keys"}, {"configMapName": "ca"})}, hostname=one_of("a", "b")),
)
IDENTITY = {"uuid": one_of("5D307CA9-B3EF-428C-8861-06E72D69F223"), "serial": one_of("A-1")}
FIRMWARE = st.one_of(
    some({}, tpm=one_of("Ephemeral", "Persistent"), bootloader=one_of("BIOS"), **IDENTITY),
    some({"bootloader": "UEFI"}, secureBoot=st.booleans(), tpm=one_of("Ephemeral", "Persistent"), **IDENTITY),
)
RULE = st.one_of(
    some({"type": one_of("Together", "Apart"), "names": ["db", "cache"]}, strength=one_of("Must", "Should")),
    some(
        {"type": one_of("Together", "Apart"), "matchLabels": {"app": "shop"}},
        topologyKey=one_of("zone", "kubernetes.io/hostname"),
    ),
)
TAINT = some({"key": one_of("a", "b"), "effect": "NoExecute"}, value=one_of("x"), tolerationSeconds=one_of(0, 30))
PLACEMENT = some(
    {},
    nodeSelector=one_of({"pool": "all"}, {}),
    affinity=named(RULE, 3, "rule"),
    tolerations=st.lists(TAINT, max_size=2, unique_by=lambda taint: (taint["key"], taint.get("value"))),
)
DEVICES = named(some({"resourceName": NVME}, type=one_of("HostDevice", "GPU")), 2, "device")
SPEC = st.tuples(
    HARDWARE,
    some(
        {},
        powerState=one_of("PoweredOn", "PoweredOff"),
        onGuestShutdown=one_of("Restart", "StayOff"),
        nics=NICS,
        guest=GUEST,
        firmware=FIRMWARE,
        placement=PLACEMENT,
        devices=DEVICES,
    ),
).map(lambda parts: {**parts[0], **parts[1]})
LABELS = one_of({}, {"app": "shop"}, {"app": "shop", "kubevirt.io/size": "big"})


def become(spec: Tree) -> Any:
    """Somebody declares something else altogether."""

    def step(world: World) -> None:
        [live] = world.api.all(VDCOS_VM)
        world.api.replace(VDCOS_VM, live.key, {**live.tree, "spec": spec}, "user")

    return step


@given(labels=LABELS, disks=DISKS, before=SPEC, after=SPEC)
@settings(
    max_examples=int(os.environ.get("VDCOS_DECLARED", "60")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
def test_what_is_there_is_what_is_declared(labels: Tree, disks: list[Tree], before: Tree, after: Tree) -> None:
    machine = builders.machine("shop/web")
    machine["metadata"]["labels"] = labels
    given_to_guests = tuple(
        Create({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "shop"}})
        for kind, name in (("Secret", "keys"), ("Secret", "nets"), ("ConfigMap", "ca"))
    )
    first = Create({**machine, "spec": {**before, "disks": disks}})
    steps = (Together((scenarios.PERMITTED, *given_to_guests)), first, become({**after, "disks": disks}))
    laws = Laws()
    world = Scenario("any", steps, {}, (scenarios.GOLD, SILVER, *NETWORKS, *TYPES)).world(laws=laws)
    try:
        while world.done < len(steps) or world.next()[0] < math.inf:
            if world.next()[0] == math.inf:
                laws.at_rest(world)
            world.step()
        laws.at_rest(world)
    except Violation as violation:
        raise AssertionError(str(violation)) from None
    [held] = world.api.all(VDCOS_VM)
    applied = next(c for c in held.tree["status"]["conditions"] if c["type"] == "Applied")
    assert applied["status"] == "True", applied
