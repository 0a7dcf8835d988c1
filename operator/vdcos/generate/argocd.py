"""What Argo CD makes of our kinds: a health script, the same for all of them, as a patch of its ConfigMap.

Degraded ends a sync at once, Progressing lets it wait, both only where sync waves follow (gitops-engine,
pkg/sync/sync_context.go). So only what cannot pass by itself is Degraded; what refers to something that is not there
yet is not, for Git has no order.
"""

import collections.abc
import pathlib
import textwrap
import typing

from vdcos.core import ownership

ATTENTION: typing.Final = frozenset(
    {
        # Disks and datastores
        "DatastoreDeleting",
        "DatastoreFull",
        "DatastoreInMaintenance",
        "DiskElsewhere",
        "DiskLarger",
        "DiskLost",
        "DiskNotAdopted",
        "DiskNotOurs",
        "ExpansionUnsupported",
        "ImportFailed",
        "ModesNotOffered",
        "VolumeLost",
        # Networks
        "AttachmentNotOurs",
        "LinkStateUnsupported",
        "NetworkDeleting",
        "PodNetworkTwice",
        "PolicyConflict",
        "ProviderAnswerInvalid",
        "ProviderFailed",
        "ProviderIncompatible",
        "ProviderMissing",
        "ProviderRefused",
        "UplinkFailed",
        # What a VM may have, and where it may be
        "DeviceNotAllowed",
        "DeviceNotPermitted",
        "TolerationNotAllowed",
        "FeatureDisabled",
        "InstancetypeNotAllowed",
        "InsufficientFailoverCapacity",
        "KeyMissing",
        "NamespaceNotAllowed",
        "NoHostFits",
        "NotAllowed",
        "PreferenceNotAllowed",
        # The VM of KubeVirt
        "AdoptionIncomplete",
        "CrashLoop",
        "HostNotResponding",
        "NameTaken",
        "OverrideConflict",
        "PausedIOError",
        "StartFailed",
        "VolumeMountFailed",
        "WriteWar",
        # KubeVirt's own words for why a VM does not start
        "ErrImagePull",
        "FailedBackendStorageCreate",
        "FailedCreate",
        "FailedCreateValidation",
        "FailedDataVolumeImport",
        "FailedGuaranteeResources",
        "ImagePullBackOff",
        "UnsupportedSyncError",
        # Hosts, policies and failures
        "Dead",
        "Fenced",
        "GivenUp",
        "HostDown",
        "HostStillAlive",
        "Isolated",
        "NoProof",
        "Overlap",
        "Paused",  # the VM by somebody, or the failure by the pause of its policy
        "PolicyGone",
        "Quarantined",
        "StormBrake",
        # Anything
        "Forbidden",
        "InternalError",
        "Malformed",
        "Refused",
    }
)
"""Reasons of Ready for which somebody has to act: something has failed, is refused or is full, and stays so."""

PASSING: typing.Final = frozenset(
    {
        # Something is not there yet, or not seen yet
        "AttachmentPending",
        "AttachmentUnreadable",
        "Blind",
        "CannotSee",
        "CdiMissing",
        "ConfigMapMissing",
        "DatastoreMissing",
        "DatastoreUnreadable",
        "InstancetypeMissing",
        "InstancetypeUnreadable",
        "KubeVirtUnreadable",
        "MultusMissing",
        "NamespaceUnknown",
        "NetworkMissing",
        "NetworkUnreadable",
        "NmstateMissing",
        "NoHostMatches",
        "NoNode",
        "NotAHost",
        "NotEvaluated",
        "NotOffered",
        "PreferenceMissing",
        "PreferenceUnreadable",
        "ProfileIncomplete",
        "SecretMissing",
        "SourceMissing",
        "SourceUnreadable",
        "StorageClassMissing",
        "Unreadable",
        "Waiting",
        "ClaimMissing",
        # Under way
        "Adopting",
        "ApiTrouble",
        "ApiUnavailable",
        "Attaching",
        "BackendStorageNotReady",
        "Booting",
        "Changing",
        "ClaimPending",
        "Configuring",
        "Creating",
        "DiskTerminating",
        "Expanding",
        "FalseAlarm",
        "Fencing",
        "FirstPowerOn",
        "GuestReset",
        "HeardAgain",
        "HeldForRestart",
        "Importing",
        "NotFenced",
        "PausedForMigration",
        "PoweringOff",
        "PoweringOn",
        "PreviousTerminating",
        "Provisioning",
        "Quiet",
        "Recovering",
        "Releasing",
        "Repairing",
        "Restarting",
        "Scheduling",
        "StopRequested",
        "Suspect",
    }
)
"""All other reasons of Ready. They are named only so that none is forgotten: what is in neither set fails a test."""

_SCRIPT = pathlib.Path(__file__).with_name("health.lua")


def health() -> str:
    """The script, in Lua: of one object, ``obj``, to its health."""
    reasons = ", ".join(f'"{reason}"' for reason in sorted(ATTENTION))
    listed = textwrap.fill(reasons, 116, initial_indent="  ", subsequent_indent="  ", break_long_words=False)
    return _SCRIPT.read_text().replace("  REASONS", listed)


def patch(kinds: collections.abc.Iterable[str]) -> dict[str, typing.Any]:
    """A strategic merge patch of Argo CD's ConfigMap. Its keys, one per kind, leave alone what others have set."""
    script = health()
    data = {f"resource.customizations.health.{ownership.GROUP}_{kind}": script for kind in kinds}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm"}, "data": data}


def component() -> dict[str, typing.Any]:
    """For the kustomization that somebody installs Argo CD by."""
    target = {"kind": "ConfigMap", "name": "argocd-cm"}
    return {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "patches": [{"path": "argocd-cm.yaml", "target": target}],
    }
