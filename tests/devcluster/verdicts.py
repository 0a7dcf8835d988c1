"""What kstatus (Flux, Helm 4) and Argo CD's health script make of objects, and what the guide says that they do."""

import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devcluster import build
from tests.unit.generate import reasons
from vdcos import api
from vdcos.core import conditions
from vdcos.core.conditions import Condition
from vdcos.generate import argocd

Object = Mapping[str, Any]

ROOT = Path(__file__).parents[2]
CONFIG_MAP = ROOT / "manifests" / "argocd" / "argocd-cm.yaml"


@dataclass(frozen=True)
class Verdict:
    """``kstatus`` and ``argocd`` are the words of these libraries, "" where they have none; then what they add."""

    kstatus: str
    argocd: str
    kstatus_message: str = ""
    argocd_message: str = ""

    @property
    def words(self) -> tuple[str, str]:
        return self.kstatus, self.argocd


class Judges:
    """Both libraries, in one small program."""

    def __init__(self, program: str) -> None:
        self._program = program

    @classmethod
    def built(cls) -> "Judges":
        return cls(build.ensure(build.console_report, more=[build.VERDICTS])["verdicts"])

    def judge(self, objects: Iterable[Object], config_map: Path = CONFIG_MAP) -> list[Verdict]:
        """A verdict for each, with the scripts in this ConfigMap."""
        text = "\n".join(json.dumps(each) for each in objects)
        done = subprocess.run([self._program, str(config_map)], input=text, check=True, capture_output=True, text=True)
        return [_verdict(json.loads(line)) for line in done.stdout.splitlines()]


def _verdict(said: Mapping[str, Mapping[str, str]]) -> Verdict:
    flux, argo = said["kstatus"], said["argocd"]
    return Verdict(flux["status"], argo["status"], flux["message"], argo["message"])


# What the guide says

UNSEEN = "no operator has seen this spec yet"
PASSING = "on its way, or it waits for something that is not there yet"
ATTENTION = "somebody has to act; then it goes on"
STALLED = "nothing helps but a change of this object (`Stalled`)"
READY = "what is declared is so (`Ready`)"
DELETING = "it is being deleted"

GUIDE: dict[str, tuple[str, str]] = {
    UNSEEN: ("InProgress", "Progressing"),
    PASSING: ("InProgress", "Progressing"),
    ATTENTION: ("InProgress", "Degraded"),
    STALLED: ("Failed", "Degraded"),
    READY: ("Current", "Healthy"),
    DELETING: ("Terminating", "Progressing"),
}
"""The verdicts of kstatus and of Argo CD, by the state that an object is in, in the guide's words."""


def state(item: Object) -> str:
    """The state of an object of ours, by what its conditions say. A reason that has no verdict is a KeyError."""
    meta, status = item["metadata"], item.get("status", {})
    said = {each["type"]: each for each in status.get("conditions", [])}
    if "deletionTimestamp" in meta:
        return DELETING
    if status.get("observedGeneration") != meta["generation"] or "Ready" not in said:
        return UNSEEN
    if said.get("Stalled", {}).get("status") == "True":
        return STALLED
    if said["Ready"]["status"] == "True":
        return READY
    reason = said["Ready"]["reason"]
    if reason in argocd.ATTENTION:
        return ATTENTION
    if reason in argocd.PASSING:
        return PASSING
    raise KeyError(
        f"{item['kind']} is not Ready for reason {reason}, which has no verdict: see vdcos/generate/argocd.py"
    )


# Objects in every state


def states() -> Iterator[tuple[str, Object]]:
    """Every kind, not Ready for every reason that there is, and Ready; seen and not, living and not, each with a name.
    Conditions are made as the operator makes them of what a service says."""
    for kind, service in reasons.SERVICES.items():
        fresh = {"observedGeneration": -1}  # the default in the schema
        yield from _seen_and_not(kind, "new", fresh)
        yield from _seen_and_not(kind, "ready", _status(kind, ()))
        note = Condition("RestartRequired", "True", "RestartRequired", "cores change at the next start")
        yield from _seen_and_not(kind, "ready, and more to say", _status(kind, (note,)))
        for reason in sorted(reasons.of(kind)):
            for said in ("False", "Unknown"):
                unmet = Condition(service.needed[0], said, reason, "what is wrong, and what to do")
                yield from _seen_and_not(kind, f"{said} {reason}", _status(kind, (unmet,)))
            stalled = conditions.stalled(reason, "change this")
            yield from _seen_and_not(kind, f"stalled {reason}", _status(kind, (stalled,)))


def _status(kind: str, said: tuple[Condition, ...]) -> dict[str, Any]:
    """What the operator writes when all that Ready needs is well, except for what is ``said``."""
    needed = reasons.SERVICES[kind].needed
    about = {each.type for each in said}
    well = tuple(conditions.true(each, "Well") for each in needed if each not in about)
    merged = conditions.merge((), conditions.summarise((*well, *said), needed), 2, 0.0)
    return {"observedGeneration": 2, "conditions": merged}


def _seen_and_not(kind: str, name: str, status: Object) -> Iterator[tuple[str, Object]]:
    for generation in (2, 3):
        for going in ({}, {"deletionTimestamp": "2026-01-01T12:00:00Z", "finalizers": ["example.com/hold"]}):
            seen = "seen" if generation == status["observedGeneration"] else "not seen"
            meta = {"name": "example", "generation": generation, **going}
            item = {"apiVersion": api.API_VERSION, "kind": kind, "metadata": meta, "status": status}
            yield f"{kind} {name}, {seen}{', being deleted' if going else ''}", item
