"""Each study's place in the queue, and each clinic's share of it (domain/queueing.py says how they are reckoned)."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from domain.plans import Tier
from domain.queueing import STAT_PRIORITY, finish_tag, priority_of, start_tag, tag_of
from storage.tables import queue_shares, studies

_GIVE_PLACE = sa.update(studies).where(studies.c.id == sa.bindparam("of"))
_PLACE = sa.select(studies.c.clinic, studies.c.priority).where(studies.c.id == sa.bindparam("study"))
_SHARE = sa.select(queue_shares.c.clinic).where(queue_shares.c.clinic == sa.bindparam("clinic"))
_LOCKED_FINISH = (
    sa.select(queue_shares.c.finish_tag).where(queue_shares.c.clinic == sa.bindparam("clinic")).with_for_update()
)
_LAST_STARTED = sa.select(sa.func.max(queue_shares.c.started_tag))
_TAKE_TURN = sa.update(queue_shares).where(queue_shares.c.clinic == sa.bindparam("of"))
_NOTE_START = sa.update(queue_shares).where(
    queue_shares.c.clinic == sa.bindparam("of"), queue_shares.c.started_tag < sa.bindparam("before")
)


def give_place(connection: sa.Connection, study_id: int, *, clinic: str, tier: Tier, is_stat: bool) -> int:
    """Decide the study's priority, which is returned and kept for all its jobs."""
    priority = STAT_PRIORITY if is_stat else _take_turn(connection, clinic, tier)
    connection.execute(_GIVE_PLACE, {"of": study_id, "priority": priority})
    return priority


def note_start(connection: sa.Connection, study_id: int) -> None:
    """The study is being worked on: from now on nobody is given a place before it."""
    study = connection.execute(_PLACE, {"study": study_id}).one()
    tag = tag_of(study.priority)
    connection.execute(_NOTE_START, {"of": study.clinic, "before": tag, "started_tag": tag})


def _take_turn(connection: sa.Connection, clinic: str, tier: Tier) -> int:
    _make_share(connection, clinic)
    finish = connection.scalars(_LOCKED_FINISH, {"clinic": clinic}).one()
    last_started = connection.scalar(_LAST_STARTED) or 0
    start = start_tag(last_started=last_started, finish_of_clinic=finish)
    connection.execute(_TAKE_TURN, {"of": clinic, "finish_tag": finish_tag(start, tier)})
    return priority_of(start, tier)


def _make_share(connection: sa.Connection, clinic: str) -> None:
    """A clinic that is new here. Two workers may both see that; the table keeps one row, and the second waits."""
    if connection.scalar(_SHARE, {"clinic": clinic}) is not None:
        return
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    connection.execute(insert(queue_shares).values(clinic=clinic).on_conflict_do_nothing())
