"""VMware's Virtual Datacenter OS as Kubernetes custom resources, converged onto KubeVirt."""

__version__ = "0.1.0"
