"""Thousands of generated bad objects, of which a sample runs with the other tests; `make badinput` runs all.

Each is refused with the field's path and a reason that a person understands; or it is legal, a class of legal input
says why, and the operator makes it Ready or says why not.
"""

import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from devcluster.cluster import Cluster
from devcluster.waiting import until
from tests.devcluster import convergence, replica
from tests.devcluster import generated_input as generated
from vdcos import api

OF_EACH = 12
"""Cases of each kind and group that always run."""

LEAST = 5_000


@pytest_asyncio.fixture
async def server(cluster: Cluster) -> AsyncIterator[generated.Server]:
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(generated.ROOT / "crds"))
    for model in api.KINDS.values():
        cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{model.definition.name}")
    namespace = f"generated-{uuid.uuid4().hex[:6]}"
    cluster.kubectl("create", "namespace", namespace)
    async with generated.Server.open(cluster, namespace) as opened:
        yield opened
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def nothing_to_mend(outcomes: Sequence[generated.Outcome]) -> None:
    found = [f"{outcome.result.case}\n    {complaint}" for outcome in outcomes for complaint in outcome.complaints]
    assert not found, f"{len(found)} to mend:\n" + "\n".join(found[:50])


async def test_a_sample(server: generated.Server) -> None:
    chosen = generated.sample(generated.every_case(), OF_EACH)
    assert len(chosen) >= 300
    nothing_to_mend(await generated.operate(server, await server.meet_all(chosen)))


async def test_nothing_is_stored_when_refused(server: generated.Server) -> None:
    """One refused case of each kind and class, and not as a dry run."""
    before = {kind: await server.listed(kind) for kind in api.KINDS}
    results = await server.meet_all(generated.sample(generated.every_case(), OF_EACH // 2))
    refused = {(result.case.kind, result.case.group): result.case for result in results if not result.legal}
    for case in refused.values():
        again = await server.meet(case, dry=False)
        assert not again.legal, f"{case}: now accepted"
    assert len(refused) >= 25
    assert {kind: await server.listed(kind) for kind in api.KINDS} == before


@pytest.mark.badinput
async def test_all(server: generated.Server) -> None:
    start = time.monotonic()
    every = generated.every_case()
    outcomes = await generated.operate(server, await server.meet_all(every), workers=2)
    told = generated.document(outcomes, time.monotonic() - start)
    build = generated.ROOT / "build"
    build.mkdir(exist_ok=True)
    (build / "badinput.json").write_text(json.dumps(told, indent=2) + "\n")
    print(f"\n{generated.table(outcomes)}\n")
    for why, number in sorted(told["legal_because"].items(), key=lambda item: -item[1]):
        print(f"{number:>6} legal: {why}")
    print(
        f"{told['cases']} cases in {told['seconds']} s: {told['refused']} refused, {told['converged']} converged, "
        f"{told['says_why']} say why"
    )
    nothing_to_mend(outcomes)
    assert not generated.unused(outcomes)
    assert len(every) >= LEAST


@pytest.mark.badinput
async def test_legal_objects_with_the_operator(cluster: Cluster, server: generated.Server, tmp_path: Path) -> None:
    """Created for good, a sample of what is legal is soon Ready, or its condition says why not."""
    operator = replica.Replica(replica.install(cluster), tmp_path / "operator.log")
    results = await server.meet_all(generated.sample(generated.every_case(), 2 * OF_EACH))
    legal = [result.case for result in results if result.legal and not result.case.stored]
    legal = [case for case in legal if case.kind in convergence.SERVICES]
    made = [{**case.manifest, "metadata": {"name": f"legal-{number}"}} for number, case in enumerate(legal)]
    assert len(made) >= 60
    await operator.start()
    try:
        for manifest in made:
            code, answer = await server.send("POST", manifest, dry=False)
            assert code == 201, answer
        silent, left = list(made), list(made)

        async def all_is_said() -> bool:
            silent[:] = [manifest for manifest in silent if not says(await server.send("GET", manifest))]
            return not silent

        async def all_is_gone() -> bool:
            left[:] = [manifest for manifest in left if (await server.send("GET", manifest))[0] != 404]
            return not left

        with contextlib.suppress(TimeoutError):
            await until(all_is_said, 120, every=1.0)
        assert not silent, f"nothing is said about {[(m['kind'], m['spec']) for m in silent]}"
        for manifest in made:
            await server.send("DELETE", manifest, dry=False)
        with contextlib.suppress(TimeoutError):
            await until(all_is_gone, 120, every=1.0)
        assert not left, f"not gone: {[(m['kind'], m['metadata']['name']) for m in left]}"
    finally:
        await operator.stop()


def says(answer: tuple[int, generated.Tree]) -> bool:
    """Whether this generation is Ready, or a person is told why not."""
    _, stored = answer
    status = stored["status"]
    ready = next((each for each in status.get("conditions", ()) if each["type"] == "Ready"), None)
    if ready is None or status["observedGeneration"] != stored["metadata"]["generation"]:
        return False
    return bool(ready["status"] == "True" or (ready["reason"] and ready.get("message")))
