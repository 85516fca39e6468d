"""A Transaction UID is remembered with what it stands for, whatever the clock and the disk do."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import storage.requests.transactions
from domain.commitment import CommitmentRequest, Reference
from domain.errors import Refuse
from storage.requests.transactions import Transactions

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def transactions(tmp_path: Path) -> Transactions:
    return Transactions(tmp_path)


def request(uid: str = "1.2.3.1", *, transaction_uid: str = "2.25.9", at: datetime = NOON) -> CommitmentRequest:
    return CommitmentRequest(
        clinic="st-mary",
        calling_ae_title="CT 1",
        peer_address="192.0.2.10",
        transaction_uid=transaction_uid,
        asked=(Reference(sop_class_uid="1.2.840.10008.5.1.4.1.1.1", sop_instance_uid=uid),),
        requested_at=at,
    )


def entered(transactions: Transactions, asked: CommitmentRequest) -> CommitmentRequest:
    with transactions.entered(asked) as one:
        return one


def files(transactions: Transactions) -> list[Path]:
    return sorted(transactions.root.glob("*.json"))


def test_a_transaction_uid_stands_for_one_request(transactions: Transactions) -> None:
    entered(transactions, request())
    with pytest.raises(Refuse) as refused:
        entered(transactions, request("1.2.3.2"))
    assert refused.value.reason == "transaction_in_use"
    assert entered(transactions, request("1.2.3.2", transaction_uid="2.25.10")).asked == request("1.2.3.2").asked


def test_a_clock_that_is_put_back_does_not_make_a_repetition_the_older_one(transactions: Transactions) -> None:
    entered(transactions, request(at=NOON))
    again = entered(transactions, request(at=NOON - timedelta(hours=1)))
    assert again.requested_at == NOON + timedelta(microseconds=1)
    assert entered(transactions, request(at=NOON - timedelta(hours=1))).requested_at > again.requested_at


def test_nothing_that_was_asked_for_can_be_read_from_what_is_remembered(transactions: Transactions) -> None:
    entered(transactions, request())
    (file,) = files(transactions)
    assert not any(word in f"{file.name} {file.read_text()}" for word in ("1.2.3.1", "2.25.9", "CT 1", "st-mary"))


def test_a_file_that_cannot_be_read_is_written_anew(transactions: Transactions) -> None:
    entered(transactions, request())
    files(transactions)[0].write_bytes(b"\xff{")
    entered(transactions, request())
    with pytest.raises(Refuse):
        entered(transactions, request("1.2.3.2"))


def test_a_transaction_is_forgotten_ninety_days_after_it_was_last_asked_for(transactions: Transactions) -> None:
    entered(transactions, request())
    entered(transactions, request(transaction_uid="2.25.10"))
    old = files(transactions)[0]
    long_ago = datetime.now(UTC) - timedelta(days=90, seconds=1)
    os.utime(old, (long_ago.timestamp(), long_ago.timestamp()))
    assert transactions.forget_old() == 1
    assert len(files(transactions)) == 1


def test_of_more_than_can_be_remembered_the_oldest_go(
    transactions: Transactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        before = files(transactions)
        entered(transactions, request(transaction_uid=f"2.25.{number}"))
        (file,) = set(files(transactions)).difference(before)
        os.utime(file, (NOON.timestamp() + number, NOON.timestamp() + number))
    monkeypatch.setattr(storage.requests.transactions, "MOST_REMEMBERED", 2)
    assert transactions.forget_old(NOON) == 1
    entered(transactions, request("1.2.3.2", transaction_uid="2.25.0"))
    with pytest.raises(Refuse):
        entered(transactions, request("1.2.3.2", transaction_uid="2.25.2"))
