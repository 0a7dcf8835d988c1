"""Third parties' providers, found once when the operator starts; what they are asked later stays in pure plans."""

import importlib.metadata
from collections.abc import Mapping

from vdcos.providers import networks


def discover_networks() -> Mapping[str, networks.NetworkProvider]:
    """The installed network providers by name, from the entry point group ``vdcos.network_providers``.

    Never raises: one that cannot be loaded, or shares its name with another, is there as ``Broken``, which says why on
    every Network that names it. An entry point is a provider, or a class without arguments that makes one.
    """
    found: dict[str, networks.NetworkProvider] = {}
    for entry in importlib.metadata.entry_points(group=networks.ENTRY_POINTS):
        origin = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.value
        if entry.name in found:
            found[entry.name] = networks.Broken(
                f"two installed distributions announce it; remove one ({origin} is the second)"
            )
            continue
        found[entry.name] = _load(entry, origin)
    return found


def _load(entry: importlib.metadata.EntryPoint, origin: str) -> networks.NetworkProvider:
    try:
        loaded = entry.load()
        provider: networks.NetworkProvider = loaded() if isinstance(loaded, type) else loaded
    except Exception as error:  # noqa: BLE001  somebody else's module: it must not keep the operator from starting
        return networks.Broken(f"{origin} cannot be loaded ({type(error).__name__}: {error}); reinstall or update it")
    if not callable(getattr(provider, "wire", None)):
        return networks.Broken(f"{entry.value} of {origin} has no method wire(request); see docs/providers.md")
    return provider
