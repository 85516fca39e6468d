"""A study that the clinic's plan had no model for is analysed by itself once it has one, whatever made it grow."""

from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
import sqlalchemy as sa

from domain.clinics import Clinic
from domain.completion import CompletionRules
from domain.errors import Refuse
from domain.plans import PLANS, Tier
from domain.states import Reason
from domain.study import InstanceFacts
from domain.subscription import SubscriptionState
from metering.quota import reserve
from metering.subscriptions import change_tier, set_state, sync_subscriptions
from storage import studies
from storage.database import Database, utc_now
from storage.intake import record_instances, record_release
from storage.overview import StudyFilter, read_history
from storage.studies import OpenStudy, close_study
from storage.tables import reservations
from storage.tables import studies as study_rows
from tests.factories.arrivals import NO_SPOOL, arrival
from tests.factories.stripe_house import ST_MARY, StripeHouse
from tests.stripe_server.server import StripeServer
from tests.workflow.conftest import Direct, Puts, rooms_on
from workflow import grown_plans, recovery
from workflow.grown_plans import GrownPlans
from workflow.process_study import process_study
from workflow.recovery import wake_held_for_quota
from workflow.rooms import Rooms

HAND = InstanceFacts(modality="DX", body_part_examined="HAND", has_pixels=True)
ADULTS_CHEST = InstanceFacts(modality="DX", body_part_examined="CHEST", patient_age_years=60.0, has_pixels=True)


@pytest.fixture
def database(each_database: Database) -> Database:
    """mercy is on the basic plan: chests only, 100 a period."""
    return each_database


@pytest.fixture
def rooms(database: Database, puts: Puts, tmp_path: Path) -> Rooms:
    return rooms_on(database, puts, tmp_path)


def outside(rooms: Rooms, uid: str = "1.2.3", *, facts: InstanceFacts = HAND, clinic: str = "mercy") -> int:
    """It came, was routed, and was put aside: the plan has no model for it."""
    study_id = closed(rooms.database, uid, facts, clinic)
    process_study(study_id, 1, rooms=rooms, durable=Direct(rooms.database))
    assert why(rooms.database, study_id) == ("held", "not_in_plan")
    return study_id


def closed(database: Database, uid: str, facts: InstanceFacts, clinic: str) -> int:
    came = arrival(f"k{uid}", facts=facts, clinic=clinic, study_instance_uid=uid, sop_instance_uid=f"{uid}.1")
    study_id = record_instances(database, NO_SPOOL, [came])[0].study_id or 0
    record_release(database, [study_id])
    with database.write() as connection:
        open_study = OpenStudy(study_id=study_id, clinic=clinic, reason="released")
        assert close_study(connection, open_study, CompletionRules(after_release_s=0.0))
    return study_id


def why(database: Database, study_id: int) -> tuple[str, str]:
    with database.read() as connection:
        row = connection.execute(sa.select(study_rows).where(study_rows.c.id == study_id)).one()
    return row.state, row.reason


def use_up(database: Database, count: int, clinic: str = "mercy") -> None:
    with database.write() as connection:
        for number in range(count):
            assert reserve(connection, clinic=clinic, study_instance_uid=f"1.9.{number}", now=utc_now())


def put_on(database: Database, tier: Tier, clinic: str = "mercy") -> None:
    with database.write() as connection:
        change_tier(connection, clinic=clinic, tier=tier, at=utc_now(), why="it was agreed")


def one_round(rooms: Rooms, plans: GrownPlans | None = None) -> tuple[int, int]:
    """As a worker does it: how many were let in, and how many went on."""
    return (plans or GrownPlans(rooms)).let_in(), wake_held_for_quota(rooms)


def test_it_waits_as_long_as_the_plan_has_no_model_for_it(rooms: Rooms, puts: Puts) -> None:
    study_id = outside(rooms)
    assert one_round(rooms) == (0, 0)
    assert (why(rooms.database, study_id), puts.jobs) == (("held", "not_in_plan"), [])


def test_it_goes_on_when_the_subscription_is_changed(rooms: Rooms, puts: Puts) -> None:
    study_id = outside(rooms)
    put_on(rooms.database, Tier.PROFESSIONAL)
    assert one_round(rooms) == (1, 1)
    assert puts.jobs == [("study", study_id, 1, 0)]
    with rooms.database.read() as connection:
        assert connection.scalars(sa.select(reservations.c.study_instance_uid)).all() == ["1.2.3"]
    assert one_round(rooms) == (0, 0)


def test_its_history_says_why_it_goes_on(rooms: Rooms) -> None:
    outside(rooms)
    put_on(rooms.database, Tier.PROFESSIONAL)
    one_round(rooms)
    (history,) = read_history(rooms.database, StudyFilter(study_instance_uid="1.2.3"))
    assert [(event.event, event.detail) for event in history.events][-3:] == [
        ("held", "the basic plan does not include the bone fracture model - "
         "it is analysed by itself when the plan includes it"),
        ("in_plan", "the plan includes the bone fracture model now"),
        ("requeued", "there is quota for it now"),
    ]  # fmt: skip


def test_it_goes_on_when_the_configuration_names_a_larger_plan(rooms: Rooms) -> None:
    sync_subscriptions(rooms.database, rooms.clinics, now=utc_now())
    outside(rooms)
    larger = tuple(replace(clinic, tier=Tier.PROFESSIONAL) for clinic in rooms.clinics)
    sync_subscriptions(rooms.database, larger, now=utc_now())
    assert one_round(rooms) == (1, 1)


def test_it_goes_on_when_the_configuration_adds_the_model_to_the_plan(rooms: Rooms) -> None:
    sync_subscriptions(rooms.database, rooms.clinics, now=utc_now())
    outside(rooms)
    basic = replace(PLANS[Tier.BASIC], packages=frozenset({"chest", "bone_fracture"}))
    sync_subscriptions(rooms.database, rooms.clinics, {**PLANS, Tier.BASIC: basic}, now=utc_now())
    assert one_round(rooms) == (1, 1)


def test_another_model_that_the_plan_gets_is_none_for_it(rooms: Rooms) -> None:
    study_id = outside(rooms)
    with rooms.database.write() as connection:
        plan = replace(PLANS[Tier.BASIC], packages=frozenset({"chest", "dental"}))
        change_tier(connection, clinic="mercy", tier=Tier.BASIC, plan=plan, at=utc_now(), why="agreed")
    assert one_round(rooms) == (0, 0)
    assert why(rooms.database, study_id) == ("held", "not_in_plan")


def test_it_goes_on_when_the_clinic_has_bought_the_model_at_stripe(rooms: Rooms, puts: Puts) -> None:
    """St. Mary's entitlements at Stripe lack the hand's model, and then have it."""
    with StripeServer() as server:
        house = StripeHouse(rooms.database, server, clinics=(ST_MARY,))
        house.now = utc_now()
        server.account.move_to(house.now.timestamp())
        house.subscribe()
        attached = server.account.objects["product_feature"]
        taken = {
            name: one
            for name, one in attached.items()
            if one["entitlement_feature"]["lookup_key"] == "collimator_bone_fracture"
        }
        for name in taken:
            del attached[name]
        house.billing.refresh_all()
        study_id = outside(rooms, clinic="st-mary")
        assert one_round(rooms) == (0, 0)
        attached.update(taken)
        house.billing.refresh_all()
        assert one_round(rooms) == (1, 1)
    assert puts.jobs == [("study", study_id, 1, 0)]


def test_without_quota_it_waits_for_that_like_all_others_and_in_its_turn(rooms: Rooms, puts: Puts) -> None:
    """It came first, and so it is the first for which there is room."""
    first = outside(rooms, "1.2.1")
    use_up(rooms.database, 100)
    second = closed(rooms.database, "1.2.2", ADULTS_CHEST, "mercy")
    with rooms.database.write() as connection:
        studies.put_aside(connection, second, Refuse("used up", reason=Reason.OVER_QUOTA))
    room_for_one = replace(PLANS[Tier.PROFESSIONAL], studies_per_month=100)
    with rooms.database.write() as connection:
        change_tier(connection, clinic="mercy", tier=Tier.PROFESSIONAL, plan=room_for_one, at=utc_now(), why="agreed")
    assert one_round(rooms) == (1, 0)
    assert why(rooms.database, first) == ("held", "over_quota")
    room_for_one = replace(room_for_one, studies_per_month=101)
    with rooms.database.write() as connection:
        change_tier(connection, clinic="mercy", tier=Tier.PROFESSIONAL, plan=room_for_one, at=utc_now(), why="agreed")
    assert one_round(rooms) == (0, 1)
    assert puts.jobs == [("study", first, 1, 0)]


@pytest.mark.parametrize("state", ["paused", "unpaid", "cancelled"])
def test_a_subscription_that_takes_no_work_lets_nothing_in(rooms: Rooms, state: str) -> None:
    study_id = outside(rooms)
    put_on(rooms.database, Tier.PROFESSIONAL)
    with rooms.database.write() as connection:
        set_state(connection, clinic="mercy", state=SubscriptionState(state), at=utc_now(), why="agreed")
    assert one_round(rooms) == (0, 0)
    assert why(rooms.database, study_id) == ("held", "not_in_plan")


def test_a_round_does_a_bounded_part_and_the_oldest_first(
    rooms: Rooms, puts: Puts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grown_plans, "AT_ONCE", 2)
    monkeypatch.setattr(recovery, "WOKEN_AT_ONCE", 1)
    waiting = [outside(rooms, f"1.2.{number}") for number in range(5)]
    put_on(rooms.database, Tier.PROFESSIONAL)
    plans = GrownPlans(rooms)
    assert [one_round(rooms, plans) for _ in range(6)] == [(2, 1), (2, 1), (1, 1), (0, 1), (0, 1), (0, 0)]
    assert [job[1] for job in puts.jobs] == waiting


def test_those_for_which_there_is_still_no_model_hold_up_nobody_behind_them(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grown_plans, "AT_ONCE", 2)
    spine = InstanceFacts(modality="DX", body_part_examined="TSPINE", has_pixels=True)
    for number in range(4):
        outside(rooms, f"1.3.{number}", facts=spine)
    outside(rooms, "1.2.9")
    put_on(rooms.database, Tier.PROFESSIONAL)
    plans = GrownPlans(rooms)
    assert [one_round(rooms, plans) for _ in range(3)] == [(0, 0), (0, 0), (1, 1)]


def test_an_older_generation_is_not_analysed_behind_a_newer_one(rooms: Rooms) -> None:
    outside(rooms)
    with rooms.database.write() as connection:
        connection.execute(
            sa.insert(study_rows).values(
                clinic="mercy",
                study_instance_uid="1.2.3",
                generation=2,
                state="done",
                calling_ae_title="MODALITY1",
                opened_at=utc_now(),
                last_received_at=utc_now(),
            )
        )
    put_on(rooms.database, Tier.PROFESSIONAL)
    assert one_round(rooms) == (0, 0)


def test_what_a_person_has_cancelled_meanwhile_is_left_alone(rooms: Rooms) -> None:
    study_id = outside(rooms)
    with rooms.database.write() as connection:
        connection.execute(sa.update(study_rows).values(state="cancelled", reason="cancelled"))
        assert not studies.let_wait_for_quota(connection, study_id, "the plan includes it now")
    put_on(rooms.database, Tier.PROFESSIONAL)
    assert one_round(rooms) == (0, 0)


def test_a_clinic_that_is_no_longer_configured_is_left_alone(rooms: Rooms) -> None:
    outside(rooms)
    put_on(rooms.database, Tier.PROFESSIONAL)
    only: tuple[Clinic, ...] = tuple(clinic for clinic in rooms.clinics if clinic.name != "mercy")
    assert one_round(replace(rooms, clinics=only)) == (0, 0)


def test_many_workers_at_once_let_each_in_once(rooms: Rooms, puts: Puts) -> None:
    waiting = [outside(rooms, f"1.2.{number}") for number in range(8)]
    put_on(rooms.database, Tier.PROFESSIONAL)
    workers = [Thread(target=one_round, args=(rooms,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    one_round(rooms)
    assert sorted(job[1] for job in puts.jobs) == waiting
    with rooms.database.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(reservations)) == 8
