"""The supervisor's own decisions: other ports when one is taken, one cluster per directory, when a cluster is up."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from devcluster import build, kube, layout, pki, supervisor
from devcluster.hosts import __main__ as hosts
from devcluster.processes import PortTakenError, StartError

ARTIFACTS = build.Artifacts({program.name: Path(f"/bin/{program.name}") for program in build.PROGRAMS}, Path("/none"))


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, int]]:
    """The ports of each attempt; an attempt fails while ``attempts.taken`` says so."""
    seen: list[dict[str, int]] = []

    async def run(self: supervisor.Supervisor) -> None:
        seen.append(self._record.ports)
        if len(seen) < 3:
            raise ExceptionGroup("parts", [PortTakenError("virt-api")])

    monkeypatch.setattr(supervisor.Supervisor, "run", run)
    return seen


async def test_a_taken_port_means_another_attempt_with_other_ports(
    attempts: list[dict[str, int]], tmp_path: Path
) -> None:
    await supervisor.supervise(supervisor.Settings(tmp_path), ARTIFACTS)
    assert len(attempts) == 3
    assert attempts[0] != attempts[1] != attempts[2]


async def test_attempts_are_limited(
    attempts: list[dict[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_ATTEMPTS", 2)
    with pytest.raises(StartError, match="no free ports after 2 attempts"):
        await supervisor.supervise(supervisor.Settings(tmp_path), ARTIFACTS)


async def test_another_failure_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(_: supervisor.Supervisor) -> None:
        raise ExceptionGroup("parts", [StartError("etcd ended 5 times")])

    monkeypatch.setattr(supervisor.Supervisor, "run", run)
    with pytest.raises(ExceptionGroup) as raised:
        await supervisor.supervise(supervisor.Settings(tmp_path), ARTIFACTS)
    assert raised.value.subgroup(StartError)


async def test_a_restart_asks_for_the_ports_it_had(attempts: list[dict[str, int]], tmp_path: Path) -> None:
    had = {name: 31000 + number for number, name in enumerate(layout.PORTS)}
    layout.Record("stopped", "", hosts=1, supervisor=1, ports=had, versions={}).write(layout.Layout(tmp_path))
    await supervisor.supervise(supervisor.Settings(tmp_path), ARTIFACTS)
    assert attempts[0] == had
    assert attempts[1] != had


async def test_one_directory_has_one_supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def run(_: supervisor.Supervisor) -> None:
        entered.set()
        await leave.wait()

    monkeypatch.setattr(supervisor.Supervisor, "run", run)
    settings = supervisor.Settings(tmp_path)
    first = asyncio.create_task(supervisor.supervise(settings, ARTIFACTS))
    await entered.wait()
    with pytest.raises(StartError, match="runs already in"):
        await supervisor.supervise(settings, ARTIFACTS)
    leave.set()
    await first


class FakeApi(kube.Api):
    """Answers what the test says, by path; anything else is not found."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers

    async def request(self, method: str, path: str, body: kube.Object | None = None) -> kube.Object:
        answer = self.answers.get(path.partition("?")[0], kube.ApiError(404, "not found"))
        if isinstance(answer, Exception):
            raise answer
        found: kube.Object = answer
        return found


def definition(group: str, plural: str, *versions: str) -> dict[str, Any]:
    return {
        "kind": "CustomResourceDefinition",
        "spec": {
            "group": group,
            "names": {"plural": plural},
            "versions": [{"name": version, "served": version != "v0"} for version in versions],
        },
    }


async def test_kinds_are_discoverable_when_every_served_version_lists_them() -> None:
    api = FakeApi({})
    namespace = {"kind": "Namespace"}
    wanted = [definition("a.dev", "apples", "v0", "v1"), definition("a.dev", "pears", "v1"), namespace]
    check = supervisor._discoverable(api, wanted)
    assert not await check()
    api.answers["/apis/a.dev/v1"] = {"resources": [{"name": "apples"}, {"name": "apples/status"}]}
    assert not await check()
    api.answers["/apis/a.dev/v1"] = {"resources": [{"name": "pears"}]}
    assert await check(), "what has been seen once is not asked for again"


@pytest.mark.parametrize(
    ("answer", "up"),
    [
        ({"kind": "VirtualMachineInstance"}, False),  # stored: the webhook is not in force yet
        (kube.ApiError(500, 'failed calling webhook "x": connection refused'), False),
        (kube.ApiError(422, 'admission webhook "x" denied the request: must be positive'), True),
    ],
)
async def test_webhooks_answer_when_they_refuse_what_is_wrong(answer: Any, up: bool) -> None:
    path = "/apis/kubevirt.io/v1/namespaces/kubevirt/virtualmachineinstances"
    assert await supervisor._webhooks_answer(FakeApi({path: answer}))() is up


@pytest.mark.parametrize(("ready", "up"), [((), False), (("True", "False"), False), (("True", "True"), True)])
async def test_hosts_are_up_when_as_many_as_wanted_are_ready(ready: tuple[str, ...], up: bool) -> None:
    nodes = [{"status": {"conditions": [{"type": "Ready", "status": status}]}} for status in ready]
    assert await supervisor._nodes_ready(FakeApi({"/api/v1/nodes": {"items": nodes}}), 2)() is up


class ConflictingApi(kube.Api):
    """Holds one object; creating it again is refused, as an API server does."""

    def __init__(self, stored: kube.Object) -> None:
        self.stored = stored
        self.calls: list[tuple[str, str]] = []

    async def request(self, method: str, path: str, body: kube.Object | None = None) -> kube.Object:
        self.calls.append((method, path))
        if method == "POST":
            raise kube.ApiError(409, "already exists")
        if method == "PUT":
            assert body
            kept, written = ("spec", "status") if path.endswith("/status") else ("status", "spec")
            self.stored = {**body, kept: self.stored.get(kept), written: body[written]}
        return self.stored


async def test_put_replaces_what_is_there_and_writes_the_status_apart() -> None:
    live = {"metadata": {"name": "x", "resourceVersion": "7"}, "secrets": ["kept"]}
    api = ConflictingApi(live)
    metadata = {"name": "x", "namespace": "n"}
    await api.put({"apiVersion": "v1", "kind": "Thing", "metadata": metadata, "spec": 1, "status": {"phase": "Ready"}})
    path = "/api/v1/namespaces/n/things/x"
    assert api.calls[1:] == [("GET", path), ("PUT", path), ("PUT", f"{path}/status")]
    assert api.stored["metadata"]["resourceVersion"] == "7"
    assert (api.stored["secrets"], api.stored["spec"], api.stored["status"]) == (["kept"], 1, {"phase": "Ready"})


async def test_put_waits_for_its_kind_and_gives_up_on_a_refusal() -> None:
    class Late(kube.Api):
        def __init__(self, *codes: int) -> None:
            self.codes = list(codes)

        async def request(self, method: str, path: str, body: kube.Object | None = None) -> kube.Object:
            if self.codes:
                raise kube.ApiError(self.codes.pop(0), "no")
            return {}

    thing = {"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "x"}}
    late = Late(404, 429)
    await late.put(thing)
    assert not late.codes
    with pytest.raises(kube.ApiError, match="Thing x: 422"):
        await Late(422).put(thing)


def test_hosts_understand_the_command_line_that_is_made_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = {name: 31000 + number for number, name in enumerate(layout.PORTS)}
    files, keys = layout.Layout(tmp_path), pki.Pki(tmp_path / "pki")
    program = supervisor.Programs(supervisor.Settings(tmp_path), files, ARTIFACTS, keys, ports).hosts()
    assert program is not None
    monkeypatch.setattr("sys.argv", [str(part) for part in program.arguments[2:]])
    read = hosts._arguments()
    assert (read.handler_port, read.control_port, read.bmc_port) == (
        ports["handler"],
        ports["control"],
        ports["bmc"],
    )
    assert (read.bmc_cert, read.bmc_key, read.bmc_password) == (
        keys.cert("bmc"),
        keys.key("bmc"),
        files.bmc_password,
    )
    assert "bmc" in {leaf.file for leaf in pki.LEAVES}
