"""Every YAML block of the README and of docs/ is taken by a real API server, with KubeVirt's and CDI's webhooks."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster.cluster import Cluster
from tests import documents
from tests.documents import Block, Tree

BLOCKS = documents.all_blocks()
LEFT = ("Namespace",)
"""Kinds that stay until the end: what is in them would go, too."""


@pytest.fixture(scope="module")
def served(cluster: Cluster, installed: Path) -> Iterator[Cluster]:
    """Our kinds, and the namespaces that the pages speak of. No operator: what is taken is not to be carried out."""
    names = {str(each["metadata"].get("namespace", "")) for block in BLOCKS for each in block.served} - {""}
    there = {each["metadata"]["name"] for each in cluster.get("namespaces")["items"]}
    made = sorted(names - there)
    for name in made:
        cluster.kubectl("create", "namespace", name)
    yield cluster
    if made:
        cluster.kubectl("delete", "namespace", *made, "--wait=false")


@pytest.mark.parametrize("block", BLOCKS, ids=[block.name for block in BLOCKS])
def test_a_block_is_taken(served: Cluster, block: Block) -> None:
    """Created, as it stands there, and removed."""
    manifest = listed(block.served)
    if not block.served:
        return
    # A dry run first: whatever it shows, it must not meet what another block or the cluster has under that name.
    served.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", stdin=manifest)
    gone = [each for each in block.served if each["kind"] not in LEFT and not exists(served, each)]
    try:
        served.kubectl("create", "--validate=strict", "-f", "-", stdin=listed(gone))
    finally:
        served.kubectl("delete", "--ignore-not-found", "--wait=true", "--timeout=60s", "-f", "-", stdin=listed(gone))


def test_there_are_blocks_and_none_is_left_out() -> None:
    """The number is counted from the pages' text, by another rule."""
    fences = sum(
        line.strip().startswith(("```yaml", "```yml"))
        for page in documents.PAGES
        for line in page.read_text().splitlines()
    )
    excerpts = sum(block.excerpt for block in BLOCKS)
    foreign = sum(not block.served for block in BLOCKS)
    print(f"{len(BLOCKS)} YAML blocks: {len(BLOCKS) - foreign} applied ({excerpts} of them excerpts), {foreign} parsed")
    assert len(BLOCKS) == fences > 20
    assert foreign <= len(BLOCKS) // 4


def listed(objects: tuple[Tree, ...] | list[Tree]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})


def exists(cluster: Cluster, item: Tree) -> bool:
    group = str(item["apiVersion"]).rpartition("/")[0].partition("/")[0]
    kind = f"{item['kind']}.{group}" if group else str(item["kind"])
    where = ("-n", item["metadata"]["namespace"]) if "namespace" in item["metadata"] else ()
    return bool(
        cluster.kubectl("get", kind, item["metadata"]["name"], *where, "--ignore-not-found", "-o", "name").strip()
    )
