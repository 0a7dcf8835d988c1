"""HA policies: which hosts are watched, and which of them have failed."""

from vdcos.services.hapolicy.service import HAPolicyService

__all__ = ["HAPolicyService"]
