"""The life of VMs on hosts, in a toy cluster and virtual time."""

import pytest

from tests.unit.hypervisor.toy import POD, VMI, Toy
from vdcos.testing.hypervisor import intervals
from vdcos.testing.hypervisor.values import (
    ClearFault,
    Command,
    Control,
    Fault,
    Hang,
    Partition,
    PowerOff,
    Recover,
    SetFault,
    Verb,
)


@pytest.fixture
def toy() -> Toy:
    return Toy()


def running(toy: Toy, name: str = "a") -> str:
    """A VM that runs; returns its host."""
    toy.create_vm(name)
    toy.advance(20)
    assert toy.phase(name) == "Running"
    (host,) = toy.active(name)
    return host


def other(toy: Toy, host: str) -> str:
    return next(name for name in toy.hosts if name != host)


def test_a_vm_starts_and_is_ready_with_its_agent(toy: Toy) -> None:
    host = running(toy)
    vmi = toy.get(VMI, "a")
    assert vmi is not None
    conditions = {c["type"]: c["status"] for c in vmi["status"]["conditions"]}
    assert conditions == {"LiveMigratable": "True", "StorageLiveMigratable": "True", "AgentConnected": "True"}
    assert vmi["status"]["nodeName"] == host
    assert vmi["status"]["volumeStatus"][0]["target"] == "vda"
    assert vmi["status"]["interfaces"][0]["infoSource"] == "domain, guest-agent"
    (pod,) = toy.launchers("a")
    assert {c["type"]: c["status"] for c in pod["status"]["conditions"]}["Ready"] == "True"
    assert "@sha256:" in pod["status"]["containerStatuses"][0]["imageID"]


def test_conditions_that_never_changed_carry_the_nulls_that_go_would_write(toy: Toy) -> None:
    running(toy)
    vmi = toy.get(VMI, "a")
    assert vmi is not None
    condition = next(c for c in vmi["status"]["conditions"] if c["type"] == "LiveMigratable")
    assert condition["lastProbeTime"] is None
    assert condition["lastTransitionTime"] is None


def test_at_rest_a_host_writes_nothing_but_its_heartbeats(toy: Toy) -> None:
    running(toy)
    toy.advance(60)
    toy.writes.clear()
    toy.advance(600)
    assert {w.ref.resource for _, _, w in toy.writes} == {"leases", "nodes"}


def test_a_stop_tells_the_vmis_end_before_the_pods(toy: Toy) -> None:
    running(toy)
    toy.writes.clear()
    toy.halt("a")
    toy.advance(30)
    assert toy.of(POD) == toy.of(VMI) == []
    assert toy.active("a") == []
    told = [w for _, _, w in toy.writes if w.ref.resource in (POD, VMI)]
    assert [(w.ref.resource, w.verb) for w in told] == [
        (VMI, Verb.JSON_PATCH),
        (POD, Verb.STRATEGIC_PATCH),
        (POD, Verb.DELETE),
    ]
    assert {"op": "add", "path": "/status/phase", "value": "Succeeded"} in told[0].body
    assert told[1].body["status"]["phase"] == "Succeeded"


def test_a_guest_that_ignores_its_power_button_is_killed_and_counts_as_failed(toy: Toy) -> None:
    host = running(toy)
    toy.tell(host, SetFault(Fault.IGNORE_ACPI, "default/a"))
    toy.halt("a")
    toy.advance(29)
    assert toy.active("a") == [host]
    toy.advance(2)
    assert toy.active("a") == []
    assert toy.phase("a") == "Failed"


def test_a_crash_fails_the_vmi_and_the_pod(toy: Toy) -> None:
    host = running(toy)
    vmi = toy.get(VMI, "a")
    assert vmi is not None
    toy.tell(host, Control(Command.CRASH, vmi["metadata"]["uid"]))
    toy.advance(0.02)
    assert toy.phase("a") == "Failed"
    toy.advance(30)
    assert toy.phase("a") == "Running", "runStrategy Always"
    assert [i.why for i in intervals(toy.entries)] == ["guest crashed", ""]


def test_pause_closes_and_opens_the_vm(toy: Toy) -> None:
    host = running(toy)
    uid = next(iter(toy.of(VMI)))["metadata"]["uid"]
    toy.tell(host, Control(Command.PAUSE, uid))
    toy.advance(1)
    paused = next(c for c in toy.of(VMI)[0]["status"]["conditions"] if c["type"] == "Paused")
    assert (paused["reason"], paused["message"]) == ("PausedByUser", "VMI was paused by user")
    assert toy.phase("a") == "Running", "the phase does not know of pauses"
    assert toy.active("a") == [host], "a paused VM holds its disks"
    toy.tell(host, Control(Command.UNPAUSE, uid))
    toy.advance(1)
    assert not any(c["type"] == "Paused" for c in toy.of(VMI)[0]["status"]["conditions"])


def pauses(toy: Toy) -> list[str]:
    return [c["reason"] for c in toy.of(VMI)[0]["status"]["conditions"] if c["type"] == "Paused"]


@pytest.mark.parametrize(("fault", "vm"), [(Fault.FULL_DISK, "default/a"), (Fault.NO_STORAGE, "")])
def test_disks_that_fail_pause_with_the_reason_of_io_errors(toy: Toy, fault: Fault, vm: str) -> None:
    host = running(toy)
    toy.tell(host, SetFault(fault, vm))
    toy.advance(1)
    assert pauses(toy) == ["PausedIOError"]
    assert toy.active("a") == [host], "it holds its disks"
    toy.tell(host, ClearFault(fault, vm))
    toy.advance(1)
    assert pauses(toy) == []


def test_without_storage_a_vm_that_starts_is_paused(toy: Toy) -> None:
    for host in toy.hosts:
        toy.tell(host, SetFault(Fault.NO_STORAGE))
    running(toy)
    assert pauses(toy) == ["PausedIOError"]


def test_the_agent_comes_and_goes(toy: Toy) -> None:
    host = running(toy)
    toy.tell(host, SetFault(Fault.AGENT_OFF, "default/a"))
    toy.advance(1)
    assert not any(c["type"] == "AgentConnected" for c in toy.of(VMI)[0]["status"]["conditions"])
    assert toy.of(VMI)[0]["status"]["interfaces"][0]["infoSource"] == "domain"
    toy.tell(host, ClearFault(Fault.AGENT_OFF, "default/a"))
    toy.advance(1)
    assert any(c["type"] == "AgentConnected" for c in toy.of(VMI)[0]["status"]["conditions"])


def test_a_volume_is_plugged_in_and_out_in_steps_and_the_ledger_knows_when(toy: Toy) -> None:
    running(toy)
    vmi = toy.of(VMI)[0]
    vmi["spec"]["volumes"].append(
        {"name": "data", "persistentVolumeClaim": {"claimName": "more", "hotpluggable": True}}
    )
    vmi["spec"]["domain"]["devices"]["disks"].append({"name": "data", "disk": {"bus": "scsi"}})
    plug = {"name": "data", "phase": "AttachedToNode", "target": "", "hotplugVolume": {"attachPodUID": "hp"}}
    vmi["status"]["volumeStatus"].append(plug | {"persistentVolumeClaimInfo": {"accessModes": ["ReadWriteMany"]}})
    toy.writes.clear()
    toy.put(VMI, vmi)
    toy.advance(5)
    volumes = [op["value"][0] for _, _, w in toy.writes for op in w.body if "volumeStatus" in str(op)]
    told = [v["phase"] for v in volumes if v["name"] == "data"]
    assert list(dict.fromkeys(told)) == ["AttachedToNode", "MountedToPod", "Ready"]
    assert toy.of(VMI)[0]["status"]["volumeStatus"][0]["target"] == "sda"
    assert [sorted(i.disks) for i in toy.history()] == [["disk-a"], ["disk-a", "disk-more"]]

    vmi = toy.of(VMI)[0]
    vmi["spec"]["volumes"].pop()
    vmi["spec"]["domain"]["devices"]["disks"].pop()
    toy.put(VMI, vmi)
    toy.advance(5)
    status = toy.of(VMI)[0]["status"]["volumeStatus"][0]
    assert (status["phase"], status["target"]) == ("UnMountedFromPod", ""), "absent would be refused"
    assert sorted(toy.history()[-1].disks) == ["disk-a"]


def test_a_nic_that_is_added_is_not_there_before_a_migration(toy: Toy) -> None:
    running(toy)
    vmi = toy.of(VMI)[0]
    vmi["spec"]["domain"]["devices"]["interfaces"].append({"name": "lan", "bridge": {}})
    toy.put(VMI, vmi)
    toy.advance(5)
    assert [i["name"] for i in toy.of(VMI)[0]["status"]["interfaces"]] == ["default"]
    toy.migrate("a")
    toy.advance(30)
    assert [i["name"] for i in toy.of(VMI)[0]["status"]["interfaces"]] == ["default", "lan"]


def test_a_slow_start_only_delays_the_boot(toy: Toy) -> None:
    for host in toy.hosts:
        toy.tell(host, SetFault(Fault.SLOW_START, "", 60))
    toy.create_vm("a")
    toy.advance(50)
    assert toy.phase("a") == "Scheduled"
    toy.advance(20)
    assert toy.phase("a") == "Running"


# --- live migration ---------------------------------------------------------------------------------------------------


def test_a_migration_moves_the_vm_without_a_gap_or_an_overlap(toy: Toy) -> None:
    source = running(toy)
    toy.migrate("a")
    toy.advance(30)
    (target,) = toy.active("a")
    assert target != source
    first, second = intervals(toy.entries)
    assert (first.host, second.host) == (source, target)
    assert first.end == second.start
    vmi = toy.get(VMI, "a")
    assert vmi is not None
    state = vmi["status"]["migrationState"]
    assert state["completed"] is True
    assert state["mode"] == "PreCopy"
    assert vmi["status"]["nodeName"] == target
    assert "kubevirt.io/migrationTargetNodeName" not in vmi["metadata"]["labels"]
    phases = {p["spec"]["nodeName"]: p["status"]["phase"] for p in toy.launchers("a")}
    assert phases == {source: "Succeeded", target: "Running"}


def test_a_migration_completes_what_was_added_while_the_vm_ran(toy: Toy) -> None:
    running(toy)
    vmi = toy.get(VMI, "a")
    assert vmi is not None
    vmi["spec"]["domain"]["cpu"] = {"sockets": 2, "cores": 1, "threads": 1}
    vmi["spec"]["domain"]["memory"] = {"guest": "2Gi"}
    vmi["status"]["memory"] = {"guestAtBoot": "1Gi", "guestCurrent": "1Gi", "guestRequested": "1Gi"}
    vmi["status"]["conditions"] += [
        {"type": "HotVCPUChange", "status": "True"},
        {"type": "HotMemoryChange", "status": "True"},
    ]
    toy.put(VMI, vmi)
    toy.advance(5)
    assert toy.of(VMI)[0]["status"]["memory"]["guestCurrent"] == "1Gi", "only a migration brings memory in"
    toy.migrate("a")
    toy.advance(30)
    status = toy.of(VMI)[0]["status"]
    assert status["currentCPUTopology"] == {"sockets": 2, "cores": 1, "threads": 1}
    assert status["memory"] == {"guestAtBoot": "1Gi", "guestCurrent": "2Gi", "guestRequested": "2Gi"}
    assert not {"HotVCPUChange", "HotMemoryChange"} & {c["type"] for c in status["conditions"]}


def test_a_failing_migration_leaves_the_vm_where_it_is(toy: Toy) -> None:
    source = running(toy)
    toy.tell(source, SetFault(Fault.FAIL_MIGRATION, "default/a"))
    toy.migrate("a")
    toy.advance(30)
    assert toy.active("a") == [source]
    state = toy.of(VMI)[0]["status"]["migrationState"]
    assert state["failed"] is True
    assert "MigrateToURI3" in state["failureReason"]
    assert [p["status"]["phase"] for p in toy.launchers("a") if p["spec"]["nodeName"] != source] == ["Succeeded"]


def test_a_stalled_migration_goes_on_when_it_may(toy: Toy) -> None:
    source = running(toy)
    toy.tell(source, SetFault(Fault.STALL_MIGRATION, "default/a"))
    toy.migrate("a")
    toy.advance(300)
    assert toy.active("a") == [source]
    toy.tell(source, ClearFault(Fault.STALL_MIGRATION, "default/a"))
    toy.advance(30)
    assert toy.active("a") == [other(toy, source)]


def test_an_aborted_migration_says_so(toy: Toy) -> None:
    source = running(toy)
    toy.tell(source, SetFault(Fault.STALL_MIGRATION, "default/a"))
    toy.migrate("a")
    toy.advance(10)
    vmi = toy.of(VMI)[0]
    vmi["status"]["migrationState"]["abortRequested"] = True
    toy.put(VMI, vmi)
    toy.advance(10)
    state = toy.of(VMI)[0]["status"]["migrationState"]
    assert (state["abortStatus"], state["failed"]) == ("Succeeded", True)
    assert toy.active("a") == [source]


@pytest.mark.parametrize("seconds", [2.2, 2.6, 3.0, 3.4, 3.8, 4.2, 4.6])
@pytest.mark.parametrize("end", ["source", "target"])
def test_power_lost_at_either_end_of_a_migration_never_makes_two(toy: Toy, end: str, seconds: float) -> None:
    source = running(toy)
    toy.migrate("a")
    toy.advance(seconds)
    toy.tell(source if end == "source" else other(toy, source), PowerOff())
    toy.advance(60)
    assert toy.overlaps() == []
    assert len(toy.active("a")) <= 1
    if end == "target" and toy.active("a"):
        assert toy.active("a") == [source]


# --- hosts that fail --------------------------------------------------------------------------------------------------


def test_power_off_ends_processes_but_not_objects(toy: Toy) -> None:
    host = running(toy)
    toy.writes.clear()
    toy.tell(host, PowerOff())
    toy.advance(100)
    assert toy.active("a") == []
    assert toy.phase("a") == "Running", "nobody has told the API server"
    assert not [name for _, name, _ in toy.writes if name == host]


def test_a_host_that_comes_back_reports_its_dead_vm_and_another_boot(toy: Toy) -> None:
    host = running(toy)
    toy.tell(host, PowerOff())
    toy.tell(host, Recover())
    toy.advance(100)
    assert toy.hosts[host].boots == 2
    assert [i.why for i in intervals(toy.entries)] == ["power off", ""], "started again by runStrategy Always"
    assert toy.overlaps() == []


def test_a_partitioned_host_runs_on_and_the_ledger_shows_two_when_the_api_was_told_to_start_another(toy: Toy) -> None:
    host = running(toy)
    toy.tell(host, Partition())
    toy.advance(100)
    assert toy.active("a") == [host]
    assert toy.overlaps() == []
    toy.force_delete_pods("a")
    toy.advance(60)
    assert sorted(toy.active("a")) == sorted({host, *toy.active("a")})
    assert len(toy.active("a")) == 2
    (overlap,) = toy.overlaps()
    assert overlap.disk == "disk-a"
    assert {overlap.first.host, overlap.second.host} == set(toy.active("a"))
    toy.tell(host, Recover())
    toy.advance(5)
    assert len(toy.active("a")) == 1, "the host has heard that its pod is gone"
    assert len(toy.overlaps()) == 1, "what happened stays in the ledger"


def test_a_hung_host_may_come_back_so_its_vm_still_counts(toy: Toy) -> None:
    host = running(toy)
    toy.tell(host, Hang())
    toy.force_delete_pods("a")
    toy.advance(60)
    assert len(toy.overlaps()) == 1


def test_a_hang_stops_the_clock_of_what_happens_on_the_host(toy: Toy) -> None:
    toy.create_vm("a")
    toy.advance(2.5)
    host = toy.of(POD)[0]["spec"]["nodeName"]
    toy.tell(host, Hang())
    toy.advance(100)
    assert toy.phase("a") != "Running"
    toy.tell(host, Recover())
    toy.advance(20)
    assert toy.phase("a") == "Running"


def test_what_a_partition_hid_is_told_after_it(toy: Toy) -> None:
    host = running(toy)
    uid = toy.of(VMI)[0]["metadata"]["uid"]
    toy.tell(host, Partition())
    toy.tell(host, Control(Command.SHUTDOWN, uid))
    toy.advance(60)
    assert toy.phase("a") == "Running"
    toy.writes.clear()
    toy.tell(host, Recover())
    toy.advance(1)
    told = [op for _, _, w in toy.writes if w.ref.resource == VMI for op in w.body]
    assert {"op": "add", "path": "/status/phase", "value": "Succeeded"} in told
