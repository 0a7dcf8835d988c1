"""A model of KubeVirt hosts: kubelet, virt-handler, guests and CSI driver, as one pure function of state and event.

`step` is the whole interface: it takes a host, what happens to it and when, and gives back the host as it is then, with
what the host writes to the API server, the timers it sets, what it tells other hosts, and what goes into the ledger of
VM processes. The devcluster drives it against a real API server in real time, simulations against a model of one in
virtual time.
"""

from vdcos.testing.hypervisor.ledger import Interval, intervals, overlaps
from vdcos.testing.hypervisor.life import step

__all__ = ["Interval", "intervals", "overlaps", "step"]
