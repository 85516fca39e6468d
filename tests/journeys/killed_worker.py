"""A worker that kills itself with SIGKILL right after what KILLED_AFTER names; started by the journeys.

That is a step of a job, or what a step does before its rows are committed: PREPARED. KILLED_AFTER=@FILE: what the file
names at that moment.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import workflow.steps
from cli.worker import work
from workflow.sending import Sender

PREPARED: dict[str, tuple[Any, str]] = {
    "analyse": (workflow.steps, "analyse"),
    "write": (workflow.steps, "write_results"),
    "send": (Sender, "send"),
}


def die_after(name: str) -> None:
    doomed = os.environ["KILLED_AFTER"]
    if name == (Path(doomed[1:]).read_text() if doomed.startswith("@") else doomed):
        os.kill(os.getpid(), signal.SIGKILL)


def deadly(name: str, honest: Callable[..., Any]) -> Callable[..., Any]:
    def work_and_die(*args: Any, **kwargs: Any) -> Any:
        done = honest(*args, **kwargs)
        die_after(name)
        return done

    return work_and_die


def arm() -> None:
    for name, (where, attribute) in PREPARED.items():
        setattr(where, attribute, deadly(name, getattr(where, attribute)))


if __name__ == "__main__":
    arm()
    sys.exit(work(Path(sys.argv[1]), on_step=die_after))
