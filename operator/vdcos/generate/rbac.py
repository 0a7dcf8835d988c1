"""What services declare to read and write, as RBAC; and admission policies that bound what RBAC cannot."""

import collections
import collections.abc
import typing

from vdcos import api
from vdcos.core import disks, hosts, kinds, objects, ownership, service, uninstall

Manifest = dict[str, typing.Any]

NAMESPACE = "vdcos-system"
NAME = "vdcos"
USER = f"system:serviceaccount:{NAMESPACE}:{NAME}"

_READ = ("get", "list", "watch")
_VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "allow")
_LABELS = {"app.kubernetes.io/part-of": "vdcos"}

_RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}

Grants = dict[tuple[str, str], set[str]]
"""Verbs by API group and resource (with subresource)."""


RUNTIME: typing.Final[Grants] = {
    ("coordination.k8s.io", "leases"): {"get", "create", "update"},
    ("", "secrets"): {"get"},
}
"""The rights in its own namespace that the operator needs whatever services there are. The Secrets are those of power
switches; it reads no others."""


def operator(services: collections.abc.Iterable[service.Service[typing.Any, typing.Any]]) -> list[Manifest]:
    """The operator's identity and its rights: just what the services declare, and what the runtime itself needs."""
    account = {"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": _LABELS | _RESTRICTED}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata(NAME, NAMESPACE)},
        _role("ClusterRole", _metadata(NAME), grants(services)),
        _binding("ClusterRoleBinding", _metadata(NAME), account),
        _role("Role", _metadata(NAME, NAMESPACE), RUNTIME),
        _binding("RoleBinding", _metadata(NAME, NAMESPACE), account),
    ]


def grants(services: collections.abc.Iterable[service.Service[typing.Any, typing.Any]]) -> Grants:
    """The rights in all namespaces that services need."""
    found: Grants = collections.defaultdict(set)
    found["events.k8s.io", "events"] |= {"create"}
    for each in services:
        own = each.resource
        found[own.group, own.plural] |= set(_READ)
        found[own.group, f"{own.plural}/status"] |= {"patch"}
        for watch in each.watches:
            read = _resource(watch.kind)
            found[read.group, read.plural] |= set(_READ)
        for write in each.writes:
            target = write.resource
            found[target.group, f"{target.plural}/{write.subresource}".rstrip("/")] |= set(write.verbs)
    return found


def _resource(kind: typing.Any) -> objects.Resource:
    """The API resource of a watched kind: foreign kinds carry it, ours are known by their definition."""
    if issubclass(kind, objects.Object):
        foreign: objects.Resource = kind.resource
        return foreign
    return next(own for own in OWN if own.kind == kind.definition.kind)


INFRASTRUCTURE: typing.Final = (kinds.NETWORK, kinds.DATASTORE, kinds.HOST, kinds.HA_POLICY, kinds.HOST_FAILURE)
"""Their statuses name namespaces, disks and VMs of all tenants; changing them takes the rights of a cluster
administrator."""
OWN: typing.Final = (kinds.VIRTUAL_MACHINE, *INFRASTRUCTURE)


def users() -> list[Manifest]:
    """Rights for people: VMs through the built-in roles of their namespace; infrastructure for those who may view all
    namespaces, and for whomever an administrator binds its role to."""
    group, machines = kinds.VIRTUAL_MACHINE.group, kinds.VIRTUAL_MACHINE.plural
    change = {"create", "update", "patch", "delete"}
    wide: Grants = {(own.group, own.plural): set(_READ) for own in INFRASTRUCTURE}
    return [
        _aggregated("view", {(group, machines): set(_READ)}),
        _aggregated("edit", {(group, machines): set(_READ) | change}),
        _aggregated("admin", {(group, machines): set(_READ) | change | {"deletecollection"}}),
        _aggregated("view", wide, "infrastructure-view"),
    ]


def _aggregated(role: str, grants: Grants, name: str = "") -> Manifest:
    metadata = _metadata(f"{NAME}:{name or role}")
    metadata["labels"] |= {f"rbac.authorization.k8s.io/aggregate-to-{role}": "true"}
    return _role("ClusterRole", metadata, grants)


def _metadata(name: str, namespace: str = "") -> Manifest:
    return {"name": name, "labels": dict(_LABELS)} | ({"namespace": namespace} if namespace else {})


def _role(kind: str, metadata: Manifest, grants: Grants) -> Manifest:
    rules: dict[tuple[str, tuple[str, ...]], list[str]] = collections.defaultdict(list)
    for (group, resource), verbs in sorted(grants.items()):
        rules[group, tuple(sorted(verbs, key=_order))].append(resource)
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": metadata,
        "rules": [
            {"apiGroups": [group], "resources": resources, "verbs": list(verbs)}
            for (group, verbs), resources in rules.items()
        ],
    }


def _order(verb: str) -> tuple[int, str]:
    return (_VERBS.index(verb) if verb in _VERBS else len(_VERBS), verb)


def _binding(kind: str, metadata: Manifest, subject: Manifest) -> Manifest:
    role = "Role" if kind == "RoleBinding" else "ClusterRole"
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": metadata["name"]},
        "subjects": [subject],
    }


_IS_OURS = f"(r.apiVersion + '/').startsWith('{api.GROUP}/')"
"""CEL: whether an owner reference is to an object of ours; the API server takes the group alone for a version."""
# By the mark, and by the owner: anybody can read the uid of a Network.
_OURS = (
    f"(o.metadata.?labels[?'{ownership.MANAGED_BY}'].orValue('') == '{ownership.MANAGER}'"
    f" || o.metadata.?ownerReferences.orValue([]).exists(r, {_IS_OURS}))"
)


def _permission(name: str, annotation: str, what: str) -> collections.abc.Iterator[Manifest]:
    """Only whoever may ``allow`` a virtual resource gives it to tenants, by an annotation of their Namespace."""
    said = f"has(o.metadata.annotations) ? o.metadata.annotations[?'{annotation}'].orValue('') : ''"
    return _policy(
        f"vdcos-allowed-{name}",
        [
            {
                "apiGroups": [""],
                "apiVersions": ["*"],
                "operations": ["CREATE", "UPDATE"],
                "resources": ["namespaces", "namespaces/status", "namespaces/finalize"],
            }
        ],
        [f"[object].map(o, {said})[0] != (oldObject == null ? '' : [oldObject].map(o, {said})[0])"],
        f"authorizer.group('{api.GROUP}').resource('{name}').check('allow').allowed()",
        f"annotation {annotation} hands {what} to tenants:"
        f" it takes verb allow on {name}.{api.GROUP}, as cluster administrators have it",
    )


def _marks_differ(field: str) -> str:
    """CEL: whether labels or annotations of our own group come, go or change."""
    new = f"object.metadata.?{field}.orValue({{}})"
    old = f"(oldObject == null ? {{}} : oldObject.metadata.?{field}.orValue({{}}))"
    differ = f"p[0].exists(k, k.startsWith('{api.GROUP}/') && p[1][?k].orValue('') != p[0][k])"
    return f"[[{new}, {old}], [{old}, {new}]].exists(p, {differ})"


_MARKS_DIFFER = f"({_marks_differ('labels')} || {_marks_differ('annotations')})"
_MARKED_RESIZED = (
    f"(oldObject != null && object.metadata.?labels[?'{disks.DATASTORE}'].hasValue()"
    " && object.spec.?resources.?requests != oldObject.spec.?resources.?requests)"
)
"""CEL: whether a claim that counts on a Datastore asks for more than before, or less."""

_OF_NODES = ("metadata.?labels", "spec.?podCIDR", "spec.?podCIDRs", "spec.?providerID", "spec.?configSource")
"""What the operator never changes of a Node."""


def _others(node: str) -> str:
    """CEL: a Node's taints that are not ours."""
    return f"{node}.spec.?taints.orValue([]).filter(t, !(t.key in ['{hosts.OUT_OF_SERVICE}', '{hosts.FAILOVER_ONLY}']))"


def _only_ours_differ() -> str:
    """CEL: of a Node's annotations, none but ours comes, goes or changes."""
    new, old = (f"{node}.metadata.?annotations.orValue({{}})" for node in ("object", "oldObject"))
    same = f"p[0].all(k, k == '{hosts.CORDONED_BY}' || (k in p[1] && p[1][k] == p[0][k]))"
    return f"[[{new}, {old}], [{old}, {new}]].all(p, {same})"


_OWNER_ADDED = (
    f"object.metadata.?ownerReferences.orValue([]).exists(r, {_IS_OURS}"
    " && (oldObject == null || !(r in oldObject.metadata.?ownerReferences.orValue([]))))"
)
"""CEL: whether an object gets an owner of ours."""
_MARKED = " || ".join(
    f"m.?{field}.orValue({{}}).exists(k, k.startsWith('{api.GROUP}/'))" for field in ("labels", "annotations")
)
_RESTORES_MARKS = (
    f"object.spec.?volumeRestoreOverrides.orValue([]).exists(m, {_MARKED})"
    " || object.spec.?volumeBackups.orValue([])"
    f".exists(b, [b.?persistentVolumeClaim.?metadata.orValue({{}})].exists(m, {_MARKED}))"
)
"""CEL: whether a restore, or what a snapshot holds, puts marks of ours on claims."""


def policies() -> list[Manifest]:
    """ValidatingAdmissionPolicies and their bindings."""
    return [
        *_policy(
            "vdcos-spec-belongs-to-its-owner",
            [{"apiGroups": [api.GROUP], "apiVersions": ["*"], "operations": ["UPDATE"], "resources": ["*"]}],
            [f"request.userInfo.username == '{USER}'"],
            "object.spec == oldObject.spec"
            " && object.metadata.?labels == oldObject.metadata.?labels"
            " && object.metadata.?annotations == oldObject.metadata.?annotations",
            "the operator may write status and finalizers only: what was declared is never rewritten",
        ),
        *_policy(
            "vdcos-marks-on-nodes",
            [{"apiGroups": [""], "apiVersions": ["*"], "operations": ["UPDATE"], "resources": ["nodes"]}],
            [f"request.userInfo.username == '{USER}'"],
            " && ".join(
                [
                    *(f"object.{part} == oldObject.{part}" for part in _OF_NODES),
                    f"{_others('object')} == {_others('oldObject')}",
                    _only_ours_differ(),
                ]
            ),
            "the operator may cordon nodes and put its own taints on them, and nothing else",
        ),
        *_policy(
            "vdcos-pods-of-vms",
            [{"apiGroups": [""], "apiVersions": ["*"], "operations": ["DELETE"], "resources": ["pods"]}],
            [f"request.userInfo.username == '{USER}'"],
            "oldObject.metadata.?labels[?'kubevirt.io'].orValue('') in ['virt-launcher', 'hotplug-disk']",
            "the operator may delete pods of VMs only",
        ),
        *_policy(
            "vdcos-network-attachments",
            [
                {
                    "apiGroups": ["k8s.cni.cncf.io"],
                    "apiVersions": ["*"],
                    "operations": ["CREATE", "UPDATE", "DELETE"],
                    "resources": ["network-attachment-definitions"],
                }
            ],
            [
                f"[object, oldObject].exists(o, o != null && {_OURS})",
                f"request.userInfo.username != '{USER}'",
                "!request.userInfo.username.startsWith('system:serviceaccount:kube-system:')",
                f"!authorizer.group('{api.GROUP}').resource('networks').check('update').allowed()",
            ],
            "false",
            "this NetworkAttachmentDefinition is derived from a Network of vdcos: change that instead",
        ),
        *_policy(
            uninstall.GUARD,
            [
                {
                    "apiGroups": ["apiextensions.k8s.io"],
                    "apiVersions": ["*"],
                    "operations": ["DELETE"],
                    "resources": ["customresourcedefinitions"],
                }
            ],
            [f"oldObject.spec.group == '{api.GROUP}'"],
            "false",
            "with this definition all its objects go, and with these the VMs that hang on them: first run"
            " vdcos uninstall --yes, which detaches them (or, to lose them, delete"
            f" ValidatingAdmissionPolicyBinding {uninstall.GUARD})",
        ),
        *_permission("devices", api.ALLOWED_DEVICES, "host devices"),
        *_permission("taints", api.ALLOWED_TAINTS, "hosts that are kept for some"),
        *_policy(
            "vdcos-disk-marks",
            [
                {
                    "apiGroups": [group],
                    "apiVersions": ["*"],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": [plural, f"{plural}/status"],
                }
                for group, plural in (("cdi.kubevirt.io", "datavolumes"), ("", "persistentvolumeclaims"))
            ],
            [f"request.userInfo.username != '{USER}'", f"{_MARKS_DIFFER} || {_MARKED_RESIZED}"],
            # CDI copies marks from a DataVolume to its claim, and KubeVirt from a claim to the one restored from its
            # snapshot, when they create these; both may create claims everywhere. Later, CDI writes labels on a claim
            # as the pod says that fills it, which may be a tenant's. Controllers of Kubernetes take templates from
            # tenants (StatefulSets, pods); and for DataVolumes, KubeVirt's and CDI's do.
            f"authorizer.group('{api.GROUP}').resource('datastores').check('update').allowed()"
            " || request.resource.resource == 'persistentvolumeclaims'"
            " && !request.userInfo.username.startsWith('system:serviceaccount:kube-system:')"
            f" && (oldObject == null || !({_MARKS_DIFFER}))"
            " && authorizer.group('').resource('persistentvolumeclaims').check('create').allowed()",
            f"labels and annotations {api.GROUP}/ of a disk, and its size where it has them, say whose it is and what"
            " it counts on a Datastore: only vdcos sets them; declare the disk in a VirtualMachine, or delete it",
        ),
        *_policy(
            "vdcos-admitted-vms",
            [
                {
                    "apiGroups": ["kubevirt.io"],
                    "apiVersions": ["*"],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": ["virtualmachines"],
                }
            ],
            [f"request.userInfo.username != '{USER}'", f"{_annotation_differs(ownership.ADMITTED)} || {_OWNER_ADDED}"],
            # KubeVirt copies annotations when it clones and restores VMs (it may make VMs everywhere), and tenants say
            # to what. Without an owner of ours such a copy counts for nothing.
            f"authorizer.group('{api.GROUP}').resource('hapolicies').check('update').allowed()"
            f" || oldObject == null && !({_OWNER_ADDED})"
            " && authorizer.group('kubevirt.io').resource('virtualmachines').check('create').allowed()",
            f"annotation {ownership.ADMITTED} and owners {api.GROUP} say what a VM takes of the hosts' capacity:"
            " only vdcos sets them",
        ),
        *_policy(
            "vdcos-restored-disk-marks",
            [
                {
                    "apiGroups": ["snapshot.kubevirt.io"],
                    "apiVersions": ["*"],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": ["virtualmachinerestores", "virtualmachinesnapshotcontents"],
                }
            ],
            ["oldObject == null || object.spec != oldObject.spec", _RESTORES_MARKS],
            # KubeVirt writes what these say on claims, with its own rights; contents it makes itself, of real claims.
            f"authorizer.group('{api.GROUP}').resource('datastores').check('update').allowed()"
            " || request.resource.resource == 'virtualmachinesnapshotcontents'"
            " && authorizer.group('').resource('persistentvolumeclaims').check('create').allowed()",
            f"labels and annotations {api.GROUP}/ of a disk say whose it is and what it counts on a Datastore:"
            " a restored one has those of its snapshot, and nobody changes them",
        ),
    ]


def _annotation_differs(name: str) -> str:
    """CEL: whether an annotation comes, goes or changes."""
    new, old = (f"{each}.metadata.?annotations[?'{name}'].orValue('')" for each in ("object", "oldObject"))
    return f"{new} != (oldObject == null ? '' : {old})"


def _policy(
    name: str, resources: list[Manifest], conditions: list[str], expression: str, message: str
) -> collections.abc.Iterator[Manifest]:
    yield {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": _metadata(name),
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": resources},
            "matchConditions": [
                {"name": f"condition-{number}", "expression": condition}
                for number, condition in enumerate(conditions, 1)
            ],
            "validations": [{"expression": expression, "message": message, "reason": "Forbidden"}],
        },
    }
    yield {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": _metadata(name),
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
