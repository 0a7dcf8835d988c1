"""``kubectl vdc diff``: what applying manifests would change, when it would take effect, and what would be refused.

The API server validates (a dry run of the very write), the operator's own functions forecast the rest. Nothing is
written.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from vdcos import api
from vdcos.api.network import NetworkSpec
from vdcos.cli.vdc import objects as o
from vdcos.cli.vdc.objects import Objects, Tree, at
from vdcos.cli.vdc.screen import Screen, Tone, Word
from vdcos.core import quantity
from vdcos.core.foreign.kubevirt import KubeVirt
from vdcos.core.objects import Resource
from vdcos.runtime.port import Port
from vdcos.runtime.requests import APPLY, ApiError
from vdcos.runtime.store import decoder
from vdcos.services.virtualmachine.changes import Change, Running, changes, differences

MANAGER = "kubectl-vdc"
OURS = {each.kind: each for each in o.NAMED.values()}


def resource_of(manifest: Mapping[str, Any]) -> Resource | None:
    """The resource of a manifest of ours."""
    return OURS.get(str(manifest.get("kind"))) if manifest.get("apiVersion") == api.API_VERSION else None


def wanted(manifests: Iterable[Tree]) -> tuple[o.Wanted, ...]:
    """What has to be read for a forecast."""
    found: list[o.Wanted] = [o.Wanted(o.KUBEVIRT), o.Wanted(o.NETWORK)]
    for each in manifests:
        resource, namespace = resource_of(each), each["metadata"].get("namespace", "")
        if resource == o.VM:
            found += [o.Wanted(kind, namespace) for kind in (o.VM, o.CHILD, o.INSTANCE)]
        elif resource is not None:
            found.append(o.Wanted(resource))
    return tuple(dict.fromkeys(found))


async def dry_run(port: Port, manifest: Tree, live: Tree | None) -> Tree:
    """What the API server would store. Raises ApiError when it refuses.

    As whoever applied it last would do it: with server-side apply under his name, else in the place of the whole spec.
    """
    resource = resource_of(manifest)
    assert resource is not None
    meta = manifest["metadata"]
    path = resource.path(meta.get("namespace", ""), meta["name"])
    manager = applier(live)
    if live is not None and not manager:
        whole = {**live, "spec": manifest.get("spec", {})}
        query = {"dryRun": "All", "fieldManager": MANAGER, "fieldValidation": "Strict"}
        body = await port.call("update", "PUT", path, query, json.dumps(whole).encode())
    else:
        sent = {**manifest, "metadata": {name: value for name, value in meta.items() if name != "managedFields"}}
        query = {"dryRun": "All", "fieldManager": manager or MANAGER, "force": "true", "fieldValidation": "Strict"}
        body = await port.call("apply", "PATCH", path, query, json.dumps(sent).encode(), APPLY)
    found: Tree = json.loads(body)
    return found


def applier(live: Tree | None) -> str:
    """Who owns most of the spec by server-side apply; "" when nobody has applied it so."""
    size: dict[str, int] = {}
    for each in at(live, "metadata.managedFields", []):
        spec = at(each, "fieldsV1.f:spec", None)
        if each.get("operation") == "Apply" and spec is not None and not each.get("subresource"):
            size[each["manager"]] = len(json.dumps(spec))
    return max(size, key=lambda manager: size[manager], default="")


async def compare(port: Port, manifests: Iterable[Tree], found: Objects) -> list[Tree]:
    """For programs: each manifest with what would change. Raises ApiError when the API server does not answer."""
    return [await _one(port, each, found) for each in manifests]


async def _one(port: Port, manifest: Tree, found: Objects) -> Tree:
    resource, meta = resource_of(manifest), manifest["metadata"]
    named = {"kind": manifest["kind"], "namespace": meta.get("namespace", ""), "name": meta["name"]}
    named = {part: text for part, text in named.items() if text}
    assert resource is not None
    live = found.get(resource, meta["name"], meta.get("namespace", ""))
    try:
        after = await dry_run(port, manifest, live)
    except ApiError as error:
        if error.status not in (400, 403, 404, 409, 422):
            raise
        return {**named, "result": "refused", "reason": error.reason, "message": error.message, "changes": []}
    if live is None and resource in found.missing:
        return {**named, "result": "unknown", "reason": "Unreadable", "message": found.missing[resource], "changes": []}
    if live is None:
        return {**named, "result": "created", "changes": []}
    if live["metadata"].get("deletionTimestamp"):
        message = "it is being deleted: what is applied now goes with it"
        return {**named, "result": "refused", "reason": "Deleting", "message": message, "changes": []}
    told = list(forecast(live, after, found))
    return {**named, "result": "changed" if told else "unchanged", "changes": told}


def forecast(live: Tree, after: Tree, found: Objects) -> Iterable[Tree]:
    """The changes from one stored object to the next."""
    if live["kind"] == "VirtualMachine":
        old, new = (_spec(each) for each in (live, after))
        yield from map(_told, changes(old, new, running(live, found)))
        return
    for path, before, now in differences(live.get("spec", {}), after.get("spec", {})):
        yield _told(Change(f"spec.{path}", before, now, "at once", _consequence(live, path)))


def _spec(tree: Tree) -> api.virtualmachine.VirtualMachineSpec:
    """Raises ValueError for what was stored under another schema."""
    try:
        return api.parse(api.VirtualMachine, {**tree, "status": {}}).spec
    except api.InvalidObject as error:
        raise ValueError(f"VirtualMachine {o.key_of(tree)} does not fit the present schema: {error}") from error


def _consequence(live: Tree, path: str) -> str:
    vms = at(live, "status.virtualMachines.count", 0)
    if live["kind"] == "Network" and vms and path.partition(".")[0] not in ("allowedNamespaces", "uplink"):
        return f"VMs that run keep what it said before until they move or restart: {vms} use it"
    return ""


def _told(change: Change) -> Tree:
    values = {} if change.secret else {"before": change.before, "after": change.after}
    return {"field": change.field, **values, "takesEffect": change.when, **({"why": change.why} if change.why else {})}


def running(vm: Tree, found: Objects) -> Running:
    """What a change of a VM depends on, as far as it was read."""
    meta = vm["metadata"]
    instance = found.get(o.INSTANCE, meta["name"], meta["namespace"])
    child = found.get(o.CHILD, meta["name"], meta["namespace"])
    installed = _kubevirt(found)
    domain = at(instance, "spec.domain", {})
    migratable = o.condition(instance or {}, "LiveMigratable").get("status")
    volumes = at(child, "spec.template.spec.volumes", [])
    return Running(
        up=at(instance, "status.phase") == "Running",
        staged=installed is not None and installed.spec.configuration.vm_rollout_strategy == "Stage",
        migrates=installed.migrates_to_update if installed else None,
        migratable={"True": True, "False": False}.get(migratable or ""),
        restart_pending=o.condition(child or {}, "RestartRequired").get("status") == "True",
        most_sockets=at(domain, "cpu.maxSockets", None),
        most_memory=_bytes(at(domain, "memory.maxGuest", None)),
        booted_memory=_bytes(at(instance, "status.memory.guestAtBoot", None)),
        hotplugs_disks=installed.hotplugs_disks if installed else None,
        expands_disks=installed.gate("ExpandDisks") if installed else None,
        hot_disks=frozenset(
            each["name"]
            for each in volumes
            if at(each, "dataVolume.hotpluggable", False) or at(each, "persistentVolumeClaim.hotpluggable", False)
        ),
        switches={each["metadata"]["name"]: _switch(each) for each in found.all(o.NETWORK)},
    )


def _kubevirt(found: Objects) -> KubeVirt | None:
    trees = found.all(o.KUBEVIRT)
    decoded = decoder(KubeVirt)(json.dumps(trees[0]).encode()) if trees else None
    return decoded if isinstance(decoded, KubeVirt) else None


def _bytes(text: Any) -> int | None:
    try:
        return quantity.whole(text) if text is not None else None
    except ValueError:
        return None


def _switch(network: Tree) -> str:
    return next((kind for kind in NetworkSpec.choices if kind in at(network, "spec", {})), "")


# For people

_TONES: Mapping[str, Tone] = {
    "created": "good",
    "changed": "wait",
    "unchanged": "dim",
    "refused": "bad",
    "unknown": "bad",
}
_WHEN: Mapping[str, Tone] = {"at the next start": "wait", "at the next move or start": "wait"}


def show(reports: Iterable[Tree], screen: Screen) -> None:
    """Each object with its changes."""
    for each in reports:
        where = f"{each['namespace']}/" if "namespace" in each else ""
        screen.line((Word(f"{each['kind']} {where}{each['name']}  ", "strong"), _result(each)))
        if "message" in each:
            screen.line(each["message"], indent=2)
        if each["changes"]:
            rows = [
                (
                    change["field"],
                    Word(change["takesEffect"], _WHEN.get(change["takesEffect"], "good")),
                    _values(change) + (f" ({change['why']})" if "why" in change else ""),
                )
                for change in each["changes"]
            ]
            screen.table(("FIELD", "TAKES EFFECT", "CHANGE"), rows, indent=2)


def _result(report: Tree) -> Word:
    words = {
        "created": "would be created",
        "changed": "would be changed",
        "unchanged": "would stay as it is",
        "refused": "would be refused",
        "unknown": "cannot be compared",
    }
    return Word(words[report["result"]], _TONES[report["result"]])


def _values(change: Tree) -> str:
    if "before" not in change:
        return "changed"
    return f"{_value(change['before'])} -> {_value(change['after'])}"


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping) and "size" in value:
        return f"{value['size']} on {value.get('datastore', '?')}"
    if isinstance(value, Mapping) and "network" in value:
        return f"on {value['network']}"
    return value if isinstance(value, str) else json.dumps(value)
