"""Hooks of MkDocs (mkdocs.yml): the navigation follows the folders, and links that leave docs/ become words.

Pages link to each other and to files of the repository as they lie there, so that they can be read there, too.
"""

import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"(!?)\[([^\]\[]*)\]\(((?:\.\./)+[^)\s#]*)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """List the folders of the navigation."""
    config.nav = _listed(config.nav, Path(config.docs_dir))
    return config


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """A link to a file of the repository that is no page becomes the name of that file."""
    docs = Path(config.docs_dir).resolve()
    here = (docs / page.file.src_uri).parent

    def said(link: re.Match[str]) -> str:
        target = (here / link[3]).resolve()
        if link[1] or target.is_relative_to(docs):
            return link[0]
        if not target.exists():
            raise FileNotFoundError(f"{page.file.src_uri} links to {link[3]}, which is not there")
        name = target.relative_to(docs.parent).as_posix()
        text = link[2].strip("`")
        return f"`{name}`" if text in (name, target.name) else f"{link[2]} (`{name}`)"

    return LINK.sub(said, markdown)


def _listed(entries: list[Any], docs: Path) -> list[Any]:
    found: list[Any] = []
    for entry in entries:
        if isinstance(entry, dict):
            ((title, below),) = entry.items()
            found.append({title: _listed(below, docs) if isinstance(below, list) else below})
        elif entry.endswith("/*"):
            pages = sorted((docs / entry[:-2]).glob("*.md"), key=lambda page: (page.name != "README.md", page.name))
            found += [page.relative_to(docs).as_posix() for page in pages]
        else:
            found.append(entry)
    return found
