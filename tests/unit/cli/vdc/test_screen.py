"""What people see cannot harm a terminal, whoever wrote it, and has colour on a terminal only."""

import io
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.unit.cli.vdc import shop as s
from vdcos.cli.plan import columns
from vdcos.cli.safe import safe
from vdcos.cli.vdc import availability, diff, importing, status, tree, why
from vdcos.cli.vdc.objects import Objects
from vdcos.cli.vdc.screen import Branch, Screen, Word
from vdcos.core.objects import Key

EVIL = "\x1b]0;gone\x07\x1b[2J\x1b[31m\x9b5A\r\n\u202egpj\u2066\u200b\u2028" + "x"
"""Sets a title, clears the screen, moves the cursor (in 7 and 8 bits), goes to another line, turns text round."""
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
BOUND = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f]")


CLEAN = ("apiVersion", "kind", "uid", "type", "status")


def spoilt(value: Any) -> Any:
    """Every text of an object has it, but for what Kubernetes keeps clean."""
    if isinstance(value, dict):
        return {name: each if name in CLEAN and isinstance(each, str) else spoilt(each) for name, each in value.items()}
    if isinstance(value, list):
        return [spoilt(each) for each in value]
    return f"{value}{EVIL}" if isinstance(value, str) else value


def hostile() -> Objects:
    """Everything in the datacenter has names, messages and addresses that somebody made up."""
    there = s.datacenter(
        s.vm("bad", ("Ready", "False", "Odd", "why"), ("StorageReady", "False", "Odd", "why"), host="host-1"),
        s.host("host-2", ("Ready", "False", "Suspect", "m"), state="Suspect", failure="f"),
        s.own("HostFailure", "f", {"host": "host-2"}, ("Ready", "False", "NoProof", "m"), phase="Fencing"),
    )
    found = Objects(missing=dict.fromkeys(list(there.shelves)[:1], EVIL))
    for resource, shelf in there.shelves.items():
        for each in shelf.values():
            found.put(resource, spoilt(each))
    return found


NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def _draw(found: Objects) -> dict[str, Callable[[Screen], None]]:
    vms = [each for shelf in found.shelves.values() for each in shelf.values() if each["kind"] == "VirtualMachine"]
    ours = [each for each in vms if each["apiVersion"].startswith("vdcos")]
    every = [
        each for shelf in found.shelves.values() for each in shelf.values() if each["apiVersion"].startswith("vdcos")
    ]
    plan = {
        "policies": [{"name": EVIL, "ready": EVIL, "paused": False, "hosts": 1, "connected": 1, "failed": 0,
                      "admission": EVIL, "failoverCapacity": EVIL, "waiting": 0, "staysDown": 1, "worstHost": EVIL}],
        "hosts": [{"name": EVIL, "state": EVIL, "policy": EVIL, "fenceable": EVIL, "vms": 1,
                   "restarts": 1, "staysDown": 1}],
        "failures": [{"name": EVIL, "host": EVIL, "phase": EVIL, "reason": EVIL, "why": EVIL}],
    }  # fmt: skip
    drill = {
        "host": EVIL,
        "restarts": 0,
        "stays": 1,
        "virtualMachines": [
            {"namespace": EVIL, "name": EVIL, "tier": 0, "priority": EVIL, "target": EVIL, "reason": EVIL, "why": EVIL}
        ],
    }
    reports: list[dict[str, Any]] = [
        {"kind": "Host", "namespace": EVIL, "name": EVIL, "result": "refused", "message": EVIL, "changes": []},
        {"kind": "VirtualMachine", "name": EVIL, "result": "changed",
         "changes": [{"field": EVIL, "before": EVIL, "after": {"a": EVIL}, "takesEffect": "at once", "why": EVIL}]},
    ]  # fmt: skip

    def explained(screen: Screen) -> None:
        for each in every:
            why.show(why.why(found, each), screen, NOW)

    return {
        "status": lambda screen: status.show(status.status(found), screen),
        "tree": lambda screen: tree.show([tree.tree(found, each) for each in ours], [EVIL], screen),
        "why": explained,
        "plan": lambda screen: availability.show_plan(plan, screen),
        "drill": lambda screen: availability.show_drill(drill, screen),
        "diff": lambda screen: diff.show(reports, screen),
    }


@pytest.mark.parametrize("what", ["status", "tree", "why", "plan", "drill", "diff"])
@pytest.mark.parametrize("width", [60, 100_000])
def test_nothing_hostile_reaches_the_terminal(what: str, width: int) -> None:
    text = s.drawn(_draw(hostile())[what], width)
    assert width < 100_000 or "\\x1b]0;gone" in text, "it is shown for what it is"
    assert not BOUND.search(text), repr(BOUND.search(text))


@pytest.mark.parametrize("what", ["status", "tree", "why", "plan", "drill", "diff"])
def test_in_colour_there_are_colours_and_nothing_else(what: str) -> None:
    text = s.drawn(_draw(hostile())[what], 100, colour=True)
    assert COLOURS.search(text)
    assert not BOUND.search(COLOURS.sub("", text))


def test_what_is_imported_cannot_leave_its_comment() -> None:
    """A manifest that a person pipes into kubectl apply has no line that somebody else wrote."""
    stream = io.StringIO()
    refused = importing.Draft(Key("shop", "web"), refused=[f"a\n- kind: Secret{EVIL}"])
    fine = importing.Draft(
        Key("shop", "web"), {"metadata": {"name": f"a\x1b{EVIL}"}}, at_start=[f"x\nkind: Secret{EVIL}"]
    )
    importing.write([refused, fine], "yaml", stream)
    assert not BOUND.search(stream.getvalue())
    assert not any(line.startswith(("kind", "- kind")) for line in stream.getvalue().splitlines())


def test_data_are_as_they_are_and_escaped() -> None:
    said = json.dumps(status.status(hostile()))
    assert not BOUND.search(said)
    assert EVIL in json.loads(said)["notWell"][0]["message"]


def test_tables_of_vdcos_itself_are_safe() -> None:
    assert not BOUND.search("".join(columns([("a", EVIL), (EVIL, "b")])))


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain", "plain"),
        ("Grüße, 世界", "Grüße, 世界"),
        ("two\nlines\tand more", "two lines and more"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u202etxt.exe", "\\u202etxt.exe"),
        ("\U000e0041tag", "\\U000e0041tag"),
        ("x" * 5000, "x" * 2000 + "…"),
    ],
)
def test_safe_text(text: str, seen: str) -> None:
    assert safe(text) == seen


def test_no_colour_where_there_is_no_terminal_and_where_nobody_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def printed(stream: io.StringIO) -> str:
        Screen(stream).line(Word("all is well", "good"))
        return stream.getvalue()

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert printed(Terminal()) == "\x1b[32mall is well\x1b[0m\n"
    assert printed(io.StringIO()) == "all is well\n"
    monkeypatch.setenv("NO_COLOR", "1")
    assert printed(Terminal()) == "all is well\n"


def test_for_a_program_no_line_is_broken() -> None:
    stream = io.StringIO()
    Screen(stream).table(("A", "B"), [("a", "word " * 100)])
    assert len(stream.getvalue().splitlines()) == 2


def test_a_tree_is_drawn_and_long_lines_stay_in_their_place() -> None:
    found = Branch("top", [Branch("first " * 3, [Branch("below")]), Branch("second " * 5)])
    text = s.drawn(lambda screen: screen.tree(found), 26)
    assert text.splitlines() == [
        "top",
        "├─ first first first",
        "│  └─ below",
        "└─ second second second",
        "   second second",
    ]
