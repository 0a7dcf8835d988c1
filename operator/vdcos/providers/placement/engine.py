"""Placement on numpy arrays. Everything that imports this pays for numpy; ``vdcos.providers.placement`` does not.

Of the hosts that pass every filter, a machine gets the one with the fewest broken preferences, then the best score,
then the first name. Machines that ask for the same share their filters and a shortlist of the best hosts of the
undisturbed world. A placement takes the first host of it that is still undisturbed, and compares it with the few that
machines of the same plan have disturbed, which are scored one by one.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vdcos.providers.placement.labels import Index
from vdcos.providers.placement.model import (
    CPU,
    LIMIT,
    MEMORY,
    PODS,
    Host,
    Machine,
    Placement,
    Priority,
    Reason,
    Requirement,
    Rule,
    Selector,
    Shortage,
    Taint,
    Toleration,
    Unplaced,
    restart_rank,
)
from vdcos.providers.placement.scoring import Scorer

SHORTLIST = 48
"""Hosts on a shortlist: more than the machines of one host disturb, mostly. When it ends, all hosts are looked at."""

FEW = 32
"""So many hosts are scored faster one by one than as arrays."""

_NAMESPACE = "\0namespace"
_CORDONED = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")
_NONE: frozenset[int] = frozenset()

_Bools = NDArray[np.bool_]
_Floats = NDArray[np.float64]
_Choice = tuple[int, float, int]
"""What a host costs in preferences, its negative score, its number: the least is the best."""


@dataclass(frozen=True, slots=True, eq=False)
class _Kind:
    """Machines that ask for the same. One object for all of them, so that it is compared and hashed as such."""

    requests: tuple[tuple[str, int], ...]
    selector: Selector
    tolerations: tuple[Toleration, ...]
    bound_to: frozenset[str] | None


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """A machine in a world."""

    machine: Machine
    number: int
    kind: _Kind
    rank: tuple[int, int, int, int, str]
    host: int
    """Number of its host; -1: none that is known."""


@dataclass(slots=True, eq=False)
class _Term:
    """The machines that a rule selects, and where they run, by the value of a topology label."""

    selectors: tuple[Selector, ...]
    topology: str
    members: frozenset[int]
    where: dict[str, int] = field(default_factory=dict)
    """How many members run in each domain."""
    avoiding: dict[str, int] = field(default_factory=dict)
    """How many machines run in each domain that must be apart from the members."""

    def same(self, other: "_Term") -> bool:
        """Whether both say the same about any machine that is a member of both or of neither."""
        return (
            self.topology == other.topology
            and self.selectors == other.selectors
            and self.where == other.where
            and self.avoiding == other.avoiding
        )


@dataclass(slots=True, eq=False)
class _Relations:
    """What rules say about a machine."""

    member_of: list[_Term] = field(default_factory=list)
    apart: list[_Term] = field(default_factory=list)
    together: list[_Term] = field(default_factory=list)
    preferred: list[tuple[_Term, int]] = field(default_factory=list)
    """Terms, and what a host in one of their domains costs; negative where it is wanted."""

    def terms(self) -> tuple[_Term, ...]:
        return (*self.member_of, *self.apart, *self.together, *(term for term, _ in self.preferred))


@dataclass(slots=True, eq=False)
class _Filter:
    """What a kind of machines needs of a host."""

    asked: tuple[float, ...]
    floor: tuple[float, ...]
    """What must be free: what is asked for, or less than anything where nothing is."""
    allowed: _Bools
    penalties: NDArray[np.int64]
    """By host: taints that it would rather not be near."""
    shortlist: tuple[_Choice, ...] = ()
    complete: bool = False
    """No host outside of the shortlist can take one."""


@dataclass(frozen=True, slots=True, eq=False)
class _Trail:
    """A plan, and what it was made from, to know when it need not be made again."""

    entries: tuple[_Entry, ...]
    terms: tuple[_Term, ...]
    placement: Placement
    targets: frozenset[int]
    depths: Mapping[_Kind, int]
    """How many hosts of each shortlist it looked at; more than there are when it came to the end."""
    looked_at_all: bool


class World:
    """Hosts and machines as arrays, and how the machines of one plan at a time disturb them."""

    def __init__(
        self,
        hosts: Iterable[Host],
        machines: Iterable[Machine],
        scorer: Scorer,
        *,
        restart: bool,
        previous: "World | None" = None,
        moving: Set[str] = frozenset(),
    ) -> None:
        """``moving`` leave their hosts before anything is counted. Raises ValueError on a name twice."""
        self.scorer, self.restart = scorer, restart
        self.hosts = tuple(sorted(hosts, key=lambda host: host.name))
        self.names = [host.name for host in self.hosts]
        for one, other in pairwise(self.names):
            if one == other:
                raise ValueError(f"host {one} is there twice")
        self.number = {name: number for number, name in enumerate(self.names)}
        self.entries = self._enter(machines, previous)
        kinds = {entry.kind for entry in self.entries.values()}
        self.kinds = {(kind.requests, kind.selector, kind.tolerations, kind.bound_to): kind for kind in kinds}
        asked = {name for kind in kinds for name, _ in kind.requests}
        self.resources = (CPU, MEMORY, PODS, *sorted(asked - {CPU, MEMORY, PODS}))
        self._devices = [column for column, name in enumerate(self.resources) if "/" in name]
        self._plain = [column for column, name in enumerate(self.resources) if "/" not in name]
        leaving = [self.entries[key] for key in moving]
        self.free, self.allocatable = self._count(leaving)
        self._free_rows, self._allocatable_rows = self.free.tolist(), self.allocatable.tolist()

        ruled = [entry for entry in self.entries.values() if entry.machine.rules]
        label_keys = {requirement.key for kind in kinds for requirement in kind.selector}
        self.topologies = {rule.topology_key for entry in ruled for rule in entry.machine.rules}
        self._host_labels = Index([host.labels for host in self.hosts], label_keys | self.topologies)
        self._relations = self._relate(ruled)
        for number, entry in enumerate(self.entries.values()):
            if number in self._relations and entry.host >= 0 and entry.machine.key not in moving:
                self._settle(entry, entry.host, 1)

        self.filters: dict[_Kind, _Filter] = {}
        self._selected = cache(self._select)
        self._tolerated = cache(self._tolerate)

        # The plan that is being made.
        self._dead = -1
        self._disturbed: dict[int, list[float]] = {}
        self._depths: dict[_Kind, int] = {}
        self._looked_at_all = False

    # Building

    def _enter(self, machines: Iterable[Machine], previous: "World | None") -> dict[str, _Entry]:
        known = previous.entries if previous else {}
        kinds = dict(previous.kinds) if previous else {}
        entries: dict[str, _Entry] = {}
        number = -1
        for number, machine in enumerate(machines):
            key = machine.key
            host = self.number.get(machine.host, -1)
            old = known.get(key)
            if old is not None and (old.machine is machine or old.machine == machine):
                same = old.number == number and old.host == host
                entries[key] = old if same else _Entry(old.machine, number, old.kind, old.rank, host)
                continue
            wants = (tuple(sorted(machine.requests.items())), machine.selector, machine.tolerations, machine.bound_to)
            kind = kinds.get(wants)
            if kind is None:
                kind = kinds[wants] = _Kind(*wants)
            entries[key] = _Entry(machine, number, kind, restart_rank(machine), host)
        if len(entries) != number + 1:
            raise ValueError("a machine is there twice")
        return entries

    def _count(self, leaving: Iterable[_Entry]) -> tuple[_Floats, _Floats]:
        """What is free and what there is, [hosts, resources]."""
        freed: dict[int, dict[str, int]] = {}
        for entry in leaving:
            if entry.host >= 0:
                amounts = freed.setdefault(entry.host, {})
                for name in self.resources:
                    amounts[name] = amounts.get(name, 0) + _asked(entry.machine, name)
        free, allocatable = [], []
        for number, host in enumerate(self.hosts):
            has, used, back = host.allocatable, host.used, freed.get(number, {})
            allocatable.append([min(max(has.get(name, 0), 1), LIMIT) for name in self.resources])
            free.append(
                [
                    max(-LIMIT, min(has.get(name, 0) - used.get(name, 0) + back.get(name, 0), LIMIT))
                    for name in self.resources
                ]
            )
        # Column by column in memory: what is asked of all hosts goes along a column.
        shape = (len(self.hosts), len(self.resources))
        arrays = (np.array(rows, np.float64).reshape(shape) for rows in (free, allocatable))
        return np.asfortranarray(next(arrays)), np.asfortranarray(next(arrays))

    def _relate(self, ruled: Sequence[_Entry]) -> dict[int, _Relations]:
        """What rules say, by number of the machine; machines that no rule concerns are not in it."""
        terms: dict[tuple[tuple[Selector, ...], str], _Term] = {}
        relations: dict[int, _Relations] = {}
        if not ruled:
            return relations
        machines = [entry.machine for entry in self.entries.values()]
        rules = {rule for entry in ruled for rule in entry.machine.rules}
        labels = Index([machine.labels for machine in machines], {each.key for rule in rules for each in rule.selector})
        namespaces = Index([{_NAMESPACE: machine.namespace} for machine in machines], {_NAMESPACE})

        def term_of(entry: _Entry, selecting: Sequence[Rule], topology: str) -> _Term:
            own = entry.machine.namespace
            selectors = tuple(
                (Requirement(_NAMESPACE, "In", rule.namespaces or (own,)), *rule.selector) for rule in selecting
            )
            term = terms.get((selectors, topology))
            if term is None:
                members = [namespaces.select(each[:1]) & labels.select(each[1:]) for each in selectors]
                term = terms[selectors, topology] = _Term(selectors, topology, frozenset.intersection(*members))
            return term

        for entry in ruled:
            relation = relations[entry.number] = _Relations()
            together = [rule for rule in entry.machine.rules if rule.required and rule.kind == "Together"]
            # As in Kubernetes, only machines that match all of these rules count for any of them.
            relation.together = [term_of(entry, together, rule.topology_key) for rule in together]
            for rule in entry.machine.rules:
                if rule.kind == "Apart" and rule.required:
                    relation.apart.append(term_of(entry, (rule,), rule.topology_key))
                elif not rule.required:
                    cost = rule.weight if rule.kind == "Apart" else -rule.weight
                    relation.preferred.append((term_of(entry, (rule,), rule.topology_key), cost))
        for term in terms.values():
            for number in term.members:
                relations.setdefault(number, _Relations()).member_of.append(term)
        return relations

    def filter(self, kind: _Kind) -> _Filter:
        """What a kind needs of a host, with its shortlist; made when it is first asked for."""
        found = self.filters.get(kind)
        if found is None:
            found = self.filters[kind] = self._filter(kind)
        return found

    def _filter(self, kind: _Kind) -> _Filter:
        requests = dict(kind.requests) | {PODS: 1}
        amounts = [requests.get(name, 0) for name in self.resources]
        asked = tuple(float(amount) if amount <= LIMIT else np.inf for amount in amounts)
        floor = tuple(amount if amount > 0 else -np.inf for amount in asked)
        tolerated, penalties = self._tolerated(kind.tolerations)
        allowed = tolerated & self._selected(kind.selector) & self._bound(kind.bound_to)
        found = _Filter(asked, floor, allowed, penalties)
        rows = np.flatnonzero(allowed & (self.free >= floor).all(axis=1))
        found.complete = len(rows) <= SHORTLIST
        if len(rows):
            scores, costs = self._scores(found, rows), penalties[rows]
            if not found.complete and not costs.any():
                last = len(rows) - SHORTLIST
                best = scores >= np.partition(scores, last)[last]
                rows, scores, costs = rows[best], scores[best], costs[best]
            order = np.lexsort((rows, -scores, costs))[:SHORTLIST]
            columns = costs[order].tolist(), (-scores[order]).tolist(), rows[order].tolist()
            found.shortlist = tuple(zip(*columns, strict=True))
        return found

    def _bound(self, bound_to: frozenset[str] | None) -> _Bools:
        if bound_to is None:
            return np.ones(len(self.hosts), np.bool_)
        return self._mask(number for name in bound_to if (number := self.number.get(name)) is not None)

    def _select(self, selector: Selector) -> _Bools:
        return self._mask(self._host_labels.select(selector))

    def _mask(self, numbers: Iterable[int]) -> _Bools:
        mask = np.zeros(len(self.hosts), np.bool_)
        mask[list(numbers)] = True
        return mask

    def _tolerate(self, tolerations: tuple[Toleration, ...]) -> tuple[_Bools, NDArray[np.int64]]:
        """The hosts whose taints, cordons and failover duty are put up with, and how many milder taints are not."""
        cordoned = any(each.tolerates(_CORDONED) for each in tolerations)
        counted: dict[tuple[Taint, ...], tuple[bool, int]] = {}
        for taints in {host.taints for host in self.hosts}:
            left = [taint.effect for taint in taints if not any(each.tolerates(taint) for each in tolerations)]
            hard = "NoSchedule" in left or "NoExecute" in left
            counted[taints] = (not hard, left.count("PreferNoSchedule"))
        allowed = [
            counted[host.taints][0] and (host.schedulable or cordoned) and (self.restart or not host.failover_only)
            for host in self.hosts
        ]
        return np.array(allowed, np.bool_), np.array([counted[host.taints][1] for host in self.hosts], np.int64)

    # Choosing

    def _choose(self, entry: _Entry) -> int:
        """The host that takes a machine, or -1."""
        needs = self.filter(entry.kind)
        best: _Choice | None = None
        blocked: Set[int] = _NONE
        wishes: Mapping[int, int] = {}
        if (relation := self._relations.get(entry.number)) is not None:
            blocked, only = self._rules(entry, relation)
            wishes = self._wishes(relation)
            if only is not None:
                self._looked_at_all = True
                if len(only) <= FEW:
                    best = self._one_by_one(needs, only, blocked, wishes)
                else:
                    best = self._at_once(needs, self._mask(only), blocked, wishes)
                return best[2] if best else -1
        depth = len(needs.shortlist) + 1
        for position, choice in enumerate(needs.shortlist, 1):
            host = choice[2]
            if host not in self._disturbed and host != self._dead and host not in blocked and host not in wishes:
                best, depth = choice, position
                break
        if len(wishes) > FEW or (best is None and not needs.complete):
            self._looked_at_all = True
            best = self._at_once(needs, None, blocked, wishes)
        else:
            if depth > self._depths.get(entry.kind, 0):
                self._depths[entry.kind] = depth
            special = {*self._disturbed, *wishes} if wishes else self._disturbed
            if special:
                other = self._one_by_one(needs, special, blocked, wishes)
                if best is None or (other is not None and other < best):
                    best = other
        return best[2] if best else -1

    def _one_by_one(
        self, needs: _Filter, hosts: Iterable[int], blocked: Set[int], wishes: Mapping[int, int]
    ) -> _Choice | None:
        """The best of a few hosts as they are now."""
        best: _Choice | None = None
        for host in hosts:
            free = self._disturbed.get(host) or self._free_rows[host]
            for has, least in zip(free, needs.floor, strict=True):
                if has < least:
                    break
            else:
                if host in blocked or host == self._dead or not needs.allowed[host]:
                    continue
                score = self.scorer.score(needs.asked, free, self._allocatable_rows[host])
                choice = (int(needs.penalties[host]) + wishes.get(host, 0), -score, host)
                if best is None or choice < best:
                    best = choice
        return best

    def _at_once(
        self, needs: _Filter, only: _Bools | None, blocked: Set[int], wishes: Mapping[int, int]
    ) -> _Choice | None:
        """The best of many hosts (None: of all) as they are now."""
        free = self._free_now()
        fits = needs.allowed & (free >= needs.floor).all(axis=1) & self._alive()
        if only is not None:
            fits &= only
        fits[list(blocked)] = False
        rows = np.flatnonzero(fits)
        if not len(rows):
            return None
        scores = self._scores(needs, rows, free)
        costs = needs.penalties.copy()
        if wishes:
            costs[list(wishes)] += np.array(list(wishes.values()), np.int64)
        costs = costs[rows]
        least = costs.min()
        first = int(np.where(costs == least, scores, -np.inf).argmax())
        return (int(least), -float(scores[first]), int(rows[first]))

    def _scores(self, needs: _Filter, rows: NDArray[np.intp], free: _Floats | None = None) -> _Floats:
        free = self.free if free is None else free
        # Resources first, so that a scorer finds them where it finds those of a single host.
        return self.scorer.score(needs.asked, tuple(free[rows].T), tuple(self.allocatable[rows].T))

    def _free_now(self) -> _Floats:
        if not self._disturbed:
            return self.free
        free = self.free.copy("K")
        free[list(self._disturbed)] = list(self._disturbed.values())
        return free

    def _alive(self) -> _Bools:
        alive = np.ones(len(self.hosts), np.bool_)
        if self._dead >= 0:
            alive[self._dead] = False
        return alive

    # Rules between machines

    def _rules(self, entry: _Entry, relation: _Relations) -> tuple[Set[int], Set[int] | None]:
        """The hosts that are closed to a machine, and the only ones open to it (None: no rule says so)."""
        closed = [self._domain(term, domain) for term in relation.apart for domain in term.where]
        closed += [self._domain(term, domain) for term in relation.member_of for domain in term.avoiding]
        blocked: Set[int] = _NONE.union(*closed) if closed else _NONE
        if not relation.together:
            return blocked, None
        # The first of a group that wants to be together finds nobody; it may start anywhere that has the labels.
        first = entry.number in relation.together[0].members and not any(term.where for term in relation.together)
        open_by_term = [
            _NONE.union(*(self._domain(term, domain) for domain in (self._domains(term) if first else term.where)))
            for term in relation.together
        ]
        return blocked, frozenset.intersection(*open_by_term)

    def _wishes(self, relation: _Relations) -> Mapping[int, int]:
        """What preferences make hosts cost, where it is not nothing."""
        costs: dict[int, int] = {}
        for term, cost in relation.preferred:
            for domain in term.where:
                for host in self._domain(term, domain):
                    costs[host] = costs.get(host, 0) + cost
        return costs

    def _domains(self, term: _Term) -> Mapping[str, set[int]]:
        return self._host_labels.values(term.topology)

    def _domain(self, term: _Term, domain: str) -> set[int]:
        return self._host_labels.values(term.topology)[domain]

    def _settle(self, entry: _Entry, host: int, by: int) -> None:
        """For the rules, count a machine in (1) or out (-1) where it runs."""
        relation = self._relations.get(entry.number)
        if relation is None:
            return
        labels = self.hosts[host].labels
        for term in relation.member_of:
            _add(term.where, labels.get(term.topology), by)
        for term in relation.apart:
            _add(term.avoiding, labels.get(term.topology), by)

    # Plans

    def run(self, entries: Iterable[_Entry]) -> Placement:
        """Place machines one after the other."""
        placed: dict[str, str] = {}
        unplaced: dict[str, Unplaced] = {}
        for entry in entries:
            if self.restart and entry.machine.priority == Priority.DISABLED:
                unplaced[entry.machine.key] = Unplaced(Reason.DISABLED)
                continue
            host = self._choose(entry)
            if host < 0:
                unplaced[entry.machine.key] = self._explain(entry)
                continue
            free = self._disturbed.get(host) or self._free_rows[host]
            asked = self.filter(entry.kind).asked
            self._disturbed[host] = [has - takes for has, takes in zip(free, asked, strict=True)]
            self._settle(entry, host, 1)
            placed[entry.machine.key] = self.names[host]
        return Placement(placed, unplaced)

    def fail(self, dead: int, entries: tuple[_Entry, ...]) -> _Trail:
        """What becomes of the machines of a host that dies; the world is as before afterwards."""
        for entry in entries:
            self._settle(entry, dead, -1)
        self._dead, self._depths, self._looked_at_all = dead, {}, False
        placement = self.run(entries)
        targets = frozenset(self._disturbed)
        self._dead, self._disturbed = -1, {}
        for entry in entries:
            if (target := placement.placed.get(entry.machine.key)) is not None:
                self._settle(entry, self.number[target], -1)
            self._settle(entry, dead, 1)
        return _Trail(entries, self.terms(entries), placement, targets, self._depths, self._looked_at_all)

    def terms(self, entries: Iterable[_Entry]) -> tuple[_Term, ...]:
        """All that rules say about some machines."""
        found = (self._relations.get(entry.number) for entry in entries)
        return tuple(term for relation in found if relation is not None for term in relation.terms())

    # Explaining

    def _explain(self, entry: _Entry) -> Unplaced:
        """Why no host takes a machine, in the world as it is now."""
        needs, free, left = self.filter(entry.kind), self._free_now(), self._alive()
        lacking = free < needs.floor
        reason, columns = Reason.NO_CAPACITY, self._plain
        for name, passes in self._filters(entry, needs, lacking, left):
            rest = left & passes
            if left.any() and not rest.any():
                reason, columns = name, self._devices if name == Reason.DEVICE else []
                break
            left = rest
        # The first filter depends on names alone, and no plan is kept where these changed.
        self._looked_at_all |= reason != Reason.LOCAL_DISK
        shortages = []
        for column in columns:
            if short := int(np.count_nonzero(lacking[:, column] & left)):
                resource, most = self.resources[column], max(0, int(free[left, column].max()))
                shortages.append(Shortage(resource, _asked(entry.machine, resource), most, short))
        return Unplaced(reason, int(np.count_nonzero(left)), tuple(shortages))

    def _filters(
        self, entry: _Entry, needs: _Filter, lacking: _Bools, alive: _Bools
    ) -> Iterator[tuple[Reason, _Bools]]:
        """The filters before the last, in their order; of those that let some host pass, what they do together."""
        kind = entry.kind
        if (needs.allowed & alive).any():
            yield Reason.TAINT, needs.allowed
        else:
            yield Reason.LOCAL_DISK, self._bound(kind.bound_to)
            yield Reason.SELECTOR, self._selected(kind.selector)
            yield Reason.TAINT, self._tolerated(kind.tolerations)[0]
        if self._devices:
            yield Reason.DEVICE, ~np.logical_or.reduce([lacking[:, column] for column in self._devices])
        if (relation := self._relations.get(entry.number)) is not None:
            blocked, only = self._rules(entry, relation)
            if only is not None:
                yield Reason.AFFINITY, self._mask(only)
            yield Reason.ANTI_AFFINITY, ~self._mask(blocked)


def _asked(machine: Machine, resource: str) -> int:
    return 1 if resource == PODS else machine.requests.get(resource, 0)


def _add(counts: dict[str, int], domain: str | None, by: int) -> None:
    if domain is None:
        return
    count = counts.get(domain, 0) + by
    if count:
        counts[domain] = count
    else:
        del counts[domain]


def place(
    hosts: Iterable[Host], machines: Iterable[Machine], order: Sequence[str], *, restart: bool, scorer: Scorer
) -> Placement:
    """See ``vdcos.providers.placement.place``."""
    moving = frozenset(order)
    if len(moving) != len(order):
        raise ValueError("order names a machine twice")
    machines = tuple(machines)
    if unknown := moving - {machine.key for machine in machines}:
        raise ValueError(f"order names {min(unknown)}, which is no machine")
    world = World(hosts, machines, scorer, restart=restart, moving=moving)
    return world.run(world.entries[key] for key in order)


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """Failure plans with the world that they were made in."""

    world: World
    trails: Mapping[str, _Trail]


def failure_plans(hosts: Iterable[Host], machines: Iterable[Machine], scorer: Scorer, previous: Basis | None) -> Basis:
    """See ``vdcos.providers.placement.failure_plans``."""
    world = World(hosts, machines, scorer, restart=True, previous=previous.world if previous else None)
    on: list[list[_Entry]] = [[] for _ in world.hosts]
    for entry in world.entries.values():
        if entry.host >= 0:
            on[entry.host].append(entry)
    change = _Change(previous, world) if previous is not None and _comparable(previous.world, world) else None
    trails: dict[str, _Trail] = {}
    for number, name in enumerate(world.names):
        entries = tuple(sorted(on[number], key=lambda entry: entry.rank))
        kept = change.kept(name, entries) if change else None
        trails[name] = kept or world.fail(number, entries)
    return Basis(world, trails)


def _comparable(old: World, new: World) -> bool:
    return (
        old.scorer == new.scorer
        and old.names == new.names
        and old.resources == new.resources
        and old.topologies == new.topologies
        # Otherwise nobody's domain is what it was.
        and all(
            one is other or all(one.labels.get(key) == other.labels.get(key) for key in new.topologies)
            for one, other in zip(old.hosts, new.hosts, strict=True)
        )
    )


class _Change:
    """What is different in a new world, as far as it can matter to a plan of the old one.

    A plan stands if its machines are the same, none of its targets has changed, the shortlists are the same as far as
    it looked at them, and so is all that rules say about its machines: every step of it would be decided again as it
    was.
    """

    def __init__(self, basis: Basis, world: World) -> None:
        self._old, self._trails, self._new = basis.world, basis.trails, world
        changed = ((self._old.free != world.free) | (self._old.allocatable != world.allocatable)).any(axis=1)
        # Failover hosts are open to restarts, so whether a host is one changes no plan.
        changed |= np.array(
            [
                one is not other
                and (one.labels, one.taints, one.schedulable) != (other.labels, other.taints, other.schedulable)
                for one, other in zip(self._old.hosts, world.hosts, strict=True)
            ],
            np.bool_,
        )
        self._hosts = frozenset(np.flatnonzero(changed).tolist())
        if not self._hosts:
            world.filters = self._old.filters
        self._agreed = cache(self._agree)

    def kept(self, host: str, entries: tuple[_Entry, ...]) -> _Trail | None:
        """The old plan of a host if it still stands."""
        trail = self._trails[host]
        terms = self._new.terms(entries)
        stands = (
            not trail.looked_at_all
            and self._hosts.isdisjoint(trail.targets)
            and len(entries) == len(trail.entries)
            and all(one.machine is other.machine for one, other in zip(entries, trail.entries, strict=True))
            and len(terms) == len(trail.terms)
            and all(one.same(other) for one, other in zip(terms, trail.terms, strict=True))
            and (not self._hosts or all(depth <= self._agreed(kind) for kind, depth in trail.depths.items()))
        )
        return _Trail(entries, terms, trail.placement, trail.targets, trail.depths, False) if stands else None

    def _agree(self, kind: _Kind) -> int:
        """How many hosts of a shortlist are the same as before; more than there can be when all are."""
        old, new = self._old.filter(kind), self._new.filter(kind)
        if old.shortlist == new.shortlist and old.complete == new.complete:
            return SHORTLIST + 1
        pairs = zip(old.shortlist, new.shortlist, strict=False)
        return next(
            (agreed for agreed, (one, other) in enumerate(pairs) if one != other),
            min(len(old.shortlist), len(new.shortlist)),
        )
