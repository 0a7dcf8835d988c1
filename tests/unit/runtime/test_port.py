"""The port against a server that refuses, stalls and dies."""

import asyncio
from pathlib import Path

import pytest

from tests.unit.runtime.fake_api import FakeApi
from vdcos.core.objects import Key, Resource
from vdcos.runtime.credentials import Credentials, NoCluster, Origin
from vdcos.runtime.port import Port, error_of
from vdcos.runtime.requests import ApiError, Request

BOXES = Resource("example.com", "v1", "boxes", "Box")


@pytest.fixture
def api() -> FakeApi:
    fake = FakeApi()
    fake.serve(BOXES)
    return fake


def request(method: str = "GET", name: str = "a", body: bytes | None = None) -> Request:
    key = Key("ns", name)
    path = BOXES.path("ns", "" if method == "POST" else name)
    return Request("test", "create" if body else "get", BOXES, key, method, path, body)


async def test_an_answer_is_its_body_and_the_server_learns_the_deadline(tmp_path: Path, api: FakeApi) -> None:
    async with api.serving(tmp_path) as origin, Port.open(origin) as port:
        await api.put(BOXES, "a", "ns", size=1)
        assert b'"size": 1' in await port.send(request(), 7.9)
        assert api.requests == [("GET", BOXES.path(), {"timeout": "7s"})]


async def test_a_refusal_carries_the_servers_words(tmp_path: Path, api: FakeApi) -> None:
    failed: list[tuple[str, int]] = []
    async with api.serving(tmp_path) as origin, Port.open(origin, lambda *what: failed.append(what)) as port:
        with pytest.raises(ApiError) as caught:
            await port.send(request(), 5)
        assert (caught.value.status, caught.value.reason) == (404, "NotFound")
        await api.put(BOXES, "a", "ns")
        with pytest.raises(ApiError) as caught:
            await port.send(request("POST", body=b'{"metadata": {"name": "a"}}'), 5)
        assert (caught.value.status, caught.value.reason) == (409, "AlreadyExists")
        assert failed == [("get", 404), ("create", 409)]


async def test_no_answer_is_an_unknown_outcome(tmp_path: Path, api: FakeApi) -> None:
    async def stall() -> None:
        await asyncio.sleep(5)

    api.fault("GET", BOXES, stall)
    async with api.serving(tmp_path) as origin, Port.open(origin) as port:
        with pytest.raises(ApiError) as caught:
            await port.send(request(), 0.05)
        assert (caught.value.status, caught.value.reason) == (0, "Timeout")
        api.down = True
        with pytest.raises(ApiError) as caught:
            await port.send(request(), 5)
        assert (caught.value.status, caught.value.reason) == (0, "Unreachable")


async def test_a_server_that_is_not_there(tmp_path: Path, api: FakeApi) -> None:
    async with api.serving(tmp_path) as origin:
        pass
    async with Port.open(origin) as port:
        with pytest.raises(ApiError) as caught:
            await port.send(request(), 5)
        assert caught.value.status == 0


def test_a_status_is_read_with_its_delay() -> None:
    error = error_of(b'{"code": 429, "reason": "TooManyRequests", "details": {"retryAfterSeconds": 3}}', 429)
    assert (error.status, error.reason, error.retry_after) == (429, "TooManyRequests", 3)


def test_a_refusal_that_is_no_status_is_quoted() -> None:
    error = error_of(b"<html>gateway timeout</html>", 504)
    assert (error.status, error.message, error.retry_after) == (504, "<html>gateway timeout</html>", None)


def test_the_cluster_is_what_was_asked_for_then_the_pods_then_the_environments(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    mine.touch()
    theirs.touch()
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBECONFIG": str(theirs)}
    assert Origin.find(str(mine), environ=pod) == Origin(str(mine))
    assert Origin.find(environ=pod) == Origin()
    assert Origin.find(environ={"KUBECONFIG": str(theirs)}) == Origin(str(theirs))
    assert Origin.find(context="blue", environ=pod) == Origin(str(theirs), "blue")


async def test_a_proxy_is_the_kubeconfigs_then_the_environments(
    tmp_path: Path, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "")
    async with api.serving(tmp_path) as origin:
        assert (await Credentials.load(origin)).proxy == "http://proxy.example:3128"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert (await Credentials.load(origin)).proxy is None
    assert (await Credentials.load(_with_a_proxy(origin, "http://other.example"))).proxy == "http://other.example"


def _with_a_proxy(origin: Origin, url: str) -> Origin:
    kubeconfig = Path(origin.kubeconfig)
    kubeconfig.write_text(kubeconfig.read_text().replace("server:", f"proxy-url: {url}\n    server:"))
    return origin


async def test_a_netrc_does_not_keep_us_from_sending_our_token(
    tmp_path: Path, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with api.serving(tmp_path) as origin, Port.open(origin) as port:
        await api.put(BOXES, "a", "ns")
        assert await port.send(request(), 5)


def test_a_kubeconfig_that_is_missing_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(NoCluster, match=r"there is no kubeconfig at .*nowhere"):
        Origin.find(str(tmp_path / "nowhere"), environ={})


@pytest.mark.parametrize("content", ["", "not: a kubeconfig", "- 1", "{", "current-context: x"])
async def test_a_kubeconfig_that_is_none_is_said_to_be(tmp_path: Path, content: str) -> None:
    (tmp_path / "config").write_text(content)
    with pytest.raises(NoCluster, match="cannot be used"):
        async with Port.open(Origin(str(tmp_path / "config"))):
            pass


async def test_outside_of_a_pod_there_is_no_service_account() -> None:
    with pytest.raises(NoCluster, match="service account"):
        async with Port.open(Origin()):
            pass
