"""The verbs about money, as a person or a script calls them."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.plans import PLANS, Tier
from metering.subscriptions import begin
from storage.database import Database
from tests.cli.test_listing_verbs import Collimator
from tests.factories.databases import copied
from tests.portal_api.rows import ST_MARY_STUDY, enter_everything, in_the_month_before_last

CONFIGURATION = """\
[node]
data_dir = "{data_dir}"
[billing]
name = "Radiograph Services Inc."
[[clinics]]
name = "st-mary"
tier = "professional"
billing = {{ payer = "invoice", purchase_order = "PO-7" }}
[[clinics]]
name = "mercy"
tier = "basic"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "collimator.toml"
    path.write_text(CONFIGURATION.format(data_dir=tmp_path / "var"), encoding="utf-8")
    return path


@pytest.fixture
def database(sqlite_template: Path, tmp_path: Path) -> Iterator[Database]:
    """The node's database with rows; st-mary's subscription began two months ago."""
    with copied(sqlite_template, tmp_path / "var" / "collimator.db") as database:
        enter_everything(database)
        with database.write() as connection:
            began = in_the_month_before_last()
            begin(connection, clinic="st-mary", plan=PLANS[Tier.PROFESSIONAL], at=began, why="it was configured")
        yield database


@pytest.fixture
def collimator(config: Path, capsys: pytest.CaptureFixture[str]) -> Collimator:
    return Collimator(config, capsys)


def test_a_charge_is_taken_back_and_shows_in_every_form(collimator: Collimator, database: Database) -> None:
    status, out, err = collimator("ledger", "credit", ST_MARY_STUDY, "--why", "the wrong patient", "--amount", "0.26")
    assert (status, out, err) == (0, "credited: ledger row 2\n", "")
    _, credit = json.loads(collimator("ledger", "--json")[1])
    assert (credit["kind"], credit["corrects"], credit["why"]) == ("credit", 1, "the wrong patient")
    assert credit["who"].startswith("command line, ")
    assert credit["amount_usd_cents"] == 26
    rows = list(csv.DictReader(io.StringIO(collimator("ledger", "--csv")[1])))
    assert [row["kind"] for row in rows] == ["charge", "credit"]
    assert [line.split()[2] for line in collimator("ledger")[1].splitlines()[1:]] == ["charge", "credit"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["1.2.3.999", "--why", "x"], 1, "study '1.2.3.999' was never charged (`collimator ledger` lists them)"),
        ([ST_MARY_STUDY, "--why", " "], 1, "a credit needs a reason"),
        ([ST_MARY_STUDY], 2, "--why"),
        ([ST_MARY_STUDY, "--why", "x", "--amount", "1,50"], 2, "is no amount (write dollars, for example 1.50)"),
        ([ST_MARY_STUDY, "--why", "x", "--amount", "-1"], 2, "--amount"),
    ],
)
def test_a_credit_that_cannot_be_given_is_one_clear_line(
    collimator: Collimator, database: Database, arguments: list[str], status: int, said: str
) -> None:
    got, out, err = collimator("ledger", "credit", *arguments)
    assert (got, out) == (status, "")
    assert said in err


def test_periods_that_are_over_are_closed_once_and_their_files_exported_once(
    collimator: Collimator, database: Database, tmp_path: Path
) -> None:
    assert collimator("invoices", "close")[:2] == (0, "2 periods closed\n")
    assert collimator("invoices", "close")[:2] == (0, "0 periods closed\n")
    lines = json.loads(collimator("invoices", "--json")[1])
    assert [(line["number"], line["clinic"]) for line in lines] == [
        ("INV-000001", "st-mary"),
        ("INV-000002", "st-mary"),
    ]
    assert "INV-000002" in collimator("invoices")[1]
    assert json.loads(collimator("invoices", "--json", "--clinic", "mercy")[1]) == []
    folder = tmp_path / "out"
    assert collimator("invoices", "export", "--to", str(folder))[:2] == (0, f"4 files written to {folder}\n")
    assert collimator("invoices", "export", "--to", str(folder))[:2] == (0, f"0 files written to {folder}\n")
    assert sorted(path.name for path in folder.iterdir()) == [
        "INV-000001.csv",
        "INV-000001.pdf",
        "INV-000002.csv",
        "INV-000002.pdf",
    ]


def test_a_folder_that_cannot_be_written_to_is_said_to_be_so(
    collimator: Collimator, database: Database, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    status, _, err = collimator("invoices", "export", "--to", str(tmp_path / "file"))
    assert status == 2
    assert "name a folder that can be written to" in err


def test_a_subscription_is_paused_with_a_reason_that_stays(collimator: Collimator, database: Database) -> None:
    why = ("--why", "closed for works")
    assert collimator("subscriptions", "set", "st-mary", "paused", *why)[:2] == (0, "st-mary is paused\n")
    assert collimator("subscriptions", "set", "st-mary", "paused", *why)[:2] == (0, "st-mary is paused already\n")
    assert {one["clinic"]: one["state"] for one in json.loads(collimator("subscriptions", "--json")[1])} == {
        "mercy": "active",
        "st-mary": "paused",
    }
    line = json.loads(collimator("subscriptions", "--json", "audit")[1])[-1]
    assert (line["act"], line["clinic"], line["detail"]) == (
        "state_changed",
        "st-mary",
        "active to paused: closed for works",
    )
    assert "closed for works" in collimator("subscriptions", "audit")[1]


def test_a_clinic_that_nobody_knows_has_no_subscription(collimator: Collimator, database: Database) -> None:
    status, _, err = collimator("subscriptions", "set", "nowhere", "paused", "--why", "x")
    assert (status, err) == (1, "collimator: there is no clinic 'nowhere'\n")
    line = json.loads(collimator("subscriptions", "--json", "audit")[1])[-1]
    assert (line["act"], line["detail"]) == ("state_change_refused", "there is no clinic 'nowhere'")
