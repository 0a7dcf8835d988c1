"""Third parties' providers, found once when the operator starts."""

import importlib.metadata
from collections.abc import Callable, Mapping
from typing import Any

from vdcos.providers import networks, placement
from vdcos.providers.fencing import contract as fencing


def discover_networks() -> Mapping[str, networks.NetworkProvider]:
    """The installed network providers by name; a broken one says why on every Network that names it."""
    return _discover(networks.ENTRY_POINTS, networks.Broken, "wire")


def discover_power_switches() -> Mapping[str, fencing.PowerSwitch]:
    """The installed power switches by name; a broken one says why whenever it is asked."""
    return _discover(fencing.ENTRY_POINTS, fencing.Broken, "power", "power_off")


def discover_scorers() -> Mapping[str, placement.Scorer]:
    """The installed placement scorers by name; instead of a broken one the default is used, and the result says why."""
    return _discover(placement.ENTRY_POINTS, placement.Broken, "score")


def _discover(group: str, broken: Callable[[str], Any], *methods: str) -> Mapping[str, Any]:
    """The providers of a group of entry points, by name.

    Never raises: one that cannot be loaded, or shares its name with another, is there as ``broken``, which is told why.
    An entry point is a provider, or a class without arguments that makes one.
    """
    found: dict[str, Any] = {}
    for entry in importlib.metadata.entry_points(group=group):
        origin = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.value
        if entry.name in found:
            found[entry.name] = broken(f"two installed distributions announce it; remove one ({origin} is the second)")
            continue
        found[entry.name] = _load(entry, origin, broken, methods)
    return found


def _load(
    entry: importlib.metadata.EntryPoint, origin: str, broken: Callable[[str], Any], methods: tuple[str, ...]
) -> Any:
    try:
        loaded = entry.load()
        provider = loaded() if isinstance(loaded, type) else loaded
    except Exception as error:  # noqa: BLE001  somebody else's module: it must not keep the operator from starting
        return broken(f"{origin} cannot be loaded ({type(error).__name__}: {error}); reinstall or update it")
    for method in methods:
        if not callable(getattr(provider, method, None)):
            return broken(f"{entry.value} of {origin} has no method {method}; see docs/providers.md")
    return provider
