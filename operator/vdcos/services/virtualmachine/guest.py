"""Where the VM is placed, what its guest was given, and what the guest reports."""

import re
from collections.abc import Iterator

from vdcos.core import conditions
from vdcos.core.conditions import Condition
from vdcos.core.foreign import kubevirt
from vdcos.core.foreign.kubernetes import FailedMount
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.services.virtualmachine.case import Case

PLACED = "PlacementReady"
CUSTOMIZED = "CustomizationReady"
AGENT = "GuestAgentConnected"
MIGRATABLE = "Migratable"

_MISSING = re.compile(
    r"references non-existent (?:secret|config) key: (?P<key>\S+)"
    r"|(?P<kind>secret|configmap) \"(?P<name>[^\"]+)\" not found"
)

_NODES = re.compile(r"^0/(\d+) nodes are available: ")


def placement(case: Case) -> Condition:
    """Whether a host is found for the VM."""
    if case.instance is None and (case.cr.spec.power_state == "PoweredOff" or case.facts.stays_off):
        return conditions.true(PLACED, "PoweredOff", "a VM that is off needs no host")
    if message := unplaced(case):
        return conditions.false(PLACED, "NoHostFits", message)
    if case.facts.up:
        return conditions.true(PLACED, "Placed", "the VM has a host")
    return conditions.unknown(PLACED, "Scheduling", "a host is chosen when the VM starts")


def unplaced(case: Case) -> str:
    """Why there is no host for the VM, in the scheduler's words, or ""."""
    found = kubevirt.condition(case.instance.status.conditions if case.instance else (), "PodScheduled")
    if found.status != "False":
        return ""
    return f"{fits(found.message)}. Free capacity, or change placement, CPU, memory or devices of the VM"


def fits(message: str) -> str:
    """What the scheduler says, without what it says about preemption."""
    short = message.partition(" preemption:")[0].strip().rstrip(".")
    if found := _NODES.match(short):
        return f"none of {found[1]} hosts fits: {short[found.end() :]}"
    return short or "no host fits"


def customization(case: Case) -> Condition:
    """Whether the guest got the Secrets and ConfigMaps that are named. We may not read them: kubelets say so."""
    for event in _complaints(case):
        if found := _MISSING.search(event.message):
            what = {"secret": "Secret", "configmap": "ConfigMap"}.get(found["kind"])
            namespace = case.owner.namespace
            if what:
                message = f"the VM waits for {what} {found['name']}, which namespace {namespace} lacks; create it"
                return conditions.false(CUSTOMIZED, f"{what}Missing", message)
            message = f"a Secret or ConfigMap of namespace {namespace} lacks the key {found['key']}; add it"
            return conditions.false(CUSTOMIZED, "KeyMissing", message)
    return conditions.true(CUSTOMIZED, "Provided", "nothing that the guest is to be given is known to be missing")


def trouble(case: Case) -> str:
    """What else kubelets complain about, or ""."""
    for event in _complaints(case):
        if not _MISSING.search(event.message):
            return event.message[:400]
    return ""


def _complaints(case: Case) -> Iterator[FailedMount]:
    """The latest first; once the VM is up, they are history."""
    if case.instance is not None and not case.facts.up:
        yield from reversed(case.seen.failed_mounts)


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
