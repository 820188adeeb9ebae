"""Check what would be published, or other versions: ``python -m experiments.releasing release | minimum | newest``.

Publishes nothing. Exit code 1: a step failed. The outcome is written into ``docs/releasing.md``.
"""

from __future__ import annotations

import argparse
import sys

from experiments.releasing import core_tests, published
from experiments.releasing.page import keep
from experiments.releasing.steps import FAILED

PARTS = {"release": published.steps, "minimum": core_tests.lowest, "newest": core_tests.newest}


def main() -> int:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    part = parser.parse_args().part
    failed = []
    for found in PARTS[part]():
        keep(part, found)  # a run that is cut keeps what it found
        failed += [found.what] if found.outcome == FAILED else []
    print(f"failed: {', '.join(failed)}" if failed else "all steps done")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
