"""Records a short tour of a virtual datacenter, in which a host dies, as the picture of a terminal.

Usage: python -m devcluster.session docs/images/session.svg
"""

import argparse
import io
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import rich.console
import rich.text

from devcluster import run
from devcluster.cluster import Cluster

WIDTH: Final = 130
"""Columns."""
NAMESPACE: Final = "vdcos-system"
VICTIM: Final = "db-1"
"""The VM whose host dies."""
UNPROTECTED: Final = "build-gpu"
"""One with a disk that no other host reaches."""
TIMELINE: Final = r'jsonpath={range .items[*].status.timeline[*]}{.at}  {.what}{"\n"}{end}'
RUNNING: Final = 5
"""VMs of the samples that run."""
SOMETHING_IS_NOT_WELL: Final = 2
"""An exit status of kubectl vdc that is no failure."""
_HOSTS: Final = 4
_PATIENCE: Final = 180.0
_FORMAT: Final = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="A session in a terminal">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px; white-space: pre }}
{styles}
</style>
<defs>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""
"""Without the fonts that rich would fetch from elsewhere."""


class Recorder:
    """Runs commands as a person would see them, one after the other."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.screen = rich.console.Console(
            record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
        )

    def says(self, words: str) -> None:
        self.screen.print(rich.text.Text(words, "bold"), soft_wrap=True)

    def __call__(self, *command: str) -> None:
        """Run a command, and show it with what it prints."""
        programs = [
            str(Path(self._cluster.record.kubectl).parent),
            str(Path(sys.executable).parent),
            os.environ["PATH"],
        ]
        environment = self._cluster.environment() | {
            "PATH": os.pathsep.join(programs),
            "FORCE_COLOR": "1",
            "COLUMNS": str(WIDTH),
        }
        finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if finished.returncode not in (0, SOMETHING_IS_NOT_WELL):
            raise run.RunError(f"{' '.join(command)}: {finished.stderr}")
        self.says(f"$ {shlex.join(command)}")
        for line in finished.stdout.rstrip().splitlines():
            self.screen.print(rich.text.Text.from_ansi(line), no_wrap=True, overflow="ellipsis", crop=True)
        self.screen.print()

    def picture(self) -> str:
        return self.screen.export_svg(title="vdcos", code_format=_FORMAT)


def declared(cluster: Cluster) -> list[dict[str, Any]]:
    """High availability for all hosts, and the power switch of each."""
    objects: list[dict[str, Any]] = []
    for number in range(1, _HOSTS + 1):
        secret, bmc = cluster.power_switch(f"host-{number}", NAMESPACE)
        objects += [secret, _own("Host", f"host-{number}", {"bmc": bmc})]
    return [*objects, _own("HAPolicy", "all", {"restart": {"readyWhen": {"timeoutSeconds": 120}}})]


def _own(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "vdcos.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def wait(condition: Callable[[], object], what: str) -> None:
    """Raises TimeoutError."""
    until = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"after {_PATIENCE:.0f} s: not {what}")
        time.sleep(0.5)


def record(directory: Path) -> tuple[str, str]:
    """The picture, and the host's failure as it is stored at the end."""
    screen = run.Screen(rich.console.Console(file=sys.stderr))
    with run.devcluster(screen, directory / "cluster", _HOSTS) as cluster:
        run.install(screen, cluster)
        with run.operator(screen, cluster, directory) as running:
            cluster.kubectl("apply", "--server-side", "-k", str(run.SAMPLES))
            cluster.apply(*declared(cluster))
            run.converge(screen, cluster, running, _PATIENCE)
            tour = Recorder(cluster)

            def failures() -> list[dict[str, Any]]:
                found: list[dict[str, Any]] = cluster.get("hostfailures")["items"]
                return found

            def phases() -> set[str]:
                return {each.get("status", {}).get("phase", "") for each in failures()}

            wait(lambda: planned(cluster) == RUNNING, "protected")
            tour("kubectl", "vdc", "status", "-A")
            tour("kubectl", "vdc", "why", f"vm/{UNPROTECTED}", "-n", "shop")
            tour("kubectl", "vdc", "tree", f"vm/{VICTIM}", "-n", "shop")
            host = cluster.get("vdcvm", VICTIM, "-n", "shop")["status"]["host"]
            command = (sys.executable, "-m", "devcluster", "fault", "power-off", "--host", host)
            subprocess.run([*command, "--dir", str(cluster.directory)], check=True, capture_output=True)
            tour.says(f"# {host} loses its power")
            wait(lambda: phases() == {"Recovering"}, "everything runs again")
            wait(lambda: all(row.ready for row in run.standing(cluster)), "everything is well again")
            tour("kubectl", "get", "hostfailures")
            tour("kubectl", "get", "hostfailures", "-o", TIMELINE)
            tour("kubectl", "get", "vdcvm", "-n", "shop")
            return tour.picture(), json.dumps(failures()[0], indent=2)


def planned(cluster: Cluster) -> int:
    """For how many VMs the policy knows what would become of them."""
    plan = cluster.get("hapolicy", "all").get("status", {}).get("failurePlan", {})
    return int(plan.get("restarts", 0) + plan.get("stays", 0))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m devcluster.session", description=__doc__)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--failure", type=Path, help="where the HostFailure goes, as JSON")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="vdcos-session-") as directory:
        picture, failure = record(Path(directory))
    options.picture.write_text(picture)
    if options.failure:
        options.failure.write_text(failure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
