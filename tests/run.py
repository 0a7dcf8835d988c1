"""`make test`: every suite in turn, a table of what each took, and one closing line with counts.

Usage: python tests/run.py [SUITE ...]; without arguments, all suites that `make test` runs.
"""

import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
# The tools beside this interpreter; and a cluster that happens to be configured is none of ours.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
ENVIRONMENT["NO_MKDOCS_2_WARNING"] = "1"  # docs/decisions/0118 knows
ENVIRONMENT["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
COVERED = ("core", "providers", "services")
COVERAGE_FLOOR = 90
ON_DEMAND = ("badinput", "packaging", "scale", "docs", "secrets", "audit")
SKIPPED = 77
"""The exit status of a check that could not be made, and of which the caller has said that it need not."""


@dataclass
class Result:
    suite: str
    passed: int
    failed: int
    skipped: int
    seconds: float


def checks() -> dict[str, list[list[str]]]:
    """The commands of each suite, in the order in which a mistake is cheapest to find."""
    python = sys.executable
    pytest = [python, "-m", "pytest", "-q", "--durations=5"]
    covered = ["--cov=vdcos", "--cov-branch", "--cov-report="]
    # Two workers, each with a cluster: the tests mostly wait. A file stays together, for it may hurt hosts.
    two_clusters = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
    include = ",".join(f"operator/vdcos/{package}/*" for package in COVERED)
    return {
        "lint": [["ruff", "check", "--quiet", "."], ["hadolint", "image/Containerfile"]],
        "format": [["ruff", "format", "--check", "--quiet", "."]],
        "types": [["mypy"]],
        "imports": [["lint-imports", "--no-logo"]],
        "generated": [["vdcos", "gen", "--check"]],
        "unit": [
            [*pytest, "-n", "2", "--dist", "worksteal", *covered, "tests/unit", "tests/properties"],
            [
                python,
                "-m",
                "coverage",
                "report",
                f"--include={include}",
                "--skip-covered",
                f"--fail-under={COVERAGE_FLOOR}",
            ],
        ],
        # The longest first, one at a time (tests/simulation/conftest.py).
        "simulation": [[*pytest, "-n", "2", "--dist", "load", "--maxschedchunk", "1", "tests/simulation"]],
        "devcluster": [
            [python, "-m", "devcluster", "build"],
            [*pytest, "--timeout=600", "tests/devcluster", "-m", "not (scale or badinput or packaging)", *two_clusters],
        ],
        "packaging": [
            [python, "-m", "devcluster", "build", "--tools"],
            [*pytest, "--timeout=900", "tests/devcluster", "-m", "packaging", *two_clusters],
        ],
        "docs": [[str(ROOT / ".venv-tools" / "bin" / "mkdocs"), "build", "--strict"]],
        "secrets": [[python, "tests/audit.py", "secrets"]],
        "audit": [[python, "tests/audit.py", "dependencies"]],
        "badinput": [[python, "-m", "devcluster", "build"], [*pytest, "-s", "tests/devcluster", "-m", "badinput"]],
        "scale": [[python, "-m", "devcluster", "build"], [*pytest, "-s", "tests/devcluster", "-m", "scale"]],
    }


def run(suite: str, commands: list[list[str]]) -> Result:
    """Run one suite; a pytest run counts its tests, any other command counts as one check."""
    print(f"\n── {suite} " + "─" * (76 - len(suite)), flush=True)
    result, start = Result(suite, 0, 0, 0, 0.0), time.monotonic()
    for number, command in enumerate(commands):
        report = BUILD / f"{suite}-{number}.xml"
        report.unlink(missing_ok=True)
        is_pytest = "pytest" in command
        wanted = [*command, f"--junit-xml={report}"] if is_pytest else command
        completed = subprocess.run(wanted, cwd=ROOT, env=ENVIRONMENT, check=False)
        if is_pytest and report.exists():
            counts = ElementTree.parse(report).getroot()
            total, bad, skipped = (
                sum(int(each.get(name, 0)) for each in counts.iter("testsuite") for name in names)
                for names in (("tests",), ("failures", "errors"), ("skipped",))
            )
            result.passed += total - bad - skipped
            result.failed += bad or (1 if completed.returncode else 0)
            result.skipped += skipped
        elif completed.returncode == SKIPPED:
            result.skipped += 1
            continue
        elif completed.returncode:
            result.failed += 1
        else:
            result.passed += 1
        if completed.returncode:
            break
    result.seconds = time.monotonic() - start
    return result


def main(wanted: list[str]) -> int:
    """Run the suites; 0 when nothing failed."""
    suites = checks()
    unknown = [name for name in wanted if name not in suites]
    if unknown:
        print(f"No such suite: {', '.join(unknown)}. There are: {', '.join(suites)}.", file=sys.stderr)
        return 2
    BUILD.mkdir(exist_ok=True)
    results = [run(name, suites[name]) for name in wanted or [name for name in suites if name not in ON_DEMAND]]
    print("\n" + "─" * 80)
    for each in results:
        state = "ok" if not each.failed else "FAILED"
        print(f"{each.suite:<12}{state:<8}{each.passed:>6} passed {each.failed:>4} failed {each.seconds:>8.1f} s")
    passed, failed, skipped = (sum(getattr(each, name) for each in results) for name in ("passed", "failed", "skipped"))
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
