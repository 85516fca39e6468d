"""What a job remembers as JSON comes back as what it was."""

import json
from dataclasses import replace

import pytest

from domain.findings import Analysis
from domain.routing import Decision, GateClause, decide
from domain.study import InstanceFacts
from storage.plain import from_plain, to_plain
from tests.domain.test_routing import SHIPPED, image, study
from tests.portal_api.rows import ANALYSIS

ROUTED = decide(study(image(body_part_examined="CHEST", study_description="Tórax 胸部"), image()), SHIPPED)
GATES = (GateClause(name="view", expected="AP or PA, or absent", seen="LL", passed=False),)
DECISION = replace(ROUTED, images=(replace(ROUTED.images[0], gates=GATES), *ROUTED.images[1:]))


@pytest.mark.parametrize(
    ("kind", "value"),
    [(Decision, DECISION), (Analysis, ANALYSIS), (InstanceFacts, image(patient_age_years=None))],
    ids=["decision", "analysis", "facts"],
)
def test_a_value_comes_back_from_json_as_it_was(kind: type[object], value: object) -> None:
    assert from_plain(kind, json.loads(json.dumps(to_plain(value)))) == value


def test_a_decision_of_an_earlier_version_can_still_be_read() -> None:
    """A job in flight remembers one: gates were no part of it."""
    plain = to_plain(ROUTED)
    for one in plain["images"]:
        del one["gates"]
        for signal in one["signals"]:
            signal["is_coded"] = True
    assert from_plain(Decision, plain) == ROUTED


def test_an_analysis_of_an_earlier_version_can_still_be_read() -> None:
    plain = to_plain(ANALYSIS)
    del plain["left_out"]
    assert from_plain(Analysis, plain) == ANALYSIS


def test_a_type_that_is_not_a_class_can_be_named() -> None:
    plain = to_plain((ANALYSIS, ANALYSIS), tuple[Analysis, ...])
    assert from_plain(tuple[Analysis, ...], plain) == (ANALYSIS, ANALYSIS)
