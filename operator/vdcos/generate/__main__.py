"""`python -m vdcos.generate [--check] [ROOT]`: write all generated files, or show how they differ and exit with 1."""

import argparse
import pathlib
import sys

from vdcos import generate
from vdcos.services import catalogue


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="vdcos gen", description="Write CRDs, RBAC and the API reference.")
    parser.add_argument(
        "root", nargs="?", type=pathlib.Path, default=pathlib.Path(), help="the repository (default: .)"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; show differences and exit with 1 if any")
    chosen = parser.parse_args(arguments)
    services = catalogue.services({})  # providers of third parties add no rights: services write on their behalf
    if not chosen.check:
        for path in generate.write(chosen.root, services):
            sys.stdout.write(f"{path}\n")
        return 0
    difference = generate.differences(chosen.root, services)
    sys.stdout.write(difference)
    return 1 if difference else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
