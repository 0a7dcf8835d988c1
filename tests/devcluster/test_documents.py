"""Every YAML block of the README and of docs/ is taken by a real API server, with KubeVirt's and CDI's webhooks."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from devcluster.cluster import Cluster
from tests import documents
from tests.documents import Block, Tree

BLOCKS = documents.all_blocks()


@dataclass(frozen=True)
class Shelf:
    """Where blocks are applied: under names and in namespaces of their own, for the cluster has other users."""

    cluster: Cluster
    suffix: str
    cluster_wide: frozenset[str]
    """Kinds that are in no namespace."""

    def namespace(self, item: Tree) -> str:
        """Where an object goes; empty when it is in no namespace."""
        if item["kind"] in self.cluster_wide:
            return ""
        return f"{item['metadata'].get('namespace', 'default')}-{self.suffix}"

    def put(self, item: Tree) -> Tree:
        meta = dict(item["metadata"])
        if space := self.namespace(item):
            meta["namespace"] = space
        else:
            meta["name"] = f"{meta['name']}-{self.suffix}"
        return {**item, "metadata": meta}

    def kubectl(self, verb: str, items: list[Tree], *options: str) -> None:
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        self.cluster.kubectl(verb, "-f", "-", *options, stdin=document)


@pytest.fixture(scope="module")
def shelf(cluster: Cluster, installed: Path) -> Iterator[Shelf]:
    """Our kinds, and namespaces. No operator: what is taken is not to be carried out."""
    lines = cluster.kubectl("api-resources", "--namespaced=false", "--no-headers").splitlines()
    made = Shelf(cluster, f"docs-{uuid.uuid4().hex[:6]}", frozenset(line.split()[-1] for line in lines))
    spaces = sorted({made.namespace(item) for block in BLOCKS for item in block.served} - {""})
    for space in spaces:
        cluster.kubectl("create", "namespace", space)
    yield made
    cluster.kubectl("delete", "namespace", *spaces, "--wait=false")


@pytest.mark.parametrize("block", BLOCKS, ids=[block.name for block in BLOCKS])
def test_a_block_is_taken(shelf: Shelf, block: Block) -> None:
    """Created, as it stands there, and removed."""
    items = [shelf.put(item) for item in block.served]
    if not items:
        assert block.objects, "what another product reads is parsed"
        return
    shelf.kubectl("create", items, "--validate=strict")
    shelf.kubectl("delete", items, "--wait=false")


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
