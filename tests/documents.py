"""The `yaml` blocks of the README and of docs/: whole objects, or excerpts that belong into the example of a kind."""

import copy
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Tree = dict[str, Any]

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "docs" / "reference" / "examples"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
_BLOCK = re.compile(r"^(?P<indent> *)```ya?ml[^\n]*\n(?P<body>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
_EXCERPT = re.compile(r"<!-- excerpt of (?P<kind>[A-Za-z]+)(?:: (?P<path>[A-Za-z.]+))? -->\s*$")
_READ = re.compile(r"<!-- read by (?P<product>kustomize|Alertmanager|Helm|Prometheus) -->\s*$")
FOREIGN: dict[str, str] = {
    "argoproj.io": "Argo CD",
    "helm.toolkit.fluxcd.io": "Flux",
    "kustomize.config.k8s.io": "kustomize, which reads it from a file",
    "kustomize.toolkit.fluxcd.io": "Flux",
    "monitoring.coreos.com": "the Prometheus operator",
    "source.toolkit.fluxcd.io": "Flux",
}
"""Groups that pages show and that the devcluster does not serve, and whose they are. Their blocks are only parsed."""


class Unmarked(Exception):
    """A block is neither whole objects nor says what it is an excerpt of."""


@dataclass(frozen=True)
class Block:
    """One block: a page, the line on which it begins, and the objects that it shows or becomes."""

    page: Path
    line: int
    objects: tuple[Tree, ...]
    excerpt: bool = False
    reader: str = ""
    """Whose file it is a part of, where that is no object of the API."""

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"

    @property
    def served(self) -> tuple[Tree, ...]:
        """What the devcluster knows of it."""
        if self.reader:
            return ()
        return tuple(each for each in self.objects if str(each["apiVersion"]).partition("/")[0] not in FOREIGN)


def blocks(page: Path, text: str) -> Iterator[Block]:
    """Every block of a page. Raises Unmarked."""
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        documents = [each for each in yaml.safe_load_all(textwrap.dedent(found["body"])) if each is not None]
        if marked := _EXCERPT.search(text, 0, found.start()):
            base = example(marked["kind"])
            yield Block(page, line, tuple(put(base, marked["path"] or "", each) for each in documents), excerpt=True)
        elif read := _READ.search(text, 0, found.start()):
            yield Block(page, line, tuple(documents), reader=read["product"])
        elif documents and all(isinstance(each, dict) and {"kind", "apiVersion"} <= each.keys() for each in documents):
            yield Block(page, line, tuple(documents))
        else:
            raise Unmarked(
                f"{page.name}:{line}: say what it is: <!-- excerpt of Kind: path.of.it -->, <!-- read by Helm --> ..."
            )


def example(kind: str) -> Tree:
    """The example of a kind, which the reference shows."""
    whole: Tree = yaml.safe_load((EXAMPLES / f"{kind.lower()}.yaml").read_text())
    return whole


def put(base: Tree, path: str, part: Any) -> Tree:
    """The example with a part in its place: maps are merged, all else is replaced."""
    whole = copy.deepcopy(base)
    below: Any = part
    for step in reversed(path.split(".") if path else ()):
        below = {step: below}
    merged: Tree = _merged(whole, below)
    return merged


def _merged(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return {name: _merged(old.get(name), new[name]) if name in new else old[name] for name in {**old, **new}}
    return new


def all_blocks(pages: Sequence[Path] = PAGES) -> tuple[Block, ...]:
    return tuple(block for page in pages for block in blocks(page, page.read_text()))
