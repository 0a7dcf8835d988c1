"""What the operator, its sources and the simulator's controllers rely on, a sequence of requests each."""

from typing import Any

from tests.conformance.play import Play, Step
from vdcos.core.plan import NOTHING_YET

Json = Any

FINALIZER = "vdcos.dev/held"
OTHER = "00000000-0000-0000-0000-000000000001"
NET: Json = {"spec": {"bridge": {"name": "br0"}, "allowedNamespaces": {"from": "All"}}}
DS: Json = {"spec": {"storageClassName": "gold", "allowedNamespaces": {"from": "All"}}}
VM: Json = {"spec": {"cpu": {"sockets": 1}, "memory": {"size": "1Gi"}}}
KV: Json = {"spec": {"runStrategy": "Halted", "template": {"spec": {"domain": {"devices": {}}}}}}
DV: Json = {"spec": {"source": {"blank": {}}, "storage": {"resources": {"requests": {"storage": "1Gi"}}}}}
PVC: Json = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
NAD: Json = {"spec": {"config": "{}"}}
LEASE: Json = {"spec": {"holderIdentity": "one", "leaseDurationSeconds": 8}}
BASE: dict[str, Json] = {
    "net": NET,
    "ds": DS,
    "vm": VM,
    "kv": KV,
    "dv": DV,
    "pvc": PVC,
    "nad": NAD,
    "lease": LEASE,
    "ns": {},
}


def labelled(base: Json, **labels: str) -> Json:
    return {**base, "metadata": {"labels": labels}}


def held(base: Json, *finalizers: str) -> Json:
    return {**base, "metadata": {"finalizers": list(finalizers or (FINALIZER,))}}


def seen(base: Json, step: int) -> Json:
    """What is for the object that a step has answered, as it was then."""
    return {**base, "metadata": {"uid": f"<uid {step}>", "resourceVersion": f"<version {step}>"}}


def create(kind: str, name: str = "a", body: Json = None, **more: Any) -> Step:
    return Step("create", kind, name, BASE[kind] if body is None else body, **more)


def get(kind: str, name: str = "a") -> Step:
    return Step("get", kind, name)


def merge(kind: str, body: Json, name: str = "a", **more: Any) -> Step:
    return Step("merge", kind, name, body, **more)


def patch(kind: str, *operations: Json, name: str = "a", **more: Any) -> Step:
    return Step("json", kind, name, list(operations), **more)


def op(op: str, path: str, *value: Json) -> Json:
    return {"op": op, "path": path, **({"value": value[0]} if value else {})}


def apply(kind: str, body: Json = None, name: str = "a", **more: Any) -> Step:
    return Step("apply", kind, name, BASE[kind] if body is None else body, **more)


def delete(kind: str, name: str = "a", **preconditions: str) -> Step:
    return Step("delete", kind, name, {"preconditions": preconditions} if preconditions else None)


def owner(kind: str, step: int, **more: Any) -> Json:
    api = {"net": ("vdcos.dev/v1alpha1", "Network"), "vm": ("vdcos.dev/v1alpha1", "VirtualMachine")}[kind]
    name = "@-a" if kind == "net" else "a"
    return {"apiVersion": api[0], "kind": api[1], "name": name, "uid": f"<uid {step}>", "controller": True, **more}


def kv(**spec: Json) -> Json:
    return {"spec": {**KV["spec"], **spec}}


def catalogue() -> list[Play]:
    return [Play(name, tuple(steps)) for name, steps in {**_each(), **_CASES}.items()]


def _each() -> dict[str, list[Step]]:
    """What holds for any kind, but for those that others hold by finalizers of theirs."""
    found: dict[str, list[Step]] = {}
    for kind in sorted(BASE.keys() - {"pvc", "ns"}):
        found |= {
            f"{kind}: created, read, deleted": [create(kind), get(kind), delete(kind), get(kind)],
            f"{kind}: created twice": [create(kind), create(kind)],
            f"{kind}: what does not exist": [
                get(kind),
                merge(kind, {"metadata": {"labels": {"x": "1"}}}),
                patch(kind, op("test", "/metadata/uid", "<uid 0>")),
                delete(kind),
                apply(kind, {**BASE[kind], "metadata": {"uid": "<uid 0>"}}),
            ],
            f"{kind}: a finalizer holds it": [
                create(kind, body=held(BASE[kind])),
                delete(kind),
                delete(kind),
                create(kind),
                get(kind),
                patch(kind, op("remove", "/metadata/finalizers/0")),
                get(kind),
            ],
            f"{kind}: labels and versions": [
                create(kind, body=labelled(BASE[kind], a="1")),
                merge(kind, {"metadata": {"labels": {"a": "1"}}}),
                merge(kind, {"metadata": {"labels": {"b": "2"}}}),
                merge(kind, {"metadata": {"labels": None}}),
                get(kind),
            ],
            f"{kind}: applied": [
                apply(kind, labelled(BASE[kind], a="1", b="1")),
                apply(kind, labelled(BASE[kind], a="1", b="1")),
                apply(kind, labelled(BASE[kind], a="2")),
                apply(kind),
            ],
            f"{kind}: applied to create it, and never after that": [
                apply(kind, {**labelled(BASE[kind], a="1"), "metadata": {"resourceVersion": NOTHING_YET}}),
                apply(kind, labelled(BASE[kind], a="2")),
                apply(kind, {**BASE[kind], "metadata": {"resourceVersion": NOTHING_YET}}),
                get(kind),
            ],
            f"{kind}: applied as it was seen": [
                apply(kind, labelled(BASE[kind], a="1")),
                merge(kind, {"metadata": {"labels": {"b": "2"}}}, by="somebody"),
                apply(
                    kind, {**BASE[kind], "metadata": {"uid": "<uid 0>", "resourceVersion": "<version 0>"}}, force=True
                ),
                apply(
                    kind, {**BASE[kind], "metadata": {"uid": "<uid 0>", "resourceVersion": "<version 1>"}}, force=True
                ),
                patch(kind, op("test", "/metadata/resourceVersion", "<version 1>"), op("remove", "/metadata/labels")),
                patch(kind, op("test", "/metadata/resourceVersion", "<version 3>"), op("remove", "/metadata/labels")),
            ],
            f"{kind}: deleted as another, deleted as itself": [
                create(kind),
                delete(kind, uid=OTHER),
                delete(kind, uid="<uid 0>", resourceVersion="1"),
                delete(kind, uid="<uid 0>", resourceVersion="<version 0>"),
            ],
        }
    return found


_CASES: dict[str, list[Step]] = {
    # What is special about some kinds
    "a namespace": [
        create("ns"),
        create("ns"),
        merge("ns", {"metadata": {"labels": {"tenant": "a"}}}),
        merge("ns", {"metadata": {"labels": {"tenant": "a"}}}),
        merge("ns", {"metadata": {"annotations": {"vdcos.dev/allowed-devices": "x"}}}),
        merge("ns", {"metadata": {"labels": {"tenant": None}}}),
        delete("ns", uid=OTHER),
        delete("ns"),
        get("ns"),
    ],
    "a namespace that is being deleted": [
        create("ns", "doomed"),
        create("kv", "doomed/a"),
        delete("ns", "doomed"),
        create("kv", "doomed/b"),
        apply("kv", name="doomed/c"),
        merge("kv", {"spec": {"runStrategy": "Always"}}, "doomed/a"),
        delete("kv", "doomed/a"),
    ],
    "a claim": [
        create("pvc"),
        create("pvc"),
        merge("pvc", {"metadata": {"labels": {"a": "1"}}}),
        merge("pvc", {"metadata": {"labels": {"a": "1"}}}),
        patch("pvc", op("test", "/metadata/uid", "<uid 0>"), op("add", "/metadata/annotations", {"b": "1"})),
        delete("pvc", uid=OTHER),
        delete("pvc", uid="<uid 0>"),
        get("pvc"),
    ],
    # Versions and generations
    "a spec that changes has a new generation": [
        create("net"),
        merge("net", {"spec": {"mtu": 9000}}),
        merge("net", {"spec": {"mtu": 9000}}),
        merge("net", {"metadata": {"annotations": {"x": "1"}}}),
        merge("net", {"spec": {"mtu": None}}),
    ],
    "a status has no generation": [
        create("net"),
        merge("net", {"status": {"provider": "x"}}, status=True),
        merge("net", {"status": {"provider": "x"}}, status=True),
        get("net"),
    ],
    "status by the main resource is ignored": [
        create("net", body={**NET, "status": {"provider": "x"}}),
        merge("net", {"status": {"provider": "y"}}),
        get("net"),
    ],
    "spec by the status is ignored": [
        create("net"),
        merge("net", {"spec": {"mtu": 9000}, "status": {"provider": "x"}}, status=True),
    ],
    "labels by the status": [
        create("net"),
        merge("net", {"metadata": {"labels": {"a": "1"}}, "status": {"provider": "x"}}, status=True),
    ],
    "status of a KubeVirt VM": [
        create("kv", body={**KV, "status": {"ready": True}}),
        merge("kv", {"status": {"printableStatus": "Running"}}),
        merge("kv", {"status": {"printableStatus": "Running"}}, status=True),
        merge("kv", {"spec": {"runStrategy": "Always"}}),
    ],
    "status of a DataVolume": [
        create("dv", body={**DV, "status": {"phase": "Pending"}}),
        merge("dv", {"status": {"phase": "Succeeded"}}),
        merge("dv", {"status": {"phase": "Succeeded"}}, status=True),
    ],
    "status of a claim": [
        create("pvc"),
        merge("pvc", {"status": {"phase": "Bound"}}),
        merge("pvc", {"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}, status=True),
        merge("pvc", {"metadata": {"labels": {"a": "1"}}}),
    ],
    "a status by what was read": [
        create("net"),
        merge(
            "net",
            {"metadata": {"uid": "<uid 0>", "resourceVersion": "<version 0>"}, "status": {"provider": "x"}},
            status=True,
        ),
        merge(
            "net",
            {"metadata": {"uid": "<uid 0>", "resourceVersion": "<version 0>"}, "status": {"provider": "y"}},
            status=True,
        ),
        merge(
            "net",
            {"metadata": {"uid": "<uid 0>", "resourceVersion": "<version 1>"}, "status": {"provider": "z"}},
            status=True,
        ),
    ],
    "a status of a namesake": [
        create("net"),
        delete("net"),
        create("net"),
        merge("net", {"metadata": {"uid": "<uid 0>"}, "status": {"provider": "x"}}, status=True),
        merge(
            "net",
            {"metadata": {"uid": "<uid 0>", "resourceVersion": "<version 0>"}, "status": {"provider": "x"}},
            status=True,
        ),
        merge(
            "net",
            {"metadata": {"uid": "<uid 2>", "resourceVersion": "<version 2>"}, "status": {"provider": "x"}},
            status=True,
        ),
    ],
    "a status of what is gone": [
        create("net"),
        delete("net"),
        merge(
            "net",
            {"metadata": {"uid": "<uid 0>", "resourceVersion": "<version 0>"}, "status": {"provider": "x"}},
            status=True,
        ),
    ],
    "a status of what is being deleted": [
        create("net", body=held(NET)),
        delete("net"),
        merge(
            "net",
            {"metadata": {"uid": "<uid 0>", "resourceVersion": "<version 1>"}, "status": {"provider": "x"}},
            status=True,
        ),
        merge("net", {"spec": {"mtu": 9000}}),
    ],
    "conditions of a status are replaced whole": [
        create("net"),
        merge(
            "net",
            {
                "status": {
                    "observedGeneration": 1,
                    "conditions": [
                        {
                            "type": "Ready",
                            "status": "True",
                            "reason": "Ready",
                            "message": "",
                            "lastTransitionTime": "2026-01-01T00:00:00Z",
                        }
                    ],
                }
            },
            status=True,
        ),
        merge(
            "net",
            {
                "status": {
                    "conditions": [
                        {
                            "type": "Stalled",
                            "status": "True",
                            "reason": "R",
                            "message": "m",
                            "lastTransitionTime": "2026-01-01T00:00:00Z",
                        }
                    ]
                }
            },
            status=True,
        ),
        merge("net", {"status": {"conditions": None}}, status=True),
    ],
    "a status that does not fit": [
        create("net"),
        merge("net", {"status": {"observedGeneration": "one"}}, status=True),
        merge("net", {"status": {"unknown": 1, "provider": "x"}}, status=True),
    ],
    "a status without a state": [create("kv"), merge("kv", {"status": {"ready": True}}, status=True)],
    "a merge patch for another object": [
        create("net"),
        merge("net", {"metadata": {"uid": OTHER}, "spec": {"mtu": 9000}}),
        merge("net", {"metadata": {"uid": OTHER, "resourceVersion": "1"}, "spec": {"mtu": 9000}}),
        merge("net", {"metadata": {"uid": OTHER}, "spec": {"mtu": 1}}),
        merge("net", {"metadata": {"uid": "<uid 0>"}, "spec": {"mtu": 9000}}),
        get("net"),
    ],
    "an apply for another object": [
        apply("net"),
        apply("net", {**NET, "metadata": {"uid": OTHER}}),
        apply("net", {"spec": {"bridge": {"name": "br1"}}, "metadata": {"uid": OTHER}}, by="other"),
        apply("net", {"spec": {**NET["spec"], "mtu": 1}, "metadata": {"uid": OTHER}}),
        apply("net", {**NET, "metadata": {"uid": OTHER, "resourceVersion": "1"}}),
    ],
    "identity cannot be patched": [
        create("kv"),
        merge("kv", {"metadata": {"creationTimestamp": "2020-01-01T00:00:00Z", "generation": 7}}),
        merge("kv", {"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}}),
        get("kv"),
    ],
    "a replacement by version": [
        create("lease"),
        Step("put", "lease", body={"spec": {"holderIdentity": "two"}}, of=0),
        Step("put", "lease", body={"spec": {"holderIdentity": "three"}}, of=0),
        Step("put", "lease", body={"spec": {"holderIdentity": "two"}}, of=1),
        Step(
            "put",
            "lease",
            body={"spec": {"holderIdentity": "four"}, "metadata": {"uid": OTHER}},
            of=1,
        ),
        delete("lease"),
        Step("put", "lease", body={"spec": {"holderIdentity": "two"}}, of=1),
    ],
    "two create a lease": [create("lease"), create("lease", body={"spec": {"holderIdentity": "two"}}), get("lease")],
    # Schemas
    "defaults of a network": [create("net", body={"spec": {"pod": {}}})],
    "defaults of a datastore": [create("ds", body={"spec": {"storageClassName": "gold"}})],
    "defaults of a VM": [
        create(
            "vm",
            body={
                "spec": {
                    **VM["spec"],
                    "disks": [{"name": "system", "size": "1Gi", "datastore": "gold"}],
                    "nics": [{"name": "front", "network": "front"}],
                }
            },
        ),
        merge("vm", {"spec": {"powerState": "PoweredOn"}}),
        merge("vm", {"spec": {"powerState": None}}),
    ],
    "unknown fields are dropped": [
        create(
            "net", body={"spec": {**NET["spec"], "unknown": 1, "bridge": {"name": "br0", "more": {"x": 1}}}, "extra": 1}
        ),
        merge("net", {"spec": {"unknown": 2}}),
        merge("net", {"spec": {"unknown": 2}, "status": {"x": 1}}, status=True),
        apply("net", {"spec": {**NET["spec"], "unknown": 1}}, by="other"),
    ],
    "unknown fields are refused when strict": [
        create("net", body={"spec": {**NET["spec"], "unknown": 1}}, strict=True),
        create(
            "vm",
            body={"spec": {**VM["spec"], "disks": [{"name": "a", "size": "1Gi", "datastore": "g", "x": 1}]}},
            strict=True,
        ),
        create("net", strict=True),
        apply("net", {"spec": {**NET["spec"], "unknown": 1}}, strict=True),
    ],
    "what is wrong with a network": [
        create("net", body={"spec": {"bridge": {"name": "br0", "vlan": 5000}}}),
        create("net", body={"spec": {"bridge": {}}}),
        create("net", body={"spec": {"bridge": {"name": 7}}}),
        create("net", body={}),
        create("net"),
        merge("net", {"spec": {"mtu": 1}}),
        merge("net", {"spec": {"bridge": {"vlan": -1}}}),
        apply(
            "net",
            {"spec": {"bridge": {"name": "br0", "vlan": 5000}, "allowedNamespaces": {"from": "Some"}}},
            by="other",
        ),
        get("net"),
    ],
    "what is wrong with a VM": [
        create("vm", body={"spec": {"cpu": {"sockets": 0}, "memory": {"size": "1Gi"}}}),
        create("vm", body={"spec": {"cpu": {"sockets": 1}}}),
        create("vm", body={"spec": {**VM["spec"], "powerState": "Asleep"}}),
        create("vm", body={"spec": {**VM["spec"], "disks": [{"name": "a", "size": "1Gi", "datastore": "g"}] * 2}}),
        create("vm", body={"spec": {**VM["spec"], "nics": [{"name": "A B", "network": "front"}]}}),
        create("vm", body={"spec": {**VM["spec"], "nics": [{"network": "front"}]}}),
        get("vm"),
    ],
    "a namespace that does not exist": [
        create("kv", "nowhere/a"),
        apply("kv", name="nowhere/a"),
        get("kv", "nowhere/a"),
    ],
    # Patches
    "a patch for this very object": [
        create("kv"),
        patch("kv", op("test", "/metadata/uid", "<uid 0>"), op("replace", "/spec/runStrategy", "Always")),
        patch("kv", op("test", "/metadata/uid", "someone"), op("replace", "/spec/runStrategy", "Halted")),
        patch(
            "kv",
            op("test", "/metadata/uid", "<uid 0>"),
            op("test", "/spec/runStrategy", "Halted"),
            op("replace", "/spec/runStrategy", "Manual"),
        ),
        patch("kv", op("test", "/metadata/uid", "<uid 0>"), op("replace", "/spec/runStrategy", "Always")),
    ],
    "a patch of finalizers": [
        create("net"),
        patch(
            "net",
            op("test", "/metadata/uid", "<uid 0>"),
            op("test", "/metadata/finalizers", None),
            op("add", "/metadata/finalizers", [FINALIZER]),
        ),
        patch("net", op("test", "/metadata/finalizers", None), op("add", "/metadata/finalizers", [FINALIZER])),
        patch("net", op("add", "/metadata/finalizers/-", "other.example/x")),
        patch("net", op("test", "/metadata/finalizers/0", FINALIZER), op("remove", "/metadata/finalizers/0")),
        patch("net", op("remove", "/metadata/finalizers/0")),
        patch("net", op("remove", "/metadata/finalizers/0")),
        patch("net", op("remove", "/metadata/finalizers")),
        get("net"),
    ],
    "the last finalizer ends it": [
        create("net", body=held(NET, FINALIZER, "other.example/x")),
        delete("net", uid="<uid 0>"),
        patch("net", op("test", "/metadata/finalizers/0", FINALIZER), op("remove", "/metadata/finalizers/0")),
        merge("net", {"metadata": {"finalizers": None}}),
        get("net"),
    ],
    "no finalizer can be added to what is being deleted": [
        create("net", body=held(NET)),
        delete("net"),
        patch("net", op("add", "/metadata/finalizers/-", "other.example/x")),
        merge("net", {"metadata": {"finalizers": [FINALIZER, "other.example/x"]}}),
        get("net"),
    ],
    "a patch of a path that is not there": [
        create("kv"),
        patch("kv", op("replace", "/spec/nothing", 1)),
        patch("kv", op("remove", "/spec/nothing")),
        patch("kv", op("add", "/spec/nothing/more", 1)),
        patch("kv", op("add", "/metadata/labels/a", "1")),
        patch("kv", op("add", "/metadata/labels", {"a": "1"})),
        patch("kv", op("add", "/metadata/labels/b~1c", "1")),
        patch("kv", op("test", "/spec/template/metadata", None)),
    ],
    "a patch replaces what is not there": [
        create("net"),
        patch("net", op("replace", "/spec/mtu", 9000)),
        patch("net", op("replace", "/spec/uplink/mtu", 9000)),
        patch("net", op("replace", "/metadata/finalizers/0", "x")),
    ],
    "a patch with a bad result": [
        create("net"),
        patch("net", op("replace", "/spec/bridge/name", 7)),
        patch("net", op("remove", "/spec/bridge/name")),
        patch("net", op("add", "/spec/mtu", 1)),
        get("net"),
    ],
    "a claim grows": [
        create("pvc"),
        patch("pvc", op("test", "/metadata/uid", "<uid 0>"), op("add", "/metadata/annotations", {"a": "1"})),
        patch("pvc", op("add", "/metadata/labels", {"a": "1"})),
        patch("pvc", op("remove", "/metadata/ownerReferences")),
    ],
    "owners are taken away": [
        create("net"),
        create("nad", body={**NAD, "metadata": {"ownerReferences": [owner("net", 0)]}}),
        patch(
            "nad",
            op("test", "/metadata/uid", "<uid 1>"),
            op("test", "/metadata/ownerReferences/0/uid", "<uid 0>"),
            op("remove", "/metadata/ownerReferences/0"),
        ),
        patch("nad", op("add", "/metadata/ownerReferences", [owner("net", 0)])),
        merge("nad", {"metadata": {"ownerReferences": None}}),
        get("nad"),
    ],
    "two controllers": [
        create("net"),
        create(
            "nad", body={**NAD, "metadata": {"ownerReferences": [owner("net", 0), owner("net", 0, uid="x", name="b")]}}
        ),
    ],
    # Server-side apply
    "an applied field that others changed": [
        apply("kv"),
        merge("kv", {"spec": {"runStrategy": "Always"}}, by="other"),
        apply("kv"),
        apply("kv", force=True),
        get("kv"),
    ],
    "fields that are not applied any more go": [
        apply("kv", kv(template={"spec": {"hostname": "a", "subdomain": "b", "domain": {"devices": {}}}})),
        apply("kv", kv(template={"spec": {"hostname": "a", "domain": {"devices": {}}}})),
        merge("kv", {"spec": {"template": {"spec": {"hostname": "c"}}}}, by="other"),
        apply("kv", force=True),
    ],
    "fields of two appliers stay": [
        apply("net", labelled(NET, a="1")),
        apply("net", labelled({}, a="1", b="1"), by="other"),
        apply("net", NET),
        apply("net", {}, by="other"),
    ],
    "an applied conflict": [
        apply("net", labelled(NET, a="1")),
        apply("net", labelled({}, a="2"), by="other"),
        apply("net", labelled({}, a="2"), by="other", force=True),
        apply("net", labelled(NET, a="1")),
        get("net"),
    ],
    "created and applied by the same": [
        create("kv", body=kv(template={"spec": {"hostname": "a", "domain": {"devices": {}}}})),
        apply("kv"),
        apply("kv", kv(runStrategy="Always")),
        apply("kv", kv(runStrategy="Always"), force=True),
        apply("kv", force=True),
    ],
    "applied and patched by the same": [
        apply("kv"),
        patch("kv", op("replace", "/spec/runStrategy", "Always")),
        apply("kv"),
        apply("kv", force=True),
        apply("kv", kv(runStrategy="Always"), force=True),
    ],
    "applied to somebody else's": [
        create("kv", by="other"),
        apply("kv"),
        apply("kv", kv(runStrategy="Always")),
        get("kv"),
    ],
    "applied for this very object": [
        apply("nad"),
        apply("nad", {"spec": {"config": "{1}"}, "metadata": {"uid": "<uid 0>"}}),
        delete("nad"),
        apply("nad", {**NAD, "metadata": {"uid": "<uid 0>"}}),
        apply("nad"),
        apply("nad", {**NAD, "metadata": {"uid": "<uid 0>"}}),
    ],
    "applied with a version": [
        apply("nad"),
        apply("nad", {"spec": {"config": "{1}"}, "metadata": {"resourceVersion": "<version 0>"}}),
        apply("nad", {"spec": {"config": "{2}"}, "metadata": {"resourceVersion": "<version 0>"}}),
    ],
    "applied lists": [
        apply(
            "kv", kv(template={"spec": {"domain": {"devices": {"disks": [{"name": "a", "disk": {"bus": "scsi"}}]}}}})
        ),
        apply(
            "kv", kv(template={"spec": {"domain": {"devices": {"disks": [{"name": "b", "disk": {"bus": "scsi"}}]}}}})
        ),
        apply(
            "kv",
            kv(template={"spec": {"domain": {"devices": {"disks": [{"name": "c", "disk": {"bus": "scsi"}}]}}}}),
            by="other",
        ),
        apply("kv", kv(template={"spec": {"domain": {"devices": {"disks": []}}}})),
        apply("kv"),
    ],
    "applied owners": [
        create("net"),
        apply("nad", {**NAD, "metadata": {"ownerReferences": [owner("net", 0)]}}),
        apply(
            "nad",
            {"metadata": {"ownerReferences": [owner("net", 0, controller=False, uid=OTHER)]}},
            by="other",
        ),
        apply("nad"),
        apply("nad", {"metadata": {}}, by="other"),
    ],
    "applied to what is being deleted": [
        create("kv", body=held(KV)),
        delete("kv"),
        apply("kv", kv(runStrategy="Always"), force=True),
        merge("kv", {"metadata": {"finalizers": None}}),
        apply("kv"),
    ],
    "applied annotations": [
        apply("kv", {**KV, "metadata": {"annotations": {"a": "1"}}}),
        merge("kv", {"metadata": {"annotations": {"b": "1"}}}, by="other"),
        apply("kv", {**KV, "metadata": {"annotations": {"c": "1"}}}),
        apply("kv"),
        merge("kv", {"metadata": {"annotations": None}}, by="other"),
        apply("kv", {**KV, "metadata": {"annotations": {"b": "1"}}}),
    ],
    "an object of which others own what is in it is applied empty": [
        apply("nad", by="other"),
        apply("nad", {"spec": {}}),
        merge("nad", {"spec": {"config": None}}, by="third"),
        get("nad"),
        apply("nad"),
    ],
    "an object that lost all that was in it stays with who made it": [
        create("nad"),
        merge("nad", {"spec": {"config": None}}, by="other"),
        merge("nad", {"spec": {"config": "{1}"}}, by="third"),
        apply("nad", by="fourth", force=True),
        apply("nad", {}, by="fourth"),
    ],
    "an object is applied empty that had something in it": [
        apply("kv", kv(template={"spec": {"domain": {"devices": {"tpm": {"persistent": True}}}}})),
        apply("kv", kv(template={"spec": {"domain": {"devices": {"tpm": {}}}}})),
        apply("kv", kv(template={"spec": {"domain": {"devices": {}}}}), by="other"),
        apply("kv", kv(template={"spec": {"domain": {"devices": {}}}})),
        apply("kv", kv(template={"spec": {"domain": {"devices": {"tpm": {}}}}})),
    ],
    "maps of the metadata are applied empty": [
        apply("kv", {**KV, "metadata": {"labels": {"a": "1"}, "annotations": {"a": "1"}}}),
        apply("kv", {**KV, "metadata": {"labels": {}, "annotations": {}}}),
        apply("kv"),
    ],
    "applied to what nobody owns": [
        apply("nad"),
        merge("nad", {"spec": {"config": None}}, by="other"),
        apply("nad", by="third"),
    ],
    "an empty object is applied": [
        apply("kv"),
        apply("kv", {"spec": {"runStrategy": "Halted", "template": {"spec": {"domain": {}}}}}),
        apply("kv"),
    ],
    "applied without a change of what others own": [
        create("net", by="other"),
        apply("net"),
        merge("net", {"spec": {"mtu": 9000}}, by="other"),
        apply("net", {"spec": {**NET["spec"], "mtu": 9000}}),
        apply("net"),
    ],
    # Lists and watches
    "pages are of one moment": [
        create("nad", "a"),
        create("nad", "b"),
        create("nad", "c"),
        Step("list", "nad", limit=2),
        create("nad", "d"),
        delete("nad", "c"),
        merge("nad", {"metadata": {"labels": {"x": "1"}}}, "b"),
        Step("list", "nad", limit=2, of=3),
        Step("list", "nad"),
    ],
    "a list of nothing": [Step("list", "nad"), Step("list", "kv", limit=1)],
    "a list of all": [
        create("dv", "b"),
        create("dv", "a"),
        Step("list", "dv"),
        delete("dv", "a"),
        Step("list", "dv"),
    ],
    "a watch from a list": [
        create("nad"),
        Step("list", "nad"),
        merge("nad", {"metadata": {"labels": {"x": "1"}}}),
        merge("nad", {"metadata": {"labels": {"x": "1"}}}),
        delete("nad"),
        create("nad"),
        Step("watch", "nad", since="<version 1>"),
    ],
    "a watch of a held object": [
        create("dv", body=held(DV)),
        merge("dv", {"status": {"phase": "Succeeded"}}, status=True),
        delete("dv"),
        delete("dv"),
        patch("dv", op("remove", "/metadata/finalizers")),
        Step("watch", "dv", since="<version 0>"),
    ],
    "a watch of a deletion has a version of its own": [
        create("nad"),
        merge("nad", {"spec": {"config": "{1}"}}),
        delete("nad"),
        Step("watch", "nad", since="<version 1>"),
    ],
    "a watch of refusals shows nothing": [
        create("nad"),
        create("nad"),
        delete("nad", uid=OTHER),
        patch("nad", op("test", "/metadata/uid", "x")),
        apply("nad", {"spec": {"config": "{1}"}}, by="other"),
        Step("watch", "nad", since="<version 0>"),
    ],
    "a namesake has another uid": [
        create("vm"),
        delete("vm", uid="<uid 0>"),
        create("vm"),
        delete("vm", uid="<uid 0>"),
        delete("vm", uid="<uid 2>"),
    ],
}
