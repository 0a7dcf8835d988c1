"""Laws of the hypervisor model, whatever happens to the hosts and their VMs."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.unit.hypervisor.toy import VMI, Toy
from vdcos.testing.hypervisor.values import (
    Command,
    Control,
    Hang,
    Partition,
    PowerOff,
    Recover,
)

HOSTS = ["host-1", "host-2", "host-3"]
VMS = ["a", "b"]


class Datacenter(RuleBasedStateMachine):
    """People start, stop and migrate VMs; hosts fail and recover; nobody deletes what they have no proof is dead.

    Law: there are never two processes with one disk. It may be broken only by an API that is told to forget pods of a
    host that still runs; then the ledger must show it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.toy = Toy(len(HOSTS))
        self.reckless = False

    @rule(vm=st.sampled_from(VMS))
    def start(self, vm: str) -> None:
        self.toy.create_vm(vm)

    @rule(vm=st.sampled_from(VMS))
    def stop(self, vm: str) -> None:
        if vm in self.toy.wanted:
            self.toy.halt(vm)

    @rule(vm=st.sampled_from(VMS))
    def migrate(self, vm: str) -> None:
        self.toy.migrate(vm)

    @rule(seconds=st.floats(0.01, 15))
    def wait(self, seconds: float) -> None:
        self.toy.advance(seconds)

    @rule(host=st.sampled_from(HOSTS), what=st.sampled_from([PowerOff(), Partition(), Hang(), Recover()]))
    def fail(self, host: str, what: PowerOff | Partition | Hang | Recover) -> None:
        self.toy.tell(host, what)

    @rule(vm=st.sampled_from(VMS), what=st.sampled_from(list(Command)))
    def control(self, vm: str, what: Command) -> None:
        vmi = self.toy.get(VMI, vm)
        for host in self.toy.active(vm) if vmi else []:
            self.toy.tell(host, Control(what, vmi["metadata"]["uid"]))  # type: ignore[index]

    @rule(vm=st.sampled_from(VMS))
    def forget_pods_of_hosts_without_power(self, vm: str) -> None:
        """What a fencing operator does: power is off, so the pods may go."""
        hosts = {p["spec"]["nodeName"] for p in self.toy.launchers(vm)}
        if hosts and not any(self.toy.hosts[h].powered for h in hosts):
            self.toy.force_delete_pods(vm)

    @rule(vm=st.sampled_from(VMS))
    def forget_pods_recklessly(self, vm: str) -> None:
        """What promise 2 forbids. A host that can hear of it obeys; one that cannot makes two possible."""
        hosts = {p["spec"]["nodeName"] for p in self.toy.launchers(vm)}
        if any(self.toy.hosts[h].powered and not self.toy.hosts[h].writing for h in hosts):
            self.reckless = True
        if hosts:
            self.toy.force_delete_pods(vm)

    @invariant()
    def never_two(self) -> None:
        overlaps = self.toy.overlaps()
        assert self.reckless or not overlaps, overlaps

    @invariant()
    def the_ledger_agrees_with_the_hosts(self) -> None:
        for vm in VMS:
            running = [i.host for i in self.toy.history() if i.name == vm and i.end is None]
            assert sorted(running) == sorted(self.toy.active(vm))

    def teardown(self) -> None:
        """When everything is well again, every VM that is wanted runs once, and no other does."""
        for host in HOSTS:
            self.toy.tell(host, Recover())
        self.toy.advance(400)
        for vm, wanted in self.toy.wanted.items():
            assert len(self.toy.active(vm)) == (1 if wanted else 0), vm
            assert self.toy.phase(vm) == ("Running" if wanted else "")


TestDatacenter = Datacenter.TestCase
TestDatacenter.settings = settings(max_examples=60, stateful_step_count=30)
