"""What each reason of a condition means in plain words, what to do about it, and where to look on.

A test holds the table against the reasons that services and providers give: none may be missing, and none invented.
The condition's own message has the names and numbers; this has what is the same whoever it happens to. The page
docs/guide/troubleshooting.md says more about each.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Cause(NamedTuple):
    """``then`` is what a person does next; "" when it passes by itself. ``leads`` is the kind of object in which the
    cause lies, if there is another one: Datastore, Network, Host, HAPolicy, HostFailure, or KubeVirt for the objects
    that run the VM. In ``then``, NAME, NAMESPACE and HOST stand for those of the object."""

    means: str
    then: str = ""
    leads: str = ""


_KUBEVIRT_UNREADABLE = Cause(
    "KubeVirt is not installed, or the operator may not read it",
    "install KubeVirt, or the current RBAC of vdcos",
)
_ADMIN_ALLOWS = "an administrator adds the namespace to spec.allowedNamespaces"
_RBAC = "install the current RBAC and CRDs of vdcos"

_NETWORK_PROVIDERS: Mapping[str, Cause] = {
    "ProviderMissing": Cause(
        "the operator has no virtual switch of that name", "correct spec.plugin.provider, or install the provider"
    ),
    "ProviderRefused": Cause("the virtual switch refuses what the Network asks for", "correct the Network's spec"),
    "ProviderIncompatible": Cause(
        "the virtual switch was written for another version of the contract", "tell the provider's author"
    ),
    "ProviderFailed": Cause("the virtual switch has a bug", "tell the provider's author"),
    "ProviderAnswerInvalid": Cause("the virtual switch answers nonsense", "tell the provider's author"),
}

_VIRTUAL_MACHINE: Mapping[str, Cause] = {
    # Disks
    "DatastoreMissing": Cause(
        "a Datastore that it names does not exist", "create the Datastore, or correct the name: kubectl get vdcds"
    ),
    "DatastoreUnreadable": Cause("Datastores cannot be read", _RBAC),
    "DatastoreDeleting": Cause(
        "its Datastore is being deleted", "declare the disk on another Datastore", leads="Datastore"
    ),
    "DatastoreInMaintenance": Cause(
        "its Datastore takes no new disks for now", "wait, or declare the disk on another Datastore", leads="Datastore"
    ),
    "DatastoreFull": Cause(
        "its Datastore has promised all that it may",
        "delete disks that nobody needs, or raise spec.capacity of the Datastore",
        leads="Datastore",
    ),
    "SourceMissing": Cause("what the disk is to be a copy of does not exist", "create it, or correct the name"),
    "SourceUnreadable": Cause("what the disk is to be a copy of cannot be read", _RBAC),
    "Provisioning": Cause(
        "storage is being made", "if it lasts: kubectl describe dv,pvc -n NAMESPACE -l vdcos.dev/vm=NAME", "KubeVirt"
    ),
    "ClaimPending": Cause(
        "storage is being made", "if it lasts: kubectl describe pvc -n NAMESPACE -l vdcos.dev/vm=NAME", "KubeVirt"
    ),
    "Importing": Cause(
        "the disk's source is being copied",
        "if it lasts: kubectl describe dv -n NAMESPACE -l vdcos.dev/vm=NAME",
        "KubeVirt",
    ),
    "ImportFailed": Cause(
        "the disk's source cannot be copied", "correct the address, the Secret, or the size of the disk", "KubeVirt"
    ),
    "DiskLarger": Cause("the disk has more than is declared, and disks never shrink", "declare the size that it has"),
    "DiskElsewhere": Cause("the disk is on another Datastore than declared", "declare the Datastore that it is on"),
    "DiskTerminating": Cause("the disk of a VM of this name that was deleted is still going"),
    "DiskLost": Cause(
        "somebody deleted the disk",
        "restore it under its name; or remove it from spec.disks, and add it again to get an empty one",
    ),
    "VolumeLost": Cause("the volume behind the disk's claim is gone", "restore the volume"),
    "DiskNotOurs": Cause("something else has the disk's name", "rename the disk, or remove the other"),
    "ClaimMissing": Cause(
        "the claim that the disk is does not exist", "correct claimName: kubectl get pvc -n NAMESPACE"
    ),
    "DiskNotAdopted": Cause(
        "the claim that the disk names is not one that the KubeVirt VM of this name uses for it",
        "correct claimName, or make the manifest again: kubectl vdc import NAME -n NAMESPACE",
    ),
    "Expanding": Cause("the disk is growing", leads="KubeVirt"),
    "ExpansionUnsupported": Cause(
        "the disk's storage class cannot grow volumes", "set the size back, or have the storage class changed"
    ),
    "Attaching": Cause(
        "the disk is on its way into the running VM", "if it lasts: kubectl get vmi NAME -n NAMESPACE -o yaml"
    ),
    "FirstPowerOn": Cause("its storage is made on the host where the VM first runs"),
    "Unreadable": Cause("disks cannot be read", _RBAC),
    "NamespaceUnknown": Cause("the VM's namespace cannot be read", "passes by itself; if it lasts: " + _RBAC),
    "NamespaceNotAllowed": Cause("the VM's namespace may not use it", _ADMIN_ALLOWS),
    # NICs
    "NetworkMissing": Cause(
        "a Network that it names does not exist", "create the Network, or correct the name: kubectl get vdcnet"
    ),
    "NetworkUnreadable": Cause("Networks cannot be read", _RBAC),
    "NetworkDeleting": Cause("its Network is being deleted", "use another Network", leads="Network"),
    "AttachmentPending": Cause("its Network is being made available in the namespace", leads="Network"),
    "AttachmentUnreadable": Cause("network attachment definitions cannot be read", "install Multus, or " + _RBAC),
    "AttachmentNotOurs": Cause(
        "a NetworkAttachmentDefinition of the Network's name was there before",
        "remove it, or use a Network of another name",
    ),
    "PodNetworkTwice": Cause("KubeVirt connects one NIC at most to the pod network", "remove a NIC"),
    "LinkStateUnsupported": Cause("the cable of an SR-IOV NIC cannot be pulled", "remove the NIC instead"),
    **{reason: cause._replace(leads="Network") for reason, cause in _NETWORK_PROVIDERS.items()},
    # Hardware and guest
    "InstancetypeMissing": Cause("its instance type does not exist", "create it, or name another one"),
    "InstancetypeUnreadable": Cause("instance types cannot be read", _RBAC),
    "InstancetypeNotAllowed": Cause(
        "its instance type sets what only cluster-wide ones may", "let an administrator create a cluster-wide one"
    ),
    "PreferenceMissing": Cause("its preference does not exist", "create it, or name another one"),
    "PreferenceUnreadable": Cause("preferences cannot be read", _RBAC),
    "PreferenceNotAllowed": Cause(
        "its preference sets what only cluster-wide ones may", "let an administrator create a cluster-wide one"
    ),
    "DeviceNotAllowed": Cause(
        "the VM's namespace may not use a device that it asks for",
        "an administrator adds it to annotation vdcos.dev/allowed-devices of the namespace",
    ),
    "TolerationNotAllowed": Cause(
        "the VM's namespace may not put up with a taint that it tolerates",
        "an administrator adds the taint to annotation vdcos.dev/allowed-taints of the namespace",
    ),
    "DeviceNotPermitted": Cause(
        "KubeVirt does not permit a device that it asks for",
        "an administrator adds it to permittedHostDevices of the KubeVirt object",
    ),
    "FeatureDisabled": Cause(
        "it needs a feature of KubeVirt that is off", "an administrator adds the feature gate to the KubeVirt object"
    ),
    "SecretMissing": Cause("its guest is to be given a Secret that does not exist", "create the Secret"),
    "ConfigMapMissing": Cause("its guest is to be given a ConfigMap that does not exist", "create the ConfigMap"),
    "KeyMissing": Cause("a Secret or ConfigMap for its guest lacks a key", "add the key"),
    # The KubeVirt VM
    "Waiting": Cause("something that it refers to is not there yet"),
    "Creating": Cause("it is being created"),
    "Changing": Cause("a change is being made"),
    "Adopting": Cause("a KubeVirt VM that ran before is being taken over"),
    "AdoptionIncomplete": Cause(
        "the KubeVirt VM that it is to take over has disks that it does not declare",
        "declare them, or make the manifest again: kubectl vdc import NAME -n NAMESPACE",
    ),
    "Repairing": Cause("what somebody changed below it is being put right"),
    "PreviousTerminating": Cause("the KubeVirt VM of before is still going"),
    "NameTaken": Cause(
        "a KubeVirt VM of that name was there before",
        "let it be taken over (kubectl vdc import NAME -n NAMESPACE), rename this one, or remove the other",
    ),
    "OverrideConflict": Cause("an override does not fit the VM", "correct spec.overrides"),
    "WriteWar": Cause(
        "somebody keeps changing the KubeVirt VM below it",
        "find out who: kubectl get vm NAME -n NAMESPACE -o yaml --show-managed-fields",
    ),
    "Refused": Cause("the API server, or a webhook, refuses what it asks for", "change the spec as the message says"),
    "Forbidden": Cause(
        "a quota, or a missing right of the operator",
        "raise the quota: kubectl describe quota -n NAMESPACE; or " + _RBAC,
    ),
    "ApiUnavailable": Cause("the API server does not answer the operator"),
    "InternalError": Cause("vdcos has a bug", "report it with the operator's log"),
    "Malformed": Cause("it does not fit the present schema", "correct the field that the message names: kubectl edit"),
    "NotEvaluated": Cause("the operator has not looked at it yet"),
    "KubeVirtUnreadable": _KUBEVIRT_UNREADABLE,
    # Power
    "PoweringOn": Cause("it is being started", leads="KubeVirt"),
    "PoweringOff": Cause("it is being shut down; a guest gets three minutes", leads="KubeVirt"),
    "Restarting": Cause("it is being restarted", leads="KubeVirt"),
    "StopRequested": Cause("somebody stops it (virtctl stop)"),
    "GuestShutdown": Cause(
        "the guest shut itself down, and it is declared to stay off then",
        "to power it on: virtctl start NAME -n NAMESPACE",
    ),
    "StayedOff": Cause(
        "it was shut down, and it is declared to stay off then", "to power it on: virtctl start NAME -n NAMESPACE"
    ),
    "Paused": Cause("it is paused", "let it go on: virtctl unpause vm NAME -n NAMESPACE; or remove spec.paused"),
    "PausedForMigration": Cause("KubeVirt paused it to let its migration finish"),
    "PausedIOError": Cause(
        "KubeVirt paused it because a disk reports errors",
        "repair the storage, then: virtctl unpause vm NAME -n NAMESPACE",
    ),
    "VolumeMountFailed": Cause("its host cannot mount something that it needs", "see the message", "KubeVirt"),
    "NotAllowed": Cause("it stays off: something that it had may not be used by the namespace any more", _ADMIN_ALLOWS),
    "CrashLoop": Cause(
        "it fails to start again and again",
        "see why: kubectl get events -n NAMESPACE; kubectl logs -n NAMESPACE -l vdcos.dev/vm=NAME",
        "KubeVirt",
    ),
    "StartFailed": Cause("KubeVirt cannot start it", "see the message", "KubeVirt"),
    "InsufficientFailoverCapacity": Cause(
        "capacity is kept free for failures of hosts, and it would use some of that",
        "power off VMs, add hosts, or promise less: spec.admissionControl of the HAPolicy",
        "HAPolicy",
    ),
    "HeldForRestart": Cause("its host has failed, and VMs that restart before it are not up yet", leads="HostFailure"),
    "GuestReset": Cause("its guest had stopped working, and it is being reset"),
    "HostNotResponding": Cause("its host does not answer", leads="Host"),
    "BackendStorageNotReady": Cause(
        "the claim for the state of its TPM and firmware was not bound when KubeVirt looked last",
        "kubectl get pvc -n NAMESPACE -l persistent-state-for=NAME; if it is Bound, "
        "kubectl annotate vmi NAME -n NAMESPACE look=again --overwrite",
    ),
    "Scheduling": Cause("a host is chosen when it starts"),
    "NoHostFits": Cause(
        "no host has what it asks for",
        "free capacity, or ask for less: placement, CPU, memory, devices. Hosts: kubectl vdc status",
        "KubeVirt",
    ),
    "NotRunning": Cause("it is off"),
    # Beside Ready
    "Disabled": Cause("its restart priority is Disabled, as declared"),
    "NoCapacity": Cause(
        "if its host died, no other would have room for it",
        "free capacity, add hosts, or promise more: spec.admissionControl of the HAPolicy",
        "HAPolicy",
    ),
    "LocalDisk": Cause(
        "no other host reaches its disks", "move them to a Datastore that more hosts reach", "Datastore"
    ),
    "Selector": Cause("no other host has the labels that it asks for", "label hosts, or relax spec.placement"),
    "Taint": Cause("the hosts that it could move to are cordoned or tainted", "uncordon hosts: kubectl vdc status"),
    "Device": Cause("no other host has its devices free", "add hosts with such devices"),
    "Affinity": Cause("rules of placement leave no other host", "relax spec.placement"),
    "AntiAffinity": Cause("rules of placement leave no other host", "relax spec.placement, or add hosts"),
    "RestartRequired": Cause(
        "some of what is declared takes effect at its next start", "when it suits: virtctl restart NAME -n NAMESPACE"
    ),
    "NotMigratable": Cause(
        "a change needs a live migration, and it cannot be migrated",
        "when it suits: virtctl restart NAME -n NAMESPACE",
    ),
    "MigrationNeeded": Cause(
        "a change needs a live migration, and KubeVirt starts none by itself", "virtctl migrate NAME -n NAMESPACE"
    ),
    "LiveUpdate": Cause("a change is being made while it runs"),
    "UpToDate": Cause("it runs what is declared"),
    "NotConnected": Cause("its guest has no agent that answers", "install qemu-guest-agent in the guest"),
    "NeverSeen": Cause("no guest agent has answered since it started", "install qemu-guest-agent in the guest"),
    "Silent": Cause("its guest agent does not answer any more; it is reset when that lasts"),
    "Resetting": Cause("its guest had stopped working, and it is being reset"),
    "GuestResetLimit": Cause(
        "its guest fails again and again, and it is not reset any more",
        "look at its console: virtctl console NAME -n NAMESPACE; then: virtctl restart NAME -n NAMESPACE",
    ),
    "Migrating": Cause("its guest is silent while it moves to another host"),
    "StartedRecently": Cause("its guest is silent, and has run for a short time only"),
    "HostNotConnected": Cause("its guest is silent, and nothing is certain about its host", leads="Host"),
    "CannotSee": Cause("the operator hears nothing of the API server; passes by itself"),
    "PolicyPaused": Cause("its guest is silent, and the HAPolicy is paused", "remove spec.paused", "HAPolicy"),
    "DependencyCircle": Cause("VMs depend on each other in a circle", "remove one of the dependencies"),
    "PriorityInversion": Cause(
        "it depends on a VM that restarts later by its priority", "give both the same spec.availability.restartPriority"
    ),
    "FinalizersRemain": Cause(
        "it is being deleted, and somebody's finalizer holds it", "whoever set the finalizer has to remove it"
    ),
    "HostFails": Cause(
        "its host cannot make it what KubeVirt wants", "see the log of virt-handler on HOST", "KubeVirt"
    ),
}

_NETWORK: Mapping[str, Cause] = {
    **_NETWORK_PROVIDERS,
    "MultusMissing": Cause("Multus is not installed", "install Multus, or use a network of kind pod"),
    "NotOffered": Cause("no host has that bridge or device", "configure the hosts, or correct the name in the spec"),
    "CannotSee": Cause("something cannot be read", _RBAC),
    "Configuring": Cause("hosts are being configured by nmstate", "if it lasts: kubectl get nnce"),
    "UplinkFailed": Cause("nmstate could not configure a host", "see why: kubectl get nnce; then correct spec.uplink"),
    "NoHostMatches": Cause("no host has the labels of spec.uplink", "label hosts, or correct spec.uplink.nodeSelector"),
    "NmstateMissing": Cause(
        "nmstate is not installed", "install nmstate, or remove spec.uplink and configure the hosts yourself"
    ),
    "PolicyConflict": Cause(
        "a NodeNetworkConfigurationPolicy of that name was there before", "remove it, or rename the Network"
    ),
    "NotAttached": Cause(
        "in a namespace something of that name is in the way", "remove the NetworkAttachmentDefinition that is named"
    ),
    "ProviderNotReady": Cause("its virtual switch is not ready; what is attached stays attached"),
    "OldSettingsRunning": Cause(
        "it was changed while VMs ran, and they run with what it said before",
        "migrate or restart the VMs that are named: virtctl migrate",
    ),
    "InUse": Cause("it is being deleted, and waits for the VMs that use it", "move those VMs to another Network"),
}

_DATASTORE: Mapping[str, Cause] = {
    "StorageClassMissing": Cause("its storage class does not exist", "create the storage class"),
    "ProfileIncomplete": Cause(
        "CDI does not know how to make volumes of its storage class", "set spec.volumeMode and spec.accessMode"
    ),
    "ModesNotOffered": Cause(
        "its storage class is not known to offer the modes that it asks for",
        "set spec.volumeMode and spec.accessMode to what it offers, or complete CDI's StorageProfile",
    ),
    "CdiMissing": Cause("the Containerized Data Importer is not installed", "install CDI"),
    "Maintenance": Cause(
        "it is in maintenance, and takes no new disks", "set spec.maintenance to false when it is over"
    ),
    "Full": Cause(
        "it has promised all that it may", "delete disks that nobody needs (status.retained), or raise spec.capacity"
    ),
    "Deleting": Cause("it is being deleted, and takes no new disks"),
    "CannotCount": Cause("disks cannot be read", "install CDI, or " + _RBAC),
    "CannotSee": Cause("storage classes cannot be read", _RBAC),
    "InUse": Cause("it is being deleted, and waits for its disks", "delete the disks that are named"),
}

_HOST: Mapping[str, Cause] = {
    "NoNode": Cause("Kubernetes has no node of that name", "add it to the cluster, or delete the Host"),
    "NotAHost": Cause("KubeVirt has never run on that node", "see its virt-handler pod: kubectl get pods -A -o wide"),
    "Suspect": Cause("it is silent, and not known to be dead", leads="HostFailure"),
    "Dead": Cause("enough witnesses say that it is dead; a HostFailure follows in a moment", leads="HostFailure"),
    "ApiTrouble": Cause(
        "most hosts fell silent at once, so that hosts and API server may not reach each other",
        "look at the network, and at the load balancer of the API server",
    ),
    "Isolated": Cause(
        "it lives, and does not reach the API server; its VMs run and are left alone",
        "repair its network, or its kubelet: systemctl status kubelet on NAME",
    ),
    "Fencing": Cause("it is to be proved down", leads="HostFailure"),
    "Fenced": Cause("it is proved to be down", leads="HostFailure"),
    "Recovering": Cause("it is back, and not used yet", leads="HostFailure"),
    "Quarantined": Cause("it fails again and again", "find out why; then: kubectl uncordon NAME", "HostFailure"),
    "Blind": Cause("nothing is heard of the API server, and so of no host; passes by itself"),
    "CannotSee": Cause("nodes cannot be read", _RBAC),
    "Unmanaged": Cause("no HAPolicy covers it", "create an HAPolicy, or widen spec.hosts of one"),
    "NoPolicy": Cause("if it dies, its VMs stay down", "create an HAPolicy, or widen spec.hosts of one"),
    "Paused": Cause("its HAPolicy is paused", "remove spec.paused of the HAPolicy", "HAPolicy"),
    "NoPowerSwitch": Cause(
        "nothing can power it off, so that somebody has to confirm each of its failures",
        "declare its power switches (spec.bmc), or spec.fencing.providers of the HAPolicy",
    ),
}

_HA_POLICY: Mapping[str, Cause] = {
    "CannotSee": Cause("nodes, Leases or HostFailures cannot be read; no host is declared dead meanwhile", _RBAC),
    "Blind": Cause(
        "nothing is heard of the API server; no host is declared dead meanwhile",
        "passes by itself; if it lasts, look at the network between the operator and the API server",
    ),
    "NoMatches": Cause("no KubeVirt node has the labels of spec.hosts", "correct spec.hosts, or label nodes"),
    "Overlap": Cause(
        "an older HAPolicy counts for some of its hosts", "change spec.hosts of one of the two: kubectl get vdcha"
    ),
    "NoFenceDevice": Cause(
        "nothing can prove that some of its hosts are down",
        "declare their power switches (spec.bmc of the Host), or spec.fencing.providers",
    ),
    "CapacityMissing": Cause(
        "not all is free that it promises to keep free",
        "power off VMs, add hosts, or promise less: spec.admissionControl",
    ),
    "CannotCount": Cause("pods cannot be read", _RBAC),
    "NotCounted": Cause("pods have not been counted yet; passes by itself"),
    "Waiting": Cause("its promise is kept, and VMs wait for room", "power off VMs, add hosts, or promise less"),
    "Paused": Cause(
        "hosts that die are not fenced, and their VMs do not restart", "remove spec.paused when the work is over"
    ),
}

_CONFIRM = "if you are certain that it has no power, set spec.confirmedDown as the message says"

_HOST_FAILURE: Mapping[str, Cause] = {
    "Fencing": Cause("a power switch was asked, and the answer is not proof yet", _CONFIRM),
    "NoProof": Cause("nothing can power the host off", "see that it has no power; then set spec.confirmedDown"),
    "HeardAgain": Cause("the host is heard again; if that goes on, all is put back and nothing restarts"),
    "StormBrake": Cause(
        "more hosts failed at once than the HAPolicy lets pass",
        "look at the network first; if the hosts are dead indeed, set spec.approved: true of each failure",
    ),
    "Paused": Cause(
        "the HAPolicy is paused", "remove spec.paused of the HAPolicy, or set spec.approved: true", "HAPolicy"
    ),
    "PolicyGone": Cause("the HAPolicy was deleted", "set spec.approved: true to go on all the same"),
    "HostStillAlive": Cause(
        "the host was proved to be down, and lives: the proof was wrong",
        "CUT ITS POWER BY HAND AT ONCE, and look for VMs that run twice",
    ),
    "NotFenced": Cause("nothing restarts before the host is proved to be down"),
    "Restarting": Cause("its VMs restart in their order"),
    "GivenUp": Cause("some VMs were tried again and again in vain", "see each of them: kubectl vdc why vm/"),
    "CannotSee": Cause("nodes, pods or instances cannot be read, so nothing is released", _RBAC),
    "Releasing": Cause("what keeps its VMs from restarting is being removed"),
    "FalseAlarm": Cause("the host was heard before it was proved to be down; all is put back"),
    "HostDown": Cause("the host is off", "repair it and power it on, or delete its Node: then the failure is over"),
    "Booting": Cause("the host has booted, and is not ready yet", "if it lasts: the log of its kubelet"),
    "Quiet": Cause("the host is back, and is used again when it has been well for a while"),
    "Quarantined": Cause("the host fails again and again", "find out why; then: kubectl uncordon HOST"),
}

CAUSES: Mapping[str, Mapping[str, Cause]] = {
    "VirtualMachine": _VIRTUAL_MACHINE,
    "Network": _NETWORK,
    "Datastore": _DATASTORE,
    "Host": _HOST,
    "HAPolicy": _HA_POLICY,
    "HostFailure": _HOST_FAILURE,
}
"""By kind and reason."""

_ANY_KIND = ("Refused", "Forbidden", "ApiUnavailable", "InternalError", "Malformed", "NotEvaluated", "FinalizersRemain")


def cause(kind: str, reason: str) -> Cause:
    """What a reason means; with no words of its own for one that KubeVirt or a third party gives."""
    found = CAUSES[kind].get(reason)
    if found is None and reason in _ANY_KIND:
        found = _VIRTUAL_MACHINE[reason]
    if found is None and kind == "VirtualMachine":
        return Cause("KubeVirt says why it cannot go on", "see the message", "KubeVirt")
    return found or Cause("see the message")
