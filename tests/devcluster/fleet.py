"""Many VMs at once: their manifests, and what must exist when they have converged."""

from dataclasses import dataclass
from typing import Any

from devcluster.cluster import Cluster

NETWORK = "fleet"
DATASTORE = "fleet"


def infrastructure() -> list[dict[str, Any]]:
    """A network and a datastore that every namespace may use."""
    everybody = {"allowedNamespaces": {"from": "All"}}
    return [
        _object("Network", NETWORK, spec={"pod": {}, **everybody}),
        _object("Datastore", DATASTORE, spec={"storageClassName": "block-rwx", **everybody}),
    ]


def machine(namespace: str, number: int) -> dict[str, Any]:
    """A small VM with one disk and one NIC."""
    return _object(
        "VirtualMachine",
        f"vm-{number:04}",
        namespace,
        {
            "cpu": {"sockets": 1},
            "memory": {"size": "128Mi"},
            "disks": [{"name": "root", "size": "1Gi", "datastore": DATASTORE}],
            "nics": [{"name": "net", "network": NETWORK}],
        },
    )


def _object(kind: str, name: str, namespace: str = "", spec: dict[str, Any] | None = None) -> dict[str, Any]:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": "vdcos.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec or {}}


@dataclass(frozen=True)
class Standing:
    """The end state of one namespace, without what differs from run to run (uids, times, hosts)."""

    machines: dict[str, dict[str, Any]]
    children: frozenset[tuple[str, str, str]]
    """Kind, name and the controlling owner's kind and name of everything that the operator made."""

    @property
    def ready(self) -> int:
        return sum(each["Ready"] == "True" for each in self.machines.values())


def standing(cluster: Cluster, namespace: str) -> Standing:
    """What stands in a namespace now."""
    kinds = "virtualmachines.vdcos.dev,virtualmachines.kubevirt.io,datavolumes.cdi.kubevirt.io"
    listed = cluster.get(kinds, "-n", namespace)["items"]
    machines, children = {}, set()
    for item in listed:
        metadata = item["metadata"]
        if item["apiVersion"].startswith("vdcos.dev/"):
            status = item.get("status", {})
            told = {each["type"]: each["status"] for each in status.get("conditions", [])}
            seen = status.get("observedGeneration") == metadata["generation"]
            machines[metadata["name"]] = {**told, "Ready": told.get("Ready", "Unknown") if seen else "Unknown"}
        else:
            owners = [
                f"{ref['kind']}/{ref['name']}" for ref in metadata.get("ownerReferences", []) if ref.get("controller")
            ]
            children.add((item["kind"], metadata["name"], ",".join(owners)))
    return Standing(machines, frozenset(children))
