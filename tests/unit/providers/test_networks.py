"""Virtual switches: what the built-in ones say, and that no provider's mistake gets further than its network."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from vdcos import api
from vdcos.core.objects import Key
from vdcos.providers import networks
from vdcos.providers.networks import Attachment, Definition, Problem, Refused, Request, Wiring
from vdcos.testing import builders

BRIDGED: dict[str, Any] = {"bridge": {}}
ON_POD: dict[str, Any] = {"masquerade": {}}


def network(**spec: Any) -> api.Network:
    return api.parse(api.Network, builders.network("red", **spec))


BUILTIN = [
    ("the pod network needs no definition", {"pod": {}}, ON_POD, None, ""),
    (
        "a bridge, spoof check by default",
        {"bridge": {"name": "br10"}},
        BRIDGED,
        {"type": "bridge", "bridge": "br10", "macspoofchk": True, "disableContainerInterface": True, "ipam": {}},
        "bridge.network.kubevirt.io/br10",
    ),
    (
        "a VLAN keeps untagged frames out",
        {"bridge": {"name": "br10", "vlan": 7, "spoofCheck": False}, "mtu": 9000},
        BRIDGED,
        {
            "type": "bridge",
            "bridge": "br10",
            "vlan": 7,
            "preserveDefaultVlan": False,
            "macspoofchk": False,
            "disableContainerInterface": True,
            "mtu": 9000,
            "ipam": {},
        },
        "bridge.network.kubevirt.io/br10",
    ),
    (
        "Open vSwitch",
        {"ovs": {"name": "ovs1", "vlan": 7}, "mtu": 1400},
        BRIDGED,
        {"type": "ovs", "bridge": "ovs1", "vlan": 7, "mtu": 1400},
        "ovs-cni.network.kubevirt.io/ovs1",
    ),
    (
        "OVN on a physical network",
        {"ovn": {"topology": "Localnet", "physicalNetwork": "phys", "vlan": 7}},
        BRIDGED,
        {
            "type": "ovn-k8s-cni-overlay",
            "topology": "localnet",
            "netAttachDefName": "a/red",
            "physicalNetworkName": "phys",
            "vlanID": 7,
        },
        "",
    ),
    (
        "an overlay whose addresses follow the VM",
        {"ovn": {"topology": "Layer2", "subnets": ["192.0.2.0/24", "2001:db8::/64"]}, "mtu": 1300},
        BRIDGED,
        {
            "type": "ovn-k8s-cni-overlay",
            "topology": "layer2",
            "netAttachDefName": "a/red",
            "subnets": "192.0.2.0/24,2001:db8::/64",
            "allowPersistentIPs": True,
            "mtu": 1300,
        },
        "",
    ),
    (
        "virtual functions",
        {"sriov": {"resourceName": "intel.com/nics", "vlan": 7, "trust": True}},
        {"sriov": {}},
        {"type": "sriov", "vlan": 7, "spoofchk": "on", "trust": "on", "ipam": {}},
        "intel.com/nics",
    ),
    (
        "virtual functions without spoof check",
        {"sriov": {"resourceName": "intel.com/nics", "spoofCheck": False}},
        {"sriov": {}},
        {"type": "sriov", "spoofchk": "off", "trust": "off", "ipam": {}},
        "intel.com/nics",
    ),
]


@pytest.mark.parametrize("reason, spec, binding, config, resource", BUILTIN, ids=[case[0] for case in BUILTIN])
def test_built_in_switches(
    reason: str, spec: dict[str, Any], binding: dict[str, Any], config: dict[str, Any] | None, resource: str
) -> None:
    cr = network(**spec)
    attached = networks.attachment(cr, "a", {})
    held = networks.definition(cr, "a", {})
    if config is None:
        assert attached == Attachment(binding, {"pod": {}}, None)
        assert held is None
        return
    assert attached == Attachment(binding, {"multus": {"networkName": "a/red"}}, Key("a", "red"))
    assert isinstance(held, Definition)
    assert json.loads(held.config) == {"cniVersion": "0.3.1", "name": "red", **config}
    assert (held.key, held.resource) == (Key("a", "red"), resource)


def test_only_agents_resources_may_be_missing() -> None:
    """A bridge works on clusters without bridge-marker; virtual functions never work without their device plugin."""
    bridge, card = network(bridge={"name": "br10"}), network(sriov={"resourceName": "intel.com/nics"})
    assert [networks.definition(cr, "a", {}).resource_if_offered for cr in (bridge, card)] == [True, False]  # type: ignore[union-attr]


class Switch:
    """A third party's switch that does what a test says."""

    def __init__(self, answer: Callable[[Request], Any], contract: int = 1) -> None:
        self.contract = contract
        self.wire = answer


def plugin(**spec: Any) -> api.Network:
    return network(plugin={"provider": "acme", "parameters": {"segment": "7"}}, **spec)


def test_a_third_partys_switch_gets_what_the_user_wrote_and_nothing_else() -> None:
    asked: list[Request] = []

    def wire(request: Request) -> Wiring:
        asked.append(request)
        return Wiring(
            {"binding": {"name": "acme"}}, {"name": "own", "cniVersion": "1.0.0", "plugins": [{"type": "acme"}]}
        )

    held = networks.definition(plugin(mtu=1400), "a", {"acme": Switch(wire)})
    assert asked == [Request("red", "a", {"segment": "7"}, 1400)]
    assert isinstance(held, Definition)
    assert json.loads(held.config) == {"name": "own", "cniVersion": "1.0.0", "plugins": [{"type": "acme"}]}


def fails(request: Request) -> Wiring:
    return Wiring({"bridge": {}}, {"vlan": int(request.parameters["vlan"])})


def refuses(request: Request) -> Wiring:
    raise Refused("parameters.segment must be below 5")


def answering(*answer: Any) -> Switch:
    return Switch(lambda _: answer[0] if len(answer) == 1 else Wiring(*answer))


CONFIG = {"type": "acme"}
MISTAKES: list[tuple[str, Any, str, str]] = [
    ("it refuses", Switch(refuses), "ProviderRefused", "parameters.segment must be below 5"),
    ("it raises", Switch(fails), "ProviderFailed", "KeyError in "),
    (
        "it raises something deep",
        Switch(lambda r: json.loads("{")),
        "ProviderFailed",
        "JSONDecodeError in json.decoder",
    ),
    ("it is of another age", Switch(fails, contract=2), "ProviderIncompatible", "version 2"),
    ("it says no version", object(), "ProviderIncompatible", "version None"),
    ("it has no wire", type("Half", (), {"contract": 1})(), "ProviderFailed", "AttributeError"),
    ("it is broken", networks.Broken("acme 1.0 cannot be loaded"), "ProviderRefused", "acme 1.0 cannot be loaded"),
    ("not a wiring", answering({"bridge": {}}), "ProviderAnswerInvalid", "a dict instead of a Wiring"),
    ("no binding", answering({}, CONFIG), "ProviderAnswerInvalid", "exactly one key"),
    ("two bindings", answering({"bridge": {}, "sriov": {}}, CONFIG), "ProviderAnswerInvalid", "exactly one key"),
    ("binding is text", answering("bridge", CONFIG), "ProviderAnswerInvalid", "exactly one key"),
    ("unknown binding", answering({"slirp": {}}, CONFIG), "ProviderAnswerInvalid", "'slirp' is not possible with"),
    ("NAT on a second network", answering({"masquerade": {}}, CONFIG), "ProviderAnswerInvalid", "not possible with"),
    ("a bridge on the pod network", answering({"bridge": {}}), "ProviderAnswerInvalid", "instead of a Wiring"),
    ("bridge without config", answering({"bridge": {}}, None), "ProviderAnswerInvalid", "not possible without"),
    ("details where none go", answering({"bridge": {"x": 1}}, CONFIG), "ProviderAnswerInvalid", "takes no details"),
    ("a nameless binding plugin", answering({"binding": {}}, CONFIG), "ProviderAnswerInvalid", "a binding plugin"),
    ("an empty name", answering({"binding": {"name": ""}}, CONFIG), "ProviderAnswerInvalid", "a binding plugin"),
    ("more than a name", answering({"binding": {"name": "a", "b": 1}}, CONFIG), "ProviderAnswerInvalid", "plugin"),
    ("config is a list", answering(BRIDGED, [CONFIG]), "ProviderAnswerInvalid", "config must be an object"),
    ("config has no type", answering(BRIDGED, {"vlan": 1}), "ProviderAnswerInvalid", "needs a type"),
    ("no plugins in the list", answering(BRIDGED, {"plugins": []}), "ProviderAnswerInvalid", "list of objects"),
    ("plugins of text", answering(BRIDGED, {"plugins": ["acme"]}), "ProviderAnswerInvalid", "list of objects"),
    ("a typeless plugin", answering(BRIDGED, {"plugins": [CONFIG, {}]}), "ProviderAnswerInvalid", "needs a type"),
    (
        "somebody else's definition",
        answering(BRIDGED, {"type": "ovn-k8s-cni-overlay", "netAttachDefName": "b/red"}),
        "ProviderAnswerInvalid",
        "netAttachDefName must be a/red",
    ),
    (
        "somebody else's definition in a chain",
        answering(BRIDGED, {"plugins": [{"type": "x", "netAttachDefName": "b/red"}]}),
        "ProviderAnswerInvalid",
        "netAttachDefName must be a/red",
    ),
    ("not JSON", answering(BRIDGED, {"type": "acme", "x": {1}}), "ProviderAnswerInvalid", "config is not JSON"),
    ("keys that cannot be sorted", answering(BRIDGED, {"type": "x", 1: 2}), "ProviderAnswerInvalid", "is not JSON"),
    ("a name that is none", answering(BRIDGED, {**CONFIG, "name": 7}), "ProviderAnswerInvalid", "must be strings"),
    ("not a number", answering(BRIDGED, {"type": "acme", "x": float("nan")}), "ProviderAnswerInvalid", "not JSON"),
    ("too long", answering(BRIDGED, {"type": "acme", "x": "y" * 20000}), "ProviderAnswerInvalid", "of at most 16384"),
    ("resource is a number", answering(BRIDGED, CONFIG, 7), "ProviderAnswerInvalid", "resource must be a string"),
    ("resource without domain", answering(BRIDGED, CONFIG, "port"), "ProviderAnswerInvalid", "is not domain/name"),
    ("resource on the pod network", answering(ON_POD, None, "a.b/c"), "ProviderAnswerInvalid", "needs a CNI config"),
]


@pytest.mark.parametrize("reason, switch, word, message", MISTAKES, ids=[case[0] for case in MISTAKES])
def test_a_providers_mistake_is_a_problem_of_its_network(reason: str, switch: Any, word: str, message: str) -> None:
    cr = plugin()
    for problem in (networks.attachment(cr, "a", {"acme": switch}), networks.definition(cr, "a", {"acme": switch})):
        assert isinstance(problem, Problem)
        assert problem.reason == word
        assert problem.message.startswith("provider acme")
        assert message in problem.message


@pytest.mark.parametrize("binding", [{"masquerade": {}}, {"passtBinding": {}}, {"binding": {"name": "l2bridge"}}])
def test_a_third_party_may_serve_the_pod_network(binding: dict[str, Any]) -> None:
    switch = answering(binding, None)
    assert networks.attachment(plugin(), "a", {"acme": switch}) == Attachment(binding, {"pod": {}}, None)
    assert networks.definition(plugin(), "a", {"acme": switch}) is None


@pytest.mark.parametrize(
    "name, installed, message",
    [
        ("acme", {}, "provider acme is not installed (third-party providers here: none)"),
        ("acme", {"other": answering(ON_POD, None), "more": answering(ON_POD, None)}, "providers here: more, other)"),
        ("bridge", {}, "bridge is built in: set spec.bridge"),
    ],
)
def test_a_provider_that_is_not_there(name: str, installed: networks.Providers, message: str) -> None:
    problem = networks.attachment(network(plugin={"provider": name}), "a", installed)
    assert isinstance(problem, Problem)
    assert problem.reason == "ProviderMissing"
    assert message in problem.message


def test_the_message_of_a_failure_does_not_change() -> None:
    """A condition with an address or a time in it would be written again with every look."""

    def wire(request: Request) -> Wiring:
        raise RuntimeError(f"{object()} failed")

    first, second = (networks.attachment(plugin(), "a", {"acme": Switch(wire)}) for _ in range(2))
    assert first == second


def test_virtual_functions_cannot_be_given_an_mtu() -> None:
    problem = networks.attachment(network(sriov={"resourceName": "intel.com/nics"}, mtu=9000), "a", {})
    assert isinstance(problem, Problem)
    assert problem.message.startswith("provider sriov: mtu: ")
