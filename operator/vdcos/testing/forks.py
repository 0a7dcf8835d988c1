"""How worlds fork: a part is copied with all that it has, and then what may change in it is copied as well.

So a part that gets another attribute is forked with it; ``tests/simulation/test_forks.py`` finds one that both would
change.
"""

from typing import TypeVar

T = TypeVar("T")


def twin(thing: T) -> T:
    """A shallow copy, made the fastest way: there are hundreds of thousands of forks."""
    copied = object.__new__(type(thing))
    copied.__dict__.update(thing.__dict__)
    return copied
