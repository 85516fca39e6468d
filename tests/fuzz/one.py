"""Fuzzes one target in this process, which libFuzzer takes over and ends.

python -m tests.fuzz.one TARGET FOLDER [an option or a corpus of libFuzzer …]
"""

import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped]

with atheris.instrument_imports(include=["storage.elements", "storage.headers"]):
    import storage.headers  # noqa: F401

import tests.factories.hostile
import tests.fuzz.films  # noqa: F401  what these draw in is not to be instrumented

with atheris.instrument_imports(include=["scp", "inference"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    name, folder, *options = sys.argv[1:]
    check = TARGETS[name].target(Path(folder))
    atheris.Setup([sys.argv[0], *options], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
