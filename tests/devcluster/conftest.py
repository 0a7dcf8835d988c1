"""One devcluster per test run (per worker of pytest-xdist), one namespace per test.

``VDCOS_DEVCLUSTER=DIR`` uses the cluster that ``python -m devcluster up --dir DIR`` started and leaves it running.
"""

import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster.cluster import Cluster
from tests.devcluster import replica

HOSTS = 4


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if directory := os.environ.get("VDCOS_DEVCLUSTER"):
        found = Cluster(Path(directory))
        assert found.is_up, f"the cluster in {directory} does not run: {found.record.phase} {found.record.error}"
        yield found
        return
    with Cluster.running(hosts=HOSTS, directory=tmp_path_factory.mktemp("devcluster")) as started:
        yield started


@pytest.fixture(scope="session")
def installed(cluster: Cluster) -> Path:
    """CRDs and RBAC are installed; the kubeconfig of the operator's own ServiceAccount, with its generated rights."""
    return replica.install(cluster)


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    words = re.sub("[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    name = f"{words[:50].strip('-')}-{uuid.uuid4().hex[:6]}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")
