"""The virtual switches that come with vdcos. Each reads its member of ``Network.spec`` as the manifest has it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vdcos.providers.networks.contract import CONTRACT, NetworkProvider, Refused, Request, Wiring

# Agents advertise the bridges of a host as node resources, 1,000 of each: kubevirt/bridge-marker, ovs-cni's marker.
BRIDGE_MARKER = "bridge.network.kubevirt.io"
OVS_MARKER = "ovs-cni.network.kubevirt.io"


def _present(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def pod(request: Request) -> Wiring:
    """The cluster's own network, behind NAT: the binding that live-migrates without help from the network plugin."""
    return Wiring(binding={"masquerade": {}})


def bridge(request: Request) -> Wiring:
    """CNI plugin ``bridge``. The guest alone has the port: no address in the pod, nothing untagged on a VLAN's port."""
    parameters = request.parameters
    config = _present(
        type="bridge",
        bridge=parameters["name"],
        vlan=parameters.get("vlan"),
        preserveDefaultVlan=False if "vlan" in parameters else None,
        macspoofchk=parameters.get("spoofCheck", True),
        disableContainerInterface=True,
        mtu=request.mtu,
        ipam={},
    )
    return Wiring({"bridge": {}}, config, f"{BRIDGE_MARKER}/{parameters['name']}", resource_if_offered=True)


def ovs(request: Request) -> Wiring:
    """CNI plugin ``ovs`` of ovs-cni."""
    name = request.parameters["name"]
    config = _present(type="ovs", bridge=name, vlan=request.parameters.get("vlan"), mtu=request.mtu)
    return Wiring({"bridge": {}}, config, f"{OVS_MARKER}/{name}", resource_if_offered=True)


def ovn(request: Request) -> Wiring:
    """OVN-Kubernetes. Its networks are cluster-wide by ``name``: the same network in two namespaces is one switch.

    With subnets OVN hands out the addresses, and they follow the VM when it migrates (``allowPersistentIPs``).
    """
    parameters = request.parameters
    subnets = ",".join(parameters.get("subnets") or ())
    config = _present(
        type="ovn-k8s-cni-overlay",
        topology=parameters["topology"].lower(),
        netAttachDefName=request.definition,
        physicalNetworkName=parameters.get("physicalNetwork"),
        vlanID=parameters.get("vlan"),
        subnets=subnets or None,
        allowPersistentIPs=True if subnets else None,
        mtu=request.mtu,
    )
    return Wiring({"bridge": {}}, config)


def sriov(request: Request) -> Wiring:
    """CNI plugin ``sriov``: each NIC takes one virtual function, which the device plugin advertises.

    The guest drives the virtual function itself, so nothing on the host can set its MTU.
    """
    if request.mtu is not None:
        raise Refused(
            "mtu: a virtual function has the MTU of its card; set it there (SriovNetworkNodePolicy), not here"
        )
    parameters = request.parameters
    config = _present(
        type="sriov",
        vlan=parameters.get("vlan"),
        spoofchk="on" if parameters.get("spoofCheck", True) else "off",
        trust="on" if parameters.get("trust") else "off",
        ipam={},
    )
    return Wiring({"sriov": {}}, config, parameters["resourceName"])


@dataclass(frozen=True, slots=True)
class _Function:
    """A provider made of one function."""

    _wire: Callable[[Request], Wiring]
    contract: int = CONTRACT

    def wire(self, request: Request) -> Wiring:
        return self._wire(request)


BUILTIN: Mapping[str, NetworkProvider] = {
    function.__name__: _Function(function) for function in (pod, bridge, ovs, ovn, sriov)
}
