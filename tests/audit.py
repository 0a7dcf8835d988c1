"""`make check`'s look at the repository: known vulnerabilities of what we depend on, and secrets.

Usage: python tests/audit.py dependencies|secrets. Ends with 0 (nothing found), 1 (something found, or nobody could be
asked) or 77 (not asked, because OFFLINE is set).
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".venv-tools" / "bin"
LOCKS = ("requirements.lock", "tools.lock")
BASELINE = ".secrets.baseline"
SKIPPED = 77
MOVED = 3
"""The hook's exit status when known findings are on other lines now."""


@dataclass(frozen=True)
class Verdict:
    """What an audit has found out."""

    vulnerable: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    """What nobody could be asked about."""
    asked: int = 0

    def told(self, lock: str) -> str:
        if self.vulnerable:
            return f"{lock}: known vulnerabilities:\n  " + "\n  ".join(self.vulnerable)
        if self.unknown:
            return (
                f"{lock}: nobody could be asked about {len(self.unknown)} of {self.asked} packages "
                f"({', '.join(self.unknown[:3])}, ...): nothing is known. Reach https://pypi.org/pypi (a mirror of "
                "packages has no advisories), or say OFFLINE=1 to go without"
            )
        return f"{lock}: no known vulnerability in {self.asked} packages"


def verdict(report: dict[str, Any]) -> Verdict:
    """Of pip-audit's JSON. A package that it skipped was not audited, whatever its exit status says."""
    found = report.get("dependencies", [])
    return Verdict(
        tuple(
            f"{each['name']} {each['version']}: {known['id']}, fixed in {', '.join(known['fix_versions']) or 'none'}"
            for each in found
            for known in each.get("vulns", ())
        ),
        tuple(each["name"] for each in found if "skip_reason" in each),
        len(found),
    )


def audit(lock: str) -> Verdict:
    """Ask about every package of a lock file. Only what pip-audit writes counts: it ends well when it skips all."""
    command = [str(TOOLS / "pip-audit"), "--disable-pip", "--require-hashes", "--requirement", lock]
    options = ["--format", "json", "--progress-spinner", "off", "--aliases", "off", "--desc", "off"]
    done = subprocess.run([*command, *options], cwd=ROOT, check=False, capture_output=True, text=True)
    try:
        return verdict(json.loads(done.stdout))
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        return Verdict(unknown=(f"pip-audit: {last}",), asked=1)


def dependencies() -> int:
    if os.environ.get("OFFLINE"):
        print("not audited: OFFLINE is set")
        return SKIPPED
    found = {lock: audit(lock) for lock in LOCKS}
    for lock, each in found.items():
        print(each.told(lock))
    return 1 if any(each.vulnerable or each.unknown or not each.asked for each in found.values()) else 0


def secrets() -> int:
    """Look through all tracked files for what looks like a secret and is not in the baseline."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    files = [name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    with tempfile.TemporaryDirectory() as folder:
        # A copy: the hook writes new line numbers into it, and ends with another status then.
        known = Path(folder) / BASELINE
        known.write_text((ROOT / BASELINE).read_text())
        hook = [str(TOOLS / "detect-secrets-hook"), "--baseline", str(known)]
        done = subprocess.run([*hook, *files], cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode in (0, MOVED):
        print(f"no secrets in {len(files)} files")
        return 0
    print(f"{done.stdout.strip()}\n{done.stderr.strip()}".strip())
    print(f"If it is none: detect-secrets scan --baseline {BASELINE}, look at the difference, and commit it")
    return 1


if __name__ == "__main__":
    sys.exit({"dependencies": dependencies, "secrets": secrets}[sys.argv[1]]())
