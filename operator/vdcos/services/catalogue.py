"""All vServices of the operator: one list for the runtime and for everything that is generated from declarations."""

from collections.abc import Iterable
from typing import Any

from vdcos.core.objects import Index, Object, Resource, Without
from vdcos.core.service import Service, derives
from vdcos.providers import networks
from vdcos.services import datastore, hapolicy, host, hostfailure, network, virtualmachine


def services(providers: networks.Providers) -> tuple[Service[Any, Any], ...]:
    """``providers`` are third parties' virtual switches by name; the built-in ones are always there."""
    return (
        virtualmachine.VirtualMachineService(providers),
        network.NetworkService(providers),
        datastore.DatastoreService(),
        host.HostService(),
        hapolicy.HAPolicyService(),
        hostfailure.HostFailureService(),
    )


def kinds(served: Iterable[Service[Any, Any]]) -> dict[type[Any], Resource]:
    """Every kind that services own or watch, with the resource it is read from."""
    own = {service.kind: service.resource for service in served}
    watched = [watch.kind for service in served for watch in service.watches]
    return {**own, **{kind: kind.resource for kind in watched if kind not in own and issubclass(kind, Object)}}


def indexes(served: Iterable[Service[Any, Any]]) -> list[Index[Any] | Without]:
    """Every index that services declare, or that what they derive is made from, each once."""
    served = tuple(served)
    derived = (index for service in served for view in derives(service) for index in view.indexes)
    return list(dict.fromkeys([*(index for service in served for index in service.indexes), *derived]))


def dated(served: Iterable[Service[Any, Any]]) -> set[type[Any]]:
    """Every kind of which a service asks when its objects changed."""
    return {watch.kind for service in served for watch in service.watches if watch.dated}
