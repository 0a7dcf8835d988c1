"""The arithmetic of power cuts."""

from tests.bench.ha import Outage, results


def outage(who: str, cut: float, *, declared: float = 0.0, proved: float = 0.0, released: float = 0.0) -> Outage:
    """Two VMs: their new instances come 2 and 4 s after the release, and run 1 s later."""
    found = Outage(who, 2, frozenset(), cut, declared, proved, released)
    began = released or cut
    found.made = {"vm-0": began + 2, "vm-1": began + 4}
    found.up = {"vm-0": began + 3, "vm-1": began + 5}
    return found


OURS = outage("vdcos", 100, declared=116, proved=118, released=119)
BY_HAND = outage("pods deleted by hand", 200, released=201)
TUNED = outage("vdcos, tuned", 300, declared=306, proved=309, released=310)


def test_the_stages_add_up_to_the_total() -> None:
    stages = OURS.stages()
    assert [stages[stage] for stage in ("detect", "fence", "release", "create", "boot")] == [16, 2, 1, 4, 1]
    assert stages["total"] == 24
    by_hand = BY_HAND.stages()
    assert [by_hand.get(stage) for stage in ("detect", "fence", "release", "create", "boot")] == [None, None, 1, 4, 1]


def test_what_did_not_happen_is_no_figure() -> None:
    waits = Outage("nobody does anything", 3, frozenset(), 100)
    waits.up = {"vm-0": 110}
    assert waits.stages() == {"who": "nobody does anything", "vms": 3, "running": "1 after 120 s, then cut off"}


def test_the_slowest_detection_counts_and_the_largest_number_of_vms() -> None:
    quicker = outage("vdcos", 400, declared=412, proved=413, released=413)
    found = results([OURS, quicker, BY_HAND, TUNED])
    assert found == {
        "ha_detect_s": 16,
        "ha_detect_tuned_s": 6,
        "ha_fence_s": 3,
        "ha_release_100_s": 0,
        "ha_last_vmi_ratio": 0.8,
        "ha_total_minus_boot_s": 12,
    }
