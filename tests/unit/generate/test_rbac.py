"""Rights follow from what services declare, and from nothing else."""

from types import SimpleNamespace
from typing import Any

import pytest

from vdcos import api
from vdcos.core import kinds, objects, service
from vdcos.generate import rbac
from vdcos.services import catalogue


class Claim(objects.Object, frozen=True, rename="camel", kw_only=True):
    resource = objects.Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")


SWITCH = objects.Resource("example.org", "v1", "switches", "Switch", namespaced=False)


def declared(**fields: Any) -> Any:
    base: dict[str, Any] = {"resource": kinds.NETWORK, "watches": (), "writes": ()}
    return SimpleNamespace(**(base | fields))


def nobody(obj: object, world: object) -> tuple[()]:
    return ()


def rights(*services: Any) -> dict[tuple[str, str], list[str]]:
    role = next(manifest for manifest in rbac.operator(services) if manifest["kind"] == "ClusterRole")
    return {
        (group, resource): rule["verbs"]
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def test_a_service_that_declares_nothing_may_read_and_report_its_kind() -> None:
    assert rights(declared()) == {
        ("events.k8s.io", "events"): ["create"],
        ("vdcos.dev", "networks"): ["get", "list", "watch"],
        ("vdcos.dev", "networks/status"): ["patch"],
    }


def test_watches_and_writes_become_verbs() -> None:
    found = rights(
        declared(
            watches=(service.Watch(Claim, nobody), service.Watch(api.Datastore, nobody)),
            writes=(
                service.Write(SWITCH, ("create", "patch")),
                service.Write(SWITCH, ("patch",), subresource="ports"),
                service.Write(kinds.NETWORK, ("patch",)),
            ),
        ),
        declared(resource=kinds.DATASTORE, writes=(service.Write(SWITCH, ("delete",)),)),
    )
    assert found["", "persistentvolumeclaims"] == ["get", "list", "watch"]
    assert found["vdcos.dev", "datastores"] == ["get", "list", "watch"]
    assert found["vdcos.dev", "networks"] == ["get", "list", "watch", "patch"]
    assert found["example.org", "switches"] == ["create", "patch", "delete"]
    assert found["example.org", "switches/ports"] == ["patch"]


def test_its_lease_and_the_secrets_of_power_switches_are_in_the_own_namespace_only() -> None:
    manifests = rbac.operator([declared()])
    role = next(manifest for manifest in manifests if manifest["kind"] == "Role")
    assert role["metadata"]["namespace"] == rbac.NAMESPACE
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]},
    ]


def test_the_operators_real_rights_are_modest() -> None:
    """No wildcard, no Secrets, no escalation, no change of a declared VirtualMachine."""
    found = rights(*catalogue.services({}))
    assert found["vdcos.dev", "virtualmachines"] == ["get", "list", "watch"]
    assert ("", "secrets") not in found
    for (group, resource), verbs in found.items():
        assert "*" not in {group, resource, *verbs}
        assert group not in ("rbac.authorization.k8s.io", "apiextensions.k8s.io")
        assert not {"impersonate", "bind", "escalate", "deletecollection"} & set(verbs)


def test_subjects_and_roles_fit() -> None:
    for manifest in [*rbac.operator([]), *rbac.users()]:
        if manifest["kind"].endswith("Binding"):
            assert manifest["roleRef"]["name"] == manifest["metadata"]["name"]
            assert manifest["roleRef"]["kind"] == manifest["kind"].removesuffix("Binding")


@pytest.mark.parametrize(("role", "can"), [("view", "get"), ("edit", "update"), ("admin", "deletecollection")])
def test_people_get_machines_through_the_built_in_roles(role: str, can: str) -> None:
    found = {manifest["metadata"]["name"]: manifest for manifest in rbac.users()}[f"vdcos:{role}"]
    assert found["metadata"]["labels"][f"rbac.authorization.k8s.io/aggregate-to-{role}"] == "true"
    assert [rule["resources"] for rule in found["rules"]] == [["virtualmachines"]]
    assert can in found["rules"][0]["verbs"]


def test_hosts_and_their_failures_are_not_for_all_to_see() -> None:
    """They name VMs of all namespaces, and power switches."""
    seen = {
        manifest["metadata"]["name"]: {name for rule in manifest["rules"] for name in rule["resources"]}
        for manifest in rbac.users()
        if manifest["kind"] == "ClusterRole"
    }
    infrastructure = {"networks", "datastores", "hosts", "hapolicies", "hostfailures"}
    assert seen["vdcos:infrastructure-view"] == infrastructure


def test_every_policy_is_bound() -> None:
    manifests = rbac.policies()
    policies = {manifest["metadata"]["name"] for manifest in manifests[::2]}
    assert {manifest["spec"]["policyName"] for manifest in manifests[1::2]} == policies
    assert len(policies) == 10


@pytest.mark.parametrize("what", ["devices", "taints"])
def test_nothing_can_be_handed_out_through_a_subresource(what: str) -> None:
    """The metadata of a namespace can be written through its subresources, too."""
    policy = next(each for each in rbac.policies() if each["metadata"]["name"] == f"vdcos-allowed-{what}")
    (rule,) = policy["spec"]["matchConstraints"]["resourceRules"]
    assert set(rule["resources"]) == {"namespaces", "namespaces/status", "namespaces/finalize"}
