"""Label selectors over many objects at once: an index instead of a comparison of every selector with every object."""

from collections.abc import Iterable, Mapping, Sequence

from vdcos.core.tenancy import holds
from vdcos.providers.placement.model import Selector


def matches(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Whether a selector selects an object with these labels."""
    return all(holds(requirement, labels) for requirement in selector)


class Index:
    """Objects by their labels, for the label keys that selectors name. Objects are numbers: places in a sequence."""

    def __init__(self, objects: Sequence[Mapping[str, str]], keys: Iterable[str]) -> None:
        self._all = frozenset(range(len(objects)))
        self._by_key: dict[str, dict[str, set[int]]] = {key: {} for key in keys}
        for key, by_value in self._by_key.items():
            for number, labels in enumerate(objects):
                if (value := labels.get(key)) is not None:
                    by_value.setdefault(value, set()).add(number)
        self._selected: dict[Selector, frozenset[int]] = {}

    def values(self, key: str) -> Mapping[str, set[int]]:
        """The objects by their value of one label."""
        return self._by_key[key]

    def select(self, selector: Selector) -> frozenset[int]:
        """The objects that a selector selects; it may name only keys that were announced."""
        found = self._selected.get(selector)
        if found is None:
            found = self._selected[selector] = self._select(selector)
        return found

    def _select(self, selector: Selector) -> frozenset[int]:
        # What narrows comes first: a group of four is then never compared with everybody else.
        found: frozenset[int] | set[int] = self._all
        for requirement in sorted(selector, key=lambda each: each.operator in ("NotIn", "DoesNotExist")):
            by_value = self._by_key[requirement.key]
            match requirement.operator:
                case "In":
                    found = _any(found, [by_value.get(value, set()) for value in requirement.values])
                case "Exists":
                    found = _any(found, list(by_value.values()))
                case "NotIn":
                    for value in requirement.values:
                        found = found - by_value.get(value, set())
                case "DoesNotExist":
                    found = found.difference(*by_value.values())
        return frozenset(found)


def _any(found: frozenset[int] | set[int], groups: list[set[int]]) -> frozenset[int] | set[int]:
    if len(groups) == 1:
        return found & groups[0]
    return found & set().union(*groups)
