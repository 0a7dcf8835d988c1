"""``make bench``: how close vdcos comes to the fastest possible, and what it costs. A table, and build/bench.json."""

import argparse
import asyncio
import json
import logging
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from devcluster import build
from tests.bench import ha, outlook, rates, rest
from tests.bench.figures import Table, verdicts
from tests.bench.plane import ROOT, BenchError, Json


async def bench(sections: list[str], sizes: "rates.Sizes", directory: Path) -> Json:
    """All sections in one run. Raises BenchError."""
    results: Json = {}
    for section in sections:
        began = time.monotonic()
        print(f"\n── {section}", file=sys.stderr, flush=True)
        results[section] = await SECTIONS[section](directory / section, sizes)
        results[section]["seconds"] = round(time.monotonic() - began, 1)
    return results


SECTIONS: dict[str, Any] = {
    "rates": rates.plain,
    "webhooks": rates.webhooks,
    "rest": rest.growth_and_rest,
    "ha": ha.outages,
    "plans": outlook.plans,
}


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0 when everything was measured, whether or not the targets are met."""
    parser = argparse.ArgumentParser("tests.bench", description=__doc__)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], help="(default: all)")
    parser.add_argument("--quick", action="store_true", help="small numbers: to see that it works, not to be quoted")
    parser.add_argument("--keep", type=Path, help="use this directory, and leave it for a look at the logs")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench.json", help="(default: %(default)s)")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.ERROR)
    sizes = rates.QUICK if chosen.quick else rates.FULL
    with tempfile.TemporaryDirectory(prefix="vdcos-bench-") as temporary:
        try:
            measured = asyncio.run(
                bench(chosen.sections or list(SECTIONS), sizes, (chosen.keep or Path(temporary)).absolute())
            )
        except (BenchError, build.BuildError) as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
    return report(measured, chosen.out, quick=chosen.quick)


def report(measured: Json, out: Path, *, quick: bool) -> int:
    """Print the tables and write the file."""
    results: Json = {}
    for section in measured.values():
        results |= section.pop("results", {})
    document = {
        **results,
        "quick": quick,
        "machine": {
            "cores": psutil.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
            "python": platform.python_version(),
            "kubernetes": build.KUBERNETES,
            "kubevirt": build.KUBEVIRT,
        },
        "measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "sections": measured,
    }
    for name, section in measured.items():
        rows = section.get("rows", [])
        if rows:
            columns = list(dict.fromkeys(key for row in rows for key in row if not isinstance(row[key], dict)))
            table = Table(columns, [[row.get(column) for column in columns] for row in rows])
            print(f"\n{name}\n{table}")
    print(f"\ntargets\n{verdicts(results)}")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=2) + "\n")
    print(f"\nwritten to {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
