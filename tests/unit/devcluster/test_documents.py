"""What the README and the guide show can be applied, and what they link to is there."""

import re
from pathlib import Path

import pytest
import yaml

from vdcos import api

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guide").glob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]


def manifests(text: str) -> list[dict[str, object]]:
    """Every manifest of a page's ``yaml`` blocks; fragments (without a kind) are not manifests."""
    blocks = re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    documents = [document for block in blocks for document in yaml.safe_load_all(block)]
    return [document for document in documents if isinstance(document, dict) and "kind" in document]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_manifests_of_a_page_are_valid(page: Path) -> None:
    for document in manifests(page.read_text()):
        if document["apiVersion"] == api.API_VERSION:
            api.parse(api.KINDS[str(document["kind"])], document)


def test_the_readme_declares_one_of_each_kind() -> None:
    assert [document["kind"] for document in manifests(PAGES[0].read_text())] == [
        "Network",
        "Datastore",
        "VirtualMachine",
    ]


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
