"""When a destination is tried: at once when something new is there, later when it is away or asked for later.

One job at a time drains a destination. It decides at its end, with the destination's row locked, what comes next; who
hands something over locks the same row, and leaves it to the job that is on its way. So nothing is left behind.
"""

import random

import sqlalchemy as sa
import structlog

from storage import deliveries, outboxes
from storage.database import utc_now
from workflow.rooms import Rooms

log = structlog.get_logger()


def go_on(connection: sa.Connection, rooms: Rooms, clinic: str, destination: str, job: int) -> None:
    """The job's association went well: put the next one for what has come or was left, or rest."""
    outbox = outboxes.lock(connection, clinic=clinic, destination=destination)
    if outbox.job != job:
        return
    due = deliveries.next_due(connection, clinic=clinic, destination=destination)
    if due is None:
        outboxes.rest(connection, outbox)
        return
    delay_s = (due - utc_now()).total_seconds()
    outboxes.put_job(connection, rooms.jobs, outbox, is_busy=delay_s <= 0, delay_s=max(delay_s, 0.0))


def try_later(
    connection: sa.Connection, rooms: Rooms, clinic: str, destination: str, job: int, error: str, progress: bool
) -> None:
    """The job's association failed: put the next one after a wait, which grows until there is some progress."""
    outbox = outboxes.lock(connection, clinic=clinic, destination=destination)
    if outbox.job != job:
        return
    failures = 1 if progress else outbox.failures + 1
    wait_s = delay_s(rooms, failures)
    outboxes.put_job(connection, rooms.jobs, outbox, failures=failures, last_error=error, delay_s=wait_s)
    log.warning(
        "destination_away", clinic=clinic, where=destination, count=failures, delay_s=round(wait_s, 1), error=error
    )


def delay_s(rooms: Rooms, attempt: int) -> float:
    """The wait after this attempt, from 1."""
    return rooms.delivery.delay_s(attempt, chance=random.random())  # noqa: S311  # nobody gains by guessing it
