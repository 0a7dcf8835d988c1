"""All vServices of the operator: one list for the runtime and for everything that is generated from declarations."""

from typing import Any

from vdcos.core.service import Service
from vdcos.providers import networks
from vdcos.services import datastore, network, virtualmachine


def services(providers: networks.Providers) -> tuple[Service[Any, Any], ...]:
    """``providers`` are third parties' virtual switches by name; the built-in ones are always there."""
    return (
        virtualmachine.VirtualMachineService(providers),
        network.NetworkService(providers),
        datastore.DatastoreService(),
    )
