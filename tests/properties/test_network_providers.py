"""Whatever a third party's switch answers, it is a definition of its own network or a problem of it."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from vdcos import api
from vdcos.core.objects import Key
from vdcos.providers import networks
from vdcos.providers.networks import Attachment, Definition, Problem, Request, Wiring
from vdcos.testing import builders

NETWORK = api.parse(api.Network, builders.network("red", plugin={"provider": "wild"}))

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4)
words = st.sampled_from(
    ["bridge", "sriov", "masquerade", "passtBinding", "binding", "name", "type", "plugins", "netAttachDefName", "vlan"]
)
values = st.recursive(
    scalars | st.sampled_from(["a/red", "b/red", "acme"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(words | st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)
bindings: st.SearchStrategy[Any] = values | words.map(lambda kind: {kind: {}}) | st.just({"binding": {"name": "acme"}})
configs = values | st.fixed_dictionaries({"type": st.just("acme")}, optional={"plugins": values, "vlan": values})
answers = values | st.builds(Wiring, bindings, configs, values | st.just("a.b/c"), st.booleans())


class Wild:
    contract = 1

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def wire(self, request: Request) -> Wiring:
        if isinstance(self.answer, str):
            raise LookupError(self.answer)
        answer: Wiring = self.answer
        return answer


@settings(max_examples=150)
@given(answers)
def test_any_answer_is_a_definition_of_the_network_or_a_problem(answer: Any) -> None:
    providers = {"wild": Wild(answer)}
    attached, held = networks.attachment(NETWORK, "a", providers), networks.definition(NETWORK, "a", providers)
    assert isinstance(attached, Problem) == isinstance(held, Problem)
    if isinstance(held, Problem):
        assert held.reason
        assert held.message
        return
    assert isinstance(attached, Attachment)
    assert len(attached.binding) == 1
    assert (held is None) == (attached.definition is None)
    if held is not None:
        assert isinstance(held, Definition)
        config = json.loads(held.config)
        assert held.key == attached.definition == Key("a", "red")
        assert all(plugin["type"] for plugin in config.get("plugins", [config]))
        assert config.get("netAttachDefName", "a/red") == "a/red"
