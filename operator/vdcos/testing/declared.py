"""What has to be there for what users declare: KubeVirt VMs, new disks, definitions of networks, policies of hosts.

Written from the API's reference and KubeVirt's, for the laws. It shares nothing with what builds these objects in the
operator, and follows references in the world instead: a NIC leads to the definition that its Network owns, a disk to
the claim that is labelled as its own.
"""

import json
from collections.abc import Sequence
from typing import Any

from vdcos.core import disks, kinds
from vdcos.core.foreign.multus import NetworkAttachmentDefinition
from vdcos.core.objects import Key
from vdcos.testing.apiserver import NAMESPACE, Held
from vdcos.testing.cluster import DV, NODE, PVC
from vdcos.testing.simulator import World
from vdcos.testing.trees import Tree

NAD = NetworkAttachmentDefinition.resource
ITS_OWN = "(its own)"
"""Stands for an identity that nobody declares: any will do that is this VM's alone, and always the same."""
SWITCHES = {"pod": "masquerade", "bridge": "bridge", "ovs": "bridge", "ovn": "bridge", "sriov": "sriov"}
"""How a guest's interface is joined to that of its pod, by the kind of Network."""
AGENTS = {"bridge": "bridge.network.kubevirt.io", "ovs": "ovs-cni.network.kubevirt.io"}
"""Who tells which hosts have a bridge, as a domain of node resources, where anybody does."""


def virtual_machine(world: World, vm: Held) -> Tree:
    """The spec of the KubeVirt VM of a VirtualMachine, but for its power. It refers to disks by their claims."""
    spec, labels = vm.tree["spec"], dict(vm.meta.get("labels", {}))
    for name in [name for name in labels if name.partition("/")[0].endswith("kubevirt.io")]:
        del labels[name]
    template = {"metadata": {"labels": {**labels, disks.VM: vm.key.name}}, "spec": _template(world, vm)}
    chosen = {matcher: spec[matcher] for matcher in ("instancetype", "preference") if matcher in spec}
    tree = {**chosen, "template": template}
    for override in spec.get("overrides", ()):
        _override({"spec": tree}, override)
    return tree


def as_kubevirt_has_it(vm: Held, child: Tree) -> Tree:
    """The spec of a KubeVirt VM in the form of ``virtual_machine``: without power, without cards that are about to be
    unplugged, with claims for volumes, and with ``ITS_OWN`` for what is not declared."""
    template = child["template"]["spec"]
    domain = template["domain"]
    devices, firmware = domain["devices"], dict(domain.get("firmware", {}))
    for field in ("uuid", "serial"):
        if field in firmware and field not in vm.tree["spec"].get("firmware", {}):
            firmware[field] = ITS_OWN
    derived = {nic["name"] for nic in vm.tree["spec"].get("nics", ()) if "macAddress" not in nic}
    interfaces = [
        {**card, "macAddress": ITS_OWN} if card["name"] in derived else card
        for card in devices.get("interfaces", ())
        if card.get("state") != "absent"
    ]
    kept = {card["name"] for card in interfaces}
    if not interfaces and "interfaces" in devices:
        devices = {**devices, "autoattachPodInterface": False}
    devices = _said(**{**devices, "interfaces": interfaces})
    volumes = [_by_claim(volume) for volume in template.get("volumes", ())]
    networks = [network for network in template.get("networks", ()) if network["name"] in kept]
    domain = {**domain, "devices": devices, "firmware": firmware}
    selector = template.get("nodeSelector") or None  # an empty one, which somebody else has left, selects nothing
    spec = _said(**{**template, "domain": domain, "volumes": volumes, "networks": networks, "nodeSelector": selector})
    tree = {**child, "template": {**child["template"], "spec": spec}}
    del tree["runStrategy"]
    return tree


def identities(vm: Held, child: Tree) -> dict[str, str]:
    """What makes the guest of a KubeVirt VM known, and is not declared: addresses of NICs, UUID, serial number."""
    spec, domain = vm.tree["spec"], child["template"]["spec"]["domain"]
    declared = {nic["name"] for nic in spec.get("nics", ()) if "macAddress" in nic}
    found = {
        f"MAC address of {card['name']}": card["macAddress"]
        for card in domain["devices"].get("interfaces", ())
        if card["name"] not in declared and card.get("state") != "absent"
    }
    said = spec.get("firmware", {})
    return found | {field: domain["firmware"][field] for field in ("uuid", "serial") if field not in said}


def claim_of(world: World, space: str, vm: str, disk: str) -> str:
    """The name of the claim that is labelled as a disk of a VM, or of the DataVolume that CDI makes one of."""
    for held in (*world.api.all(PVC), *world.api.all(DV)):
        labels = held.meta.get("labels", {})
        if (held.key.namespace, labels.get(disks.VM), labels.get(disks.DISK)) == (space, vm, disk):
            return held.key.name
    return ""


def definition_of(world: World, network: Held, space: str) -> Held | None:
    """The definition of a Network in a namespace."""
    owned = (held for held in world.api.all(NAD) if held.owned_by(network.meta["uid"]))
    return next((held for held in owned if held.key.namespace == space), None)


def kind_of(network: Held) -> str:
    """The switch behind a Network: a member of its spec."""
    return next(kind for kind in (*SWITCHES, "plugin") if kind in network.tree["spec"])


# KubeVirt VMs


def _said(**fields: Any) -> Tree:
    """What is said; nothing, and an empty list, is not."""
    return {name: value for name, value in fields.items() if value is not None and value != []}


def _template(world: World, vm: Held) -> Tree:
    spec = vm.tree["spec"]
    guest, place = spec.get("guest", {}), spec.get("placement", {})
    drives = [
        _said(name=d["name"], disk={"bus": d["bus"]}, bootOrder=d.get("bootOrder")) for d in spec.get("disks", ())
    ]
    volumes = [
        {"name": d["name"], "claim": claim_of(world, vm.key.namespace, vm.key.name, d["name"])}
        for d in spec.get("disks", ())
    ]
    if data := _data(guest):
        windows = "sysprep" in data
        name = "vdcos-sysprep" if windows else "vdcos-cloudinit"
        drives.append({"name": name, **({"cdrom": {"bus": "sata"}} if windows else {"disk": {"bus": "virtio"}})})
        volumes.append({"name": name, **data})
    cards = [_card(world, vm.key.namespace, nic) for nic in spec.get("nics", ())]
    way = "configDrive" if guest.get("cloudInit", {}).get("type") == "ConfigDrive" else "noCloud"
    return _said(
        domain=_domain(spec, drives, [interface for interface, _ in cards]),
        volumes=volumes,
        networks=[network for _, network in cards],
        evictionStrategy="LiveMigrateIfPossible",
        terminationGracePeriodSeconds=180,
        hostname=guest.get("hostname"),
        accessCredentials=[
            {"sshPublicKey": {"source": {"secret": {"secretName": name}}, "propagationMethod": {way: {}}}}
            for name in guest.get("sshKeySecretNames", ())
        ],
        nodeSelector=place.get("nodeSelector") or None,
        tolerations=[
            _said(
                key=taint["key"],
                operator=taint["operator"],
                effect=taint["effect"],
                value=taint.get("value") or None,
                tolerationSeconds=taint.get("tolerationSeconds"),
            )
            for taint in place.get("tolerations", ())
        ]
        + [_said(key="vdcos.dev/failover-only", operator="Exists", effect="NoSchedule")] * _restarts(world, vm),
        affinity=_affinity(vm.key.name, place.get("affinity", ())) or None,
    )


def _restarts(world: World, vm: Held) -> bool:
    """Whether a VM restarts, or may yet, after a failure for which hosts are kept."""
    for failure in world.api.all(kinds.HOST_FAILURE):
        status = failure.tree.get("status", {})
        if status.get("phase") == "Completed" or not status.get("failover"):
            continue
        for machine in status.get("machines", ()):
            waits = machine["state"] in ("Held", "Released") or (machine["state"] == "Down" and "triedAt" in machine)
            if machine["uid"] == vm.meta["uid"] and waits:
                return True
    return False


def _domain(spec: Tree, drives: list[Tree], interfaces: list[Tree]) -> Tree:
    cpu, memory, firmware = spec.get("cpu"), spec.get("memory"), spec.get("firmware", {})
    passed: dict[str, list[Tree]] = {"HostDevice": [], "GPU": []}
    for device in spec.get("devices", ()):
        passed[device["type"]].append({"name": device["name"], "deviceName": device["resourceName"]})
    boot: dict[str | None, Tree] = {"UEFI": {"efi": {"secureBoot": firmware.get("secureBoot")}}, "BIOS": {"bios": {}}}
    return _said(
        cpu=cpu
        and _said(
            **{field: value for field, value in cpu.items() if field != "dedicated"},
            dedicatedCpuPlacement=cpu["dedicated"] or None,
        ),
        memory=memory
        and _said(guest=memory["size"], hugepages=memory.get("hugepages") and {"pageSize": memory["hugepages"]}),
        resources=spec.get("reservations") and {"requests": spec["reservations"]},
        features={"smm": {"enabled": True}} if firmware.get("secureBoot") else None,
        firmware=_said(
            uuid=firmware.get("uuid", ITS_OWN).lower(),
            serial=firmware.get("serial", ITS_OWN),
            bootloader=boot.get(firmware.get("bootloader")),
        ),
        devices=_said(
            rng={},
            disks=drives,
            interfaces=interfaces,
            autoattachPodInterface=None if interfaces else False,
            hostDevices=passed["HostDevice"],
            gpus=passed["GPU"],
            tpm={"persistent": firmware["tpm"] == "Persistent"} if "tpm" in firmware else None,
        ),
    )


def _card(world: World, space: str, nic: Tree) -> tuple[Tree, Tree]:
    """A NIC's interface, and what it is plugged into."""
    network = world.api.get(kinds.NETWORK, Key("", nic["network"]))
    if network is None:
        return {"name": nic["name"]}, {"name": nic["name"]}
    kind, definition = kind_of(network), definition_of(world, network, space)
    interface = {"name": nic["name"], SWITCHES[kind]: {}, "macAddress": nic.get("macAddress", ITS_OWN).lower()}
    if kind != "sriov":
        interface |= {"model": nic["model"], "state": nic["linkState"].lower()}
    if kind == "pod":
        return interface, {"name": nic["name"], "pod": {}}
    return interface, {"name": nic["name"], "multus": {"networkName": str(definition.key if definition else "")}}


def _data(guest: Tree) -> Tree:
    """What a guest is given at its first start, as a volume without its name."""
    if sysprep := guest.get("sysprep"):
        named = {"secret": sysprep.get("secretName"), "configMap": sysprep.get("configMapName")}
        return {"sysprep": {kind: {"name": name} for kind, name in named.items() if name}}
    said, keys = guest.get("cloudInit", {}), guest.get("sshAuthorizedKeys", ())
    fields = _said(userData=said.get("userData"), networkData=said.get("networkData"))
    for field, secret in (("userDataSecretName", "secretRef"), ("networkDataSecretName", "networkDataSecretRef")):
        if field in said:
            fields[secret] = {"name": said[field]}
    if keys and not fields.keys() & {"userData", "secretRef"}:
        listed = "".join(f"  - {json.dumps(key, ensure_ascii=False)}\n" for key in keys)
        fields["userData"] = f"#cloud-config\nssh_authorized_keys:\n{listed}"
    elif guest.get("sshKeySecretNames") and not fields.keys() & {"userData", "secretRef"}:
        fields["userData"] = "#cloud-config\n"
    drive = "cloudInitConfigDrive" if said.get("type") == "ConfigDrive" else "cloudInitNoCloud"
    return {drive: fields} if fields else {}


def _affinity(name: str, rules: Sequence[Tree]) -> Tree:
    """Rules about other VMs, never about the VM itself: while it moves, it has two pods."""
    found: Tree = {}
    for rule in rules:
        others: Tree = {"matchExpressions": [{"key": disks.VM, "operator": "In", "values": rule.get("names")}]}
        if "matchLabels" in rule:
            itself = {"key": disks.VM, "operator": "NotIn", "values": [name]}
            others = {"matchLabels": rule["matchLabels"], "matchExpressions": [itself]}
        term = {"labelSelector": others, "topologyKey": rule["topologyKey"]}
        side = found.setdefault({"Together": "podAffinity", "Apart": "podAntiAffinity"}[rule["type"]], {})
        if rule["strength"] == "Must":
            side.setdefault("requiredDuringSchedulingIgnoredDuringExecution", []).append(term)
        else:
            weighed = {"weight": 100, "podAffinityTerm": term}
            side.setdefault("preferredDuringSchedulingIgnoredDuringExecution", []).append(weighed)
    return found


def _override(manifest: Tree, override: Tree) -> None:
    """Change a manifest as an override says, as far as the scenarios need it: no list is appended to."""
    *way, last = override["path"].split("/")[1:]
    place: Any = manifest
    for step in way:
        if isinstance(place, list):
            place = next(item for item in place if item["name"] == step)
        else:
            place = place.setdefault(step, {})
    if override["op"] == "remove":
        place.pop(last, None)
    else:
        place[last] = override["value"]


def _by_claim(volume: Tree) -> Tree:
    """A volume of a disk by its claim, whichever way KubeVirt is told of that; others as they are."""
    for source, field in (("dataVolume", "name"), ("persistentVolumeClaim", "claimName")):
        if source in volume:
            more = {name: value for name, value in volume[source].items() if name != field}
            return {"name": volume["name"], "claim": volume[source][field], **more}
    return volume


# Disks


def data_volume(vm: Held, disk: Tree, datastore: Held) -> Tree:
    """The spec of a new disk."""
    source, store = disk["source"], datastore.tree["spec"]
    kind, details = next(iter(source.items()))
    if kind in ("image", "http"):
        fields = _said(secretRef=details.get("secretName"), certConfigMap=details.get("caConfigMapName"))
        url = details["url"] if kind == "http" else f"docker://{details['reference']}"
        kind, details = {"image": "registry"}.get(kind, kind), {
            "url": url, **fields, **_said(checksum=details.get("checksum")),
        }  # fmt: skip
    elif kind in ("pvc", "snapshot"):
        details = {"namespace": vm.key.namespace, "name": details["name"]}
    storage = _said(
        storageClassName=store["storageClassName"],
        resources={"requests": {"storage": disk["size"]}},
        volumeMode=store.get("volumeMode"),
        accessModes=[store["accessMode"]] if "accessMode" in store else None,
    )
    return {"source": {kind: details}, "storage": storage}


# Networks


def definition(network: Held, space: str) -> Tree:
    """The CNI configuration of a Network's definition in a namespace."""
    kind, spec = kind_of(network), network.tree["spec"]
    said, name, mtu = spec[kind], network.key.name, spec.get("mtu")
    vlan = said.get("vlan")
    config: Tree = {"cniVersion": "0.3.1", "name": name}
    match kind:
        case "bridge":
            config |= {"type": "bridge", "bridge": said["name"], "macspoofchk": said["spoofCheck"], "ipam": {}}
            config |= _said(disableContainerInterface=True, vlan=vlan, mtu=mtu)
            config |= {} if vlan is None else {"preserveDefaultVlan": False}
        case "ovs":
            config |= _said(type="ovs", bridge=said["name"], vlan=vlan, mtu=mtu)
        case "ovn":
            subnets = ",".join(said.get("subnets", ())) or None
            config |= {"type": "ovn-k8s-cni-overlay", "topology": said["topology"].lower()}
            config |= _said(netAttachDefName=f"{space}/{name}", physicalNetworkName=said.get("physicalNetwork"))
            config |= _said(vlanID=vlan, subnets=subnets, allowPersistentIPs=True if subnets else None, mtu=mtu)
        case "sriov":
            config |= _said(type="sriov", vlan=vlan, ipam={})
            config |= {"spoofchk": "on" if said["spoofCheck"] else "off", "trust": "on" if said["trust"] else "off"}
    return config


def resource(world: World, network: Held) -> str:
    """The node resource of which each NIC takes one, or "": nobody asks for a bridge where no agent tells of any."""
    kind = kind_of(network)
    said, agent = network.tree["spec"][kind], AGENTS.get(kind, "")
    if kind == "sriov":
        return str(said["resourceName"])
    tells = bool(agent) and any(offer.startswith(f"{agent}/") for offer in offers(world))
    return f"{agent}/{said['name']}" if tells else ""


def offers(world: World) -> set[str]:
    """The resources that hosts have for pods."""
    return {
        name
        for node in world.api.all(NODE)
        for name, amount in node.tree.get("status", {}).get("allocatable", {}).items()
        if "/" in name and amount != "0"
    }


def admits(world: World, shared: Held, space: str) -> bool:
    """Whether VMs of a namespace may use a Network or Datastore."""
    allowed = shared.tree["spec"].get("allowedNamespaces", {})
    if allowed.get("from") == "Names":
        return space in allowed["names"]
    if allowed.get("from") == "Selector":
        namespace = world.api.get(NAMESPACE, Key("", space))
        labels: Tree = namespace.meta.get("labels", {}) if namespace is not None else {}
        wanted: Tree = allowed["selector"].get("matchLabels", {})
        return wanted.items() <= labels.items()
    return bool(allowed.get("from") == "All")
