"""What a VM needs of a host, and whether there is room for it beside what HA policies keep free."""

from collections.abc import Mapping
from typing import Any

import msgspec

from vdcos.core import amounts, ownership
from vdcos.core.amounts import Amounts
from vdcos.core.foreign import kubevirt
from vdcos.providers import placement as p
from vdcos.services.virtualmachine.observe import Seen

Tree = Mapping[str, Any]


def needs(spec: Tree, seen: Seen) -> Amounts:
    """CPU and memory that KubeVirt requests for a VM with this spec; nothing where it is no quantity that says so."""
    template: Tree = spec.get("template", {}).get("spec", {})
    if isinstance(seen.instancetype, kubevirt.ClusterInstancetype | kubevirt.Instancetype):
        chosen = seen.instancetype.spec
        sized = {"cpu": {"sockets": chosen.cpu.guest}, "memory": {"guest": chosen.memory.guest}}
        template = {**template, "domain": {**template.get("domain", {}), **sized}}
    configuration = seen.kubevirt.spec.configuration if seen.kubevirt is not None else kubevirt.Configuration()
    developer = configuration.developer_configuration
    try:
        found = p.launcher_requests(
            template,
            cpu_allocation_ratio=max(1, developer.cpu_allocation_ratio),
            memory_overcommit=max(1, developer.memory_overcommit),
            overhead_ratio=configuration.additional_guest_memory_overhead_ratio,
        )
    except (ValueError, TypeError):  # overrides may say anything
        return amounts.NOTHING
    return amounts.of(found.get(p.CPU, 0), found.get(p.MEMORY, 0))


def marked(child: kubevirt.VirtualMachine | None, manifest: Tree, reserves: str) -> kubevirt.VirtualMachine:
    """The child as it counts once it is told what was admitted."""
    if child is None:
        return msgspec.json.decode(msgspec.json.encode(manifest), type=kubevirt.VirtualMachine)
    annotations = {**(child.metadata.annotations or {}), ownership.ADMITTED: reserves}
    return msgspec.structs.replace(child, metadata=msgspec.structs.replace(child.metadata, annotations=annotations))
