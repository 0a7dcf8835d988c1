"""A host that fails in a devcluster is fenced by its BMC: the real decision, asks, Secret, TLS and power switch."""

import asyncio
import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from devcluster.cluster import Cluster
from devcluster.waiting import eventually, until
from tests.unit.api.test_fencing import Carrier
from vdcos.api.fencing import Bmc, Fencing
from vdcos.core.objects import Key
from vdcos.core.plan import Instant
from vdcos.generate import crds
from vdcos.providers.fencing.fence import Host, Progress, Receipt, Signs, Step, fence
from vdcos.runtime.answers import Answers
from vdcos.runtime.asks import Asks
from vdcos.runtime.credentials import Origin
from vdcos.runtime.port import Port
from vdcos.runtime.providers.fencing import power_switches, secrets_of
from vdcos.runtime.queue import Item

HOST = "host-4"
LONG = 90.0
ITEM = Item("hostfailure", Key("", HOST))


@pytest.fixture
def host(cluster: Cluster, namespace: str) -> Iterator[str]:
    """A host, and the Secret of its BMC in the test's namespace. Whatever a test does to it ends with the test."""
    eventually(lambda: back(cluster), LONG)
    bmc = cluster.bmc(HOST)
    data = {key: base64.b64encode(bmc[key].encode()).decode() for key in ("username", "password", "ca.crt")}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bmc", "namespace": namespace}, "data": data}
    cluster.apply(secret)
    yield HOST
    for fault in ("liar", "bmc-timeout", "bmc-dead", "bmc-slow"):
        cluster.fault(fault, host=HOST, clear=True)
    cluster.fault("recover", host=HOST)
    eventually(lambda: back(cluster), LONG)


def back(cluster: Cluster) -> bool:
    """Whether the host is there, and its Node tells of this very boot: a Node says Ready long after its host's end."""
    host = next(host for host in cluster.hosts("state")["hosts"] if host["name"] == HOST)
    seen = node(cluster)
    return bool(host["connected"]) and (seen["ready"], seen["boot"]) == ("True", host["bootID"])


def node(cluster: Cluster) -> dict[str, str]:
    status = cluster.get("node", HOST)["status"]
    ready = next(str(c["status"]) for c in status["conditions"] if c["type"] == "Ready")
    info = status["nodeInfo"]
    return {"ready": ready, "boot": str(info["bootID"]), "machine": str(info["systemUUID"])}


def powered(cluster: Cluster) -> bool:
    hosts = cluster.hosts("state")["hosts"]
    return bool(next(host["powered"] for host in hosts if host["name"] == HOST))


class Fencer:
    """Looks at the host again and again, as a service will, and stores in memory what that would store in a status."""

    def __init__(self, cluster: Cluster, namespace: str, fencing: dict[str, Any]) -> None:
        self.cluster, self.namespace = cluster, namespace
        self.fencing = Fencing.model_validate(fencing)
        bmc = cluster.bmc(HOST)
        redfish = {"address": bmc["address"], "system": bmc["system"], "credentials": "bmc"}
        seen = node(cluster)
        self.host = Host(HOST, seen["boot"], seen["machine"], "failure", Bmc.model_validate({"redfish": redfish}))
        self.progress = Progress()
        self.renewed, self.last_sign = "", time.monotonic()

    def signs(self) -> Signs:
        asked = time.monotonic()
        lease = self.cluster.get("lease", HOST, "-n", "kube-node-lease")["spec"]["renewTime"]
        if lease != self.renewed:
            self.renewed, self.last_sign = lease, time.monotonic()
        seen = node(self.cluster)
        return Signs(self.last_sign, asked, "Present", seen["boot"], seen["machine"])

    async def run(self, seconds: float = LONG) -> Step:
        """Until there is a receipt, or a provider has failed."""
        step = Step()
        async with Port.open(Origin(str(self.cluster.kubeconfig))) as port:
            switches = power_switches({}, secrets_of(port, self.namespace), None)
            asks = Asks(switches, lambda: 8.0, self, lambda: None)
            answers = Answers(asks, lambda item: None, time.monotonic)

            async def decided() -> bool:
                nonlocal step
                signs = await asyncio.to_thread(self.signs)
                known = answers.of(ITEM, "uid")
                step = fence(self.host, signs, self.fencing, self.progress, known, Instant(0.0, time.monotonic()))
                if step.receipt is not None or step.progress.tried:
                    return True
                new = set(step.progress.asked) - set(self.progress.asked)
                self.progress = step.progress
                answers.settle(ITEM, "uid", step.asks, self.progress.asked, new)
                return False

            try:
                await until(decided, seconds)
            except TimeoutError:
                raise AssertionError(step.why) from None
            finally:
                await asks.close()
        return step

    def answered(self, provider: str, effect: bool, result: str, seconds: float) -> None:
        """Nobody counts here."""


def test_the_words_of_fencing_pass_the_api_servers_own_checks(cluster: Cluster) -> None:
    """Structure, syntax and estimated cost of every rule, as part of a kind that does not stay."""
    definition = json.dumps(crds.crd(Carrier))  # type: ignore[arg-type]
    assert "carriers.vdcos.dev" in cluster.kubectl("apply", "--dry-run=server", "-f", "-", stdin=definition)


QUICK = {"quietSeconds": 5, "providers": [{"provider": "redfish", "timeoutSeconds": 8, "attempts": 1}]}


def quick() -> dict[str, Any]:
    return {**QUICK, "providers": tuple(QUICK["providers"])}  # type: ignore[arg-type]


@pytest.mark.parametrize("fault", ["power-off", "partition", "hang"])
async def test_a_host_that_fails_is_off_when_there_is_a_receipt(
    cluster: Cluster, namespace: str, host: str, fault: str
) -> None:
    fencer = Fencer(cluster, namespace, quick())
    cluster.fault(fault, host=host)
    step = await fencer.run()
    assert isinstance(step.receipt, Receipt), step.why
    assert (step.receipt.provider, step.receipt.how) == ("redfish", "PoweredOff")
    assert step.receipt.incarnation == fencer.host.incarnation
    assert not powered(cluster)


async def test_a_bmc_that_dies_with_its_host_proves_nothing(cluster: Cluster, namespace: str, host: str) -> None:
    fencer = Fencer(cluster, namespace, quick())
    cluster.fault("bmc-dead", host=host)
    cluster.fault("power-off", host=host)
    step = await fencer.run()
    assert step.receipt is None
    assert "no answer within 10 s" in step.progress.tried[0].why
    assert f"spec.confirmedDown with incarnation {fencer.host.incarnation}" in step.why


async def test_no_password_shows_anywhere(cluster: Cluster, namespace: str, host: str) -> None:
    password = cluster.bmc(HOST)["password"]
    record = (cluster.directory / "cluster.json").read_text()
    logs = "".join(log.read_text(errors="replace") for log in (cluster.directory / "logs").iterdir())
    assert password not in record
    assert password not in logs
    assert password not in json.dumps(cluster.hosts("state"))


async def test_a_host_that_booted_by_itself_is_left_alone(cluster: Cluster, namespace: str, host: str) -> None:
    fencer = Fencer(cluster, namespace, quick())
    cluster.fault("power-off", host=host)
    cluster.fault("recover", host=host)
    eventually(lambda: node(cluster)["boot"] != fencer.host.incarnation, LONG)
    step = await fencer.run()
    assert step.receipt is not None
    assert step.receipt.how == "Rebooted"
    assert powered(cluster)
