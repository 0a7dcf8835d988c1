"""The allow-list of overrides lets nothing through that runs code, moves the VM or is ours."""

import re

import pytest

from vdcos.api import overrides

BELOW = overrides.PREFIX


@pytest.mark.parametrize(
    "path",
    [
        f"{BELOW}/domain/devices/rng",
        f"{BELOW}/domain/devices/watchdog/i6300esb/action",
        f"{BELOW}/domain/features/hyperv/relaxed/enabled",
        f"{BELOW}/domain/devices/disks/boot/cache",
        f"{BELOW}/domain/devices/disks/data-2/blockSize/custom/logical",
        f"{BELOW}/domain/devices/interfaces/eth0/acpiIndex",
        f"{BELOW}/domain/cpu/features/0",
        f"{BELOW}/terminationGracePeriodSeconds",
    ],
)
def test_allowed(path: str) -> None:
    assert overrides.is_allowed(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/metadata/annotations",
        "/metadata/ownerReferences",
        "/spec/runStrategy",
        "/spec/template/metadata/annotations/hooks.kubevirt.io~1hookSidecars",
        BELOW,
        f"{BELOW}/",
        f"{BELOW}/volumes",
        f"{BELOW}/nodeSelector",
        f"{BELOW}/affinity",
        f"{BELOW}/priorityClassName",
        f"{BELOW}/evictionStrategy",
        f"{BELOW}/schedulerName",
        f"{BELOW}/accessCredentials",
        f"{BELOW}/domain",
        f"{BELOW}/domain/devices",
        f"{BELOW}/domain/devices/disks",
        f"{BELOW}/domain/devices/disks/boot",
        f"{BELOW}/domain/devices/disks/boot/name",
        f"{BELOW}/domain/devices/disks/boot/lun",
        f"{BELOW}/domain/devices/interfaces/eth0/macAddress",
        f"{BELOW}/domain/devices/interfaces/eth0/binding",
        f"{BELOW}/domain/devices/hostDevices",
        f"{BELOW}/domain/devices/gpus",
        f"{BELOW}/domain/devices/filesystems",
        f"{BELOW}/domain/firmware/kernelBoot",
        f"{BELOW}/domain/memory/guest",
        f"{BELOW}/domain/cpu/sockets",
        f"{BELOW}/domain/devices/rng/../hostDevices",
        f"{BELOW}/domain/devices/rng\n",
        f"x{BELOW}/domain/devices/rng",
    ],
)
def test_refused(path: str) -> None:
    assert not overrides.is_allowed(path)


def test_every_entry_says_why_and_stands_alone() -> None:
    patterns = [allowed.pattern for allowed in overrides.ALLOWED]
    assert len(set(patterns)) == len(patterns)
    for allowed in overrides.ALLOWED:
        assert re.compile(allowed.pattern)
        assert allowed.why.endswith(".")
