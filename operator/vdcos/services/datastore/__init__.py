"""Datastores: where disks live, for whom, and how full they may get."""

from vdcos.services.datastore.service import DatastoreService

__all__ = ["DatastoreService"]
