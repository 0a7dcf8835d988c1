"""What the README and the pages of docs/ show can be applied, and what they link to is there."""

import ast
import re
from pathlib import Path

import pytest

from tests import documents
from tests.documents import Block
from vdcos import api

ROOT = documents.ROOT
PAGES = documents.PAGES
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
BLOCKS = documents.all_blocks()


@pytest.mark.parametrize("block", BLOCKS, ids=[block.name for block in BLOCKS])
def test_manifests_of_a_page_are_valid(block: Block) -> None:
    """Those of our kinds, excerpts in their places; what an API server says is asked in tests/devcluster."""
    for item in block.served:
        if item["apiVersion"] == api.API_VERSION:
            api.parse(api.KINDS[str(item["kind"])], item)


def test_the_readme_declares_one_of_each_kind() -> None:
    shown = [item["kind"] for block in documents.all_blocks([ROOT / "README.md"]) for item in block.objects]
    assert shown == ["Network", "Datastore", "VirtualMachine"]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if not link.startswith(("https://", "#")):
            path, _, anchor = link.partition("#")
            target = page.parent / path
            assert target.exists(), link
            if anchor:
                assert anchor in anchors(target.read_text()), link


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


SAYING = {"false": 1, "unknown": 1, "stalled": 0, "Problem": 0}
"""Functions that say that something is wrong, and which of their arguments is the reason."""


PARTS = tuple(ROOT / "operator" / "vdcos" / part for part in ("services", "providers"))


def complaints(*parts: Path) -> set[str]:
    """The reasons that stand literally in such calls of the services and providers, or of some parts of them."""
    found: set[str] = set()
    for part in parts or PARTS:
        for source in sorted(part.rglob("*.py")):
            for call in (node for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.Call)):
                name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
                position = SAYING.get(name)
                if position is not None and len(call.args) > position:
                    reason = call.args[position]
                    if isinstance(reason, ast.Constant):
                        found.add(str(reason.value))
    return found


UNEXPLAINED = {"NotRunning", "UpToDate", "LiveUpdate", "NotConnected", "CannotSee", "NamespaceUnknown"}
"""These explain themselves, or never last."""


def test_every_complaint_is_in_the_troubleshooting_page() -> None:
    page = (ROOT / "docs" / "guide" / "troubleshooting.md").read_text()
    missing = {
        reason
        for reason in complaints() - UNEXPLAINED
        if f"`{reason}`" not in page and not reason.endswith("Unreadable")
    }
    assert not missing


def test_the_troubleshooting_page_invents_no_reason() -> None:
    page = (ROOT / "docs" / "guide" / "troubleshooting.md").read_text()
    cells = [cell for line in page.splitlines() if line.startswith("|") for cell in line.split("|")[1:3]]
    named = {word for cell in cells for word in re.findall(r"`([A-Z][A-Za-z]+)`", cell)}
    sources = "".join(path.read_text() for path in (ROOT / "operator" / "vdcos").rglob("*.py"))
    unknown = {word for word in named if f'"{word}"' not in sources}
    # Some reasons are put together from a word and its ending, such as Secret and Missing.
    assert all(word.endswith("Missing") for word in unknown), unknown
