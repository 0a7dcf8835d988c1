"""``vdcos plan``: a rehearsal, printed."""

import argparse
import asyncio
import json
import logging
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

import yaml

from vdcos.cli.admission import admitted
from vdcos.cli.safe import safe
from vdcos.core.conditions import READY
from vdcos.core.objects import Unreadable
from vdcos.runtime import logs
from vdcos.runtime.credentials import NoCluster, Origin
from vdcos.runtime.logs import qualified
from vdcos.runtime.metrics import Metrics
from vdcos.runtime.port import Port
from vdcos.runtime.providers.discovery import discover_networks
from vdcos.runtime.reflector import Reflector
from vdcos.runtime.rehearsal import Rehearsal, Report, Unfit
from vdcos.runtime.requests import ApiError
from vdcos.runtime.store import Store
from vdcos.services.catalogue import dated, indexes, kinds, services

NOTHING, FAILED, SOMETHING = 0, 1, 2
SUFFIXES = (".yaml", ".yml", ".json")


def main(chosen: argparse.Namespace) -> int:
    """Returns the exit status."""
    try:
        manifests = list(read(chosen.filename, sys.stdin))
        served = services(discover_networks())
        resources = kinds(served)
        store = Store(resources, indexes(served), dated(served))
        if chosen.offline:
            for kind in resources:
                store.replace(kind, [], "1")
        else:
            logs.configure("text", logging.ERROR)
            for complaint in asyncio.run(fill(store, resources, Origin.find(chosen.kubeconfig, chosen.context))):
                print(f"vdcos plan: {complaint.why}", file=sys.stderr)
        rehearsal = Rehearsal(served, store)
        if chosen.offline:
            manifests = [*_namespaces(manifests), *manifests]
        ignored = [_name(manifest) for manifest in manifests if not _entered(rehearsal, manifest)]
    except OSError as error:
        print(f"vdcos plan: cannot read {error.filename}: {error.strerror}", file=sys.stderr)
        return FAILED
    except (Unfit, NoCluster) as error:
        print(f"vdcos plan: {error}", file=sys.stderr)
        return FAILED
    except ApiError as error:
        print(f"vdcos plan: the API server does not answer ({error.reason}): {error.message}", file=sys.stderr)
        return FAILED
    for name in ignored:
        print(f"vdcos plan: {name} is not read by any service and was left out", file=sys.stderr)
    reports = [report for report in rehearsal.play() if chosen.namespace in ("", report.key.namespace)]
    show(reports, chosen.output, sys.stdout)
    if any(report.failed for report in reports):
        return FAILED
    return SOMETHING if any(report.steps or report.change for report in reports) else NOTHING


async def fill(store: Store, resources: Mapping[type[Any], Any], origin: Origin) -> list[Unreadable]:
    """``read_all`` through a port of its own. Raises NoCluster, too."""
    async with Port.open(origin) as port:
        return await read_all(store, resources, port)


async def read_all(store: Store, resources: Mapping[type[Any], Any], port: Port) -> list[Unreadable]:
    """One list of every kind. Returns what cannot be read, and why. Raises ApiError."""
    metrics = Metrics()
    sources = [Reflector(kind, resource, port, store, metrics) for kind, resource in resources.items()]
    await asyncio.gather(*(source.once() for source in sources))
    return [why for kind in resources if (why := store.shelf(kind).why) is not None]


def read(names: Iterable[str], standard_input: TextIO) -> Iterator[dict[str, Any]]:
    """The manifests of files, directories and standard input ("-"), lists unpacked.

    Raises OSError, and Unfit for what is no YAML or no object.
    """
    for name in names:
        path = pathlib.Path(name)
        files = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES) if path.is_dir() else [path]
        texts = [("standard input", standard_input.read())] if name == "-" else [(str(p), p.read_text()) for p in files]
        for origin, text in texts:
            for document in _documents(origin, text):
                if document is None:
                    continue
                if not isinstance(document, dict) or "kind" not in document:
                    raise Unfit(f"{origin}: this is not a Kubernetes object: {str(document)[:60]!r}")
                yield from document["items"] if isinstance(document.get("items"), list) else [document]


def _documents(origin: str, text: str) -> Iterator[Any]:
    try:
        yield from yaml.safe_load_all(text)
    except yaml.YAMLError as error:
        raise Unfit(str(error).replace("<unicode string>", origin)) from error


def _entered(rehearsal: Rehearsal, manifest: Mapping[str, Any]) -> bool:
    try:
        return rehearsal.enter(admitted(manifest))
    except Unfit as error:
        raise Unfit(f"{_name(manifest)}: {error}") from error


def _namespaces(manifests: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Without a cluster, the namespaces that the files need and do not bring."""
    brought = {manifest["metadata"]["name"] for manifest in manifests if manifest["kind"] == "Namespace"}
    needed = {str((manifest.get("metadata") or {}).get("namespace") or "default") for manifest in manifests}
    for name in sorted(needed - brought):
        labels = {"kubernetes.io/metadata.name": name}
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _name(manifest: Mapping[str, Any]) -> str:
    meta = manifest.get("metadata") or {}
    place = f"{meta['namespace']}/" if meta.get("namespace") else ""
    return f"{manifest.get('kind')} {place}{meta.get('name') or ''}".rstrip()


def show(reports: Sequence[Report], output: str, stream: TextIO) -> None:
    """Print reports as a table for people, or as data."""
    if output == "table":
        stream.write(table(reports))
    elif output == "json":
        json.dump([data(report) for report in reports], stream, indent=2)
        stream.write("\n")
    else:
        yaml.safe_dump_all([data(report) for report in reports], stream, sort_keys=False, width=120)


def data(report: Report) -> dict[str, Any]:
    """A report for programs."""
    return {
        "kind": report.resource.kind,
        **({"namespace": report.key.namespace} if report.key.namespace else {}),
        "name": report.key.name,
        "actions": [
            {
                "verb": step.verb,
                "apiVersion": step.resource.api_version,
                "kind": step.resource.kind,
                **({"namespace": step.key.namespace} if step.key.namespace else {}),
                "name": step.key.name,
                "why": step.why,
                **({"content": json.loads(json.dumps(step.content))} if step.content is not None else {}),
            }
            for step in report.steps
        ],
        "statusChange": report.change,
        "conditions": [dict(condition) for condition in report.conditions],
        **({"error": report.error} if report.error else {}),
    }


def table(reports: Sequence[Report]) -> str:
    """A report for people: what would be done and why, then what the status would say."""
    lines: list[str] = []
    quiet = 0
    for report in reports:
        if not (report.steps or report.change or report.failed):
            quiet += 1
            continue
        lines += [f"{report.resource.kind} {report.key}"]
        rows = [(step.verb, f"{qualified(step.resource)} {step.key}", step.why) for step in report.steps]
        lines += [f"  {row}" for row in columns(rows)] or ["  nothing to do"]
        ready = report.condition(READY)
        if report.error:
            lines += [f"  error: {safe(report.error)}"]
        elif ready:
            said = f"{ready['status']}, {ready['reason']}: {ready['message']}"
            lines += [f"  Ready would be {safe(said)}".rstrip(": ")]
        lines += [""]
    changes = sum(len(report.steps) for report in reports)
    lines += [f"{count(changes, 'action')} on {len(reports) - quiet} of {count(len(reports), 'object')}."]
    return "\n".join(lines) + "\n"


def count(number: int, thing: str) -> str:
    """In English: 1 action, 2 actions."""
    return f"{number} {thing}" + ("" if number == 1 else "s")


def columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows with their cells aligned, and nothing in them that steers a terminal."""
    rows = [tuple(map(safe, row)) for row in rows]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
