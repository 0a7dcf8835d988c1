"""A virtual datacenter on one machine: a real Kubernetes, KubeVirt and CDI control plane, and simulated hosts.

``python -m devcluster up`` starts it, :class:`devcluster.cluster.Cluster` is its library, README.md tells the rest.
"""
