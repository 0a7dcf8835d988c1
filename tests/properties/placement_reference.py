"""Placement as plainly as it can be said: loops over everything, no arrays, no caches. Slow, and obviously right."""

from collections.abc import Iterable, Sequence

from vdcos.providers import placement as p

Outcome = dict[str, str | p.Unplaced]


def place(
    hosts: Iterable[p.Host], machines: Iterable[p.Machine], order: Sequence[str], *, restart: bool = False
) -> Outcome:
    """The host of every machine in ``order``, or why there is none."""
    state = State(hosts, machines, order, restart)
    for key in order:
        state.decide(key)
    return state.outcome


def failure_plans(hosts: Iterable[p.Host], machines: Iterable[p.Machine]) -> dict[str, Outcome]:
    """For every host, its machines' placement in a world without it."""
    hosts, machines = list(hosts), list(machines)
    plans = {}
    for dead in hosts:
        lost = sorted((machine for machine in machines if machine.host == dead.name), key=p.restart_rank)
        alive = [host for host in hosts if host is not dead]
        plans[dead.name] = place(alive, machines, [machine.key for machine in lost], restart=True)
    return plans


class State:
    """Who is where, and what is free."""

    def __init__(
        self, hosts: Iterable[p.Host], machines: Iterable[p.Machine], order: Sequence[str], restart: bool
    ) -> None:
        self.hosts = {host.name: host for host in sorted(hosts, key=lambda host: host.name)}
        self.machines = {machine.key: machine for machine in machines}
        self.restart = restart
        self.outcome: Outcome = {}
        self.where = {
            key: machine.host
            for key, machine in self.machines.items()
            if key not in order and machine.host in self.hosts
        }
        resources = {name for machine in self.machines.values() for name in machine.requests}
        self.resources = ["cpu", "memory", "pods", *sorted(resources - {"cpu", "memory", "pods"})]
        self.free = {}
        for name, host in self.hosts.items():
            leaving = [self.machines[key] for key in order if self.machines[key].host == name]
            for resource in self.resources:
                free = host.allocatable.get(resource, 0) - host.used.get(resource, 0)
                free += sum(asked(machine, resource) for machine in leaving)
                self.free[name, resource] = max(-p.LIMIT, min(free, p.LIMIT))

    def decide(self, key: str) -> None:
        machine = self.machines[key]
        if self.restart and machine.priority == p.Priority.DISABLED:
            self.outcome[key] = p.Unplaced(p.Reason.DISABLED)
            return
        candidates = [host for host in self.hosts.values() if all(test(self, machine, host) for _, test in FILTERS)]
        if not candidates:
            self.outcome[key] = self.why(machine)
            return
        chosen = min(candidates, key=lambda host: (self.cost(machine, host), -self.score(machine, host), host.name))
        for resource in self.resources:
            self.free[chosen.name, resource] -= asked(machine, resource)
        self.where[key] = chosen.name
        self.outcome[key] = chosen.name

    def why(self, machine: p.Machine) -> p.Unplaced:
        left = list(self.hosts.values())
        for reason, test in FILTERS:
            rest = [host for host in left if test(self, machine, host)]
            if not rest and (left or reason == p.Reason.NO_CAPACITY):
                break
            left = rest
        if reason not in (p.Reason.DEVICE, p.Reason.NO_CAPACITY):
            return p.Unplaced(reason, len(left))
        shortages = []
        for resource in self.resources:
            short = [host for host in left if not self.has(machine, host, resource)]
            if short and ("/" in resource) == (reason == p.Reason.DEVICE):
                most = max(0, *(self.free[host.name, resource] for host in left), 0)
                shortages.append(p.Shortage(resource, asked(machine, resource), most, len(short)))
        return p.Unplaced(reason, len(left), tuple(shortages))

    def has(self, machine: p.Machine, host: p.Host, resource: str) -> bool:
        return asked(machine, resource) <= 0 or asked(machine, resource) <= self.free[host.name, resource]

    # Filters

    def reachable(self, machine: p.Machine, host: p.Host) -> bool:
        return machine.bound_to is None or host.name in machine.bound_to

    def selected(self, machine: p.Machine, host: p.Host) -> bool:
        return selects(machine.selector, host.labels)

    def tolerated(self, machine: p.Machine, host: p.Host) -> bool:
        taints = [*host.taints]
        if not host.schedulable:
            taints.append(p.Taint("node.kubernetes.io/unschedulable", "", "NoSchedule"))
        if host.failover_only and not self.restart:
            return False
        return not [taint for taint in intolerable(machine, taints) if taint.effect != "PreferNoSchedule"]

    def devices(self, machine: p.Machine, host: p.Host) -> bool:
        return all(self.has(machine, host, resource) for resource in self.resources if "/" in resource)

    def together(self, machine: p.Machine, host: p.Host) -> bool:
        rules = [rule for rule in machine.rules if rule.kind == "Together" and rule.required]
        if any(rule.topology_key not in host.labels for rule in rules):
            return False
        friends = [other for other in self.where if all(covers(rule, machine, self.machines[other]) for rule in rules)]
        labelled = [
            rule for rule in rules for friend in friends if rule.topology_key in self.hosts[self.where[friend]].labels
        ]
        if not labelled and all(covers(rule, machine, machine) for rule in rules):
            return True
        return all(any(self.near(friend, host, rule.topology_key) for friend in friends) for rule in rules)

    def apart(self, machine: p.Machine, host: p.Host) -> bool:
        for other in self.where:
            for one, two in ((machine, self.machines[other]), (self.machines[other], machine)):
                for rule in one.rules:
                    wants = rule.kind == "Apart" and rule.required and covers(rule, one, two)
                    if wants and self.near(other, host, rule.topology_key):
                        return False
        return True

    def fits(self, machine: p.Machine, host: p.Host) -> bool:
        return all(self.has(machine, host, resource) for resource in self.resources)

    # Ranking

    def cost(self, machine: p.Machine, host: p.Host) -> int:
        cost = len([taint for taint in intolerable(machine, host.taints) if taint.effect == "PreferNoSchedule"])
        for rule in machine.rules:
            others = [other for other in self.where if covers(rule, machine, self.machines[other])]
            if not rule.required and any(self.near(other, host, rule.topology_key) for other in others):
                cost += rule.weight if rule.kind == "Apart" else -rule.weight
        return cost

    def score(self, machine: p.Machine, host: p.Host) -> float:
        left = []
        for resource in ("cpu", "memory"):
            whole = min(max(host.allocatable.get(resource, 0), 1), p.LIMIT)
            left.append((self.free[host.name, resource] - asked(machine, resource)) / whole)
        return (left[0] + left[1] - abs(left[0] - left[1])) / 2

    def near(self, other: str, host: p.Host, topology: str) -> bool:
        domain = host.labels.get(topology)
        return domain is not None and self.hosts[self.where[other]].labels.get(topology) == domain


FILTERS = (
    (p.Reason.LOCAL_DISK, State.reachable),
    (p.Reason.SELECTOR, State.selected),
    (p.Reason.TAINT, State.tolerated),
    (p.Reason.DEVICE, State.devices),
    (p.Reason.AFFINITY, State.together),
    (p.Reason.ANTI_AFFINITY, State.apart),
    (p.Reason.NO_CAPACITY, State.fits),
)


def asked(machine: p.Machine, resource: str) -> int:
    return 1 if resource == "pods" else machine.requests.get(resource, 0)


def covers(rule: p.Rule, owner: p.Machine, other: p.Machine) -> bool:
    return other.namespace in (rule.namespaces or (owner.namespace,)) and selects(rule.selector, other.labels)


def selects(selector: p.Selector, labels: object) -> bool:
    assert isinstance(labels, dict)
    for key, operator, values in selector:
        if operator == "In" and labels.get(key) not in values:
            return False
        if operator == "NotIn" and labels.get(key) in values:
            return False
        if operator == "Exists" and key not in labels:
            return False
        if operator == "DoesNotExist" and key in labels:
            return False
    return True


def intolerable(machine: p.Machine, taints: Iterable[p.Taint]) -> list[p.Taint]:
    def tolerates(toleration: p.Toleration, taint: p.Taint) -> bool:
        if toleration.effect and toleration.effect != taint.effect:
            return False
        if toleration.operator == "Exists":
            return not toleration.key or toleration.key == taint.key
        return toleration.key == taint.key and toleration.value == taint.value

    return [taint for taint in taints if not any(tolerates(each, taint) for each in machine.tolerations)]
