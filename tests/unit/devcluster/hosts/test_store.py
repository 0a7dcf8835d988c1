"""The store of the simulated hosts: the newest version wins, whichever way it came."""

from typing import Any

from devcluster.hosts.store import Store, nodes_of
from tests.unit.hypervisor.given import claim, pod, view, vmi
from vdcos.testing.hypervisor.objects import Secret


def version(number: int, **metadata: Any) -> dict[str, Any]:
    return {"resourceVersion": str(number), **metadata}


def test_an_older_version_is_no_news() -> None:
    store = Store()
    assert store.put(pod(metadata=version(9)))
    assert not store.put(pod(metadata=version(8)))
    assert not store.put(pod(metadata=version(9)))
    assert store.put(pod(metadata=version(10))), "versions are numbers, not words"


def test_another_object_of_the_same_name_is_news_even_with_a_lower_version() -> None:
    store = Store()
    store.put(pod(metadata=version(9)))
    other = pod(metadata=version(5, uid="other"))
    assert store.put(other)
    assert store.pods_on("host-1") == [other]
    assert store.newest(pod(metadata=version(9))) is None


def test_a_late_deletion_does_not_take_the_successor() -> None:
    store = Store()
    first, second = pod(metadata=version(1)), pod(metadata=version(2, uid="other"))
    store.put(first)
    store.put(second)
    assert not store.remove(first)
    assert store.pods_on("host-1") == [second]
    assert store.remove(second)
    assert store.pods_on("host-1") == []


def test_a_pod_moves_to_its_host_when_it_is_bound() -> None:
    store = Store()
    store.put(pod(metadata=version(1), spec={"nodeName": ""}))
    store.put(bound := pod(metadata=version(2)))
    assert store.pods_on("host-1") == [bound]
    store.remove(bound)
    assert store.pods_on("") == []


def test_what_a_list_no_longer_has_is_absent() -> None:
    store = Store()
    kept, gone = pod("kept"), pod("gone")
    store.put(kept)
    store.put(gone)
    assert store.absent(type(kept), [kept]) == [gone]


def test_a_pod_is_seen_with_its_claims_and_what_it_misses() -> None:
    store = Store()
    store.put(claim("disk"))
    volumes = [
        {"name": "a", "persistentVolumeClaim": {"claimName": "disk"}},
        {"name": "b", "secret": {"secretName": "key"}},
        {"name": "c", "configMap": {"name": "settings"}},
    ]
    seen = store.pod_seen(pod(spec={"volumes": volumes}))
    assert (list(seen.claims), list(seen.missing)) == (["disk"], [("secret", "key"), ("configmap", "settings")])
    store.put(view(Secret, "key"))
    assert list(store.pod_seen(pod(spec={"volumes": volumes})).missing) == [("configmap", "settings")]


def test_a_vmi_concerns_where_it_runs_and_both_ends_of_its_migration() -> None:
    state = {"sourceNode": "host-1", "targetNode": "host-2"}
    assert nodes_of(vmi(status={"nodeName": "host-1", "migrationState": state})) == {"host-1", "host-2"}
    assert nodes_of(vmi()) == set()
