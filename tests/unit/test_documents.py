"""What of a page is a block, and what an excerpt becomes."""

from pathlib import Path

import pytest

from tests import documents

PAGE = documents.ROOT / "docs" / "page.md"
WHOLE = "text\n\n1. list\n\n   ```yaml\n   apiVersion: v1\n   kind: Secret\n   metadata: {name: a}\n   ```\n"
EXCERPT = "<!-- excerpt of HAPolicy: spec.restart -->\n```yaml\npriority: High\n```\n"


def test_a_block_in_a_list_is_one() -> None:
    (block,) = documents.blocks(PAGE, WHOLE)
    assert (block.line, block.excerpt, [each["kind"] for each in block.objects]) == (5, False, ["Secret"])


def test_an_excerpt_is_put_into_the_example() -> None:
    (block,) = documents.blocks(PAGE, EXCERPT)
    (whole,) = block.objects
    before = documents.example("HAPolicy")
    assert block.excerpt
    assert whole["spec"]["restart"] == {**before["spec"].get("restart", {}), "priority": "High"}
    assert whole["metadata"] == before["metadata"]


@pytest.mark.parametrize("text", ["```yaml\nspec: {}\n```\n", "```yaml\n- a\n```\n", "```yaml\n```\n"])
def test_what_says_nothing_of_itself_is_not_skipped(text: str) -> None:
    with pytest.raises(documents.Unmarked, match=r"page\.md:1"):
        list(documents.blocks(PAGE, text))


def test_a_mark_counts_for_the_next_block_only() -> None:
    with pytest.raises(documents.Unmarked):
        list(documents.blocks(PAGE, EXCERPT + "```yaml\npriority: Low\n```\n"))


def test_a_part_of_another_products_file_says_whose() -> None:
    (block,) = documents.blocks(PAGE, "<!-- read by kustomize -->\n```yaml\ncomponents: [a]\n```\n")
    assert (block.reader, block.served) == ("kustomize", ())


def test_what_another_product_reads_is_parsed_only(tmp_path: Path) -> None:
    text = "```yaml\napiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: a}\n```\n"
    (block,) = documents.blocks(PAGE, text)
    assert not block.served
