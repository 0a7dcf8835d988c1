"""Simulated hosts: the pure model of `vdcos.testing.hypervisor`, driven against a real API server in real time."""
