"""VMware's Virtual Datacenter OS as Kubernetes custom resources, converged onto KubeVirt."""
