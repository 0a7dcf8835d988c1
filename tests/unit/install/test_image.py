"""What the image is built from: parts of the lock, and steps that a restricted pod can live with."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTAINERFILE = (ROOT / "image" / "Containerfile").read_text()

Lock = dict[str, tuple[str, frozenset[str]]]
"""Version and hashes by the canonical name of a package."""


def lock(path: str) -> Lock:
    entries = re.split(r"\n(?=[a-z0-9])", (ROOT / path).read_text())
    found: Lock = {}
    for entry in entries:
        if match := re.match(r"([\w.-]+)==([^\s;\\]+)", entry):
            hashes = frozenset(re.findall(r"--hash=(sha256:[0-9a-f]{64})", entry))
            found[canonicalize_name(match[1])] = (match[2], hashes)
    return found


def needed(roots: list[str]) -> set[str]:
    """What these requirements lead to, by the metadata of what is installed here."""
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(root), "") for root in roots]
    while waiting:
        requirement, asked_for = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": asked_for}):
            continue
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {extra for each, extra in seen if each == name}:
            seen.add((name, extra))
            waiting += [(Requirement(each), extra) for each in metadata.distribution(name).requires or ()]
    return {name for name, _ in seen}


PARTS = {
    "image/runtime.lock": PROJECT["project"]["dependencies"],
    "image/build.lock": PROJECT["dependency-groups"]["image"],
}


@pytest.mark.parametrize("path", PARTS)
def test_a_part_of_the_lock_says_what_the_lock_says(path: str) -> None:
    whole = lock("requirements.lock")
    for name, pinned in lock(path).items():
        assert whole[name] == pinned, name
        assert pinned[1], f"{name} has no hash"


@pytest.mark.parametrize("path", PARTS)
def test_a_part_of_the_lock_has_what_is_needed_and_nothing_else(path: str) -> None:
    wanted = needed(PARTS[path])
    have = set(lock(path))
    assert wanted <= have, f"missing: {wanted - have}"
    # What other Pythons or platforms need, too, stands there with a marker.
    text = (ROOT / path).read_text()
    elsewhere = {canonicalize_name(name) for name in re.findall(r"^([\w.-]+)==\S+ ;", text, re.MULTILINE)}
    assert have - wanted <= elsewhere, f"not needed: {have - wanted - elsewhere}"


def test_no_tool_of_developers_is_in_the_image() -> None:
    assert not {"pytest", "mypy", "ruff", "hatchling", "pip", "setuptools", "cyclonedx-bom"} & set(
        lock("image/runtime.lock")
    )


def stages() -> list[str]:
    return re.split(r"^(?=FROM )", CONTAINERFILE, flags=re.MULTILINE)[1:]


def test_the_last_stage_runs_nothing_and_is_not_root() -> None:
    last = stages()[-1]
    instructions = re.findall(r"^([A-Z]+) ", last, re.MULTILINE)
    assert "RUN" not in instructions
    assert re.findall(r"^COPY (.*)$", last, re.MULTILINE) == ["--from=build /opt/vdcos /opt/vdcos"]
    assert re.findall(r"^USER (.*)$", last, re.MULTILINE) == ["65532:65532"]


def test_every_package_is_checked_by_its_hash() -> None:
    for install in re.findall(r"-m pip [^&]*? install [^&]*", CONTAINERFILE.replace("\\\n", " ")):
        assert "--require-hashes" in install or "--no-index" in install, install
        assert "--no-deps" in install, install


def test_only_what_is_copied_is_sent_to_the_build() -> None:
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", CONTAINERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    sent = [line[1:] for line in (ROOT / ".containerignore").read_text().splitlines() if line.startswith("!")]
    assert "*" in (ROOT / ".containerignore").read_text().splitlines()
    for source in copied:
        assert any(Path(source).match(pattern) for pattern in sent), source
    assert len(sent) == len(copied) - 1, "image/*.lock stands for two"
