"""Laws that need a world of their own."""

from vdcos.core import kinds
from vdcos.core.objects import Key
from vdcos.runtime.queue import Item
from vdcos.runtime.requests import ApiError, Request
from vdcos.testing.laws import Laws
from vdcos.testing.replica import Replica
from vdcos.testing.scenarios import GOLD, LAN, Create, Edit, Scenario, machine
from vdcos.testing.simulator import Dice, Faults, World

OTHERS = 30


class Stuck(Faults):
    """Every request about one VM takes half a minute, and comes to nothing."""

    def latency(self, world: World, request: Request) -> float:
        return 25.0 if "stuck" in request.key.name else 0.0

    def before(self, world: World, replica: Replica, request: Request, number: int) -> None:
        if "stuck" in request.key.name:
            raise ApiError(504, "Timeout", "the webhook does not answer")


def test_a_stuck_object_delays_no_other() -> None:
    names = ["shop/stuck", *(f"shop/vm-{number}" for number in range(OTHERS))]
    steps = tuple(Create(machine(name)) for name in names)
    world = Scenario("many", steps, {}, (GOLD, LAN)).world(laws=Laws(), chance=Dice(1), faults=Stuck())
    world.hurry = tuple(world.now + 0.01 * number for number in range(len(steps)))
    while world.next()[0] < world.now + 120 and world.now < 1_700_000_000 + 120:
        world.step()  # the law is checked at every look
    for name in names:
        space, _, name = name.partition("/")
        held = world.api.get(kinds.VIRTUAL_MACHINE, Key(space, name))
        assert held is not None
        ready = next((c["status"] for c in held.tree["status"].get("conditions", ()) if c["type"] == "Ready"), "")
        assert (ready == "True") is (name != "stuck"), name


def test_an_edit_is_seen_at_once_although_a_later_look_is_due() -> None:
    """A Datastore whose counts have changed is to be looked at again in seconds; its user does not wait for that."""
    world = Scenario("edit", (Create(machine()),), {}, (GOLD, LAN)).world(laws=Laws())
    replica = next(iter(world.replicas.values()))
    gold = Item("datastore", Key("", "gold"))
    while replica.queue._due.get(gold, 0.0) < world.now + 1.5:
        assert world.step(), "the counts of a Datastore are paced"
    Edit(kinds.DATASTORE, "gold", {"spec": {"maintenance": True}})(world)
    world.notice()
    end = world.now + 1.0
    while world.next()[0] < end:
        world.step()
    held = world.api.read(kinds.DATASTORE, Key("", "gold"))
    assert held.tree["status"]["observedGeneration"] == held.meta["generation"]
