"""`python -m training --data DIR`: trains the pediatric chest model anew and writes its package."""

import argparse
import time
from pathlib import Path

from training.pediatric_chest import read_radiographs, train_all
from training.pediatric_chest_package import write_package


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with normal/ and pneumonia/")
    parser.add_argument("--processes", type=int, default=2, help="trainings at the same time, one thread each")
    arguments = parser.parse_args()

    started = time.monotonic()
    radiographs = read_radiographs(arguments.data)
    trained = train_all(radiographs, processes=arguments.processes)
    print(write_package(radiographs, trained, wall_time_s=time.monotonic() - started))


if __name__ == "__main__":
    main()
