"""Our own kinds as API resources."""

from vdcos.core.objects import Resource

VIRTUAL_MACHINE = Resource("vdcos.dev", "v1alpha1", "virtualmachines", "VirtualMachine")
NETWORK = Resource("vdcos.dev", "v1alpha1", "networks", "Network", namespaced=False)
DATASTORE = Resource("vdcos.dev", "v1alpha1", "datastores", "Datastore", namespaced=False)
HOST = Resource("vdcos.dev", "v1alpha1", "hosts", "Host", namespaced=False)
HA_POLICY = Resource("vdcos.dev", "v1alpha1", "hapolicies", "HAPolicy", namespaced=False)
HOST_FAILURE = Resource("vdcos.dev", "v1alpha1", "hostfailures", "HostFailure", namespaced=False)
