"""The replayed storm: every change once, in order, and the status that it leads to is checked against the last one."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bench import load, storm
from vdcos.core.foreign.kubevirt import VirtualMachineInstance
from vdcos.core.kinds import VIRTUAL_MACHINE


def recorded(folder: Path, count: int) -> Path:
    def page(items: list[dict[str, Any]], version: int) -> str:
        return json.dumps({"metadata": {"resourceVersion": str(version)}, "items": items})

    def meta(name: str) -> dict[str, Any]:
        return {"name": name, "namespace": "fleet", "uid": f"{name:0<36}", "generation": 1, "resourceVersion": "7"}

    machines = [{"metadata": meta(f"vm-{number}"), "status": {}} for number in range(count)]
    spec = {"template": {"spec": {"networks": [{"name": "net"}]}}}
    guests = [load.instance({**vm, "spec": spec}, spec["template"]["spec"], "host") for vm in machines]
    (folder / "own.json").write_text(page(machines, 40))
    (folder / "guests.json").write_text(page(guests, 42))
    index = {VIRTUAL_MACHINE.path(): ["own.json"], VirtualMachineInstance.resource.path(): ["guests.json"]}
    (folder / storm.RECORDED).write_text(json.dumps(index))
    return folder


def test_each_object_changes_as_often_as_was_asked_for(tmp_path: Path) -> None:
    replay = storm.Replay(recorded(tmp_path, 3), objects=2, changes=4)
    events = [json.loads(line) for line in replay._lines()]
    assert len(events) == 8
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))
    assert versions[0] > 42
    addresses = [event["object"]["status"]["interfaces"][0]["ipAddress"] for event in events]
    assert addresses == [load.address(2 * change) for change in (1, 1, 2, 2, 3, 3, 4, 4)]
    report = replay._report()
    assert (report["first_version"], report["last_version"]) == (versions[0], versions[-1])
    assert report["told"] == 0


@pytest.mark.parametrize(("number", "text"), [(0, "10.0.0.1"), (2, "10.0.0.3"), (20, "10.0.0.21")])
def test_addresses_differ(number: int, text: str) -> None:
    assert load.address(number) == text
