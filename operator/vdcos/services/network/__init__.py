"""Networks: port groups that reach every namespace whose VMs use them."""

from vdcos.services.network.service import NetworkService

__all__ = ["NetworkService"]
