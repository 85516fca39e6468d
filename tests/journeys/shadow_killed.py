"""A worker that is killed with SIGKILL when a shadow has looked and nothing of what it saw is kept yet."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import workflow.shadow as shadowing
from cli.worker import work
from workflow.shadow import watch as honest


def watch(*arguments: Any) -> Any:
    honest(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    killed: Any = shadowing
    killed.watch = watch
    sys.exit(work(Path(sys.argv[1])))
