"""A study that came when there was no quota waits, and is analysed by itself as soon as something has made room."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from domain.errors import Refuse
from domain.plans import Tier
from domain.queueing import STAT_PRIORITY
from domain.states import Reason
from domain.subscription import SubscriptionState
from metering.ledger import charge, credit
from metering.quota import reserve, why_none
from metering.subscriptions import change_tier, set_state
from storage import studies
from storage.database import Database, utc_now
from storage.tables import studies as study_rows
from tests.portal_api.rows import complete, receive
from tests.workflow.conftest import Puts
from workflow.recovery import wake_held_for_quota
from workflow.rooms import Rooms


def use_up(database: Database, count: int = 100, *, months_ago: int = 0) -> None:
    then = utc_now().replace(day=1) - timedelta(days=28 * months_ago)
    with database.write() as connection:
        for number in range(count):
            reserve(connection, clinic="mercy", study_instance_uid=f"1.9.{months_ago}.{number}", now=then)


def held(database: Database, uid: str = "1.2.3", *, reason: Reason = Reason.OVER_QUOTA, is_stat: bool = False) -> int:
    study_id = complete(database, receive(database, "mercy", uid, f"{uid}.1"))
    with database.write() as connection:
        if is_stat:
            connection.execute(sa.update(study_rows).values(priority=STAT_PRIORITY).where(study_rows.c.id == study_id))
        studies.put_aside(connection, study_id, Refuse("there is none", reason=reason))
    return study_id


def bring(database: Database, state: str) -> None:
    with database.write() as connection:
        set_state(connection, clinic="mercy", state=SubscriptionState(state), at=utc_now(), why="agreed")


def test_it_waits_as_long_as_nothing_has_changed(rooms: Rooms, puts: Puts) -> None:
    use_up(rooms.database)
    held(rooms.database)
    assert (wake_held_for_quota(rooms), puts.jobs) == (0, [])


def test_it_goes_on_when_the_period_turns(rooms: Rooms, puts: Puts) -> None:
    use_up(rooms.database, months_ago=1)
    study_id = held(rooms.database)
    assert (wake_held_for_quota(rooms), puts.jobs) == (1, [("study", study_id, 1, 0)])


def test_it_goes_on_when_the_plan_grows(rooms: Rooms, puts: Puts) -> None:
    use_up(rooms.database)
    held(rooms.database)
    with rooms.database.write() as connection:
        change_tier(connection, clinic="mercy", tier=Tier.PROFESSIONAL, at=utc_now(), why="it grew")
    assert (wake_held_for_quota(rooms), len(puts.jobs)) == (1, 1)


def test_it_goes_on_when_a_charge_is_taken_back(rooms: Rooms) -> None:
    other = complete(rooms.database, receive(rooms.database, "mercy", "1.2.9", "1.2.9.1"))
    with rooms.database.write() as connection:
        charge(
            connection,
            clinic="mercy",
            study_instance_uid="1.2.9",
            study_id=other,
            packages=["chest"],
            result_sop_instance_uid="2.25.9",
            destination="pacs",
            now=utc_now(),
        )
    use_up(rooms.database, 99)
    held(rooms.database)
    assert wake_held_for_quota(rooms) == 0
    with rooms.database.write() as connection:
        credit(connection, clinic="mercy", study_instance_uid="1.2.9", why="wrong patient", who="eva", now=utc_now())
    assert wake_held_for_quota(rooms) == 1


@pytest.mark.parametrize("state", ["paused", "unpaid", "cancelled"])
def test_it_goes_on_when_the_subscription_takes_work_again(rooms: Rooms, state: str) -> None:
    bring(rooms.database, state)
    held(rooms.database, reason=Reason.NO_SUBSCRIPTION)
    assert wake_held_for_quota(rooms) == 0
    bring(rooms.database, "active")
    assert wake_held_for_quota(rooms) == 1


def test_only_as_many_go_on_as_there_is_quota_for_and_the_oldest_first(rooms: Rooms, puts: Puts) -> None:
    use_up(rooms.database, 98)
    waiting = [held(rooms.database, f"1.2.{number}") for number in range(5)]
    assert wake_held_for_quota(rooms) == 2
    assert [job[1] for job in puts.jobs] == waiting[:2]
    assert wake_held_for_quota(rooms) == 0


def test_stat_is_not_held_up_by_what_waits_before_it(rooms: Rooms, puts: Puts) -> None:
    use_up(rooms.database)
    held(rooms.database, "1.2.1")
    urgent = held(rooms.database, "1.2.2", is_stat=True)
    assert wake_held_for_quota(rooms) == 1
    assert [job[1] for job in puts.jobs] == [urgent]


def test_what_waits_for_something_else_is_left_alone(rooms: Rooms, puts: Puts) -> None:
    held(rooms.database, reason=Reason.NOT_CONFIGURED)
    assert (wake_held_for_quota(rooms), puts.jobs) == (0, [])


def test_the_pacs_is_not_told_of_money(rooms: Rooms) -> None:
    """The message is what the note says to the radiologist; the hint is for the clinic."""
    bring(rooms.database, "unpaid")
    with rooms.database.read() as connection:
        refusal = why_none(connection, clinic="mercy", now=utc_now())
    assert refusal.reason == "no_subscription"
    assert refusal.message == "the clinic's subscription does not take new studies at this time"
    assert "it is unpaid: a payment did not come" in refusal.hint
