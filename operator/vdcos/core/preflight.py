"""Pre-flight: what vdcos builds on, whether the cluster has it, and what it costs where it does not."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from vdcos.core import counts, kinds
from vdcos.core.conditions import Condition, Status
from vdcos.core.foreign.cdi import Cdi, StorageProfile
from vdcos.core.foreign.kubernetes import StorageClass
from vdcos.core.foreign.kubevirt import KubeVirt
from vdcos.core.foreign.medik8s import FenceAgentsRemediationTemplate
from vdcos.core.foreign.multus import NetworkAttachmentDefinition
from vdcos.core.foreign.nmstate import NodeNetworkConfigurationPolicy
from vdcos.core.foreign.snapshots import VolumeSnapshotClass
from vdcos.core.objects import Key, Unreadable

State = Literal["OK", "Limited", "Missing", "Unknown"]

Read = Callable[[type[Any]], Mapping[Key, Any] | Unreadable]
"""All objects of a kind, or why they cannot be read."""

KUBEVIRT_KNOWN = (1, 8), (1, 9)
"""The oldest and the newest version of KubeVirt whose ways are known; the first is the one of the tests. Others are not
refused: what they lack shows where it is used."""

KINDS: tuple[type[Any], ...] = (
    KubeVirt,
    Cdi,
    StorageProfile,
    StorageClass,
    VolumeSnapshotClass,
    NetworkAttachmentDefinition,
    NodeNetworkConfigurationPolicy,
    FenceAgentsRemediationTemplate,
)
"""What is read for it."""

_VM, _NETWORK, _DATASTORE, _FAILURE = (
    kinds.VIRTUAL_MACHINE.kind,
    kinds.NETWORK.kind,
    kinds.DATASTORE.kind,
    kinds.HOST_FAILURE.kind,
)
EVERYTHING = (_VM, _NETWORK, _DATASTORE, kinds.HOST.kind, kinds.HA_POLICY.kind, _FAILURE)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that vdcos builds on. ``name`` is a label of metrics: there are few, and none comes from the cluster.

    ``cost`` says what does not work, and ``remedy`` what to do; both are "" when nothing is lost. ``limits`` are the
    kinds of ours that are off or limited. Without what is ``required`` no VM can run.
    """

    name: str
    state: State
    found: str
    cost: str = ""
    remedy: str = ""
    limits: tuple[str, ...] = ()
    required: bool = False

    @property
    def ok(self) -> bool:
        return self.state == "OK"

    def condition(self) -> Condition:
        """The same as a condition: True when nothing is lost, and its reason is the state."""
        status: Status = "True" if self.ok else "Unknown" if self.state == "Unknown" else "False"
        more = [text[:1].upper() + text[1:] for text in (self.cost, self.remedy) if text]
        return Condition(self.name, status, self.state, ". ".join([self.found, *more]))


def look(read: Read) -> list[Check]:
    """All checks that can be made by looking at objects, what is required first."""
    return [check(read) for check in CHECKS]


def kubevirt(read: Read) -> Check:
    """There is a hypervisor, deployed, of a version that is known."""
    check = Check("KubeVirt", "OK", "", limits=EVERYTHING, required=True)
    found, cost = _installation(read), "there is no hypervisor: no VM can run"
    if isinstance(found, Unreadable):
        return _absent(check, found, cost, "install KubeVirt")
    if found is None:
        words = "there is no KubeVirt object"
        return replace(check, state="Missing", found=words, cost=cost, remedy="create one, which deploys KubeVirt")
    version, phase = found.status.observed_kube_virt_version, found.status.phase
    if not version:
        return replace(check, state="Missing", found=f"it is {phase or 'not deployed'}", cost=cost, remedy=_DEPLOYMENT)
    oldest, newest = KUBEVIRT_KNOWN
    if found.version is not None and found.version < oldest:
        cost = "what it lacks is refused by its API, and the conditions of the objects concerned say so"
        remedy = f"upgrade to {_dotted(oldest)} or newer, which vdcos is tested with"
        return replace(check, state="Limited", found=version, cost=cost, remedy=remedy)
    if phase != "Deployed":
        cost = "it is being changed, or fails to be: VMs go on, and changes to them may have to wait"
        return replace(check, state="Limited", found=f"{version}, {phase}", cost=cost, remedy=_DEPLOYMENT)
    newer = found.version is not None and found.version > newest
    return replace(check, found=f"{version}, newer than this vdcos knows" if newer else version, limits=())


def live_update(read: Read) -> Check:
    """Changes of a running VM are made while it runs."""
    found = _installation(read)
    check = Check("LiveUpdate", "OK", "vmRolloutStrategy is LiveUpdate", limits=(_VM,))
    if not isinstance(found, KubeVirt):
        return _unknown(check)
    strategy = found.spec.configuration.vm_rollout_strategy
    if strategy == "LiveUpdate":
        return replace(check, limits=())
    return replace(
        check,
        state="Limited",
        found=f"vmRolloutStrategy is {strategy}",
        cost="CPUs, memory, disks and NICs that are added to a running VM wait for its next restart",
        remedy="set spec.configuration.vmRolloutStrategy: LiveUpdate in the KubeVirt object",
    )


def workload_updates(read: Read) -> Check:
    """KubeVirt migrates VMs where a change needs that."""
    found = _installation(read)
    check = Check("WorkloadUpdates", "OK", "KubeVirt migrates VMs to update them", limits=(_VM,))
    if not isinstance(found, KubeVirt):
        return _unknown(check)
    if found.migrates_to_update:
        return replace(check, limits=())
    methods = ", ".join(found.spec.workload_update_strategy.workload_update_methods) or "none"
    return replace(
        check,
        state="Limited",
        found=f"workloadUpdateMethods: {methods}",
        cost="CPUs, memory and NICs that are added to a running VM wait until somebody migrates it",
        remedy="set spec.workloadUpdateStrategy.workloadUpdateMethods: [LiveMigrate] in the KubeVirt object",
    )


def expand_disks(read: Read) -> Check:
    """A running guest sees that its disk has grown."""
    return _gate(read, "ExpandDisks", "a guest sees that its disk has grown only after a restart of its VM")


def hotplug_disks(read: Read) -> Check:
    """Disks are added to a VM that runs."""
    cost = "a disk that is added to a running VM waits for its next restart"
    check = _gate(read, "DeclarativeHotplugVolumes", cost)
    found = _installation(read)
    if not check.ok or not isinstance(found, KubeVirt) or not found.gate("HotplugVolumes"):
        return check
    remedy = f"remove HotplugVolumes from {_GATES}: it takes precedence"
    words = "feature gate HotplugVolumes is on, too"
    return replace(check, state="Limited", found=words, cost=cost, remedy=remedy, limits=(_VM,))


def host_devices(read: Read) -> Check:
    """Devices of hosts are handed to VMs."""
    return _gate(read, "HostDevices", "devices of type HostDevice are not handed to VMs")


def migration_network(read: Read) -> Check:
    """Migrations have a network of their own, and it is there."""
    found = _installation(read)
    check = Check("MigrationNetwork", "OK", "", limits=(_VM,))
    if not isinstance(found, KubeVirt):
        return _unknown(check)
    name = found.spec.configuration.migrations.network
    if not name:
        return replace(
            check,
            state="Limited",
            found="none",
            cost="live migrations take their bandwidth from the pod network",
            remedy="name a NetworkAttachmentDefinition in spec.configuration.migrations.network of the KubeVirt object",
        )
    definitions, key = read(NetworkAttachmentDefinition), Key(found.metadata.namespace, name)
    if isinstance(definitions, Unreadable) or key not in definitions:
        return replace(
            check,
            state="Missing",
            found=f"NetworkAttachmentDefinition {key} does not exist",
            cost="virt-handler does not start again on hosts where it stops, and VMs cannot migrate",
            remedy="create it, or take it out of spec.configuration.migrations.network of the KubeVirt object",
        )
    return replace(check, found=str(key), limits=())


def cdi(read: Read) -> Check:
    """Disks can be imported, cloned and made; what is downloaded is checked."""
    check = Check("CDI", "OK", "", limits=(_VM, _DATASTORE), required=True)
    profiles, installations = read(StorageProfile), read(Cdi)
    if isinstance(profiles, Unreadable):
        return _absent(check, profiles, "no disk can be imported, cloned or made", "install CDI")
    versions: list[Cdi] = [] if isinstance(installations, Unreadable) else list(installations.values())
    said = next((each for each in versions if each.status.observed_version), None)
    if said is None:
        return replace(check, found="its version is not said; it counts as new", limits=())
    if not said.checks_sums:
        cost = "checksums of HTTP sources are not verified"
        return replace(
            check, state="Limited", found=said.status.observed_version, cost=cost, remedy="upgrade to 1.65 or newer"
        )
    return replace(check, found=said.status.observed_version, limits=())


def storage_classes(read: Read) -> Check:
    """There is storage to make disks from."""
    check = Check("StorageClasses", "OK", "", limits=(_VM, _DATASTORE), required=True)
    cost, remedy = "no Datastore can be made, and no disk", "install a CSI driver and make a StorageClass of it"
    return _some(check, read(StorageClass), cost, remedy)


def snapshot_classes(read: Read) -> Check:
    """Storage takes snapshots."""
    check = Check("SnapshotClasses", "OK", "", limits=(_VM, _DATASTORE))
    cost = "disks are cloned by copying every byte, and cannot be made from snapshots"
    remedy = "install the CSI snapshotter and a VolumeSnapshotClass of a driver that can"
    return _some(check, read(VolumeSnapshotClass), cost, remedy)


def multus(read: Read) -> Check:
    """VMs have networks beside the pod network."""
    check = Check("Multus", "OK", "NetworkAttachmentDefinitions are served", limits=(_NETWORK, _VM))
    cost = "only Networks of kind pod work"
    return _served(check, read(NetworkAttachmentDefinition), cost, "install Multus")


def nmstate(read: Read) -> Check:
    """Hosts' bridges and uplinks can be configured from here."""
    check = Check("Nmstate", "OK", "NodeNetworkConfigurationPolicies are served", limits=(_NETWORK,))
    cost = "spec.uplink of a Network does nothing: bridges must be made on the hosts by other means"
    return _served(check, read(NodeNetworkConfigurationPolicy), cost, "install kubernetes-nmstate")


def fence_agents(read: Read) -> Check:
    """Hosts can be fenced by medik8s."""
    check = Check("FenceAgentsRemediation", "OK", "its templates are served", limits=(_FAILURE,))
    cost = "hosts cannot be fenced by Fence Agents Remediation; Redfish, IPMI and fence agents need none of it"
    return _served(check, read(FenceAgentsRemediationTemplate), cost, "install it if an HAPolicy is to use it")


CHECKS: Sequence[Callable[[Read], Check]] = (
    kubevirt,
    cdi,
    storage_classes,
    live_update,
    workload_updates,
    hotplug_disks,
    expand_disks,
    host_devices,
    migration_network,
    snapshot_classes,
    multus,
    nmstate,
    fence_agents,
)

_GATES = "spec.configuration.developerConfiguration.featureGates of the KubeVirt object"
_DEPLOYMENT = "see kubectl get kubevirt -A, and the log of virt-operator"
_NAMED = 3


def _installation(read: Read) -> KubeVirt | Unreadable | None:
    """There is one, or none."""
    found = read(KubeVirt)
    return found if isinstance(found, Unreadable) else next(iter(found.values()), None)


def _gate(read: Read, name: str, cost: str) -> Check:
    found = _installation(read)
    check = Check(name, "OK", f"feature gate {name} is on", limits=(_VM,))
    if not isinstance(found, KubeVirt):
        return _unknown(check)
    if found.gate(name):
        return replace(check, limits=())
    words = f"feature gate {name} is off"
    return replace(check, state="Limited", found=words, cost=cost, remedy=f"add {name} to {_GATES}")


def _unknown(check: Check) -> Check:
    return replace(check, state="Unknown", found="KubeVirt cannot be asked")


def _absent(check: Check, found: Unreadable, cost: str, remedy: str) -> Check:
    """A kind that cannot be read: it is not there, or nobody may know."""
    if found.forbidden:
        return replace(check, state="Unknown", found=found.why, remedy="look as somebody who may read it")
    return replace(check, state="Missing", found="not installed", cost=cost, remedy=remedy)


def _served(check: Check, found: Mapping[Key, Any] | Unreadable, cost: str, remedy: str) -> Check:
    return _absent(check, found, cost, remedy) if isinstance(found, Unreadable) else replace(check, limits=())


def _some(check: Check, found: Mapping[Key, Any] | Unreadable, cost: str, remedy: str) -> Check:
    if isinstance(found, Unreadable):
        return _absent(check, found, cost, remedy)
    if not found:
        return replace(check, state="Missing", found="there is none", cost=cost, remedy=remedy)
    return replace(check, found=listed(sorted(key.name for key in found)), limits=())


def listed(names: Collection[str]) -> str:
    """The first few names, as they fit into a line of a table, and how many more there are."""
    return counts.listed(len(names), names, _NAMED)


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
