"""`make bench`: side-by-side figures, each part in one run of its own. `python -m benchmarks [PART…]`"""

import argparse
import sys

from benchmarks import ingest

PARTS = {"ingest": ingest.run}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of: {', '.join(PARTS)}; all where none is named")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    for part in arguments.parts or PARTS:
        if part not in PARTS:
            parser.error(f"there is no part {part!r}")
        PARTS[part](rounds=arguments.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
