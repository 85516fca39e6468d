"""Quota is never overrun, and a study is charged once, whoever asks how often at the same moment."""

import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from domain.plans import PLANS, Tier, UsageTier
from metering.ledger import charge, read_ledger
from metering.quota import release, reserve, used
from metering.usage import Usage, read_usage
from storage.database import Database
from storage.overview import StudyFilter, read_history
from storage.tables import clinics
from tests.metering.rows import NOW, pay, study_of, subscribe, take

NOVEMBER, DECEMBER = "2026-11", "2026-12"
NEXT_MONTH = datetime(2026, 12, 1, 0, 0, 1, tzinfo=UTC)


def give_back(database: Database, uid: str, *, clinic: str = "mercy") -> None:
    with database.write() as connection:
        release(connection, clinic=clinic, study_instance_uid=uid)


def take_many(database: Database, count: int, *, clinic: str = "mercy") -> None:
    with database.write() as connection:
        for number in range(count):
            assert reserve(connection, clinic=clinic, study_instance_uid=f"1.9.{number}", now=NOW)


def used_by(database: Database, clinic: str = "mercy", period: str = NOVEMBER) -> int:
    with database.read() as connection:
        return used(connection, clinic=clinic, period=period)


def at_once(count: int, work: Callable[[int], bool]) -> list[bool]:
    """What `count` threads got that all began together."""
    answers: list[bool] = []
    together = threading.Barrier(count)

    def run(number: int) -> None:
        together.wait(timeout=30)
        answers.append(work(number))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return answers


def test_of_64_at_once_that_want_the_last_unit_exactly_one_gets_it(database: Database) -> None:
    take_many(database, 99)
    answers = at_once(64, lambda number: take(database, f"1.2.{number}"))
    assert (len(answers), sum(answers)) == (64, 1)
    assert used_by(database) == 100


def test_16_at_once_for_the_same_study_take_one_unit(database: Database) -> None:
    assert at_once(16, lambda number: take(database, "1.2.3")) == [True] * 16
    assert used_by(database) == 1


def test_16_at_once_that_charge_the_same_study_charge_it_once(database: Database) -> None:
    study_of(database, "1.2.3")
    assert sum(at_once(16, lambda number: pay(database, "1.2.3"))) == 1
    assert len(read_ledger(database)) == 1


def test_of_64_studies_in_eight_processes_that_want_the_last_unit_exactly_one_is_charged(database: Database) -> None:
    """Eight threads each, and nothing that they could agree on but the database."""
    take_many(database, 99)
    for number in range(64):
        study_of(database, f"1.2.{number}")
    programs = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.metering.charging_process", url_of(database), str(first)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for first in range(0, 64, 8)
    ]
    for program in programs:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
    for program in programs:  # now all at once
        assert program.stdin is not None
        program.stdin.close()
        program.stdin = None
    said = [line for program in programs for line in program.communicate(timeout=120)[0].splitlines()]
    charged = [line.removeprefix("charged ") for line in said if line.startswith("charged ")]
    assert len(charged) == 1
    assert [row.study_instance_uid for row in read_ledger(database)] == charged
    assert used_by(database) == 100


def url_of(database: Database) -> str:
    return database.engine.url.render_as_string(hide_password=False)


def test_stat_goes_through_on_grace_where_another_study_waits(database: Database) -> None:
    take_many(database, 100)
    assert not take(database, "1.2.1")
    assert [take(database, f"1.2.{number}", is_stat=True) for number in range(1, 12)] == [True] * 10 + [False]


def test_a_plan_with_prices_for_more_studies_takes_them(database: Database) -> None:
    small = replace(PLANS[Tier.BASIC], studies_per_month=1, grace_studies=0)
    subscribe(database, replace(small, usage_tiers=(UsageTier(name="", up_to=2, price_usd_cents=45),)), at=NOW)
    assert [take(database, f"1.2.{number}") for number in range(3)] == [True, True, False]


def test_each_charge_says_on_what_ground_the_study_was_analysed(database: Database) -> None:
    tiers = (UsageTier(name="light use", up_to=2, price_usd_cents=45),)
    subscribe(database, replace(PLANS[Tier.BASIC], studies_per_month=1, grace_studies=1, usage_tiers=tiers), at=NOW)
    for number in range(3):
        pay(database, f"1.2.{number}")
    assert [(row.number, row.basis) for row in read_ledger(database)] == [(1, "included"), (2, "usage"), (3, "grace")]


def test_a_study_counts_in_the_period_that_admitted_it_also_when_its_result_arrives_in_the_next(
    database: Database,
) -> None:
    """Otherwise those in flight at midnight would overrun the next period."""
    take(database, "1.2.3")
    pay(database, "1.2.3", now=NEXT_MONTH)
    assert [(row.period, row.charged_at) for row in read_ledger(database)] == [(NOVEMBER, NEXT_MONTH)]
    assert (used_by(database), used_by(database, period=DECEMBER)) == (1, 0)


def test_the_80th_and_the_100th_study_of_100_are_said_in_their_histories(database: Database) -> None:
    take_many(database, 78)
    for number in range(79, 102):
        study_of(database, f"1.2.{number}")
        take(database, f"1.2.{number}")
    told = {
        history.study_instance_uid: event.detail
        for history in read_history(database, StudyFilter())
        for event in history.events
        if event.event == "quota"
    }
    assert told == {
        "1.2.80": "80 of the 100 studies of period 2026-11 are used (80 %)",
        "1.2.100": "100 of the 100 studies of period 2026-11 are used (100 %)",
    }


def test_the_hundredth_study_fits_and_the_next_does_not(database: Database) -> None:
    take_many(database, 99)
    assert take(database, "1.2.100")
    assert not take(database, "1.2.101")


def test_asking_twice_takes_one_unit(database: Database) -> None:
    assert take(database, "1.2.3")
    assert take(database, "1.2.3")
    assert used_by(database) == 1


def test_a_reservation_given_back_makes_room_and_giving_back_twice_is_harmless(database: Database) -> None:
    take_many(database, 100)
    give_back(database, "1.9.7")
    give_back(database, "1.9.7")
    assert used_by(database) == 99
    assert take(database, "1.2.3")


def test_the_quota_of_one_clinic_is_not_anothers(database: Database) -> None:
    take_many(database, 100)
    assert take(database, "1.2.3", clinic="st-mary")
    assert used_by(database, "st-mary") == 1


def test_a_new_month_begins_at_nothing(database: Database) -> None:
    take_many(database, 100)
    assert not take(database, "1.2.3")
    assert take(database, "1.2.3", now=NEXT_MONTH)
    assert (used_by(database), used_by(database, period=DECEMBER)) == (100, 1)


def test_an_unlimited_plan_has_always_room(database: Database) -> None:
    with database.write() as connection:
        connection.execute(sa.update(clinics).where(clinics.c.name == "mercy").values(tier="enterprise"))
    take_many(database, 101)
    assert take(database, "1.2.3")


def test_a_study_is_charged_once_for_ever(database: Database) -> None:
    assert pay(database, "1.2.3")
    assert not pay(database, "1.2.3", destination="archive")
    assert not pay(database, "1.2.3", now=NEXT_MONTH)
    (row,) = read_ledger(database)
    assert (row.clinic, row.study_instance_uid, row.period, row.tier) == ("mercy", "1.2.3", "2026-11", "basic")
    assert (row.packages, row.result_sop_instance_uid, row.destination) == (("chest",), "2.25.1.2.3", "pacs")
    assert row.charged_at == NOW


def test_the_charge_takes_the_place_of_the_reservation(database: Database) -> None:
    take(database, "1.2.3")
    pay(database, "1.2.3")
    assert used_by(database) == 1


def test_a_study_that_was_charged_before_needs_no_quota(database: Database) -> None:
    pay(database, "1.2.3")
    take_many(database, 99)
    assert not take(database, "1.2.4")
    assert take(database, "1.2.3")
    assert take(database, "1.2.3", now=NEXT_MONTH)
    assert (used_by(database), used_by(database, period=DECEMBER)) == (100, 0)


def test_the_same_study_instance_uid_at_two_clinics_is_two_charges(database: Database) -> None:
    assert pay(database, "1.2.3", clinic="mercy")
    assert pay(database, "1.2.3", clinic="st-mary")
    assert [row.clinic for row in read_ledger(database)] == ["mercy", "st-mary"]


def test_a_charge_that_is_rolled_back_was_none_and_keeps_the_reservation(database: Database) -> None:
    take(database, "1.2.3")
    study_id = study_of(database, "1.2.3")

    def cut_short() -> None:
        with database.write() as connection:
            charge(
                connection,
                clinic="mercy",
                study_instance_uid="1.2.3",
                study_id=study_id,
                packages=["chest"],
                result_sop_instance_uid="2.25.1",
                destination="pacs",
                now=NOW,
            )
            raise InterruptedError

    with pytest.raises(InterruptedError):
        cut_short()
    assert read_ledger(database) == []
    assert used_by(database) == 1


def test_the_ledger_is_read_by_clinic_and_by_month_in_the_order_of_the_charges(database: Database) -> None:
    pay(database, "1.2.3")
    pay(database, "1.2.4", clinic="st-mary")
    pay(database, "1.2.5", now=NEXT_MONTH)
    assert [row.study_instance_uid for row in read_ledger(database)] == ["1.2.3", "1.2.4", "1.2.5"]
    assert [row.study_instance_uid for row in read_ledger(database, clinic="mercy")] == ["1.2.3", "1.2.5"]
    assert [row.study_instance_uid for row in read_ledger(database, period=NOVEMBER)] == ["1.2.3", "1.2.4"]


def test_usage_tells_what_is_charged_reserved_and_included(database: Database) -> None:
    pay(database, "1.2.3")
    take(database, "1.2.4")
    mercy, st_mary = read_usage(database, period=NOVEMBER, now=NOW)
    assert mercy == Usage(
        clinic="mercy",
        tier="basic",
        period="2026-11",
        used=2,
        charged=1,
        included=100,
        price_usd_cents=2900,
        state="active",
        begins_at=datetime(2026, 11, 1, tzinfo=UTC),
        ends_at=datetime(2026, 12, 1, tzinfo=UTC),
        credited=0,
        waiting=0,
        alert=None,
        forecast=3,  # 2 in 19.5 of 30 days
        owed_usd_cents=0,  # no subscription was opened here
        next_price_usd_cents=0,
        usage_tiers=(),
        grace_studies=10,
        trial_ends_at=None,
    )
    assert (st_mary.clinic, st_mary.tier, st_mary.used, st_mary.included) == ("st-mary", "professional", 0, 300)
    assert [usage.used for usage in read_usage(database, period=DECEMBER, clinic="mercy", now=NOW)] == [0]
