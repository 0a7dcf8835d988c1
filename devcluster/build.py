"""Builds the control plane from pinned Go modules, once: every program and the manifests that the programs print.

A program is cached under a digest of all that it is made from (module files, our own sources, flags, Go version), so
nothing is built twice and two checkouts share what they have in common. Two builds at once wait for each other; an
interrupted build leaves nothing that a later one could mistake for a result.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

KUBERNETES = "v1.35.4"
KUBEVIRT = "v1.8.2"
CDI = "v1.65.0"
ETCD = "v3.6.5"

GO_SERIES = "1.26"  # with Go 1.27 the API server's /openapi is malformed and kubectl's validation fails
MODULES = Path(__file__).parent / "modules"
_GO_LOCK = Path(__file__).parent / "go.lock"

Report = Callable[[str, str, float], None]
"""Takes a name, its state (``cached``, ``building``, ``built`` ...) and the seconds spent so far."""


class BuildError(Exception):
    """A program could not be built; the message ends with what the failing command printed last."""


def _stamp(packages: tuple[str, ...], version: str, **more: str) -> str:
    values = {"gitVersion": version, "gitCommit": "unknown", **more}
    return " ".join(f"-X {package}.{name}={value}" for package in packages for name, value in values.items())


_KUBERNETES_STAMP = _stamp(
    ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"),
    KUBERNETES,
    gitMajor="1",
    gitMinor="35",
    gitTreeState="archive",
)
_KUBEVIRT_STAMP = _stamp(("kubevirt.io/client-go/version",), KUBEVIRT, gitTreeState="clean")


@dataclass(frozen=True)
class Program:
    """One executable: the Go package that it is, in one of our modules (or the absolute path of another), what the
    linker stamps into it, and its build tags."""

    name: str
    module: str
    package: str
    stamp: str = ""
    tags: str = ""

    def flags(self) -> list[str]:
        tags = [f"-tags={self.tags}"] if self.tags else []
        return ["-trimpath", "-buildvcs=false", f"-ldflags=-s -w {self.stamp}".rstrip(), *tags]


PROGRAMS = (
    Program("etcd", "kubernetes", "go.etcd.io/etcd/server/v3"),
    *(
        Program(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", _KUBERNETES_STAMP)
        for name in ("kubectl", "kube-scheduler", "kube-controller-manager", "kube-apiserver")
    ),
    *(
        Program(name, "kubevirt", f"kubevirt.io/kubevirt/cmd/{name}", _KUBEVIRT_STAMP)
        for name in ("virt-controller", "virt-api")
    ),
    Program("kubevirt-manifests", "kubevirt", "./kubevirt-manifests"),
    Program("cdi", "cdi", "./cdi"),
)
PROMETHEUS = tuple(
    # Without what finds targets in clouds: it is most of the code, and not all of it is to be had as Go modules.
    Program(name, "prometheus", f"github.com/prometheus/prometheus/cmd/{name}", tags="remove_all_sd")
    for name in ("promtool", "prometheus")
)
HELM = Program("helm", "helm", "helm.sh/helm/v4/cmd/helm", "-X helm.sh/helm/v4/internal/version.version=v4.3.1")
VERDICTS = Program("verdicts", "gitops", "./verdicts")
TOOLS = (HELM, VERDICTS, *PROMETHEUS)
"""For tests of the chart, of what GitOps tools say, and of alerts and dashboards; no part of a cluster."""
_FROM_ASSETS = ("etcd", "kube-apiserver", "kubectl")

_DEFINITION_FILES = {
    "github.com/kubernetes-csi/external-snapshotter/client/v8": "config/crd/*.storage.k8s.io_*.yaml",
    "github.com/k8snetworkplumbingwg/network-attachment-definition-client": "artifacts/networks-crd.yaml",
}


@dataclass(frozen=True)
class Artifacts:
    """Everything a cluster is started from."""

    programs: Mapping[str, Path]
    manifests: Path

    def __getitem__(self, program: str) -> str:
        return str(self.programs[program])

    def objects(self) -> list[dict[str, Any]]:
        """What the operators of KubeVirt and CDI would install, and the definitions of snapshots and networks."""
        items: list[dict[str, Any]] = json.loads(self.manifests.read_bytes())["items"]
        return items


def cache_directory() -> Path:
    """``VDCOS_CACHE``, else ``vdcos`` in the user's cache directory."""
    if chosen := os.environ.get("VDCOS_CACHE"):
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "vdcos"


def ensure(report: Report, *, cache: Path | None = None, more: Iterable[Program] = ()) -> Artifacts:
    """Return all programs (and ``more``, of other modules) and manifests, building what the cache lacks.

    Raises :class:`BuildError`. ``KUBEBUILDER_ASSETS`` gives etcd, kube-apiserver and kubectl when it has them.
    """
    cache = cache or cache_directory()
    programs = _assets()
    for name, path in programs.items():
        report(name, f"from KUBEBUILDER_ASSETS ({path.parent})", 0.0)
    wanted = [program for program in (*PROGRAMS, *more) if program.name not in programs]
    cache.mkdir(parents=True, exist_ok=True)
    go = _go(cache, report)
    version = _go_version(go)
    with _locked(cache / "lock", report):
        for program in wanted:
            target = cache / f"{program.name}-{_digest(program, version)}" / program.name
            if target.exists():
                report(program.name, "cached", 0.0)
            else:
                _build(program, go, target, report)
            programs[program.name] = target
        manifests = _manifests(programs, go, cache, report)
    return Artifacts(programs, manifests)


def _assets() -> dict[str, Path]:
    directory = os.environ.get("KUBEBUILDER_ASSETS")
    if not directory:
        return {}
    found = {name: Path(directory).absolute() / name for name in _FROM_ASSETS}
    return {name: path for name, path in found.items() if os.access(path, os.X_OK)}


# Go itself


def _go(cache: Path, report: Report) -> Path:
    """The machine's Go if it is of the right series, else the one pinned in go.lock, installed into the cache."""
    if (found := shutil.which("go")) and f"go{GO_SERIES}." in _go_version(Path(found)):
        return Path(found)
    directory = cache / f"go-{hashlib.sha256(_GO_LOCK.read_bytes()).hexdigest()[:12]}"
    go = directory / "go" / "bin" / "go"
    with _locked(cache / "go.lock", report):
        if not go.exists():
            started = time.monotonic()
            report("go", "installing", 0.0)
            with _fresh(directory) as temporary:
                pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
                pip += ["--only-binary=:all:", "--require-hashes", "--target", str(temporary), "-r", str(_GO_LOCK)]
                _run("go", pip, cwd=cache, report=report, environment=dict(os.environ))
            report("go", "installed", time.monotonic() - started)
    return go


def _go_environment() -> dict[str, str]:
    # GOFLAGS or CGO_ENABLED of the user's would give every package another cache key and compile all of it again.
    # The compiler spends a third of its time on collecting garbage; with GOGC=400 it takes more memory instead.
    fixed = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOWORK": "off"}
    return {"GOGC": "400", **os.environ, **fixed}


def _go_version(go: Path) -> str:
    """Such as ``go version go1.26.8 linux/amd64``."""
    command = [str(go), "version"]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=_go_environment()).stdout.strip()


# One program


def _digest(program: Program, go_version: str) -> str:
    module = MODULES / program.module
    digest = hashlib.sha256(f"{go_version}\n{program.package}\n{program.flags()}\n".encode())
    sources = sorted((module / program.package).glob("*.go")) if program.package.startswith("./") else []
    for path in (module / "go.mod", module / "go.sum", *sources):
        digest.update(f"{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _build(program: Program, go: Path, target: Path, report: Report) -> None:
    started = time.monotonic()
    with _fresh(target.parent) as temporary:
        command = [str(go), "build", *program.flags(), "-o", str(temporary / program.name), program.package]
        _run(program.name, command, cwd=MODULES / program.module, report=report, environment=_go_environment())
    report(program.name, "built", time.monotonic() - started)


def _run(name: str, command: list[str], *, cwd: Path, report: Report, environment: dict[str, str]) -> None:
    """Run a long command, reporting every second that it still does."""
    started = time.monotonic()
    process = subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0
    )
    state = "building" if "build" in command else "installing"
    try:
        while True:
            report(name, state, time.monotonic() - started)
            with contextlib.suppress(subprocess.TimeoutExpired):
                output, _ = process.communicate(timeout=1.0)
                break
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()
        raise
    if process.returncode:
        tail = "\n".join(output.splitlines()[-30:])
        raise BuildError(f"{name}: {' '.join(command)} (in {cwd}) ended with {process.returncode}:\n{tail}")


# Manifests


def _manifests(programs: Mapping[str, Path], go: Path, cache: Path, report: Report) -> Path:
    sources = [str(programs["kubevirt-manifests"].parent), str(programs["cdi"].parent)]
    pins = [(MODULES / "crds" / name).read_text() for name in ("go.mod", "go.sum")]
    digest = hashlib.sha256("\n".join([*sources, *pins, Path(__file__).read_text()]).encode()).hexdigest()[:16]
    target = cache / f"manifests-{digest}" / "objects.json"
    if target.exists():
        report("manifests", "cached", 0.0)
        return target
    started = time.monotonic()
    report("manifests", "building", 0.0)
    items = [
        *_printed_by(str(programs["kubevirt-manifests"])),
        *_printed_by(str(programs["cdi"]), "manifests"),
        *_definitions(go),
    ]
    with _fresh(target.parent) as temporary:
        (temporary / target.name).write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    report("manifests", "built", time.monotonic() - started)
    return target


def _printed_by(*command: str) -> list[dict[str, Any]]:
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    if result.returncode:
        raise BuildError(f"{' '.join(command)} ended with {result.returncode}: {result.stderr.strip()}")
    items: list[dict[str, Any]] = json.loads(result.stdout)["items"]
    return items


def _definitions(go: Path) -> Iterator[dict[str, Any]]:
    """Custom resource definitions that are files of a module."""
    command = [str(go), "mod", "download", "-json", *_DEFINITION_FILES]
    result = subprocess.run(
        command, cwd=MODULES / "crds", env=_go_environment(), check=False, capture_output=True, text=True
    )
    if result.returncode:
        raise BuildError(f"{' '.join(command)} ended with {result.returncode}: {result.stdout}{result.stderr}")
    decoder = json.JSONDecoder()
    rest = result.stdout.lstrip()
    while rest:
        module, end = decoder.raw_decode(rest)
        rest = rest[end:].lstrip()
        files = sorted(Path(module["Dir"]).glob(_DEFINITION_FILES[module["Path"]]))
        if not files:
            raise BuildError(f"{module['Path']}@{module['Version']} has no {_DEFINITION_FILES[module['Path']]}")
        for file in files:
            yield from (document for document in yaml.safe_load_all(file.read_text()) if document)


# Files


@contextlib.contextmanager
def _fresh(directory: Path) -> Iterator[Path]:
    """A temporary directory that becomes ``directory`` in one step when the block ends well, and vanishes otherwise."""
    for left_over in directory.parent.glob(f"{directory.name}.tmp-*"):
        shutil.rmtree(left_over, ignore_errors=True)  # of a killed build: we hold the lock
    temporary = directory.with_name(f"{directory.name}.tmp-{os.getpid()}")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        shutil.rmtree(directory, ignore_errors=True)
        temporary.rename(directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _locked(path: Path, report: Report) -> Iterator[None]:
    """Hold an exclusive lock that the kernel drops when its holder dies, however that happens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("lock", f"waiting for another build in {path.parent}", 0.0)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def console_report(name: str, state: str, seconds: float) -> None:
    """One line per program: rewritten in place on a terminal, printed at its start and end otherwise."""
    finished = not re.fullmatch("building|installing", state)
    if sys.stderr.isatty():
        line = f"\r  {name:<26}{state:<12}{f'{seconds:7.1f} s' if seconds else '':>9}\x1b[K"
        print(line, end="\n" if finished else "", file=sys.stderr, flush=True)
    elif finished or not seconds:
        print(f"  {name:<26}{state:<12}{f'{seconds:7.1f} s' if finished and seconds else ''}".rstrip(), file=sys.stderr)
