"""``kubectl vdc why``: from an object that is not well to what is behind it, in plain words, and what to do next.

Pure: a chain is made from objects that were read. A link is one object with what it complains about; what lies behind a
complaint is the next link. The table of ``causes`` says where to look.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from vdcos import api
from vdcos.cli.vdc import objects as o
from vdcos.cli.vdc import tree as trees
from vdcos.cli.vdc.causes import cause
from vdcos.cli.vdc.objects import Objects, Tree, at
from vdcos.cli.vdc.screen import Branch, Cell, Screen, Word
from vdcos.cli.vdc.status import advice, human, reference, troubles
from vdcos.core.conditions import READY
from vdcos.core.objects import Resource

DEEPEST = 6
"""Links of a chain; ours have four at most."""
_NAMED = 5
_FOLLOWS = "Waiting"
"""The reason of what waits for something that is told anyway."""


def wanted(resource: Resource, namespace: str) -> tuple[o.Wanted, ...]:
    """For a VM, what it is made of; for anything else, all VMs."""
    around = o.around_vms(namespace) if resource == o.VM else (o.Wanted(o.VM),)
    return (*around, *o.DATACENTER)


@dataclass(frozen=True)
class Link:
    """One object (or part of one), what it says of itself, and what is behind that."""

    what: str
    says: str
    means: str = ""
    message: str = ""
    since: str = ""
    next: str = ""
    behind: tuple["Link", ...] = ()

    def data(self) -> Tree:
        said = {"what": self.what, "says": self.says, "means": self.means, "message": self.message}
        tree = {name: text for name, text in (said | {"since": self.since, "next": self.next}).items() if text}
        return tree | ({"behind": [link.data() for link in self.behind]} if self.behind else {})

    def steps(self) -> Iterator[str]:
        """What to do: where the cause lies, if anything can be done there."""
        deeper = [step for link in self.behind for step in link.steps()]
        yield from deeper or ([self.next] if self.next else [])


@dataclass
class _Chain:
    found: Objects
    seen: set[tuple[str, str]] = field(default_factory=set)

    def object(self, tree: Tree, deep: int = 0) -> list[Link]:
        """A link for each complaint of an object of ours; none when it is well, or was there already."""
        named = (tree["kind"], str(o.key_of(tree)))
        if named in self.seen or deep > DEEPEST:
            return []
        self.seen.add(named)
        return [self.complaint(tree, each, deep) for each in complaints(tree)]

    def complaint(self, tree: Tree, said: Tree, deep: int) -> Link:
        reason = said["reason"]
        known = cause(tree["kind"], reason)
        behind = tuple(
            link for other in _BEHIND[known.leads](self.found, tree, reason) for link in self._one(other, deep)
        )
        return Link(
            what=name(tree),
            says=f"{said['condition']}: {reason}",
            means=known.means,
            message=said["message"],
            since=said["since"],
            next=advice(tree, reason),
            behind=behind,
        )

    def _one(self, other: Tree | Link, deep: int) -> list[Link]:
        if isinstance(other, Link):
            return [other]
        return self.object(other, deep + 1) or [Link(name(other), _well(other), message=_facts(other))]


def name(tree: Tree) -> str:
    """``VirtualMachine shop/web-1``."""
    return f"{tree['kind']} {o.key_of(tree)}"


def complaints(tree: Tree) -> list[Tree]:
    """What is not well, each once: the condition behind Ready stands for Ready."""
    found = troubles(tree)
    if not found or found[0]["condition"] != READY:
        return found
    first = found[0]
    same = next(
        (
            each["type"]
            for each in o.conditions(tree)
            if each.get("type") not in (READY, "Reconciling", "Stalled")
            and each.get("reason") == first["reason"]
            and each.get("status") != "True"
        ),
        READY,
    )
    also = [each for each in found[1:] if each["condition"] != same]
    others = [
        {
            **first,
            "condition": each["type"],
            "reason": each.get("reason", ""),
            "message": each.get("message", ""),
            "since": each.get("lastTransitionTime", ""),
        }
        for each in o.conditions(tree)
        if each.get("type", "").endswith(("Ready", "Synced"))
        and each.get("status") == "False"
        and each.get("type") not in (READY, same)
        and each.get("reason") != _FOLLOWS
    ]
    return [{**first, "condition": same}, *others, *also]


def notes(tree: Tree) -> list[Tree]:
    """What is worth knowing of an object that is well."""
    wanted = {"RestartRequired": "True", "Migratable": "False", "GuestAgentConnected": "False", "Protected": "False"}
    return [
        {**each, "means": cause(tree["kind"], each["reason"]).means if each["type"] != "Migratable" else "",
         "next": advice(tree, each["reason"]) if each["type"] != "Migratable" else ""}
        for each in o.conditions(tree)
        if wanted.get(each["type"]) == each["status"] and each["reason"] != "NotRunning"
    ]  # fmt: skip


def _well(tree: Tree) -> str:
    ready = o.condition(tree, READY)
    return "is well" if ready.get("status") == "True" else f"{ready.get('reason', 'not seen by the operator')}"


def _facts(tree: Tree) -> str:
    """What of a thing that is well may matter to somebody else: how full a Datastore is."""
    if tree["kind"] != "Datastore":
        return ""
    ceiling, retained = at(tree, "spec.capacity"), at(tree, "status.retained.names", [])
    full = f"{human(at(tree, 'status.provisioned', '0'))} of {ceiling} are promised" if ceiling else ""
    return "; ".join(filter(None, (full, f"disks without a VM: {', '.join(retained)}" if retained else "")))


# Where to look on


def _nowhere(found: Objects, tree: Tree, reason: str) -> list[Tree | Link]:
    return []


def _datastores(found: Objects, tree: Tree, reason: str) -> list[Tree | Link]:
    said = {each["name"]: each.get("reason") for each in at(tree, "status.disks", [])}
    concerned = [each for each in at(tree, "spec.disks", []) if said.get(each["name"]) == reason]
    names = dict.fromkeys(each["datastore"] for each in concerned or at(tree, "spec.disks", []))
    return [link for each in names for link in _named(found, o.DATASTORE, each)]


def _networks(found: Objects, tree: Tree, reason: str) -> list[Tree | Link]:
    names = dict.fromkeys(each["network"] for each in at(tree, "spec.nics", []))
    found_ones = [link for each in names for link in _named(found, o.NETWORK, each)]
    return [each for each in found_ones if isinstance(each, Link) or troubles(each)] or found_ones


def _host(found: Objects, tree: Tree, reason: str) -> list[Tree | Link]:
    return _named(found, o.HOST, at(tree, "status.host"))


def _policy(found: Objects, tree: Tree, reason: str) -> list[Tree | Link]:
    """The policy that it names; of a VM, the one of its host, or those under which VMs wait."""
    named = at(tree, "spec.policy") or at(tree, "status.policy")
    if not named and (host := found.get(o.HOST, at(tree, "status.host"))) is not None:
        named = at(host, "status.policy")
    if named:
        return _named(found, o.POLICY, named)
    waiting = [each for each in found.all(o.POLICY) if at(each, "status.waiting.count", 0)]
    return [*waiting] if waiting or o.POLICY not in found.missing else [_unreadable(found, o.POLICY)]


def _failure(found: Objects, tree: Tree, reason: str) -> list[Tree | Link]:
    """The failure that is open of a host, or that holds a VM."""
    if tree["kind"] == "Host":
        return _named(found, o.FAILURE, at(tree, "status.failure"))
    key = o.key_of(tree)
    holding = [
        each
        for each in found.all(o.FAILURE)
        if any(
            (m.get("namespace"), m.get("name"), m.get("state")) == (*key, "Held")
            for m in at(each, "status.machines", [])
        )
    ]
    return [*holding] if holding or o.FAILURE not in found.missing else [_unreadable(found, o.FAILURE)]


def _named(found: Objects, resource: Resource, wanted: str) -> list[Tree | Link]:
    if not wanted:
        return []
    tree = found.get(resource, wanted)
    if tree is not None:
        return [tree]
    if resource in found.missing:
        return [_unreadable(found, resource)]
    return [Link(f"{resource.kind} {wanted}", "does not exist")]


def _unreadable(found: Objects, resource: Resource) -> Link:
    return Link(resource.kind, "cannot be read", message=found.missing[resource])


def _kubevirt(found: Objects, tree: Tree, reason: str) -> list[Tree | Link]:
    """The objects that run the VM, as far as they complain: from the KubeVirt VM to its pods, and its disks."""
    if tree["kind"] != "VirtualMachine":
        return []
    drawn = trees.tree(found, tree)
    meta = tree["metadata"]
    child = found.get(o.CHILD, meta["name"], meta["namespace"])
    instance = found.get(o.INSTANCE, meta["name"], meta["namespace"])
    links: list[Tree | Link] = []
    for what, held in (("KubeVirt VM", child), ("instance", instance)):
        links += _foreign(what, held)
    links += [
        Link(f"pod {pod['name']}", pod["phase"] or "Pending", message=pod["waiting"])
        for pod in drawn["pods"]
        if pod["waiting"]
    ]
    for disk in drawn["disks"]:
        volume, claim = disk["dataVolume"], disk["claim"]
        if volume is not None and volume["phase"] not in ("Succeeded", ""):
            held = found.get(o.VOLUME, volume["name"], meta["namespace"]) or {}
            words = [each.get("message", "") for each in o.conditions(held) if each.get("status") == "False"]
            links.append(Link(f"DataVolume {volume['name']}", volume["phase"], message="; ".join(filter(None, words))))
        if claim is not None and claim["phase"] not in ("Bound", ""):
            links.append(
                Link(f"claim {claim['name']}", claim["phase"], message=f"storage class {claim['storageClass']}")
            )
    return links


_COMPLAINS = {"Failure": "True", "Synchronized": "False", "PodScheduled": "False", "Paused": "True"}


def _foreign(what: str, held: Tree | None) -> Iterator[Link]:
    for each in o.conditions(held or {}):
        kind = each.get("type", "")
        if held is not None and kind in _COMPLAINS and each.get("status") == _COMPLAINS[kind]:
            if what == "KubeVirt VM" and kind != "Failure":
                continue  # it repeats what its instance says
            says = f"{kind}: {each.get('reason', '')}".rstrip(": ")
            yield Link(f"{what} {held['metadata']['name']}", says, message=str(each.get("message", "")))


_BEHIND: Mapping[str, Callable[[Objects, Tree, str], Sequence[Tree | Link]]] = {
    "": _nowhere,
    "Datastore": _datastores,
    "Network": _networks,
    "Host": _host,
    "HAPolicy": _policy,
    "HostFailure": _failure,
    "KubeVirt": _kubevirt,
}


# What is said


def why(found: Objects, tree: Tree) -> Tree:
    """For programs: whether it is well, the chains of causes, what to do first, and what is worth knowing."""
    links = _Chain(found).object(tree)
    steps = list(dict.fromkeys(step for link in links for step in link.steps()))
    return {
        "object": name(tree),
        "well": not links,
        "causes": [link.data() for link in links],
        "next": steps,
        "notes": [
            {part: text for part, text in (("condition", each["type"]), ("reason", each["reason"]),
             ("means", each["means"]), ("message", each.get("message", "")), ("next", each["next"])) if text}
            for each in notes(tree)
        ],
        "affects": affects(found, tree),
    }  # fmt: skip


def affects(found: Objects, tree: Tree) -> list[str]:
    """The VMs that something of the datacenter matters to, and that are not well."""
    meta, kind = tree["metadata"], tree["kind"]
    uses: Mapping[str, Callable[[Tree], bool]] = {
        "Network": lambda vm: any(nic.get("network") == meta["name"] for nic in at(vm, "spec.nics", [])),
        "Datastore": lambda vm: any(disk.get("datastore") == meta["name"] for disk in at(vm, "spec.disks", [])),
        "Host": lambda vm: at(vm, "status.host") == meta["name"],
    }
    concerns = uses.get(kind)
    if concerns is None:
        return []
    unwell = [vm for vm in found.all(o.VM) if o.condition(vm, READY).get("status") != "True"]
    blames = [vm for vm in unwell if cause("VirtualMachine", o.condition(vm, READY).get("reason", "")).leads == kind]
    return [reference(vm) for vm in blames if concerns(vm)]


def show(found: Tree, screen: Screen, now: datetime) -> None:
    """For people."""
    if found["well"]:
        screen.line((Word(found["object"], "strong"), " is well."))
    else:
        first = found["causes"][0]
        screen.line((Word(found["object"], "strong"), " is not well: ", first.get("means") or first["says"], "."))
        screen.line()
        for each in found["causes"]:
            screen.tree(_branch(each, now, first is not each or each["what"] != found["object"]))
    if found["affects"]:
        screen.line()
        screen.line(Word(f"VMs that this matters to ({len(found['affects'])}):", "strong"))
        for vm in found["affects"][:_NAMED]:
            screen.line(f"kubectl vdc why {vm}", indent=2)
        if len(found["affects"]) > _NAMED:
            screen.line(Word(f"... and {len(found['affects']) - _NAMED} more", "dim"), indent=2)
    if found["notes"]:
        screen.line()
        screen.line(Word("Worth knowing:", "strong"))
        for note in found["notes"]:
            screen.line((Word(f"{note['condition']}", "wait"), f"  {note.get('message') or note.get('means', '')}"), 2)
    if found["next"]:
        screen.line()
        screen.line(Word("Next:", "strong"))
        for number, step in enumerate(found["next"], 1):
            screen.line(f"{number}. {step}", indent=2)
    elif not found["well"]:
        screen.line()
        screen.line((Word("Next: ", "strong"), "nothing; it passes by itself. If it does not, this says more later."))


def _branch(link: Tree, now: datetime, named: bool = True) -> Branch:
    age = _age(link.get("since", ""), now)
    head: list[Cell] = [Word(f"{link['what']}  ", "strong")] if named else []
    well = link["says"] == "is well"
    head += [Word(link["says"], "good" if well else "bad"), Word(f"  for {age}", "dim") if age else ""]
    below = []
    if named and link.get("means") and link["means"] not in link.get("message", ""):
        below.append(Branch(link["means"]))
    if link.get("message"):
        below.append(Branch(Word(link["message"], "dim")))
    return Branch(head, [*below, *(_branch(each, now) for each in link.get("behind", ()))])


def _age(since: str, now: datetime) -> str:
    """As kubectl says ages: 45s, 12m, 3h, 2d."""
    try:
        seconds = int((now - datetime.fromisoformat(since).astimezone(UTC)).total_seconds())
    except ValueError:
        return ""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{max(0, seconds)}s"


def parse_reference(text: str) -> tuple[Resource, str, str]:
    """``vm/web-1`` or ``vm/shop/web-1`` as kind, namespace ("" when it is not said) and name. Raises ValueError."""
    kind, _, rest = text.partition("/")
    resource = _NAMES.get(kind.lower())
    namespace, _, named = rest.rpartition("/")
    if resource is None or not named or (namespace and not resource.namespaced):
        raise ValueError(f"{text}: say what it is as KIND/NAME, with one of the kinds {', '.join(o.NAMED)}")
    return resource, namespace, named


_NAMES: Mapping[str, Resource] = {
    **o.NAMED,
    **{short: each for each in o.NAMED.values() for short in api.KINDS[each.kind].definition.short_names},
    **{each.plural: each for each in o.NAMED.values()},
    **{each.kind.lower(): each for each in o.NAMED.values()},
}
"""How a kind can be named: short, as kubectl's short name, singular or plural."""
