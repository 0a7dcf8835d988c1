"""The command line: what it prints, what it returns, and that a plan without a cluster is the operator's own plan."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from vdcos import __version__, cli
from vdcos.cli.plan import columns, read
from vdcos.runtime.rehearsal import Unfit, merged, patched

ROOT = Path(__file__).parents[3]

NETWORK = """
apiVersion: vdcos.dev/v1alpha1
kind: Network
metadata: {name: lan}
spec:
  bridge: {name: br0}
  allowedNamespaces: {from: All}
"""
DATASTORE = """
apiVersion: vdcos.dev/v1alpha1
kind: Datastore
metadata: {name: gold}
spec:
  storageClassName: fast
  volumeMode: Block
  accessMode: ReadWriteMany
  allowedNamespaces: {from: All}
"""
STORAGE_CLASS = """
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: fast}
provisioner: csi.example.com
"""
MACHINE = """
apiVersion: vdcos.dev/v1alpha1
kind: VirtualMachine
metadata: {name: web, namespace: shop}
spec:
  powerState: PoweredOn
  cpu: {cores: 2}
  memory: {size: 2Gi}
  disks: [{name: root, size: 10Gi, datastore: gold}]
  nics: [{name: lan, network: lan}]
"""
DATACENTER = "---".join((NETWORK, DATASTORE, STORAGE_CLASS, MACHINE))


@pytest.fixture
def datacenter(tmp_path: Path) -> str:
    path = tmp_path / "datacenter.yaml"
    path.write_text(DATACENTER)
    return str(path)


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    """The exit status and the JSON of ``vdcos plan --offline``, by kind and name."""
    status = cli.main(["plan", "--offline", "-o", "json", *arguments])
    return status, {f"{r['kind']} {r['name']}": r for r in json.loads(capsys.readouterr().out)}


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version"]) == 0
    assert capsys.readouterr().out == f"vdcos {__version__}\n"


def test_the_version_is_the_projects() -> None:
    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text()


def test_help_and_version_load_nothing_heavy() -> None:
    code = (
        "import sys; from vdcos import cli; cli.main(['version']);"
        " print([m for m in ('kopf', 'kubernetes', 'aiohttp', 'pydantic') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "operator"
    )
    assert run.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", ["run", "plan", "ha", "gen", "version"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main([command, "--help"])
    assert left.value.code == 0
    assert "usage: vdcos " + command in capsys.readouterr().out


def test_a_plan_without_a_cluster_says_what_would_be_done_and_why(
    datacenter: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, reports = planned(capsys, "-f", datacenter)
    assert status == 2
    web = reports["VirtualMachine web"]
    assert [(a["verb"], a["kind"]) for a in web["actions"]] == [("create", "DataVolume"), ("apply", "VirtualMachine")]
    assert all(action["why"] for action in web["actions"])
    disk, machine = (action["content"] for action in web["actions"])
    assert disk["spec"]["storage"]["storageClassName"] == "fast"
    assert machine["apiVersion"] == "kubevirt.io/v1"
    ready = next(condition for condition in web["conditions"] if condition["type"] == "Ready")
    assert ready["status"] != "True", "its disk has not been provisioned"
    lan = reports["Network lan"]
    assert ("apply", "NetworkAttachmentDefinition", "shop") in [
        (a["verb"], a["kind"], a.get("namespace")) for a in lan["actions"]
    ]


def test_a_plan_is_the_same_whatever_the_order_of_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backwards = tmp_path / "backwards.yaml"
    backwards.write_text("---".join((MACHINE, STORAGE_CLASS, DATASTORE, NETWORK)))
    forwards = tmp_path / "forwards.yaml"
    forwards.write_text(DATACENTER)

    def actions(path: Path) -> Any:
        _, reports = planned(capsys, "-f", str(path))
        return {name: sorted((a["verb"], a["kind"], a["name"]) for a in r["actions"]) for name, r in reports.items()}

    assert actions(backwards) == actions(forwards)


def test_a_missing_reference_is_a_condition_and_no_action(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "vm.yaml").write_text(MACHINE)
    _, reports = planned(capsys, "-f", str(tmp_path / "vm.yaml"))
    web = reports["VirtualMachine web"]
    assert web["actions"] == []
    said = {condition["type"]: condition for condition in web["conditions"]}
    assert "gold" in said["StorageReady"]["message"]
    assert "lan" in said["NetworkReady"]["message"]


def test_the_table_is_for_people(datacenter: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--offline", "-f", datacenter]) == 2
    out = capsys.readouterr().out
    assert "VirtualMachine shop/web\n" in out
    assert "apply   VirtualMachine.kubevirt.io shop/web" in out
    assert "Ready would be False" in out
    assert out.splitlines()[-1].startswith("5 actions on 3 of 3 objects")


def test_a_namespace_narrows_what_is_shown(datacenter: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, reports = planned(capsys, "-f", datacenter, "-n", "shop")
    assert list(reports) == ["VirtualMachine web"]


def test_yaml_is_one_document_per_object(datacenter: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["plan", "--offline", "-f", datacenter, "-o", "yaml"])
    assert [document["kind"] for document in yaml.safe_load_all(capsys.readouterr().out)] == [
        "Datastore",
        "Network",
        "VirtualMachine",
    ]


def test_nothing_to_do_is_exit_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--offline"]) == 0
    assert capsys.readouterr().out == "0 actions on 0 of 0 objects.\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (MACHINE.replace("2Gi", "lots"), "VirtualMachine shop/web: spec.memory.size: must be a size"),
        (MACHINE.replace("cores: 2", "cores: two"), "VirtualMachine shop/web: spec.cpu.cores"),
        (MACHINE.replace("cores: 2", "coers: 2"), "VirtualMachine shop/web: spec.cpu.coers: unknown field"),
        (MACHINE.replace("spec:", "specs:"), "VirtualMachine shop/web: specs: unknown field"),
        (MACHINE.replace("size: 10Gi", "sise: 10Gi"), "VirtualMachine shop/web: spec.disks[0].sise: unknown field"),
        (NETWORK.replace("metadata: {name: lan}", "metadata: {}"), "there is no metadata.name"),
        ("just words", "this is not a Kubernetes object: 'just words'"),
        ("a: [", 'bad.yaml", line 1, column 5'),
    ],
)
def test_bad_files_are_refused_with_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, complaint: str
) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    assert cli.main(["plan", "--offline", "-f", str(tmp_path / "bad.yaml")]) == 1
    assert complaint in capsys.readouterr().err


def test_a_file_that_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--offline", "-f", "nowhere.yaml"]) == 1
    assert capsys.readouterr().err == "vdcos plan: cannot read nowhere.yaml: No such file or directory\n"


def test_null_means_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the API server reads it; and so do labels and annotations, whose schema is Kubernetes'."""
    machine = yaml.safe_load(MACHINE)
    machine["spec"] |= {"guest": None, "devices": None, "placement": {"affinity": None}}
    machine["spec"]["disks"][0]["source"] = None
    machine["metadata"]["annotations"] = {"example.org/note": "mine"}
    (tmp_path / "vm.yaml").write_text(DATACENTER.replace(MACHINE, "\n" + yaml.safe_dump(machine)))
    _, reports = planned(capsys, "-f", str(tmp_path / "vm.yaml"))
    assert [action["verb"] for action in reports["VirtualMachine web"]["actions"]] == ["create", "apply"]


@pytest.mark.parametrize("command", [["run"], ["plan"]])
def test_a_cluster_that_is_missing(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*command, "--kubeconfig", str(tmp_path / "nowhere")]) == 1
    assert "there is no kubeconfig at" in capsys.readouterr().err


def test_directories_lists_and_standard_input_are_read(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("kind: B\n---\n---\nkind: C\n")
    (tmp_path / "a.json").write_text('{"kind": "List", "items": [{"kind": "A1"}, {"kind": "A2"}]}')
    (tmp_path / "notes.txt").write_text("not a manifest")
    found = [m["kind"] for m in read([str(tmp_path), "-"], io.StringIO("kind: D"))]
    assert found == ["A1", "A2", "B", "C", "D"]
    with pytest.raises(Unfit):
        list(read(["-"], io.StringIO("[1, 2]")))


def test_what_no_service_reads_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "secret.yaml").write_text("{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: n}}")
    assert cli.main(["plan", "--offline", "-f", str(tmp_path / "secret.yaml")]) == 0
    assert "Secret n/s is not read by any service" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("operation", "after"),
    [
        ({"op": "add", "path": "/a", "value": 1}, {"a": 1, "list": [1, 2], "x/y": {"z": 3}}),
        ({"op": "add", "path": "/list/-", "value": 3}, {"list": [1, 2, 3], "x/y": {"z": 3}}),
        ({"op": "add", "path": "/list/0", "value": 3}, {"list": [3, 1, 2], "x/y": {"z": 3}}),
        ({"op": "replace", "path": "/list/1", "value": 3}, {"list": [1, 3], "x/y": {"z": 3}}),
        ({"op": "remove", "path": "/list/0"}, {"list": [2], "x/y": {"z": 3}}),
        ({"op": "replace", "path": "/x~1y/z", "value": 4}, {"list": [1, 2], "x/y": {"z": 4}}),
        ({"op": "remove", "path": "/x~1y"}, {"list": [1, 2]}),
        ({"op": "test", "path": "/list/0", "value": 9}, {"list": [1, 2], "x/y": {"z": 3}}),
    ],
)
def test_json_patches(operation: dict[str, Any], after: dict[str, Any]) -> None:
    before = {"list": [1, 2], "x/y": {"z": 3}}
    assert patched(before, [operation]) == after
    assert before == {"list": [1, 2], "x/y": {"z": 3}}


def test_merge_patches() -> None:
    assert merged({"a": 1, "b": {"c": 2, "d": 3}}, {"a": None, "b": {"c": 4}, "e": {"f": 5}}) == {
        "b": {"c": 4, "d": 3},
        "e": {"f": 5},
    }


def test_columns_are_aligned() -> None:
    assert columns([("a", "bb", "c"), ("aaa", "b", "")]) == ["a    bb  c", "aaa  b"]
    assert columns([]) == []
