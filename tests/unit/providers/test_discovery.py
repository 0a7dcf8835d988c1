"""Third parties' switches and scorers are found where Python keeps what is installed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from vdcos import api
from vdcos.core.foreign.multus import NetworkAttachmentDefinition
from vdcos.core.objects import Key
from vdcos.providers import networks, placement
from vdcos.providers.fencing import contract as fencing
from vdcos.providers.networks import Problem
from vdcos.runtime.providers.discovery import discover_networks, discover_power_switches, discover_scorers
from vdcos.services.network import NetworkService
from vdcos.testing import builders
from vdcos.testing.world import World

ACME = Path(__file__).parents[2] / "fixtures" / "acme_switch"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory into which the example switch was installed as anybody would install it."""
    target = tmp_path_factory.mktemp("site-packages")
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *offline, "--target", str(target), str(ACME)]
    subprocess.run(command, check=True, timeout=120)
    return target


def test_the_example_switch_is_installed_found_and_used(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(installed))
    providers = discover_networks()
    world = World(
        builders.namespace("a"),
        builders.network("red", plugin={"provider": "acme", "parameters": {"segment": "7001"}}, mtu=1400),
        builders.network("blue", plugin={"provider": "acme", "parameters": {"segment": "x"}}),
        builders.machine("a/web", networks=["red", "blue"]),
        builders.node("h1", "acme.example/port"),
    )
    service = NetworkService(providers)
    ready = {c.type: c for c in world.settle(service, Key("", "red")).conditions}
    assert ready["ProviderReady"].status == ready["HostsReady"].status == "True"
    definition = world.tree(NetworkAttachmentDefinition, Key("a", "red"))
    assert definition["spec"]["config"] == (
        '{"cniVersion":"0.3.1","mtu":1400,"name":"red","segment":7001,"tenant":"a","type":"acme-switch"}'
    )
    assert definition["metadata"]["annotations"]["k8s.v1.cni.cncf.io/resourceName"] == "acme.example/port"
    refused = {c.type: c for c in world.settle(service, Key("", "blue")).conditions}["ProviderReady"]
    assert (refused.status, refused.reason) == ("False", "ProviderRefused")
    assert "parameters.segment must be a number from 1 to 16777215, not 'x'" in refused.message
    assert not world.has(NetworkAttachmentDefinition, Key("a", "blue"))


def distribution(site: Path, name: str, entry: str, module: str = "", group: str = networks.ENTRY_POINTS) -> None:
    """The traces that an installed distribution leaves."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{entry}\n")
    if module:
        (site / f"{name}.py").write_text(module)


WIRE = "from vdcos.providers.networks.contract import Wiring\n"
OBJECT = f"{WIRE}class Switch:\n  contract = 1\n  def wire(self, request): return Wiring({{'masquerade': {{}}}})\n"


@pytest.mark.parametrize(
    "reason, entries, why",
    [
        ("an instance", [("one", "acme = one:switch", f"{OBJECT}switch = Switch()")], ""),
        ("a class", [("one", "acme = one:Switch", OBJECT)], ""),
        ("no such module", [("one", "acme = one:Switch", "")], "one 1.0 cannot be loaded (ModuleNotFoundError"),
        ("no such name", [("one", "acme = one:Switch", "x = 1")], "one 1.0 cannot be loaded (AttributeError"),
        ("fails at import", [("one", "acme = one:x", "1 / 0")], "one 1.0 cannot be loaded (ZeroDivisionError"),
        ("not a provider", [("one", "acme = one:x", "x = 7")], "one:x of one 1.0 has no method wire"),
        (
            "twice",
            [("one", "acme = one:Switch", OBJECT), ("two", "acme = two:Switch", OBJECT)],
            "two installed distributions announce it",
        ),
    ],
)
def test_discovery(
    reason: str, entries: list[tuple[str, str, str]], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, entry, module in entries:
        distribution(tmp_path, name, entry, module)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    cr = api.parse(api.Network, builders.network("red", plugin={"provider": "acme"}))
    answer = networks.attachment(cr, "a", discover_networks())
    for name, _, _ in entries:
        sys.modules.pop(name, None)
    if not why:
        assert not isinstance(answer, Problem)
    else:
        assert isinstance(answer, Problem)
        assert why in answer.message


STRIP = """
from vdcos.providers.fencing.contract import Power
class Strip:
    contract = 1
    async def power(self, target): return Power.OFF
    async def power_off(self, target): pass
"""
TARGET = fencing.Target("host-1", {})


async def test_power_switches_are_found_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(tmp_path, "strip", "acme = strip:Strip", STRIP, fencing.ENTRY_POINTS)
    distribution(tmp_path, "half", "half = half:x", "class x:\n  power = print", fencing.ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = discover_power_switches()
    assert await found["acme"].power(TARGET) is fencing.Power.OFF
    for call in (found["half"].power, found["half"].power_off):
        with pytest.raises(fencing.Failed, match="has no method power_off"):
            await call(TARGET)
    assert "acme" not in discover_networks()


def test_the_documentation_shows_the_switch_that_is_tested() -> None:
    page = (ACME.parents[2] / "docs" / "providers.md").read_text()
    for part in ("acme_switch/__init__.py", "pyproject.toml"):
        assert (ACME / part).read_text().strip() in page


def test_the_scorer_of_the_documentation_is_found_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ACME.parents[2] / "docs" / "failure-plan.md").read_text()
    [module] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    [group, entry] = re.findall(r'entry-points\."(.*?)"\]\n(.*?)\n', page)[0]
    assert group == placement.ENTRY_POINTS
    distribution(tmp_path, "acme_scorer", entry.replace('"', ""), module, placement.ENTRY_POINTS)
    distribution(tmp_path, "other", "worse = other:x", "x = 7", placement.ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = discover_scorers()
    for name in ("acme_scorer", "other"):
        sys.modules.pop(name, None)
    has = {"cpu": 8000, "memory": 64 << 30, "pods": 110}
    hosts = [placement.Host("empty", has), placement.Host("half", has, {"memory": 32 << 30})]
    machine = placement.Machine("a", "vm", {"memory": 1 << 30})
    packed = placement.place(hosts, [machine], ["a/vm"], scorer=found["packed"])
    assert (packed.placed, packed.problem) == ({"a/vm": "half"}, "")
    worse = placement.place(hosts, [machine], ["a/vm"], scorer=found["worse"])
    assert worse.placed == {"a/vm": "empty"}
    assert worse.problem.startswith("other:x of other 1.0 has no method score")
