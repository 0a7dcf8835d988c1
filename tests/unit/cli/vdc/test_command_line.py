"""The command line of the plug-in: help, errors, exit statuses, completion, and krew's manifest."""

import hashlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from vdcos import __version__
from vdcos.cli import vdc
from vdcos.cli.vdc import completion
from vdcos.core.objects import Unreadable
from vdcos.runtime.credentials import NoCluster

ROOT = Path(__file__).resolve().parents[4]
KREW = ROOT / "manifests" / "krew" / "vdc.yaml"


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


@pytest.mark.parametrize("command", [name for name in vdc.COMMANDS if name != "version"])
def test_every_command_says_how_it_is_used(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        vdc.main([command, "--help"])
    text = capsys.readouterr().out
    assert left.value.code == 0
    assert text.startswith(f"usage: kubectl vdc {command}")
    assert "examples:\n  " in text
    assert command == "completion" or "exit status: 0 " in text
    assert max(map(len, text.splitlines())) <= 110


def test_the_command_line_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(name for name, _ in completion._briefs()) == vdc.COMMANDS
    assert vdc.main(["version"]) == 0
    assert capsys.readouterr().out == f"kubectl vdc {__version__}\n"


@pytest.mark.parametrize(
    "words", [["status", "-A"], ["tree"], ["why", "vm/web"], ["ha", "plan"], ["drill", "h"], ["import"]]
)
def test_without_a_cluster_it_says_what_is_missing(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert vdc.main(words) == 1
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith("kubectl vdc: there is no kubeconfig at ")
    assert said.err.endswith("give one with --kubeconfig or KUBECONFIG\n")


def test_a_mistyped_object_and_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert vdc.main(["why", "pod/web"]) == 1
    assert "say what it is as KIND/NAME" in capsys.readouterr().err
    assert vdc.main(["diff", "-f", "/nowhere.yaml"]) == 1
    assert capsys.readouterr().err == "kubectl vdc: cannot read /nowhere.yaml: No such file or directory\n"


def test_a_name_without_a_namespace_is_of_the_one_that_is_asked_about(capsys: pytest.CaptureFixture[str]) -> None:
    """And not of that which stands before another name."""
    assert vdc.main(["tree", "vm/shop/web", "vm/db", "-n", "data"]) == 1
    assert capsys.readouterr().err == "kubectl vdc: tree shows VMs of one namespace at a time\n"


def test_the_namespace_is_that_of_the_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vdcos.cli.vdc import where

    contexts = [
        {"name": name, "context": {"cluster": "c", "user": "u", **more}}
        for name, more in (("a", {"namespace": "shop"}), ("b", {}))
    ]
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "a",
        "contexts": contexts,
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {}}],
    }
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(path))

    def namespace(*words: str) -> str:
        return where.namespace_of(vdc.parser().parse_args(["status", *words]))

    assert namespace() == "shop"
    assert namespace("--context", "b") == "default"
    assert namespace("-n", "other") == "other"
    assert namespace("-A") == ""
    with pytest.raises(NoCluster, match="there is no context c"):
        namespace("--context", "c")


def test_a_drill_names_what_may_not_be_read_and_not_what_is_optional(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from vdcos.cli import ha
    from vdcos.cli.vdc import run

    unread = [Unreadable("the API a is absent"), Unreadable("nobody lets you read b", forbidden=True)]
    found = {"host": "h", "restarts": 0, "stays": 0, "virtualMachines": []}
    monkeypatch.setattr(run, "origin_of", lambda chosen: None)
    monkeypatch.setattr(ha, "world", lambda origin: (None, unread))
    monkeypatch.setattr(ha, "drill", lambda store, host: found)
    assert vdc.main(["drill", "h"]) == 0
    assert capsys.readouterr().err == "kubectl vdc: nobody lets you read b\n"


# Completion


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["st"], (["status\tthe datacenter on one screen"], ":4")),
        (["why", "vm"], (["vm/"], ":4")),
        (["why", ""], (["vm/", "network/", "datastore/", "host/", "hapolicy/", "hostfailure/"], ":4")),
        (["tree", ""], (["vm/"], ":4")),
        (["status", "-o", ""], (["table", "json", "yaml"], ":4")),
        (["ha", ""], (["plan"], ":4")),
        (["completion", "z"], (["zsh"], ":4")),
        (["diff", "-f", ""], ([], ":0")),
        (["diff", "--kubeconfig", "x"], ([], ":0")),
        (["why", "vm/"], ([], ":4")),
        (["status", "--all"], (["--all-namespaces\tof all namespaces"], ":4")),
        ([""], ([f"{name}\t{brief}" for name, brief in completion._briefs()], ":4")),
    ],
)
def test_what_is_completed(words: list[str], found: tuple[list[str], str]) -> None:
    assert completion.completions(words) == found


def test_kubectl_is_answered_in_its_own_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    assert vdc.complete(["completion", ""]) == 0
    assert capsys.readouterr().out == "bash\nzsh\nfish\n:4\n"


def test_what_only_screens_need_is_not_needed_for_completion() -> None:
    """``vdcos`` without its extra ``kubectl`` has no rich, and installs the program that completes all the same."""
    without = "import sys; sys.modules['rich'] = None; from vdcos.cli.vdc import complete; complete(['why', 'vm/'])"
    done = subprocess.run([sys.executable, "-c", without], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (":4\n", "")


def test_the_script_for_bash_completes() -> None:
    """A real bash, with the program that it asks in its PATH."""
    ask = 'COMP_WORDS=(kubectl-vdc completion f); COMP_CWORD=2; _kubectl_vdc; echo "${COMPREPLY[@]}"'
    beside = str(Path(sys.executable).parent)
    text = subprocess.run(
        ["bash", "-c", f'PATH="{beside}:$PATH"\n{completion.script("bash")}\n{ask}'],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert text.stdout == "fish\n"


@pytest.mark.parametrize("shell", vdc.SHELLS)
def test_scripts_ask_the_program_that_the_package_installs(shell: str) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert "kubectl_complete-vdc" in completion.script(shell)
    assert scripts["kubectl-vdc"] == "vdcos.cli.vdc:main"
    assert scripts["kubectl_complete-vdc"] == "vdcos.cli.vdc:complete"


# krew


def test_krews_manifest_is_one() -> None:
    """What krew checks of a manifest (its own validation package), as far as that goes without its index."""
    manifest = yaml.safe_load(KREW.read_text())
    assert manifest["apiVersion"] == "krew.googlecontainertools.github.com/v1alpha2"
    assert manifest["kind"] == "Plugin"
    assert manifest["metadata"]["name"] == KREW.stem == "vdc"
    spec = manifest["spec"]
    assert spec["version"] == f"v{__version__}"
    assert re.fullmatch(r"v\d+\.\d+\.\d+", spec["version"])
    assert spec["homepage"].startswith("https://")
    assert 0 < len(spec["shortDescription"]) <= 50
    assert not spec["shortDescription"].endswith(".")
    assert "kubectl" not in spec["shortDescription"].lower()
    for name in vdc.COMMANDS:
        assert name in spec["description"] or name in ("completion", "version")
    seen = set()
    for platform in spec["platforms"]:
        assert platform["uri"].startswith("https://")
        assert __version__ in platform["uri"]
        assert re.fullmatch("[0-9a-f]{64}", platform["sha256"])
        assert {"from", "to"} == platform["files"][0].keys()
        assert platform["bin"] == "kubectl-vdc"
        for part in platform["selector"]["matchExpressions"]:
            assert part["operator"] == "In"
            seen |= set(part["values"])
    assert seen == {"linux", "darwin"}


def test_krews_manifest_is_of_no_release_yet() -> None:
    """Until there is one, the digest is that of nothing, which no download can have."""
    manifest = yaml.safe_load(KREW.read_text())
    assert {each["sha256"] for each in manifest["spec"]["platforms"]} == {hashlib.sha256(b"").hexdigest()}
