"""Where the VM is placed, what its guest was given, and what the guest reports."""

from datetime import datetime

from vdcos.core import conditions
from vdcos.core.conditions import Condition
from vdcos.core.foreign import kubevirt
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.plan import Instant
from vdcos.services.virtualmachine import pods
from vdcos.services.virtualmachine.case import Case

PLACED = "PlacementReady"
CUSTOMIZED = "CustomizationReady"
AGENT = "GuestAgentConnected"
MIGRATABLE = "Migratable"
SYNCHRONIZED = "Synchronized"

PATIENCE = 60
"""Seconds for which a host may fail to make a VM what KubeVirt wants before it is told; migrations do for a moment."""


def placement(case: Case) -> Condition:
    """Whether a host is found for the VM."""
    if case.instance is None and (case.cr.spec.power_state == "PoweredOff" or case.facts.stays_off):
        return conditions.true(PLACED, "PoweredOff", "a VM that is off needs no host")
    if case.facts.unplaced:
        return conditions.false(PLACED, "NoHostFits", case.facts.unplaced)
    if case.facts.up:
        return conditions.true(PLACED, "Placed", "the VM has a host")
    return conditions.unknown(PLACED, "Scheduling", "a host is chosen when the VM starts")


def customization(case: Case) -> Condition:
    """Whether the guest got the Secrets and ConfigMaps that are named."""
    missing = pods.missing(case.complaints)
    if missing is None:
        return conditions.true(CUSTOMIZED, "Provided", "nothing that the guest is to be given is known to be missing")
    namespace = case.owner.namespace
    if missing.kind:
        message = f"the VM waits for {missing.kind} {missing.name}, which namespace {namespace} lacks; create it"
        return conditions.false(CUSTOMIZED, f"{missing.kind}Missing", message)
    message = f"a Secret or ConfigMap of namespace {namespace} lacks the key {missing.name}; add it"
    return conditions.false(CUSTOMIZED, "KeyMissing", message)


def agent(instance: VirtualMachineInstance | None) -> Condition:
    if instance is None:
        return conditions.false(AGENT, "NotRunning", "the VM is off")
    if kubevirt.condition(instance.status.conditions, "AgentConnected").status == "True":
        return conditions.true(AGENT, "Connected", "the guest agent reports")
    message = "no guest agent reports; install qemu-guest-agent in the guest to see its addresses and operating system"
    return conditions.false(AGENT, "NotConnected", message)


def migratable(instance: VirtualMachineInstance | None) -> Condition:
    """KubeVirt's verdict on live migration."""
    found = kubevirt.condition(instance.status.conditions if instance else (), "LiveMigratable")
    if instance is None or not found.status:
        return conditions.unknown(MIGRATABLE, "NotRunning", "known when the VM runs")
    if found.status == "True":
        return conditions.true(MIGRATABLE, "Migratable", "the VM can move to another host while it runs")
    return conditions.false(MIGRATABLE, found.reason or "NotMigratable", found.message)


def synchronized(instance: VirtualMachineInstance | None, now: Instant) -> tuple[Condition, float | None]:
    """Whether the VM on its host is what KubeVirt wants it to be, and in how many seconds to look again."""
    if instance is None:
        return conditions.unknown(SYNCHRONIZED, "NotRunning", "known when the VM runs"), None
    found = kubevirt.condition(instance.status.conditions, "Synchronized")
    well = conditions.true(SYNCHRONIZED, "Synchronized", "the VM on its host is as KubeVirt wants it")
    if found.status != "False":
        return well, None
    since = datetime.fromisoformat(found.last_transition_time).timestamp() if found.last_transition_time else 0.0
    left = since + PATIENCE - now.wall
    if left > 0:
        return well, left
    message = f"the host cannot bring the running VM to what is wanted: {found.message}"
    return conditions.false(SYNCHRONIZED, "HostFails", message), None
