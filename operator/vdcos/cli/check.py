"""``vdcos check``: what vdcos builds on, and what it costs where it is missing. Nothing is written."""

import argparse
import asyncio
import logging
import os
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from vdcos import app
from vdcos.cli.ha import show
from vdcos.cli.plan import columns, count, read_all
from vdcos.core import preflight
from vdcos.core.preflight import Check, State
from vdcos.runtime import logs
from vdcos.runtime.credentials import NoCluster, Origin
from vdcos.runtime.port import Port
from vdcos.runtime.preflight import ask, reader
from vdcos.runtime.providers.discovery import discover_networks
from vdcos.runtime.requests import ApiError
from vdcos.runtime.store import Store
from vdcos.services.catalogue import services

Tree = dict[str, Any]
WELL, FAILED, LIMITED = 0, 1, 2

BROUGHT = ("Definitions",)
"""What an installation of vdcos brings along."""
COLOURS: Mapping[State, str] = {"OK": "32", "Limited": "33", "Missing": "31", "Unknown": "35"}
"""SGR codes of ECMA-48: green, yellow, red, magenta."""
INDENT = "    "
WIDTH = 120
"""Columns where nobody says how wide the terminal is."""


def main(chosen: argparse.Namespace) -> int:
    """Returns the exit status."""
    logs.configure("text", logging.CRITICAL)
    try:
        checks = asyncio.run(look(Origin.find(chosen.kubeconfig, chosen.context), chosen.namespace))
    except NoCluster as error:
        print(f"vdcos check: {error}", file=sys.stderr)
        return FAILED
    except ApiError as error:
        print(f"vdcos check: the API server does not answer ({error.reason}): {error.message}", file=sys.stderr)
        return FAILED
    if chosen.before_install:
        checks = [check for check in checks if check.name not in BROUGHT]
    if chosen.only:
        names = [check.name for check in checks]
        if unknown := [name for name in chosen.only if name not in names]:
            print(f"vdcos check: there is no {', '.join(unknown)}; there are {', '.join(names)}", file=sys.stderr)
            return FAILED
        checks = [check for check in checks if check.name in chosen.only]
    colourful = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    width = shutil.get_terminal_size((WIDTH, 0)).columns if sys.stdout.isatty() else WIDTH
    show(data(checks), chosen.output, lambda _: table(checks, colourful, width), sys.stdout)
    return status(checks)


async def look(origin: Origin, namespace: str) -> list[Check]:
    """All checks, by one list of each kind and a few questions. Raises NoCluster and ApiError."""
    store = Store(preflight.KINDS)
    async with Port.open(origin) as port:
        await read_all(store, {kind: kind.resource for kind in preflight.KINDS}, port)
        answers = await ask(app.questions(port, services(discover_networks()), namespace))
    return [*preflight.look(reader(store)), *answers]


def status(checks: Sequence[Check]) -> int:
    """The exit status that they come to."""
    if blocking(checks):
        return FAILED
    return WELL if all(check.ok for check in checks) else LIMITED


def blocking(checks: Sequence[Check]) -> list[str]:
    """What is required and missing, by name."""
    return [check.name for check in checks if check.required and check.state == "Missing"]


def data(checks: Sequence[Check]) -> Tree:
    """The checks for programs, as conditions."""
    return {
        "checks": [
            {
                "type": check.name,
                "status": check.condition().status,
                "reason": check.state,
                "message": check.condition().message,
                "required": check.required,
                "limits": list(check.limits),
            }
            for check in checks
        ]
    }


def table(checks: Sequence[Check], colourful: bool = False, width: int = WIDTH) -> str:
    """The same for people: a line for each, and below it what it costs and what to do."""
    lines: list[str] = []
    heads = columns([("CHECK", "STATE", "FOUND"), *((check.name, check.state, check.found) for check in checks)])
    lines.append(heads[0])
    for check, head in zip(checks, heads[1:], strict=True):
        code = COLOURS[check.state]
        lines.append(head.replace(check.state, f"\x1b[{code}m{check.state}\x1b[0m", 1) if colourful else head)
        if check.cost:
            limited = "everything" if set(check.limits) == set(preflight.EVERYTHING) else ", ".join(check.limits)
            words = f"{limited}: {check.cost}. {check.remedy[:1].upper()}{check.remedy[1:]}."
            lines += textwrap.wrap(words, max(40, width), initial_indent=INDENT, subsequent_indent=INDENT)
    return "\n".join([*lines, "", summary(checks)]) + "\n"


def summary(checks: Sequence[Check]) -> str:
    """All of it in one line."""
    if missing := blocking(checks):
        return f"vdcos cannot work here without {' and '.join(missing)}."
    off = [check for check in checks if not check.ok]
    if not off:
        return f"All {len(checks)} are there."
    return f"vdcos works here, with limits: {len(off)} of {count(len(checks), 'check')} are not OK."
