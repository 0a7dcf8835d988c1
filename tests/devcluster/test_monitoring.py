"""A real Prometheus scrapes two replicas of the operator: every rule and every query of the dashboards is answered, no
alert fires while all is well, and a host that dies is told as it should be."""

import asyncio
import contextlib
import json
import os
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from devcluster import build
from devcluster.cluster import Cluster
from devcluster.kube import Api
from devcluster.processes import die_with_parent, free_ports
from tests.devcluster import fleet, packages, replica
from tests.devcluster.drills import Drill, soon
from tests.devcluster.replica import Replica
from vdcos.core import metrics
from vdcos.generate import dashboards

pytestmark = pytest.mark.packaging

Tree = dict[str, Any]
MONITORING = Path(__file__).parents[2] / "manifests" / "monitoring"
GROUPS: list[Tree] = yaml.safe_load((MONITORING / "rules.yaml").read_text())["spec"]["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
QUERIES = [
    query.expr
    for board in dashboards.BOARDS
    for panels in board.rows.values()
    for panel in panels
    for query in panel.queries
]
VICTIM = "host-3"
HOSTS = 4
ONLY_AFTER_A_FAILURE = ("ALERTS", "vdcos_fence_receipts_total", "vdcos_ask_seconds_bucket")
"""What queries are about that have no answer while all is well: alerts, proofs, how long asks take."""


class Prometheus:
    """A server that scrapes and evaluates every second."""

    def __init__(self, program: str, folder: Path, targets: dict[str, str]) -> None:
        self._port = free_ports(["prometheus"], {})["prometheus"]
        scraped = [
            # As a ServiceMonitor labels them: a metric's own label of the same name would not survive.
            {
                "targets": [address],
                "labels": {
                    "namespace": "vdcos-system",
                    "service": "vdcos-metrics",
                    "pod": pod,
                    "container": "vdcos",
                    "endpoint": "metrics",
                },
            }
            for pod, address in targets.items()
        ]
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": "vdcos", "static_configs": scraped}],
        }
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": GROUPS}))
        self._command = [
            program,
            "--config.file=prometheus.yaml",
            "--storage.tsdb.path=data",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--log.level=warn",
        ]
        self._folder = folder

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        with (self._folder / "prometheus.log").open("ab") as log:
            process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env={**os.environ, "GOMAXPROCS": "1"},
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(),
            )
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer. Fails with what Prometheus complains about, warnings too."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/v1/{path}?{query}", timeout=10) as response:
            answer = json.load(response)
        assert answer["status"] == "success", answer
        complaints = [*answer.get("warnings", []), *answer.get("infos", [])]
        assert not complaints, (parameters, complaints)
        return answer["data"]

    def ask(self, expr: str) -> list[Tree]:
        """The samples of an expression now."""
        whole = expr.replace("$__rate_interval", "1m").replace("$__range", "10m")
        result: list[Tree] = self.get("query", query=whole)["result"]
        return result

    def value(self, expr: str) -> float | None:
        """Of one sample; None when there is none."""
        found = self.ask(expr)
        assert len(found) < 2, found
        return float(found[0]["value"][1]) if found else None

    def alerts(self) -> set[str]:
        """The names of alerts that are pending or firing."""
        return {alert["labels"]["alertname"] for alert in self.get("alerts")["alerts"]}


async def eventually(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """What Prometheus knows comes to this."""

    async def asked() -> bool:
        return await asyncio.to_thread(condition)

    await soon(asked, seconds)


@pytest.fixture(scope="module")
def datacenter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster.running(hosts=HOSTS, directory=tmp_path_factory.mktemp("datacenter")) as started:
        yield started


class Watched:
    """Two replicas, and who watches them. ``leader`` and ``standby`` are names of pods."""

    def __init__(self, replicas: dict[str, Replica], prometheus: Prometheus, drill: Drill) -> None:
        self.replicas, self.prometheus, self.drill = replicas, prometheus, drill
        self.leader, self.standby = replicas


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(datacenter: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    """A datacenter with all that dashboards show: VMs on and off, one that its owner has to correct, a policy, a full
    host to protect, a datastore with a ceiling."""
    program = build.ensure(lambda *_: None, more=build.PROMETHEUS)["prometheus"]
    folder = tmp_path_factory.mktemp("prometheus")
    kubeconfig = replica.install(datacenter)
    replicas = {f"vdcos-{number}": Replica(kubeconfig, folder / f"vdcos-{number}.log") for number in range(2)}
    async with contextlib.AsyncExitStack() as stack:
        targets = {}
        for pod, each in replicas.items():
            await each.start()
            stack.push_async_callback(each.stop)
            await eventually(lambda each=each: bool(each.said("listening")))  # type: ignore[misc]
            targets[pod] = each.address
            if pod == "vdcos-0":
                await eventually(lambda first=each: bool(first.said("leading")))  # type: ignore[misc]
        prometheus = Prometheus(program, folder, targets)
        stack.enter_context(prometheus.running())
        datacenter.apply(*fleet.infrastructure())
        api = await stack.enter_async_context(Api(datacenter.server, datacenter.token, datacenter.ca))
        drill = Drill(datacenter, api, "watched", (VICTIM,), folder)
        await drill.open()
        bounded = {"storageClassName": "block-rwx", "capacity": "100Gi", "allowedNamespaces": {"from": "All"}}
        await drill.apply("Datastore", "bounded", bounded)
        await drill.switch()
        # It covers one host, which cannot keep room for its own failure.
        await drill.policy(admissionControl={"mode": "Warn", "percentage": {"cpu": 1, "memory": 1}})
        await drill.vms(web={}, db={})
        await drill.allow()
        await drill.vm("off", powerState="PoweredOff")
        await drill.vm("lost", disks=[{"name": "root", "size": "1Gi", "datastore": "nowhere"}])
        yield Watched(replicas, prometheus, drill)


def answered(prometheus: Prometheus, queries: list[str]) -> bool:
    """Whether all have an answer. Fails with those that have none."""
    empty = [query for query in queries if not prometheus.ask(query)]
    assert not empty
    return True


@pytest.mark.asyncio(loop_scope="module")
async def test_all_is_well_and_nothing_alerts(watched: Watched) -> None:
    """Among what is normal are a VM that is off, hosts without a policy, and a VM that its owner has to correct."""
    prometheus = watched.prometheus
    await eventually(lambda: prometheus.value('vdcos_vms{power_state="PoweredOn"}') == 2)
    await eventually(lambda: prometheus.value('sum(vdcos_ha_vms{outcome="RestartsElsewhere"})') == 2)
    await eventually(lambda: prometheus.value('vdcos_vms{power_state="PoweredOff"}') == 2)
    await eventually(lambda: prometheus.alerts() == set())
    expected = [query for query in QUERIES if not any(word in query for word in ONLY_AFTER_A_FAILURE)]
    expected += [rule["record"] for rule in RULES if "record" in rule]
    await eventually(lambda: answered(prometheus, expected))
    for expr in (*QUERIES, *(rule["expr"] for rule in RULES)):
        prometheus.ask(expr)
    await eventually(lambda: prometheus.value("datacenter:vdcos_vms_ready:ratio") == 3 / 4)
    blocked = 'vdcos_object_conditions{kind="VirtualMachine", condition="Ready", reason="DatastoreMissing"}'
    assert prometheus.value(blocked) == 1
    assert prometheus.alerts() == set()


@pytest.mark.asyncio(loop_scope="module")
async def test_metrics_are_those_that_are_declared_and_keep_their_labels(watched: Watched) -> None:
    prometheus = watched.prometheus
    found = {each["metric"]["__name__"] for each in prometheus.ask('count by (__name__) ({__name__=~"vdcos_.+"})')}
    for metric in metrics.ALL:
        parts = ("_bucket", "_sum", "_count") if metric.type == "histogram" else ("",)
        found -= {metric.name + part for part in parts}
    assert found == set()
    labels = prometheus.get("labels")
    assert not [label for label in labels if label.startswith("exported_")], "no label is that of a target"
    declared = {label for metric in metrics.ALL for label in metric.labels}
    assert declared - {"provider", "how", "effect", "phase"} <= set(labels), "all but those of failures"


@pytest.mark.asyncio(loop_scope="module")
async def test_only_the_leader_tells_of_the_datacenter(watched: Watched) -> None:
    prometheus = watched.prometheus
    told = [metric.name for metric in metrics.ALL if metric.by_leader]
    by_pod = prometheus.ask(f'count by (pod) ({{__name__=~"{"|".join(told)}"}})')
    assert [each["metric"]["pod"] for each in by_pod] == [watched.leader]
    assert prometheus.value("sum(vdcos_hosts)") == HOSTS
    assert prometheus.value("count(vdcos_leader)") == 2
    assert prometheus.value("sum(vdcos_leader)") == 1
    assert prometheus.value(f'sum(vdcos_stored_objects{{pod="{watched.standby}", kind="Node"}})'), (
        "it knows all the same"
    )


@pytest.mark.asyncio(loop_scope="module")
async def test_a_host_that_dies_is_told_and_its_alert_names_it(watched: Watched) -> None:
    prometheus, drill = watched.prometheus, watched.drill
    await drill.fault("power-off")
    await soon(lambda: drill.run_elsewhere("web", "db"))
    down = f'vdcos_host_info{{host="{VICTIM}", state="Fenced"}}'
    await eventually(lambda: prometheus.value(down) == 1)
    # While the only host of the policy is down, nothing is free for restarts on its hosts.
    known = {"VdcosHostDown", "VdcosFailoverCapacityMissing"}
    await eventually(lambda: {"VdcosHostDown"} <= prometheus.alerts() <= known)
    (alert,) = (a for a in prometheus.get("alerts")["alerts"] if a["labels"]["alertname"] == "VdcosHostDown")
    assert (alert["labels"]["host"], alert["labels"]["policy"], alert["state"]) == (VICTIM, drill.name, "pending")
    assert alert["annotations"]["summary"] == f"Host {VICTIM} is down."
    assert prometheus.value('sum(vdcos_host_failures{phase!="Completed"})') == 1
    receipt = 'vdcos_fence_receipts_total{provider="redfish", how="PoweredOff"}'
    await eventually(lambda: prometheus.value(receipt) == 1)
    for stage in ("detect", "fence", "release", "restart"):
        counted = f'vdcos_failover_stage_seconds_count{{stage="{stage}", pod="{watched.leader}"}}'
        await eventually(lambda counted=counted: prometheus.value(counted) == 1)  # type: ignore[misc]
    await eventually(lambda: answered(prometheus, QUERIES))


@pytest.mark.asyncio(loop_scope="module")
async def test_when_the_leader_goes_the_other_goes_on_and_nothing_is_counted_twice(watched: Watched) -> None:
    prometheus = watched.prometheus
    began = time.monotonic()
    await watched.replicas[watched.leader].kill()
    await eventually(lambda: prometheus.value(f'sum(vdcos_hosts{{pod="{watched.standby}"}})') == HOSTS)
    looked_back = max(10, round(time.monotonic() - began) + 5)
    most = prometheus.value(f"max_over_time(sum(vdcos_hosts)[{looked_back}s:1s])")
    assert most == HOSTS
    await eventually(lambda: prometheus.value(f'sum(vdcos_hosts{{pod="{watched.leader}"}})') is None)
    await eventually(lambda: "VdcosHostDown" in prometheus.alerts())


@pytest.mark.asyncio(loop_scope="module")
async def test_when_the_host_is_back_its_alert_ends(watched: Watched) -> None:
    await watched.drill.fault("recover")
    await watched.drill.ends("Recovered")
    await eventually(lambda: watched.prometheus.alerts() == set())


def test_the_component_has_rules_and_dashboards(datacenter: Cluster) -> None:
    found = packages.kustomization(Path(datacenter.record.kubectl), MONITORING)
    dashboard_map = ("ConfigMap", "vdcos-system", "vdcos-dashboards")
    assert found.keys() == {("PrometheusRule", "vdcos-system", "vdcos"), dashboard_map}
    config = found[dashboard_map]
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert {json.loads(text)["uid"] for text in config["data"].values()} == {board.uid for board in dashboards.BOARDS}
    assert len(json.dumps(config)) < 1 << 20
    datacenter.kubectl(
        "apply",
        "--dry-run=server",
        "-f",
        "-",
        stdin=yaml.safe_dump({**config, "metadata": {**config["metadata"], "namespace": "default"}}),
    )
