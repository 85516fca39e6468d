"""A configuration that is refused is said on stderr, ends with 2, and stands in the audit trail where there is one."""

from pathlib import Path
from threading import Thread

import pytest

from cli import refusals
from cli.__main__ import main
from config.settings import RefusedSettings
from storage.audit import read_audit
from storage.database import Database
from tests.factories.databases import migrated

MERCY = '[[clinics]]\nname = "mercy"\ntier = "basic"\n'
UNKNOWN_TIER = (
    '[[clinics]]\nname = "mercy"\ntier = "gold"\n',
    "clinics.0.tier: Input should be 'basic', 'professional' or 'enterprise'",
)
UNKNOWN_PLAN = (
    "[plans.gold]\nprice_usd_cents = 1\n",
    "plans: there is no tier gold; the tiers are basic, professional, enterprise",
)
NEGATIVE_PRICE = (
    "[plans.basic]\nprice_usd_cents = -2900\n",
    "plans.basic.price_usd_cents: Input should be greater than or equal to 0",
)
NEGATIVE_USAGE = (
    "[plans.basic]\nusage_tiers = [{ price_usd_cents = -5 }]\n",
    "plans.basic.usage_tiers.0.price_usd_cents: Input should be greater than or equal to 0",
)
OVERLAPPING_TIERS = (
    '[plans.basic]\nusage_tiers = [{ name = "light", up_to = 50, price_usd_cents = 30 }]\n',
    "plans: plans.basic: usage tier 'light' ends at 50, where 100 are spoken for already; sort them by up_to",
)
OVERLAPPING_PERIODS = (
    '[[clinics]]\nname = "mercy"\ntier = "basic"\nbilling = { period = "calendar", anchor = 15 }\n',
    'clinics.0.billing: anchor is 15, so period must be "anniversary"; a calendar month begins on day 1',
)
TWO_SUBSCRIPTIONS = (MERCY + MERCY, "clinics: name mercy appears more than once; each must be unique")
REFUSED = [
    UNKNOWN_TIER,
    UNKNOWN_PLAN,
    NEGATIVE_PRICE,
    NEGATIVE_USAGE,
    OVERLAPPING_TIERS,
    OVERLAPPING_PERIODS,
    TWO_SUBSCRIPTIONS,
]


def written(folder: Path, content: str, *, url: str = "") -> Path:
    config = folder / "collimator.toml"
    config.write_text(f'[node]\ndata_dir = "{folder}/var"\ndatabase_url = "{url}"\n{content}', encoding="utf-8")
    return config


def trail(database: Database) -> list[str]:
    return [f"{line.who}, {line.act}: {line.detail}" for line in read_audit(database)]


@pytest.mark.parametrize(("content", "reason"), REFUSED, ids=lambda one: "" if "\n" in one else one[:40])
def test_it_is_said_and_ends_with_2_and_is_in_the_audit_trail_once_however_often_it_is_started(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, reason: str
) -> None:
    config = written(tmp_path, content, url=database.url)
    for verb in ("worker", "portal", "receiver", "serve", "ledger", "worker"):
        assert main([verb, "--config", str(config)]) == 2
        said = capsys.readouterr().err
        assert (reason in said, said.count("\n")) == (True, 1)
    assert trail(database) == [f"configuration, configuration_refused: {reason}"]


def test_each_other_refusal_is_a_line_of_its_own(database: Database, tmp_path: Path) -> None:
    for content, _ in (*REFUSED, *REFUSED):
        main(["worker", "--config", str(written(tmp_path, content, url=database.url))])
    assert trail(database) == [f"configuration, configuration_refused: {reason}" for _, reason in REFUSED]


def test_roles_that_start_at_the_same_moment_enter_it_once(database: Database, tmp_path: Path) -> None:
    error = RefusedSettings("no", hint="", keys="clinics.0.tier: no", database_url=database.url)
    roles = [Thread(target=refusals.enter, args=(error,)) for _ in range(6)]
    for role in roles:
        role.start()
    for role in roles:
        role.join()
    assert len(trail(database)) == 1


def test_what_was_corrected_and_came_back_after_a_month_is_entered_again(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = written(tmp_path, UNKNOWN_TIER[0], url=database.url)
    main(["worker", "--config", str(config)])
    monkeypatch.setattr(refusals, "ONCE_IN", 0 * refusals.ONCE_IN)
    main(["worker", "--config", str(config)])
    assert len(trail(database)) == 2


def test_no_value_is_in_it_for_one_may_be_a_secret(database: Database, tmp_path: Path) -> None:
    """What stands in the wrong place may be a key for Stripe."""
    content = '[billing]\nstripe_account = "sk_live_CANARY"\nstripe_key = "CANARY"\nnet_days = "CANARY"\n'
    assert main(["worker", "--config", str(written(tmp_path, content, url=database.url))]) == 2
    (line,) = trail(database)
    assert "CANARY" not in line
    assert [said.partition(":")[0] for said in line.partition(": ")[2].split("; ")] == [
        "billing.net_days",
        "billing.stripe_account",
        "billing.stripe_key",
    ]


def test_a_line_has_an_end_however_much_is_wrong(database: Database, tmp_path: Path) -> None:
    content = f"[plans.basic]\npackages = {['NO NAME'] * 200}\n"
    assert main(["worker", "--config", str(written(tmp_path, content, url=database.url))]) == 2
    assert [len(line.detail) for line in read_audit(database)] == [1000]


def test_the_embedded_database_is_found_beside_the_spool(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with migrated(f"sqlite:///{tmp_path / 'var' / 'collimator.db'}") as database:
        assert main(["worker", "--config", str(written(tmp_path, UNKNOWN_TIER[0]))]) == 2
        assert trail(database) == [f"configuration, configuration_refused: {UNKNOWN_TIER[1]}"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "postgresql://nobody:CANARY@127.0.0.1:1/none",
        "mysql://nobody:CANARY@127.0.0.1/none",
        "no url",
    ],
)
def test_without_a_database_it_is_said_all_the_same_and_none_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    assert main(["worker", "--config", str(written(tmp_path, UNKNOWN_TIER[0], url=url))]) == 2
    out, said = capsys.readouterr()
    assert (UNKNOWN_TIER[1] in said, said.count("\n"), out, "CANARY" in said) == (True, 1, "", False)
    assert [path.name for path in tmp_path.iterdir()] == ["collimator.toml"]


def test_a_database_that_was_never_migrated_is_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    assert main(["worker", "--config", str(written(tmp_path, UNKNOWN_TIER[0], url=f"sqlite:///{path}"))]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("node", ["[node]\ndata_dir = 7\n", '[node]\ndatabase_url_file = "nowhere"\n', "node = 7\n"])
def test_where_not_even_node_can_be_meant_there_is_no_trail_to_be_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], node: str
) -> None:
    config = tmp_path / "collimator.toml"
    config.write_text(node + UNKNOWN_TIER[0], encoding="utf-8")
    assert main(["worker", "--config", str(config)]) == 2
    assert UNKNOWN_TIER[1] in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["collimator.toml"]
