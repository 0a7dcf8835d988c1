"""The image, as far as a machine without base images can make it: the steps of its build file in a directory, what they
give, and the operator from it against a real API server."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from devcluster.cluster import Cluster
from devcluster.processes import die_with_parent
from devcluster.waiting import eventually
from tests.devcluster import fleet, replica
from tests.devcluster.packages import ROOT
from vdcos import __version__

pytestmark = pytest.mark.packaging

CONTAINERFILE = ROOT / "image" / "Containerfile"
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("KUBECONFIG", "PYTHONPATH")}


def instructions() -> list[tuple[str, str]]:
    """Of the first stage: each with what it is given, on one line."""
    lines = [line for line in CONTAINERFILE.read_text().splitlines() if not line.startswith("#")]
    stages = re.split(r"^FROM .*\n", "\n".join(lines).replace("\\\n", " "), flags=re.MULTILINE)
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in stages[1].splitlines() if line)]


@dataclass(frozen=True)
class Image:
    """What the last stage takes over: /opt/vdcos, made somewhere else."""

    root: Path

    @property
    def environment(self) -> Path:
        return self.root / "opt" / "vdcos"

    @property
    def entry_point(self) -> str:
        return str(self.environment / "bin" / "vdcos")

    def run(self, *arguments: str) -> str:
        """The image's entry point, in its environment. Returns what it prints."""
        done = subprocess.run(
            [self.entry_point, *arguments], env=ENVIRONMENT, check=True, capture_output=True, text=True
        )
        return done.stdout


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Every step of the first stage, with / somewhere else and this Python instead of the base image's."""
    root = tmp_path_factory.mktemp("image")
    (root / "opt").mkdir()
    directory = root
    path = f"{Path(sys.executable).parent}{os.pathsep}{ENVIRONMENT['PATH']}"
    for word, rest in instructions():
        match word:
            case "WORKDIR":
                directory = root / rest.lstrip("/")
                directory.mkdir()
            case "COPY":
                *sources, target = rest.split()
                for source in sources:
                    place = directory / target
                    if (ROOT / source).is_dir():
                        shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
                    else:
                        shutil.copy(ROOT / source, place)
            case "RUN":
                step = rest.replace("/opt/", f"{root}/opt/")
                done = subprocess.run(
                    ["/bin/sh", "-e", "-c", step],
                    cwd=directory,
                    env={**ENVIRONMENT, "PATH": path},
                    check=False,
                    capture_output=True,
                    text=True,
                )
                assert done.returncode == 0, f"{step}\n{done.stdout}\n{done.stderr}"
            case _:
                raise AssertionError(f"{word} is not understood here")
    return Image(root)


def test_it_runs(image: Image) -> None:
    assert image.run("version") == f"vdcos {__version__}\n"
    assert "--fence-agents" in image.run("run", "--help")


def test_it_holds_no_package_manager_and_no_simulator(image: Image) -> None:
    packages = next(image.environment.glob("lib/python3*/site-packages"))
    assert (packages / "vdcos" / "app.py").exists()
    assert not (packages / "vdcos" / "testing").exists()
    assert not list(packages.glob("pip*"))
    assert sorted(path.name for path in (image.environment / "bin").glob("pip*")) == []
    assert list((packages / "vdcos" / "__pycache__").glob("app.*.pyc")), "compiled, as nothing can be written later"


def test_the_simulator_says_where_it_is(image: Image) -> None:
    done = subprocess.run([image.entry_point, "sim"], env=ENVIRONMENT, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "the simulator is in vdcos' repository" in done.stderr


def test_the_bill_of_materials_names_every_package_of_the_lock(image: Image) -> None:
    bill = json.loads((image.environment / "sbom.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "vdcos"
    named = {(canonicalize_name(component["name"]), component["version"]) for component in bill["components"]}
    lock = (ROOT / "image" / "runtime.lock").read_text()
    pins = re.findall(r"^([\w.-]+)==([^\s;\\]+)( ;)?", lock, re.MULTILINE)
    assert {(name, version) for name, version, elsewhere in pins if not elsewhere} <= named
    assert {name for name, _ in named} <= {name for name, _, _ in pins} | {"vdcos"}
    assert all(component.get("licenses") for component in bill["components"]), "what may be shipped has a licence"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_package_is_there_for_every_architecture(machine: str, tmp_path: Path) -> None:
    """As wheels, by their hashes: nothing is compiled when the image is built."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--require-hashes", "--only-binary=:all:", "--python-version", "3.11", "--abi", "cp311"]
    command += ["--abi", "abi3", "--abi", "none", "--implementation", "cp", "--target", str(tmp_path)]
    for glibc in ("manylinux_2_28", "manylinux_2_17", "manylinux2014"):
        command += ["--platform", f"{glibc}_{machine}"]
    command += ["--requirement", str(ROOT / "image" / "runtime.lock")]
    done = subprocess.run(command, env=ENVIRONMENT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


WATCH = """\
import os, sys
told = os.open(os.environ["WRITES"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
def watch(event, arguments):
    if event == "open":
        path, _, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if not writes or isinstance(path, int) or os.fspath(path) in ("/dev/null", b"/dev/null"):
            return
    elif event not in CHANGES:
        return
    os.write(told, f"{event} {arguments[0]!r}\\n".encode())
sys.addaudithook(watch)
"""
"""Told for everything that Python opens for writing, or changes, in the file system."""


@pytest.fixture
def watched(tmp_path: Path) -> dict[str, str]:
    """An environment in which Python tells what it writes to the file that WRITES names."""
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH)
    return {
        **ENVIRONMENT,
        "WRITES": str(tmp_path / "writes"),
        "PYTHONPATH": str(tmp_path / "watch"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def test_a_write_would_be_seen(image: Image, watched: dict[str, str], tmp_path: Path) -> None:
    python = image.environment / "bin" / "python"
    subprocess.run([python, "-c", f"open('{tmp_path}/new', 'w')"], env=watched, check=True)
    assert Path(watched["WRITES"]).read_text() == f"open '{tmp_path}/new'\n"


def test_the_operator_of_the_image_works_and_writes_no_file(
    image: Image, cluster: Cluster, installed: Path, namespace: str, watched: dict[str, str], tmp_path: Path
) -> None:
    """The root filesystem of its pod is read-only."""
    log = tmp_path / "operator.log"
    command = [image.entry_point, "run", "--kubeconfig", str(installed), "--namespace", replica.NAMESPACE]
    command += ["--lease-name", f"vdcos-{namespace}", "--listen", "127.0.0.1:0"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=watched, cwd="/", stdout=output, stderr=output, preexec_fn=die_with_parent()
        )
    try:
        cluster.apply(*fleet.infrastructure(), fleet.machine(namespace, 0))
        eventually(lambda: fleet.standing(cluster, namespace).ready == 1, 120)
    finally:
        process.terminate()
        process.wait(30)
    assert "stopped" in log.read_text()
    assert Path(watched["WRITES"]).read_text() == ""
