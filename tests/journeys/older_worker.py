"""The worker of an earlier version of the software, which is taken down for the upgrade after what KILLED_AFTER names.

With OLDER_STEPS its process_study has other steps, too: an analysis was a step of its own, and remembered.
"""

import os
import sys
from pathlib import Path
from types import NoneType
from typing import Any

import cli.worker
from storage.studies import read_study
from tests.journeys.killed_worker import arm, die_after
from workflow.durable import Durable, remember
from workflow.rooms import Rooms
from workflow.steps import Admission, admit


def process_study_of_before(study_id: int, attempt: int, *, rooms: Rooms, durable: Durable) -> None:
    study = read_study(rooms.database, rooms.spool, study_id)
    durable.enter("admit", Admission, admit, rooms, study_id, study)
    durable.enter("analyse chest", NoneType, remember, None)
    raise AssertionError("it was to be taken down after that")


if __name__ == "__main__":
    older: Any = cli.worker
    older.SOFTWARE_VERSION = "0.0.9"
    if "OLDER_STEPS" in os.environ:
        older.process_study = process_study_of_before
    arm()
    sys.exit(cli.worker.work(Path(sys.argv[1]), on_step=die_after))
