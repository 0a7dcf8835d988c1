"""What becomes of a change to a VM's spec: whether it takes effect while the VM runs, and if not, when.

The forecast for people before they apply it; afterwards, ``restart`` says what KubeVirt has made of it. Which of its
fields KubeVirt changes live is in its own code (kubevirt 1.8, pkg/virt-controller/watch/vm: ``syncRestartRequired`` and
the handlers of change requests; pkg/network/vmliveupdate). A test holds the forecast against a real KubeVirt.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from vdcos.api import virtualmachine as words
from vdcos.core import quantity
from vdcos.services.virtualmachine.disks import HOT_BUSES

When = Literal["at once", "live", "by live migration", "at the next move or start", "at the next start"]

HOT_SWITCHES = frozenset({"bridge", "ovs", "ovn", "sriov"})
"""Kinds of Networks whose NICs come and go while a VM runs."""


@dataclass(frozen=True, slots=True)
class Running:
    """What a change of a VM depends on. ``None`` stands for what is not known, which is then said."""

    up: bool = False
    """The VM runs."""
    staged: bool = False
    """KubeVirt changes nothing live: its vmRolloutStrategy is Stage."""
    migrates: bool | None = None
    """KubeVirt starts live migrations for changes by itself."""
    migratable: bool | None = None
    """The VM can be migrated while it runs."""
    restart_pending: bool = False
    """Something waits for a restart already: KubeVirt changes no CPU and memory live then."""
    most_sockets: int | None = None
    """As many as the VM can have without a restart."""
    most_memory: int | None = None
    """Bytes that the VM can have without a restart."""
    booted_memory: int | None = None
    """Bytes that it was started with."""
    hotplugs_disks: bool | None = None
    """KubeVirt plugs in disks that are declared."""
    expands_disks: bool | None = None
    """The guest sees at once that a disk has grown."""
    hot_disks: frozenset[str] = frozenset()
    """Disks that came to the running VM, and can leave it."""
    switches: Mapping[str, str] = field(default_factory=dict)
    """Kinds of the Networks that are known, by name."""


@dataclass(frozen=True, slots=True)
class Change:
    """One field that changes. ``before`` and ``after`` are values, None where there is none; ``why`` explains ``when``
    where that is not plain."""

    field: str
    before: Any
    after: Any
    when: When
    why: str = ""

    @property
    def secret(self) -> bool:
        """Whether the values may be secrets: what a guest is given."""
        return self.field.startswith("spec.guest")


def changes(before: words.VirtualMachineSpec, after: words.VirtualMachineSpec, running: Running) -> Iterator[Change]:
    """Every field that differs, in the order of the spec."""
    found = list(_each(before, after, running))
    if not running.restart_pending and any(change.when == "at the next start" for change in found):
        # What waits for a restart may come with the same write, and KubeVirt sees all of it at once.
        then = _each(before, after, replace(running, restart_pending=True))
        found = [
            first if first.when == "at the next start" else second for first, second in zip(found, then, strict=True)
        ]
    yield from found


def _each(before: words.VirtualMachineSpec, after: words.VirtualMachineSpec, running: Running) -> Iterator[Change]:
    for path, old, new in differences(_tree(before), _tree(after)):
        rule = next(rule for pattern, rule in _RULES if re.fullmatch(pattern, path))
        when, why = rule(_Difference(path, old, new, after), running)
        yield Change(f"spec.{path}", old, new, when, why)


def _tree(spec: words.VirtualMachineSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json", by_alias=True, exclude_none=True)


def differences(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Paths at which two trees differ, as ``disks[data].size``, with both values. Lists of objects with a name are
    compared by name, and an item that comes or goes is one difference; other lists are compared as wholes."""
    if before == after:
        return
    if isinstance(before, Mapping | None) and isinstance(after, Mapping | None):
        old, new = before or {}, after or {}
        for name in dict.fromkeys([*old, *new]):
            yield from differences(old.get(name), new.get(name), f"{path}.{name}" if path else str(name))
    elif (known := _by_name(before)) is not None and (named := _by_name(after)) is not None:
        for name in dict.fromkeys([*known, *named]):
            there = f"{path}[{name}]"
            if name in known and name in named:
                yield from differences(known[name], named[name], there)
            else:
                yield there, known.get(name), named.get(name)
    elif not (quantity.same(before, after) or (not before and not after)):
        yield path, before, after


def _by_name(value: Any) -> dict[str, Any] | None:
    if value is None:
        return {}
    if isinstance(value, list) and all(isinstance(item, Mapping) and "name" in item for item in value):
        return {item["name"]: item for item in value}
    return None


# When each field takes effect


@dataclass(frozen=True, slots=True)
class _Difference:
    path: str
    before: Any
    after: Any
    spec: words.VirtualMachineSpec

    @property
    def name(self) -> str:
        """Of the disk or NIC."""
        return self.path.partition("[")[2].partition("]")[0]


_Rule = Callable[[_Difference, Running], tuple[When, str]]
_AT_START: tuple[When, str] = ("at the next start", "")


def _at_once(_: _Difference, __: Running) -> tuple[When, str]:
    return "at once", ""


def _at_start(_: _Difference, __: Running) -> tuple[When, str]:
    return _AT_START


def _not_live(running: Running) -> tuple[When, str] | None:
    """Why CPU and memory do not change while the VM runs, whatever the change."""
    if not running.up:
        return _AT_START
    if running.staged:
        return "at the next start", "KubeVirt changes nothing live: its vmRolloutStrategy is Stage"
    if running.restart_pending:
        return "at the next start", "KubeVirt changes CPU and memory live while nothing else waits for a restart"
    if running.migratable is False:
        return "at the next start", "the VM cannot be migrated: see its condition Migratable"
    return None


def _by_migration(running: Running) -> tuple[When, str]:
    if running.migrates is False:
        return "by live migration", "KubeVirt starts none by itself (its workloadUpdateMethods): virtctl migrate"
    return "by live migration", "" if running.migrates else "if KubeVirt's workloadUpdateMethods have LiveMigrate"


def _sockets(change: _Difference, running: Running) -> tuple[When, str]:
    if (never := _not_live(running)) is not None:
        return never
    if change.before is None or change.after is None or change.after < change.before:
        return "at the next start", "sockets are taken away at a start only"
    if running.most_sockets is not None and change.after > running.most_sockets:
        return "at the next start", f"it can have {running.most_sockets} sockets at most without a restart"
    return _by_migration(running)


_STEP = 2 * 1024**2
"""Memory is plugged in in steps of 2 MiB."""


def _memory(change: _Difference, running: Running) -> tuple[When, str]:
    if (never := _not_live(running)) is not None:
        return never
    if change.before is None or change.after is None:
        return _AT_START
    wanted = quantity.whole(change.after)
    if wanted < (running.booted_memory or quantity.whole(change.before)):
        return "at the next start", "memory is taken away at a start only"
    if running.most_memory is None:
        return "at the next start", "KubeVirt does not plug memory into this VM"
    if wanted > running.most_memory:
        return "at the next start", f"it can have {quantity.human(running.most_memory)} at most without a restart"
    if wanted % _STEP:
        return "at the next start", "memory is plugged in in steps of 2 MiB"
    return _by_migration(running)


def _disk(change: _Difference, running: Running) -> tuple[When, str]:
    if not running.up:
        return _AT_START
    if change.after is None:
        if change.name in running.hot_disks:
            return "live", "it is kept: disks outlive the VM"
        return "at the next start", "it was there at the last start; it is kept: disks outlive the VM"
    if change.after.get("bus") not in HOT_BUSES or change.after.get("bootOrder") is not None:
        return "at the next start", "only virtio and scsi disks without bootOrder are plugged in"
    if running.hotplugs_disks is False:
        return "at the next start", "KubeVirt's feature gate DeclarativeHotplugVolumes is off"
    return "live", "" if running.hotplugs_disks else "if KubeVirt's feature gate DeclarativeHotplugVolumes is on"


def _disk_size(_: _Difference, running: Running) -> tuple[When, str]:
    if not running.up or running.expands_disks:
        return "at once", ""
    known = "is off" if running.expands_disks is False else "may be off"
    return "at once", f"the guest sees it after the next start: KubeVirt's feature gate ExpandDisks {known}"


def _nic(change: _Difference, running: Running) -> tuple[When, str]:
    if not running.up:
        return _AT_START
    network = (change.after or change.before)["network"]
    switch = running.switches.get(network)
    if switch is None:
        return "by live migration", f"if Network {network} is of kind bridge, ovs, ovn or sriov; else at the next start"
    if switch not in HOT_SWITCHES or (change.after is None and switch == "sriov"):
        return "at the next start", f"NICs on a network of kind {switch} come and go at a start only"
    if change.after is None:
        return "live", ""
    if running.migratable is False:
        return "at the next start", "the VM cannot be migrated: see its condition Migratable"
    return _by_migration(running)


def _link(change: _Difference, running: Running) -> tuple[When, str]:
    return ("live", "") if running.up else _AT_START


def _placement(_: _Difference, running: Running) -> tuple[When, str]:
    if running.up and not running.staged:
        return "at the next move or start", "the VM is not moved for it"
    return _AT_START


_RULES: tuple[tuple[str, _Rule], ...] = (
    (r"powerState|onGuestShutdown|availability.*|disks\[[^\]]*\]\.deletionPolicy", _at_once),
    (r"cpu\.sockets", _sockets),
    (r"memory\.size", _memory),
    (r"disks\[[^\]]*\]", _disk),
    (r"disks\[[^\]]*\]\.size", _disk_size),
    (r"nics\[[^\]]*\]", _nic),
    (r"nics\[[^\]]*\]\.linkState", _link),
    (r"placement.*", _placement),
    (r".*", _at_start),
)
"""The first that matches a field says when it changes; what is refused never gets here."""
