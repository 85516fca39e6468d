"""A worker that one study, POISON, takes down as often as it is analysed; each time is a line in the file RUNS.

With COMPANY it does so after a second in which others begin, and each of them takes longer than that.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import workflow.steps
from cli.worker import work
from domain.study import Study
from workflow.steps import analyse as honest


def analyse(rooms: Any, study: Study, *arguments: Any) -> Any:
    is_poison = study.study_instance_uid == os.environ["POISON"]
    if "COMPANY" in os.environ:
        time.sleep(1.0 if is_poison else 2.0)
    if is_poison:
        with open(os.environ["RUNS"], "a", encoding="ascii") as runs:
            runs.write("run\n")
        os.kill(os.getpid(), signal.SIGKILL)
    return honest(rooms, study, *arguments)


if __name__ == "__main__":
    poisoned: Any = workflow.steps
    poisoned.analyse = analyse
    sys.exit(work(Path(sys.argv[1])))
