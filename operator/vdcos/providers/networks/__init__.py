"""Virtual switches: how a Network becomes what KubeVirt and Multus understand.

``contract`` is all that the author of a provider needs, ``builtin`` are the providers that come with vdcos, and
``attach`` is what services call: it asks the provider of a network and believes nothing that it has not checked.
"""

from vdcos.providers.networks.attach import (
    Attachment,
    Definition,
    Problem,
    Providers,
    attachment,
    definition,
    provider_name,
)
from vdcos.providers.networks.builtin import BUILTIN
from vdcos.providers.networks.contract import CONTRACT, ENTRY_POINTS, Broken, NetworkProvider, Refused, Request, Wiring

__all__ = [
    "BUILTIN",
    "CONTRACT",
    "ENTRY_POINTS",
    "Attachment",
    "Broken",
    "Definition",
    "NetworkProvider",
    "Problem",
    "Providers",
    "Refused",
    "Request",
    "Wiring",
    "attachment",
    "definition",
    "provider_name",
]
