"""A worker that kills itself with SIGKILL right after the step that KILLED_AFTER names; started by the journeys.

KILLED_AFTER=@FILE: the step that the file names at that moment.
"""

import os
import signal
import sys
from pathlib import Path

from cli.worker import work


def die_after(step: str) -> None:
    doomed = os.environ["KILLED_AFTER"]
    if step == (Path(doomed[1:]).read_text() if doomed.startswith("@") else doomed):
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(work(Path(sys.argv[1]), on_step=die_after))
