"""What a host tells of itself."""

from dataclasses import replace

import pytest

from vdcos.testing.hypervisor import node
from vdcos.testing.hypervisor.values import Host, Timings

HOST = Host("host-1", 1)


def test_a_node_says_where_its_kubelet_listens() -> None:
    status = node.status(HOST, 0.0).body["status"]
    assert status["addresses"][0] == {"type": "InternalIP", "address": "10.77.0.2"}
    assert status["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 10250}}
    status = node.status(replace(HOST, address="127.0.0.1", kubelet_port=4711), 0.0).body["status"]
    assert status["addresses"][0] == {"type": "InternalIP", "address": "127.0.0.1"}
    assert status["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 4711}}


@pytest.mark.parametrize(("renewed", "ends"), [(10.0, 40), (3.0, 12)])
def test_a_lease_is_renewed_four_times_before_it_ends(renewed: float, ends: int) -> None:
    host = replace(HOST, timings=replace(Timings(), lease=renewed))
    assert node.lease(host, 0.0).body["spec"]["leaseDurationSeconds"] == ends
