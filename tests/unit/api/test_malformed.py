"""Whatever is stored, parsing ends in a model or in InvalidObject: one malformed object must not disturb another."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vdcos import api

EXAMPLES = Path(__file__).parents[3] / "docs/reference/examples"
KINDS = sorted(api.KINDS)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values below this one."""
    match value:
        case dict():
            below = [places(item, (*path, key)) for key, item in value.items()]
        case list():
            below = [places(item, (*path, index)) for index, item in enumerate(value)]
        case _:
            below = []
    return [*([path] if path else []), *(place for found in below for place in found)]


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_object(kind: str, data: st.DataObject) -> None:
    manifest = yaml.safe_load((EXAMPLES / f"{kind.lower()}.yaml").read_text())
    *way, last = data.draw(st.sampled_from(places(manifest)))
    container = manifest
    for step in way:
        container = container[step]
    container[last] = data.draw(json_values)
    try:
        parsed = api.parse(api.KINDS[kind], manifest)
    except api.InvalidObject:
        return
    assert api.parse(api.KINDS[kind], parsed.manifest()) == parsed


@pytest.mark.parametrize("kind", KINDS)
@given(raw=st.binary(max_size=64) | json_values.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=100, deadline=None)
def test_anything_else(kind: str, raw: bytes) -> None:
    with pytest.raises(api.InvalidObject) as raised:
        api.parse(api.KINDS[kind], raw)
    assert raised.value.reason
