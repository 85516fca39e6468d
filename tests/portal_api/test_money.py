"""What the portal tells of money: to whom it may, to the cent, and with the reason for every study that was free."""

import csv
import io
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from domain.billing import BillingTerms, Issuer, Party, Payer
from domain.clinics import Clinic
from domain.plans import PLANS, Tier, UsageTier
from metering.billing import close_ended_periods
from metering.invoice_billing import InvoiceBilling
from metering.quota import reserve
from metering.subscriptions import begin
from storage.audit import read_audit
from storage.database import Database, utc_now
from storage.intake import sync_clinics
from storage.tables import reservations
from tests.portal_api.rows import MERCY, MERCY_STUDY, ST_MARY, ST_MARY_STUDY, in_the_month_before_last

WANTED = {"clinic": ST_MARY, "study_instance_uid": ST_MARY_STUDY, "why": "the wrong patient"}


@pytest.fixture
def billing(client: TestClient, keys: dict[str, str]) -> TestClient:
    client.headers["X-API-Key"] = keys["billing"]
    return client


@pytest.fixture
def browser(client: TestClient, keys: dict[str, str]) -> TestClient:
    """Somebody with the role billing has signed in."""
    client.base_url = httpx.URL("https://testserver")
    client.follow_redirects = False
    client.post("/sign-in", data={"key": keys["billing"], "to": "/usage"})
    return client


@pytest.fixture
def invoiced(filled: Database) -> Database:
    """st-mary has paid by invoice for two months."""
    began = in_the_month_before_last()
    with filled.write() as connection:
        begin(connection, clinic=ST_MARY, plan=PLANS[Tier.PROFESSIONAL], at=began, why="it was configured")
    clinic = Clinic(
        name=ST_MARY,
        tier=Tier.PROFESSIONAL,
        sends_notes=True,
        callers=(),
        destinations=(),
        billing=BillingTerms(payer=Payer.INVOICE, bill_to=Party(name="St. Mary's")),
    )
    close_ended_periods(filled, [clinic], {Payer.INVOICE: InvoiceBilling(Issuer())}, now=utc_now())
    return filled


def use_up(database: Database, clinic: str, count: int) -> None:
    with database.write() as connection:
        for number in range(count):
            assert reserve(connection, clinic=clinic, study_instance_uid=f"1.9.{number}", now=utc_now())


def test_each_study_is_told_with_why_it_was_charged_or_free(billing: TestClient) -> None:
    answer = billing.get("/api/v1/usage/studies")
    told = {(one["study_instance_uid"], one["generation"]): (one["is_charged"], one["why"]) for one in answer.json()}
    assert told == {
        (ST_MARY_STUDY, 1): (True, "the first result was delivered; included in the plan"),
        (ST_MARY_STUDY, 2): (False, "revised: the study is charged once, however often it is analysed"),
        (MERCY_STUDY, 1): (False, "not configured: no model is installed for it"),
    }
    assert answer.headers["X-Total-Count"] == "3"
    (charged,) = [one for one in answer.json() if one["is_charged"]]
    assert (charged["sent_back"], charged["sent_again"], charged["price_usd_cents"]) == (2, 0, 0)


def test_the_csv_has_the_same_lines(billing: TestClient) -> None:
    answer = billing.get("/api/v1/usage/studies.csv", params={"clinic": ST_MARY})
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["study_instance_uid"], row["charged"]) for row in rows] == [
        (ST_MARY_STUDY, "yes"),
        (ST_MARY_STUDY, "no"),
    ]


def test_the_ledger_links_each_row_to_its_results_and_models(billing: TestClient) -> None:
    (row,) = billing.get("/api/v1/ledger").json()
    assert (row["kind"], row["basis"], row["number"]) == ("charge", "included", 1)
    assert (row["result_sop_instance_uid"], row["result_sop_instance_uids"]) == ("2.25.100", ["2.25.100"])


def test_a_credit_is_given_once_and_names_the_key_that_gave_it(billing: TestClient, filled: Database) -> None:
    given = billing.post("/api/v1/credits", json=WANTED)
    assert (given.status_code, given.json()) == (201, {"id": 2})
    again = billing.post("/api/v1/credits", json=WANTED)
    assert (again.status_code, again.json()["detail"][:45]) == (409, "the study's charge was taken back before (by ")
    credit, _ = billing.get("/api/v1/ledger").json()
    assert (credit["kind"], credit["corrects"], credit["who"], credit["why"]) == (
        "credit",
        1,
        "billing",
        "the wrong patient",
    )
    assert [(line.who, line.act) for line in read_audit(filled)] == [
        ("billing", "credited"),
        ("billing", "credit_refused"),
    ]
    (usage,) = billing.get("/api/v1/usage", params={"clinic": ST_MARY}).json()
    assert (usage["used"], usage["charged"], usage["credited"]) == (0, 0, 1)
    (study,) = [one for one in billing.get("/api/v1/usage/studies").json() if one["why"].startswith("credited")]
    assert (study["is_charged"], study["why"]) == (False, "credited: the wrong patient")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"study_instance_uid": MERCY_STUDY}, 404),
        ({"clinic": MERCY}, 404),
        ({"why": ""}, 422),
        ({"why": "a\nb"}, 422),
        ({"amount_usd_cents": -1}, 422),
        ({"amount_usd_cents": 1.5}, 422),
        ({"who": "somebody else"}, 422),
    ],
)
def test_a_credit_that_cannot_be_given_changes_nothing(
    billing: TestClient, change: dict[str, object], status: int
) -> None:
    assert billing.post("/api/v1/credits", json={**WANTED, **change}).status_code == status
    assert len(billing.get("/api/v1/ledger").json()) == 1


def test_nobody_takes_back_what_their_own_clinic_owes(client: TestClient, keys: dict[str, str]) -> None:
    answer = client.post("/api/v1/credits", json=WANTED, headers={"X-API-Key": keys[ST_MARY]})
    assert (answer.status_code, answer.json()["detail"]) == (
        403,
        "a key that is bound to a clinic may not give credits",
    )


def test_invoices_are_listed_and_given_out_as_they_went_out(billing: TestClient, invoiced: Database) -> None:
    lines = billing.get("/api/v1/invoices").json()
    assert [line["number"] for line in lines] == ["INV-000001", "INV-000002"]
    document = billing.get("/api/v1/invoices/INV-000002").json()
    assert (document["clinic"], document["bill"]["lines"][0]["amount_usd_cents"]) == (ST_MARY, 7900)
    pdf = billing.get("/api/v1/invoices/INV-000002/pdf")
    assert (pdf.headers["Content-Type"], pdf.content[:5]) == ("application/pdf", b"%PDF-")
    assert pdf.content == billing.get("/api/v1/invoices/INV-000002/pdf").content
    assert billing.get("/api/v1/invoices/INV-000002/csv").text.startswith("invoice,clinic,period")


def test_another_clinics_invoice_is_not_there(client: TestClient, keys: dict[str, str], invoiced: Database) -> None:
    sync_clinics(invoiced, {"other": "basic"})
    from portal_api.permissions import Role
    from storage.api_keys import create_key

    other = {"X-API-Key": create_key(invoiced, name="other", role=Role.BILLING, clinic="other")}
    assert client.get("/api/v1/invoices", headers=other).json() == []
    for route in ("", "/pdf", "/csv"):
        assert client.get(f"/api/v1/invoices/INV-000001{route}", headers=other).status_code == 404


def test_the_page_shows_the_clinic_its_use_and_each_study_with_its_reason(browser: TestClient) -> None:
    page = browser.get(f"/usage?clinic={ST_MARY}").text
    for said in (
        "Usage of st-mary",
        "1 of 300",
        "1 charged, 1 free",
        "the first result was delivered; included in the plan",
        "revised: the study is charged once",
        "our own results came back 2 times: free",
        "USD 79.00",
        "the plan's price for the part of the period in which it holds",
    ):
        assert said in page
    assert MERCY not in page


def test_who_may_see_several_clinics_gets_a_line_for_each(browser: TestClient) -> None:
    page = browser.get("/usage").text
    assert all(f'<a href="/usage?clinic={name}">{name}</a>' in page for name in (ST_MARY, MERCY))


@pytest.mark.parametrize(
    ("used", "says"),
    [(79, None), (80, "80 % of the included studies are used"), (100, "The 100 included studies are used up")],
)
def test_the_page_and_the_metrics_say_when_80_and_100_percent_are_used(
    browser: TestClient, filled: Database, keys: dict[str, str], used: int, says: str | None
) -> None:
    use_up(filled, MERCY, used)
    page = browser.get(f"/usage?clinic={MERCY}").text
    assert ('class="notice"' in page) is (says is not None)
    assert says is None or says in page
    metrics = browser.get("/metrics", headers={"X-API-Key": keys["admin"]}).text
    for line in (
        f'collimator_quota_used_studies{{clinic="mercy"}} {used}.0',
        'collimator_quota_included_studies{clinic="mercy"} 100.0',
        f'collimator_quota_alert_percent{{clinic="mercy"}} {float(used if used > 79 else 0)}',
        'collimator_subscription{clinic="mercy",state="active"} 1.0',
    ):
        assert line in metrics


def test_a_period_can_be_looked_back_at_and_one_without_studies_says_so(browser: TestClient) -> None:
    page = browser.get(f"/usage?clinic={MERCY}&period=2020-02").text
    assert "No study came in this period" in page
    assert "/usage?clinic=mercy&amp;period=2020-01" in page
    assert "/usage?clinic=mercy&amp;period=2020-03" in page


def test_the_page_gives_out_csv_and_invoices_to_who_has_signed_in(browser: TestClient, invoiced: Database) -> None:
    assert browser.get(f"/usage.csv?clinic={ST_MARY}").text.count("\n") == 3
    assert '<a href="/invoices/INV-000001.pdf">' in browser.get(f"/usage?clinic={ST_MARY}").text
    assert browser.get("/invoices/INV-000001.pdf").content[:5] == b"%PDF-"
    assert browser.get("/invoices/INV-000009.pdf").status_code == 404


def test_who_may_not_see_what_was_used_gets_no_page(client: TestClient, keys: dict[str, str]) -> None:
    client.base_url = httpx.URL("https://testserver")
    client.follow_redirects = False
    client.post("/sign-in", data={"key": keys["viewer"], "to": "/usage"})
    assert client.get("/usage").status_code == 403
    assert '<a href="/usage">' not in client.get("/studies").text


def test_a_reservation_is_shown_as_work_and_not_as_a_charge(browser: TestClient, filled: Database) -> None:
    use_up(filled, MERCY, 1)
    with filled.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(reservations)) == 1
    assert "<small>1 in work</small>" in browser.get(f"/usage?clinic={MERCY}").text


def test_what_studies_beyond_the_included_ones_cost_is_shown_before_any_costs_it(
    browser: TestClient, billing: TestClient, filled: Database
) -> None:
    waits = "Beyond the 100 included studies of a period a study waits. 10 STAT studies may go through all the same"
    assert waits in browser.get(f"/usage?clinic={MERCY}").text
    tiers = (
        UsageTier(name="light", up_to=200, price_usd_cents=50),
        UsageTier(name="heavy", up_to=400, price_usd_cents=30),
    )
    put_on(filled, usage_tiers=tiers, grace_studies=0)
    said = "a study costs USD 0.50 up to study 200 (light), USD 0.30 up to study 400 (heavy); after that a study waits."
    assert said in browser.get(f"/usage?clinic={MERCY}").text
    (usage,) = billing.get("/api/v1/usage", params={"clinic": MERCY}).json()
    assert usage["usage_tiers"] == [
        {"name": "light", "up_to": 200, "price_usd_cents": 50},
        {"name": "heavy", "up_to": 400, "price_usd_cents": 30},
    ]


def test_a_clinic_on_trial_sees_when_that_ends(browser: TestClient, filled: Database) -> None:
    put_on(filled, trial_days=14)
    ends_at = utc_now() + timedelta(days=14)
    page = browser.get(f"/usage?clinic={MERCY}").text
    assert "until then nothing is owed" in page
    assert f"The trial ends on {ends_at:%Y-%m-%d}" in page


def put_on(database: Database, **terms: object) -> None:
    """mercy's subscription begins now, on these terms."""
    plan = replace(PLANS[Tier.BASIC], **terms)  # type: ignore[arg-type]
    with database.write() as connection:
        begin(connection, clinic=MERCY, plan=plan, at=utc_now(), why="it was agreed")
