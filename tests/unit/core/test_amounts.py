"""Amounts add up, and are written and read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdcos.core import amounts
from vdcos.core.amounts import NOTHING, Amounts

SOME = st.dictionaries(st.sampled_from(["cpu", "memory", "example.org/gpu"]), st.integers(1, 9)).map(Amounts)


@given(SOME, SOME, SOME)
def test_sums_do_not_depend_on_the_order_and_differences_take_them_back(
    one: Amounts, two: Amounts, three: Amounts
) -> None:
    assert one + two == two + one
    assert (one + two) + three == one + (two + three) == sum([one, two, three])
    assert (one + two) - two == one
    assert hash(one + two) == hash(two + one)
    assert one - one == NOTHING


def test_the_zero_of_a_sum_is_no_amount() -> None:
    one = Amounts(cpu=1)
    assert one + 0 is one
    assert 0 + one is one
    assert (one.cpu, one.memory) == (1, 0)


def test_how_much_more_it_is_than_there_is() -> None:
    assert amounts.of(4, 10).beyond({"cpu": 1, "memory": 10}) == {"cpu": 3}
    assert amounts.of(0, 10).beyond({"cpu": -5, "memory": 10}) == {}, "who needs none of what is missing needs nothing"


@given(st.integers(0, 2**53), st.integers(0, 2**53))
def test_what_is_written_is_read(cpu: int, memory: int) -> None:
    assert amounts.read(amounts.written(amounts.of(cpu, memory))) == amounts.of(cpu, memory)


@pytest.mark.parametrize(
    "text", ["", "1m", "m/1", "1m/", "1/2", "-1m/2", "1m/2/3", "x", "9" * 40 + "m/" + "9" * 40, "²m/1"]
)
def test_what_others_write_is_nothing(text: str) -> None:
    assert amounts.read(text) is None
