"""Invoices of real rows: one a period, numbered without gaps, never rewritten, and every cent of the ledger on one."""

import csv
import io
import random
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from pypdf import PdfReader

from domain.billing import BillingTerms, Issuer, Party, Payer
from domain.clinics import Clinic
from domain.errors import Refuse
from domain.invoice import Invoice
from domain.plans import PLANS, Plan, Tier, UsageTier
from domain.subscription import SubscriptionState
from metering.billing import close_ended_periods
from metering.invoice_billing import InvoiceBilling
from metering.invoices import list_invoices, read_invoice
from metering.ledger import credit, read_ledger
from metering.quota import used
from metering.subscriptions import change_tier, set_state, sync_subscriptions
from storage.database import Database
from storage.tables import billing_accounts, billing_outbox
from storage.tables import clinics as clinic_rows
from tests.metering.rows import NOW, pay, subscribe, take

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NOVEMBER_ENDS = datetime(2026, 12, 1, tzinfo=UTC)
METERED = replace(
    PLANS[Tier.BASIC],
    studies_per_month=2,
    usage_tiers=(UsageTier(name="light use", up_to=None, price_usd_cents=45),),
)
ISSUER = Issuer(
    party=Party(name="Radiograph Services Inc.", address=("12 Harbour Road", "Boston"), tax_id="US 12-3456789"),
    payment=("Bank: First Example Bank, account 0099887766",),
)
TERMS = BillingTerms(
    payer=Payer.INVOICE,
    bill_to=Party(name="Klinikum Sankt Marien gGmbH", address=("Hauptstraße 5", "München"), tax_id="DE 123456789"),
    purchase_order="PO-2026-00815",
)
BY_STRIPE = BillingTerms(payer=Payer.STRIPE)
PAYERS = {Payer.INVOICE: InvoiceBilling(ISSUER)}


def clinic(name: str = "mercy", billing: BillingTerms = TERMS) -> Clinic:
    return Clinic(name=name, tier=Tier.BASIC, sends_notes=False, callers=(), destinations=(), billing=billing)


def close(database: Database, *clinics: Clinic, now: datetime = NOVEMBER_ENDS) -> int:
    return close_ended_periods(database, clinics or (clinic(),), PAYERS, now=now)


def invoice(database: Database, number: int = 1) -> Invoice:
    return read_invoice(database, f"INV-{number:06d}")[0]


def take_back(database: Database, uid: str, *, now: datetime = NOW, amount: int | None = None) -> None:
    with database.write() as connection:
        credit(
            connection,
            clinic="mercy",
            study_instance_uid=uid,
            why="wrong patient",
            who="eva",
            now=now,
            amount_usd_cents=amount,
        )


def test_a_period_that_is_over_gives_one_invoice_with_all_that_is_on_it(database: Database) -> None:
    subscribe(database, METERED, at=datetime(2026, 11, 1, tzinfo=UTC))
    for number in range(3):
        pay(database, f"1.2.{number}")
    assert [close(database), close(database)] == [1, 0]
    one = invoice(database)
    assert [(line.text, line.quantity, line.amount_usd_cents) for line in one.bill.lines] == [
        ("Plan basic", None, 2900),
        ("Studies included in the plan basic", 2, 0),
        ("Studies beyond those included: light use", 1, 45),
    ]
    assert (one.number, one.period, one.purchase_order, one.bill_to.tax_id, one.issuer.tax_id) == (
        "INV-000001",
        "2026-11",
        "PO-2026-00815",
        "DE 123456789",
        "US 12-3456789",
    )
    assert one.due_at - one.issued_at == timedelta(days=30)
    assert [study.study_instance_uid for study in one.bill.studies] == ["1.2.0", "1.2.1", "1.2.2"]


def test_a_period_that_runs_is_not_closed(database: Database) -> None:
    subscribe(database, METERED, at=OCTOBER)
    assert close(database, now=NOVEMBER_ENDS - timedelta(seconds=1)) == 1
    assert invoice(database).period == "2026-10"


def test_every_period_since_the_subscription_began_is_made_up_for(database: Database) -> None:
    """A node that was off for months writes what it has missed."""
    subscribe(database, METERED, at=datetime(2026, 8, 16, tzinfo=UTC))
    assert close(database) == 4
    assert [(line.period, line.total_usd_cents) for line in list_invoices(database)] == [
        ("2026-08", 1497),
        ("2026-09", 2900),
        ("2026-10", 2900),
        ("2026-11", 2900),
    ]


def test_where_nothing_is_owed_there_is_no_invoice(database: Database) -> None:
    subscribe(database, METERED, at=OCTOBER)
    with database.write() as connection:
        set_state(connection, clinic="mercy", state=SubscriptionState.PAUSED, at=OCTOBER, why="closed for works")
    assert close(database) == 0


def test_a_clinic_that_pays_nobody_gets_none(database: Database) -> None:
    subscribe(database, METERED, at=OCTOBER)
    assert close(database, clinic(billing=BillingTerms())) == 0


def test_numbers_have_no_gap_over_all_clinics_however_many_write_them_at_once(database: Database) -> None:
    names = [f"clinic-{number}" for number in range(6)]
    with database.write() as connection:
        for name in names:
            connection.execute(sa.insert(clinic_rows).values(name=name, tier="basic"))
    for name in names:
        subscribe(database, METERED, clinic=name, at=OCTOBER)
    everybody = [clinic(name) for name in names]
    threads = [
        threading.Thread(target=close, args=(database, *random.Random(seed).sample(everybody, 6))) for seed in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    lines = list_invoices(database)
    assert [line.number for line in lines] == [f"INV-{number:06d}" for number in range(1, 13)]
    assert len({(line.clinic, line.period) for line in lines}) == 12


def test_a_number_that_was_not_used_after_all_is_not_left_out(database: Database) -> None:
    subscribe(database, METERED, at=OCTOBER)

    class Breaks(InvoiceBilling):
        def close_period(self, *args: object) -> None:
            super().close_period(*args)  # type: ignore[arg-type]
            raise InterruptedError

    with pytest.raises(InterruptedError):
        close_ended_periods(database, [clinic()], {Payer.INVOICE: Breaks(ISSUER)}, now=NOVEMBER_ENDS)
    assert list_invoices(database) == []
    close(database)
    assert [line.number for line in list_invoices(database)] == ["INV-000001", "INV-000002"]


def test_a_study_taken_back_before_the_invoice_is_not_on_it(database: Database) -> None:
    subscribe(database, METERED, at=datetime(2026, 11, 1, tzinfo=UTC))
    for number in range(3):
        pay(database, f"1.2.{number}")
    take_back(database, "1.2.0")
    close(database)
    one = invoice(database)
    assert one.bill.total_usd_cents == 2900
    assert [(study.number, study.study_instance_uid) for study in one.bill.studies] == [(1, "1.2.1"), (2, "1.2.2")]
    assert one.bill.credits == ()


def test_a_study_taken_back_after_the_invoice_is_paid_back_by_the_next_at_what_it_cost(database: Database) -> None:
    subscribe(database, METERED, at=datetime(2026, 11, 1, tzinfo=UTC))
    for number in range(3):
        pay(database, f"1.2.{number}")
    close(database)
    before = read_invoice(database, "INV-000001")
    december = datetime(2026, 12, 5, tzinfo=UTC)
    take_back(database, "1.2.2", now=december)
    take_back(database, "1.2.1", now=december)
    assert read_invoice(database, "INV-000001") == before
    close(database, now=datetime(2027, 1, 1, tzinfo=UTC))
    second = invoice(database, 2)
    assert [(given.study_instance_uid, given.of_period, given.amount_usd_cents) for given in second.bill.credits] == [
        ("1.2.2", "2026-11", 45),
        ("1.2.1", "2026-11", 0),
    ]
    assert second.bill.total_usd_cents == 2900 - 45


def test_an_amount_that_was_agreed_on_is_taken_off_and_the_study_stays_on_the_bill(database: Database) -> None:
    subscribe(database, METERED, at=datetime(2026, 11, 1, tzinfo=UTC))
    pay(database, "1.2.0")
    take_back(database, "1.2.0", amount=29)
    close(database)
    one = invoice(database)
    assert [study.study_instance_uid for study in one.bill.studies] == ["1.2.0"]
    assert one.bill.total_usd_cents == 2900 - 29


def test_more_credits_than_charges_make_a_credit_note(database: Database) -> None:
    subscribe(database, METERED, at=datetime(2026, 11, 1, tzinfo=UTC))
    for number in range(3):
        pay(database, f"1.2.{number}")
    close(database)
    december = datetime(2026, 12, 1, tzinfo=UTC)
    with database.write() as connection:
        set_state(connection, clinic="mercy", state=SubscriptionState.CANCELLED, at=december, why="moved away")
    take_back(database, "1.2.2", now=december)
    close(database, now=datetime(2027, 1, 1, tzinfo=UTC))
    assert invoice(database, 2).bill.total_usd_cents == -45
    text = "".join(page.extract_text() for page in PdfReader(io.BytesIO(read_invoice(database, "INV-000002")[1])).pages)
    assert "Credit note" in text
    assert "Nothing is due" in text


def test_what_is_in_work_when_a_period_is_closed_counts_in_the_next(database: Database) -> None:
    """Its row would come too late for the invoice, which nothing changes any more."""
    subscribe(database, METERED, at=OCTOBER)
    take(database, "1.2.0", now=OCTOBER + timedelta(days=30, hours=23))
    close(database, now=datetime(2026, 11, 1, tzinfo=UTC))
    with database.read() as connection:
        assert used(connection, clinic="mercy", period="2026-10") == 0
    pay(database, "1.2.0", now=datetime(2026, 11, 2, tzinfo=UTC))
    assert [row.period != "2026-10" for row in read_ledger(database)] == [True]


def test_nothing_comes_to_a_period_that_has_its_invoice(database: Database) -> None:
    """Of who waited for the lock while the invoice was written."""
    subscribe(database, METERED, at=OCTOBER)
    close(database, now=datetime(2026, 11, 1, tzinfo=UTC))
    pay(database, "1.2.0", now=datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC))
    assert [row.period for row in read_ledger(database)] == ["2026-11"]


def test_nobody_is_billed_for_the_time_before_they_were_to_pay_by_invoice(database: Database) -> None:
    """For two and a half months nobody was asked."""
    plans = dict.fromkeys(Tier, METERED)
    sync_subscriptions(database, [clinic(billing=BillingTerms())], plans, now=datetime(2026, 9, 1, tzinfo=UTC))
    sync_subscriptions(database, [clinic()], plans, now=datetime(2026, 11, 16, tzinfo=UTC))
    assert close(database) == 1
    assert [(line.period, line.total_usd_cents) for line in list_invoices(database)] == [("2026-11", 1450)]


def test_a_study_that_stripe_was_told_of_is_on_no_invoice_and_counts_where_prices_depend_on_it(
    database: Database,
) -> None:
    plans = dict.fromkeys(Tier, METERED)
    sync_subscriptions(database, [clinic(billing=BY_STRIPE)], plans, now=datetime(2026, 11, 1, tzinfo=UTC))
    for number in range(2):
        pay(database, f"1.2.{number}", now=datetime(2026, 11, 10, tzinfo=UTC))
    sync_subscriptions(database, [clinic()], plans, now=datetime(2026, 11, 16, tzinfo=UTC))
    pay(database, "1.2.9", now=datetime(2026, 11, 20, tzinfo=UTC))
    assert close(database) == 1
    [study] = invoice(database).bill.studies
    assert (study.study_instance_uid, study.number, study.price_usd_cents) == ("1.2.9", 3, 45)
    assert invoice(database).bill.total_usd_cents == 1450 + 45


def test_stripe_pays_back_what_it_charged_and_no_invoice_does(database: Database) -> None:
    """Also when the clinic is asked by invoice by now."""
    plans = dict.fromkeys(Tier, METERED)
    sync_subscriptions(database, [clinic(billing=BY_STRIPE)], plans, now=datetime(2026, 11, 1, tzinfo=UTC))
    with database.write() as connection:
        account = {"clinic": "mercy", "identifier_key": "00", "customer_id": "cus_1", "begun_at": OCTOBER}
        connection.execute(sa.insert(billing_accounts).values(account))
    pay(database, "1.2.1", now=datetime(2026, 11, 10, tzinfo=UTC))
    sync_subscriptions(database, [clinic()], plans, now=datetime(2026, 11, 16, tzinfo=UTC))
    pay(database, "1.2.2", now=datetime(2026, 11, 20, tzinfo=UTC))
    take_back(database, "1.2.1", now=datetime(2026, 11, 21, tzinfo=UTC), amount=30)
    with database.read() as connection:
        told = connection.scalars(sa.select(billing_outbox.c.ledger_id).order_by(billing_outbox.c.ledger_id)).all()
    assert told == [1, 3]
    assert close(database) == 1
    assert invoice(database).bill.total_usd_cents == 1450


def test_the_pdf_says_what_an_accounts_department_looks_for(database: Database) -> None:
    subscribe(database, METERED, at=datetime(2026, 11, 1, tzinfo=UTC))
    for number in range(120):
        pay(database, f"1.2.826.0.1.3680043.8.498.{10**30 + number}")
    close(database)
    document, content, _ = read_invoice(database, "INV-000001")
    pages = [page.extract_text() for page in PdfReader(io.BytesIO(content)).pages]
    for said in (
        "Invoice",
        "INV-000001",
        "PO-2026-00815",
        "Klinikum Sankt Marien gGmbH",
        "Hauptstraße 5",
        "Tax ID DE 123456789",
        "Tax ID US 12-3456789",
        "net 30 days",
        "USD 82.10",
        "First Example Bank",
        f"Page 1 of {len(pages)}",
    ):
        assert said in pages[0]
    assert len(pages) > 2
    evidence = "".join(pages[1:])
    assert all(study.study_instance_uid in evidence for study in document.bill.studies)


def test_the_csv_has_each_study_with_its_price_and_adds_up(database: Database) -> None:
    subscribe(database, METERED, at=datetime(2026, 11, 1, tzinfo=UTC))
    for number in range(4):
        pay(database, f"1.2.{number}")
    close(database)
    document, _, content = read_invoice(database, "INV-000001")
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert [(row["study_instance_uid"], row["basis"], row["amount_usd"]) for row in rows] == [
        ("1.2.0", "included", "0.00"),
        ("1.2.1", "included", "0.00"),
        ("1.2.2", "usage", "0.45"),
        ("1.2.3", "usage", "0.45"),
    ]
    assert document.bill.total_usd_cents == 2900 + 90


@pytest.mark.parametrize("why", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_a_spreadsheet_takes_no_reason_for_a_formula(database: Database, why: str) -> None:
    subscribe(database, METERED, at=datetime(2026, 11, 1, tzinfo=UTC))
    from metering.invoice_csv import inert

    assert inert(why) == f"'{why}"
    assert inert("wrong patient") == "wrong patient"


def test_letters_that_the_font_lacks_do_not_stop_an_invoice(database: Database) -> None:
    subscribe(database, METERED, at=datetime(2026, 11, 1, tzinfo=UTC))
    odd = replace(TERMS, bill_to=Party(name="Łódź 病院 <b>&amp; ệ", address=("\u202e", "x" * 200)))
    close(database, clinic(billing=odd))
    text = PdfReader(io.BytesIO(read_invoice(database, "INV-000001")[1])).pages[0].extract_text()
    assert "?? <b>&amp; e" in text


@pytest.mark.parametrize("number", ["INV-000002", "000001", "INV-", "", "../../etc", "INV-99999999999999999999"])
def test_an_invoice_that_is_not_there_is_refused(database: Database, number: str) -> None:
    subscribe(database, METERED, at=datetime(2026, 11, 1, tzinfo=UTC))
    close(database)
    with pytest.raises(Refuse, match="there is no invoice"):
        read_invoice(database, number)


def test_over_a_year_of_changes_the_invoices_are_the_ledger_to_the_cent(database: Database) -> None:
    """Charges, credits in time and late, upgrades and downgrades: each charge is on one invoice, once, and what was
    taken back is on none or was paid back.
    """
    chance = random.Random(11)
    subscribe(database, METERED, at=OCTOBER)
    plans: list[Plan] = [METERED, replace(METERED, studies_per_month=5), PLANS[Tier.PROFESSIONAL]]
    uids: list[str] = []
    now = OCTOBER
    for step in range(150):
        now += timedelta(hours=chance.randint(1, 100))
        close(database, now=now)
        what = chance.random()
        if what < 0.75:
            uids.append(f"1.5.{step}")
            pay(database, uids[-1], now=now)
        elif what < 0.87 and uids:
            take_back(database, uids.pop(chance.randrange(len(uids))), now=now)
        else:
            plan = chance.choice(plans)
            with database.write() as connection:
                change_tier(connection, clinic="mercy", tier=plan.tier, plan=plan, at=now, why="chance")
    close(database, now=now + timedelta(days=40))
    bills = [invoice(database, number).bill for number in range(1, 1 + len(list_invoices(database)))]
    rows = read_ledger(database)
    taken_back = {row.corrects for row in rows if row.kind == "credit"}
    billed = [study.ledger_id for bill in bills for study in bill.studies]
    paid_back = {given.study_instance_uid for bill in bills for given in bill.credits}
    on_a_bill = {row.study_instance_uid for row in rows if row.id in set(billed)}
    assert len(billed) == len(set(billed))
    assert {row.id for row in rows if row.kind == "charge"} - set(billed) <= taken_back
    credited = {row.study_instance_uid for row in rows if row.id in taken_back}
    assert paid_back == credited & on_a_bill
    prices = {study.study_instance_uid: study.price_usd_cents for bill in bills for study in bill.studies}
    assert all(given.amount_usd_cents == prices[given.study_instance_uid] for bill in bills for given in bill.credits)
    assert len(bills) >= 8
