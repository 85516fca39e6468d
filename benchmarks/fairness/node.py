"""A worker as it is, but for its jobs: they wait for a fixed time where a model would be at work.

    python -m benchmarks.fairness.node CONFIGURATION SECONDS

read -> admit -> wait -> done. What is measured is how they come to start, and how many can be started.
"""

import sys
import time
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any

import sqlalchemy as sa

from cli.parts import open_database, settings_for
from cli.stopping import stop_signal
from cli.worker import build_rooms
from domain.routing import decide, explain
from domain.states import StudyState
from domain.study import Study
from storage.database import utc_now
from storage.jobs import PROCESS_STUDY
from storage.queue_order import note_start
from storage.studies import read_study, save_decision
from storage.tables import studies
from workflow.durable import Durable, Entry
from workflow.engine import Engine
from workflow.intake import Intake
from workflow.recovery import Recovery, new_executor_id
from workflow.rooms import Rooms

STOPS_WITHIN_S = 2


def wait_instead(study_id: int, _attempt: int, *, rooms: Rooms, durable: Durable, work_s: float) -> None:
    """The durable steps of process_study."""
    study = read_study(rooms.database, rooms.spool, study_id)
    durable.enter("admit", NoneType, admit, rooms, study_id, study)
    durable.enter("hand over", NoneType, wait_and_finish, study_id, work_s)


def admit(rooms: Rooms, study_id: int, study: Study) -> Entry[None]:
    """As in workflow/steps.py, but whatever the models and the clinic's plan are."""
    decision = decide(study, rooms.rulebook)

    def enter(connection: sa.Connection) -> None:
        save_decision(connection, study_id, explain(decision), decision.reason)
        note_start(connection, study_id)

    return enter


def wait_and_finish(study_id: int, work_s: float) -> Entry[None]:
    time.sleep(work_s)

    def enter(connection: sa.Connection) -> None:
        connection.execute(
            sa.update(studies).where(studies.c.id == study_id).values(state=StudyState.DONE, finished_at=utc_now())
        )

    return enter


def ignore(_connection: sa.Connection, _arguments: tuple[Any, ...]) -> None:
    """A bug is in the log; what it leaves unfinished is missing in the figures."""


def main(config: Path, work_s: float) -> int:
    settings = settings_for(config)
    stop = stop_signal()
    database = open_database(settings)
    rooms = build_rooms(settings, database)
    executor_id = new_executor_id()
    engine = Engine(database, executor_id=executor_id, studies_at_once=settings.worker.concurrency)
    engine.register(PROCESS_STUDY, partial(wait_instead, rooms=rooms, durable=engine, work_s=work_s), on_bug=ignore)
    rooms.jobs.on_put(engine.look)
    recovery = Recovery(engine, rooms, executor_id=executor_id, lease_s=settings.worker.lease_s)
    tiers = {clinic.name: clinic.tier for clinic in settings.clinics}
    intake = Intake(database, rooms.jobs, rules=settings.completion_rules, tiers=tiers, stat=settings.stat_rules)
    engine.start()
    recovery.start()
    intake.start()
    stop.wait()
    intake.stop()
    engine.stop(grace_s=STOPS_WITHIN_S)
    recovery.stop()
    database.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2])))
