"""One measurement: a fresh copy of a database, a worker on it, and what its rows say afterwards.

A study waits from its arrival, less the time after the release, until its first step, and until its last one.
"""

import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.fairness.clinics import AFTER_RELEASE_S, BIG, Receiver, Senders, configuration
from benchmarks.fairness.databases import QUEUED_BEFORE, Server
from benchmarks.ingest.process_tree import ProcessTree
from domain.queueing import STAT_PRIORITY
from domain.states import StudyState
from storage.database import Database
from storage.tables import executors, instances, studies, study_events

STARTS_WITHIN_S = 60.0
WARM_UP_S = 2.0
LEFT_OVER_S = 15.0
AT_ONCE = 2
# Of those that were done: before that the worker gets going.
SKIPPED = 20
USED_SHARE = 0.9


class Failed(Exception):
    """There is no figure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Waits:
    """Seconds. `others`: how many studies of other clinics; `unstarted`: those of them that never started.

    queued: studies of the big clinic that were still in the queue at the end.
    done_per_s: studies of all clinics that the worker has finished, each second.
    """

    others: int
    unstarted: int
    start_median_s: float
    start_p95_s: float
    done_median_s: float
    stat: int
    stat_median_s: float
    stat_longest_s: float
    queued: int
    done_per_s: float
    cpu_s_per_s: float
    load_average: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Throughput:
    """`cpu_ms`: of the worker, for each study."""

    done_per_s: float
    done: int
    cpu_ms: float
    load_average: float


def waits(on: Server, empty: str, folder: Path, *, others_per_s: float, dump: int, work_s: float, for_s: float,
          stat_every_s: float, seed: int) -> Waits:  # fmt: skip
    """`others_per_s` come from 299 clinics for `for_s` seconds, and `dump` studies from one, or none.

    Raises:
        Failed: the worker did not start, or ended.
    """
    with _node(on, empty, folder, work_s=work_s) as (database, tree):
        receiver = Receiver(database)
        senders = Senders(receiver, others_per_s, dump, stat_every_s, random.Random(seed))
        cpu_s, began = tree.cpu_s(), time.monotonic()
        senders.start()
        time.sleep(WARM_UP_S + for_s)
        senders.stop()
        receiver.stop()
        ran_s, cpu_s = time.monotonic() - began, tree.cpu_s() - cpu_s
        queued = _count(database, studies.c.clinic == BIG, studies.c.state == StudyState.QUEUED)
        done = _count(database, studies.c.state == StudyState.DONE)
        _wait_until(lambda: not _count(database, studies.c.clinic != BIG, ~_is_done()), LEFT_OVER_S)
        rows = _rows(database)
    stat = [row.started_at - row.due_at for row in rows if row.priority == STAT_PRIORITY and row.started_at]
    others = [row for row in rows if row.clinic != BIG and row.priority != STAT_PRIORITY]
    others = others[int(WARM_UP_S * others_per_s) :]
    started = [row.started_at - row.due_at for row in others if row.started_at]
    if len(started) < 2 or not stat:
        raise Failed(f"{len(started)} of {len(others)} studies were started, {len(stat)} STAT")
    return Waits(
        others=len(others),
        unstarted=len(others) - len(started),
        start_median_s=statistics.median(started),
        start_p95_s=statistics.quantiles(started, n=20)[-1],
        done_median_s=statistics.median(row.finished_at - row.due_at for row in others if row.finished_at),
        stat=len(stat),
        stat_median_s=statistics.median(stat),
        stat_longest_s=max(stat),
        queued=queued,
        done_per_s=done / ran_s,
        cpu_s_per_s=cpu_s / ran_s,
        load_average=os.getloadavg()[0],
    )


def throughput(on: Server, filled: str, folder: Path, *, queued: int, for_s: float) -> Throughput:
    """How many studies whose work is nothing the worker gets through, with so many queued at the beginning.

    Raises:
        Failed: the worker did not start, or ended.
    """
    with _node(on, filled, folder, work_s=0.0) as (database, tree):
        # It has begun with the first ones by now.
        cpu_s, before = tree.cpu_s(), _count(database, _is_done())
        _wait_until(lambda: _count(database, _is_done()) >= queued * USED_SHARE, for_s)
        cpu_s, after = tree.cpu_s() - cpu_s, _count(database, _is_done())
        with database.read() as connection:
            done = sorted(
                moment.timestamp() for moment in connection.scalars(sa.select(studies.c.finished_at).where(_is_done()))
            )
    counted = done[SKIPPED : int(queued * USED_SHARE)]
    if len(counted) < SKIPPED or after == before:
        raise Failed(f"{len(done)} studies were done in {for_s:g} s")
    return Throughput(
        done_per_s=(len(counted) - 1) / (counted[-1] - counted[0]),
        done=len(counted),
        cpu_ms=cpu_s / (after - before) * 1e3,
        load_average=os.getloadavg()[0],
    )


@dataclass(frozen=True, slots=True)
class _Row:
    clinic: str
    priority: int
    due_at: float
    started_at: float | None
    finished_at: float | None


def _rows(database: Database) -> list[_Row]:
    """All that were released, in the order in which they came; times since 1970."""
    started = (
        sa.select(study_events.c.study_id, sa.func.min(study_events.c.id).label("event"))
        .where(study_events.c.event == "routed")
        .group_by(study_events.c.study_id)
        .subquery()
    )
    first = study_events.alias()
    query = (
        sa.select(studies, instances.c.received_at, first.c.at.label("started_at"))
        .join(instances, instances.c.study_id == studies.c.id)
        .outerjoin(started, started.c.study_id == studies.c.id)
        .outerjoin(first, first.c.id == started.c.event)
        .where(studies.c.released_at.is_not(None), ~studies.c.study_instance_uid.startswith(QUEUED_BEFORE))
        .order_by(studies.c.id)
    )
    with database.read() as connection:
        rows = connection.execute(query).all()
    return [
        _Row(
            row.clinic,
            row.priority,
            (row.received_at + timedelta(seconds=AFTER_RELEASE_S)).timestamp(),
            row.started_at and row.started_at.timestamp(),
            row.finished_at and row.finished_at.timestamp(),
        )
        for row in rows
    ]


def _is_done() -> sa.ColumnElement[bool]:
    return studies.c.state == StudyState.DONE


def _count(database: Database, *conditions: Any) -> int:
    with database.read() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(studies).where(*conditions)) or 0


def _wait_until(is_over: Callable[[], bool], at_most_s: float) -> None:
    until = time.monotonic() + at_most_s
    while time.monotonic() < until and not is_over():
        time.sleep(0.2)


@contextmanager
def _node(on: Server, template: str, folder: Path, *, work_s: float) -> Iterator[tuple[Database, ProcessTree]]:
    """A worker on a copy of the database, from when it beats; both are gone afterwards."""
    url = on.copy(template)
    config, log = folder / "collimator.toml", folder / "node.log"
    config.write_text(configuration(folder / "data", url, at_once=AT_ONCE), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.fairness.node", str(config), str(work_s)]
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    database = Database(url)
    try:
        _wait_until(lambda: process.poll() is not None or _beats(database), STARTS_WITHIN_S)
        if process.poll() is not None or not _beats(database):
            raise Failed(f"the worker did not start: {_last_words(log)}")
        yield database, ProcessTree(process.pid)
        if process.poll() is not None:
            raise Failed(f"the worker ended: {_last_words(log)}")
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        database.close()
        on.drop(url)


def _beats(database: Database) -> bool:
    with database.read() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(executors)) == 1


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
