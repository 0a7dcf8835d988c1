"""Objects that are nested deeper than decoders go: they are heard of like others, and stop nobody."""

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdcos import api
from vdcos.core.kinds import VIRTUAL_MACHINE
from vdcos.core.objects import Key, Own, Resource
from vdcos.runtime import depth, engine, port
from vdcos.runtime.reflector import Reflector
from vdcos.runtime.store import Store

FLAT = b'{"a":[{"b":"}]\\\\"},"[\\"{"],"c":{}}'


def deep(levels: int) -> bytes:
    return b'{"a":[' * (levels // 2) + b'"}"' + b"]}" * (levels // 2)


def machine(name: str, value: bytes, version: int) -> bytes:
    spec = {
        "cpu": {},
        "memory": {"size": "1Gi"},
        "overrides": [{"op": "add", "path": "/spec/template/spec/domain/clock"}],
    }
    meta = {"name": name, "namespace": "shop", "uid": name, "resourceVersion": str(version)}
    whole = {"apiVersion": api.API_VERSION, "kind": "VirtualMachine", "metadata": meta, "spec": spec}
    return json.dumps(whole).encode().replace(b'/clock"', b'/clock", "value": ' + value)


def test_what_is_not_deep_stays() -> None:
    assert depth.shallow(FLAT) == FLAT
    assert depth.shallow(deep(depth.LEVELS)) == deep(depth.LEVELS)


def test_what_is_deep_is_cut() -> None:
    kept = depth.shallow(b'[{"first": %s}, %s, 2]' % (deep(10_000), deep(10_000)))
    first, second, last = json.loads(kept)
    assert last == 2
    for found, levels in ((first["first"], depth.LEVELS - 2), (second, depth.LEVELS - 1)):
        for _ in range(levels):
            found = found["a"] if isinstance(found, dict) else found[0]
        assert found is None


@settings(max_examples=100, deadline=None)
@given(st.recursive(st.none() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_any_json_stays(value: Any) -> None:
    text = json.dumps(value).encode()
    assert depth.shallow(text) == text


class Silent:
    def listed(self, resource: Resource, why: str) -> None:
        pass

    def undecodable(self, resource: Resource) -> None:
        raise AssertionError


class Lists:
    """A port that has one page and no watch."""

    def __init__(self, items: bytes) -> None:
        self.items = items

    async def pages(self, path: str, query: Mapping[str, str]) -> AsyncGenerator[port.Page, None]:
        yield port._decode_page(b'{"metadata":{"resourceVersion":"9"},"items":[%s]}' % self.items)


@pytest.mark.parametrize("levels", [900, 2_000, 9_900])
async def test_one_deep_object_does_not_stop_its_kind(levels: int) -> None:
    store = Store([api.VirtualMachine])
    items = machine("deep", deep(levels), 1) + b"," + machine("good", b"{}", 2)
    reflector = Reflector(api.VirtualMachine, VIRTUAL_MACHINE, Lists(items), store, Silent())  # type: ignore[arg-type]
    await reflector.once()
    assert store.known(api.VirtualMachine)
    event = b'{"type":"MODIFIED","object":%s}' % machine("deep", deep(levels), 10)
    assert reflector._apply(event) == "10"
    for name, problem in (("good", ""), ("deep", api.TOO_DEEP)):
        own = store.heard(api.VirtualMachine, Key("shop", name))
        assert isinstance(own, Own)
        if problem:
            with pytest.raises(api.InvalidObject, match="nested too deeply"):
                store.parse(api.VirtualMachine, own)
        else:
            store.parse(api.VirtualMachine, own)


def test_the_answer_to_a_status_may_be_deep() -> None:
    answer = machine("deep", deep(9_900), 7)
    assert isinstance(Store([api.VirtualMachine]).decoder(api.VirtualMachine)(answer), Own)
    assert engine._decode_version(answer).metadata.resource_version == "7"
