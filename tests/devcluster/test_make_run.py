"""`make run` as a whole: it converges, invites, and when it is told to end, everything it started is gone."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from devcluster import run
from devcluster.waiting import eventually

UP_SECONDS = 400.0  # on a machine that does much else
END_SECONDS = 60.0


class Run:
    """The command in a process of its own, its output in a file."""

    def __init__(self, directory: Path) -> None:
        self._output = directory / "output"
        self._temporary = directory / "tmp"
        self._temporary.mkdir()
        elsewhere = {"KUBECONFIG": str(directory / "somebodys"), "TMPDIR": str(self._temporary)}
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "devcluster.run"],
                cwd=run.ROOT,
                env={**os.environ, **elsewhere},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def left_files(self) -> list[Path]:
        return list(self._temporary.iterdir())

    def left_processes(self) -> list[list[str]]:
        """The command lines of all processes that work in the run's directory."""
        processes = psutil.process_iter(["cwd", "cmdline"])
        mine = (each.info for each in processes if str(each.info["cwd"] or "").startswith(str(self._temporary)))
        return [each["cmdline"] or [] for each in mine]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Run]:
    """A run that has come up. Whatever happens, it does not outlive the test."""
    started = Run(tmp_path)
    try:
        eventually(lambda: "Ctrl-C ends all of it." in started.output or started.process.poll() is not None, UP_SECONDS)
        assert started.process.poll() is None, started.output
        yield started
    finally:
        started.process.kill()
        started.process.wait()
        eventually(lambda: not started.left_processes(), END_SECONDS)


def test_it_converges_and_leaves_nothing_behind(running: Run) -> None:
    assert "15 objects in namespace shop" in running.output
    assert re.search(r"Converged after [0-9.]+ s: build .*, cluster .*, converge ", running.output)

    # What it says works, as it says it.
    exports = [line.strip() for line in running.output.splitlines() if line.startswith("  export ")]
    shown = shell(*exports, "kubectl get vdc -A").stdout
    ready = [line.split()[0] for line in shown.splitlines() if re.search(r"\bTrue +Ready\b", line)]
    assert len([name for name in ready if not name.startswith("host.vdcos.dev/")]) == 12
    assert len([name for name in ready if name.startswith("host.vdcos.dev/")]) == 4, "one for each node"

    # The operator is no administrator.
    operator = next(line for line in running.left_processes() if line[1:4] == ["-m", "vdcos", "run"])
    config = operator[operator.index("--kubeconfig") + 1]
    assert shell(*exports, f"kubectl --kubeconfig {config} auth can-i '*' '*'").stdout.strip() == "no"

    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(END_SECONDS) == 0
    assert not running.left_processes()
    assert not running.left_files


def shell(*commands: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", "; ".join(commands)], check=False, capture_output=True, text=True)
