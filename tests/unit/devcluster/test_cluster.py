"""The record of a cluster, its identities, its audit log, and waiting."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster import layout
from devcluster.cluster import Cluster, KubectlError, Write, parse_audit
from devcluster.processes import StartError
from devcluster.waiting import eventually


def event(**changes: Any) -> bytes:
    whole = {
        "stage": "ResponseComplete",
        "requestURI": "/apis/kubevirt.io/v1/namespaces/a/virtualmachines/vm?fieldManager=vdcos",
        "verb": "patch",
        "user": {"username": "system:serviceaccount:vdcos-system:vdcos"},
        "userAgent": "vdcos",
        "objectRef": {"apiGroup": "kubevirt.io", "resource": "virtualmachines", "namespace": "a", "name": "vm"},
        "responseStatus": {"code": 200},
        "stageTimestamp": "2026-01-01T00:00:00.000000Z",
    }
    return json.dumps(whole | changes).encode()


@pytest.mark.parametrize(
    ("why", "line", "counted"),
    [
        ("a write of the user", event(), True),
        ("a refused write is one, too", event(responseStatus={"code": 409}), True),
        ("a dry run stores nothing", event(requestURI="/api/v1/pods?dryRun=All"), False),
        ("not yet answered", event(stage="ResponseStarted"), False),
        ("somebody else", event(user={"username": "system:serviceaccount:kubevirt:kubevirt-controller"}), False),
        (
            "somebody else who calls himself so elsewhere",
            event(user={"username": "x"}, userAgent="vdcos-system"),
            False,
        ),
    ],
)
def test_what_counts_as_a_write(why: str, line: bytes, counted: bool) -> None:
    assert (parse_audit(line, "system:serviceaccount:vdcos-system") is not None) == counted, why


def test_a_write_tells_who_did_what_to_which() -> None:
    assert parse_audit(event(objectRef={"resource": "pods", "subresource": "status", "name": "p"})) == Write(
        user="system:serviceaccount:vdcos-system:vdcos",
        verb="patch",
        group="",
        resource="pods",
        subresource="status",
        namespace="",
        name="p",
        code=200,
        user_agent="vdcos",
        at="2026-01-01T00:00:00.000000Z",
    )


@pytest.fixture
def files(tmp_path: Path) -> layout.Layout:
    return layout.Layout(tmp_path)


@pytest.fixture
def cluster(files: layout.Layout) -> Cluster:
    ports = dict.fromkeys(layout.PORTS, 1)
    layout.Record("stopped", "", hosts=2, supervisor=1, ports=ports, versions={}).write(files)
    return Cluster(files.directory)


def test_writes_are_read_from_a_mark_and_a_half_written_line_waits(cluster: Cluster) -> None:
    cluster.files.audit.write_bytes(event() + b"\n")
    mark = cluster.audit_mark()
    with cluster.files.audit.open("ab") as log:
        log.write(event(verb="delete") + b"\n" + event(verb="create")[:40])
    assert [write.verb for write in cluster.writes()] == ["patch", "delete"]
    assert [write.verb for write in cluster.writes(since=mark)] == ["delete"]


def test_a_record_is_read_as_it_was_written(files: layout.Layout) -> None:
    record = layout.Record(
        phase="ready",
        step="",
        hosts=2,
        supervisor=7,
        ports={"apiserver": 1234, "control": 5678, "bmc": 9012},
        versions={"kubernetes": "v1"},
        processes=[layout.ProcessRecord("etcd", 8, None, 0, "etcd.log")],
    )
    record.write(files)
    assert layout.read_record(files) == record
    document = json.loads(files.record.read_text())
    assert (document["server"], document["hostsControl"]) == ("https://127.0.0.1:1234", "http://127.0.0.1:5678")
    assert document["bmc"] == "https://127.0.0.1:9012"


def test_a_supervisor_that_is_not_there_is_not_up(cluster: Cluster) -> None:
    assert not cluster.is_up


def test_no_cluster_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="no cluster in"):
        Cluster(tmp_path)


def test_tokens_are_made_once_and_are_what_the_api_server_reads(files: layout.Layout) -> None:
    tokens = layout.ensure_tokens(files)
    assert tokens == layout.ensure_tokens(files)
    assert len(set(tokens.values())) == len(tokens)
    assert stat.S_IMODE(files.tokens.stat().st_mode) == 0o600
    lines = files.tokens.read_text().splitlines()
    assert f'{tokens["admin"]},admin,admin,"system:masters"' in lines


def test_a_kubeconfig_names_its_user_and_namespace(files: layout.Layout) -> None:
    path = layout.write_kubeconfig(files.kubeconfig("x"), "https://s", Path("/ca"), {"token": "t"}, "mine")
    config = yaml.safe_load(path.read_text())
    assert config["contexts"][0]["context"]["namespace"] == "mine"
    assert config["users"][0]["user"] == {"token": "t"}
    assert config["clusters"][0]["cluster"] == {"server": "https://s", "certificate-authority": "/ca"}


def test_eventually_returns_the_first_true_value() -> None:
    values = iter((0, "", "yes", "later"))
    assert eventually(lambda: next(values), timeout=5, every=0) == "yes"


def test_eventually_shows_what_it_saw_last() -> None:
    with pytest.raises(AssertionError, match=r"not within 0 s; last seen: \[\]"):
        eventually(list, timeout=0, every=0)


def test_eventually_raises_the_last_reason() -> None:
    def missing() -> None:
        raise KubectlError("NotFound: no such thing")

    with pytest.raises(KubectlError, match="no such thing"):
        eventually(missing, timeout=0, every=0)
