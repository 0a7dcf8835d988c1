"""VirtualMachine: a KubeVirt VM and its disks, as declared.

``observe`` gathers what the plan may look at, ``plan`` lists the phases; the other modules are what the phases decide
with, each about one thing. ``kubevirt_vm`` and ``data_volumes`` build manifests and decide nothing.
"""

from vdcos.services.virtualmachine.service import VirtualMachineService

__all__ = ["VirtualMachineService"]
