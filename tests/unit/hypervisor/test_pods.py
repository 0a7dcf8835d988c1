"""Pods that are not VMs: what a kubelet says of them, and what runs in them."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from tests.unit.hypervisor.given import claim, pod
from vdcos.testing.hypervisor import step
from vdcos.testing.hypervisor.kubelet import image_id, pod_address
from vdcos.testing.hypervisor.objects import Pod
from vdcos.testing.hypervisor.values import (
    Due,
    Host,
    PodGone,
    PodSeen,
    Run,
    Stage,
    Step,
    Timings,
    Transferred,
    Up,
    Verb,
    Write,
)
from vdcos.testing.hypervisor.workers import FOREVER, refused, script

CDI = {"app": "containerized-data-importer"}
IMPORTER = {**CDI, "cdi.kubevirt.io": "importer"}
AT_ONCE = Timings().scaled(0)


def host(timings: Timings = AT_ONCE) -> Host:
    return step(Host("host-1", 1, timings), Up(), 100.0).host


def see(before: Host, seen: Pod, now: float = 101.0, **more: Any) -> Step:
    return step(before, PodSeen(seen, **more), now)


def only(step: Step) -> Write:
    (write,) = step.writes
    return write


def after(seen: Pod, write: Write) -> Pod:
    """The pod with a status write carried out (conditions merge by type, as everywhere here they are all ours)."""
    status = {**msgspec.to_builtins(seen.status), **write.body["status"]}
    return msgspec.structs.replace(seen, status=msgspec.convert(status, type(seen.status)))


def importer(url: str, **env: str) -> Pod:
    variables = [{"name": k, "value": v} for k, v in {"IMPORTER_ENDPOINT": url, **env}.items()]
    container = {"name": "importer", "image": "importer:1", "env": variables}
    return pod(labels=IMPORTER, spec={"containers": [container], "restartPolicy": "OnFailure"})


def test_a_pod_is_admitted_and_then_runs() -> None:
    before = host(Timings())
    admitted = see(before, pod())
    write = only(admitted)
    assert (write.verb, write.subresource, write.body["metadata"]) == (Verb.STRATEGIC_PATCH, "status", {"uid": "uid-p"})
    assert write.body["status"]["phase"] == "Pending"
    assert write.body["status"]["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}
    (timer,) = admitted.timers
    runs = step(see(admitted.host, after(pod(), write)).host, timer.due, timer.at)
    status = only(runs).body["status"]
    assert status["phase"] == "Running"
    assert status["podIPs"] == [{"ip": status["podIP"]}]


def test_addresses_are_written_once() -> None:
    first = see(host(), pod())
    running = after(pod(), only(first))
    crashed = replace(first.host.runs["uid-p"], stage=Stage.CRASHED, exit_code=1)
    again = see(replace(first.host, runs={"uid-p": crashed}), running)
    assert "podIPs" not in only(again).body["status"]


def test_what_the_api_server_knows_is_not_said_again() -> None:
    first = see(host(), pod())
    assert see(first.host, after(pod(), only(first))).writes == ()


def test_sidecars_run_and_other_init_containers_are_done() -> None:
    spec = {"initContainers": [{"name": "log", "restartPolicy": "Always"}, {"name": "copy"}]}
    statuses = {s["name"]: s for s in only(see(host(), pod(spec=spec))).body["status"]["initContainerStatuses"]}
    assert "running" in statuses["log"]["state"]
    assert statuses["copy"]["state"]["terminated"]["exitCode"] == 0


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ([], 'corresponding condition of pod readiness gate "g" does not exist.'),
        ([{"type": "g", "status": "False"}], 'the status of pod readiness gate "g" is not "True", but False'),
    ],
)
def test_a_closed_gate_keeps_a_pod_from_being_ready(conditions: list[dict[str, Any]], message: str) -> None:
    seen = pod(spec={"readinessGates": [{"conditionType": "g"}]}, status={"conditions": conditions})
    said = {c["type"]: c for c in only(see(host(), seen)).body["status"]["conditions"]}
    assert (said["Ready"]["status"], said["Ready"]["reason"]) == ("False", "ReadinessGatesNotReady")
    assert said["Ready"]["message"] == message
    assert said["ContainersReady"]["status"] == "True"


def test_multus_reports_networks_before_the_pod_runs() -> None:
    asked = [{"name": "lan", "namespace": "ns", "mac": "02:00:00:00:00:01", "interface": "pod1"}]
    seen = pod(annotations={"k8s.v1.cni.cncf.io/networks": msgspec.json.encode(asked).decode()})
    write = only(see(host(), seen))
    assert write.verb is Verb.MERGE_PATCH
    status = msgspec.json.decode(write.body["metadata"]["annotations"]["k8s.v1.cni.cncf.io/network-status"])
    assert [(s["name"], s["interface"]) for s in status] == [("default", "eth0"), ("ns/lan", "pod1")]
    assert status[1]["mac"] == "02:00:00:00:00:01"


def test_a_deleted_pod_fails_and_is_removed_by_its_uid() -> None:
    running = after(pod(), only(first := see(host(), pod())))
    gone = msgspec.structs.replace(
        running, metadata=msgspec.structs.replace(running.metadata, deletion_timestamp="2026-01-01T00:00:00Z")
    )
    dying = see(first.host, gone)
    (timer,) = dying.timers
    ended = step(dying.host, timer.due, timer.at)
    assert only(ended).body["status"]["phase"] == "Failed"
    removed = see(ended.host, after(gone, only(ended)))
    assert only(removed).verb is Verb.DELETE
    assert only(removed).body == {"gracePeriodSeconds": 0, "preconditions": {"uid": "uid-p"}}
    assert step(removed.host, PodGone("uid-p"), 110.0).host.runs == {}


def test_a_pod_that_mounts_what_is_missing_waits_and_complains() -> None:
    seen = pod(spec={"volumes": [{"name": "init", "secret": {"secretName": "s"}}]})
    waiting = see(host(), seen, missing=[("secret", "s")])
    (timer,) = waiting.timers
    told = step(waiting.host, timer.due, timer.at).writes
    assert [w.body["message"] for w in told] == ['MountVolume.SetUp failed for volume "init" : secret "s" not found']
    assert only(see(waiting.host, seen)).body["status"]["phase"] == "Running"


def test_an_optional_secret_is_not_missed() -> None:
    assert pod(spec={"volumes": [{"name": "v", "secret": {"secretName": "s", "optional": True}}]}).mounts() == []


@pytest.mark.parametrize(
    ("policy", "phase", "restarts"), [("Never", "Failed", 0), ("Always", "Running", 1), ("OnFailure", "Running", 1)]
)
def test_containers_that_a_reboot_took(policy: str, phase: str, restarts: int) -> None:
    seen = pod(spec={"restartPolicy": policy}, status={"phase": "Running", "startTime": "2026-01-01T00:00:00Z"})
    status = only(see(host(), seen)).body["status"]
    assert (status["phase"], status["containerStatuses"][0]["restartCount"]) == (phase, restarts)


# --- CDI's workers ----------------------------------------------------------------------------------------------------


def run(before: Host, seen: Pod, **more: Any) -> Step:
    """Let a pod run to what its script does next."""
    first = see(before, seen, **more)
    seen = after(seen, only(first))
    (timer,) = first.timers
    return step(see(first.host, seen, **more).host, timer.due, timer.at)


def terminated(write: Write) -> dict[str, Any]:
    state: dict[str, Any] = write.body["status"]["containerStatuses"][0]["state"]["terminated"]
    return state


def test_an_import_ends_with_cdis_message() -> None:
    ended = only(run(host(), importer("http://images.test/a.qcow2")))
    assert ended.body["status"]["phase"] == "Succeeded"
    assert terminated(ended)["message"] == '{"message":"Import Complete"}'


def test_a_failing_import_crashes_waits_and_starts_again_but_never_fails() -> None:
    seen = importer("http://images.test/fail/a.qcow2")
    crashed = run(host(), seen)
    write = only(crashed)
    assert (write.body["status"]["phase"], terminated(write)["exitCode"]) == ("Running", 1)
    assert "404" in terminated(write)["message"]
    waits = step(crashed.host, Due("backoff", "uid-p"), 120.0)
    assert only(waits).body["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert only(waits).body["status"]["containerStatuses"][0]["restartCount"] == 1
    again = step(waits.host, Due("again", "uid-p"), 140.0)
    assert "running" in only(again).body["status"]["containerStatuses"][0]["state"]


def test_a_wrong_checksum_is_told_in_a_way_that_cdi_takes_for_final() -> None:
    ended = only(run(host(), importer("http://images.test/a.qcow2", IMPORTER_CHECKSUM="sha256:" + "0" * 64)))
    assert ended.body["status"]["phase"] == "Succeeded"
    assert "checksum mismatch" in terminated(ended)["message"]


@pytest.mark.parametrize(
    ("url", "fails"),
    [
        ("http://images.test/fail/a", True),
        ("http://fail.test/a", True),
        ("docker://images.test/fail/a:1", True),
        ("http://images.test/failsafe/a", False),
        ("", False),
    ],
)
def test_urls_that_say_that_they_fail(url: str, fails: bool) -> None:
    assert refused(url) is fails


def test_an_upload_server_ends_when_its_source_has_sent_everything() -> None:
    url = {"name": "UPLOAD_URL", "value": "https://cdi-upload-x.ns.svc/v1beta1/upload"}
    source = pod(
        "source",
        labels={**CDI, "cdi.kubevirt.io": "cdi-clone-source"},
        spec={"containers": [{"name": "c", "env": [url]}]},
    )
    sent = run(host(), source)
    (message,) = sent.messages
    assert (message.to, message.event) == ("", Transferred("ns", "cdi-upload-x"))
    server = pod("cdi-upload-x", labels={**CDI, "cdi.kubevirt.io": "cdi-upload-server"})
    running = see(host(), server)
    told = step(running.host, message.event, 120.0)
    (timer,) = told.timers
    assert only(step(told.host, timer.due, timer.at)).body["status"]["phase"] == "Succeeded"
    # It may also have been sent before the server was up.
    early = step(host(), message.event, 110.0).host
    assert [t.due.what for t in see(early, server).timers] == ["received"]


def test_size_detection_answers_in_bytes() -> None:
    seen = pod("size-detection-x", labels=CDI)
    source = claim("source", status={"phase": "Bound", "capacity": {"storage": "10Gi"}})
    answer = script(PodSeen(seen, {"source": source}), AT_ONCE).message
    assert answer.isdigit()
    assert 9 << 30 < int(answer) < 10 << 30


def test_any_other_pod_runs_until_it_is_deleted() -> None:
    assert script(PodSeen(pod()), AT_ONCE) is FOREVER


# --- small things -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "repository"),
    [
        ("quay.io/a/b:1", "quay.io/a/b@sha256:"),
        ("localhost:5000/b", "localhost:5000/b@sha256:"),
        ("quay.io/a/b", "quay.io/a/b@sha256:"),
    ],
)
def test_image_ids_have_digests(image: str, repository: str) -> None:
    assert image_id(image).startswith(repository)
    assert image_id(image) == image_id(image)


def test_an_image_with_a_digest_keeps_it() -> None:
    assert image_id("a@sha256:" + "1" * 64) == "a@sha256:" + "1" * 64


def test_where_pods_live() -> None:
    here = host()
    assert pod_address(here, pod(labels={"kubevirt.io": "virt-handler"}), 1) == "127.0.0.1"
    assert pod_address(here, pod(labels=CDI), 1).startswith("127.9.1.")
    assert pod_address(here, pod(spec={"hostNetwork": True}), 1) == "10.77.0.2"
    assert pod_address(here, pod(), 1) != pod_address(here, pod(), 251)


def test_timings_scale_but_for_what_real_controllers_watch() -> None:
    scaled = Timings().scaled(0.5)
    assert (scaled.guest_boot, scaled.lease, scaled.heartbeat) == (1.0, Timings().lease, Timings().heartbeat)


def test_a_finished_run_stays_finished() -> None:
    ended = Run("uid-p", Stage.FINISHED, "10.0.0.1", 0.0)
    assert step(replace(host(), runs={"uid-p": ended}), Due("pod", "uid-p"), 5.0).writes == ()
