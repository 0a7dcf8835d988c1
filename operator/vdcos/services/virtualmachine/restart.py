"""RestartRequired: what is declared and does not run yet, and whether it gets there without a restart."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from vdcos.core import conditions
from vdcos.core.conditions import Condition
from vdcos.core.drift import drift
from vdcos.core.foreign import kubevirt
from vdcos.services.virtualmachine import networks
from vdcos.services.virtualmachine.case import Case
from vdcos.services.virtualmachine.kubevirt_vm import CLOUD_INIT, SYSPREP, Card

REQUIRED = "RestartRequired"

# Fields of KubeVirt's template and the words of ours for them; the first match names a difference. What has no name
# here follows without a restart (placement) or is nothing that a user declares.
_WORDS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"domain\.cpu\.(sockets|cores|threads|model)", "spec.cpu.{}"),
        (r"domain\.cpu\.dedicatedCpuPlacement", "spec.cpu.dedicated"),
        (r"domain\.memory\.guest", "spec.memory.size"),
        (r"domain\.memory\.hugepages", "spec.memory.hugepages"),
        (r"domain\.(cpu|memory)$", "spec.{}"),
        (r"domain\.resources\.requests\.(cpu|memory)", "spec.reservations.{}"),
        (r"domain\.resources", "spec.reservations"),
        (r"domain\.devices\.autoattachPodInterface", ""),
        (rf"(?:domain\.devices\.disks|volumes)\[(?:{CLOUD_INIT}|{SYSPREP})\]", "spec.guest"),
        (r"(?:domain\.devices\.disks|volumes)\[([^\]]+)\]", "spec.disks[{}]"),
        (r"(?:domain\.devices\.interfaces|networks)\[([^\]]+)\]", "spec.nics[{}]"),
        (r"domain\.devices\.(?:hostDevices|gpus)", "spec.devices"),
        (r"domain\.(?:firmware|features\.smm|devices\.tpm)", "spec.firmware"),
        (r"accessCredentials|hostname", "spec.guest"),
        (r"domain\.\w+|terminationGracePeriodSeconds|\w*[dD]ns\w*|subdomain|architecture", "spec.overrides"),
    )
)

# Values are told where they are short words. What a guest is given may hold passwords: it is never told.
_TOLD = re.compile(r"[!-~][ -~]{0,63}")
_UNTOLD = f"volumes[{CLOUD_INIT}]"

# Changes that KubeVirt makes while the VM runs, by a migration that its workload updater starts.
_BY_MIGRATION = ("HotVCPUChange", "HotMemoryChange", "MigrationRequired")


def condition(case: Case) -> Condition:
    """Whether a restart is needed, with the fields that wait for it and what runs instead."""
    child, instance = case.child, case.instance
    flagged = kubevirt.condition(child.status.conditions if child else (), REQUIRED)
    if child is None or instance is None or not case.mine or not (case.facts.up or flagged.status == "True"):
        return conditions.false(REQUIRED, "NotRunning", "what is declared takes effect at the next start")
    if child.status.desired_generation != child.metadata.generation:
        # KubeVirt has not looked at the last change yet: what was said stands until it has.
        status, reason, message = case.stored(REQUIRED)
        if status == "True":
            return Condition(REQUIRED, "True", reason, message)
        return conditions.false(REQUIRED, "UpToDate", "the VM runs what is declared")
    fields = list(_differences(case)) if flagged.status == "True" else list(_missed(case))
    fields += [f"spec.disks[{decision.disk.name}].size" for decision in case.disks if decision.restart]
    if fields or flagged.status == "True":
        what = "; ".join(fields[:8]) or f"KubeVirt says: {flagged.message}"
        more = f" and {len(fields) - 8} more" if len(fields) > 8 else ""
        message = (
            f"takes effect at the next start: {what}{more}. To restart: virtctl restart {case.facts.vm}, or set "
            "powerState to PoweredOff and then to PoweredOn"
        )
        return conditions.true(REQUIRED, "RestartRequired", message)
    return _live(case, instance)


def _live(case: Case, instance: kubevirt.VirtualMachineInstance) -> Condition:
    """Nothing needs a restart; some of it may be under way."""
    found = instance.status.conditions
    if not any(kubevirt.condition(found, kind).status == "True" for kind in _BY_MIGRATION):
        return conditions.false(REQUIRED, "UpToDate", "the VM runs what is declared")
    migratable = kubevirt.condition(found, "LiveMigratable")
    if migratable.status == "False":
        message = f"a change needs a live migration, and the VM cannot be migrated: {migratable.message}; restart it"
        return conditions.true(REQUIRED, "NotMigratable", message)
    if case.seen.kubevirt is not None and not case.seen.kubevirt.migrates_to_update:
        message = (
            "a change needs a live migration, and KubeVirt does not start one (its workloadUpdateMethods lack "
            "LiveMigrate); migrate the VM with virtctl migrate, or restart it"
        )
        return conditions.true(REQUIRED, "MigrationNeeded", message)
    return conditions.false(REQUIRED, "LiveUpdate", "a change is being made while the VM runs, by a live migration")


def _differences(case: Case) -> Iterator[str]:
    """What is declared and does not run, in words of the spec, each once."""
    said = set()
    for path, wanted, runs in _raw(case.template, case.running):
        for pattern, name in _WORDS:
            if found := pattern.match(path):
                field = name.format(*found.groups())
                if field and field not in said:
                    said.add(field)
                    yield f"{field} ({_compared(wanted, runs, not path.startswith(_UNTOLD))})"
                break


def _raw(template: Mapping[str, Any], running: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Paths that differ, what is wanted there, and what runs."""
    for path in sorted(drift(template, running)):
        yield path, _at(template, path), _at(running, path)
    for where in (("volumes",), ("networks",), ("domain", "devices", "hostDevices"), ("domain", "devices", "gpus")):
        kept = {item["name"] for item in _items(template, where)}
        for item in _items(running, where):
            if item["name"] not in kept:
                yield f"{'.'.join(where)}[{item['name']}]", None, item


def _missed(case: Case) -> Iterator[str]:
    """What KubeVirt neither changes live nor calls a reason to restart: new cards that are not plugged in live. One of
    which the KubeVirt VM was not told, for want of something else, does not come by a restart either."""
    told, present = (
        {interface["name"] for interface in networks.interfaces(spec)} for spec in (case.template, case.running)
    )
    for name, card in case.cards.items():
        if isinstance(card, Card) and name in told - present and not card.binding.keys() & {"bridge", "sriov"}:
            yield f"spec.nics[{name}]"


def _items(tree: Mapping[str, Any], where: tuple[str, ...]) -> list[Mapping[str, Any]]:
    for step in where[:-1]:
        tree = tree.get(step, {})
    return list(tree.get(where[-1], ()))


def _at(tree: Any, path: str) -> Any:
    """The value at a path of ``core.drift``; None when there is none."""
    for step in re.findall(r"[^.\[\]]+|\[[^\]]+\]", path):
        if step.startswith("["):
            items = tree if isinstance(tree, list) else []
            tree = next((item for item in items if item.get("name") == step[1:-1]), None)
        else:
            tree = tree.get(step) if isinstance(tree, dict) else None
    return tree


def _compared(wanted: Any, runs: Any, told: bool) -> str:
    """What is declared and what runs, the values themselves only where they may be ``told``."""
    if told and _is_word(wanted):
        if _is_word(runs):
            return f"declared {wanted}, running {runs}"
        if runs is None:
            return f"declared {wanted}, running without"
    if runs is None:
        return "not there yet"
    return "no longer declared, still there" if wanted is None else "changed"


def _is_word(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and _TOLD.fullmatch(value) is not None)
