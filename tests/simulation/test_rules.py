"""Whatever people, hosts and networks do, in whatever order Hypothesis finds: all laws hold, and it comes to rest."""

import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from vdcos.core import kinds
from vdcos.runtime.requests import ApiError
from vdcos.testing import scenarios
from vdcos.testing.cluster import VM, VMI, Tell
from vdcos.testing.faults import API, CRASH, VIEW, AtWrite, Several
from vdcos.testing.hypervisor.values import Hang, Partition, PowerOff, Recover
from vdcos.testing.laws import LONGEST, MOST_STEPS, Laws
from vdcos.testing.replica import NotYet
from vdcos.testing.scenarios import machine
from vdcos.testing.simulator import Dice

NAMES = st.sampled_from(["shop/web", "shop/db"])
CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "powerState": st.sampled_from(["PoweredOn", "PoweredOff"]),
    "onGuestShutdown": st.sampled_from(["Restart", "StayOff"]),
    "cpu": st.fixed_dictionaries({"sockets": st.integers(1, 3)}),
    "nics": st.lists(st.sampled_from(["lan", "internet"]), unique=True).map(
        lambda networks: [{"name": f"on-{network}", "network": network} for network in networks]
    ),
    "disks": st.lists(st.sampled_from(["disk0", "disk1"]), unique=True).flatmap(
        lambda names: st.sampled_from(["Retain", "Delete"]).map(
            lambda policy: [scenarios.disk(name, deletionPolicy=policy) for name in names]
        )
    ),
}
CHANGE = st.sampled_from(sorted(CHANGES)).flatmap(lambda field: CHANGES[field].map(lambda value: {field: value}))


class Datacenter(RuleBasedStateMachine):
    """Two VMs, two hosts, one datastore, two networks, and one operator."""

    @initialize(dice=st.integers(0, 1 << 20))
    def install(self, dice: int) -> None:
        scenario = scenarios.Scenario("rules", (), {}, (scenarios.GOLD, scenarios.LAN, scenarios.POD_NETWORK))
        self.world = scenario.world(laws=Laws(), chance=Dice(dice))
        self.down: set[str] = set()

    @rule(where=NAMES, disks=st.integers(0, 2), nics=st.sampled_from([(), ("lan",), ("lan", "internet")]))
    def create(self, where: str, disks: int, nics: tuple[str, ...]) -> None:
        self._try(scenarios.Create(machine(where, disks, nics)))

    @rule(where=NAMES, change=CHANGE)
    def declare(self, where: str, change: dict[str, Any]) -> None:
        self._try(scenarios.Declare(where, change))

    @rule(where=NAMES)
    def delete(self, where: str) -> None:
        self._try(scenarios.Delete(kinds.VIRTUAL_MACHINE, where))

    @rule(where=NAMES, what=st.sampled_from([VM, VMI]))
    def somebody_deletes(self, where: str, what: Any) -> None:
        self._try(scenarios.Delete(what, where))

    @rule(where=NAMES, action=st.sampled_from(["start", "stop"]))
    def virtctl(self, where: str, action: str) -> None:
        self._try(scenarios.Virtctl(where, action))

    @rule(closed=st.booleans())
    def datastore_maintenance(self, closed: bool) -> None:
        self._try(scenarios.Edit(kinds.DATASTORE, "gold", {"spec": {"maintenance": closed}}))

    @rule(api=st.sampled_from([*API, *CRASH]), view=st.sampled_from(VIEW), ahead=st.integers(1, 3))
    def something_goes_wrong(self, api: str, view: str, ahead: int) -> None:
        self.world.faults = Several((AtWrite(self.world.attempts + ahead, api, view),))

    @rule(seconds=st.sampled_from([0.05, 0.5, 3.0, 20.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        end = self.world.now + seconds
        while self.world.next()[0] <= end:
            self.world.step()
        self.world.now = self.world.api.now = end

    @rule(host=st.sampled_from(["host-1", "host-2"]), event=st.sampled_from([PowerOff(), Partition(), Hang()]))
    def host_fails(self, host: str, event: Any) -> None:
        self.down.add(host)
        self._tell(host, event)

    @precondition(lambda self: self.down)
    @rule()
    def hosts_come_back(self) -> None:
        for host in sorted(self.down):
            self._tell(host, Recover())
        self.down = set()

    @invariant()
    def no_disk_has_two_writers(self) -> None:
        if hasattr(self, "world"):
            self.world.laws.hosts(self.world)  # type: ignore[union-attr]

    def teardown(self) -> None:
        """Faults stop: it comes to rest, and everything that is said is true."""
        if not hasattr(self, "world"):
            return
        self.hosts_come_back()
        self._try(scenarios.Edit(kinds.DATASTORE, "gold", {"spec": {"maintenance": False}}))
        began = self.world.now
        for _ in range(MOST_STEPS):
            if not self.world.step():
                break
        assert self.world.idle, "it never comes to rest"
        assert self.world.now - began < LONGEST
        laws = self.world.laws
        assert isinstance(laws, Laws)
        laws.at_rest(self.world)
        for held in self.world.api.all(kinds.VIRTUAL_MACHINE):
            ready = next(c for c in held.tree["status"]["conditions"] if c["type"] == "Ready")
            assert ready["status"] == "True", (held.key, ready)

    def _try(self, step: Any) -> None:
        try:
            step(self.world)
        except (ApiError, NotYet):
            return
        self.world.notice()

    def _tell(self, host: str, event: Any) -> None:
        self.world.cluster.happens(Tell(host, event))
        self.world.notice()


Datacenter.TestCase.settings = settings(
    max_examples=int(os.environ.get("VDCOS_RULES", "60")),
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
TestDatacenter = Datacenter.TestCase
