"""``kubectl vdc import``: VMs that KubeVirt runs already, as manifests of ours that are taken over without a restart.

A draft is made part by part; what cannot be declared refuses the whole VM, with the reason. Then the operator's own
builder tells what the KubeVirt VM would be: what differs from what it is takes effect at its next start, and is said.
"""

import base64
import binascii
import json
import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TextIO

import yaml

from vdcos import api
from vdcos.api.overrides import PREFIX, is_allowed
from vdcos.cli.safe import safe
from vdcos.cli.vdc import objects as o
from vdcos.cli.vdc.objects import Objects, Tree, at
from vdcos.core import disks, quantity
from vdcos.core.drift import drift
from vdcos.core.foreign.multus import RESOURCE_NAME
from vdcos.core.objects import Key, Meta
from vdcos.providers import networks
from vdcos.services.virtualmachine import adoption, kubevirt_vm, overrides
from vdcos.services.virtualmachine.kubevirt_vm import Card, Parts, Volume

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def wanted(namespace: str) -> tuple[o.Wanted, ...]:
    own = (o.VM, o.CHILD, o.INSTANCE, o.VOLUME, o.CLAIM, o.DEFINITION)
    return (*(o.Wanted(each, namespace) for each in own), o.Wanted(o.NETWORK), o.Wanted(o.DATASTORE))


@dataclass
class Draft:
    """What becomes of one KubeVirt VM. With a reason in ``refused``, it stays as it is."""

    key: Key
    manifest: Tree = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    at_start: list[str] = field(default_factory=list)
    """Fields of the KubeVirt VM that change at its next start."""
    kept: list[str] = field(default_factory=list)
    """Fields that stay as they are, and that the manifest does not say."""
    agreed: bool = False
    """The KubeVirt VM may be taken over: its owner has said so, or it was ours."""


def strangers(found: Objects) -> list[Tree]:
    """The KubeVirt VMs that are not ours."""
    return [
        each
        for each in found.all(o.CHILD)
        if not any(ref["apiVersion"].startswith(f"{api.GROUP}/") for ref in o.references(each))
    ]


class _No(Exception):
    """Something of a VM cannot be declared. The text says what, and what can be done."""


def draft(found: Objects, child: Tree) -> Draft:
    """The manifest for one KubeVirt VM, or why there is none."""
    key = o.key_of(child)
    result = Draft(key)
    look = _Look(found, child)
    spec: Tree = {}
    for part in _PARTS:
        try:
            spec |= part(look)
        except (_No, ValueError) as no:  # a ValueError is of a quantity that the API does not take, such as 2e9
            result.refused.append(str(no))
    if result.refused:
        return result
    labels = {name: value for name, value in at(child, "spec.template.metadata.labels", {}).items() if _is_theirs(name)}
    result.manifest = {
        "apiVersion": api.API_VERSION,
        "kind": "VirtualMachine",
        "metadata": {"name": key.name, "namespace": key.namespace, **({"labels": labels} if labels else {})},
        "spec": spec,
    }
    spec |= _overrides(look, result.manifest)
    try:
        cr = api.parse(api.VirtualMachine, _stored(result.manifest))
    except api.InvalidObject as error:
        result.refused.append(f"it cannot be declared: {error}")
        return result
    built = _built(cr, look)
    template = at(child, "spec.template.spec", {})
    result.at_start = sorted({*_outer(drift(built, template)), *_in_lists(template, built)})
    result.kept = sorted(_outer(_undeclared(template, built)))
    meta = Meta(
        name=key.name,
        labels=child["metadata"].get("labels"),
        annotations=child["metadata"].get("annotations"),
    )
    result.agreed = adoption.agrees(meta) or adoption.was_ours(meta)
    return result


def _is_theirs(label: str) -> bool:
    return not label.partition("/")[0].endswith(("kubevirt.io", api.GROUP))


def _stored(manifest: Tree) -> Tree:
    return {**manifest, "metadata": {**manifest["metadata"], "uid": "draft", "generation": 1}}


@dataclass
class _Look:
    """One KubeVirt VM and what is around it."""

    found: Objects
    child: Tree

    @property
    def namespace(self) -> str:
        return str(self.child["metadata"].get("namespace", ""))

    @property
    def name(self) -> str:
        return str(self.child["metadata"]["name"])

    @property
    def template(self) -> Tree:
        template: Tree = at(self.child, "spec.template.spec", {})
        return template

    @property
    def domain(self) -> Tree:
        domain: Tree = at(self.template, "domain", {})
        return domain

    @property
    def instance(self) -> Tree | None:
        return self.found.get(o.INSTANCE, self.name, self.namespace)

    def allowed(self, tree: Tree) -> bool:
        """Whether the namespace may use something; by labels, only the operator can tell."""
        said = at(tree, "spec.allowedNamespaces", {})
        match said.get("from", "None"):
            case "All" | "Selector":
                return True
            case "Names":
                return self.namespace in said.get("names", ())
        return False


# The parts of a spec


def _identity(look: _Look) -> Tree:
    if not _LABEL.fullmatch(look.name):
        raise _No("its name stands in labels and is its host name: it may have 63 characters and no dots")
    if any(ref.get("controller") for ref in o.references(look.child)):
        owner = next(ref for ref in o.references(look.child) if ref.get("controller"))
        raise _No(f"it is controlled by {owner['kind']} {owner['name']}")
    if look.found.get(o.VM, look.name, look.namespace) is not None:
        raise _No("there is a VirtualMachine of its name: see kubectl vdc why vm/" + look.name)
    if "deletionTimestamp" in look.child["metadata"]:
        raise _No("it is being deleted")
    return {}


def _power(look: _Look) -> Tree:
    strategy = at(look.child, "spec.runStrategy") or ("Always" if at(look.child, "spec.running", False) else "Halted")
    runs = look.instance is not None and at(look.instance, "status.phase") not in ("Succeeded", "Failed")
    match strategy:
        case "Always":
            return {"powerState": "PoweredOn"}
        case "RerunOnFailure" | "Manual" | "Once":
            return {"powerState": "PoweredOn", "onGuestShutdown": "StayOff"} if runs else {"powerState": "PoweredOff"}
        case "Halted":
            return {"powerState": "PoweredOff"}
    raise _No(f"its runStrategy {strategy} cannot be declared")


_MATCHERS = {
    "instancetype": ("VirtualMachineClusterInstancetype", "VirtualMachineInstancetype"),
    "preference": ("VirtualMachineClusterPreference", "VirtualMachinePreference"),
}


def _size(look: _Look) -> Tree:
    """CPU and memory, by an instance type or by numbers."""
    spec: Tree = {}
    for matcher, kinds in _MATCHERS.items():
        said = at(look.child, f"spec.{matcher}", None)
        if said is None:
            continue
        kind = next(
            (each for each in kinds if said.get("kind", kinds[0]).lower() in (each.lower(), each.lower() + "s")), ""
        )
        if not said.get("name") or not kind:
            raise _No(f"its {matcher} has no name yet, or a kind that is not known")
        spec[matcher] = {"name": said["name"], "kind": kind}
    if "instancetype" in spec:
        return spec
    requests, limits = (at(look.domain, f"resources.{part}", {}) for part in ("requests", "limits"))
    memory = at(look.domain, "memory.guest") or requests.get("memory") or limits.get("memory")
    if not memory:
        raise _No("it says nowhere how much memory it has")
    spec["cpu"] = _cpu(look, requests, limits)
    spec["memory"] = {"size": str(memory)}
    pages = at(look.domain, "memory.hugepages.pageSize")
    if pages:
        spec["memory"]["hugepages"] = pages
    reserved = {}
    if requests.get("cpu") and not spec["cpu"].get("dedicated"):
        reserved["cpu"] = str(requests["cpu"])
    if requests.get("memory") and not pages and quantity.whole(requests["memory"]) <= quantity.whole(memory):
        reserved["memory"] = str(requests["memory"])
    return spec | ({"reservations": reserved} if reserved else {})


def _cpu(look: _Look, requests: Tree, limits: Tree) -> Tree:
    said = at(look.domain, "cpu", {})
    cpu = {part: said.get(part, 1) for part in ("sockets", "cores", "threads")}
    if not any(part in said for part in cpu):
        # KubeVirt makes a socket of each CPU that is asked for where no topology is said.
        cpu["sockets"] = max(1, math.ceil(quantity.parse(limits.get("cpu") or requests.get("cpu") or "1")))
    if model := said.get("model"):
        cpu["model"] = model
    if said.get("dedicatedCpuPlacement"):
        cpu["dedicated"] = True
    return cpu


def _disks(look: _Look) -> Tree:
    drives = {drive["name"]: drive for drive in at(look.domain, "devices.disks", [])}
    declared = []
    for volume in at(look.template, "volumes", []):
        kind = next((each for each in volume if each != "name"), "nothing")
        if kind in adoption.NOT_DISKS:
            continue
        claim = adoption.claim_of(volume)
        if not claim:
            raise _No(f"volume {volume['name']} is of kind {kind}, which is no disk that outlives its VM")
        declared.append(_disk(look, volume["name"], claim, drives.get(volume["name"], {"disk": {}})))
    return {"disks": declared} if declared else {}


def _disk(look: _Look, name: str, claim_name: str, drive: Tree) -> Tree:
    if "disk" not in drive:
        other = next((each for each in ("cdrom", "lun", "floppy") if each in drive), "another kind")
        raise _No(f"disk {name} is a {other}; only disks can be declared")
    if not _LABEL.fullmatch(name) or name.startswith("vdcos-"):
        raise _No(f"disk {name}: the name cannot be declared")
    claim = look.found.get(o.CLAIM, claim_name, look.namespace)
    if claim is None:
        why = look.found.missing.get(o.CLAIM)
        raise _No(f"disk {name}: " + (why or f"there is no claim {claim_name}"))
    other = at(claim, "metadata.labels", {}).get(disks.VM)
    if other not in (None, look.name):
        raise _No(f"disk {name}: claim {claim_name} is a disk of VirtualMachine {other}")
    volume = look.found.get(o.VOLUME, claim_name, look.namespace)
    bus = drive["disk"].get("bus", "virtio")
    declared: Tree = {"name": name, "size": _disk_size(claim, volume), "datastore": _datastore(look, name, claim)}
    if other is None or claim_name != disks.name(look.name, name):
        declared["claimName"] = claim_name
    if bus != "virtio":
        declared["bus"] = bus
    if order := drive.get("bootOrder"):
        declared["bootOrder"] = order
    return declared


def _disk_size(claim: Tree, volume: Tree | None) -> str:
    """As the operator reckons it: what a DataVolume asks for, else what the claim requests."""
    marked = at(claim, "metadata.annotations", {})
    told = marked.get(disks.SIZE) or marked.get(disks.REQUESTED)
    asked = at(volume, "spec.storage.resources.requests.storage") or at(volume, "spec.pvc.resources.requests.storage")
    return quantity.human(quantity.whole(told or asked or at(claim, "spec.resources.requests.storage", "0")))


def _datastore(look: _Look, disk: str, claim: Tree) -> str:
    wanted = at(claim, "spec.storageClassName")
    if o.DATASTORE in look.found.missing:
        raise _No(f"disk {disk}: {look.found.missing[o.DATASTORE]}")
    on_class = [each for each in look.found.all(o.DATASTORE) if at(each, "spec.storageClassName") == wanted]
    fitting = [each for each in on_class if look.allowed(each)]
    if not fitting:
        lack = "allows this namespace" if on_class else "is on it"
        raise _No(f"disk {disk}: it is on storage class {wanted or 'none'}, and no Datastore {lack}")
    return str(fitting[0]["metadata"]["name"])


def _nics(look: _Look) -> Tree:
    interfaces = {each["name"]: each for each in at(look.domain, "devices.interfaces", [])}
    sources = {each["name"]: each for each in at(look.template, "networks", [])}
    if not interfaces and adoption.DEFAULT_NIC in adoption.interfaces(look.template):
        interfaces = {adoption.DEFAULT_NIC: {"name": adoption.DEFAULT_NIC, "masquerade": {}}}
        sources = {adoption.DEFAULT_NIC: {"name": adoption.DEFAULT_NIC, "pod": {}}}
    running = {each.get("name"): each for each in at(look.instance, "status.interfaces", [])}
    declared = [
        _nic(look, interface, sources.get(name, {}), running.get(name, {}))
        for name, interface in interfaces.items()
        if interface.get("state") != "absent"
    ]
    return {"nics": declared} if declared else {}


def _nic(look: _Look, interface: Tree, source: Tree, running: Tree) -> Tree:
    name = interface["name"]
    if not _LABEL.fullmatch(name):
        raise _No(f"NIC {name}: the name cannot be declared")
    nic: Tree = {"name": name, "network": _network(look, name, interface, source)}
    if (model := interface.get("model", "virtio")) != "virtio":
        nic["model"] = model
    if mac := interface.get("macAddress") or running.get("mac"):
        nic["macAddress"] = str(mac).lower()
    if interface.get("state") == "down":
        nic["linkState"] = "Down"
    return nic


def _network(look: _Look, nic: str, interface: Tree, source: Tree) -> str:
    """The Network that leads where a card leads."""
    if o.NETWORK in look.found.missing:
        raise _No(f"NIC {nic}: {look.found.missing[o.NETWORK]}")
    where = "the pod network" if "pod" in source else ""
    wiring: tuple[str, ...] | None = ("pod",) if "pod" in source else None
    if named := at(source, "multus.networkName"):
        namespace, _, definition_name = str(named).rpartition("/")
        definition = look.found.get(o.DEFINITION, definition_name, namespace or look.namespace)
        if definition is None:
            why = look.found.missing.get(o.DEFINITION, f"there is no NetworkAttachmentDefinition {named}")
            raise _No(f"NIC {nic}: {why}")
        where = f"where NetworkAttachmentDefinition {named} leads"
        wiring = _leads(
            at(definition, "spec.config"), at(definition, "metadata.annotations", {}).get(RESOURCE_NAME, "")
        )
    same = []
    for tree in look.found.all(o.NETWORK):
        network = _network_of(tree)
        if network is None:
            continue
        attachment = networks.attachment(network, look.namespace, {})
        definition_of = networks.definition(network, look.namespace, {})
        if isinstance(attachment, networks.Problem) or isinstance(definition_of, networks.Problem):
            continue
        leads = ("pod",) if definition_of is None else _leads(definition_of.config, definition_of.resource)
        if leads == wiring and next(iter(attachment.binding)) in interface and look.allowed(tree):
            same.append(network.metadata.name)
    if not same:
        binding = next(
            (each for each in ("masquerade", "bridge", "sriov", "passtBinding", "binding") if each in interface), "?"
        )
        raise _No(
            f"NIC {nic}: no Network that this namespace may use leads to {where or 'its source'} by binding {binding}"
        )
    return same[0]


def _network_of(tree: Tree) -> api.Network | None:
    """What a Network declares; None for one that was stored under another schema."""
    try:
        return api.parse(api.Network, {**tree, "status": {}})
    except api.InvalidObject:
        return None


_WIRES = ("bridge", "vlan", "vlanID", "physicalNetworkName", "topology")


def _leads(config: str, resource: str) -> tuple[str, ...] | None:
    """Where a CNI configuration leads: two that say the same are the same port group. None where nobody can tell."""
    try:
        said = json.loads(config or "{}")
        first = said.get("plugins", [said])[0]
        kind = {"cnv-bridge": "bridge"}.get(first["type"], first["type"])
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    more = resource if kind == "sriov" else ""
    return (kind, more, *(str(first.get(wire) or "") for wire in _WIRES))


def _guest(look: _Look) -> Tree:
    guest: Tree = {}
    if hostname := at(look.template, "hostname"):
        guest["hostname"] = hostname
    for volume in at(look.template, "volumes", []):
        for kind, said_type in (("cloudInitNoCloud", "NoCloud"), ("cloudInitConfigDrive", "ConfigDrive")):
            if kind in volume:
                guest["cloudInit"] = {"type": said_type, **_cloud_init(volume[kind])}
        if "sysprep" in volume:
            secret, config = (at(volume, f"sysprep.{each}.name") for each in ("secret", "configMap"))
            guest["sysprep"] = {"secretName": secret} if secret else {"configMapName": config}
    if secrets := _key_secrets(look):
        guest["sshKeySecretNames"] = secrets
    return {"guest": guest} if guest else {}


def _cloud_init(said: Tree) -> Tree:
    found: Tree = {}
    for ours, inline, secret in (
        ("userData", "userData", "secretRef"),
        ("networkData", "networkData", "networkDataSecretRef"),
    ):
        text = said.get(inline) or _decoded(said.get(f"{inline}Base64"))
        if name := at(said, f"{secret}.name"):
            found[f"{ours}SecretName"] = name
        elif text:
            if len(text.encode()) > 2048:
                raise _No(f"its cloud-init {ours} has more than 2048 bytes; put it into a Secret first")
            found[ours] = text
    if not found:
        raise _No("its cloud-init volume has no data")
    return found


def _decoded(text: Any) -> str:
    try:
        return base64.b64decode(text or "", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise _No("its cloud-init data are not text") from error


def _key_secrets(look: _Look) -> list[str]:
    """Secrets of SSH keys that go through cloud-init, where all credentials are of that kind."""
    said = at(look.template, "accessCredentials", [])
    names = [at(each, "sshPublicKey.source.secret.secretName") for each in said]
    ways = [at(each, "sshPublicKey.propagationMethod", {}) for each in said]
    return names if all(names) and all("noCloud" in way or "configDrive" in way for way in ways) else []


def _firmware(look: _Look) -> Tree:
    said, running = at(look.domain, "firmware", {}), at(look.instance, "spec.domain.firmware", {})
    firmware: Tree = {}
    if identity := said.get("uuid") or running.get("uuid"):
        firmware["uuid"] = str(identity).lower()
    if serial := said.get("serial"):
        firmware["serial"] = serial
    loader = said.get("bootloader", {})
    if "efi" in loader:
        firmware["bootloader"] = "UEFI"
        if at(loader, "efi.secureBoot", True) is not False:
            firmware["secureBoot"] = True
        if at(loader, "efi.persistent", False):
            raise _No("its EFI variables are persistent, which cannot be declared")
    elif "bios" in loader:
        firmware["bootloader"] = "BIOS"
    tpm = at(look.domain, "devices.tpm", None)
    if tpm is not None and tpm.get("enabled") is not False:
        firmware["tpm"] = "Persistent" if tpm.get("persistent") else "Ephemeral"
    return {"firmware": firmware} if firmware else {}


def _devices(look: _Look) -> Tree:
    found = [
        {"name": each["name"], "resourceName": each["deviceName"], "type": kind}
        for where, kind in (("hostDevices", "HostDevice"), ("gpus", "GPU"))
        for each in at(look.domain, f"devices.{where}", [])
    ]
    return {"devices": found} if found else {}


def _placement(look: _Look) -> Tree:
    """Labels of nodes and tolerations. Affinity stays as it is in the KubeVirt VM."""
    placement: Tree = {}
    if selector := at(look.template, "nodeSelector", {}):
        placement["nodeSelector"] = selector
    tolerations = at(look.template, "tolerations", [])
    if tolerations and all(each.get("key") and each.get("effect") for each in tolerations):
        placement["tolerations"] = tolerations
    return {"placement": placement} if placement else {}


_PARTS = (_identity, _power, _size, _disks, _nics, _guest, _firmware, _devices, _placement)
"""Each gives some fields of the spec, or says why there are none. In the order in which a person writes them."""


# What else the KubeVirt VM says

_KUBEVIRTS = ("/architecture", "/domain/machine", "/domain/machine/type")
"""What KubeVirt fills in itself."""


def _overrides(look: _Look, manifest: Tree) -> Tree:
    """What this API does not model, and an override may say."""
    try:
        built = _built(api.parse(api.VirtualMachine, _stored(manifest)), look)
    except api.InvalidObject:
        return {}
    found = [
        {"op": "add", "path": f"{PREFIX}{path}", "value": value}
        for path, value in _overridable(look.template, built)
        if path not in _KUBEVIRTS
    ]
    found.sort(key=lambda override: str(override["path"]))
    return {"overrides": found[:32]} if found else {}


def _overridable(theirs: Any, ours: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Places that may be overridden, with what the KubeVirt VM says there and ours would not. Largest first."""
    if path and is_allowed(PREFIX + path):
        if next(drift(theirs, ours), None) is not None:
            yield path, theirs
    elif isinstance(theirs, Mapping):
        for name, value in theirs.items():
            below = ours.get(name) if isinstance(ours, Mapping) else None
            yield from _overridable(value, below, f"{path}/{name}")
    elif isinstance(theirs, list) and path in ("/domain/devices/disks", "/domain/devices/interfaces"):
        named = {each["name"]: each for each in ours or () if isinstance(each, Mapping)}
        for each in theirs:
            if each.get("name") in named:
                yield from _overridable(each, named[each["name"]], f"{path}/{each['name']}")


def _built(cr: api.VirtualMachine, look: _Look) -> Tree:
    """What the operator makes of a manifest, as the template's spec."""
    sources = {each["name"]: each for each in at(look.template, "volumes", [])}
    volumes = []
    for disk in cr.spec.disks:
        claim = disks.claim(cr.metadata.name, disk.name, disk.claim_name)
        kind: Any = "dataVolume" if "dataVolume" in sources.get(disk.name, {}) else "persistentVolumeClaim"
        hot = bool(at(sources.get(disk.name), f"{kind}.hotpluggable", False))
        volumes.append(Volume(disk, claim, kind, hot))
    cards = []
    for nic in cr.spec.nics:
        network = _network_of(look.found.get(o.NETWORK, nic.network) or {})
        assert network is not None
        attachment = networks.attachment(network, look.namespace, {})
        assert not isinstance(attachment, networks.Problem)
        cards.append(Card(nic, attachment.binding, attachment.source))
    owner = Meta(name=cr.metadata.name, namespace=look.namespace, uid="draft")
    manifest = kubevirt_vm.build(cr, owner, Parts(run_strategy="", volumes=volumes, cards=cards))
    if cr.spec.overrides:
        manifest = overrides.apply(manifest, cr.spec.overrides)
    template: Tree = manifest["spec"]["template"]["spec"]
    return template


def _undeclared(theirs: Tree, ours: Tree) -> Iterator[str]:
    """What the KubeVirt VM says and ours does not, and KubeVirt has not filled in itself."""
    for path in drift(theirs, ours):
        if (
            "[" not in path
            and at(theirs, path, None) not in ({}, [])
            and f"/{path.replace('.', '/')}" not in _KUBEVIRTS
        ):
            yield path


def _outer(paths: Iterable[str]) -> list[str]:
    return [path.removeprefix("domain.") for path in paths]


def _in_lists(theirs: Tree, ours: Tree) -> list[str]:
    """Fields in disks, NICs and so on that ours do not have: lists are ours as wholes."""
    return _outer(path for path in drift(theirs, ours) if "[" in path)


# Writing


def write(found: Iterable[Draft], output: str, stream: TextIO) -> None:
    """YAML with comments for people and Git, or a List."""
    found = list(found)
    if output == "json":
        items = [each.manifest for each in found if not each.refused]
        json.dump({"apiVersion": "v1", "kind": "List", "items": items}, stream, indent=2)
        stream.write("\n")
        return
    stream.writelines(_document(each) for each in found)


def _document(found: Draft) -> str:
    name = safe(str(found.key))
    if found.refused:
        reasons = "".join(f"#   - {safe(reason)}\n" for reason in found.refused)
        return f"# KubeVirt VM {name} stays as it is, because it cannot be taken over:\n{reasons}"
    lines = [f"# KubeVirt VM {name}, taken over as it runs."]
    if not found.agreed:
        lines.append(
            f"# Agree first: kubectl annotate vm.kubevirt.io {safe(found.key.name)} -n {safe(found.key.namespace)} "
            f"{adoption.ADOPTABLE}=true"
        )
    lines += _listed("At its next start, and not before, these change:", found.at_start)
    lines += _listed("These stay in the KubeVirt VM, and are not declared here:", found.kept)
    text = yaml.dump(found.manifest, Dumper=_Readable, sort_keys=False, width=120)
    return "---\n" + "\n".join(lines) + "\n" + text


def _listed(words: str, paths: list[str]) -> list[str]:
    if not paths:
        return []
    return [f"# {words}", *textwrap.wrap(safe(", ".join(paths)), 110, initial_indent="#   ", subsequent_indent="#   ")]


class _Readable(yaml.SafeDumper):
    """User data as the block of text that they are."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Readable.add_representer(str, _text)
