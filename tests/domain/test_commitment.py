"""What the node answers for, when it tries again, and where it reports to."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from domain.clinics import Caller
from domain.commitment import (
    CommitmentRequest,
    CommitmentRules,
    Holding,
    Reference,
    failure_reason,
    who_is_told,
)

CR = "1.2.840.10008.5.1.4.1.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
ASKED = Reference(sop_class_uid=CR, sop_instance_uid="1.2.3.1")
FOR_EVER = CommitmentRules()
HELD = Holding(sop_class_uid=CR, is_in_spool=True, is_contested=False)


@pytest.mark.parametrize(
    ("holding", "rules", "reason"),
    [
        (HELD, FOR_EVER, None),
        (None, FOR_EVER, 0x0112),
        (Holding(sop_class_uid=CR, is_in_spool=False, is_contested=False), FOR_EVER, 0x0112),
        (Holding(sop_class_uid=CT, is_in_spool=True, is_contested=False), FOR_EVER, 0x0119),
        (Holding(sop_class_uid=CR, is_in_spool=True, is_contested=True), FOR_EVER, 0x0110),
        (Holding(sop_class_uid=CR, is_in_spool=True, is_contested=False, is_damaged=True), FOR_EVER, 0x0110),
        (HELD, CommitmentRules(pixel_retention_days=30.0, minimum_retention_days=30.0), None),
        (HELD, CommitmentRules(pixel_retention_days=29.9, minimum_retention_days=30.0), 0x0110),
        (None, CommitmentRules(pixel_retention_days=1.0, minimum_retention_days=30.0), 0x0110),
        (HELD, CommitmentRules(pixel_retention_days=0.0, minimum_retention_days=30.0), None),
        (replace(HELD, delivered_days=10.0), CommitmentRules(pixel_retention_days=40.0), None),
        (replace(HELD, delivered_days=10.1), CommitmentRules(pixel_retention_days=40.0), 0x0110),
        (replace(HELD, delivered_days=9999.0), FOR_EVER, None),
        (
            replace(HELD, delivered_days=50.0, is_in_spool=False),
            CommitmentRules(pixel_retention_days=40.0),
            0x0112,
        ),
    ],
)
def test_an_instance_is_committed_to_or_refused_with_its_reason(
    holding: Holding | None, rules: CommitmentRules, reason: int | None
) -> None:
    assert failure_reason(ASKED, holding, rules) == reason


def test_a_request_is_the_same_in_whatever_order_it_names_its_instances() -> None:
    other = Reference(sop_class_uid=CR, sop_instance_uid="1.2.3.2")
    request = CommitmentRequest(
        clinic="st-mary",
        calling_ae_title="CT1",
        peer_address="192.0.2.7",
        transaction_uid="2.25.9",
        asked=(ASKED, other),
        requested_at=datetime(2026, 11, 21, tzinfo=UTC),
    )
    assert replace(request, asked=(other, ASKED)).asked_sha256 == request.asked_sha256
    assert replace(request, asked=(ASKED,)).asked_sha256 != request.asked_sha256
    assert replace(request, asked=(replace(ASKED, sop_class_uid=CT), other)).asked_sha256 != request.asked_sha256


@pytest.mark.parametrize(
    ("attempts", "delay_s"), [(1, 10.0), (2, 20.0), (3, 40.0), (7, 600.0), (8, 600.0), (100_000, 600.0)]
)
def test_the_wait_doubles_up_to_ten_minutes(attempts: int, delay_s: float) -> None:
    assert FOR_EVER.delay_s(attempts) == delay_s


CALLERS = (
    Caller(ae_title="CT1", host="192.0.2.7", commitment_port=4007),
    Caller(ae_title="CT1", host="198.51.100.0/24", commitment_port=4100),
    Caller(ae_title="CT1", host="ct1.example.org", commitment_port=4200),
    Caller(ae_title="CR1", host="192.0.2.8"),
    Caller(ae_title="DX1", commitment_port=4300),
    Caller(ae_title="MR1", host="2001:db8::/32", commitment_port=4400),
)


@pytest.mark.parametrize(
    ("ae_title", "address", "port"),
    [
        ("CT1", "192.0.2.7", 4007),
        ("CT1", "198.51.100.9", 4100),
        ("CT1", "203.0.113.5", 4200),
        ("CR1", "192.0.2.8", 0),
        ("DX1", "203.0.113.5", 4300),
        ("MR1", "2001:db8::7", 4400),
        ("MR1", "192.0.2.7", 0),
        ("US1", "192.0.2.7", 0),
    ],
)
def test_the_report_goes_to_the_port_of_the_caller_that_asked(ae_title: str, address: str, port: int) -> None:
    caller = who_is_told(CALLERS, ae_title, address)
    assert (caller.commitment_port if caller else 0) == port
