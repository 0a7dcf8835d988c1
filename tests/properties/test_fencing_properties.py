"""Laws of fencing, over any interleaving of looks, crashes, lost writes, slow and lying switches, and hosts' own lives.

A host is modelled as what it is: an incarnation that lives or is dead, and renews its Lease while it lives and is
connected. A receipt is judged by that truth, and by the list of what the switch has really answered.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from vdcos.api.fencing import Bmc, Fencing
from vdcos.core.objects import Key
from vdcos.core.plan import Ask, Instant
from vdcos.providers.fencing.fence import SPACING, Host, Progress, Receipt, Signs, Step, fence
from vdcos.runtime.answers import Answers, Reply
from vdcos.runtime.queue import Item

ITEM = Item("hostfailure", Key("", "host-1-a"))
BMC = Bmc.model_validate(
    {
        "redfish": {"address": "https://bmc.test", "credentials": "bmc"},
        "ipmi": {"address": "bmc.test", "credentials": "bmc"},
    }
)
RENEWAL = 10.0
FENCING = Fencing()
HOST = Host("host-1", "boot-1", "machine", "failure", BMC)


@dataclass
class World:
    """One failed host, its two switches, what is stored, and the process of the operator."""

    liar: str = ""
    """The switch that says Off whatever is true, and never powers anything off."""
    connected: bool = False
    """Whether the host's Lease renewals arrive."""
    now: float = 1_000.0
    boot: int = 1
    alive: bool = True
    renewed: float = 1_000.0
    stored: Progress = field(default_factory=Progress)
    pending: dict[str, tuple[Ask, Reply]] = field(default_factory=dict)
    delayed: list[Ask] = field(default_factory=list)
    """Power-offs that nobody waits for any more, and that the switch may still carry out."""
    begun: dict[str, int] = field(default_factory=dict)
    answered: list[tuple[str, float, float, Any]] = field(default_factory=list)
    """(id, begun, answered, value) of everything that this process was truly told."""
    receipt: Receipt | None = None
    started: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.born()

    def born(self) -> None:
        """A process begins, and knows nothing but what is stored. Its clock of ages begins now."""
        self.answers = Answers(self, lambda item: None, lambda: self.now)
        self.pending, self.answered, self.started = {}, [], {}
        self.seen = self.now

    # Asker

    def start(self, item: Item, ask: Ask, reply: Reply) -> None:
        self.pending[ask.id] = ask, reply
        self.started[ask.id] = self.now
        if ask.effect:
            assert ask.id in self.stored.asked, "intent first"
            self.begun[ask.id] = self.begun.get(ask.id, 0) + 1
            assert self.begun[ask.id] == 1, f"{ask.id} was begun twice"

    def stop(self, item: Item, ask: Ask) -> None:
        self.give_up(ask.id)

    def give_up(self, id_: str) -> None:
        found = self.pending.pop(id_, None)
        if found is not None and found[0].effect:
            self.delayed.append(found[0])

    # What happens

    def signs(self) -> Signs:
        last = max(self.renewed, self.seen)
        shown = f"boot-{self.boot}" if self.alive and self.connected else "boot-1"
        return Signs(last, self.now, "Present", shown, "machine")

    def look(self, fate: str = "") -> Step:
        """``fate`` of the status write: it gets lost, its answer does, or the process dies right after it."""
        uid = "uid"
        step = fence(HOST, self.signs(), FENCING, self.stored, self.answers.of(ITEM, uid), Instant(0.0, self.now))
        if step.receipt is not None:
            self.judge(step.receipt)
            self.receipt = step.receipt
            return step
        before = frozenset(self.stored.asked)
        if fate == "write lost":
            return step
        self.stored = step.progress
        if fate == "answer lost":
            return step
        if fate == "crash":
            self.crash()
            return step
        stated = frozenset(self.stored.asked)
        self.answers.settle(ITEM, uid, step.asks, stated, stated - before)
        return step

    def crash(self) -> None:
        for id_ in list(self.pending):
            self.give_up(id_)
        self.born()

    def die(self) -> None:
        self.alive = False

    def act(self, ask: Ask) -> dict[str, Any]:
        """The switch does what it is asked."""
        if ask.request["operation"] == "off":
            if ask.provider != self.liar:
                self.die()
            return {}
        lies = ask.provider == self.liar
        return {"power": "Off" if lies or not self.alive else "On"}

    def serve(self, number: int, how: str) -> None:
        """One of the pending asks comes to its end, in one way or another."""
        if not self.pending:
            return
        id_ = sorted(self.pending)[number % len(self.pending)]
        ask, reply = self.pending.pop(id_)
        if how == "ok":
            value = self.act(ask)
            self.answered.append((id_, self.started[id_], self.now, value))
            reply(True, value, "")
        elif how == "done but late":
            self.act(ask)
            reply(False, {}, "no answer within 10 s")
        elif how == "late and done later":
            self.delayed += [ask] if ask.effect else []
            reply(False, {}, "no answer within 10 s")
        else:
            reply(False, {}, "connection refused")

    def late(self) -> None:
        if self.delayed:
            self.act(self.delayed.pop(0))

    def boots(self) -> None:
        self.alive = True
        self.boot += 1

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while self.alive and self.connected and self.renewed + RENEWAL <= end:
            self.renewed += RENEWAL
        self.now = end

    # Laws

    def judge(self, receipt: Receipt) -> None:
        assert receipt.incarnation == "boot-1"
        first_lives = self.alive and self.boot == 1
        if receipt.how == "Rebooted":
            assert not first_lives
            return
        if receipt.provider != self.liar:
            assert not first_lives, f"{receipt} while the host lives: {self.answered}"
        assert not (first_lives and self.connected), "the host was there to be seen"
        number = next(id_ for id_ in self.stored.asked if f"/{receipt.provider}/" in id_).rsplit("/", 1)[1]
        off = [told for told in self.answered if told[0] == f"power-off/{receipt.provider}/{number}"]
        assert len(off) == 1, "accepted, for this very incarnation, by an ask of this process"
        readings = [
            told
            for told in self.answered
            if told[0].startswith(f"power/{receipt.provider}/{number}/") and told[1] >= off[0][2]
        ]
        offs = [told for told in readings if told[3] == {"power": "Off"}]
        assert len(offs) >= 2
        assert offs[-1][1] >= offs[-2][2] + SPACING
        assert max(self.renewed, self.seen) < offs[-2][1]


HOW = st.sampled_from(["ok", "ok", "ok", "done but late", "late and done later", "refused"])
EVENTS = st.one_of(
    st.tuples(st.just("look"), st.sampled_from(["", "", "", "write lost", "answer lost", "crash"])),
    st.tuples(st.just("look"), st.just("")),
    st.tuples(st.just("serve"), st.tuples(st.integers(0, 3), HOW)),
    st.tuples(st.just("serve"), st.tuples(st.integers(0, 3), st.just("ok"))),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 0.5, 1.0, 5.0, 15.0, 40.0])),
    st.tuples(st.sampled_from(["crash", "late", "die", "boots"]), st.none()),
)


def happen(world: World, what: str, detail: Any) -> None:
    match what:
        case "look":
            world.look(detail)
        case "serve":
            world.serve(*detail)
        case "wait":
            world.wait(detail)
        case "crash":
            world.crash()
        case "late":
            world.late()
        case "die":
            world.die()
        case "boots" if not world.alive:
            world.boots()


def calm(world: World) -> None:
    """No more faults: every ask is served, the clock runs, somebody looks."""
    for _ in range(400):
        if world.receipt is not None:
            return
        world.look()
        for _ in range(len(world.pending)):
            world.serve(0, "ok")
        world.wait(0.6)


@settings(max_examples=300)
@given(st.booleans(), st.lists(EVENTS, max_size=60))
def test_a_receipt_means_that_the_incarnation_is_dead(connected: bool, events: list[tuple[str, Any]]) -> None:
    world = World(connected=connected)
    for what, detail in events:
        happen(world, what, detail)
        if world.receipt is not None:
            break
    calm(world)
    assert world.receipt is not None, f"honest switches must prove it in the end: {world.look().why}"
    event(world.receipt.how)


@settings(max_examples=200)
@given(st.sampled_from(["redfish", "ipmi"]), st.lists(EVENTS, max_size=60))
def test_a_liar_is_not_believed_while_the_host_can_be_seen_to_live(liar: str, events: list[tuple[str, Any]]) -> None:
    world = World(liar=liar, connected=True)
    for what, detail in events:
        happen(world, what, detail)
        if world.receipt is not None:
            return
    calm(world)
    assert world.receipt is not None, f"the other switch is honest: {world.look().why}"


@settings(max_examples=300)
@given(st.lists(EVENTS, max_size=60))
def test_a_look_is_a_function_of_what_it_sees_and_names_its_effects(events: list[tuple[str, Any]]) -> None:
    world = World()
    for what, detail in events:
        seen: tuple[Signs, Progress, Mapping[str, Any]] = (
            world.signs(),
            world.stored,
            world.answers.of(ITEM, "uid"),
        )
        now = Instant(0.0, world.now)
        step = fence(HOST, seen[0], FENCING, seen[1], seen[2], now)
        assert step == fence(HOST, seen[0], FENCING, replace(seen[1]), dict(seen[2]), now)
        effects = [ask.id for ask in step.asks if ask.effect]
        assert len(effects) <= 1
        assert set(effects) <= set(step.progress.asked)
        assert len({ask.id for ask in step.asks}) == len(step.asks)
        assert len(step.progress.asked) <= 2
        assert len(step.progress.tried) <= 2
        assert step.receipt is not None or step.why
        happen(world, what, detail)
        if world.receipt is not None:
            break
