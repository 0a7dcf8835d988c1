"""What a person sees: tables and trees in words that cannot harm a terminal, with colour on a terminal only.

Whatever the API server holds was written by somebody, and a guest's agent can report any text. So every word goes
through ``safe`` on its way out, and nowhere else: data (-o json, -o yaml) stay as they are, and their encoders escape.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vdcos.cli.safe import safe

Tone = Literal["", "good", "wait", "bad", "dim", "strong"]

_STYLES: dict[str, str] = {"good": "green", "wait": "yellow", "bad": "bold red", "dim": "dim", "strong": "bold"}
UNBOUNDED = 100_000
"""Columns where there is no terminal: lines are not broken for programs."""


class Word(NamedTuple):
    """A text and its tone."""

    text: str
    tone: Tone = ""


Cell = Word | str
Line = Sequence[Cell] | Cell
"""One word, or several one after the other."""


class Branch(NamedTuple):
    """A line of a tree, and what stands below it."""

    line: Line
    below: Sequence["Branch"] = ()


class Screen:
    """Writes to a stream. ``width`` and ``colour`` are found out when they are not said: NO_COLOR is honoured."""

    def __init__(self, stream: TextIO | None = None, width: int | None = None, colour: bool | None = None) -> None:
        stream = stream if stream is not None else sys.stdout
        self._console = Console(
            file=stream,
            width=width if width is not None or stream.isatty() else UNBOUNDED,
            force_terminal=colour,
            no_color=None if colour is None else not colour,
            highlight=False,
            markup=False,
            emoji=False,
            legacy_windows=False,
        )

    def line(self, line: Line = "", indent: int = 0) -> None:
        """A line, broken where the terminal ends, with what follows below its beginning."""
        self._wrapped(_text(line), " " * indent, " " * indent)

    def table(self, head: Sequence[str], rows: Iterable[Sequence[Cell]], indent: int = 0) -> None:
        """Columns as wide as what is in them; the last one takes what is left."""
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False, header_style="dim")
        for name in head[:-1]:
            table.add_column(Text(name), no_wrap=True)
        table.add_column(Text(head[-1]), overflow="fold")
        for row in rows:
            table.add_row(*(_text(cell) for cell in row))
        with self._console.capture() as captured:
            self._console.print(table, width=max(40, self._console.width - indent))
        for text in captured.get().splitlines():
            self._console.file.write(f"{' ' * indent}{text.rstrip()}\n")

    def tree(self, branch: Branch, lead: str = "", rest: str = "") -> None:
        """A branch and all below it, each with its place drawn in front."""
        self._wrapped(_text(branch.line), lead, rest + ("│  " if branch.below else ""))
        for number, below in enumerate(branch.below, 1):
            last = number == len(branch.below)
            self.tree(below, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))

    def _wrapped(self, text: Text, first: str, rest: str) -> None:
        text.rstrip()
        room = max(20, self._console.width - max(len(first), len(rest)))
        lines = text.wrap(self._console, room) if len(text) > room else [text]
        for number, part in enumerate(lines):
            part.rstrip()
            lead = rest if number else first
            line = Text().append(lead, style="dim" if lead.strip() else "").append_text(part)
            line.rstrip()
            self._console.print(line, soft_wrap=True)


def _text(line: Line) -> Text:
    cells = [line] if isinstance(line, (str, Word)) else line
    found = Text()
    for cell in cells:
        word = Word(cell) if isinstance(cell, str) else cell
        found.append(safe(word.text), style=_STYLES.get(word.tone, ""))
    return found
