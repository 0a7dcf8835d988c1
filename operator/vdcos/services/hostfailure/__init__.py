"""Failures of hosts: fence, release, restart in order, recover."""

from vdcos.services.hostfailure.service import HostFailureService

__all__ = ["HostFailureService"]
