"""The worker of an earlier version of the software, which is taken down for the upgrade after the step KILLED_AFTER.

With OLDER_STEPS its process_study has other steps, too: it looked at the headers in a step of their own.
"""

import os
import sys
from pathlib import Path
from types import NoneType
from typing import Any

import cli.worker
from storage.studies import read_study
from tests.journeys.killed_worker import die_after
from workflow.durable import Durable
from workflow.process_study import process_study
from workflow.rooms import Rooms


def process_study_of_before(study_id: int, attempt: int, *, rooms: Rooms, durable: Durable) -> None:
    durable.step("read headers", NoneType, look, rooms, study_id)
    process_study(study_id, attempt, rooms=rooms, durable=durable)


def look(rooms: Rooms, study_id: int) -> None:
    read_study(rooms.database, rooms.spool, study_id)


if __name__ == "__main__":
    older: Any = cli.worker
    older.SOFTWARE_VERSION = "0.0.9"
    if "OLDER_STEPS" in os.environ:
        older.process_study = process_study_of_before
    sys.exit(cli.worker.work(Path(sys.argv[1]), on_step=die_after))
