"""`python -m benchmarks NAME`: runs one benchmark; its last line is one JSON object."""

import argparse
import importlib
import pkgutil
from pathlib import Path

import benchmarks
from benchmarks._report import finish


def names() -> list[str]:
    """The benchmarks there are: modules of this package with a public name."""
    found = pkgutil.iter_modules(benchmarks.__path__)
    return sorted(m.name for m in found if not m.name.startswith("_") and not m.ispkg)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=names())
    parser.add_argument("--quick", action="store_true", help="less data, no peers, 45 seconds")
    parser.add_argument("--out", type=Path, help="write the JSON here")
    chosen = parser.parse_args()
    measure = importlib.import_module(f"benchmarks.{chosen.name}").measure
    found = measure(quick=chosen.quick)
    print(finish(chosen.name, found, quick=chosen.quick, out=chosen.out))


if __name__ == "__main__":
    main()
