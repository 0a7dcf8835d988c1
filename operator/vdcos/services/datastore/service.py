"""Datastore: a storage class with tenants, a ceiling and a maintenance mode. It has no children; it keeps account."""

from collections.abc import Sequence
from typing import Any

from vdcos import api
from vdcos.api.datastore import DatastoreSpec
from vdcos.core import conditions, counts, disks, finalizers, kinds, quantity
from vdcos.core.conditions import Condition
from vdcos.core.foreign.cdi import ClaimPropertySet, StorageProfile
from vdcos.core.foreign.kubernetes import StorageClass
from vdcos.core.objects import Key, Unreadable
from vdcos.core.plan import Instant, Plan
from vdcos.core.service import Write
from vdcos.core.snapshot import Snapshot
from vdcos.services.datastore.seen import DECLARED, WATCHES, Census, Seen, look

STORAGE_CLASS = "StorageClassReady"
MODES = "ModesKnown"
ACCEPTS = "AcceptsDisks"
DELETING = "Deleting"

LIVE = "ReadWriteMany"
"""The access mode that lets two hosts have a disk at once, as a live migration needs."""


class DatastoreService:
    """A Datastore says what its storage can do, and how much of it is promised to whom."""

    name = "datastore"
    resource = kinds.DATASTORE
    kind = api.Datastore
    needed = (STORAGE_CLASS, MODES)
    watches = WATCHES
    indexes = (disks.CREATED, disks.GROWN, DECLARED)
    writes = (Write(kinds.DATASTORE, ("patch",)),)

    def observe(self, key: Key, world: Snapshot) -> Seen:
        return look(key, world)

    def plan(self, cr: api.Datastore, seen: Seen, now: Instant) -> Plan:
        in_use = seen.disks.count > 0
        counted = {
            "provisioned": rounded(seen.provisioned),
            "disks": seen.disks.count,
            "tenants": _usage(seen.tenants),
            "retained": _usage(seen.retained),
        }
        stored = cr.status.manifest()
        if seen.blind:  # what is not seen is not gone: the counts stand
            status, after = {field: stored[field] for field in (*counted, counts.COUNTED_AT) if field in stored}, None
        else:
            status, after = counts.paced(stored, counted, now)
        going = cr.metadata.deletion_timestamp is not None
        return Plan(
            actions=finalizers.hold(kinds.DATASTORE, cr.metadata, in_use) if in_use or not seen.blind else (),
            conditions=(
                _storage_class(cr.spec, seen),
                _modes(cr.spec, seen),
                _accepts(cr.spec, seen, going),
                *((_deleting(seen),) if going else ()),
            ),
            status={**_capabilities(cr.spec, seen), **status},
            after=after,
        )


def _usage(census: Census) -> dict[str, Any]:
    return counts.usage(census.count, census.names)


def rounded(size: int) -> str:
    """Bytes for people: exact where that is short, else rounded up to a tenth of a GiB (CDI adds odd overheads)."""
    exact = quantity.human(size)
    return exact if not size or exact.endswith(("Gi", "Ti", "Pi", "Ei")) else f"{-(-size * 10 >> 30) / 10:g}Gi"


def claim_properties(spec: DatastoreSpec, offered: Sequence[ClaimPropertySet]) -> tuple[str, str]:
    """Volume mode and access mode of a new disk, by CDI's rules for what the spec leaves open; "" where nobody says.

    Of several access modes in a set a claim gets all, so the one that allows live migration counts.
    """
    if spec.access_mode is not None:
        fitting = next((known.volume_mode for known in offered if spec.access_mode in known.access_modes), "Filesystem")
        return spec.volume_mode or fitting, spec.access_mode
    if spec.volume_mode is None:
        candidates = offered[:1]
    else:
        candidates = [known for known in offered if known.volume_mode == spec.volume_mode]
    for known in candidates:
        if known.access_modes:
            return known.volume_mode, LIVE if LIVE in known.access_modes else known.access_modes[0]
    return spec.volume_mode or "", ""


def _profiled(seen: Seen) -> tuple[ClaimPropertySet, ...]:
    return seen.profile.status.claim_property_sets if isinstance(seen.profile, StorageProfile) else ()


def _capabilities(spec: DatastoreSpec, seen: Seen) -> dict[str, Any]:
    """``status.capabilities``; absent while there is no storage class to have any."""
    if not isinstance(seen.storage_class, StorageClass):
        return {}
    volume_mode, access_mode = claim_properties(spec, _profiled(seen))
    found: dict[str, Any] = {
        "snapshots": seen.snapshots,
        "expansion": seen.storage_class.allow_volume_expansion,
        "liveMigration": access_mode == LIVE,
    }
    if isinstance(seen.profile, StorageProfile) and (strategy := seen.profile.status.clone_strategy):
        # CDI copies every byte where it should clone by snapshot and there is no class for snapshots.
        by_strategy = {"snapshot": "CopyOnWrite" if seen.snapshots else "Copy", "csi-clone": "Csi"}
        found["clones"] = by_strategy.get(strategy, "Copy")
    if volume_mode:
        found["volumeMode"] = volume_mode
    if access_mode:
        found["accessMode"] = access_mode
    return {"capabilities": found}


def _storage_class(spec: DatastoreSpec, seen: Seen) -> Condition:
    match seen.storage_class:
        case StorageClass(provisioner=provisioner):
            return conditions.true(STORAGE_CLASS, "Found", f"Provisioned by {provisioner}.")
        case Unreadable(why):
            return conditions.unknown(STORAGE_CLASS, "CannotSee", f"Storage classes cannot be read: {why}.")
    return conditions.false(
        STORAGE_CLASS,
        "StorageClassMissing",
        f"There is no StorageClass {spec.storage_class_name}: create it, or make a Datastore of another one. "
        "Existing disks are not affected; new ones wait.",
    )


def _modes(spec: DatastoreSpec, seen: Seen) -> Condition:
    """Whether it is known how a new disk is to be claimed: without that, CDI makes no claim."""
    volume_mode, access_mode = claim_properties(spec, _profiled(seen))
    if isinstance(seen.profile, Unreadable):
        return conditions.false(
            MODES, "CdiMissing", f"Disks cannot be made: {seen.profile.why}. Install the Containerized Data Importer."
        )
    if spec.volume_mode and spec.access_mode:
        return conditions.true(MODES, "Declared", f"{access_mode} {volume_mode}, as declared.")
    if access_mode:
        return conditions.true(MODES, "Profiled", f"{access_mode} {volume_mode}, by CDI's StorageProfile.")
    name = spec.storage_class_name
    if not _profiled(seen):
        return conditions.false(
            MODES,
            "ProfileIncomplete",
            f"CDI does not know how to claim volumes of StorageClass {name}: set spec.volumeMode and spec.accessMode "
            f"here, or spec.claimPropertySets of StorageProfile {name}.",
        )
    return conditions.false(
        MODES,
        "ModesNotOffered",
        f"StorageProfile {name} has no access mode for {spec.volume_mode} volumes: set spec.accessMode too, or remove "
        "spec.volumeMode.",
    )


def _accepts(spec: DatastoreSpec, seen: Seen, going: bool) -> Condition:
    """Whether new disks are taken. It says nothing about health, so Ready does not depend on it."""
    if going:
        return conditions.false(ACCEPTS, "Deleting", "The datastore is being deleted: new disks are refused.")
    if spec.maintenance:
        return conditions.false(ACCEPTS, "Maintenance", "In maintenance as declared: new disks are refused.")
    if seen.blind:
        return conditions.unknown(
            ACCEPTS, "CannotCount", f"Disks cannot be counted, the counts are of before: {seen.blind.why}."
        )
    if spec.capacity is not None and seen.provisioned >= quantity.whole(spec.capacity):
        return conditions.false(
            ACCEPTS,
            "Full",
            f"Disks fill the ceiling of {spec.capacity}: new and growing ones are refused. Raise spec.capacity, or "
            "delete disks (status.retained names some that no VM uses).",
        )
    return conditions.true(ACCEPTS, "Unlimited" if spec.capacity is None else "BelowCeiling")


def _deleting(seen: Seen) -> Condition:
    if seen.disks.count:
        named = counts.listed(seen.disks.count, seen.disks.names)
        held = counts.some(seen.disks.count, "disk")
        message = f"Waits for {held}: {named}. Delete their VMs, and the DataVolumes that remain."
    elif seen.blind:
        message = f"Waits until it is known which disks there are: {seen.blind.why}."
    else:
        return conditions.true(DELETING, "Released", "It holds no disks.")
    return conditions.true(DELETING, "InUse", message)
