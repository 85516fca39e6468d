"""A charge can be taken back, once, by somebody and for a reason; the charge stays where it is."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from domain.errors import Refuse
from domain.plans import PLANS, Tier, UsageTier
from metering.ledger import credit, read_ledger
from metering.quota import used
from storage.audit import read_audit
from storage.database import Database
from storage.overview import StudyFilter, read_history
from tests.metering.rows import NOW, pay, subscribe, take

NOVEMBER = "2026-11"


def take_back(database: Database, uid: str = "1.2.3", why: str = "wrong patient", now: datetime = NOW) -> int:
    with database.write() as connection:
        return credit(connection, clinic="mercy", study_instance_uid=uid, why=why, who="eva", now=now)


def test_a_credit_is_a_row_that_names_its_charge_and_who_wanted_it_and_why(database: Database) -> None:
    pay(database, "1.2.3")
    given = take_back(database)
    charge, back = read_ledger(database)
    assert (charge.kind, charge.who, charge.why, charge.corrects) == ("charge", "", "", None)
    assert (back.id, back.kind, back.corrects, back.who, back.why) == (
        given,
        "credit",
        charge.id,
        "eva",
        "wrong patient",
    )
    assert (back.study_instance_uid, back.period, back.tier, back.models) == ("1.2.3", NOVEMBER, "basic", charge.models)


def test_a_charge_is_taken_back_once(database: Database) -> None:
    pay(database, "1.2.3")
    take_back(database)
    with pytest.raises(Refuse, match="taken back before") as caught:
        take_back(database)
    assert (caught.value.reason, caught.value.hint) == ("credited_before", "by eva at 2026-11-20 12:00 UTC")
    assert len(read_ledger(database)) == 2


def test_what_was_never_charged_cannot_be_taken_back(database: Database) -> None:
    with pytest.raises(Refuse, match=r"mercy was never charged for study '1\.2\.3'"):
        take_back(database)


@pytest.mark.parametrize("why", ["", "  "])
def test_a_credit_without_a_reason_is_refused(database: Database, why: str) -> None:
    pay(database, "1.2.3")
    with pytest.raises(Refuse, match="a credit needs a reason"):
        take_back(database, why=why)


def test_a_credit_leaves_room_for_another_study_in_its_period(database: Database) -> None:
    pay(database, "1.2.3")
    for number in range(99):
        assert take(database, f"1.9.{number}")
    assert not take(database, "1.2.4")
    take_back(database)
    assert take(database, "1.2.4")
    with database.read() as connection:
        assert used(connection, clinic="mercy", period=NOVEMBER) == 100


def test_a_study_whose_charge_was_taken_back_is_not_charged_again(database: Database) -> None:
    pay(database, "1.2.3")
    take_back(database)
    assert not pay(database, "1.2.3", now=datetime(2026, 12, 20, tzinfo=UTC))
    assert [row.kind for row in read_ledger(database)] == ["charge", "credit"]


def test_the_study_after_a_credit_takes_its_place_in_the_period(database: Database) -> None:
    small = replace(
        PLANS[Tier.BASIC], studies_per_month=1, usage_tiers=(UsageTier(name="", up_to=None, price_usd_cents=45),)
    )
    subscribe(database, small, at=datetime(2026, 11, 1, tzinfo=UTC))
    pay(database, "1.2.3")
    take_back(database)
    pay(database, "1.2.4")
    pay(database, "1.2.5")
    rows = read_ledger(database)
    assert [(row.kind, row.number, row.basis) for row in rows] == [
        ("charge", 1, "included"),
        ("credit", 1, "included"),
        ("charge", 1, "included"),
        ("charge", 2, "usage"),
    ]


def test_a_credit_stands_in_the_audit_trail_and_in_the_studys_history(database: Database) -> None:
    pay(database, "1.2.3")
    take_back(database)
    (line,) = read_audit(database, clinic="mercy")
    assert (line.at, line.who, line.act, line.detail) == (NOW, "eva", "credited", "ledger row 1: wrong patient")
    (history,) = read_history(database, StudyFilter(study_instance_uid="1.2.3"))
    assert (history.events[-1].event, history.events[-1].detail) == ("credited", "by eva")
    assert not history.is_charged
