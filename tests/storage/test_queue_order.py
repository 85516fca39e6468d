"""A study's place is kept with its row, and a clinic's share with the clinic's."""

import sqlalchemy as sa

from domain.plans import Tier
from domain.queueing import ORDINARY_PRIORITY, STAT_PRIORITY, UNIT, priority_of
from storage.database import Database
from storage.intake import record_instances
from storage.queue_order import give_place, note_start
from storage.tables import studies
from tests.factories.arrivals import NO_SPOOL, arrival


def study(database: Database, number: int, clinic: str = "st-mary") -> int:
    stored = arrival(f"k{number}", f"1.2.{number}.1", study_instance_uid=f"1.2.{number}", clinic=clinic)
    return record_instances(database, NO_SPOOL, [stored])[0].study_id or 0


def place(
    database: Database, study_id: int, *, clinic: str = "st-mary", tier: Tier = Tier.BASIC, is_stat: bool = False
) -> int:
    with database.write() as connection:
        return give_place(connection, study_id, clinic=clinic, tier=tier, is_stat=is_stat)


def start(database: Database, study_id: int) -> None:
    with database.write() as connection:
        note_start(connection, study_id)


def test_each_study_of_a_clinic_stands_behind_the_one_before(database: Database) -> None:
    places = [place(database, study(database, number)) for number in range(1, 4)]
    assert places == [priority_of(count * UNIT, Tier.BASIC) for count in (0, 1, 2)]
    with database.read() as connection:
        assert list(connection.scalars(sa.select(studies.c.priority).order_by(studies.c.id))) == places


def test_another_clinic_stands_beside_the_first_until_one_of_its_studies_was_started(database: Database) -> None:
    first, second = study(database, 1), study(database, 2)
    place(database, first)
    place(database, second)
    assert place(database, study(database, 3, "mercy"), clinic="mercy") == priority_of(0, Tier.BASIC)
    start(database, second)
    assert place(database, study(database, 4, "mercy"), clinic="mercy") == priority_of(UNIT, Tier.BASIC)


def test_stat_stands_before_all_and_takes_nothing_of_the_clinics_share(database: Database) -> None:
    urgent = study(database, 1)
    assert place(database, urgent, is_stat=True) == STAT_PRIORITY < ORDINARY_PRIORITY
    start(database, urgent)
    assert place(database, study(database, 2)) == priority_of(0, Tier.BASIC)


def test_who_is_started_late_does_not_turn_the_time_back(database: Database) -> None:
    first, second = study(database, 1), study(database, 2)
    place(database, first)
    place(database, second)
    start(database, second)
    start(database, first)
    assert place(database, study(database, 3, "mercy"), clinic="mercy") == priority_of(UNIT, Tier.BASIC)
