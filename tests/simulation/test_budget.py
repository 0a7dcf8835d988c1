"""The write budget: what the operator writes in each scenario, from its start to the last rest, when all goes well.

Children, finalizers and statuses of all objects count, the first status of a Network and a Datastore among them. More
is a regression; less may be lowered here.
"""

from collections.abc import Mapping

import pytest

from vdcos.testing.drivers import Explorer
from vdcos.testing.scenarios import Scenario, catalogue

BUDGETS: Mapping[str, int] = {
    "create": 15,
    "create, datastore and network after it": 14,
    "two disks and two NICs": 20,
    "create powered off": 13,
    "power cycle": 23,
    "power cycle, stays off": 23,
    "delete": 21,
    "delete with its disk": 24,
    "delete and re-create": 31,
    "policy to Delete and back": 19,
    "add and remove a disk": 25,
    "grow a disk": 19,
    "grow a disk that cannot grow": 16,
    "more CPU and memory": 17,
    "less CPU": 18,
    "cores back and forth": 21,
    "another NIC": 21,
    "no NIC any more": 19,
    "shared network": 25,
    "network in use is deleted": 20,
    "datastore in use is deleted": 23,
    "full datastore, then room": 25,
    "datastore in maintenance": 16,
    "namespace not allowed, then allowed": 15,
    "missing Secret, then there": 16,
    "no host fits, then one does": 20,
    "host loses power and comes back": 20,
    "host loses power and is fenced": 20,
    "host loses its path to storage and gets it back": 16,
    "host is cut off and comes back": 20,
    "virtctl stop is put right": 20,
    "virtctl stop is respected": 17,
    "guest shuts down and is restarted": 18,
    "guest shuts down and stays off": 16,
    "guest crashes": 18,
    "somebody edits the child": 18,
    "somebody makes a map of the child that we fill and empty": 21,
    "somebody deletes the child": 21,
    "somebody deletes a disk": 19,
    "the name is taken": 12,
    "the child is detached, and comes back": 16,
    "a KubeVirt VM is taken over": 13,
    "a KubeVirt VM is taken over, and its word comes last": 14,
    "first power-on makes the disk": 17,
    "the operator restarts": 19,
    "network gets another VLAN": 17,
    "network of a NIC changes": 22,
    "datastore closes": 18,
    "paused and unpaused": 17,
    "a write war": 28,
    "somebody deletes a definition": 20,
    "somebody edits a definition": 17,
    "a definition is in the way": 18,
    "instance type comes later": 16,
    "cloud-init changes": 18,
    "somebody deletes the instance": 19,
    "grow a disk of a VM that is off": 27,
    "network with an uplink": 18,
    "a running VM loses its NIC": 28,
    "the namespace is deleted": 21,
    "full datastore, then a disk goes": 29,
    "room for one of two disks": 21,
    "grow beyond the ceiling": 17,
    "no room beside a disk that has grown": 21,
    "grow a disk that cannot grow yet": 20,
    "powered off without its network": 25,
    "delete without a disk of before": 27,
    "powered on while it powers off": 24,
    "somebody edits a definition that nobody runs with": 14,
    "two VMs at once, room for one": 25,
    "re-created at once": 25,
    "everything that can be declared, then other things": 33,
    "an address, and powered off": 23,
    "what others put on objects stays": 32,
    "hosts and storage come later": 8,
    "a webhook is down for minutes": 16,
    "what is refused is tried again when somebody edits": 16,
}


@pytest.mark.parametrize("scenario", catalogue(), ids=lambda scenario: scenario.name)
def test_no_more_is_written_than_is_needed(scenario: Scenario) -> None:
    assert Explorer(scenario).reference.writes <= BUDGETS[scenario.name]


def test_every_scenario_has_a_budget() -> None:
    assert BUDGETS.keys() == {scenario.name for scenario in catalogue()}
