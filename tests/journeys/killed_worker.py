"""A worker that kills itself with SIGKILL right after the step that KILLED_AFTER names; started by the journeys."""

import os
import signal
import sys
from pathlib import Path

from cli.worker import work


def die_after(step: str) -> None:
    if step == os.environ["KILLED_AFTER"]:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(work(Path(sys.argv[1]), on_step=die_after))
