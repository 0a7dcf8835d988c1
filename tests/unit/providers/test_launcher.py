"""What launcher pods request, against KubeVirt's own arithmetic and a pod that KubeVirt 1.8.2 made."""

from typing import Any

import pytest

from vdcos.providers.placement import launcher_requests, memory_overhead

MIB = 1 << 20
BASE = 220 + 8 + 8 + 32
"""MiB for the processes, one vCPU, the IO thread and the display."""


def test_a_real_pod_requests_what_is_said() -> None:
    """Its compute container requested 549978113 bytes and 100m; the console log's 35M and 5m."""
    spec = {
        "architecture": "amd64",
        "domain": {
            "cpu": {"cores": 1, "maxSockets": 4, "model": "host-model", "sockets": 1, "threads": 1},
            "devices": {"interfaces": [{"masquerade": {}, "name": "default"}], "logSerialConsole": True},
            "memory": {"guest": "256Mi"},
            "resources": {"requests": {"memory": "256Mi"}},
        },
        "networks": [{"name": "default", "pod": {}}],
    }
    assert launcher_requests(spec, emulation=True) == {
        "cpu": 100 + 5,
        "memory": 549978113 + 35_000_000,
        "devices.kubevirt.io/tun": 1,
    }


@pytest.mark.parametrize(
    "spec, mib",
    [
        ({}, BASE),
        ({"domain": {"cpu": {"sockets": 2, "cores": 4}}}, BASE + 7 * 8),
        ({"domain": {"resources": {"limits": {"cpu": "3"}}}}, BASE + 2 * 8),
        ({"domain": {"devices": {"autoattachGraphicsDevice": False}}}, BASE - 32),
        ({"domain": {"devices": {"gpus": [{"deviceName": "nvidia.com/A100"}]}}}, BASE + 1024),
        ({"domain": {"devices": {"interfaces": [{"sriov": {}}]}}}, BASE + 1024),
        ({"domain": {"devices": {"tpm": {}}}}, BASE + 53),
        ({"domain": {"devices": {"tpm": {"enabled": False}}}}, BASE),
        ({"domain": {"launchSecurity": {"sev": {}}}}, BASE + 256),
        ({"domain": {"cpu": {"dedicatedCpuPlacement": True}}}, BASE + 100),
        ({"domain": {"memory": {"reservedOverhead": {"addedOverhead": "64Mi"}}}}, BASE + 64),
        ({"volumes": [{"downwardMetrics": {}}]}, BASE + 1),
        ({"livenessProbe": {"exec": {}}}, BASE + 110),
        ({"livenessProbe": {"exec": {}}, "readinessProbe": {"exec": {}}}, BASE + 120),
        ({"livenessProbe": {"httpGet": {}}}, BASE),
        (
            {
                "domain": {
                    "resources": {"requests": {"cpu": "1", "memory": "0"}, "limits": {"cpu": "1", "memory": "1Gi"}}
                }
            },
            BASE + 100,
        ),
    ],
)
def test_overhead(spec: dict[str, Any], mib: int) -> None:
    assert memory_overhead(spec) == mib * MIB


def test_overhead_of_page_tables_architecture_and_ratio() -> None:
    assert memory_overhead({"domain": {"resources": {"requests": {"memory": "512000"}}}}) == BASE * MIB + 1000
    assert memory_overhead({}, architecture="arm64") == (BASE + 128) * MIB
    # KubeVirt adds in whole kilobytes: 281018368 is 281019 of them, and a tenth of that is cut to 28101.
    assert memory_overhead({}, ratio="1.1") == BASE * MIB + 28_101_000


@pytest.mark.parametrize(
    "domain, options, wanted",
    [
        (
            {"cpu": {"cores": 3}, "memory": {"guest": "1Gi"}},
            {},
            {"cpu": 305, "memory": (1024 + BASE + 16) * MIB + 35_000_000},
        ),
        ({"cpu": {"cores": 3}}, {"cpu_allocation_ratio": 7}, {"cpu": 429 + 5}),
        ({"memory": {"guest": "1Gi"}}, {"memory_overcommit": 200}, {"memory": (512 + BASE) * MIB + 35_000_000}),
        ({"resources": {"requests": {"cpu": "250m"}}}, {}, {"cpu": 255}),
        ({"resources": {"limits": {"cpu": "2"}}}, {}, {"cpu": 2005}),
        ({"cpu": {"cores": 2, "dedicatedCpuPlacement": True, "isolateEmulatorThread": True}}, {}, {"cpu": 3015}),
        (
            {"memory": {"guest": "1Gi"}, "resources": {"overcommitGuestOverhead": True}},
            {},
            {"memory": 1024 * MIB + 35_000_000},
        ),
        (
            {"memory": {"guest": "1Gi", "hugepages": {"pageSize": "2Mi"}}},
            {},
            {"memory": BASE * MIB + 35_000_000, "hugepages-2Mi": 1024 * MIB},
        ),
        ({"devices": {"logSerialConsole": False}}, {}, {"memory": BASE * MIB, "cpu": 100}),
        (
            {
                "devices": {
                    "gpus": [{"deviceName": "x/gpu"}, {"deviceName": "x/gpu"}],
                    "hostDevices": [{"deviceName": "x/nic"}],
                }
            },
            {},
            {"x/gpu": 2, "x/nic": 1, "devices.kubevirt.io/kvm": 1},
        ),
        (
            {"devices": {"interfaces": [{"model": "e1000e"}]}},
            {},
            {"devices.kubevirt.io/vhost-net": 0, "devices.kubevirt.io/tun": 1},
        ),
        ({}, {}, {"devices.kubevirt.io/vhost-net": 1, "devices.kubevirt.io/kvm": 1}),
        ({"devices": {"autoattachPodInterface": False}}, {}, {"devices.kubevirt.io/tun": 0}),
    ],
)
def test_requests(domain: dict[str, Any], options: dict[str, Any], wanted: dict[str, int]) -> None:
    found = launcher_requests({"domain": domain}, **options)
    assert {name: found.get(name, 0) for name in wanted} == wanted
