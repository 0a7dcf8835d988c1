"""The newest version of every object seen, by kind, and the lookups that hosts need."""

from collections.abc import Iterable, Iterator

from vdcos.testing.hypervisor.objects import Claim, ConfigMap, Object, Pod, Secret, Vmi
from vdcos.testing.hypervisor.values import PodSeen, VmiSeen


class Store:
    """A write's answer and the watch race each other here: an older version never replaces a newer one."""

    def __init__(self) -> None:
        self._objects: dict[type[Object], dict[str, Object]] = {}
        self._pods_by_node: dict[str, dict[str, Pod]] = {}

    def put(self, seen: Object) -> bool:
        """Store a version; returns whether it is news."""
        kept = self._objects.setdefault(type(seen), {})
        old = kept.get(seen.key)
        if old is not None and old.uid == seen.uid and _version(old) >= _version(seen):
            return False
        kept[seen.key] = seen
        if isinstance(seen, Pod):
            if isinstance(old, Pod) and old.uid != seen.uid:
                self._forget_pod(old)
            self._pods_by_node.setdefault(seen.spec.node_name, {})[seen.uid] = seen
        return True

    def newest(self, seen: Object) -> Object | None:
        """The newest version of an object, if it still is that object."""
        kept = self._objects.get(type(seen), {}).get(seen.key)
        return kept if kept is not None and kept.uid == seen.uid else None

    def remove(self, gone: Object) -> bool:
        """Forget an object, unless another of its name has taken its place; returns whether it was there."""
        kept = self._objects.get(type(gone), {})
        old = kept.get(gone.key)
        if old is None or old.uid != gone.uid:
            return False
        del kept[gone.key]
        if isinstance(old, Pod):
            self._forget_pod(old)
        return True

    def _forget_pod(self, pod: Pod) -> None:
        for node in (pod.spec.node_name, ""):
            self._pods_by_node.get(node, {}).pop(pod.uid, None)

    def absent(self, kind: type[Object], listed: Iterable[Object]) -> list[Object]:
        """What is stored of a kind and not in a complete list of it."""
        uids = {o.uid for o in listed}
        return [o for o in self._objects.get(kind, {}).values() if o.uid not in uids]

    def all(self, kind: type[Object]) -> Iterator[Object]:
        yield from self._objects.get(kind, {}).values()

    def vmi(self, key: str) -> Vmi | None:
        found = self._objects.get(Vmi, {}).get(key)
        return found if isinstance(found, Vmi) else None

    def pods_on(self, node: str) -> list[Pod]:
        return list(self._pods_by_node.get(node, {}).values())

    def vmis_on(self, node: str) -> list[Vmi]:
        found = self._objects.get(Vmi, {}).values()
        return [vmi for vmi in found if isinstance(vmi, Vmi) and node in nodes_of(vmi)]

    def pod_seen(self, pod: Pod) -> PodSeen:
        """A pod with what the kubelet looks up for it."""
        return PodSeen(pod, self._claims(pod.metadata.namespace, pod.claims()), tuple(self._missing(pod)))

    def vmi_seen(self, vmi: Vmi) -> VmiSeen:
        return VmiSeen(vmi, self._claims(vmi.metadata.namespace, vmi.claims()))

    def _claims(self, namespace: str, names: Iterable[str]) -> dict[str, Claim]:
        kept = self._objects.get(Claim, {})
        found = {name: kept.get(f"{namespace}/{name}") for name in names}
        return {name: claim for name, claim in found.items() if isinstance(claim, Claim)}

    def _missing(self, pod: Pod) -> Iterator[tuple[str, str]]:
        kinds: dict[str, type[Object]] = {"secret": Secret, "configmap": ConfigMap}
        for kind, name in pod.mounts():
            if f"{pod.metadata.namespace}/{name}" not in self._objects.get(kinds[kind], {}):
                yield kind, name


def nodes_of(vmi: Vmi) -> set[str]:
    """The hosts that a VMI concerns: where it runs, and both ends of a migration."""
    state = vmi.status.migration_state or {}
    nodes = {vmi.status.node_name, str(state.get("sourceNode", "")), str(state.get("targetNode", ""))}
    return nodes - {""}


def _version(seen: Object) -> int:
    return int(seen.metadata.resource_version or 0)
