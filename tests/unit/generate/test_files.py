"""Files are written where they differ, verified without writing, and removed when nothing generates them any more."""

import shutil
from pathlib import Path

import pytest
import yaml

from vdcos import generate
from vdcos.generate.__main__ import main

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(REPOSITORY / generate.EXAMPLES, tmp_path / generate.EXAMPLES)
    (tmp_path / generate.RULES).parent.mkdir(parents=True)
    shutil.copy(REPOSITORY / generate.RULES, tmp_path / generate.RULES)
    return tmp_path


def test_written_once_and_current_after_that(root: Path) -> None:
    written = generate.write(root, [])
    assert written == sorted(generate.render(root, []))
    assert generate.write(root, []) == []
    assert generate.differences(root, []) == ""


def test_differences_are_shown_and_mended(root: Path) -> None:
    generate.write(root, [])
    crd = root / "crds/networks.yaml"
    crd.write_text(crd.read_text().replace("vdcnet", "net"))
    difference = generate.differences(root, [])
    assert "--- crds/networks.yaml (repository)" in difference
    assert "-      - net\n+      - vdcnet\n" in difference
    assert generate.write(root, []) == ["crds/networks.yaml"]


def test_what_is_no_longer_generated_is_removed(root: Path) -> None:
    generate.write(root, [])
    (root / "crds/switches.yaml").write_text("kind: Switch\n")
    (root / "crds/README.txt").write_text("kept\n")
    assert "-kind: Switch" in generate.differences(root, [])
    assert generate.write(root, []) == ["crds/switches.yaml"]
    assert not (root / "crds/switches.yaml").exists()
    assert (root / "crds/README.txt").exists()
    assert (root / generate.EXAMPLES / "network.yaml").exists()


def test_kustomizations_list_their_files(root: Path) -> None:
    files = generate.render(root, [])
    for directory in ("crds", "manifests/rbac"):
        listed = yaml.safe_load(files[f"{directory}/kustomization.yaml"])["resources"]
        assert listed == sorted(
            path.rsplit("/", 1)[1]
            for path in files
            if path.startswith(f"{directory}/") and not path.endswith("kustomization.yaml")
        )


def test_command_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", str(root)]) == 1
    assert "crds/datastores.yaml (generated)" in capsys.readouterr().out
    assert main([str(root)]) == 0
    assert "docs/reference/network.md\n" in capsys.readouterr().out
    assert main(["--check", str(root)]) == 0
    assert capsys.readouterr().out == ""
