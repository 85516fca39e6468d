"""What `collimator doctor` says of billing by Stripe, with the real client at the stand-in; and that it only asks."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from cli.__main__ import main
from domain.errors import Refuse
from storage.database import Database, utc_now
from storage.tables import billing_accounts, billing_outbox, stripe_events
from tests.factories.databases import migrated
from tests.factories.ports import free_port
from tests.factories.stripe_house import StripeHouse
from tests.stripe_server.account import Account
from tests.stripe_server.misfortunes import Misfortune
from tests.stripe_server.server import SECRET_KEY, StripeServer

CONFIGURATION = """\
[node]
data_dir = "{folder}/var"
[receiver]
port = {port}
[portal]
port = {portal_port}
[billing]
stripe_address = "{address}"
{keys}
[[clinics]]
name = "st-mary"
tier = "professional"
billing = {{ payer = "{payer}" }}
[[clinics.callers]]
ae_title = "CT1"
"""
OF_STAND_IN = "ok    Stripe, key: of the account acct_standin, test mode: no money moves"


class Doctor:
    """Runs `collimator doctor` for a node that is not started; its exit status, and what it says of Stripe."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], server: StripeServer) -> None:
        self.folder, self._capsys, self.address = folder, capsys, server.url

    def __call__(
        self, *, key: str = SECRET_KEY, webhook: str = "whsec_standin", payer: str = "stripe"
    ) -> tuple[int, list[str]]:
        keys = self._file("secret_key", key) + self._file("webhook_secret", webhook)
        config = self.folder / "collimator.toml"
        ports = {"port": free_port(), "portal_port": free_port()}
        config.write_text(
            CONFIGURATION.format(folder=self.folder, keys=keys, address=self.address, payer=payer, **ports)
        )
        status = main(["doctor", "--config", str(config)])
        out = self._capsys.readouterr().out
        assert not key or key not in out
        lines = out.splitlines()
        return status, [
            said
            for number, line in enumerate(lines)
            if line[6:].startswith("Stripe")
            for said in lines[number : number + 2]
            if said is line or said.startswith("      ")
        ]

    def _file(self, name: str, content: str) -> str:
        if not content:
            return ""
        (self.folder / name).write_text(content)
        return f'stripe_{name}_file = "{self.folder / name}"\n'


@pytest.fixture
def server() -> Iterator[StripeServer]:
    with StripeServer() as server:
        yield server


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with migrated(f"sqlite:///{tmp_path / 'var' / 'collimator.db'}") as database:
        yield database


@pytest.fixture
def house(database: Database, server: StripeServer) -> StripeHouse:
    """St. Mary's has subscribed a moment ago."""
    house = StripeHouse(database, server)
    house.now = utc_now()
    server.account.move_to(house.now.timestamp())
    house.subscribe()
    return house


@pytest.fixture
def doctor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], server: StripeServer, monkeypatch: pytest.MonkeyPatch
) -> Doctor:
    for variable in ("STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET"):
        monkeypatch.delenv(variable, raising=False)
    return Doctor(tmp_path, capsys, server)


def told_by_stripe(house: StripeHouse, secret: str = "whsec_standin") -> None:
    event = house.server.account.emit("customer.subscription.updated", house.server.account.all("subscription")[0])
    body = json.dumps(event).encode()
    house.billing.receive(body, house.server.webhooks.signature(body, secret=secret))


def test_a_node_where_nobody_pays_by_stripe_is_told_nothing_of_it(doctor: Doctor) -> None:
    assert doctor(key="", webhook="", payer="none") == (0, [])


def test_a_clinic_that_pays_by_stripe_needs_a_key(doctor: Doctor) -> None:
    assert doctor(key="", webhook="") == (
        0,
        [
            "note  Stripe, key: there is none, and these clinics pay by Stripe: st-mary",
            "      set billing.stripe_secret_key_file, or STRIPE_API_KEY; the ledger goes on without it",
        ],
    )


def test_a_node_that_bills_is_well_and_nothing_was_changed_by_looking(doctor: Doctor, house: StripeHouse) -> None:
    told_by_stripe(house)
    house.charge("1.2.3")
    house.send()
    before = len(house.server.journal)
    kept = json.dumps(house.server.account.objects, sort_keys=True)
    status, said = doctor()
    assert (status, said) == (
        0,
        [
            OF_STAND_IN,
            "ok    Stripe, catalogue: has the meter, the models and the prices",
            "ok    Stripe, webhooks: the last one came 0 minutes ago; 1 wait",
            "ok    Stripe, outbox: Stripe knows of every charge",
        ],
    )
    asked = house.server.journal[before:]
    assert asked
    assert {line.split()[0] for line in asked} == {"GET"}
    assert json.dumps(house.server.account.objects, sort_keys=True) == kept


def test_a_key_that_stripe_does_not_take_is_a_failure(doctor: Doctor, house: StripeHouse) -> None:
    status, (key, advice, *_) = doctor(key="sk_test_revoked")
    assert (status, key) == (1, "FAIL  Stripe, key: not allowed: Invalid API Key provided")
    assert advice == (
        "      make another key, or give this one the rights it lacks: see docs/runbooks/billing.md"
    )  # fmt: skip


def test_what_is_no_key_is_a_failure(doctor: Doctor) -> None:
    status, (key, advice) = doctor(key="pk_test_1")
    assert (status, key) == (1, "FAIL  Stripe, key: Stripe's secret key does not begin with sk_ or rk_")
    assert advice == "      a publishable key cannot bill"


def test_a_key_of_another_account_or_mode_is_a_failure(doctor: Doctor, house: StripeHouse) -> None:
    """The clinic's customer was made at another account than this key's."""
    with StripeServer(Account(account_id="acct_another")) as other:
        doctor.address = other.url
        status, said = doctor()
    assert status == 1
    assert said[:3] == [
        "ok    Stripe, key: of the account acct_another, test mode: no money moves",
        "FAIL  Stripe, customers: this key finds no customer of st-mary",
        "      use the key of the account, and of the mode (test or live), in which they were made",
    ]


def test_a_customer_that_was_deleted_at_stripe_is_a_failure(doctor: Doctor, house: StripeHouse) -> None:
    house.client.v1.customers.delete(house.account().customer_id)
    status, said = doctor()
    assert (status, said[1]) == (1, "FAIL  Stripe, customers: this key finds no customer of st-mary")


def test_before_the_first_round_it_says_what_is_not_there_yet(doctor: Doctor, database: Database) -> None:
    status, said = doctor()
    assert status == 0
    assert said[1].startswith("note  Stripe, catalogue: lacks meter collimator_study, feature collimator_bone_fracture")
    assert said[1].count("price collimator_") == 6
    assert said[2] == "      `collimator billing sync` makes what lacks, and so does a worker that has the key"
    assert said[3] == "ok    Stripe, webhooks: none has come yet"


def test_stripe_that_does_not_answer_is_a_note_for_the_ledger_goes_on(doctor: Doctor, house: StripeHouse) -> None:
    house.server.script.is_away = True
    status, said = doctor()
    assert (status, said[0][:32]) == (0, "note  Stripe, key: no answer: Un")
    assert said[1] == (
        "      the ledger goes on, and Stripe is told later; look at the way there (api.stripe.com, 443)"
    )  # fmt: skip
    assert said[-1] == "ok    Stripe, outbox: Stripe knows of every charge"


@pytest.mark.parametrize("misfortune", [Misfortune.RATE_LIMITED, Misfortune.ERROR_BEFORE])
def test_haste_and_faults_of_stripes_are_notes(doctor: Doctor, house: StripeHouse, misfortune: Misfortune) -> None:
    house.server.script.then(misfortune, path="/v1/billing/meters")
    status, said = doctor()
    assert (status, said[0].startswith("note  Stripe, key: ")) == (0, True)


def test_a_restricted_key_that_may_not_tell_its_account_is_well(doctor: Doctor, house: StripeHouse) -> None:
    house.server.script.then(Misfortune.ERROR_BEFORE, path="GET /v1/account$")
    assert doctor()[1][0] == "ok    Stripe, key: of an account that it may not tell, test mode: no money moves"


def test_a_webhook_secret_that_is_missing_is_told_with_where_it_comes_from(doctor: Doctor, house: StripeHouse) -> None:
    status, said = doctor(webhook="")
    assert (status, said[2:4]) == (
        0,
        [
            "note  Stripe, webhooks: this node has no webhook secret, and learns once an hour what Stripe says",
            "      add an endpoint https://<portal>/api/v1/stripe/webhook at Stripe, "
            "and set billing.stripe_webhook_secret_file",
        ],
    )


def test_webhooks_that_never_came_or_came_no_more_are_told(doctor: Doctor, house: StripeHouse) -> None:
    assert doctor()[1][2] == "note  Stripe, webhooks: none has come yet"
    told_by_stripe(house)
    with house.database.write() as connection:
        connection.execute(sa.update(stripe_events).values(received_at=utc_now() - timedelta(days=40)))
    status, said = doctor()
    assert (status, said[2]) == (0, "note  Stripe, webhooks: the last one came 40 days ago")
    assert "does the endpoint at Stripe lead to https://<portal>/api/v1/stripe/webhook?" in said[3]


def test_a_webhook_that_was_refused_since_the_last_one_is_told_with_the_reason(
    doctor: Doctor, house: StripeHouse
) -> None:
    told_by_stripe(house)
    house.pass_by(minutes=1)
    with pytest.raises(Refuse):
        told_by_stripe(house, secret="whsec_another")
    with house.database.write() as connection:
        connection.execute(sa.update(stripe_events).values(received_at=utc_now() - timedelta(hours=5)))
    status, said = doctor()
    assert (status, said[2].partition(" one was refused ")[0]) == (
        0,
        "note  Stripe, webhooks: the last one came 5 hours ago; since then",
    )
    assert said[2].endswith("wrong_signature: the signature is not that of our webhook secret")
    assert "compare billing.stripe_webhook_secret_file with the endpoint's own" in said[3]


def test_charges_that_wait_are_told_and_after_seven_days_they_are_a_failure(doctor: Doctor, house: StripeHouse) -> None:
    told_by_stripe(house)
    house.charge("1.2.3", "1.2.4")
    age(house, days=3)
    status, said = doctor()
    assert (status, said[3]) == (0, "ok    Stripe, outbox: 2 charges wait, the oldest for 3 days")
    age(house, days=8)
    status, said = doctor()
    assert (status, said[3]) == (1, "FAIL  Stripe, outbox: 2 charges wait, the oldest for 8 days")
    assert said[4] == (
        "      2 wait for seven days or more: `collimator billing status`, and see docs/runbooks/billing.md"
    )  # fmt: skip


def age(house: StripeHouse, *, days: int) -> None:
    with house.database.write() as connection:
        connection.execute(sa.update(billing_outbox).values(enqueued_at=utc_now() - timedelta(days=days)))


def test_a_clinic_that_no_worker_asks_for_is_told(doctor: Doctor, house: StripeHouse) -> None:
    told_by_stripe(house)
    with house.database.write() as connection:
        connection.execute(sa.update(billing_accounts).values(seen_at=utc_now() - timedelta(hours=60)))
    status, said = doctor()
    assert (status, said[4:]) == (
        0,
        [
            "note  Stripe, st-mary: was asked for 2 days ago; 72 hours after the last answer new studies wait",
            "      is a worker running that has the key? `collimator billing sync` asks now",
        ],
    )


def test_without_the_nodes_tables_stripe_is_asked_all_the_same(doctor: Doctor) -> None:
    status, said = doctor()
    assert (status, said[0], said[3]) == (
        0,
        OF_STAND_IN,
        "note  Stripe, outbox: is not known: the database does not tell",
    )
