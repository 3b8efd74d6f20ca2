"""`make bench`: run the benchmarks and print their tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping

from tests.bench import cold, freshness, hostile, overhead, scale, server, stats

BENCHMARKS: Mapping[str, Callable[[], bool]] = {
    "cold": cold.run,
    "freshness": freshness.run,
    "hostile": hostile.run,
    "overhead": overhead.run,
    "scale": scale.run,
    "server": server.run,
    "stats": stats.run,
}


def main() -> int:
    """Run what is asked for; 1 if a promise is broken."""
    parser = argparse.ArgumentParser(
        prog="make bench",
        description="Measure the gateway on a local AWS. Everything shares this machine: read ratios.",
        epilog="Examples: make bench · make bench ARGS=freshness · make bench ARGS='scale freshness'",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"any of {', '.join(BENCHMARKS)}; all if left out"
    )
    names = parser.parse_args().names or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}")
    kept = [BENCHMARKS[name]() for name in names]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
