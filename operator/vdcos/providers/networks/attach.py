"""From a Network to what its children say, through its provider, whose answers are checked and never trusted."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vdcos import api
from vdcos.core.errors import place
from vdcos.core.objects import Key
from vdcos.providers.networks import builtin
from vdcos.providers.networks.contract import CONTRACT, ENTRY_POINTS, NetworkProvider, Refused, Request, Wiring

Providers = Mapping[str, NetworkProvider]
"""Third parties' providers by name, as discovered when the operator started. Built-in ones need not be named."""

CNI_VERSION = "0.3.1"
"""Written where a provider names none: the oldest version with plugin lists, which every plugin in use understands."""

# A configuration is a few hundred bytes; the bound keeps a provider from filling etcd in every namespace.
CONFIG_LIMIT = 16384

_RESOURCE = re.compile(r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")


@dataclass(frozen=True, slots=True)
class Attachment:
    """What a KubeVirt VM says to be on a network."""

    binding: Mapping[str, Any]
    """Fields of ``domain.devices.interfaces[]`` that join guest and pod interface, such as ``{"bridge": {}}``."""
    source: Mapping[str, Any]
    """Fields of ``networks[]``: ``{"pod": {}}`` or ``{"multus": {"networkName": "namespace/name"}}``."""
    definition: Key | None
    """The NetworkAttachmentDefinition that must exist before a pod can start; None on the pod network."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What a NetworkAttachmentDefinition holds."""

    key: Key
    config: str
    """CNI configuration as JSON with sorted keys: equal text means equal configuration."""
    resource: str
    """Node resource that each NIC takes one of, or ""."""
    resource_if_offered: bool
    """Leave the resource out while no node offers any of its domain."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there is no answer, for a condition."""

    reason: str
    message: str


def provider_name(network: api.Network) -> str:
    """The name of the provider that realises a network."""
    plugin = network.spec.plugin
    return plugin.provider if plugin is not None else network.spec.choice


def attachment(network: api.Network, namespace: str, providers: Providers) -> Attachment | Problem:
    """How a VM of ``namespace`` refers to ``network``. Pure; never raises."""
    wiring = _wiring(network, namespace, providers)
    if isinstance(wiring, Problem):
        return wiring
    if wiring.config is None:
        return Attachment(wiring.binding, {"pod": {}}, None)
    key = Key(namespace, network.metadata.name)
    return Attachment(wiring.binding, {"multus": {"networkName": str(key)}}, key)


def definition(network: api.Network, namespace: str, providers: Providers) -> Definition | Problem | None:
    """What the network's definition in ``namespace`` holds; None when it needs none. Pure; never raises."""
    wiring = _wiring(network, namespace, providers)
    if isinstance(wiring, Problem):
        return wiring
    if wiring.config is None:
        return None
    config = {"cniVersion": CNI_VERSION, "name": network.metadata.name, **wiring.config}
    return Definition(Key(namespace, network.metadata.name), _text(config), wiring.resource, wiring.resource_if_offered)


def _wiring(network: api.Network, namespace: str, providers: Providers) -> Wiring | Problem:
    name, plugin = provider_name(network), network.spec.plugin
    if plugin is None:
        provider: NetworkProvider | None = builtin.BUILTIN[name]
        parameters = getattr(network.spec, name).manifest()
    else:
        provider = providers.get(name)
        parameters = dict(plugin.parameters)
    if provider is None:
        return Problem("ProviderMissing", _missing(name, providers))
    request = Request(network.metadata.name, namespace, parameters, network.spec.mtu)
    try:
        contract = getattr(provider, "contract", None)
        if contract != CONTRACT:
            return Problem(
                "ProviderIncompatible",
                f"provider {name} speaks version {contract!r} of the contract, this operator version {CONTRACT}: "
                "install matching versions",
            )
        answer = provider.wire(request)
        wrong = _wrong(answer, request)
    except Refused as refusal:
        return Problem("ProviderRefused", f"provider {name}: {refusal}")
    except Exception as error:  # noqa: BLE001  somebody else's code: whatever it does must stay its network's problem
        return Problem("ProviderFailed", f"provider {name} failed with {place(error)}; report it to its author")
    if wrong:
        return Problem("ProviderAnswerInvalid", f"provider {name} answered nonsense: {wrong}; report it to its author")
    return answer


def _text(config: Mapping[str, Any]) -> str:
    """Raises TypeError and ValueError for what is not JSON."""
    return json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _missing(name: str, providers: Providers) -> str:
    if name in builtin.BUILTIN:
        return f"{name} is built in: set spec.{name} instead of spec.plugin"
    installed = ", ".join(sorted(providers)) or "none"
    return (
        f"provider {name} is not installed (third-party providers here: {installed}): install a distribution that "
        f"announces it in the entry point group {ENTRY_POINTS}, and restart the operator"
    )


def _wrong(answer: object, request: Request) -> str:
    """What is wrong with an answer, or "". It may configure the definition that was asked for and nothing else."""
    if not isinstance(answer, Wiring):
        return f"a {type(answer).__name__} instead of a Wiring"
    return _wrong_binding(answer) or _wrong_config(answer.config, request) or _wrong_resource(answer)


def _wrong_binding(answer: Wiring) -> str:
    binding = answer.binding
    if not isinstance(binding, Mapping) or len(binding) != 1:
        return "binding must have exactly one key"
    [(kind, details)] = binding.items()
    allowed = ("bridge", "sriov", "binding") if answer.config is not None else ("masquerade", "passtBinding", "binding")
    if kind not in allowed:
        place = "with" if answer.config is not None else "without"
        return f"binding {kind!r} is not possible {place} a CNI configuration (possible: {', '.join(allowed)})"
    if kind == "binding":
        plugin = details.get("name") if isinstance(details, Mapping) and len(details) == 1 else None
        named = isinstance(plugin, str) and plugin
        return "" if named else 'binding must be {"binding": {"name": <a binding plugin>}}'
    return "" if details == {} else f"binding {kind!r} takes no details"


def _wrong_config(config: object, request: Request) -> str:
    if config is None:
        return ""
    if not isinstance(config, Mapping):
        return "config must be an object"
    chain = config.get("plugins", [config])
    if not isinstance(chain, list) or not chain or not all(isinstance(plugin, Mapping) for plugin in chain):
        return "config.plugins must be a list of objects"
    if not all(isinstance(plugin.get("type"), str) and plugin["type"] for plugin in chain):
        return "every CNI plugin in config needs a type"
    if not all(isinstance(config.get(field, ""), str) for field in ("name", "cniVersion")):
        return "name and cniVersion in config must be strings"
    for plugin in (config, *chain):
        if plugin.get("netAttachDefName", request.definition) != request.definition:
            return f"netAttachDefName must be {request.definition}, the definition that was asked for"
    try:
        size = len(_text(config))
    except (TypeError, ValueError) as error:
        return f"config is not JSON ({error})"
    return f"config has {size} bytes of at most {CONFIG_LIMIT}" if size > CONFIG_LIMIT else ""


def _wrong_resource(answer: Wiring) -> str:
    resource: object = answer.resource
    if not isinstance(resource, str):
        return "resource must be a string"
    if resource and not _RESOURCE.match(resource):
        return f"resource {resource!r} is not domain/name"
    return "resource needs a CNI configuration" if resource and answer.config is None else ""
