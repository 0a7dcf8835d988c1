"""High availability on a real control plane: hosts fail in every way, and their VMs run again, once each.

The drills go on at once; each test is the end of one.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import pytest_asyncio

from devcluster import pki
from devcluster.cluster import Cluster
from devcluster.kube import Api
from tests import bmcs
from tests.devcluster import fleet, replica
from tests.devcluster.drills import OURS, REFUGES, Drill, soon
from tests.devcluster.replica import Replica
from vdcos.core import hosts

pytestmark = pytest.mark.asyncio(loop_scope="module")

AT_ONCE = 7
"""Drills that go on at the same time: the control plane has the same processors."""
SECONDS = 30.0
"""From the proof until all VMs of a host run elsewhere, on a machine that has much else to do. What Kubernetes and
KubeVirt do by themselves begins after 50 s."""
SLOW_BMC, SLOWEST_BMC = 2.5, 4.0
"""Seconds; while a host is fenced that has such a BMC, there is time to do something, or to notice another failure."""

DRILLS: dict[str, tuple[int, Callable[[Drill], Awaitable[None]]]] = {}
Act = Callable[[Drill], Awaitable[None]]


def drill(victims: int = 1) -> Callable[[Act], Act]:
    """A drill, and how many hosts fail in it."""

    def register(act: Act) -> Act:
        DRILLS[act.__name__.replace("_", "-")] = victims, act
        return act

    return register


# --- How hosts fail ---------------------------------------------------------------------------------------------------


@drill()
async def power_is_lost_and_vms_restart_in_order(drill: Drill) -> None:
    await drill.switch()
    await drill.policy()
    first = {"restartPriority": "High", "readyWhen": {"condition": "GuestAgent"}}
    second = {"restartPriority": "High", "dependsOn": [{"name": "db"}]}
    await drill.vms(backup={"restartPriority": "Low"}, web=second, db=first)
    await drill.fault("agent-off", vm="db")
    await drill.allow()
    await drill.fault("power-off")
    await soon(lambda: drill.run_elsewhere("db"))
    machines = {each["name"]: each["state"] for each in (await drill.status())["machines"]}
    assert machines == {"db": "Released", "web": "Held", "backup": "Held"}, "it runs, and its guest has not answered"
    assert await drill.restarts() == ["db"]
    await drill.fault("agent-on", vm="db")
    await soon(lambda: drill.run_elsewhere("db", "web", "backup"))
    assert await drill.restarts() == ["db", "web", "backup"]
    await soon(lambda: drill.machine_is("backup", "Up"))
    failure = await drill.failure()
    status = failure["status"]
    assert status["receipt"]["provider"] == "redfish"
    assert status["receipt"]["incarnation"] == failure["spec"]["incarnation"]
    counted = {"total": 3, "running": 3, "starting": 0, "held": 0, "failed": 0}
    assert {key: value for key, value in status["vms"].items() if key in counted} == counted
    assert await drill.is_marked(), "nothing new lands on a host that is down"
    await drill.fault("recover")
    await drill.ends("Recovered")
    await soon(lambda: drill.are_ready("db", "web", "backup"))


@drill()
async def a_host_that_hangs_is_powered_off_before_its_vms_restart(drill: Drill) -> None:
    await drill.switch()
    await drill.policy()
    await drill.vms(web={})
    await drill.allow()
    boot = (await drill.truth())["bootID"]
    await drill.fault("hang")
    await soon(lambda: drill.run_elsewhere("web"))
    truth = await drill.truth()
    assert not truth["powered"], "it cannot come to its senses and write"
    assert truth["resets"] == [{"kind": "ForceOff", "boot": boot}]
    assert (await drill.status())["receipt"]["how"] == "PoweredOff"
    await drill.fault("recover")
    await drill.ends("Recovered")
    assert (await drill.truth())["resets"] == [{"kind": "ForceOff", "boot": boot}], "its next life was left alone"


@drill()
async def a_host_that_is_cut_off_and_cannot_be_fenced_waits_for_a_person(drill: Drill) -> None:
    await drill.policy()
    await drill.vms(web={})
    await drill.allow()
    await drill.fault("partition")
    await soon(lambda: drill.is_told("spec.confirmedDown with incarnation"))
    said, incarnation = await drill.says("Fenced"), (await drill.failure())["spec"]["incarnation"]
    assert (said["status"], said["reason"]) == ("False", "NoProof")
    assert f"spec.confirmedDown with incarnation {incarnation}" in said["message"]
    assert await drill.elsewhere() == set(), "the VM may still write on the host that is cut off"
    await drill.fault("power-off")
    await drill.say(confirmedDown={"incarnation": incarnation, "by": "ops", "why": "unplugged"})
    await soon(lambda: drill.run_elsewhere("web"))
    assert (await drill.status())["receipt"]["how"] == "Confirmed"
    await drill.fault("recover")
    await drill.ends("Recovered")


@drill()
async def a_host_that_does_not_reach_the_api_server_is_left_alone(drill: Drill) -> None:
    await drill.switch()
    await drill.policy()
    await drill.vms(web={})
    await drill.allow()
    before = (await drill.instances())["web"]["metadata"]["uid"]
    await drill.fault("api-cut")

    async def called_dead() -> bool:
        conditions = (await drill.node())["status"]["conditions"]
        return any((c["type"], c["status"]) == ("Ready", "Unknown") for c in conditions)

    await soon(called_dead)

    async def isolated() -> bool:
        return await drill.state_of_host() == "Isolated"

    await soon(isolated)
    await drill.fault("recover")

    async def connected() -> bool:
        return await drill.state_of_host() == "Connected"

    await soon(connected)
    assert await drill.failure() == {}
    assert (await drill.truth())["resets"] == []
    assert (await drill.instances())["web"]["metadata"]["uid"] == before
    assert not await drill.is_marked()


@drill()
async def a_false_alarm_leaves_no_trace(drill: Drill) -> None:
    await drill.policy(paused={"reason": "work on the network"})
    await drill.vms(web={})
    await drill.allow()
    before = (await drill.instances())["web"]["metadata"]["uid"]
    await drill.fault("partition")
    await soon(lambda: drill.is_told("work on the network"))
    assert (await drill.phase(), (await drill.says("Ready"))["reason"]) == ("Held", "Paused")
    assert await drill.is_marked()
    await drill.fault("recover")
    await drill.ends("FalseAlarm")
    assert (await drill.instances())["web"]["metadata"]["uid"] == before, "it was left alone"


@drill()
async def a_host_that_is_heard_again_is_left_alone_whatever_its_bmc_says(drill: Drill) -> None:
    """It was cut off, its BMC could not be reached, and when the network is back, the BMC says Off: it lies."""
    await drill.switch()
    await drill.policy()
    await drill.vms(web={})
    await drill.allow()
    before = (await drill.instances())["web"]["metadata"]["uid"]
    await drill.fault("bmc-timeout")
    await drill.fault("partition")
    await soon(drill.has_asked)
    await drill.fault("recover")
    await drill.fault("bmc-timeout", clear=True)
    await drill.fault("liar")
    await drill.ends("FalseAlarm")
    assert "receipt" not in await drill.status()
    assert (await drill.instances())["web"]["metadata"]["uid"] == before


@drill()
async def a_host_that_fails_again_and_again_is_quarantined(drill: Drill) -> None:
    await drill.switch()
    await drill.policy(recovery={"quietSeconds": 1, "quarantineAfter": 2})
    await drill.vms(web={})
    await drill.allow()
    await drill.fault("power-off")
    await soon(lambda: drill.run_elsewhere("web"))
    await drill.fault("recover")
    await soon(drill.is_back)
    await drill.fault("power-off")

    async def again() -> bool:
        return await drill.failures() == 2 and "receipt" in await drill.status()

    await soon(again)
    await drill.fault("recover")

    async def quarantined() -> bool:
        return (await drill.says("Recovered")).get("reason") == "Quarantined"

    await soon(quarantined)
    assert f"kubectl uncordon {drill.host}" in (await drill.says("Recovered"))["message"]
    assert await drill.is_marked()
    await drill.merge(f"/api/v1/nodes/{drill.host}", {"spec": {"unschedulable": None}})
    await drill.ends("Recovered")
    assert await drill.restarts() == ["web"]


@drill(victims=3)
async def more_hosts_fail_at_once_than_the_storm_brake_lets_pass(drill: Drill) -> None:
    """Two are fenced at the same time; the third waits for a person."""
    *two, third = drill.victims
    await drill.policy(stormBrake={"maxHosts": 2, "maxPercent": 100})
    for host in drill.victims:
        await drill.switch(host)
        await drill.vms(host, **{f"on-{host}": {}})
        await drill.stay_off(host)
    await drill.allow()
    for host in two:
        await drill.fault("bmc-slow", host, seconds=SLOWEST_BMC)
        await drill.fault("power-off", host)
    for host in two:
        await soon(partial(drill.has_asked, host))
    await drill.fault("hang", third)

    async def held() -> bool:
        return (await drill.says("Fenced", third)).get("reason") == "StormBrake"

    await soon(held)
    assert """'{"spec":{"approved":true}}'""" in (await drill.says("Fenced", third))["message"]
    assert (await drill.truth(third))["resets"] == []
    name = (await drill.failure(third))["metadata"]["name"]
    await drill.merge(f"{OURS}/hostfailures/{name}", {"spec": {"approved": True}})
    await soon(lambda: drill.run_elsewhere(*(f"on-{host}" for host in drill.victims)))
    for host in drill.victims:
        assert (await drill.status(host))["receipt"]["provider"] == "redfish"
        await drill.fault("recover", host)
    for host in drill.victims:
        await drill.ends("Recovered", host)


# --- What is on them --------------------------------------------------------------------------------------------------


@drill()
async def whatever_a_vm_went_through_before_it_restarts_once(drill: Drill) -> None:
    """Fresh, moved here before, about to move away, paused, with a plugged disk, with disks for one host at a time. One
    that was about to move here runs on where it is."""
    await drill.vms(REFUGES[0], came={}, coming={})
    await drill.stay_off(*REFUGES)
    store = {"storageClassName": "block-rwx", "accessMode": "ReadWriteOnce", "allowedNamespaces": {"from": "All"}}
    await drill.apply("Datastore", "one-host-at-a-time", store)
    await drill.vm("alone", disks=[{"name": "root", "size": "1Gi", "datastore": "one-host-at-a-time"}])
    await drill.vms(fresh={}, leaving={}, frozen={}, plugged={})
    await soon(lambda: drill.run_on(drill.host, "alone"))
    await drill.allow(REFUGES[0])
    root = {"name": "root", "size": "1Gi", "datastore": fleet.DATASTORE}
    await drill.edit("plugged", disks=[root, {**root, "name": "more"}])
    await drill.ask("frozen", "pause")
    await drill.migrate("came", drill.host)
    await soon(lambda: drill.run_on(drill.host, "came"))
    for vm, target in (("leaving", REFUGES[0]), ("coming", drill.host)):
        await drill.fault("stall-migration", vm=vm)
        await drill.migrate(vm, target)

    async def on_their_way() -> bool:
        states = {name: vmi["status"] for name, vmi in (await drill.instances()).items()}
        moving = [states[name].get("migrationState", {}) for name in ("leaving", "coming")]
        plugged = [v for v in states["plugged"]["volumeStatus"] if "hotplugVolume" in v]
        paused = [c["status"] for c in states["frozen"]["conditions"] if c["type"] == "Paused"]
        return (
            all("startTimestamp" in state and not state.get("completed") for state in moving)
            and [volume["phase"] for volume in plugged] == ["Ready"]
            and paused == ["True"]
        )

    await soon(on_their_way)
    before = (await drill.instances())["coming"]["metadata"]["uid"]
    await drill.switch()
    await drill.allow()
    await drill.policy()
    await drill.fault("power-off")
    died = {"alone", "fresh", "leaving", "frozen", "plugged", "came"}
    await soon(lambda: drill.run_elsewhere(*sorted(died)))
    assert sorted(await drill.restarts()) == sorted(died)
    assert (await drill.instances())["coming"]["metadata"]["uid"] == before, "it ran elsewhere all the time"
    assert (await drill.running())["coming"] == REFUGES[0]
    status = await drill.status()
    assert {each["name"] for each in status["machines"]} == died
    assert await drill.seconds_to_restart() < SECONDS
    await drill.fault("recover")
    await drill.ends("Recovered")
    await soon(lambda: drill.are_ready(*died, "coming"))


async def _is_being_fenced(drill: Drill) -> None:
    """The host has lost its power, and its BMC has not answered yet."""
    await drill.fault("bmc-slow", seconds=SLOW_BMC)
    await drill.allow()
    await drill.fault("power-off")
    await soon(drill.has_asked)


@drill()
async def a_vm_that_is_deleted_or_switched_off_meanwhile_stays_down(drill: Drill) -> None:
    await drill.switch()
    await drill.policy()
    await drill.vms(db={}, off={}, gone={}, late={"restartPriority": "Low"}, web={"restartPriority": "Low"})
    await drill.fault("slow-start", vm="db", seconds=6.0)
    await _is_being_fenced(drill)
    await drill.edit("off", powerState="PoweredOff")
    await drill.delete(f"{OURS}/namespaces/{drill.namespace}/virtualmachines/gone")
    await soon(lambda: drill.machine_is("late", "Held"))
    await drill.edit("late", powerState="PoweredOff")
    await soon(lambda: drill.run_elsewhere("db", "web"))
    await drill.fault("recover")
    await drill.ends("Recovered")
    down = {each["name"]: each["reason"] for each in (await drill.status())["vms"]["notRestarted"]}
    assert down["late"] == "PoweredOff"
    assert await drill.restarts() == ["db", "web"]
    assert (await drill.instances()).keys() == {"db", "web"}


# --- Before anything dies ---------------------------------------------------------------------------------------------


@drill()
async def who_would_take_what_is_kept_free_waits_and_goes_by_itself(drill: Drill) -> None:
    kept = {"mode": "Enforce", "percentage": {"cpu": 100, "memory": 100}}
    await drill.policy(admissionControl=kept)
    await drill.allow(drill.host)
    await drill.vm("web")

    async def is_told() -> bool:
        return (await drill.vm_says("web", "PowerStateSynced")).get("reason") == "InsufficientFailoverCapacity"

    await soon(is_told)
    assert "HAPolicy" in (await drill.vm_says("web", "PowerStateSynced"))["message"]
    assert not await drill.instances(), "it waits, and is not started and stopped"

    async def is_counted() -> bool:
        status = (await drill.api.request("GET", f"{OURS}/hapolicies/{drill.name}"))["status"]
        return bool(status["waiting"]["names"] == [f"{drill.namespace}/web"])

    await soon(is_counted)
    await drill.policy(admissionControl={"mode": "Enforce", "percentage": {"cpu": 1, "memory": 1}})
    await soon(lambda: drill.run_on(drill.host, "web"))
    before = (await drill.instances())["web"]["metadata"]["uid"]
    await drill.policy(admissionControl=kept)

    async def is_missing() -> bool:
        conditions = (await drill.api.request("GET", f"{OURS}/hapolicies/{drill.name}"))["status"]["conditions"]
        return any((c["type"], c["reason"]) == ("FailoverCapacity", "CapacityMissing") for c in conditions)

    await soon(is_missing)
    running = (await drill.instances())["web"]["metadata"]
    assert (running["uid"], "deletionTimestamp" in running) == (before, False), "what runs is never stopped"


@drill()
async def a_guest_that_hangs_is_reset_as_often_as_its_policy_lets(drill: Drill) -> None:
    limits = {"failureIntervalSeconds": 10, "minimumUptimeSeconds": 0, "maxResets": 1}
    await drill.policy(monitoring={"enabled": True, **limits})
    await drill.vms(web={})

    async def beats() -> bool:
        return (await drill.vm_says("web", "GuestHeartbeat")).get("reason") == "Beating"

    await soon(beats)
    first = (await drill.instances())["web"]["metadata"]["uid"]
    await drill.fault("agent-off", vm="web")

    async def is_another() -> bool:
        return await drill.run_on(drill.host, "web") and (await drill.instances())["web"]["metadata"]["uid"] != first

    await soon(is_another)
    await drill.fault("agent-on", vm="web")
    await soon(beats)
    second = (await drill.instances())["web"]["metadata"]["uid"]
    await drill.fault("agent-off", vm="web")

    async def is_left_alone() -> bool:
        return (await drill.vm_says("web", "GuestHeartbeat")).get("reason") == "GuestResetLimit"

    await soon(is_left_alone)
    assert (await drill.instances())["web"]["metadata"]["uid"] == second


# --- What people do meanwhile -----------------------------------------------------------------------------------------


@drill()
async def a_failure_comes_to_its_end_when_its_policy_is_deleted(drill: Drill) -> None:
    await drill.switch()
    await drill.policy()
    await drill.vms(web={})
    await _is_being_fenced(drill)
    await drill.delete(f"{OURS}/hapolicies/{drill.name}")
    await soon(lambda: drill.run_elsewhere("web"))
    await drill.fault("recover")
    await soon(drill.is_back)
    await drill.policy()  # or the quiet time is a minute, as without a policy
    await drill.ends("Recovered")


@drill()
async def a_failure_comes_to_its_end_when_its_node_is_deleted(drill: Drill) -> None:
    await drill.switch()
    await drill.policy()
    await drill.vms(web={})
    await _is_being_fenced(drill)
    await drill.delete(f"/api/v1/nodes/{drill.host}")
    await soon(lambda: drill.run_elsewhere("web"))
    await soon(drill.is_over)
    status = await drill.status()
    assert (status["outcome"], status["receipt"]["how"]) == ("Superseded", "PoweredOff")
    assert await drill.restarts() == ["web"]
    assert await drill.never_twice()
    await drill.fault("recover")
    await soon(drill.is_back)
    assert not await drill.is_marked()


# --- Power switches ---------------------------------------------------------------------------------------------------


@drill()
async def a_power_switch_that_cannot_be_used_says_why(drill: Drill) -> None:
    """Wrong credentials, then a certificate that nobody vouches for, which is taken only when that is said."""
    await drill.switch(secret={"password": "not-this-one"})
    await drill.policy()
    await drill.vms(web={})
    await drill.allow()
    await drill.fault("hang")
    await soon(lambda: drill.is_told("does not accept the credentials"))
    await drill.switch(secret={"ca.crt": ""})
    await soon(lambda: drill.is_told("put its authority into the Secret as ca.crt, or set insecureSkipVerify"))
    assert await drill.elsewhere() == set()
    assert (await drill.truth())["resets"] == []
    await drill.switch(secret={"ca.crt": ""}, insecureSkipVerify=True)
    await soon(lambda: drill.run_elsewhere("web"))
    assert "not-this-one" not in json.dumps(await drill.failure())
    await drill.fault("recover")
    await drill.ends("Recovered")


@contextlib.contextmanager
def told(act: Callable[[str, str], None]) -> Iterator[str]:
    """Where the emulator of BMCs says what it did: ``act(name, power)``; yields the address."""

    class Hears(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            act(str(said["name"]), str(said["power_state"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = HTTPServer(("127.0.0.1", 0), Hears)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/power"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@drill()
async def a_host_that_hangs_is_fenced_by_the_redfish_of_somebody_else(drill: Drill) -> None:
    """OpenStack's emulator, which takes its time, and turns the simulated host off."""

    def act(name: str, power: str) -> None:
        if power == "Off":
            drill.cluster.fault("power-off", host=name)

    uuid = (await drill.node())["status"]["nodeInfo"]["systemUUID"]
    folder = drill.folder
    keys = pki.ensure(drill.cluster.files.pki)
    with contextlib.ExitStack() as stack:
        notify = stack.enter_context(told(act))
        address = await asyncio.to_thread(stack.enter_context, bmcs.emulator(folder, keys, {drill.host: uuid}, notify))
        secret = {"username": bmcs.USERNAME, "password": bmcs.PASSWORD}
        await drill.switch(secret=secret, address=address, system=f"/redfish/v1/Systems/{uuid}")
        await drill.policy()
        await drill.vms(web={})
        await drill.allow()
        await drill.fault("hang")
        await soon(lambda: drill.run_elsewhere("web"))
        assert not (await drill.truth())["powered"]
        receipt = (await drill.status())["receipt"]
        assert (receipt["provider"], receipt["how"]) == ("redfish", "PoweredOff")
        await drill.fault("recover")
        await drill.ends("Recovered")


@drill()
async def a_host_that_hangs_is_fenced_by_ipmi(drill: Drill) -> None:
    body = json.dumps({"host": drill.host})
    with bmcs.ipmi(drill.folder / "power", f"{drill.cluster.hosts_url}/faults/power-off", body) as port:
        await drill.secret(drill.host, {"username": bmcs.USERNAME, "password": bmcs.PASSWORD})
        switch = {"address": "127.0.0.1", "port": port, "credentials": f"bmc-{drill.host}"}
        await drill.apply("Host", drill.host, {"bmc": {"ipmi": switch}})
        await drill.policy()
        await drill.vms(web={})
        await drill.allow()
        await drill.fault("hang")
        await soon(lambda: drill.run_elsewhere("web"))
        assert not (await drill.truth())["powered"]
        assert (await drill.status())["receipt"]["provider"] == "ipmi"
        await drill.fault("recover")
        await drill.ends("Recovered")


# --- The tests --------------------------------------------------------------------------------------------------------

FIRST = len(REFUGES) + 1
IDLE = f"host-{FIRST}"
"""A host that nothing happens to in any drill."""
HOSTS = FIRST + sum(victims for victims, _ in DRILLS.values())


@pytest.fixture(scope="module")
def datacenter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster.running(hosts=HOSTS, directory=tmp_path_factory.mktemp("datacenter")) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operator(datacenter: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Replica]:
    kubeconfig = replica.install(datacenter)
    datacenter.apply(*fleet.infrastructure())
    running = Replica(kubeconfig, tmp_path_factory.mktemp("operator") / "operator.log", "--standalone")
    await running.start()
    yield running
    await running.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def under_way(
    datacenter: Cluster, operator: Replica, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, asyncio.Task[None]]]:
    """All drills."""
    room, following = asyncio.Semaphore(AT_ONCE), FIRST + 1
    tasks = {}

    async def play(act: Act, drill: Drill) -> None:
        async with room:
            try:
                await drill.open()
                await act(drill)
            except BaseException:
                print(await drill.told())
                raise

    async with Api(datacenter.server, datacenter.token, datacenter.ca) as api:
        for name, (victims, act) in DRILLS.items():
            numbers = range(following, following + victims)
            following += victims
            names = tuple(f"host-{number}" for number in numbers)
            drill = Drill(datacenter, api, f"{names[0]}-fails", names, tmp_path_factory.mktemp(names[0]))
            tasks[name] = asyncio.create_task(play(act, drill))
        yield tasks
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


@pytest.mark.parametrize("name", DRILLS)
async def test_drill(under_way: dict[str, asyncio.Task[None]], name: str) -> None:
    await under_way[name]


async def test_no_password_is_told(datacenter: Cluster, operator: Replica) -> None:
    known = operator.log.read_text() + datacenter.kubectl(
        "get", "events,hostfailures,hosts.vdcos.dev", "-A", "-o", "json"
    )
    for secret in (datacenter.bmc(IDLE)["password"], bmcs.PASSWORD, "not-this-one"):
        assert secret not in known


async def test_a_host_exists_for_every_node_of_kubevirt(datacenter: Cluster, operator: Replica) -> None:
    async with Api(datacenter.server, datacenter.token, datacenter.ca) as api:

        async def there() -> bool:
            items = (await api.request("GET", f"{OURS}/hosts"))["items"]
            states = {item["metadata"]["name"]: item.get("status", {}).get("state") for item in items}
            return len(states) == HOSTS and all(states.values())

        await soon(there)
        await api.request("DELETE", f"{OURS}/hosts/{IDLE}")
        await soon(there)


async def test_maintenance_is_a_cordon_that_goes_with_it(
    datacenter: Cluster, operator: Replica, tmp_path: Path
) -> None:
    async with Api(datacenter.server, datacenter.token, datacenter.ca) as api:
        idle = Drill(datacenter, api, "idle", (IDLE,), tmp_path)

        async def spec() -> dict[str, object]:
            return dict((await idle.node())["spec"])

        async def cordoned(wanted: bool) -> bool:
            return bool((await spec()).get("unschedulable")) is wanted

        async def tainted(wanted: bool) -> bool:
            taint = {"key": hosts.FAILOVER_ONLY, "effect": "NoSchedule"}
            return (taint in (await idle.node())["spec"].get("taints", [])) is wanted

        await idle.apply("Host", IDLE, {"maintenance": True})
        await soon(partial(cordoned, True))
        await idle.apply("Host", IDLE, {"maintenance": False})
        await soon(partial(cordoned, False))
        assert not await idle.is_marked()
        datacenter.kubectl("cordon", IDLE)
        await idle.apply("Host", IDLE, {"failoverOnly": True})
        await soon(partial(tainted, True))
        await idle.apply("Host", IDLE, {"failoverOnly": False})
        await soon(partial(tainted, False))
        assert await cordoned(True), "somebody else's cordon stays"
