"""The build's cache, tried with a Go that only pretends: what is built, when again, and what a failure leaves."""

import json
import os
import shutil
import threading
from pathlib import Path

import pytest

from devcluster import build

GO = """\
#!/bin/sh
case "$1" in
version) echo "go version go1.26.99 test/none" ;;
build)
    echo "$*" >> "$FAKE_GO_LOG"
    while [ "$1" != -o ]; do shift; done
    case "$3" in *"$FAKE_GO_FAILS") echo "cannot find package $3"; exit 1 ;; esac
    printf '#!/bin/sh\\necho %s\\n' "'{\\"items\\": [{\\"kind\\": \\"Printed\\"}]}'" > "$2"
    chmod +x "$2" ;;
mod) cat "$FAKE_GO_MODULES" ;;
esac
"""


class FakeGo:
    """The machine as the build sees it: a Go on the path, a cache, and copies of our modules."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cache = directory / "cache"
        self.modules = directory / "modules"
        self._log = directory / "go.log"
        self._log.touch()
        binaries = directory / "bin"
        binaries.mkdir()
        (binaries / "go").write_text(GO)
        (binaries / "go").chmod(0o755)
        for name in ("kubernetes", "kubevirt", "cdi", "crds"):
            shutil.copytree(build.MODULES / name, self.modules / name)
        downloaded = [
            {"Path": module, "Version": "v1", "Dir": str(directory / "downloaded" / str(number))}
            for number, module in enumerate(build._DEFINITION_FILES)
        ]
        for module in downloaded:
            file = Path(module["Dir"]) / build._DEFINITION_FILES[module["Path"]].replace("*", "x")
            file.parent.mkdir(parents=True)
            file.write_text("kind: CustomResourceDefinition\n---\n")
        (directory / "modules.json").write_text("\n".join(json.dumps(module) for module in downloaded))
        monkeypatch.setattr(build, "MODULES", self.modules)
        monkeypatch.setenv("PATH", f"{binaries}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("FAKE_GO_LOG", str(self._log))
        monkeypatch.setenv("FAKE_GO_MODULES", str(directory / "modules.json"))
        monkeypatch.setenv("FAKE_GO_FAILS", "nothing")
        monkeypatch.setenv("VDCOS_CACHE", str(self.cache))
        monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
        self.reports: list[tuple[str, str]] = []

    def ensure(self) -> build.Artifacts:
        return build.ensure(lambda name, state, _seconds: self.reports.append((name, state)))

    def built(self) -> list[str]:
        """The packages built since the last call, in order."""
        packages = [line.split()[-1] for line in self._log.read_text().splitlines()]
        self._log.write_text("")
        return packages


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGo:
    return FakeGo(tmp_path, monkeypatch)


def test_every_program_is_built_once_and_reported(go: FakeGo) -> None:
    artifacts = go.ensure()
    assert go.built() == [program.package for program in build.PROGRAMS]
    assert all(os.access(artifacts[program.name], os.X_OK) for program in build.PROGRAMS)
    assert {name for name, state in go.reports if state == "built"} == artifacts.programs.keys() | {"manifests"}
    assert [item["kind"] for item in artifacts.objects()] == ["Printed", "Printed", *["CustomResourceDefinition"] * 2]

    assert go.ensure() == artifacts
    assert go.built() == []


@pytest.mark.parametrize(
    ("changed", "rebuilt"),
    [
        ("cdi/cdi/manifests.go", ["./cdi"]),
        ("cdi/go.sum", ["./cdi"]),
        ("kubevirt/kubevirt-manifests/main.go", ["./kubevirt-manifests"]),
        ("kubernetes/go.mod", [program.package for program in build.PROGRAMS if program.module == "kubernetes"]),
        ("crds/go.mod", []),
    ],
)
def test_only_what_a_change_concerns_is_built_again(go: FakeGo, changed: str, rebuilt: list[str]) -> None:
    go.ensure()
    go.built()
    go.reports.clear()
    with (go.modules / changed).open("a") as file:
        file.write("// changed\n")
    go.ensure()
    assert go.built() == rebuilt
    printed = {"./cdi", "./kubevirt-manifests"} & {*rebuilt} or changed.startswith("crds")
    assert (("manifests", "built") in go.reports) == bool(printed)


def test_a_failure_names_the_program_and_leaves_no_trace_of_it(go: FakeGo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_GO_FAILS", "virt-api")
    with pytest.raises(
        build.BuildError, match=r"(?s)^virt-api: .*cannot find package kubevirt.io/kubevirt/cmd/virt-api"
    ):
        go.ensure()
    assert not list(go.cache.glob("virt-api-*"))

    monkeypatch.setenv("FAKE_GO_FAILS", "nothing")
    go.built()
    go.ensure()
    assert go.built() == ["kubevirt.io/kubevirt/cmd/virt-api", "./kubevirt-manifests", "./cdi"]


def test_left_overs_of_a_killed_build_are_swept(go: FakeGo) -> None:
    target = Path(go.ensure()["cdi"])
    shutil.rmtree(target.parent)
    left_over = target.parent.with_name(f"{target.parent.name}.tmp-1")
    left_over.mkdir()
    (left_over / "cdi").write_text("half a program")
    assert go.ensure()["cdi"] == str(target)
    assert "half" not in target.read_text()
    assert not left_over.exists()


def test_two_builds_at_once_do_the_work_once(go: FakeGo) -> None:
    threads = [threading.Thread(target=go.ensure) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert go.built() == [program.package for program in build.PROGRAMS]


def test_assets_of_kubebuilder_are_used_as_far_as_they_go(
    go: FakeGo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assets = tmp_path / "assets"
    assets.mkdir()
    for name in ("etcd", "kube-apiserver"):
        (assets / name).touch(mode=0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    artifacts = go.ensure()
    assert artifacts["etcd"] == str(assets / "etcd")
    built = go.built()
    assert {"kubectl", "kube-scheduler"} <= {package.rpartition("/")[2] for package in built}
    assert not [package for package in built if package.endswith(("kube-apiserver", "etcd/server/v3"))]


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"VDCOS_CACHE": "/a/b"}, "/a/b"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/vdcos"),
        ({"XDG_CACHE_HOME": "", "HOME": "/home/jane"}, "/home/jane/.cache/vdcos"),
    ],
)
def test_cache_is_the_users(environment: dict[str, str], wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VDCOS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert build.cache_directory() == Path(wanted)
