"""Stripe at the portal's door: events that it signed, how it stands, and links for those who look after money."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from portal_api.app import build_app
from storage.api_keys import create_key
from storage.audit import read_audit
from storage.database import Database
from tests.factories.stripe_house import ST_MARY, StripeHouse
from tests.portal_api.conftest import CLINICS, care_over
from tests.stripe_server.misfortunes import Misfortune
from tests.stripe_server.server import StripeServer

WEBHOOK, BILLING = "/api/v1/stripe/webhook", "/api/v1/billing"
CHECKOUT, PORTAL = f"{BILLING}/checkout", f"{BILLING}/portal"


@pytest.fixture
def house(database: Database) -> Iterator[StripeHouse]:
    with StripeServer() as server:
        yield StripeHouse(database, server)


@pytest.fixture
def billed(house: StripeHouse) -> TestClient:
    """A portal that has a key for Stripe."""
    clinics = tuple(clinic for clinic in CLINICS if clinic.name != "st-mary")
    app = build_app(
        database=house.database,
        clinics=(ST_MARY, *clinics),
        version="0.1.0",
        open_care=care_over(house.database),
        open_payments=lambda: house.billing,
        return_url="http://127.0.0.1:8080/usage",
    )
    return TestClient(app, raise_server_exceptions=False)


def with_key(client: TestClient, database: Database, role: str, clinic: str | None = None) -> TestClient:
    client.headers["X-API-Key"] = create_key(database, name=f"{role}-{clinic}", role=role, clinic=clinic)
    return client


def test_a_signed_event_is_taken_in_without_an_api_key_and_acted_on_later(
    billed: TestClient, house: StripeHouse
) -> None:
    house.subscribe()
    house.client.v1.subscriptions.cancel(house.account().subscription_id or "")
    event = json.dumps(house.server.account.events[-1]).encode()
    answer = billed.post(WEBHOOK, content=event, headers={"Stripe-Signature": house.server.webhooks.signature(event)})
    assert (answer.status_code, answer.json(), house.state()) == (200, {"received": True}, "active")
    house.billing.round()
    assert house.state() == "cancelled"


def test_an_event_that_stripe_did_not_sign_is_refused_with_the_reason(billed: TestClient, house: StripeHouse) -> None:
    for headers in ({}, {"Stripe-Signature": "t=1,v1=0"}):
        answer = billed.post(WEBHOOK, content=b"{}", headers=headers)
        assert (answer.status_code, answer.json()["detail"]) == (
            400,
            "the signature is not that of our webhook secret",
        )
    assert [line.act for line in read_audit(house.database)] == ["webhook_refused"]
    assert billed.post(WEBHOOK, content=b"x" * 70_000, headers={"Stripe-Signature": "t=1,v1=0"}).status_code == 413


def test_a_node_without_a_key_for_stripe_says_so(client: TestClient, keys: dict[str, str]) -> None:
    client.headers["X-API-Key"] = keys["billing"]
    assert client.post(WEBHOOK, content=b"{}").status_code == 404
    answer = client.post(PORTAL, json={"clinic": "st-mary"})
    assert (answer.status_code, answer.json()["detail"]) == (404, "this node does not bill by Stripe")
    assert client.get(BILLING).json() == []


def test_who_looks_after_money_gets_the_links(billed: TestClient, house: StripeHouse) -> None:
    with_key(billed, house.database, "billing", "st-mary")
    asked = billed.post(CHECKOUT, json={"tier": "enterprise"})
    assert asked.json()["url"].startswith("https://checkout.stripe.com/")
    (session,) = house.server.account.all("checkout.session")
    assert session["success_url"] == "http://127.0.0.1:8080/usage"
    assert billed.post(PORTAL, json={}).json()["url"].startswith("https://billing.stripe.com/")


@pytest.mark.parametrize("role", ["viewer", "operator", "auditor"])
def test_nobody_else_does(billed: TestClient, house: StripeHouse, role: str) -> None:
    with_key(billed, house.database, role)
    assert billed.post(CHECKOUT, json={"clinic": "st-mary"}).status_code == 403
    assert billed.post(PORTAL, json={"clinic": "st-mary"}).status_code == 403


def test_another_clinics_links_are_as_if_it_were_not_there(billed: TestClient, house: StripeHouse) -> None:
    with_key(billed, house.database, "billing", "mercy")
    for name in ("st-mary", "nowhere"):
        answer = billed.post(PORTAL, json={"clinic": name})
        assert (answer.status_code, answer.json()["detail"]) == (404, "no such clinic")
    assert house.server.journal == []


def test_what_cannot_be_done_says_why(billed: TestClient, house: StripeHouse) -> None:
    with_key(billed, house.database, "admin")
    assert "does not pay by Stripe" in billed.post(PORTAL, json={"clinic": "mercy"}).json()["detail"]
    house.subscribe()
    taken = billed.post(CHECKOUT, json={"clinic": "st-mary"})
    assert (taken.status_code, "has a subscription already" in taken.json()["detail"]) == (409, True)
    house.server.script.then(Misfortune.CUT_BEFORE, path="billing_portal")
    away = billed.post(PORTAL, json={"clinic": "st-mary"})
    assert (away.status_code, away.json()["detail"]) == (503, "Stripe does not answer")


def test_an_unknown_tier_is_refused_and_in_the_audit_trail(billed: TestClient, house: StripeHouse) -> None:
    with_key(billed, house.database, "admin")
    asked = billed.post(CHECKOUT, json={"clinic": "st-mary", "tier": "golden"})
    why = "there is no such tier (one of basic, professional, enterprise)"
    assert (asked.status_code, asked.json()["detail"]) == (422, why)
    (line,) = (line for line in read_audit(house.database, clinic="st-mary") if line.act == "checkout_refused")
    assert line.detail == "there is no such tier"
    assert house.server.journal == []


def test_how_it_stands_is_told_and_measured(billed: TestClient, house: StripeHouse) -> None:
    house.subscribe()
    house.charge("1.2.3")
    with_key(billed, house.database, "admin")
    (line,) = billed.get(BILLING).json()
    assert (line["clinic"], line["status"], line["tier"], line["waiting"]) == ("st-mary", "active", "professional", 1)
    metrics = billed.get("/metrics").text
    assert 'collimator_billing_waiting{clinic="st-mary"} 1.0' in metrics
    assert 'collimator_billing_overdue{clinic="st-mary"} 0.0' in metrics
    assert "collimator_stripe_events_waiting 0.0" in metrics
    with_key(billed, house.database, "billing", "mercy")
    assert billed.get(BILLING).json() == []


def test_the_links_are_made_by_the_command_line_as_well(
    house: StripeHouse, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cli.__main__ import main

    config = tmp_path / "collimator.toml"
    key = tmp_path / "key"
    key.write_text("sk_test_standin\n")
    config.write_text(
        f'[node]\ndata_dir = "{tmp_path / "var"}"\n'
        f'[billing]\nstripe_secret_key_file = "{key}"\nstripe_address = "{house.server.url}"\n'
        '[[clinics]]\nname = "st-mary"\ntier = "basic"\nbilling = {payer = "stripe"}\n'
    )
    at = ["--config", str(config)]
    assert main(["billing", *at, "checkout", "st-mary"]) == 0
    assert capsys.readouterr().out.startswith("https://checkout.stripe.com/")
    assert main(["billing", *at, "subscribe", "st-mary"]) == 0
    assert main(["billing", *at, "plan", "st-mary", "professional"]) == 0
    assert main(["billing", *at, "portal", "st-mary"]) == 0
    assert main(["billing", *at, "sync"]) == 0
    capsys.readouterr()
    assert main(["billing", *at, "plan", "st-mary", "golden"]) == 1
    assert "there is no such tier (one of basic, professional, enterprise)" in capsys.readouterr().err
    assert main(["subscriptions", *at, "--json", "audit"]) == 0
    (line,) = (line for line in json.loads(capsys.readouterr().out) if line["act"] == "plan_refused")
    assert (line["clinic"], line["detail"]) == ("st-mary", "there is no such tier")
    assert main(["billing", *at, "--json", "status"]) == 0
    (line,) = json.loads(capsys.readouterr().out)
    assert (line["clinic"], line["tier"], line["status"], line["waiting"]) == ("st-mary", "professional", "active", 0)
    key.write_text("pk_test_1")
    assert main(["billing", *at, "sync"]) == 2
    assert "does not begin with sk_ or rk_" in capsys.readouterr().err
    key.write_text("")
    assert main(["billing", *at, "sync"]) == 2
    assert "there is no key for Stripe" in capsys.readouterr().err
    assert main(["billing", *at, "status"]) == 0
