"""What a destination's report says of one result."""

import pytest

from domain.commitment import Reference
from domain.confirmation import Failed, Report

HELD, LOST = (Reference(sop_class_uid="1.2", sop_instance_uid=uid) for uid in ("2.25.1", "2.25.2"))


@pytest.mark.parametrize(
    ("report", "is_committed", "failure"),
    [
        (Report(transaction_uid="2.25.9", committed=(HELD,)), True, None),
        (Report(transaction_uid="2.25.9", committed=(LOST,)), False, None),
        (
            Report(transaction_uid="2.25.9", failed=(Failed(reference=HELD, reason=0x0112),)),
            False,
            "0x0112 no such object instance",
        ),
        (
            Report(transaction_uid="2.25.9", committed=(HELD,), failed=(Failed(reference=HELD, reason=0x0110),)),
            False,
            "0x0110 processing failure",
        ),
        (
            Report(transaction_uid="2.25.9", failed=(Failed(reference=HELD, reason=0),)),
            False,
            "0x0000 no reason that the standard knows",
        ),
    ],
)
def test_a_result_is_committed_to_when_the_report_says_so_and_nothing_else(
    report: Report, is_committed: bool, failure: str | None
) -> None:
    assert (report.has_committed(HELD), report.failure("2.25.1")) == (is_committed, failure)
