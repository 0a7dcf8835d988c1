"""Hosts: KubeVirt's nodes as the datacenter sees them."""

from vdcos.services.host.service import HostService

__all__ = ["HostService"]
