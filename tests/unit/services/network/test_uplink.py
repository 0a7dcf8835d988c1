"""The hosts' side: what nmstate is told, and what is said about what it says."""

from typing import Any

import pytest

from vdcos import api
from vdcos.core.conditions import Condition
from vdcos.core.foreign.nmstate import NodeNetworkConfigurationPolicy
from vdcos.core.objects import Key
from vdcos.core.plan import Apply
from vdcos.services.network import NetworkService
from vdcos.services.network.uplink import desired_state
from vdcos.testing import builders
from vdcos.testing.world import World

RED, POLICY = Key("", "red"), Key("", "vdcos-red")
ONE, TWO = {"interfaces": ["eth1"]}, {"interfaces": ["eth1", "eth2"]}
LOCALNET = {"topology": "Localnet", "physicalNetwork": "phys"}
OFF = {"enabled": False}
BOND = "bond-4e3e6f2c"


def settle(given: World) -> Condition:
    return next(c for c in given.settle(NetworkService({}), RED).conditions if c.type == "UplinkReady")


def bonded(given: dict[str, Any]) -> str:
    """The name of the bond below a bridge."""
    name: str = next(found["name"] for found in given["interfaces"] if found["type"] == "bond")
    return name


STATES: list[tuple[str, dict[str, Any], list[dict[str, Any]]]] = [
    (
        "a bridge with one card",
        {"bridge": {"name": "br10", "vlan": 7}, "uplink": ONE},
        [
            {
                "name": "br10",
                "type": "linux-bridge",
                "state": "up",
                "ipv4": OFF,
                "ipv6": OFF,
                "bridge": {"options": {"stp": OFF}, "port": [{"name": "eth1"}]},
            }
        ],
    ),
    (
        "large packets need large ports",
        {"bridge": {"name": "br10"}, "uplink": ONE, "mtu": 9000},
        [
            {"name": "eth1", "type": "ethernet", "state": "up", "mtu": 9000},
            {
                "name": "br10",
                "type": "linux-bridge",
                "state": "up",
                "mtu": 9000,
                "ipv4": OFF,
                "ipv6": OFF,
                "bridge": {"options": {"stp": OFF}, "port": [{"name": "eth1"}]},
            },
        ],
    ),
    (
        "Open vSwitch bonds by itself",
        {"ovs": {"name": "br10"}, "uplink": {**TWO, "bondMode": "balance-slb"}},
        [
            {
                "name": "br10",
                "type": "ovs-bridge",
                "state": "up",
                "bridge": {
                    "port": [
                        {
                            "name": BOND,
                            "link-aggregation": {"mode": "balance-slb", "port": [{"name": "eth1"}, {"name": "eth2"}]},
                        }
                    ]
                },
            }
        ],
    ),
    (
        "what Open vSwitch cannot bond, the kernel does below it",
        {"ovs": {"name": "br10"}, "uplink": {**TWO, "bondMode": "802.3ad"}},
        [
            {
                "name": BOND,
                "type": "bond",
                "state": "up",
                "ipv4": OFF,
                "ipv6": OFF,
                "link-aggregation": {"mode": "802.3ad", "port": ["eth1", "eth2"]},
            },
            {"name": "br10", "type": "ovs-bridge", "state": "up", "bridge": {"port": [{"name": BOND}]}},
        ],
    ),
]


@pytest.mark.parametrize("reason, spec, interfaces", STATES, ids=[case[0] for case in STATES])
def test_desired_state(reason: str, spec: dict[str, Any], interfaces: list[dict[str, Any]]) -> None:
    parsed = api.parse(api.Network, builders.network("red", **spec)).spec
    assert parsed.uplink is not None
    assert desired_state(parsed, parsed.uplink) == {"interfaces": interfaces}


def test_ovn_is_told_which_bridge_carries_its_physical_network() -> None:
    spec: dict[str, Any] = {"ovn": LOCALNET, "uplink": {**ONE, "bridge": "br-ex"}}
    parsed = api.parse(api.Network, builders.network("red", **spec)).spec
    assert parsed.uplink is not None
    assert desired_state(parsed, parsed.uplink) == {
        "interfaces": [
            {
                "name": "br-ex",
                "type": "ovs-bridge",
                "state": "up",
                "bridge": {"allow-extra-patch-ports": True, "port": [{"name": "eth1"}]},
            }
        ],
        "ovn": {"bridge-mappings": [{"localnet": "phys", "bridge": "br-ex", "state": "present"}]},
    }


def test_the_kernel_balances_by_sender_without_the_switchs_help() -> None:
    spec: dict[str, Any] = {"bridge": {"name": "br10"}, "uplink": {**TWO, "bondMode": "balance-slb"}}
    parsed = api.parse(api.Network, builders.network("red", **spec)).spec
    assert parsed.uplink is not None
    [bond, bridge] = desired_state(parsed, parsed.uplink)["interfaces"]
    assert bond["link-aggregation"] == {
        "mode": "balance-xor",
        "port": ["eth1", "eth2"],
        "options": {"xmit_hash_policy": "vlan+srcmac", "balance_slb": True},
    }
    assert bridge["bridge"]["port"] == [{"name": bond["name"]}]


def test_two_networks_of_a_bridge_say_the_same_of_it() -> None:
    states = []
    for vlan in (7, 8):
        spec: dict[str, Any] = {"bridge": {"name": "a-long-bridge-0", "vlan": vlan}, "uplink": TWO}
        parsed = api.parse(api.Network, builders.network(f"v{vlan}", **spec)).spec
        assert parsed.uplink is not None
        states.append(desired_state(parsed, parsed.uplink))
    assert states[0] == states[1]
    assert len(bonded(states[0])) <= 15, "Linux allows no longer name"


def uplinked(**uplink: Any) -> World:
    return World(builders.network("red", bridge={"name": "br10"}, uplink={**ONE, **uplink}))


def test_a_policy_of_the_networks() -> None:
    there = uplinked(nodeSelector={"rack": "1"})
    assert settle(there).reason == "Configuring"
    policy = there.tree(NodeNetworkConfigurationPolicy, POLICY)
    assert policy["spec"]["nodeSelector"] == {"rack": "1"}
    assert policy["metadata"]["ownerReferences"][0]["name"] == "red"
    assert there.settle(NetworkService({}), RED).actions == ()


SAID = [
    ("available", [("Available", "True"), ("Degraded", "False")], ("True", "Configured")),
    ("degraded", [("Available", "False"), ("Degraded", "True")], ("False", "UplinkFailed")),
    ("ignored", [("Ignored", "True")], ("False", "NoHostMatches")),
    ("progressing", [("Progressing", "True")], ("False", "Configuring")),
]


@pytest.mark.parametrize("reason, conditions, want", SAID, ids=[case[0] for case in SAID])
def test_what_nmstate_says(reason: str, conditions: list[tuple[str, str]], want: tuple[str, str]) -> None:
    there = uplinked()
    settle(there)
    told = [
        {"type": kind, "status": status, "reason": "R", "message": "h1 has no eth1."} for kind, status in conditions
    ]
    there.change(NodeNetworkConfigurationPolicy, POLICY, status={"conditions": told})
    said = settle(there)
    assert (said.status, said.reason) == want
    if want[1] == "UplinkFailed":
        assert "(R): h1 has no eth1. See the NodeNetworkConfigurationEnactments of policy vdcos-red." in said.message


def test_without_nmstate_it_says_so_and_goes_on() -> None:
    there = uplinked()
    there.put(builders.namespace("a"))
    there.put(builders.machine("a/web", networks=["red"]))
    there.unavailable(NodeNetworkConfigurationPolicy, "the API nmstate.io/v1 is not installed")
    said = settle(there)
    assert (said.status, said.reason) == ("False", "NmstateMissing")
    assert "not configured: the API nmstate.io/v1 is not installed. Install kubernetes-nmstate" in said.message
    there.change(api.Network, RED, spec={"uplink": None})
    assert settle(there).reason == "NotAsked"


def test_somebody_elses_policy_is_never_touched() -> None:
    there = uplinked()
    foreign = {
        "apiVersion": "nmstate.io/v1",
        "kind": "NodeNetworkConfigurationPolicy",
        "metadata": {"name": POLICY.name},
        "spec": {"desiredState": {"interfaces": []}},
    }
    there.put(foreign)
    assert settle(there).reason == "PolicyConflict"
    there.change(api.Network, RED, spec={"uplink": None})
    assert settle(there).reason == "NotAsked"
    assert there.tree(NodeNetworkConfigurationPolicy, POLICY)["spec"] == foreign["spec"]


def test_a_policy_follows_its_network_is_repaired_and_goes() -> None:
    there = uplinked()
    settle(there)
    there.change(api.Network, RED, spec={"uplink": {"interfaces": ["eth9"]}})
    settle(there)
    ports = there.tree(NodeNetworkConfigurationPolicy, POLICY)["spec"]["desiredState"]["interfaces"][0]["bridge"][
        "port"
    ]
    assert ports == [{"name": "eth9"}]
    there.change(NodeNetworkConfigurationPolicy, POLICY, spec={"desiredState": {"interfaces": []}})
    [action] = there.plan(NetworkService({}), RED).actions
    assert isinstance(action, Apply)
    assert action.repairs == ("spec.desiredState.interfaces[br10]",)
    settle(there)
    there.change(api.Network, RED, spec={"uplink": None})
    settle(there)
    assert not there.has(NodeNetworkConfigurationPolicy, POLICY)


def test_who_is_woken_by_a_policy() -> None:
    there = uplinked()
    settle(there)
    service = NetworkService({})
    [watch] = [watch for watch in service.watches if watch.kind is NodeNetworkConfigurationPolicy]
    held = there.held(NodeNetworkConfigurationPolicy, POLICY)
    assert list(watch.keys(held, there.view(service))) == [RED]
    there.put({**there.tree(NodeNetworkConfigurationPolicy, POLICY), "metadata": {"name": "other"}})
    other = there.held(NodeNetworkConfigurationPolicy, Key("", "other"))
    assert list(watch.keys(other, there.view(service))) == []
